"""TokenSearch: the exact threshold of tokens that are never in one place, found from counts that add up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from rollmath import _core
from rollmath._arrays import Array, ArrayLike, Immutable, choice, describe, is_tensor
from rollmath._checks import flag, whole
from rollmath.ragged import Ragged
from rollmath.select import _token_device as device
from rollmath.select._token_inputs import TokenBatch, Wanted, wanted

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Width of a digit of keys, and how many counts a round has.
DIGIT, BINS = 11, 2048
_WORD = (1 << 64) - 1

Ties: TypeAlias = Literal["all", "exact"]
Dtype: TypeAlias = Literal["float32", "float64"]


class TokenSearch(Immutable):
    r"""The k-th highest score of tokens in parts: ``t = x_(k)``, ``k = floor(share n)``, exactly, by counting digits.

    Micro-batches and ranks count, their counts are added, and the search goes on with the sum::

        search = TokenSearch(share=0.2)
        while not search.done:
            counts = sum(search.count(scores, mask=mask) for scores, mask in micro_batches)
            torch.distributed.all_reduce(counts)                   # ranks
            search = search.narrow(counts)
        mask = search.mask(scores, mask=mask)                      # of each micro-batch

    Every split gives the mask that :func:`top_tokens` gives for all tokens at once. All rounds come before the first
    mask, so the scores of the whole step must be there, and the same in every round: with accumulated gradients, keep
    the entropies of the pass that recomputes the log-probabilities of the step.

    A round finds 11 bits of the threshold, so float32 takes 3 rounds and float64 6; ``ties="exact"`` takes 6 more, over
    the bits of a hash of the tokens at the threshold. :func:`rollmath.distributed.token_search` runs the rounds. A
    search is immutable: ``narrow`` returns another one.

    With CUDA tensors counts, thresholds and masks stay on the device, and nothing waits for it. Ids (``uid``) and the
    offsets of a Ragged come from the host.

    Args:
        share: of the trained tokens, in [0, 1]; or
        count: how many tokens, at least 1; all if there are fewer.
        least: with ``share``, how many at least.
        largest: False takes the lowest scores.
        ties: ``"all"`` keeps every token at the threshold; ``"exact"`` exactly k, those of the lowest hash of row id,
            position and seed.
        seed: of the hash, a whole number of at least 0.
        dtype: of the scores, ``"float32"`` (float16 and bfloat16 too) or ``"float64"``.

    Attributes:
        rounds: how many there are.
        round: how many are done.
        done: whether that is all of them.

    Raises:
        ValueError: an option out of range; a call at the wrong time.
        TypeError: an option of the wrong type.

    >>> parts = [np.array([0.1, 2.0, 0.2], np.float32), np.array([0.3, 1.5], np.float32)]
    >>> search = TokenSearch(share=0.4)
    >>> while not search.done:
    ...     search = search.narrow(sum(search.count(part) for part in parts))
    >>> search, [search.mask(part).tolist() for part in parts]
    (TokenSearch(2 of 5 tokens, threshold 1.5), [[False, True, False], [False, True]])
    """

    rounds: int
    round: int
    _want: Wanted
    _largest: bool
    _ties: str
    _seed: int
    _bits: int
    #: The digits found: of the key of the threshold, then of the hash; None before they begin.
    _key: Any
    _hash: Any
    #: Of those that begin with these digits so many are wanted; k; all tokens; those at the threshold.
    _left: Any
    _k: Any
    _total: Any
    _equal: Any

    def __init__(
        self,
        *,
        share: float | None = None,
        count: int | None = None,
        least: int = 0,
        largest: bool = True,
        ties: Ties = "all",
        seed: int = 0,
        dtype: Dtype = "float32",
    ) -> None:
        self._start("TokenSearch", wanted("TokenSearch", share, count, least), largest, ties, seed, dtype)

    def _start(self, who: str, want: Wanted, largest: bool, ties: Ties, seed: int, dtype: Dtype) -> None:
        choice(who, "ties", ties, ("all", "exact"))
        choice(who, "dtype", dtype, ("float32", "float64"))
        bits = 32 if dtype == "float32" else 64
        self._fill(
            rounds=_rounds(bits) + (_rounds(64) if ties == "exact" else 0),
            round=0,
            _want=want,
            _largest=flag(who, "largest", largest),
            _ties=ties,
            _seed=whole(who, "seed", seed, least=0),
            _bits=bits,
            _key=0,
            _hash=0,
            _left=None,
            _k=None,
            _total=None,
            _equal=None,
        )

    @classmethod
    def _of(cls, who: str, want: Wanted, largest: bool, ties: Ties, seed: int, dtype: Dtype) -> TokenSearch:
        """For a function that has checked how many."""
        made = cls.__new__(cls)
        made._start(who, want, largest, ties, seed, dtype)
        return made

    @property
    def done(self) -> bool:
        """Whether the threshold is found."""
        return self.round == self.rounds

    @property
    def _of_hash(self) -> bool:
        return self.round >= _rounds(self._bits)

    def _place(self) -> tuple[int, int]:
        """Bits below the digit of this round, and its width."""
        bits, number = (64, self.round - _rounds(self._bits)) if self._of_hash else (self._bits, self.round)
        width = min(DIGIT, bits - DIGIT * number)
        return bits - DIGIT * number - width, width

    def count(
        self,
        scores: ArrayLike | Ragged,
        *,
        mask: ArrayLike | Ragged | None = None,
        lengths: ArrayLike | None = None,
        uid: Any = None,
    ) -> Array:
        """How many tokens have which digit in this round: int64 ``[2048]``, of the kind of the scores, to be added.

        Args:
            scores: one a token: a :class:`~rollmath.Ragged`, padded ``[B, T]`` or flat ``[tokens]``.
            mask: trained tokens, of the same form. What is not trained counts in nothing.
            lengths: used columns of padded rows, ints ``[B]``.
            uid: for ``ties="exact"`` one id a row, or a :class:`~rollmath.Rows`; of flat scores one a token.

        Raises:
            ValueError: a score that is NaN (on a device it counts as not trained); no round left; no ``uid``.
            TypeError: scores of another dtype; wrong types.
        """
        batch = self._batch("count", scores, mask, lengths, uid)
        if self.done:
            msg = f"TokenSearch.count(): all {self.rounds} rounds are done; call mask()"
            raise ValueError(msg)
        return self._counts(batch)

    def narrow(self, counts: ArrayLike) -> TokenSearch:
        """The search after this round.

        Args:
            counts: the sum of what :meth:`count` gave for all parts, NumPy or torch.

        Raises:
            ValueError: no round left; another length; counts of other tokens than those of the rounds before (NumPy;
                tensors are not looked at).
            TypeError: no integers.
        """
        who = "TokenSearch.narrow"
        if self.done:
            msg = f"{who}(): all {self.rounds} rounds are done; call mask()"
            raise ValueError(msg)
        given = counts if is_tensor(counts) or isinstance(counts, np.ndarray) else np.asarray(counts)
        if len(given.shape) != 1 or str(given.dtype).removeprefix("torch.") != "int64":
            msg = f"{who}(): 'counts' must be 1-D int64, the sum of what count() gave, got {describe(counts)}"
            raise TypeError(msg)
        if len(given) != BINS:
            msg = f"{who}(): 'counts' must have length {BINS}, got {len(given)}"
            raise ValueError(msg)
        _, width = self._place()
        found, total, k = self._digit(who, given[: 1 << width])
        digit, left, equal = found
        last = self.round + 1 == _rounds(self._bits)
        name = "_hash" if self._of_hash else "_key"
        made = TokenSearch.__new__(TokenSearch)
        fields = self.__dict__ | {"round": self.round + 1, "_left": left, "_k": k, "_total": total}
        fields[name] = self.__dict__[name] << width | digit
        if last:
            fields["_equal"] = equal
        made._fill(**fields)
        return made

    def mask(
        self,
        scores: ArrayLike | Ragged,
        *,
        mask: ArrayLike | Ragged | None = None,
        lengths: ArrayLike | None = None,
        uid: Any = None,
    ) -> Array | Ragged:
        """Bools in the form and kind of the scores: True where a token is chosen. Arguments as in :meth:`count`.

        Raises:
            ValueError: the search is not done; what :meth:`count` raises but for NaN, which is not chosen.
            TypeError: the same.
        """
        batch = self._batch("mask", scores, mask, lengths, uid)
        self._must_be_done("mask()")
        return batch.result(self._mask(batch))

    @property
    def threshold(self) -> Array:
        """The k-th highest score, 0-d; infinity (or minus infinity, of the lowest) if nothing is chosen.

        Raises:
            ValueError: the search is not done.
        """
        self._must_be_done("threshold")
        if is_tensor(self._k):
            return device.number_of(self._key, self._k, self._bits, largest=self._largest)
        bits = self._bits
        top, dtype = 1 << (bits - 1), np.dtype(f"f{bits // 8}")
        x = np.array(self._key ^ (top if self._key & top else 2 * top - 1), f"u{bits // 8}").view(dtype)
        x = x if self._k else np.array(np.inf, dtype)
        return np.asarray((x if self._largest else -x) + 0.0, dtype)

    @property
    def kept(self) -> Array:
        """How many tokens are chosen of all parts, 0-d int64.

        Raises:
            ValueError: the search is not done.
        """
        self._must_be_done("kept")
        if self._ties == "exact":
            return self._k if is_tensor(self._k) else np.asarray(self._k)
        more = self._k - self._left + self._equal
        return more if is_tensor(more) else np.asarray(more)

    @property
    def total(self) -> Array:
        """How many tokens all parts have, 0-d int64.

        Raises:
            ValueError: no round is done.
        """
        if not self.round:
            msg = "TokenSearch.total: no round is done; call narrow()"
            raise ValueError(msg)
        return self._total if is_tensor(self._total) else np.asarray(self._total)

    def _must_be_done(self, what: str) -> None:
        if not self.done:
            msg = f"TokenSearch.{what}: {self.round} of {self.rounds} rounds are done; call narrow() until all are"
            raise ValueError(msg)

    def _batch(self, what: str, scores: Any, mask: Any, lengths: Any, uid: Any) -> TokenBatch:
        who = f"TokenSearch.{what}"
        if self._ties == "exact" and uid is None:
            msg = f"{who}(): 'uid' must name the rows with ties='exact', since the choice must not depend on the split"
            raise ValueError(msg)
        batch = TokenBatch.of(who, "scores", scores, mask=mask, lengths=lengths, uid=uid)
        self._check(batch)
        return batch

    def _check(self, batch: TokenBatch) -> None:
        got = str(batch.scores.dtype).removeprefix("torch.")
        if got != f"float{self._bits}":
            msg = (
                f"{batch.who}(): {batch.name!r} must be of the dtype of the search, float{self._bits}, got {got}; "
                f"give {batch.who.partition('.')[0]} dtype={got!r}, or cast"
            )
            raise TypeError(msg)

    def _counts(self, batch: TokenBatch) -> Array:
        shift, width = self._place()
        if batch.on_device:
            key, seen = device.keys(batch, largest=self._largest), batch.trained
            prefix = device.at(self._key, batch)
            if self._of_hash:
                seen, key = seen & (key == prefix), device.hashes(batch, self._seed)
                prefix = device.at(self._hash, batch)
            return device.counts(key, seen, prefix, shift, width, BINS)
        value, word = int(self._key) & _WORD, int(self._hash) & _WORD
        tied = (value, batch.words(self._seed)) if self._of_hash else None
        number = self.round - (_rounds(self._bits) if self._of_hash else 0)
        first = word if self._of_hash else value
        return batch.host.kind.wrap(_core.token_counts(batch.who, batch.name, self._given(batch), number, first, tied))

    def _given(self, batch: TokenBatch) -> Any:
        rows = batch.host
        return rows.layout, rows.mask, batch.scores, not self._largest

    def _digit(self, who: str, counts: Any) -> tuple[tuple[Any, Any, Any], Any, Any]:
        """The digit of the threshold, how many of it are wanted and there; all tokens and k."""
        first = self.round == 0
        if is_tensor(counts):
            total = counts.sum() if first else self._total
            k = device.wanted_of(self._want, total) if first else self._k
            left = k if first else self._left
            if counts.device.type == "cpu":
                self._check_counts(who, counts.numpy(), int(left))
            return device.digit(counts, left), total, k
        total = int(counts.sum()) if first else int(self._total)
        k = _chosen(self._want, total) if first else int(self._k)
        left = k if first else int(self._left)
        self._check_counts(who, counts, left)
        below = np.cumsum(counts[::-1])
        i = int(np.searchsorted(below, left))
        at = len(counts) - 1 - i
        return (at, left - (int(below[i - 1]) if i else 0), int(counts[at])), total, k

    def _check_counts(self, who: str, counts: NDArray[np.int64], left: int) -> None:
        there = int(counts.sum())
        if left > there or (counts < 0).any():
            msg = (
                f"{who}(): 'counts' must be of the same tokens in every round, but {left} of {there} are wanted in "
                f"round {self.round}"
            )
            raise ValueError(msg)

    def _mask(self, batch: TokenBatch) -> Any:
        exact = self._ties == "exact"
        if batch.on_device:
            bits, key = self._bits, device.keys(batch, largest=self._largest)
            last, word = device.at(self._key, batch), device.at(self._hash, batch)
            chosen = device.ordered(key, bits) >= device.ordered(last, bits)
            if exact:
                hashes = device.ordered(device.hashes(batch, self._seed), 64)
                chosen = chosen & ((key != last) | (hashes >= device.ordered(word, 64)))
            return batch.trained & chosen
        out = np.empty(len(batch.scores), np.uint8)
        tied = (int(self._hash) & _WORD, batch.words(self._seed)) if exact else None
        _core.token_mark(batch.who, batch.name, self._given(batch), int(self._key) & _WORD, tied, out)
        return out

    def __repr__(self) -> str:
        want = ", ".join(
            f"{n}={x}" for n, x in zip(("share", "count", "least"), self._want, strict=True) if x is not None
        )
        if not self.done or is_tensor(self._k):
            return f"TokenSearch({want}, round {self.round} of {self.rounds})"
        return f"TokenSearch({self.kept} of {self.total} tokens, threshold {self.threshold})"


def _rounds(bits: int) -> int:
    return -(-bits // DIGIT)


def _chosen(want: Wanted, n: int) -> int:
    """How many of ``n`` are wanted; a product that is whole but for the rounding of the share is whole."""
    share, count, least = want
    if share is None:
        return min(count or 0, n)
    product = share * n
    near = round(product)
    return min(max(near if abs(product - near) <= n * 2.0**-51 else int(product), least), n)

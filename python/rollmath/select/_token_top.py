"""The tokens of the highest scores."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from rollmath import _core
from rollmath._arrays import Array, ArrayLike, choice, is_tensor
from rollmath._checks import flag, whole
from rollmath.ragged import Ragged
from rollmath.select import _token_device as device
from rollmath.select._token_inputs import TokenBatch, Wanted, wanted
from rollmath.select._token_search import Dtype, Ties, TokenSearch

Scope: TypeAlias = Literal["all", "row"]


class TokenSelection(NamedTuple):
    """Which tokens were chosen.

    Attributes:
        mask: True for those chosen, bools in the form and kind of the scores; False at gaps and padding.
        threshold: the score of the last one chosen, of the float type of the scores: 0-d, or one a row with
            ``scope="row"``. Infinite where nothing was chosen.
        kept: how many were chosen, int64; 0-d or one a row.
        total: of how many, int64; 0-d or one a row.
    """

    mask: Array | Ragged
    threshold: Array
    kept: Array
    total: Array

    def __repr__(self) -> str:
        if is_tensor(self.kept) and self.kept.device.type != "cpu":
            return f"TokenSelection(on {self.kept.device})"
        if len(self.kept.shape):
            counts = f"{int(self.kept.sum())} of {int(self.total.sum())} tokens in {len(self.kept)} rows"
            return f"TokenSelection({counts})"
        return f"TokenSelection({int(self.kept)} of {int(self.total)} tokens, threshold {float(self.threshold):g})"


def top_tokens(
    scores: ArrayLike | Ragged,
    *,
    share: float | None = None,
    count: int | None = None,
    least: int = 0,
    largest: bool = True,
    mask: ArrayLike | Ragged | None = None,
    lengths: ArrayLike | None = None,
    scope: Scope = "all",
    ties: Ties = "all",
    uid: Any = None,
    seed: int = 0,
) -> TokenSelection:
    """Tokens whose score is not below the k-th highest: ``x_t >= x_(k)``, ``k = max(floor(share n), least)``.

    ``n`` is the number of trained tokens. The threshold is exact, a score that occurs, and not interpolated.

    The mask in a loss::

        entropy = Ragged(stats.entropy.detach(), rows.offsets)             # of vocab.row_stats, packed like the rows
        chosen = high_entropy_tokens(entropy, mask=rows.mask)
        loss = policy_loss(..., rows, ..., weight=chosen.mask)             # the others count in the mean, with 0
        loss = policy_loss(..., rows.keep(chosen.mask), ...)               # the others are not there

    The second takes a normalizer of the rows that are kept, drops KL terms and entropy bonus of the others too, and
    copies the mask of a GPU to the host, where rows are. Of padded scores the mask goes with padded log-probabilities.
    Means and spreads of advantages are taken before, of all rollouts: a selection of tokens changes no statistic of a
    group.

    Args:
        scores: one a token: a :class:`~rollmath.Ragged`, padded ``[B, T]``, or flat ``[tokens]``; NumPy, torch on any
            device, or a list.
        share: of the trained tokens, in [0, 1]. A product with n that is whole but for rounding (n 2^-51) is whole.
        count: instead of a share: how many, at least 1; all if there are fewer.
        least: with ``share``, how many at least.
        largest: False takes the lowest scores, ``x_t <= x_(k)`` from below.
        mask: trained tokens (bool or int, nonzero = True), of the form of the scores. The others may hold anything,
            count in nothing and get False.
        lengths: used columns of padded rows, ints ``[B]``.
        scope: ``"all"``, k of all tokens of the call; ``"row"``, k of each row, with its own n.
        ties: ``"all"`` keeps every token at the threshold, so that more than k may be kept; ``"exact"`` keeps k, of
            those at the threshold the ones of the lowest hash of row id, position and seed.
        uid: for ``ties="exact"``: one id a row, all different (ints, strings, tuples, UUIDs), or a
            :class:`~rollmath.Rows`, whose ids are rollout and segment; of flat scores one id a token. Without ids the
            number of the row is its id, and the choice among equal scores depends on the order of the rows.
        seed: of that hash, a whole number of at least 0.

    Returns:
        A :class:`TokenSelection`. Any split of the same tokens that is searched by :class:`TokenSearch` gives the same
        mask.

    Edge cases:
        k = 0: nothing is chosen, and the threshold is infinity. -0.0 equals 0.0. Infinite scores are ordered as
        numbers. Positions count from the start of a row, gaps included (of a Ragged that was taken through a mask:
        columns of the padded array). Two tokens with the same 64 bits of hash, which has a probability of about
        n 2^-64, are not told apart.

        Scores on a GPU stay there, and nothing waits for the device; there a NaN is not an error, but counts as not
        trained. ``scope="row"`` sorts there.

    Raises:
        ValueError: NaN at a trained token; an option out of range; shapes that do not fit; a tensor that requires grad.
        TypeError: wrong dtype, rank or form.

    Source: an order statistic; the methods that are built on it name theirs.

    >>> chosen = top_tokens([[0.1, 2.0, 0.2], [0.3, 1.5, 9.0]], share=0.4, lengths=[3, 2])
    >>> chosen, chosen.mask.tolist()
    (TokenSelection(2 of 5 tokens, threshold 1.5), [[False, True, False], [False, True, False]])
    >>> top_tokens([1.0, 1.0, 1.0], count=2, ties="exact").mask.tolist()
    [True, True, False]
    """
    who = "top_tokens"
    want = wanted(who, share, count, least)
    batch = TokenBatch.of(who, "scores", scores, mask=mask, lengths=lengths, uid=uid)
    return chosen(batch, want, largest=largest, scope=scope, ties=ties, seed=seed)


def chosen(
    batch: TokenBatch,
    want: Wanted,
    *,
    largest: bool = True,
    scope: Scope = "all",
    ties: Ties = "all",
    seed: int = 0,
    weights: Any = None,
    weights_name: str = "advantages",
) -> TokenSelection:
    """The tokens of the highest scores; with ``weights``, one a token or one a row, of ``|weights| scores``."""
    who = batch.who
    choice(who, "scope", scope, ("all", "row"))
    choice(who, "ties", ties, ("all", "exact"))
    flag(who, "largest", largest)
    seed = whole(who, "seed", seed, least=0)
    if scope == "row" and batch.flat is not None:
        msg = f"{who}(): 'scope' must be 'all' where {batch.name!r} is flat, which has no rows; give rows as a Ragged"
        raise ValueError(msg)
    if batch.on_device:
        return _on_device(batch, want, largest, scope, ties, seed, weights, weights_name)
    if weights is None:
        x, a = batch.scores, None
    else:
        x, a, per_row = batch.weights(weights, weights_name)
    rows = batch.host
    out = np.empty(len(x), np.uint8)
    words = batch.words(seed) if ties == "exact" else None
    threshold, kept, total = _core.token_top(
        who,
        batch.name,
        rows.layout,
        x,
        not largest,
        None if a is None else (a, per_row),
        rows.mask,
        want,
        scope == "row",
        words,
        out,
    )
    limits = ((threshold if largest else -threshold) + 0.0).astype(x.dtype)
    numbers = [batch.number(one if scope == "row" else one[0]) for one in (limits, kept, total)]
    return TokenSelection(batch.result(out), *numbers)


def _on_device(
    batch: TokenBatch,
    want: Wanted,
    largest: bool,
    scope: Scope,
    ties: Ties,
    seed: int,
    weights: Any,
    weights_name: str,
) -> TokenSelection:
    if weights is not None:
        x, a, per_row = batch.weights(weights, weights_name)
        batch = batch.with_scores((a[batch.row_of] if per_row else a).abs() * x)
    if scope == "row":
        mask, *numbers = device.top_of_rows(batch, want, largest=largest, seed=seed if ties == "exact" else None)
        return TokenSelection(batch.result(mask), *numbers)
    dtype: Dtype = "float64" if batch.scores.element_size() == 8 else "float32"
    search = TokenSearch._of(batch.who, want, largest, ties, seed, dtype)
    for _ in range(search.rounds):
        search = search.narrow(search._counts(batch))
    return TokenSelection(batch.result(search._mask(batch)), search.threshold, search.kept, search.total)

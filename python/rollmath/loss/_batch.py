"""Objectives that depend on statistics of the whole step: a pass that chooses tokens, then the loss.

A trainer sees a step in micro-batches and ranks. What is chosen "in the batch" would change with them, if each chose
for itself. So :meth:`BatchObjective.prepare` keeps the few columns that the choice needs of each part, and
:meth:`BatchObjective.with_parts` makes it once, from all of them, in an order that the parts do not decide.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self, cast

import numpy as np
import torch

from rollmath._arrays import ArrayLike, Immutable
from rollmath._logprobs import LogProbs
from rollmath.loss._check import require
from rollmath.loss._objectives import Objective
from rollmath.loss._places import Piece, check_shape
from rollmath.loss._tokens import Tokens
from rollmath.loss._values import Values, take
from rollmath.rows import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Rollout id and segment: what names a row, whatever batch it is in.
Key = tuple[Any, int]


class TokenSet(Immutable):
    """Some trained tokens of a step, by rollout id, segment and position, whatever micro-batch they come in."""

    def __init__(self, rows: dict[Key, tuple[int, NDArray[np.int64]]]) -> None:
        """``rows``: of every row of the step, its number of trained tokens and the positions chosen, sorted."""
        self._fill(_rows=rows)

    _rows: dict[Key, tuple[int, NDArray[np.int64]]]

    def among(self, who: str, rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The row and the position in it of each of the tokens that are in these rows.

        Raises:
            ValueError: rows of another step.
        """
        found: list[tuple[int, NDArray[np.int64]]] = []
        trained, segment, index = (x.tolist() for x in (rows.trained, rows.segment, rows.rollouts.index))
        ids = rows.rollouts.ids
        for row, n in enumerate(trained):
            if n == 0:
                continue
            count, chosen = self._rows.get((ids[index[row]], segment[row]), (0, None))
            if count != n or chosen is None:
                what = f"{n} trained tokens here and {count} there" if count else "not among them"
                msg = (
                    f"{who}(): 'objective' was prepared with other tokens: rollout {ids[index[row]]!r}, segment "
                    f"{segment[row]} is {what if not count else 'with ' + what}; prepare it anew for every step"
                )
                raise ValueError(msg)
            if len(chosen):
                found.append((row, chosen))
        if not found:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        row_of = np.repeat([row for row, _ in found], [len(chosen) for _, chosen in found])
        return row_of, np.concatenate([chosen for _, chosen in found])

    def __len__(self) -> int:
        return sum(len(chosen) for _, chosen in self._rows.values())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TokenSet):
            return NotImplemented
        mine, others = self._rows, other._rows
        return mine.keys() == others.keys() and all(
            n == others[key][0] and np.array_equal(chosen, others[key][1]) for key, (n, chosen) in mine.items()
        )

    def __hash__(self) -> int:
        return hash((frozenset(self._rows), len(self)))

    def __repr__(self) -> str:
        return f"TokenSet({len(self)} of {sum(n for n, _ in self._rows.values())} tokens)"


@dataclass(frozen=True, eq=False, repr=False)
class StepPart:
    """What an objective needs of the trained tokens of some rows; to be pickled and gathered.

    Attributes:
        objective: the objective that made it.
        keys: rollout id and segment of each row that has a trained token.
        trained: trained tokens of each of these rows.
        position: position of each trained token in its row.
        columns: what the objective asked for, one number a trained token.
    """

    objective: Objective
    keys: tuple[Key, ...]
    trained: NDArray[np.int64]
    position: NDArray[np.int32]
    columns: dict[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.position)

    def __repr__(self) -> str:
        return f"StepPart({len(self)} tokens of {len(self.keys)} rows)"


class Given(NamedTuple):
    """Trained tokens as they came, float32, or float64 if theta is."""

    theta: NDArray[Any]
    prox: NDArray[Any]
    advantages: NDArray[Any]


class Step:
    """All parts of a step together. Columns are float64, or bools as they came."""

    def __init__(self, who: str, parts: list[StepPart], names: Iterable[str]) -> None:
        self.keys = [key for part in parts for key in part.keys]
        if len(set(self.keys)) < len(self.keys):
            (((rollout, segment), _),) = Counter(self.keys).most_common(1)
            msg = (
                f"{who}(): 'parts' must hold each row of the step once, but rollout {rollout!r}, segment {segment} "
                "comes twice; rows of one rollout need distinct segments"
            )
            raise ValueError(msg)
        self.trained = np.concatenate([np.zeros(0, np.int64), *(part.trained for part in parts)])
        self.position = np.concatenate([np.zeros(0, np.int64), *(part.position for part in parts)])
        self.row = np.repeat(np.arange(len(self.keys)), self.trained)
        joined = {name: np.concatenate([np.zeros(0, bool), *(part.columns[name] for part in parts)]) for name in names}
        self.columns: dict[str, NDArray[Any]] = {
            name: x if x.dtype == bool else x.astype(np.float64) for name, x in joined.items()
        }

    def __len__(self) -> int:
        return len(self.position)

    def uid(self, index: NDArray[np.int64], seed: int = 0) -> NDArray[np.uint64]:
        """A random number of each of some tokens that depends on its row, its position and the seed alone."""
        rows, at = np.unique(self.row[index], return_inverse=True)
        digests = [hashlib.blake2b(repr((*self.keys[i], seed)).encode(), digest_size=8).digest() for i in rows.tolist()]
        of_row = np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)[at]
        # The steps of splitmix64; they wrap.
        z = of_row + (self.position[index].astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(z ^ (z >> np.uint64(31)), np.uint64)

    def drawn(self, index: NDArray[np.int64], k: int, seed: int = 0) -> NDArray[np.int64]:
        """``k`` of some tokens at random, or all if there are no more."""
        return index[np.argsort(self.uid(index, seed), kind="stable")[:k]]

    def largest(self, x: NDArray[np.float64], k: int) -> NDArray[np.int64]:
        """The ``k`` tokens with the largest numbers; which of those that tie at the threshold is random, by uid."""
        if k <= 0 or k >= len(x):
            return np.arange(len(x) if k > 0 else 0)
        threshold = np.partition(x, len(x) - k)[len(x) - k]
        over = np.flatnonzero(x > threshold)
        return np.concatenate([over, self.drawn(np.flatnonzero(x == threshold), k - len(over))])

    def chosen(self, index: NDArray[np.int64]) -> TokenSet:
        """These tokens as a set."""
        index = index[np.lexsort((self.position[index], self.row[index]))]
        cuts = np.searchsorted(self.row[index], np.arange(len(self.keys) + 1))
        position, trained = self.position[index].astype(np.int64), self.trained.tolist()
        return TokenSet({key: (trained[i], position[cuts[i] : cuts[i + 1]]) for i, key in enumerate(self.keys)})


class BatchObjective(Objective):
    """Base of the objectives that choose tokens in the whole step before they have a loss: frozen dataclasses.

    Attributes:
        selection: the chosen tokens; None until :meth:`with_parts`.
    """

    coupling: ClassVar[Literal["separable", "sequence", "batch"]] = "batch"
    selection: TokenSet | None

    def prepare(
        self,
        logprobs: LogProbs,
        advantages: ArrayLike,
        rows: Rows,
        *,
        level: Literal["rollout", "row", "turn", "token"] | None = None,
    ) -> StepPart:
        """First pass: what the choice needs of one micro-batch or rank, on the host; to be pickled and gathered.

        Args:
            logprobs: as for :func:`policy_loss`; numbers on another device are copied to the host once.
            advantages: as for :func:`policy_loss`.
            rows: the rows. Rollout id and segment must name a row in the whole step.
            level: as for :func:`policy_loss`.

        Raises:
            ValueError: shapes that do not fit the rows; log-probabilities or advantages of trained tokens that are not
                finite.
            TypeError: arguments of the wrong type.
        """
        who = f"{type(self).__name__}.prepare"
        require(who, "logprobs", logprobs, LogProbs, "LogProbs(theta=..., prox=...)")
        require(who, "rows", rows, Rows, "Rows")
        check_shape(who, "logprobs", rows, logprobs.shape)
        values = Values(who, "advantages", advantages, rows, level)
        everything = Piece(rows, range(rows.n_rows))
        where = everything.at(logprobs.shape)

        def column(x: torch.Tensor) -> torch.Tensor:
            narrow = torch.float64 if logprobs.theta.dtype == torch.float64 else torch.float32
            found = take(x.detach().reshape(-1), where).to(narrow).cpu()
            if not bool(found.isfinite().all()):
                bad = float(found[~found.isfinite()][0])
                msg = f"{who}(): 'logprobs' must be finite where tokens are trained, got {bad}"
                raise ValueError(msg)
            return found

        theta = column(logprobs.theta)
        prox = theta if logprobs.prox is None else column(logprobs.prox)
        trained = rows.trained[rows.trained > 0]
        packed = everything.at((int(rows.offsets[-1]),))
        flat = np.arange(packed.start, packed.stop) if isinstance(packed, slice) else packed
        position = flat - np.repeat(rows.offsets[:-1], rows.trained)
        ids, index, segment = rows.rollouts.ids, rows.rollouts.index.tolist(), rows.segment.tolist()
        keys = tuple((ids[index[i]], segment[i]) for i in np.flatnonzero(rows.trained).tolist())
        columns = self._columns(Given(theta.numpy(), prox.numpy(), values.at(everything, theta).numpy()))
        return StepPart(self._selecting(None), keys, trained, position.astype(np.int32), columns)

    def with_parts(self, parts: Iterable[StepPart]) -> Self:
        """Second pass: this objective with the tokens chosen, once for the whole step.

        Args:
            parts: what :meth:`prepare` made of all micro-batches and ranks, in any order.

        Returns:
            A new objective, the same bits for any split into parts and any order of them.

        Raises:
            ValueError: a part of an objective with other options; a row that comes twice.
            TypeError: a part that is no StepPart.
        """
        who = f"{type(self).__name__}.with_parts"
        require(who, "parts", parts, Iterable, "an iterable of what prepare() returns")
        given, bare = list(parts), self._selecting(None)
        for number, part in enumerate(given):
            require(who, f"parts[{number}]", part, StepPart, "what prepare() returns")
            if part.objective != bare:
                msg = f"{who}(): 'parts[{number}]' must be prepared by {bare}, got one by {part.objective}"
                raise ValueError(msg)
        nothing = np.zeros(0, np.float32)
        step = Step(who, given, self._columns(Given(nothing, nothing, nothing)))
        return self._selecting(step.chosen(self._choose(step)))

    def chosen(self, who: str) -> TokenSet:
        """The selection.

        Raises:
            ValueError: there is none yet.
        """
        if self.selection is None:
            raise ValueError(unprepared(who, self))
        return self.selection

    def selected(self, tokens: Tokens) -> torch.Tensor:
        """The mark of each token.

        Raises:
            ValueError: tokens that were never marked.
        """
        if tokens.selected is None:
            raise ValueError(unprepared(type(self).__name__, self))
        return tokens.selected

    def _selecting(self, selection: TokenSet | None) -> Self:
        return cast("Self", replace(cast("Any", self), selection=selection))

    def _columns(self, given: Given) -> dict[str, NDArray[Any]]:
        """The columns that :meth:`_choose` reads, of some tokens."""
        raise NotImplementedError

    def _choose(self, step: Step) -> NDArray[np.int64]:
        """The tokens of the step that are chosen."""
        raise NotImplementedError


def unprepared(who: str, objective: Objective) -> str:
    """The message for an objective that has not seen the whole step."""
    name = type(objective).__name__
    return (
        f"{who}(): 'objective' must know the whole step; pass objective.with_parts(parts), where parts has "
        f"objective.prepare(logprobs, advantages, rows) of every micro-batch and rank; got {name} without"
    )


def covariance(step: Step) -> NDArray[np.float64]:
    """``(A - mean A) (theta - mean theta)`` of each token of the step."""
    return _centred(step.columns["advantages"]) * _centred(step.columns["theta"])


def _centred(x: NDArray[np.float64]) -> NDArray[np.float64]:
    # Summed in sorted order, so that the order of the tokens changes no bit.
    ordered = np.sort(x)
    if len(x) == 0 or ordered[0] == ordered[-1]:
        return np.zeros(len(x))
    return np.asarray(x - ordered.sum() / len(x))

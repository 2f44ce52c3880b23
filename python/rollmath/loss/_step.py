"""A whole optimiser step before its loss: what its parts bring together, and the tokens chosen among them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rollmath._arrays import Immutable
from rollmath.loss._objectives import Objective
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
        position = np.concatenate([chosen for _, chosen in found])
        inside = position < rows.lengths[row_of]
        if rows.mask is not None:
            inside[inside] = rows.mask[(rows.offsets[row_of] + position)[inside]] != 0
        if not inside.all():
            at = int(np.flatnonzero(~inside)[0])
            msg = (
                f"{who}(): 'objective' was prepared with another mask: it chose position {position[at]} of rollout "
                f"{ids[index[row_of[at]]]!r}, segment {segment[row_of[at]]}, which is not trained here"
            )
            raise ValueError(msg)
        return row_of, position

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
        keys = [repr((*_plain(self.keys[i]), seed)) for i in rows.tolist()]
        digests = [hashlib.blake2b(key.encode(), digest_size=8).digest() for key in keys]
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


def _plain(x: Any) -> Any:
    """A key without NumPy's scalars, whose repr is not that of the Python number that they equal."""
    if isinstance(x, tuple):
        return tuple(_plain(part) for part in x)
    return x.item() if isinstance(x, np.generic) else x


def covariance(step: Step) -> NDArray[np.float64]:
    """``(A - mean A) (theta - mean theta)`` of each token of the step."""
    return _centred(step.columns["advantages"]) * _centred(step.columns["theta"])


def _centred(x: NDArray[np.float64]) -> NDArray[np.float64]:
    # Summed in sorted order, so that the order of the tokens changes no bit.
    ordered = np.sort(x)
    if len(x) == 0 or ordered[0] == ordered[-1]:
        return np.zeros(len(x))
    return np.asarray(x - ordered.sum() / len(x))

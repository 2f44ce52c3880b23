"""The arguments of :func:`rollmath.audit`, checked and brought to one number a rollout."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath._arrays import ArrayLike, describe, floats, host, host_only, integers, mask_bytes, to_bytes
from rollmath.groups import Groups, GroupStats, as_groups
from rollmath.ops import segment_max, segment_min, segment_weighted_mean
from rollmath.ragged import Ragged
from rollmath.rows import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

WHO = "audit"


@dataclass(frozen=True)
class Batch:
    """One number a rollout, all of the same length.

    Attributes:
        tokens: trained tokens, if known.
        advantages: float64; of token-level advantages that vary in a rollout, the mean over its trained tokens.
        nonzero: the advantage of some trained token is not exactly 0.
        varies: token-level advantages differ within the rollout.
        given: the advantages were given, not computed.
        said: rollouts that an advantage was given for; token-level ones say nothing of a rollout without tokens.
    """

    groups: Groups
    rewards: NDArray[np.float64]
    valid: NDArray[np.bool_]
    filtered: NDArray[np.bool_]
    truncated: NDArray[np.bool_] | None
    tokens: NDArray[np.int64] | None
    advantages: NDArray[np.float64]
    nonzero: NDArray[np.bool_]
    varies: NDArray[np.bool_]
    given: bool
    said: NDArray[np.bool_]

    @cached_property
    def member(self) -> NDArray[np.bool_]:
        """Rollouts that enter the statistics of their group."""
        member: NDArray[np.bool_] = self.valid & np.isfinite(self.rewards)
        return member

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Valid rollouts of each group."""
        return np.bincount(self.groups.index[self.valid], minlength=self.groups.n_groups).astype(np.int64)

    @cached_property
    def stats(self) -> GroupStats:
        """Of the members of each group."""
        return self.groups.stats(self.rewards, valid=self.member)

    @cached_property
    def spread(self) -> NDArray[np.bool_]:
        """Groups whose members do not all have the same reward."""
        spread: NDArray[np.bool_] = (self.stats.n > 1) & (self.stats.min != self.stats.max)
        return spread

    @cached_property
    def trains(self) -> NDArray[np.bool_]:
        """Rollouts that reach the loss."""
        used: NDArray[np.bool_] = self.valid & ~self.filtered
        return used if self.tokens is None else used & (self.tokens > 0)


def flags(name: str, x: ArrayLike | None, n: int, default: bool) -> NDArray[np.bool_]:
    """An optional bool a rollout."""
    marks = mask_bytes(WHO, name, x, length=n)
    return np.full(n, default) if marks is None else marks.astype(bool)


def batch(
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    advantages: ArrayLike | Ragged | None,
    *,
    valid: ArrayLike | None,
    filtered: ArrayLike | None,
    truncated: ArrayLike | None,
    lengths: ArrayLike | None,
    mask: ArrayLike | None,
    rows: Rows | None,
) -> Batch:
    """Checks everything; ``advantages=None`` gives zeros, to be filled in by the caller."""
    made = as_groups(WHO, groups)
    n = len(made)
    _hints(rewards, advantages)
    values = floats(WHO, "rewards", rewards, length=n)[0].astype(np.float64)
    tokens, marks = _tokens(n, lengths, mask, rows)
    varies, said = np.zeros(n, dtype=bool), np.ones(n, dtype=bool)
    if isinstance(advantages, Ragged):
        credit, nonzero, varies, counts = _by_rollout(advantages, n, marks, rows)
        tokens = counts if tokens is None else tokens
        said = counts > 0
    else:
        credit = np.zeros(n)
        if advantages is not None:
            credit = floats(WHO, "advantages", advantages, length=n)[0].astype(np.float64)
        nonzero = credit != 0
    return Batch(
        groups=made,
        rewards=values,
        valid=flags("valid", valid, n, True),
        filtered=flags("filtered", filtered, n, False),
        truncated=None if truncated is None else flags("truncated", truncated, n, False),
        tokens=tokens,
        advantages=credit,
        nonzero=nonzero,
        varies=varies,
        given=advantages is not None,
        said=said,
    )


def _hints(rewards: ArrayLike, advantages: ArrayLike | Ragged | None) -> None:
    """Two mistakes that have a remedy."""
    if isinstance(rewards, (list, tuple)) and any(x is None for x in rewards):
        msg = f"{WHO}(): 'rewards' must be numbers, got None; a missing reward is NaN (math.nan)"
        raise TypeError(msg)
    lists = isinstance(advantages, (list, tuple)) and any(isinstance(x, (list, tuple)) for x in advantages)
    if lists or getattr(advantages, "ndim", 1) == 2:
        how = "from_lists(advantages)" if lists else "from_padded(advantages, mask=mask)"
        msg = (
            f"{WHO}(): 'advantages' must be 1-D, one number a rollout, got {describe(advantages)}; "
            f"for one a token, pass Ragged.{how}"
        )
        raise TypeError(msg)


def _tokens(
    n: int, lengths: ArrayLike | None, mask: ArrayLike | None, rows: Rows | None
) -> tuple[NDArray[np.int64] | None, Ragged | NDArray[np.uint8] | None]:
    """Trained tokens of each rollout, and the mask as a Ragged or a padded array."""
    named = [name for name, x in (("lengths", lengths), ("mask", mask), ("rows", rows)) if x is not None]
    if len(named) > 1:
        msg = f"{WHO}(): give one of 'lengths', 'mask' and 'rows', got {' and '.join(map(repr, named))}"
        raise ValueError(msg)
    if lengths is not None:
        counts, _ = integers(WHO, "lengths", lengths, length=n, why="len(groups)")
        if len(counts) and counts.min() < 0:
            msg = f"{WHO}(): 'lengths' must not be negative, got {counts.min()}"
            raise ValueError(msg)
        return counts, None
    if rows is not None:
        if not isinstance(rows, Rows):
            msg = f"{WHO}(): 'rows' must be a Rows, got {describe(rows)}"
            raise TypeError(msg)
        _same_number("rows", "rollouts", rows.n_rollouts, n)
        counts = np.zeros(n, dtype=np.int64)
        np.add.at(counts, rows.rollouts.index, rows.trained)  # of integers: exact in any order
        marks = None if rows.mask is None else Ragged(rows.mask, rows.offsets)
        return counts, marks
    if mask is None:
        return None, None
    return _masked(n, mask)


def _masked(n: int, mask: ArrayLike) -> tuple[NDArray[np.int64], Ragged | NDArray[np.uint8]]:
    if isinstance(mask, (list, tuple)) and mask and isinstance(mask[0], (list, tuple)):
        mask = Ragged.from_lists(mask)
    if isinstance(mask, Ragged):
        _same_number("mask", "rows", len(mask), n)
        host_only(WHO, "mask", mask.values)
        marks = to_bytes(WHO, "mask", host(WHO, "mask", mask.values)[0])
        ragged = Ragged(marks, mask.offsets)
        return _reduce(np.add, (marks != 0).astype(np.int64), ragged.offsets, 0), ragged
    host_only(WHO, "mask", mask)
    array, _ = host(WHO, "mask", mask)
    if array.ndim != 2:
        msg = f"{WHO}(): 'mask' must be a Ragged, a list of lists or a padded [N, T] array, got {describe(array)}"
        raise TypeError(msg)
    _same_number("mask", "rows", len(array), n)
    padded = to_bytes(WHO, "mask", array)
    return np.count_nonzero(padded, axis=1).astype(np.int64), padded


def _by_rollout(
    advantages: Ragged, n: int, marks: Ragged | NDArray[np.uint8] | None, rows: Rows | None
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], NDArray[np.int64]]:
    """Advantage, nonzero, varies and trained tokens of each rollout."""
    host_only(WHO, "advantages", advantages.values)
    values = floats(WHO, "advantages", advantages.values)[0].astype(np.float64)
    offsets = advantages.offsets
    if rows is None:
        _same_number("advantages", "rows", len(advantages), n)
    else:
        _same_number("advantages", "rows", len(advantages), rows.n_rows, "rows.n_rows")
    if rows is not None and not np.array_equal(offsets, rows.offsets):
        msg = f"{WHO}(): 'advantages' must have the offsets of 'rows'"
        raise ValueError(msg)
    if marks is not None:
        trained = _aligned(marks, advantages)
        values = values[trained != 0]
        offsets = np.concatenate([[0], np.cumsum(trained != 0)])[offsets]
    counts = np.diff(offsets)
    low = _reduce(np.minimum, values, offsets, np.nan)
    high = _reduce(np.maximum, values, offsets, np.nan)
    with np.errstate(invalid="ignore"):
        mean = _reduce(np.add, values, offsets, 0.0) / np.maximum(counts, 1)
    if rows is not None:
        owner, some = rows.rollouts, counts > 0
        mean = segment_weighted_mean(mean, owner, counts, valid=some)
        low, high = (segment_min(low, owner, valid=some), segment_max(high, owner, valid=some))
        total = np.zeros(n, dtype=np.int64)
        np.add.at(total, owner.index, counts)
        counts = total
    low, high, mean = (np.where(counts > 0, x, 0.0) for x in (low, high, mean))
    varies = (low != high) & ~(np.isnan(low) & np.isnan(high))
    return np.where(varies, mean, low), (low != 0) | (high != 0), varies, counts


def _aligned(marks: Ragged | NDArray[np.uint8], advantages: Ragged) -> NDArray[np.uint8]:
    """The mask packed over the tokens of the advantages."""
    if isinstance(marks, Ragged):
        if not np.array_equal(marks.offsets, advantages.offsets):
            msg = f"{WHO}(): 'mask' must have the offsets of 'advantages'"
            raise ValueError(msg)
        packed: NDArray[np.uint8] = marks.values
        return packed
    width, lengths = marks.shape[1], advantages.lengths
    inside = np.arange(width) < lengths[:, None]
    if (len(lengths) and lengths.max() > width) or (marks[~inside] != 0).any():
        msg = f"{WHO}(): 'mask' must mark tokens of 'advantages': row i is its columns 0 .. lengths[i] - 1"
        raise ValueError(msg)
    return marks[inside]


def _reduce(ufunc: np.ufunc, values: NDArray[Any], offsets: NDArray[np.int64], empty: float) -> NDArray[Any]:
    """One number a row; ``empty`` for a row without values."""
    out = np.full(len(offsets) - 1, empty, dtype=values.dtype)
    filled = np.diff(offsets) > 0
    if filled.any():
        out[filled] = ufunc.reduceat(values, offsets[:-1][filled])
    return out


def _same_number(name: str, noun: str, got: int, expected: int, why: str = "len(groups)") -> None:
    if got != expected:
        msg = f"{WHO}(): {name!r} must have {expected} {noun} (= {why}), got {got}"
        raise ValueError(msg)

"""Win rates: rewards from pairwise comparisons of the rollouts of a prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from rollmath._arrays import Array, ArrayLike, choice, integers
from rollmath._checks import finite, flag, mask, rows
from rollmath.groups import Groups, as_groups
from rollmath.ops import segment_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray


def win_rate(
    first: ArrayLike,
    second: ArrayLike,
    probabilities: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    symmetric: bool = True,
    missing: Literal["nan", "half", "raise"] = "nan",
    valid: ArrayLike | None = None,
) -> Array:
    """Reward of each rollout: ``r_i = mean_j P(i beats j)`` over the other rollouts of its prompt it was compared with.

    Comparisons come as pairs of row numbers, in any order and number; pairs that were never compared are left out of
    the mean. Several comparisons of one pair are averaged first, so that each opponent counts once.

    Args:
        first: row number of one rollout of each comparison, int ``[C]``, from 0 to ``N - 1``.
        second: row number of the other. Comparisons of a rollout with itself are skipped.
        probabilities: that ``first`` wins: 1, 0, 1/2 for a tie, or a judge's probability, ``[C]``.
        groups: a :class:`~rollmath.Groups` or one prompt id a rollout, ``[N]``.
        symmetric: ``second`` wins with ``1 - p``. False: a comparison says nothing about ``second``, for full
            tables of a judge that prefers one position.
        missing: a rollout without comparisons (the only one of its prompt, say) gets ``"nan"``, which a method takes
            for a missing reward with ``nan="omit"``; ``"half"`` 1/2; ``"raise"`` is an error.
        valid: rollouts that take part (bool or int, nonzero = True), ``[N]``; comparisons with others are skipped, of
            which only the row numbers are checked, and those get 0.

    Returns:
        ``[N]``, from 0 to 1, in the kind and float type of ``probabilities``.

    Raises:
        ValueError: wrong lengths, row numbers out of range, probabilities outside [0, 1], a comparison across prompts.
        TypeError: wrong dtype or rank.

    Source: Swamy et al. 2024 (self-play preference optimisation, "SPO"), arXiv 2401.04056; secondary description. Not
    the SPO of segments, of single streams, nor "simple" policy optimisation.

    >>> win_rate([0, 0, 1], [1, 2, 2], [1.0, 1.0, 0.5], ["p", "p", "p"]).tolist()
    [1.0, 0.25, 0.25]
    """
    who = "win_rate"
    both = flag(who, "symmetric", symmetric)
    choice(who, "missing", missing, ("nan", "half", "raise"))
    made = as_groups(who, groups)
    p, back = rows(who, "probabilities", probabilities)
    i, j = (_row_numbers(who, name, x, len(p), len(made)) for name, x in (("first", first), ("second", second)))
    seen = mask(who, "valid", valid, len(made))
    keep = (i != j) & seen[i] & seen[j]
    finite(who, "probabilities", p, keep, must="in [0, 1]")
    if len(across := np.flatnonzero(keep & (made.index[i] != made.index[j]))):
        c = across[0]
        msg = f"{who}(): 'first' and 'second' must be of one prompt, but comparison {c} is of rows {i[c]} and {j[c]}"
        raise ValueError(msg)
    i, j, p = i[keep], j[keep], p[keep]
    if both:
        i, j, p = np.concatenate([i, j]), np.concatenate([j, i]), np.concatenate([p, 1.0 - p])
    out = np.full(len(made), np.nan)
    pairs = Groups.product(i, j)
    players = Groups(i[pairs.first])
    out[i[pairs.first][players.first]] = segment_mean(segment_mean(p, pairs), players)
    lone = seen & np.isnan(out)
    if missing == "raise" and lone.any():
        msg = f"{who}(): every rollout needs a comparison, but row {np.flatnonzero(lone)[0]} has none; choose missing="
        raise ValueError(msg)
    out[lone] = 0.5 if missing == "half" else np.nan
    return back(np.where(seen, out, 0.0))


def _row_numbers(who: str, name: str, x: ArrayLike, length: int, n: int) -> NDArray[np.int64]:
    read, _ = integers(who, name, x, length=length, why="len(probabilities)")
    if len(bad := np.flatnonzero((read < 0) | (read >= n))):
        msg = (
            f"{who}(): {name!r} must be between 0 and {n - 1} (= len(groups) - 1), got {read[bad[0]]} at index {bad[0]}"
        )
        raise ValueError(msg)
    return read

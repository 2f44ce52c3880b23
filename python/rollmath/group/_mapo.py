"""MAPO: a mixture of two scales, by how certain the group is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Unpack

import numpy as np

from rollmath._arrays import Array, ArrayLike, choice, mask_bytes
from rollmath.conventions import DEFAULT, Convention, Framework, Override, resolve
from rollmath.group._inputs import Rewards, read
from rollmath.groups import Groups
from rollmath.ops import segment_max, segment_mean, segment_min

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CERTAINTIES = ("4p(1-p)", "2min(p,1-p)")


def mapo(
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    success: ArrayLike | None = None,
    certainty: Literal["4p(1-p)", "2min(p,1-p)"] = "4p(1-p)",
    valid: ArrayLike | None = None,
    convention: Convention | Framework = DEFAULT,
    **override: Unpack[Override],
) -> Array:
    """Mixed advantages: ``A_i = l (r_i - mean) / (std + eps) + (1 - l) (r_i - mean) / (mean + eps)``.

    ``l = 4 p (1 - p)``, where ``p`` is the success rate of the group. A group that is half right (l = 1) gets its
    standard score, one that is nearly certain the deviation in percent of its mean.

    Args:
        rewards: one number a rollout, ``[N]``; the mean of a group with spread must be positive.
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        success: which rollouts succeeded, ``[N]`` (bool or int, nonzero = True). Default: those of reward 1 exactly, as
            the authors have it; rewards with a format bonus need this argument.
        certainty: ``"4p(1-p)"``, or ``"2min(p,1-p)"``, a variant of the authors' repository.
        valid: rollouts that take part (bool or int, nonzero = True); the others enter no statistic and get 0.
        convention: ddof, eps of both terms, and what degenerate groups get.
        **override: fields of the convention.

    Returns:
        ``[N]``, in the kind and float type of ``rewards``; sums to 0 over a group, exactly 0 where all its rewards are
        equal.

    Raises:
        ValueError: a group with spread whose mean is not positive; wrong lengths; NaN or infinite rewards (unless
            ``nan=`` says otherwise); an unknown ``certainty``.
        TypeError: wrong dtype or rank.

    Source: Huang et al. 2025, Mixed Advantage Policy Optimization, arXiv 2509.18849 (secondary description); the
    authors' code was read, and cannot run as it was published.

    >>> mapo([1, 1, 1, 0, 1, 0, 0, 0], [0, 0, 0, 0, 1, 1, 1, 1]).round(4).tolist()
    [0.4583, 0.4583, 0.4583, -1.375, 1.875, -0.625, -0.625, -0.625]
    """
    choice("mapo", "certainty", certainty, _CERTAINTIES)
    rules = resolve("mapo", "mapo", convention, override)
    r = read("mapo", rewards, groups, valid, rules)
    solved = mask_bytes("mapo", "success", success, length=len(r.groups))
    _check_means(r)
    won = (r.x == 1 if solved is None else solved != 0).astype(np.float64)
    p: NDArray[np.float64] = segment_mean(won, r.groups, valid=r.seen)[r.groups.index]
    share = 4 * p * (1 - p) if certainty == "4p(1-p)" else 2 * np.minimum(p, 1 - p)
    score = r.normalize(center="mean", scale="std")
    percent = r.normalize(center="mean", scale="mean")
    # A group that is left out has no p.
    return r.wrap(np.where(r.mask, share * score + (1 - share) * percent, 0.0))


def _check_means(r: Rewards) -> None:
    mean, low, high = (f(r.x, r.groups, valid=r.seen) for f in (segment_mean, segment_min, segment_max))
    bad = np.flatnonzero((mean <= 0) & np.isfinite(mean) & (low < high))
    if len(bad):
        row = r.groups.first[bad[0]]
        msg = (
            f"mapo(): 'rewards' must have a positive mean in every group with spread, got {mean[bad[0]]} in the group "
            f"of row {row}; shift them"
        )
        raise ValueError(msg)

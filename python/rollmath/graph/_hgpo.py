"""HGPO: a step against those taken in the same state, the more so the more of the past agrees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Unpack

import numpy as np

from rollmath._arrays import Array, ArrayLike, choice
from rollmath._checks import real, whole
from rollmath.conventions import HGPO, Convention, Framework, Override, resolve
from rollmath.graph._common import per_trajectory, returns_of, reward_of_steps
from rollmath.graph._terms import Scale, against, check_choices
from rollmath.ops import segment_count
from rollmath.steps import Steps, as_steps

if TYPE_CHECKING:
    from numpy.typing import NDArray


def hgpo(
    steps: Steps,
    rewards: ArrayLike | None,
    *,
    step_rewards: ArrayLike | None = None,
    history: int = 2,
    alpha: float = 1.0,
    offset: float = 1.0,
    gamma: float = 0.95,
    scale: Scale = "std",
    zeros: Literal["exclude", "count"] = "exclude",
    advantages: ArrayLike | None = None,
    convention: Convention | Framework = HGPO,
    **override: Unpack[Override],
) -> Array:
    """HGPO: ``A_t = sum_k w_k a_k / (sum_k w_k + eps)``, ``w_k = (k + 1)^alpha``, over levels ``k`` of shared past.

    ``a_k = (G_t - mean(G)) / (std(G) + eps)`` compares the discounted return ``G_t`` with those of the rows of the task
    whose last ``k`` states, the current one included, are the same: level 1 is the state itself (GiGPO's step term),
    level ``history + 1`` the state and all ``history`` states before it. A level counts where two rows share it.

    Args:
        steps: a :class:`~rollmath.Steps`.
        rewards: the outcome, one number a trajectory, ``[n_trajectories]``, at its last step; None with
            ``step_rewards``.
        step_rewards: one number a row instead, all that the step has earned.
        history: how many states before the current one are looked at, ``K``. A step that has fewer before it has fewer
            levels.
        alpha: exponent of the weights; 0 weighs all levels alike.
        offset: ``w_k = (k + offset)^alpha``. 1 in the official code; 0 in an early anonymous version of it.
        gamma: discount from step to step, in [0, 1].
        scale: ``"std"``, or ``"none"`` for ``a_k = G_t - mean(G)`` (``mean_norm`` in the code).
        zeros: what a level with an advantage of exactly 0 is: ``"exclude"``, no evidence, so that its weight is left
            out as in the official code; ``"count"``, evidence that the step is neither good nor bad. Where a return is
            the mean of others that differ, rounding may decide whether it is exactly 0.
        advantages: another level, ``k = 0``, one number a trajectory from any estimator of :mod:`rollmath.group`
            (``base_group`` in the code, where it is :func:`gigpo_episode` with ``statistics="step_rows"``).
        convention: ddof, eps and what a level without spread gets. Default ``conventions.HGPO``: population standard
            deviation plus 1e-6, no spread gives 0. ``singleton`` has no say. The same eps guards the weights.
        **override: fields of the convention.

    Returns:
        ``[n_rows]``, in the kind and float type of what was given; 0 where no level counts. Equal returns are exactly 0
        in a level; with ``gamma`` below 1 equal rewards are not equal returns.

    Raises:
        ValueError: wrong lengths; both or none of the rewards; NaN or infinite rewards unless ``nan=`` says otherwise;
            options out of range; a level without spread where a policy says raise.
        TypeError: ``steps`` that are no Steps; a wrong dtype or rank.

    Source: HGPO, arXiv 2602.22817, the paper not read. The authors' recipe was executed and agrees for both scales,
    with and without its base group. It computes in float32, where rounding decides which advantages are exactly 0:
    equal returns may leave a residue, which then has its weight; here they are exactly 0.

    >>> steps = Steps([0, 0, 1, 1, 2, 2], ["a", "c", "a", "c", "b", "c"], groups=[0, 0, 0])
    >>> hgpo(steps, [1.0, 0.0, 0.0], history=1, scale="none", gamma=1.0, eps=0.0).round(4).tolist()
    [0.5, 0.5667, -0.5, -0.4333, 0.0, -0.3333]
    """
    who = "hgpo"
    made, rules = as_steps(who, steps), resolve(who, who, convention, override)
    check_choices(who, scale)
    choice(who, "zeros", zeros, ("exclude", "count"))
    levels = min(whole(who, "history", history, 0), int(made.lengths.max(initial=1)) - 1) + 1
    weights = _weights(who, levels, real(who, "alpha", alpha, 0.0), real(who, "offset", offset, 0.0))
    x, back = reward_of_steps(who, made, rewards, step_rewards, rules.nan)
    returns = returns_of(who, made, x, gamma)
    known = ~np.isnan(returns) if rules.nan == "omit" else np.ones(len(made), bool)

    total, weight = np.zeros(len(made)), np.zeros(len(made))
    if advantages is not None:
        base = per_trajectory(who, made, "advantages", advantages, rules.nan)[0][made.trajectory_index]
        there = ~np.isnan(base) if rules.nan == "omit" else known
        base = np.where(there, base, 0.0)
        total += weights[0] * base
        weight += weights[0] * (there if zeros == "count" else base != 0)
    for k in range(1, levels + 1):
        groups = made.groups(by="state", history=k - 1)
        # Rows with less than k - 1 steps before them are in groups of their own.
        n = groups.counts if known.all() else segment_count(groups, valid=known)
        there = known & (made.position >= k - 1) & (n[groups.index] > 1)
        if not there.any():
            break  # nor is a longer past shared
        a = against(who, returns, groups, rules, scale, what="level", valid=there)
        total += weights[k] * a
        weight += weights[k] * (there if zeros == "count" else a != 0)
    return back(np.divide(total, weight + rules.eps, out=np.zeros(len(made)), where=weight > 0))


def _weights(who: str, levels: int, alpha: float, offset: float) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        out: NDArray[np.float64] = np.float_power(np.arange(levels + 1) + offset, alpha)
    if not np.isfinite(out.sum()):
        msg = f"{who}(): 'alpha' must leave the weights finite, got {alpha:g} with {levels} levels"
        raise ValueError(msg)
    return out

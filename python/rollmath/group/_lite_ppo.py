"""Lite PPO: rewards centred within their group, divided by the standard deviation of the batch."""

from __future__ import annotations

from typing import Literal, Unpack

from rollmath._arrays import Array, ArrayLike, choice
from rollmath.conventions import DEFAULT, Convention, Framework, Override, resolve
from rollmath.group._inputs import read
from rollmath.groups import Groups


def lite_ppo(
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    batch_std: Literal["rewards", "residuals"] = "rewards",
    valid: ArrayLike | None = None,
    convention: Convention | Framework = DEFAULT,
    **override: Unpack[Override],
) -> Array:
    """Group mean, batch standard deviation: ``A_i = (r_i - mean(r)) / (s + eps)``, the mean over the group of ``i``.

    One ``s`` for the batch leaves the prompts their relative weight, and keeps a prompt that is nearly solved from
    being blown up. The paper's token-level loss is the loss's affair.

    Args:
        rewards: one number a rollout, ``[N]``.
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        batch_std: what ``s`` is the standard deviation of, over all valid rollouts: ``"rewards"`` as they are (TRL's
            ``scale_rewards="batch"``), or ``"residuals"`` r - mean(r) (AReaL), which is smaller.
        valid: rollouts that take part (bool or int, nonzero = True); the others enter no statistic and get 0.
        convention: ddof, eps, eps_place, singleton and nan; ``zero_spread`` has no say, since no spread of a group is
            divided by. Under ``singleton="raw"`` or ``"abs"`` a lone reward has baseline 0: it gets r / (s + eps), and
            is its own residual. Under ``nan="propagate"`` a NaN reaches every group with spread.
        **override: fields of the convention.

    Returns:
        ``[N]``, in the kind and float type of ``rewards``; exactly 0 where all rewards of a group are equal.

    Raises:
        ValueError: wrong lengths; NaN or infinite rewards (unless ``nan=`` says otherwise); an unknown ``batch_std``.
        TypeError: wrong dtype or rank.

    Source: Liu et al. 2025, Tricks or Traps? A Deep Dive into RL for LLM Reasoning, arXiv 2508.08221 (secondary
    description: of which numbers the standard deviation is taken is unverified). TRL's and AReaL's code was executed.

    >>> lite_ppo([1.0, 0.0, 0.0, 0.0, 1.0, 1.0], [0, 0, 0, 0, 1, 1]).round(4).tolist()
    [1.3693, -0.4564, -0.4564, -0.4564, 0.0, 0.0]
    """
    choice("lite_ppo", "batch_std", batch_std, ("rewards", "residuals"))
    rules = resolve("lite_ppo", "lite_ppo", convention, override)
    r = read("lite_ppo", rewards, groups, valid, rules)
    return r.wrap(r.normalize(center="mean", scale="batch_std" if batch_std == "rewards" else "batch_residual_std"))

"""``--custom-reward-post-process-path``: rewards compared within the group of their prompt, whatever its size."""

from __future__ import annotations

from typing import Any

from rollmath import conventions, group
from rollmath.adapters.slime._samples import read
from rollmath.adapters.slime._settings import GROUPED, recipe_of


def post_process_rewards(args: Any, samples: Any) -> tuple[list[float], list[float]]:
    r"""Rewards for slime's training: ``(r_i - mean(r)) / (std(r) + 1e-6)`` over the group of ``i``.

    ``--custom-reward-post-process-path rollmath.adapters.slime.post_process_rewards``

    Groups are the samples of one ``group_index``, of any number and in any order, where slime takes them by position
    and normalises the whole batch as one group if its size is not ``n_samples_per_prompt * rollout_batch_size``.
    Samples with one ``rollout_id`` are one rollout: its reward counts once, and all of them get its number.

    Without a recipe, slime's own arguments decide, in its formula (``conventions.SLIME``): ``grpo``, ``gspo`` and
    ``cispo`` standardise, and centre alone under ``--disable-grpo-std-normalization``, as does
    ``reinforce_plus_plus_baseline``; other estimators, and ``--disable-rewards-normalization``, leave rewards as they
    are. A group of one gets 0, where slime has NaN.

    With a recipe (``rollmath:`` in the file of ``--custom-config-path``) the rewards are its advantages, after its
    penalties and its filter. What the filter drops, or ``truncated="mask"`` leaves out, gets
    ``sample.remove_sample = True``, so that slime masks it. Columns that the recipe needs, such as strata, are read
    from ``sample.metadata``. For a method with one number a token the result is the rewards after penalties:
    :func:`advantages` does the rest.

    Args:
        args: slime's arguments. ``args.rollmath_rollout_reward`` is the reward of a rollout with several samples, which
            has no default: ``"sum"`` (it was split over them), ``"same"`` (each has all of it, so they must agree),
            ``"mean"``, ``"max"``, ``"min"``, ``"first"``, ``"last"``, or ``"each"`` (every sample counts as a rollout).
        samples: list of samples, or lists of them.

    Returns:
        Raw rewards and rewards, one float a sample.

    Raises:
        ValueError: a sample without ``group_index``, a rollout in two groups, one of several samples whose reward is
            not known, a reward that is NaN or infinite, a column that the recipe needs.
        TypeError: a reward that is no number.

    Source: slime 0.3.1, ``RolloutManager._post_process_rewards``, whose code was executed.

    >>> from types import SimpleNamespace as Stub
    >>> samples = [Stub(group_index=g, rollout_id=None, reward=r, response_length=3, loss_mask=None,
    ...                 remove_sample=False, get_reward_value=lambda args, r=r: r)
    ...            for g, r in [(0, 1.0), (1, 0.5), (0, 0.0)]]
    >>> args = Stub(advantage_estimator="grpo", rewards_normalization=True, grpo_std_normalization=True)
    >>> [round(x, 4) for x in post_process_rewards(args, samples)[1]]
    [0.7071, 0.0, -0.7071]
    """
    who = "post_process_rewards"
    batch = read(who, args, samples)
    recipe = recipe_of(args)
    if recipe is not None:
        from rollmath.adapters.slime._recipe import rewards_of  # noqa: PLC0415 - needs torch

        return batch.raw, rewards_of(who, recipe, batch)
    estimator = args.advantage_estimator
    if estimator not in GROUPED or not args.rewards_normalization:
        return batch.raw, list(batch.raw)
    divided = estimator != "reinforce_plus_plus_baseline" and args.grpo_std_normalization
    values = group.grpo(
        batch.rewards,
        batch.groups,
        scale="std" if divided else "none",
        convention=conventions.SLIME,
        singleton="zero",
    )
    return batch.raw, batch.per_sample(values).tolist()

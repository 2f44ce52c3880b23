"""``--dynamic-sampling-filter-path``: groups that teach nothing are sampled anew."""

from __future__ import annotations

import importlib
from typing import Any

from rollmath.adapters.slime._samples import read
from rollmath.adapters.slime._settings import recipe_of


def dynamic_filter(args: Any, samples: Any, **_: Any) -> Any:
    """Keeps a group if its rewards are not all equal, ``max(r) > min(r)``, or by the filter of the recipe.

    ``--dynamic-sampling-filter-path rollmath.adapters.slime.dynamic_filter``

    The rollouts are those of slime's ``rollout_id``, so that a rollout of several samples is one, in nested lists too.
    slime's ``check_reward_nonzero_std`` wants a standard deviation over 1e-6, takes no nested lists, and like this one
    drops a group of one, for which it finds NaN.

    Args:
        args: slime's arguments; see :func:`post_process_rewards`.
        samples: the samples of one prompt.
        **_: what later versions of slime may pass.

    Returns:
        slime's ``DynamicFilterOutput``. The reason, which slime counts in its metrics as
        ``rollout/dynamic_filter/drop_<reason>``, is that of the selection and, for equal rewards, the reward:
        ``no_spread_1.0``.

    Raises:
        ValueError: samples of several groups; see :func:`post_process_rewards`.
        TypeError: a reward that is no number.

    Source: DAPO, arXiv 2503.14476 (dynamic sampling); slime 0.3.1, ``check_reward_nonzero_std``, was read.
    """
    keep, reason = _decide("dynamic_filter", args, samples)
    return _output()(keep=keep, reason=reason)


def dynamic_filter_with_fallback(args: Any, samples: Any, **_: Any) -> Any:
    """:func:`dynamic_filter`, whose groups slime keeps after all if it would have to sample another round for them.

    ``--dynamic-sampling-filter-path rollmath.adapters.slime.dynamic_filter_with_fallback``
    """
    keep, reason = _decide("dynamic_filter_with_fallback", args, samples)
    return _output()(keep=keep, reason=reason, keep_when_insufficient=True)


def _output() -> Any:
    """The class of slime, when it is used."""
    return importlib.import_module("slime.rollout.filter_hub.base_types").DynamicFilterOutput


def _decide(who: str, args: Any, samples: Any) -> tuple[bool, str | None]:
    batch = read(who, args, samples)
    if len(set(batch.groups)) != 1:
        msg = f"{who}(): 'samples' must be those of one prompt, got group_index {sorted(set(batch.groups))}"
        raise ValueError(msg)
    recipe = recipe_of(args)
    if recipe is not None and recipe.filter is not None:
        from rollmath.adapters.slime._recipe import filtered  # noqa: PLC0415 - needs torch

        return filtered(who, recipe, batch)
    rewards = batch.rewards
    if len(rewards) == 1:
        return False, "group_of_one"
    if rewards.max() > rewards.min():
        return True, None
    return False, f"no_spread_{rewards[0]:.1f}"

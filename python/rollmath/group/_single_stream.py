"""Single-stream advantages: rewards against what each prompt gave before."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rollmath._arrays import Array, ArrayLike
from rollmath._checks import finite, mask, rows
from rollmath.conventions import Whiten
from rollmath.group._beta_baseline import BetaBaseline
from rollmath.groups import Groups, as_groups
from rollmath.ops import whiten as whiten_rows


class SingleStream(NamedTuple):
    """What :func:`single_stream` returns.

    Attributes:
        advantages: one number a rollout, ``[N]``.
        state: the baseline after the batch, for the next one.
    """

    advantages: Array
    state: BetaBaseline


def single_stream(
    rewards: ArrayLike,
    prompts: Groups | ArrayLike,
    state: BetaBaseline,
    *,
    drift: ArrayLike | None = None,
    whiten: Whiten | None = Whiten(eps_place="add"),  # noqa: B008 - frozen
    valid: ArrayLike | None = None,
) -> SingleStream:
    """Advantages without groups: ``A_i = (a_i - mean(a)) / (std(a) + eps)``, ``a_i = r_i - alpha / (alpha + beta)``.

    The baseline is the success rate that earlier batches gave this prompt, so one rollout a prompt is enough. Mean and
    standard deviation are those of the batch. All rollouts of a prompt see the value from before the batch; then they
    update it together (:meth:`BetaBaseline.update`), in any order with the same bits. In the official code a prompt
    that occurs twice in a batch keeps its last rollout only.

    Args:
        rewards: one number in [0, 1] a rollout, ``[N]``.
        prompts: a :class:`~rollmath.Groups` or one prompt id a rollout, ``[N]``; ids that stay the same over training.
        state: what is known of the prompts; ``BetaBaseline()`` to begin with.
        drift: how far the policy has moved on each prompt; see :meth:`BetaBaseline.update`.
        whiten: how the batch is standardised; None for ``a_i`` itself.
        valid: rollouts that take part (bool or int, nonzero = True); the others enter no statistic, update nothing and
            get 0.

    Returns:
        :class:`SingleStream`: the advantages, in the kind and float type of ``rewards``, and the new state.

    Raises:
        ValueError: wrong lengths, rewards outside [0, 1], a negative or non-finite drift.
        TypeError: wrong dtype or rank; a state that is none; ids of another type than those of the state.

    Source: Xu and Ding 2025 (SPO), arXiv 2509.13232; secondary description of the paper, official code (verl-recipe)
    read: it is part of a trainer and was not run. Not the SPO of segments, of self-play, nor "simple" policy
    optimisation.

    >>> advantages, state = single_stream([1.0, 0.0, 1.0], ["p", "q", "r"], BetaBaseline(["p"], [3.0], [1.0]))
    >>> advantages.round(4).tolist(), state.value(["p", "q"]).round(4).tolist()
    ([0.3203, -1.1209, 0.8006], [0.8017, 0.2449])
    """
    who = "single_stream"
    if not isinstance(state, BetaBaseline):
        msg = f"{who}(): 'state' must be a BetaBaseline, got {type(state).__name__}"
        raise TypeError(msg)
    if whiten is not None and not isinstance(whiten, Whiten):
        msg = f"{who}(): 'whiten' must be a Whiten or None, got {whiten!r}"
        raise TypeError(msg)
    made = as_groups(who, prompts, name="prompts")
    r, back = rows(who, "rewards", rewards, len(made), why="len(prompts)")
    seen = mask(who, "valid", valid, len(made), why="len(prompts)")
    finite(who, "rewards", r, seen, must="in [0, 1]")
    a = np.where(seen, r - state._value(who, made), 0.0)
    if whiten is not None:
        a = np.asarray(whiten_rows(a, how=whiten, valid=seen, name="rewards", who=who))
    return SingleStream(back(a), state._update(who, r, made, drift, seen))

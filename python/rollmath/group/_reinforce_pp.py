"""REINFORCE++: whitened returns, without a value function; and its form with a group baseline."""

from __future__ import annotations

from typing import Literal, Unpack

import numpy as np

from rollmath._arrays import Array, ArrayLike
from rollmath._checks import tokens
from rollmath.conventions import DEFAULT, Convention, Framework, Override, Whiten, resolve
from rollmath.group._inputs import read
from rollmath.groups import Groups
from rollmath.ops import discounted_sum
from rollmath.ops import whiten as whiten_rows
from rollmath.ops._scan import RewardOnGap, check_whiten
from rollmath.ragged import Ragged

_WHITEN = Whiten()


def reinforce_pp(
    rewards: ArrayLike | Ragged,
    *,
    gamma: float = 1.0,
    mask: ArrayLike | Ragged | None = None,
    lengths: ArrayLike | None = None,
    gaps: Literal["carry", "state", "ignore", "cut"] = "carry",
    reward_on_gap: RewardOnGap = "raise",
    valid: ArrayLike | None = None,
    whiten: Whiten | None = _WHITEN,
    out: Array | Ragged | None = None,
) -> Array | Ragged:
    """REINFORCE++: ``G_t = r_t + gamma G_{t+1}``, whitened over all trained tokens of the batch.

    Rewards of tokens hold the outcome at the last token and, where wanted, ``-beta * kl_t`` at each.

    Args:
        rewards: a :class:`~rollmath.Ragged`, padded ``[B, T]``, or one number a row, ``[B]``, given at its last trained
            token; that needs ``mask`` (whose form the result gets) or ``lengths`` (the result is a Ragged).
        gamma: discount, in [0, 1].
        mask: trained tokens (bool or int, nonzero = True), like ``rewards``.
        lengths: used columns of padded rows, ints ``[B]``.
        gaps: as in :func:`rollmath.temporal.discounted_returns`; SkyRL has ``"cut"``.
        reward_on_gap: a reward where the mask is 0: ``"raise"``, ``"previous"`` or ``"drop"``.
        valid: rows that take part (bool or int, nonzero = True), ``[B]``; the others enter no statistic and get 0.
        whiten: how; the method includes it, None leaves it out: where a batch lies on several ranks, take
            :func:`rollmath.temporal.whiten` with their merged ``moments`` instead. verl has the default, OpenRLHF and
            NeMo-RL ``Whiten(ddof=0, eps=1e-4, eps_place="max")``.
        out: where to write.

    Returns:
        One number a token in the form, kind and float type of ``rewards``; 0 at gaps and padding.

    Edge cases: equal returns everywhere give exactly 0. Long rows weigh more in the mean, since each of their tokens
    counts.

    Raises:
        ValueError: wrong shapes, ``gamma`` outside [0, 1], a reward at a gap, rewards that are not finite.
        TypeError: wrong dtype, rank or form.

    Source: Hu 2025, arXiv 2501.03262 (paper text); verl's code was executed.

    >>> reinforce_pp([1.0, 0.0], lengths=[1, 3]).values.round(4).tolist()
    [1.5, -0.5, -0.5, -0.5]
    """
    return discounted_sum(
        rewards,
        decay=gamma,
        mask=mask,
        lengths=lengths,
        gaps=gaps,
        reward_on_gap=reward_on_gap,
        valid=valid,
        whiten=whiten,
        out=out,
        name="rewards",
        who="reinforce_pp",
    )


def reinforce_pp_baseline(
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    lengths: ArrayLike | None = None,
    whiten: Whiten | None = _WHITEN,
    valid: ArrayLike | None = None,
    convention: Convention | Framework = DEFAULT,
    **override: Unpack[Override],
) -> Array:
    """REINFORCE++ with a group baseline: ``r_i - mean(r)`` over the group, then whitened over the batch.

    Args:
        rewards: one number a rollout, ``[N]``.
        groups: a :class:`~rollmath.Groups` or one id a rollout.
        lengths: trained tokens of each rollout, ``[N]``: the batch is that of the tokens, each rollout counting as
            often as it has tokens, without expanding anything. Default: each rollout counts once. Checked, and without
            effect, with ``whiten=None``.
        whiten: how; the method includes it, None leaves it out.
        valid: rollouts that take part (bool or int, nonzero = True); the others enter no statistic and get 0.
        convention: only ``singleton`` and ``nan`` matter: a group of one has baseline 0 in verl (``"raw"``) and gets 0
            before the whitening by default. With ``nan="omit"`` a missing reward enters no statistic of the batch
            either and gets 0; with ``nan="propagate"`` whitening spreads it over the batch.
        **override: fields of the convention.

    Returns:
        ``[N]``, in the kind and float type of ``rewards``; the sum (weighted by ``lengths``) is 0 up to rounding.

    Raises:
        ValueError: wrong lengths; NaN or infinite rewards (unless ``nan=`` says otherwise); ``lengths`` that are
            negative, not finite, or 0 in all valid rollouts.
        TypeError: wrong dtype or rank.

    Source: Hu 2025, arXiv 2501.03262, later versions (paper text); verl's, OpenRLHF's and NeMo-RL's code was executed.
    They whiten over tokens, rLLM divides by the standard deviation of the batch.

    >>> reinforce_pp_baseline([1.0, 0.0, 1.0, 1.0], list("aabb"), lengths=[1, 1, 4, 2]).round(4).tolist()
    [1.8708, -1.8708, 0.0, 0.0]
    """
    who = "reinforce_pp_baseline"
    rules = resolve(who, who, convention, override)
    check_whiten(who, whiten)
    r = read(who, rewards, groups, valid, rules)
    times = tokens(who, "lengths", lengths, r.mask)
    out = r.normalize(center="mean", scale="none")
    if whiten is not None:
        out = np.asarray(whiten_rows(out, how=whiten, weights=times, valid=r.mask, name="rewards", who=who))
    return r.wrap(out)

"""Discounted returns, also called reward to go."""

from __future__ import annotations

from typing import Literal

from rollmath._arrays import Array, ArrayLike
from rollmath.ops import discounted_sum
from rollmath.ops._scan import RewardOnGap
from rollmath.ragged import Ragged


def discounted_returns(
    rewards: ArrayLike | Ragged,
    *,
    gamma: float = 1.0,
    mask: ArrayLike | Ragged | None = None,
    lengths: ArrayLike | None = None,
    gaps: Literal["carry", "state", "ignore", "cut"] = "carry",
    reward_on_gap: RewardOnGap = "raise",
    bootstrap: ArrayLike = "zero",
    truncated: ArrayLike | None = None,
    valid: ArrayLike | None = None,
    out: Array | Ragged | None = None,
) -> Array | Ragged:
    """Discounted returns ``G_t = r_t + gamma G_{t+1}``, over the trained tokens of each row.

    Args:
        rewards: a :class:`~rollmath.Ragged`, padded ``[B, T]``, or one number a row, ``[B]``, given at its last trained
            token; that needs ``mask`` (whose form the result gets) or ``lengths`` (the result is a Ragged).
        gamma: discount, in [0, 1].
        mask: trained tokens (bool or int, nonzero = True), like ``rewards``.
        lengths: used columns of padded rows, ints ``[B]``.
        gaps: ``"carry"``: gaps are passed over. ``"state"``: discounting goes on through them. ``"ignore"``: the mask
            has no say except that the result there is 0. ``"cut"``: the running return is set to 0 at a gap, so a
            reward reaches no turn before its own (SkyRL's REINFORCE++).
        reward_on_gap: what becomes of a reward where the mask is 0: ``"raise"``, ``"previous"`` (to the last trained
            token before it) or ``"drop"``.
        bootstrap: ``"zero"``, or the return after the last token, one number a row.
        truncated: rows to which ``bootstrap`` applies.
        valid: rows that take part (bool or int, nonzero = True), ``[B]``; the others get 0 and are not looked at.
        out: where to write.

    Returns:
        In the form, kind and float type of ``rewards``, 0 at gaps and padding. On a GPU (that of ``rewards``, or of the
        ``mask`` for one number a row) as :func:`gae`: what would raise for the numbers of a row makes the row NaN.

    Raises:
        ValueError: wrong shapes, ``gamma`` outside [0, 1], a reward at a gap, rewards that are not finite.
        TypeError: wrong dtype, rank or form.

    Source: Williams 1992; Sutton and Barto 2018, chapter 3.

    >>> discounted_returns([[0.0, 0.0, 1.0]], gamma=0.5).tolist()
    [[0.25, 0.5, 1.0]]
    """
    return discounted_sum(
        rewards,
        decay=gamma,
        mask=mask,
        lengths=lengths,
        gaps=gaps,
        reward_on_gap=reward_on_gap,
        bootstrap=bootstrap,
        truncated=truncated,
        valid=valid,
        out=out,
        name="rewards",
        who="discounted_returns",
    )

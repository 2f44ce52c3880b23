"""TD(lambda): targets for the value function."""

from __future__ import annotations

from rollmath._arrays import Array, ArrayLike
from rollmath.ops._device_rows import rows_of
from rollmath.ops._scan import Gaps, RewardOnGap, Rule, scan_values
from rollmath.ragged import Ragged


def td_lambda(
    rewards: ArrayLike | Ragged,
    values: ArrayLike | Ragged,
    *,
    gamma: float = 1.0,
    lam: ArrayLike = 0.95,
    mask: ArrayLike | Ragged | None = None,
    lengths: ArrayLike | None = None,
    gaps: Gaps = "carry",
    reward_on_gap: RewardOnGap = "raise",
    bootstrap: ArrayLike = "zero",
    truncated: ArrayLike | None = None,
    valid: ArrayLike | None = None,
    out: Array | Ragged | None = None,
) -> Array | Ragged:
    """TD(lambda) returns: ``G_t = r_t + gamma ((1 - lam) V_{t+1} + lam G_{t+1})``.

    The same numbers as the returns of :func:`gae`, without the memory of its advantages. ``lam=0`` gives one-step
    targets, ``lam=1`` discounted returns.

    Args:
        rewards: a :class:`~rollmath.Ragged` or padded ``[B, T]`` like ``values``, or one number a row, ``[B]``.
        values: ``V_t``, the value of the state before token ``t`` is chosen; a Ragged or padded ``[B, T]``.
        gamma: discount, in [0, 1].
        lam: decay, in [0, 1]; one number or one a row.
        mask: trained tokens, as in :func:`gae`.
        lengths: used columns of padded rows.
        gaps: what positions with mask 0 are, as in :func:`gae`.
        reward_on_gap: what becomes of a reward there, as in :func:`gae`.
        bootstrap: value after the last token, as in :func:`gae`.
        truncated: rows to which ``bootstrap`` applies.
        valid: rows that take part (bool or int, nonzero = True), ``[B]``; the others get 0 and are not looked at.
        out: where to write.

    Returns:
        In the form and kind of ``values``, 0 at gaps and padding. On a GPU as :func:`gae`.

    Raises:
        ValueError: as :func:`gae`.
        TypeError: as :func:`gae`.

    Source: Sutton 1988; Sutton and Barto 2018, chapter 12.

    >>> td_lambda([[0.0, 1.0]], [[0.5, 0.5]], lam=0.5).tolist()
    [[0.75, 1.0]]
    """
    rows = rows_of("td_lambda", "values", values, mask=mask, lengths=lengths, valid=valid)
    rule = Rule(gaps, reward_on_gap, bootstrap, truncated)
    (returns,) = scan_values(rows, rewards, values, gamma=gamma, lam=lam, rule=rule, only_returns=True, out=out)
    return returns

"""V-trace: off-policy advantages and value targets."""

from __future__ import annotations

from typing import Any, NamedTuple

from rollmath import _core
from rollmath._arrays import Array, ArrayLike
from rollmath.ops._device_rows import DeviceRows, rows_of
from rollmath.ops._device_scan import vtrace_on_device
from rollmath.ops._scan import Gaps, RewardOnGap, Rule, inputs_of, lam_of, rate, rewards_of
from rollmath.ragged import Ragged


class VTrace(NamedTuple):
    """What :func:`vtrace` returns, in the form of the values."""

    advantages: Array | Ragged
    returns: Array | Ragged


def vtrace(
    rewards: ArrayLike | Ragged,
    values: ArrayLike | Ragged,
    log_ratios: ArrayLike | Ragged,
    *,
    gamma: float = 1.0,
    lam: ArrayLike = 1.0,
    clip_rho: float = 1.0,
    clip_c: float = 1.0,
    clip_pg_rho: float | None = None,
    mask: ArrayLike | Ragged | None = None,
    lengths: ArrayLike | None = None,
    gaps: Gaps = "carry",
    reward_on_gap: RewardOnGap = "raise",
    bootstrap: ArrayLike = "zero",
    truncated: ArrayLike | None = None,
    valid: ArrayLike | None = None,
    out: Any = None,
) -> VTrace:
    """V-trace: value targets of the target policy from rollouts of an older one, with clipped importance ratios.

    ``vs_t = V_t + rho_t delta_t + gamma c_t (vs_{t+1} - V_{t+1})`` with ``delta_t = r_t + gamma V_{t+1} - V_t``,
    ``rho_t = min(clip_rho, w_t)``, ``c_t = lam min(clip_c, w_t)`` and ``w_t = exp(log_ratio_t)``; the advantage is
    ``min(clip_pg_rho, w_t) (r_t + gamma vs_{t+1} - V_t)``.

    Args:
        rewards: a :class:`~rollmath.Ragged` or padded ``[B, T]`` like ``values``, or one number a row, ``[B]``.
        values: ``V_t``, the value of the state before token ``t`` is chosen; a Ragged or padded ``[B, T]``.
        log_ratios: log-probability of each token under the target policy minus that under the policy that sampled it;
            like ``values``.
        gamma: discount, in [0, 1].
        lam: decay, in [0, 1]; one number or one a row.
        clip_rho: upper bound of the ratio at ``delta``; it decides which policy's value the targets have as their fixed
            point. Positive; ``math.inf`` for none.
        clip_c: upper bound of the ratio that carries; it decides the speed of the contraction alone.
        clip_pg_rho: upper bound of the ratio of the advantage; ``clip_rho`` by default.
        mask: trained tokens, as in :func:`gae`.
        lengths: used columns of padded rows.
        gaps: what positions with mask 0 are, as in :func:`gae`; under ``"state"`` their ratio is 1.
        reward_on_gap: what becomes of a reward there, as in :func:`gae`.
        bootstrap: value after the last token, as in :func:`gae`.
        truncated: rows to which ``bootstrap`` applies.
        valid: rows that take part (bool or int, nonzero = True), ``[B]``; the others get 0 and are not looked at.
        out: two arrays of the form and float type of the result, to write into.

    Returns:
        Advantages and returns ``vs`` in the form and kind of ``values``, 0 at gaps and padding. On policy
        (``log_ratios`` 0, clips of at least 1) the returns are those of TD(lambda). On a GPU as :func:`gae`: what would
        raise for the numbers of a row makes the row NaN.

    Raises:
        ValueError: as :func:`gae`; a clip that is not positive; a log-ratio that is not finite; a result past its float
            type.
        TypeError: as :func:`gae`.

    Source: Espeholt et al. 2018, arXiv 1802.01561. ``lam`` is that of its appendix; ``clip_pg_rho`` that of the
    published code.

    >>> vtrace([[0.0, 1.0]], [[0.5, 0.5]], [[0.0, 0.0]])
    VTrace(advantages=array([[0.5, 0.5]]), returns=array([[1., 1.]]))
    """
    rows = rows_of("vtrace", "values", values, mask=mask, lengths=lengths, valid=valid)
    rule = Rule(gaps, reward_on_gap, bootstrap, truncated).of(rows)
    decay = (rate("vtrace", "gamma", gamma), lam_of(rows, "lam", lam))
    rho = rate("vtrace", "clip_rho", clip_rho)
    pg_rho = rho if clip_pg_rho is None else rate("vtrace", "clip_pg_rho", clip_pg_rho)
    clips = (rho, rate("vtrace", "clip_c", clip_c), pg_rho)
    if isinstance(rows, DeviceRows):
        return VTrace(
            *vtrace_on_device(rows, rewards, values, log_ratios, decay=decay, clips=clips, rule=rule, out=out)
        )
    per_row, (r, v, w) = rewards_of(rows, rewards, values=values, log_ratios=log_ratios)
    inputs = {"rewards": r, "values": v, "log_ratios": w, "lam": decay[1], **inputs_of(rule)}
    arrays, flat = rows.outputs(out, v.dtype, 2, inputs)
    _core.vtrace("vtrace", rows.layout, r, per_row, v, w, rule, decay, clips, flat[0], flat[1])
    return VTrace(*(rows.wrap(array) for array in arrays))

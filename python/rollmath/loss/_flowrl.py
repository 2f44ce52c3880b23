"""FlowRL: trajectory balance towards a reward distribution."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rollmath._arrays import Array, ArrayLike
from rollmath._checks import real
from rollmath.groups import Groups
from rollmath.loss._group_loss import Scores, read

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Beyond this log ratio the ratio does not fit float64.
_LARGEST = 709.0


class FlowLoss(NamedTuple):
    """What :func:`flowrl` returns: a :class:`GroupLoss` and the derivative for the partition function.

    Attributes:
        loss: F, 0-d.
        coefficient: ``dF / ds_i``, ``[n]``.
        per_group: ``F_g``, ``[n_groups]``, not divided.
        log_z_coefficient: ``dF / d log_z``, of the shape of ``log_z``; it is backpropagated as the scores are.
    """

    loss: Array
    coefficient: Array
    per_group: Array
    log_z_coefficient: Array


def flowrl(
    scores: ArrayLike,
    log_z: ArrayLike,
    rewards: ArrayLike,
    ref: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    beta: float = 15.0,
    log_ratios: ArrayLike | None = None,
    clip: float | None = 0.2,
    divisor: float | None = None,
    valid: ArrayLike | None = None,
) -> FlowLoss:
    """FlowRL: ``F_g = sum_i w_i (log Z + s_i - beta r_i - log pi_ref,i)^2``, ``w`` a constant.

    ``w_i = clip(exp(log_ratios_i), 1 - clip, 1 + clip)`` is an importance weight, 1 without ``log_ratios``.

    Args:
        scores: mean log-probability of the tokens, ``s = mean_t log pi``, ``[n]``.
        log_z: logarithm of the partition function of the prompt, one a group (in the order of ``groups.ids``) or one a
            response. It is learned.
        rewards: one number a response, ``[n]``; the official code gives group-normalised advantages.
        ref: mean log-probability of the tokens under the reference, ``[n]``.
        groups: a :class:`~rollmath.Groups` or one prompt id a response, ``[n]``; any order and sizes.
        beta: inverse temperature of the target, 15 in the official code.
        log_ratios: ``sum_t (log pi - log pi_old)`` for the weight, ``[n]``.
        clip: half-width of the clip of the weight (its default is unverified). None: no clip, which is what the
            official code does: it computes the clipped weight and then takes the other.
        divisor: of the sum. None: the number of valid responses, as in the official code.
        valid: responses that take part (bool or int, nonzero = True).

    Returns:
        A :class:`FlowLoss`, in the kind and float type of ``scores``.

    Raises:
        ValueError: wrong lengths, arguments that are not finite, scores with grad, a log ratio over 709 without clip,
            ``beta`` or ``divisor`` not positive, a negative ``clip``.
        TypeError: wrong dtype or rank.

    Source: Zhu et al. 2025, arXiv 2509.15207; official code executed beside ours (without clip). That the clipped
    weight is meant is how we read that code, unverified.

    >>> out = flowrl([-0.5], [0.3], [0.8], [-0.55], ["p"])
    >>> round(float(out.loss), 4), out.coefficient.round(4).tolist(), out.log_z_coefficient.round(4).tolist()
    (135.7225, [-23.3], [-23.3])
    """
    who = "flowrl"
    inverse = real(who, "beta", beta, above=0.0)
    width = None if clip is None else real(who, "clip", clip, 0.0)
    s = read(who, scores, groups, valid)
    partition, by_group = s.column_or_group("log_z", log_z)
    residual = partition + s.x - inverse * s.column("rewards", rewards) - s.column("ref", ref)
    weight = np.ones(len(s.x)) if log_ratios is None else _weight(s, log_ratios, width)
    slope = 2.0 * weight * residual
    by = s.share(int(s.seen.sum()), divisor)
    plain = s.result(s.sums(weight * residual * residual), slope, by)
    # The log Z of a group is in the residuals of all its rows.
    return FlowLoss(*plain, s.narrow(s.sums(slope / by) if by_group else slope / by))


def _weight(s: Scores, log_ratios: ArrayLike, width: float | None) -> NDArray[np.float64]:
    log_ratio = s.column("log_ratios", log_ratios)
    if width is None and len(bad := np.flatnonzero(log_ratio > _LARGEST)):
        msg = (
            f"{s.who}(): 'log_ratios' must be at most {_LARGEST:g} without clip=, got {log_ratio[bad[0]]:g} "
            f"at index {bad[0]}"
        )
        raise ValueError(msg)
    weight: NDArray[np.float64] = np.exp(np.minimum(log_ratio, _LARGEST))
    return weight if width is None else np.clip(weight, 1.0 - width, 1.0 + width)

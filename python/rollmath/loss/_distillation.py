"""A teacher's log-probabilities as a reward."""

from __future__ import annotations

from rollmath._arrays import Array, ArrayLike
from rollmath._checks import real
from rollmath.loss._elementwise import read, read_like
from rollmath.ragged import Ragged


def distillation_reward(theta: ArrayLike | Ragged, teacher: ArrayLike | Ragged, *, coef: float) -> Array:
    """Reward of each sampled token for what the teacher thinks of it: ``-coef (log p - log p_T)``, k1 as a reward.

    Added to the advantages of the student's own samples, it minimises ``coef KL(p || p_T)``: in expectation over the
    tokens, the policy gradient of this reward is minus the gradient of the reverse KL. It is a constant; the gradient
    comes from the policy loss.

    As a *loss*, take k2, ``(log p - log p_T)^2 / 2``, whose gradient ``(log p - log p_T) grad log p`` is the same one:
    KDRL's way, and the term ``KL(coef, kind="k2")`` of :func:`policy_loss` with the teacher as its reference. k1 as a
    loss is refused: the teacher is a constant, so the gradient of ``coef (log p - log p_T)`` is ``coef grad log p``,
    whatever the teacher says, and zero in expectation. Its value looks right in a log while nothing is learnt from it.

    Args:
        theta: log-probabilities of the sampled tokens under the student, ``[tokens]`` or ``[B, T]``: NumPy, torch on
            any device, a list or a :class:`~rollmath.Ragged`. A tensor may require grad; no gradient passes.
        teacher: those under the teacher, in the same shape.
        coef: weight of the reward, at least 0.

    Returns:
        In the shape, kind and float type of ``theta``.

    Edge cases:
        A token that the teacher finds impossible gets minus infinity, or 0 if ``coef`` is 0. NaN gives NaN, and so does
        a token that is impossible for both. Values are not checked, because padding may hold anything.

    Raises:
        TypeError: wrong dtype or rank.
        ValueError: shapes, offsets or devices that differ; ``coef`` out of range.

    Source: KDRL, arXiv 2506.02208; that it uses k2 as a loss is from a secondary description, unverified. The reward is
    the on-policy distillation of slime (code read); the gradients are our derivation, and tested.

    >>> distillation_reward([-1.0, -2.0], [-0.5, -2.0], coef=0.1)
    array([0.05, 0.  ])
    """
    who = "distillation_reward"
    weight = real(who, "coef", coef, 0.0)
    student = read(who, "theta", theta)
    other = read_like(who, "teacher", teacher, student, "theta")
    gap = other - student.exact
    # A reward that is turned off is 0, not 0 times infinity.
    return student.back(weight * gap if weight else gap.masked_fill(gap.isinf(), 0.0) * 0.0)

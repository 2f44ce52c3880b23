"""Schedules of a coefficient over the optimiser steps. Plain numbers, no arrays."""

from __future__ import annotations

import math

from rollmath._checks import real, whole


def chord_mu(step: int, *, warmup: int, decay: int, peak: float, valley: float) -> float:
    """Weight of the supervised loss in CHORD: ``mu = peak t / warmup``, then a cosine from ``peak`` to ``valley``.

    The cosine begins where the warm-up ends: ``valley + (peak - valley) (1 + cos(pi (t - warmup) / decay)) / 2`` for
    ``decay`` steps, and ``valley`` after them. The schedule is continuous if ``decay`` is not 0.

    Published settings, as (warmup, decay, peak, valley): CHORD-mu (0, 200, 0.9, 0.05) without :func:`chord_phi`;
    CHORD-phi a constant 0.1, which is (0, 0, 0.1, 0.1), with it; an example of the code has (200, 400, 0.5, 0.02).

    Args:
        step: optimiser step, counted from 0.
        warmup: steps of the linear warm-up from 0; with 0 the schedule begins at ``peak``.
        decay: steps of the cosine; with 0 the weight is ``valley`` as soon as the warm-up is over.
        peak: weight at the end of the warm-up, in [0, 1].
        valley: weight after the decay, in [0, 1]; it may be above ``peak``.

    Returns:
        A float in [0, 1]: exactly ``peak`` at the end of the warm-up if ``decay`` is not 0, exactly ``valley`` at the
        end of the decay.

    Raises:
        ValueError: negative steps, weights out of range.
        TypeError: steps that are no whole numbers, weights that are no numbers.

    Source: CHORD, arXiv 2508.11408. Where the cosine begins, and the defaults of CHORD-phi, are from Trinity-RFT's code
    (read); the other settings from secondary descriptions.

    >>> [round(chord_mu(t, warmup=10, decay=20, peak=0.9, valley=0.05), 4) for t in (5, 10, 15, 20, 40)]
    [0.45, 0.9, 0.7755, 0.475, 0.05]
    """
    who = "chord_mu"
    now, rise, fall = whole(who, "step", step, 0), whole(who, "warmup", warmup, 0), whole(who, "decay", decay, 0)
    top, bottom = real(who, "peak", peak, 0.0, 1.0), real(who, "valley", valley, 0.0, 1.0)
    if now < rise:
        return top * (now / rise)
    if now >= rise + fall:
        return bottom
    share = 0.5 * (1.0 + math.cos(math.pi * ((now - rise) / fall)))
    # From the nearer end, so that both ends, and a schedule whose ends are equal, are exact.
    return top - (1.0 - share) * (top - bottom) if share > 0.5 else bottom + share * (top - bottom)


def remix_lambda(step: int, *, start: int = 50, every: int = 10, drop: float = 0.1, floor: float = 0.5) -> float:
    """Weight of the base model in ReMix: ``lam = max(1 - drop ceil(max(t - start, 0) / every), floor)``.

    The KL-convex constraint is ``lam KL(theta || base) + (1 - lam) KL(theta || previous)``: close to the base model at
    first, then more and more to the policy before this one.

    Args:
        step: optimiser step, counted from 0.
        start: last step with weight 1.
        every: steps between two drops.
        drop: what each takes off, in [0, 1].
        floor: least weight, in [0, 1].

    Returns:
        A float from ``floor`` to 1; it never rises.

    Raises:
        ValueError: numbers out of range.
        TypeError: steps that are no whole numbers, weights that are no numbers.

    Source: ReMix, arXiv 2507.06892; the formula and its four numbers from a secondary description, unverified.

    >>> [round(remix_lambda(t), 4) for t in (0, 50, 51, 75, 200)]
    [1.0, 1.0, 0.9, 0.7, 0.5]
    """
    who = "remix_lambda"
    now, first, gap = whole(who, "step", step, 0), whole(who, "start", start, 0), whole(who, "every", every)
    step_down, least = real(who, "drop", drop, 0.0, 1.0), real(who, "floor", floor, 0.0, 1.0)
    drops = -(-max(now - first, 0) // gap)
    return max(1.0 - step_down * drops, least)

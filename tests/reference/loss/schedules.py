"""Schedules, phase by phase."""

import math


def chord_mu(step, *, warmup, decay, peak, valley):
    if warmup > 0 and step < warmup:
        return peak * step / warmup
    t = step - warmup
    if t >= decay:
        return valley
    return valley + (peak - valley) * (1 + math.cos(math.pi * t / decay)) / 2


def remix_lambda(step, *, start=50, every=10, drop=0.1, floor=0.5):
    lam, t = 1.0, start
    while t < step:
        # A new stretch of `every` steps has begun.
        lam, t = lam - drop, t + every
    return max(lam, floor)

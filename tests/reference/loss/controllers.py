"""Controllers as runs: what each step applies, and the state it leaves."""

import math


def AdaptiveEntropy(entropies, *, coef, target, delta, low, high):
    """``(applied, coef)`` of each step, by TRL's rules line by line.

    The coefficient and the gate that a step applies are those from the end of the step before; before the first, the
    cached entropy is infinite, so that nothing is applied. After a step, an entropy at or below the target raises the
    coefficient, any other lowers it, within the bounds; then the entropy is cached.
    """
    steps, last_world_entropy = [], math.inf
    for world_entropy in entropies:
        applied = coef if last_world_entropy <= target else 0.0
        if world_entropy <= target:
            coef = coef + delta
            if coef > high:
                coef = high
        else:
            coef = coef - delta
            if coef < low:
                coef = low
        last_world_entropy = world_entropy
        steps.append((applied, coef))
    return steps


def AdaptiveKL(measured, *, coef, target, horizon):
    """The coefficient after each step; ``measured`` has its ``(kl, rollouts)``."""
    values = []
    for kl, rollouts in measured:
        error = (kl - target) / target
        error = -0.2 if error < -0.2 else 0.2 if error > 0.2 else error
        coef = coef + coef * error * rollouts / horizon
        values.append(coef)
    return values

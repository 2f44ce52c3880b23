"""Slow, clear float64 Lp-Reg: the whole step at once, a token at a time."""

import math

from step_choice import ppo, tokens_of, uid


def LpReg(
    theta,
    prox,
    advantages,
    weights,
    proxy,
    keys,
    positions,
    clip=(0.2, 0.2),
    share=0.01,
    of="negative",
    coef=1.0,
    max_kl=None,
):
    """Columns are lists of rows of trained tokens; ``(loss, gradient of sum w L, the tokens chosen in the step)``."""
    everything = tokens_of(theta)
    negative = [(i, t) for i, t in everything if advantages[i][t] < 0]
    pool = negative if of == "negative" else everything
    lowest = sorted(pool, key=lambda at: (theta[at[0]][at[1]], uid(keys[at[0]], positions[at[0]][at[1]])))
    chosen = set(lowest[: math.floor(share * len(pool))]) & set(negative)
    losses = [[0.0] * len(row) for row in theta]
    gradients = [[0.0] * len(row) for row in theta]
    for i, t in everything:
        a, log_ratio, d = advantages[i][t], theta[i][t] - prox[i][t], proxy[i][t] - theta[i][t]
        if (i, t) in chosen and d > 0:
            loss = slope = -a * math.exp(log_ratio)
            penalty = math.exp(d) - d - 1
            if max_kl is None or penalty <= max_kl:
                loss, slope = loss + coef * penalty, slope + coef * (1 - math.exp(d))
            else:
                loss += coef * max_kl
        else:
            loss, slope = ppo(log_ratio, a, clip)
        losses[i][t], gradients[i][t] = loss, weights[i][t] * slope
    return losses, gradients, chosen

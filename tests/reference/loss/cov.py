"""Slow, clear float64 Clip-Cov and KL-Cov: the whole step at once, a token at a time."""

import math

from step_choice import covariances, ppo, tokens_of, uid

# Columns are lists of rows of trained tokens; `keys` names each row, `positions` says where its tokens are in it.


def ClipCov(
    theta, prox, advantages, weights, keys, positions, clip=(0.2, 0.2), share=2e-4, bounds=(1.0, 5.0), seed=0, least=1
):
    """``(loss of each token, d sum w L / d theta of each token, the tokens drawn)``."""
    cov = covariances(theta, advantages)
    losses = [[0.0] * len(row) for row in theta]
    gradients = [[0.0] * len(row) for row in theta]
    free = []
    for i, t in tokens_of(theta):
        a, log_ratio = advantages[i][t], theta[i][t] - prox[i][t]
        losses[i][t], slope = ppo(log_ratio, a, clip)
        gradients[i][t] = weights[i][t] * slope
        clipped = losses[i][t] > -a * math.exp(log_ratio)
        if bounds[0] < cov[i][t] < bounds[1] and not clipped:
            free.append((i, t))
    k = max(math.floor(share * len(tokens_of(theta))), least)
    drawn = sorted(free, key=lambda at: uid(keys[at[0]], positions[at[0]][at[1]], seed))[:k]
    for i, t in drawn:
        losses[i][t] = gradients[i][t] = 0.0
    return losses, gradients, set(drawn)


def KLCov(theta, prox, advantages, weights, keys, positions, share=2e-4, coef=1.0, least=1):
    """``(loss of each token, d sum w L / d theta of each token, the tokens with the penalty)``."""
    cov = covariances(theta, advantages)
    everything = tokens_of(theta)
    k = max(math.floor(share * len(everything)), least)
    order = sorted(everything, key=lambda at: (-cov[at[0]][at[1]], uid(keys[at[0]], positions[at[0]][at[1]])))
    chosen = set(order[:k])
    losses = [[0.0] * len(row) for row in theta]
    gradients = [[0.0] * len(row) for row in theta]
    for i, t in everything:
        log_ratio = theta[i][t] - prox[i][t]
        slope = loss = -advantages[i][t] * math.exp(log_ratio)
        if (i, t) in chosen:
            loss += coef * abs(log_ratio)
            slope += coef * ((log_ratio > 0) - (log_ratio < 0))
        losses[i][t], gradients[i][t] = loss, weights[i][t] * slope
    return losses, gradients, chosen

"""Slow, clear float64 REINFORCE."""

from loss_rows import by_token


def Reinforce(theta, prox, advantages, weights):
    """-A log p."""
    return by_token(lambda logp, a: (-a * logp, -a), weights, theta, advantages)

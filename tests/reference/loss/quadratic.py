"""Slow, clear float64 policy gradients with a quadratic penalty, or divided by 1 + tau."""

from loss_rows import by_token


def Quadratic(theta, prox, advantages, weights, beta):
    """-(A log p - beta / 2 (log p - log q)^2)."""

    def token(logp, old, a):
        return -(a * logp - beta / 2 * (logp - old) ** 2), -(a - beta * (logp - old))

    return by_token(token, weights, theta, prox, advantages)


def OPMD(theta, prox, advantages, weights, tau=1.0):
    """-A log p / (1 + tau)."""
    return by_token(lambda logp, a: (-a * logp / (1 + tau), -a / (1 + tau)), weights, theta, advantages)

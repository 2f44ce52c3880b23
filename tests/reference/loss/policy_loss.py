"""Slow, clear float64 policy loss: sums over rows and trained positions."""

import math


def policy_loss(
    theta, prox, advantages, mask, weights, objective, *, weight=None, entropy=None, coef=0.0, entropy_weight=None
):
    """Arguments but the last two are lists of rows of positions; ``objective`` is an oracle such as that of PPO.

    Returns ``(loss, derivative by theta, derivative by the entropies)``, the latter two in rows; 0 where nothing is
    trained.
    """
    shape = [len(row) for row in mask]
    ones = [[1.0] * n for n in shape]
    each = weight or ones
    inside = [[t for t in range(n) if mask[i][t]] for i, n in enumerate(shape)]

    def trained(x):
        return [[x[i][t] for t in places] for i, places in enumerate(inside)]

    def everywhere(x):
        return [
            [x[i][inside[i].index(t)] if t in inside[i] else 0.0 for t in range(shape[i])] for i in range(len(shape))
        ]

    w = [[a * b for a, b in zip(*row, strict=True)] for row in zip(trained(weights), trained(each), strict=True)]
    losses, gradient = objective(trained(theta), trained(prox), trained(advantages), w)
    terms = [a * b for rows in zip(w, losses, strict=True) for a, b in zip(*rows, strict=True)]
    of_entropy = [[0.0] * n for n in shape]
    if entropy is not None:
        more = entropy_weight or ones
        for i, places in enumerate(inside):
            for t in places:
                of_entropy[i][t] = -coef * weights[i][t] * more[i][t]
                terms.append(of_entropy[i][t] * entropy[i][t])
    return math.fsum(terms), everywhere(gradient), of_entropy

"""Advantages over turns, written out row by row from the definitions."""

import math


def estimate(rewards, values, end, gamma, lam):
    """A_k = sum_j (gamma lam)^(j-k) delta_j with delta_j = r_j + gamma V_{j+1} - V_j and V = end after the last."""
    ahead = [*values, end][1:]
    delta = [r + gamma * nxt - v for r, nxt, v in zip(rewards, ahead, values, strict=True)]
    return [math.fsum((gamma * lam) ** (j - k) * delta[j] for j in range(k, len(delta))) for k in range(len(delta))]


def after(i, values, bootstrap, truncated):
    """The value after the last turn of row i."""
    if truncated is not None and not truncated[i]:
        return 0.0
    if isinstance(bootstrap, str):
        return values[-1] if bootstrap == "last" and values else 0.0
    return bootstrap[i]


def turn_gae(rewards, values, *, gamma=0.99, lam=0.9, bootstrap="zero", truncated=None):
    """Advantages and returns, one a turn, lists of rows."""
    advantages, returns = [], []
    for i, (r, v) in enumerate(zip(rewards, values, strict=True)):
        a = estimate(r, v, after(i, v, bootstrap, truncated), gamma, lam)
        advantages.append(a)
        returns.append([x + y for x, y in zip(a, v, strict=True)])
    return advantages, returns


def expand_turns(x, turns, mask=None):
    """The number of its turn for each token, 0 at gaps."""
    mask = [[True] * len(row) for row in turns] if mask is None else mask
    return [
        [numbers[k] if kept and k >= 0 else 0.0 for k, kept in zip(row, m, strict=True)]
        for numbers, row, m in zip(x, turns, mask, strict=True)
    ]

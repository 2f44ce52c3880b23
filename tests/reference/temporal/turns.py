"""Advantages over turns, written out row by row from the definitions."""

from definitions import after, estimate


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

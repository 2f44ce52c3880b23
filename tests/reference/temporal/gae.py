"""Generalised advantage estimation by its definition: a weighted sum of TD errors, row by row, position by position."""

import math

from definitions import states


def after(i, v, m, gaps, bootstrap, truncated):
    """The value after the last state of row i; "last" repeats that of its last token that is no gap."""
    if truncated is not None and not truncated[i]:
        return 0.0
    if isinstance(bootstrap, str):
        tokens = [x for x, kept in zip(v, m, strict=True) if kept or gaps == "ignore"]
        return tokens[-1] if bootstrap == "last" and tokens else 0.0
    return bootstrap[i]


def advantage(seen, end, gamma, lam):
    """A_t = sum_k (gamma lam)^k delta_{t+k}, delta_t = r_t + gamma V_{t+1} - V_t, for the states of one row."""
    nexts = [*[v for _, _, v in seen], end][1:]
    delta = [r + gamma * nxt - v for (_, r, v), nxt in zip(seen, nexts, strict=True)]
    return [math.fsum((gamma * lam) ** (k - t) * delta[k] for k in range(t, len(seen))) for t in range(len(seen))]


def gae(
    rewards,
    values,
    mask=None,
    *,
    gamma=1.0,
    lam=0.95,
    lam_returns=None,
    gaps="carry",
    reward_on_gap="raise",
    bootstrap="zero",
    truncated=None,
):
    """Advantages and returns, lists of rows like the arguments."""
    mask = [[True] * len(v) for v in values] if mask is None else mask
    advantages, returns = [], []
    for i, (r, v, m) in enumerate(zip(rewards, values, mask, strict=True)):
        seen = states(r, v, m, gaps, reward_on_gap)
        end = after(i, v, m, gaps, bootstrap, truncated)
        of_row = lam[i] if hasattr(lam, "__len__") else lam
        of_returns = lam_returns[i] if hasattr(lam_returns, "__len__") else lam_returns
        a = advantage(seen, end, gamma, of_row)
        b = a if of_returns is None else advantage(seen, end, gamma, of_returns)
        row, ret = [0.0] * len(v), [0.0] * len(v)
        for (t, _, value), x, y in zip(seen, a, b, strict=True):
            if m[t]:
                row[t], ret[t] = x, y + value
        advantages.append(row)
        returns.append(ret)
    return advantages, returns

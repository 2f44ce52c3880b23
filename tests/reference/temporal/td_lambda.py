"""TD(lambda) targets by their definition: the lambda-weighted mixture of n-step returns, row by row."""

import math

from definitions import states


def n_step(seen, values, t, n, gamma):
    """r_t + gamma r_{t+1} + ... + gamma^(n-1) r_{t+n-1} + gamma^n V_{t+n}; values has one more element, the end."""
    return math.fsum(gamma**k * seen[t + k][1] for k in range(n)) + gamma**n * values[t + n]


def td_lambda(
    rewards,
    values,
    mask=None,
    *,
    gamma=1.0,
    lam=0.95,
    gaps="carry",
    reward_on_gap="raise",
    bootstrap="zero",
    truncated=None,
):
    """G_t = (1 - lam) sum_{n=1}^{N-1} lam^(n-1) G_t^(n) + lam^(N-1) G_t^(N), N the states left; lists of rows."""
    mask = [[True] * len(v) for v in values] if mask is None else mask
    out = []
    for i, (r, v, m) in enumerate(zip(rewards, values, mask, strict=True)):
        seen = states(r, v, m, gaps, reward_on_gap)
        tokens = [x for x, kept in zip(v, m, strict=True) if kept or gaps == "ignore"]
        end = bootstrap[i] if not isinstance(bootstrap, str) else tokens[-1] if bootstrap == "last" and tokens else 0.0
        if truncated is not None and not truncated[i]:
            end = 0.0
        of_row = lam[i] if hasattr(lam, "__len__") else lam
        ahead = [x for _, _, x in seen] + [end]
        row = [0.0] * len(v)
        for t, (position, _, _) in enumerate(seen):
            left = len(seen) - t
            mixed = [(1 - of_row) * of_row ** (n - 1) * n_step(seen, ahead, t, n, gamma) for n in range(1, left)]
            if m[position]:
                row[position] = math.fsum([*mixed, of_row ** (left - 1) * n_step(seen, ahead, t, left, gamma)])
        out.append(row)
    return out

"""Discounted returns by their definition: the discounted sum of what comes after, row by row."""

import math


def states(r, m, gaps, reward_on_gap):
    """The states of one row: (position, reward)."""
    r = list(r)
    if gaps == "ignore":
        return list(enumerate(r))
    for t in range(len(r)):
        if not m[t] and r[t] != 0:
            before = [s for s in range(t) if m[s]]
            if reward_on_gap == "raise" or (reward_on_gap == "previous" and not before):
                raise ValueError(f"a reward on the gap at {t}")
            if reward_on_gap == "previous":
                r[before[-1]] += r[t]
            r[t] = 0.0
    return [(t, x) for t, x in enumerate(r) if m[t] or gaps in {"state", "cut"}]


def discounted_returns(
    rewards, mask=None, *, gamma=1.0, gaps="carry", reward_on_gap="raise", bootstrap="zero", truncated=None
):
    """G_t = sum_k gamma^k r_{t+k} + gamma^n V_end over the n states from t on; lists of rows.

    With "cut" the states from t on end before the next gap, and only those that reach the end of the row have V_end.
    """
    mask = [[True] * len(r) for r in rewards] if mask is None else mask
    out = []
    for i, (r, m) in enumerate(zip(rewards, mask, strict=True)):
        seen = states(r, m, gaps, reward_on_gap)
        end = 0.0 if isinstance(bootstrap, str) or (truncated is not None and not truncated[i]) else bootstrap[i]
        row = [0.0] * len(r)
        for k, (position, _) in enumerate(seen):
            ahead = seen[k:]
            tail = end
            if gaps == "cut":
                stop = next((n for n, (t, _) in enumerate(ahead) if not m[t]), None)
                ahead, tail = ahead[:stop], end if stop is None else 0.0
            if m[position]:
                total = [gamma**n * x for n, (_, x) in enumerate(ahead)]
                row[position] = math.fsum([*total, gamma ** len(ahead) * tail])
        out.append(row)
    return out

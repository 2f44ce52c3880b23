"""Definitions that several oracles share, written out."""

import math


def members(rewards, ids, valid, nan):
    """Rows that take part, group by group."""
    keep = [True] * len(rewards) if valid is None else [bool(v) for v in valid]
    for i, r in enumerate(rewards):
        if keep[i] and nan == "raise" and not math.isfinite(r):
            raise ValueError(f"{r} at {i}")
        keep[i] = keep[i] and not (nan == "omit" and math.isnan(r))
    return [[i for i in range(len(ids)) if ids[i] == g and keep[i]] for g in dict.fromkeys(ids)]


def mean(values):
    return math.fsum(values) / len(values)


def std(values, ddof):
    if len(set(values)) == 1:
        return 0.0
    m = mean(values)
    return math.sqrt(math.fsum((v - m) ** 2 for v in values) / (len(values) - ddof)) if len(values) > ddof else math.nan


def lone(x, singleton, denominator=lambda s: 1.0):
    """What the only member of a group gets, where ``denominator`` divides by the standard deviation 1 or |x|."""
    if singleton == "raise":
        raise ValueError("a group of one")
    if singleton == "abs" and x == 0:
        return 0.0
    return {"zero": 0.0, "nan": math.nan, "raw": x / denominator(1.0), "abs": x / denominator(abs(x) or 1.0)}[singleton]


def guard(s, eps, eps_place):
    if eps_place == "where_positive":
        return s + eps if s > 0 else 1.0
    return {"add": s + eps, "max": max(s, eps), "sqrt": math.sqrt(s * s + eps)}[eps_place]


def states(r, v, m, gaps, reward_on_gap):
    """The states that the recurrence of one row sees: (position, reward, value)."""
    r = list(r)
    if gaps == "ignore":
        return [(t, r[t], v[t]) for t in range(len(v))]
    for t in range(len(v)):
        if not m[t] and r[t] != 0:
            before = [s for s in range(t) if m[s]]
            if reward_on_gap == "raise" or (reward_on_gap == "previous" and not before):
                raise ValueError(f"a reward on the gap at {t}")
            if reward_on_gap == "previous":
                r[before[-1]] += r[t]
            r[t] = 0.0
    if gaps == "state":
        return [(t, r[t] if m[t] else 0.0, v[t] if m[t] else 0.0) for t in range(len(v))]
    assert gaps == "carry"
    return [(t, r[t], v[t]) for t in range(len(v)) if m[t]]


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

"""V-trace by its definition (Espeholt et al. 2018, equation 1), row by row."""

import math


def states(r, v, rho, m, gaps, reward_on_gap):
    """The states that the recurrence of one row sees: (position, reward, value, log ratio)."""
    r = list(r)
    if gaps == "ignore":
        return [(t, r[t], v[t], rho[t]) for t in range(len(v))]
    for t in range(len(v)):
        if not m[t] and r[t] != 0:
            before = [s for s in range(t) if m[s]]
            if reward_on_gap == "raise" or (reward_on_gap == "previous" and not before):
                raise ValueError(f"a reward on the gap at {t}")
            if reward_on_gap == "previous":
                r[before[-1]] += r[t]
            r[t] = 0.0
    if gaps == "state":
        return [(t, r[t], v[t], rho[t]) if m[t] else (t, 0.0, 0.0, 0.0) for t in range(len(v))]
    assert gaps == "carry"
    return [(t, r[t], v[t], rho[t]) for t in range(len(v)) if m[t]]


def vtrace(
    rewards,
    values,
    log_ratios,
    mask=None,
    *,
    gamma=1.0,
    lam=1.0,
    clip_rho=1.0,
    clip_c=1.0,
    clip_pg_rho=None,
    gaps="carry",
    reward_on_gap="raise",
    bootstrap="zero",
    truncated=None,
):
    """Advantages and returns (the targets v_s), lists of rows.

    v_s = V_s + sum_{t >= s} gamma^(t-s) (prod_{s <= i < t} c_i) rho_t (r_t + gamma V_{t+1} - V_t)
    A_s = min(clip_pg_rho, ratio_s) (r_s + gamma v_{s+1} - V_s)
    """
    mask = [[True] * len(v) for v in values] if mask is None else mask
    clip_pg_rho = clip_rho if clip_pg_rho is None else clip_pg_rho
    advantages, targets = [], []
    for i, (r, v, q, m) in enumerate(zip(rewards, values, log_ratios, mask, strict=True)):
        seen = states(r, v, q, m, gaps, reward_on_gap)
        tokens = [x for x, kept in zip(v, m, strict=True) if kept or gaps == "ignore"]
        end = bootstrap[i] if not isinstance(bootstrap, str) else tokens[-1] if bootstrap == "last" and tokens else 0.0
        if truncated is not None and not truncated[i]:
            end = 0.0
        of_row = lam[i] if hasattr(lam, "__len__") else lam
        ahead = [x for _, _, x, _ in seen] + [end]
        ratio = [math.exp(min(x, 700.0)) for _, _, _, x in seen]
        delta = [
            min(clip_rho, ratio[t]) * (reward + gamma * ahead[t + 1] - value)
            for t, (_, reward, value, _) in enumerate(seen)
        ]
        c = [of_row * min(clip_c, x) for x in ratio]
        target = [
            value + math.fsum(gamma ** (t - s) * math.prod(c[s:t]) * delta[t] for t in range(s, len(seen)))
            for s, (_, _, value, _) in enumerate(seen)
        ]
        target.append(end)
        row, ret = [0.0] * len(v), [0.0] * len(v)
        for s, (position, reward, value, _) in enumerate(seen):
            if m[position]:
                ret[position] = target[s]
                row[position] = min(clip_pg_rho, ratio[s]) * (reward + gamma * target[s + 1] - value)
        advantages.append(row)
        targets.append(ret)
    return advantages, targets

"""REINFORCE++ on lists of rows, written out."""

import math


def _whiten(values, weights, ddof, eps, eps_place):
    """Whitened values and nothing else; weights are counts."""
    count = sum(weights)
    if count == 0:
        return values
    mean = math.fsum(w * x for w, x in zip(weights, values, strict=True)) / count
    if len({x for w, x in zip(weights, values, strict=True) if w}) <= 1:
        return [0.0 for _ in values]
    std = math.nan
    if count > ddof:
        std = math.sqrt(math.fsum(w * (x - mean) ** 2 for w, x in zip(weights, values, strict=True)) / (count - ddof))
    divisor = {"sqrt": math.sqrt(std**2 + eps), "add": std + eps, "max": max(std, eps)}[eps_place]
    return [(x - mean) / (1.0 if math.isnan(divisor) else divisor) for x in values]


def reinforce_pp(rewards, masks, *, gamma=1.0, whiten=True, ddof=1, eps=1e-8, eps_place="sqrt"):
    """Rows of rewards and rows of marks; gaps are passed over."""
    out, flat = [], []
    for row, mask in zip(rewards, masks, strict=True):
        returns, carry = [0.0] * len(row), 0.0
        for t in reversed(range(len(row))):
            if mask[t]:
                carry = row[t] + gamma * carry
                returns[t] = carry
        out.append(returns)
        flat += [x for x, m in zip(returns, mask, strict=True) if m]
    if whiten and flat:
        done = iter(_whiten(flat, [1] * len(flat), ddof, eps, eps_place))
        out = [[next(done) if m else 0.0 for m in mask] for mask in masks]
    return out


def reinforce_pp_baseline(
    rewards,
    ids,
    *,
    lengths=None,
    whiten=True,
    ddof=1,
    eps=1e-8,
    eps_place="sqrt",
    raw=False,
    valid=None,
    nan="raise",
):
    """Rows that take part against the mean of those of their group; then all of them whitened together."""
    part = [i for i in range(len(ids)) if valid is None or valid[i]]
    if nan == "omit":
        part = [i for i in part if not math.isnan(rewards[i])]
    centred = {}
    for i in part:
        members = [rewards[j] for j in part if ids[j] == ids[i]]
        if any(map(math.isnan, members)):
            centred[i] = math.nan
        elif len(members) == 1:
            centred[i] = rewards[i] if raw else 0.0
        else:
            centred[i] = 0.0 if len(set(members)) == 1 else rewards[i] - math.fsum(members) / len(members)
    out = [0.0] * len(ids)
    done = [centred[i] for i in part]
    if whiten and any(map(math.isnan, done)):
        done = [math.nan] * len(done)
    elif whiten:
        done = _whiten(done, [1 if lengths is None else lengths[i] for i in part], ddof, eps, eps_place)
    for i, x in zip(part, done, strict=True):
        out[i] = x
    return out

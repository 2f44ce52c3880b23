"""The optimal token baseline on lists of rows, written out."""

import math


def optimal_token_baseline(
    rewards,
    ids,
    logprobs,
    squares,
    masks,
    *,
    weights=None,
    align="trained",
    zero_tail=True,
    eps=1e-8,
    singleton="zero",
):
    """All arguments but `ids` are lists of rows; the result is one too."""
    rows = []
    for i, mask in enumerate(masks):
        trained = [t for t, m in enumerate(mask) if m]
        g, w, carry, energy = {}, {}, 0.0, 0.0
        for k, t in reversed(list(enumerate(trained))):
            carry += rewards[i][t]
            g[k if align == "trained" else t] = carry
        for k, t in enumerate(trained):
            rho = 1.0 if weights is None else weights[i][t]
            energy += (1 - 2 * math.exp(logprobs[i][t]) + squares[i][t]) * rho**2
            w[k if align == "trained" else t] = energy
        rows.append((trained, g, w))
    out = [[0.0] * len(mask) for mask in masks]
    for i, (trained, g, _) in enumerate(rows):
        members = [j for j, h in enumerate(ids) if h == ids[i] and rows[j][0]]
        ends = sorted(max(rows[j][1], default=-1) + 1 for j in members)
        for k, t in enumerate(trained):
            place = k if align == "trained" else t
            alive = [j for j in members if place in rows[j][1]]
            total = sum(rows[j][2][place] for j in alive)
            values = {rows[j][1][place] for j in alive}
            if len(members) == 1:
                b = g[place] if singleton == "zero" else 0.0
            elif zero_tail and place >= ends[-2]:
                b = 0.0
            elif len(values) == 1 and total > 0:
                b = g[place]
            else:
                b = sum(rows[j][1][place] * rows[j][2][place] for j in alive) / (total + eps)
            out[i][t] = g[place] - b
    return out

"""Search scores, one node at a time."""

import math


def visits_above(parents, visits, v, how):
    if how == "parent":
        return visits[parents[v]]
    return sum(visits[s] for s, p in enumerate(parents) if p == parents[v])


def uct(parents, values, visits, *, c=2**0.5, form="ucb1", parent_visits="parent", unvisited=None):
    out = []
    for v, p in enumerate(parents):
        if p < 0:
            out.append(0.0)
            continue
        above, n = visits_above(parents, visits, v, parent_visits), visits[v]
        if n == 0 and (form == "ucb1" or unvisited is not None):
            out.append(math.inf if unvisited is None else unvisited)
        elif form == "ucb1":
            out.append(values[v] + c * math.sqrt(math.log(above) / n))
        else:
            out.append((values[v] + 1 + 1e-8) / 2 + c * math.sqrt(math.log(above + 1) / (n + 1e-10)))
    return out


def puct(parents, values, visits, priors, *, c=1.0, parent_visits="parent", unvisited_value=None):
    out = []
    for v, p in enumerate(parents):
        if p < 0:
            out.append(0.0)
            continue
        value = values[v] if visits[v] or unvisited_value is None else unvisited_value
        above = visits_above(parents, visits, v, parent_visits)
        out.append(value + c * priors[v] * math.sqrt(above) / (1 + visits[v]))
    return out


def frontier_score(
    parents, values, depth, *, entropies=None, value_weight=0.4, entropy_weight=0.0, depth_weight=0.01, max_depth=64
):
    out = []
    for v, p in enumerate(parents):
        score = 0.0
        if p >= 0:
            score = value_weight * math.tanh(values[p]) + depth_weight * math.sqrt(depth[v] / max_depth)
            score += entropy_weight * entropies[v] if entropies is not None else 0.0
        out.append(score)
    return out

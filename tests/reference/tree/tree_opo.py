"""Tree-OPO as its formulas say: prefixes walked up node by node, sets written out."""

import math

import active_sets
import numpy as np


def _above(parents, v):
    """Proper prefixes of ``v``."""
    found = []
    while parents[v] >= 0:
        v = parents[v]
        found.append(v)
    return found


def _groups(ids):
    return [[i for i in range(len(ids)) if ids[i] == g] for g in dict.fromkeys(ids)]


def _mean(values):
    return math.fsum(values) / len(values)


def tree_opo(parents, node, rewards, ids, baseline="expectation", alpha=0.5, success=0.5):
    out = [0.0] * len(rewards)
    for group in _groups(ids):
        for i in group:
            below = [rewards[k] for k in group if node[k] == node[i] or node[i] in _above(parents, node[k])]
            wins = [r >= success for r in below]
            value = {"expectation": _mean(below), "optimistic": any(wins), "pessimistic": all(wins), "none": 0}[
                baseline
            ]
            out[i] = rewards[i] - alpha * value
        center = _mean([out[i] for i in group])
        for i in group:
            out[i] -= center
    return out


def relations(parents, node, rewards, group, pairs=True, triplets="lower", own_success_clause=True, success=0.5):
    """``(i, j)``: ``i`` must stay below ``j``."""
    wins = {i: rewards[i] >= success for i in group}

    def reach(i):
        return any(wins[k] and node[i] in _above(parents, node[k]) for k in group)

    def own(i):
        return any(wins[k] and node[k] == node[i] for k in group)

    found = []
    for i in group:
        for j in group:
            if pairs and not wins[i] and wins[j] and node[i] in _above(parents, node[j]):
                found.append((i, j))
            siblings = node[i] != node[j] and parents[node[i]] == parents[node[j]] >= 0
            spoiled = own_success_clause and (own(i) or own(j))
            if siblings and not (wins[i] or wins[j] or spoiled) and reach(i) and not reach(j) and triplets != "none":
                found.append((i, j) if triplets == "lower" else (j, i))
    return found


def staged_advantage(parents, node, rewards, ids, form="soft", margin=0.01, **choices):
    out, status = np.zeros(len(rewards)), []
    for group in _groups(ids):
        place = {i: k for k, i in enumerate(group)}
        order = [(place[i], place[j]) for i, j in relations(parents, node, rewards, group, **choices)]
        center = _mean([rewards[i] for i in group])
        r0 = [rewards[i] - center for i in group]
        if max(map(abs, r0)) < 1e-15:
            r0 = [0.0] * len(r0)
        norm = "ball" if form == "soft" else "sphere"
        out[group], name = active_sets.project(r0, order, [margin] * len(order), norm)
        status.append(name)
    return out, status

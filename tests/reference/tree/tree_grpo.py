"""Tree-GRPO as its code goes: scores by prompt, scores by tree; and the difference mode, node by node."""

import math

from definitions import lone, mean, std


def z(x, ids, ddof, eps, singleton):
    out = []
    for value, group in zip(x, ids, strict=True):
        members = [v for v, g in zip(x, ids, strict=True) if g == group]
        if len(members) == 1:
            out.append(lone(value, singleton, lambda s: s + eps))
        elif min(members) == max(members):
            out.append(0.0)
        else:
            out.append((value - mean(members)) / (std(members, ddof) + eps))
    return out


def tree_grpo(rewards, prompts, trees, *, form="sum", ddof=1, eps=1e-6, singleton="raw"):
    """``prompts`` and ``trees``: one id a rollout."""
    r = [float(v) for v in rewards]
    if form == "inner":
        return z(r, trees, ddof, eps, singleton)
    over = z(r, prompts, ddof, eps, singleton)
    if form == "nested":
        return z(over, trees, ddof, eps, singleton)
    return [a + b for a, b in zip(over, z(r, trees, ddof, eps, singleton), strict=True)]


def tree_grpo_difference(parents, leaf_nodes, rewards, *, margin=0.1):
    reward = {v: float(r) for v, r in zip(leaf_nodes, rewards, strict=True)}

    def below(v):
        children = [c for c, p in enumerate(parents) if p == v]
        return [reward[v]] if not children else [r for c in children for r in below(c)]

    out = []
    for v, p in enumerate(parents):
        if p < 0:
            out.append(0.0)
            continue
        gain = mean(below(v)) - mean(below(p)) - margin
        out.append((max(gain, 0.0) + mean(below(v))) / math.sqrt(len(below(v))))
    return out

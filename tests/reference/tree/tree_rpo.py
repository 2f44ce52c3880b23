"""TreeRPO as its formula says, one node at a time."""

from definitions import lone, mean, std


def tree_rpo(parents, leaf_nodes, rewards, *, ddof=1, eps=1e-6, singleton="zero"):
    reward = {v: float(r) for v, r in zip(leaf_nodes, rewards, strict=True)}
    below = {v: [c for c, p in enumerate(parents) if p == v] for v in range(len(parents))}

    def value(v):
        return mean([value(c) for c in below[v]]) if below[v] else reward[v]

    out = []
    for v, p in enumerate(parents):
        family = [value(c) for c in below[p]] if p >= 0 else []
        if not family:
            out.append(0.0)
        elif len(family) == 1:
            out.append(lone(family[0], singleton, lambda s: s + eps))
        elif min(family) == max(family):
            out.append(0.0)
        else:
            out.append((value(v) - mean(family)) / (std(family, ddof) + eps))
    return out

"""Nodes to go on from, tree by tree."""

from draws import pcg, words
from forest import children, path


def expansion_nodes(parents, *, n, seed):
    below = children(parents)
    roots = [v for v, p in enumerate(parents) if p < 0]
    drawn = iter(words(pcg(seed), len(roots) * n))
    out = []
    for root in roots:
        inner = [v for v in range(len(parents)) if path(parents, v)[0] == root and (below[v] or v == root)]
        out.append([inner[(next(drawn) >> 11) * len(inner) >> 53] for _ in range(n)])
    return out

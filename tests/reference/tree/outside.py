"""Baselines of the rollouts beside a branch, found one by one."""

import math

from forest import children, path


def below(parents, v, leaf_nodes):
    return [i for i, leaf in enumerate(leaf_nodes) if v in path(parents, leaf)]


def mean_of_children(parents, leaf_nodes, rewards):
    kids = children(parents)
    at = dict(zip(leaf_nodes, rewards, strict=True))

    def value(v):
        return math.fsum(value(c) for c in kids[v]) / len(kids[v]) if kids[v] else float(at[v])

    return value


def outside_subtree(parents, leaf_nodes, rewards, groups=None, value="leaf_mean", climb="tree"):
    """``groups`` names the group of each root."""
    parents, leaf_nodes = [int(p) for p in parents], [int(v) for v in leaf_nodes]
    kids = children(parents)
    soft = mean_of_children(parents, leaf_nodes, rewards)
    roots = [v for v, p in enumerate(parents) if p < 0]
    out, undefined = [], 0
    for v in range(len(parents)):
        if parents[v] < 0:
            out.append(0.0)
            continue
        mine = below(parents, v, leaf_nodes)
        at, others = v, []
        while not others and parents[at] >= 0:
            above = parents[at]
            if value == "leaf_mean":
                others = [float(rewards[i]) for i in below(parents, above, leaf_nodes) if i not in mine]
            else:
                others = [soft(c) for c in kids[above] if c != at]
            at = above
            if climb == "none":
                break
        if not others and climb == "group":
            same = [r for r in roots if groups[roots.index(r)] == groups[roots.index(at)] and r != at]
            if value == "leaf_mean":
                others = [float(rewards[i]) for r in same for i in below(parents, r, leaf_nodes)]
            else:
                others = [soft(r) for r in same]
        if not others:
            undefined += 1
            out.append(0.0)
            continue
        own = math.fsum(float(rewards[i]) for i in mine) / len(mine) if value == "leaf_mean" else soft(v)
        out.append(own - math.fsum(others) / len(others))
    return out, undefined


def probe_only_fresh(parents, original):
    kids = children(parents)
    return [0.0 if o and parents[v] >= 0 and len(kids[parents[v]]) > 1 else 1.0 for v, o in enumerate(original)]

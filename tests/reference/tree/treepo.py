"""TreePO as its code goes: rollouts grouped depth by depth, and values read along each path."""

import math

from prompt_trees import leaves, path, prompt_trees


def results(ends, leaf_nodes, key):
    """One number a rollout, in the order of ``leaf_nodes``."""
    found = {leaf["rollout"] if leaf["id"] is None else leaf["id"]: leaf[key] for leaf in ends}
    return [found[v] for v in leaf_nodes]


def average(node):
    return math.fsum(leaf["reward"] for leaf in leaves(node)) / len(leaves(node))


def treepo(parents, leaf_nodes, rewards, groups, *, form="average", remove_no_std_subgroup=False, singleton="raw"):
    ends = []
    for prompt in prompt_trees(parents, leaf_nodes, rewards, groups):
        for leaf in leaves(prompt):
            r, terms = leaf["reward"], []
            for depth, group in enumerate([prompt, *path(leaf)]):
                members = [each["reward"] for each in leaves(group)]
                if depth == 0:
                    alone = {"raw": r, "zero": 0.0}[singleton]
                    terms.append((alone if len(members) == 1 else r - average(group), len(members)))
                elif len(members) > 1 and not (remove_no_std_subgroup and min(members) == max(members)):
                    terms.append((r - average(group), len(members)))
            weights = [n if form == "group_size" else 1 for _, n in terms]
            leaf["out"] = math.fsum(w * a for w, (a, _) in zip(weights, terms, strict=True)) / sum(weights)
            ends.append(leaf)
    return results(ends, leaf_nodes, "out")


def backed_up(node):
    """Mean of the children, all the way up."""
    for child in node["children"]:
        backed_up(child)
    if node["children"]:
        node["value"] = math.fsum(c["value"] for c in node["children"]) / len(node["children"])


def treepo_segment(parents, leaf_nodes, rewards, groups, *, eta=None):
    got = [[] for _ in parents]
    for prompt in prompt_trees(parents, leaf_nodes, rewards, groups):
        for leaf in leaves(prompt):
            # A tree of a root alone has no step of its own.
            steps = [prompt, *(step for step in path(leaf) if step["id"] is not None)]
            sizes = [len(leaves(step)) for step in steps]
            gains = [leaf["reward"] - average(step) for step in steps]
            leaf["value"] = math.fsum(n * a for n, a in zip(sizes, gains, strict=True)) / sum(sizes)
        backed_up(prompt)
        prompt["value"] = 0.0
        for leaf in leaves(prompt):
            steps = [step for step in path(leaf) if step["id"] is not None]
            for i, step in enumerate(steps, 1):
                k = len(steps) + 1 - i
                got[step["id"]].append(step["value"] - (1 if eta is None else eta**k) * step["parent"]["value"])
    return [math.fsum(x) / len(x) if x else 0.0 for x in got]


def treepo_spo(parents, leaf_nodes, rewards, *, ddof=0, eps=0.0, singleton="raw"):
    below = {v: [c for c, p in enumerate(parents) if p == v] for v in range(len(parents))}
    reward = {v: float(r) for v, r in zip(leaf_nodes, rewards, strict=True)}

    def value(v):
        return math.fsum(value(c) for c in below[v]) / len(below[v]) if below[v] else reward[v]

    def standing(v):
        if parents[v] < 0:
            return 0.0
        family = [value(c) for c in below[parents[v]]]
        m = math.fsum(family) / len(family)
        if len(family) == 1:
            return {"raw": value(v) / (1 + eps), "zero": 0.0}[singleton]
        if math.sqrt(math.fsum((x - m) ** 2 for x in family) / len(family)) <= 1e-8:
            return 0.0
        return (value(v) - m) / (math.sqrt(math.fsum((x - m) ** 2 for x in family) / (len(family) - ddof)) + eps)

    return [standing(v) - standing(p) if p >= 0 else 0.0 for v, p in enumerate(parents)]

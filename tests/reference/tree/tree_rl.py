"""TreeRL as its code goes: accumulate, shift, weigh, then read the values of a path, path by path."""

import math

from prompt_trees import inner, leaves, path, prompt_trees


def tree_rl(
    parents,
    leaf_nodes,
    rewards,
    groups,
    *,
    form="sum",
    global_term="difference",
    value="leaf_mean",
    sqrt="paper",
    shift="none",
    zero_fill=False,
    selected=None,
    lengths=None,
    singleton="zero",
):
    out = [0.0] * len(parents)
    chosen = {v: selected is None or bool(selected[i]) for i, v in enumerate(leaf_nodes)}
    for prompt in prompt_trees(parents, leaf_nodes, rewards, groups):
        ends = leaves(prompt)
        r = [leaf["reward"] for leaf in ends]
        for i, leaf in enumerate(ends):
            others = r[:i] + r[i + 1 :]
            if others:
                leaf["value"] = r[i] - math.fsum(others) / len(others)
            else:
                leaf["value"] = {"zero": 0.0, "raw": r[i]}[singleton]
        values(prompt, value)
        every = inner(prompt)
        if shift != "none":
            tokens = {id(n): 1 if shift == "step" else 0 if n["id"] is None else lengths[n["id"]] for n in every}
            if shift == "step":  # a tree of a root alone is the prompt itself, which counts once
                tokens |= {id(n): 0 for n in every if n["id"] is None and n is not prompt}
            weights = [len(leaves(n)) * tokens[id(n)] for n in every]
            total = math.fsum(weights)
            mean = math.fsum(w * n["value"] for w, n in zip(weights, every, strict=True)) / total if total else 0.0
            for n in every:
                n["value"] -= mean
        for n in every:
            n["trained"] = sum(chosen[leaf["rollout"] if leaf["id"] is None else leaf["id"]] for leaf in leaves(n))
            if sqrt == "code" and n["trained"]:
                n["value"] /= math.sqrt(n["trained"])
        for leaf in ends:
            if not chosen[leaf["rollout"] if leaf["id"] is None else leaf["id"]]:
                continue
            steps, local = path(leaf), []
            for step in steps:
                local.append(step["value"] - step["parent"]["value"])
                if zero_fill and len(local) > 1 and abs(local[-1]) < 1e-8:
                    local[-1] = local[-2]
            for i, step in enumerate(steps):
                if step["id"] is None:
                    continue
                extra = step["value"] - (prompt["value"] if global_term == "difference" else 0.0)
                above = [prompt, *steps[:i]]
                result = {
                    "sum": local[i] + extra,
                    "local": local[i],
                    "global": extra,
                    "ancestors": math.fsum(step["value"] - a["value"] for a in above) / len(above),
                }[form]
                out[step["id"]] = result / math.sqrt(step["trained"]) if sqrt == "paper" else result
    return out


def values(node, how):
    if node["children"]:
        for child in node["children"]:
            values(child, how)
        below = node["children"] if how == "mean_of_children" else leaves(node)
        node["value"] = math.fsum(n["value"] for n in below) / len(below)

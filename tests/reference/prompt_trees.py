"""Trees of the same prompt hung below one node for it, as nested dicts: what the oracles of tree methods walk."""


def prompt_trees(parents, leaf_nodes, rewards, groups):
    """One root a prompt. ``groups`` has one id a tree, in the order of the roots' ids.

    A tree of a root alone becomes a leaf below the prompt, with no id of its own.
    """
    nodes = [{"id": v, "children": [], "parent": None, "reward": None} for v in range(len(parents))]
    for leaf, r in zip(leaf_nodes, rewards, strict=True):
        nodes[leaf]["reward"] = float(r)
    prompts, roots = {}, [v for v, p in enumerate(parents) if p < 0]
    for v, group in zip(roots, groups, strict=True):
        prompt = prompts.setdefault(group, {"id": None, "children": [], "parent": None, "reward": None})
        if nodes[v]["reward"] is not None:
            lone = {**nodes[v], "id": None, "parent": prompt, "rollout": v}
            prompt["children"].append(lone)
        nodes[v] = prompt
    for v, p in enumerate(parents):
        if p >= 0:
            nodes[v]["parent"] = nodes[p]
            nodes[p]["children"].append(nodes[v])
    return list(prompts.values())


def leaves(node):
    return [node] if not node["children"] else [leaf for child in node["children"] for leaf in leaves(child)]


def inner(node):
    """The node and all below it."""
    return [node] + [below for child in node["children"] for below in inner(child)]


def path(node):
    """From below the prompt down to the node."""
    nodes = []
    while node["parent"] is not None:
        nodes.append(node)
        node = node["parent"]
    return nodes[::-1]

"""Forests for the tree methods, what the methods are on them, and the methods without rollmath.

All take parents before children.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from bench.alternatives import njit

EPS = 1e-6


class Planted(NamedTuple):
    parents: np.ndarray
    groups: np.ndarray  # prompt of each tree: two trees a prompt
    leaves: np.ndarray
    rewards: np.ndarray
    prompt: np.ndarray  # of each leaf
    tree: np.ndarray  # of each leaf
    expected: dict[str, np.ndarray]


@lru_cache(maxsize=2)
def planted(shape: str, nodes: int) -> Planted:
    """About ``nodes`` nodes in trees of 6-6-6 (``balanced``), or in random trees of 30 to 600 (``mixed``): bushy, deep
    and in between."""
    rng = np.random.default_rng(0)
    count = nodes // (259 if shape == "balanced" else 315)
    sizes = np.full(count, 259) if shape == "balanced" else rng.integers(30, 600, count)
    starts = np.cumsum(sizes) - sizes
    start, size = np.repeat(starts, sizes), int(sizes.sum())
    place, u = np.arange(size) - start, rng.random(size)
    if shape == "balanced":
        above = (place - 1) // 6
    else:
        kind = np.repeat(np.arange(len(sizes)) % 3, sizes)
        reach = np.select([kind == 0, kind == 1], [place, np.minimum(place, 8)], np.minimum(place, 3))
        above = np.where(kind == 2, place - 1 - (u * reach).astype(int), (u * reach).astype(int))
    parents = np.where(place == 0, -1, start + above)
    leaf = np.bincount(parents[parents >= 0], minlength=size) == 0
    leaves, trees = np.flatnonzero(leaf), np.repeat(np.arange(len(sizes)), sizes)
    groups = np.arange(len(sizes)) // 2
    rewards = rng.random(len(leaves))
    tree = trees[leaves]
    made = Planted(parents, groups, leaves, rewards, groups[tree], tree, {})
    made.expected.update(_expected(made))
    return made


def _levels(parents: np.ndarray) -> list[np.ndarray]:
    depth, walking = np.zeros(len(parents), int), np.flatnonzero(parents >= 0)
    at = parents[walking]
    while len(walking):
        depth[walking] += 1
        on = parents[at] >= 0
        walking, at = walking[on], parents[at[on]]
    order = np.argsort(depth, kind="stable")
    return np.split(order, np.cumsum(np.bincount(depth))[:-1])


def _expected(x: Planted) -> dict[str, np.ndarray]:
    """Level by level, with NumPy."""
    levels, n = _levels(x.parents), len(x.parents)

    def up(values: np.ndarray) -> np.ndarray:
        total = np.zeros(n)
        total[x.leaves] = values
        for level in levels[:0:-1]:
            np.add.at(total, x.parents[level], total[level])
        return total

    def z(ids: np.ndarray) -> np.ndarray:
        k = np.bincount(ids)
        mean = np.bincount(ids, x.rewards) / k
        centred = x.rewards - mean[ids]
        return centred / (np.sqrt(np.bincount(ids, centred**2) / (k - 1))[ids] + EPS)

    k = np.bincount(x.prompt)[x.prompt]
    over = x.rewards - (np.bincount(x.prompt, x.rewards)[x.prompt] / k)
    counts, inner, root = up(np.ones(len(x.leaves))), x.parents >= 0, x.parents < 0
    value = up(over) / counts
    scaled = np.where(root, 0, up(over * k / (k - 1)) / counts)
    above = np.where(inner, scaled[x.parents], 0)

    use = inner & (counts > 1)
    paths = np.stack([np.where(use, value, 0), use.astype(float)])
    for level in levels[1:]:
        paths[:, level] += paths[:, x.parents[level]]

    children = np.bincount(x.parents[inner], minlength=n)
    mean = np.zeros(n)
    mean[x.leaves] = x.rewards
    for level in reversed(levels):
        branches = level[children[level] > 0]
        mean[branches] /= children[branches]
        below = level[x.parents[level] >= 0]
        np.add.at(mean, x.parents[below], mean[below])
    return {
        "tree_rl": np.where(inner, (2 * scaled - above) / np.sqrt(counts), 0),
        "tree_grpo": z(x.prompt) + z(x.tree),
        "treepo": over - paths[0, x.leaves] / (1 + paths[1, x.leaves]),
        "spo": np.where(inner, mean - mean[x.parents], 0),
    }


# numba.


@njit()
def _z_numba(x, ids, groups):
    total, n, square = np.zeros(groups), np.zeros(groups), np.zeros(groups)
    for i in range(len(x)):
        total[ids[i]] += x[i]
        n[ids[i]] += 1
    for i in range(len(x)):
        d = x[i] - total[ids[i]] / n[ids[i]]
        square[ids[i]] += d * d
    for g in range(groups):
        total[g] /= n[g]
        square[g] = np.sqrt(square[g] / (n[g] - 1)) + 1e-6
    out = np.empty(len(x))
    for i in range(len(x)):
        out[i] = (x[i] - total[ids[i]]) / square[ids[i]]
    return out


@njit()
def tree_grpo_numba(x, prompt, tree, prompts, trees):
    return _z_numba(x, prompt, prompts) + _z_numba(x, tree, trees)


@njit()
def _over_prompt(parents, leaves, x, prompt, prompts, loo):
    """Sums of the rewards less their prompt's mean (or the mean of the others), and counts, of the leaves below."""
    mean, k = np.zeros(prompts), np.zeros(prompts)
    for i in range(len(x)):
        mean[prompt[i]] += x[i]
        k[prompt[i]] += 1
    total, n = np.zeros(len(parents)), np.zeros(len(parents))
    for i in range(len(x)):
        g = prompt[i]
        total[leaves[i]] = (x[i] - mean[g] / k[g]) * (k[g] / (k[g] - 1) if loo else 1.0)
        n[leaves[i]] = 1
    for v in range(len(parents) - 1, -1, -1):
        p = parents[v]
        if p >= 0:
            total[p] += total[v]
            n[p] += n[v]
    return total, n


@njit()
def tree_rl_numba(parents, leaves, x, prompt, prompts):
    total, n = _over_prompt(parents, leaves, x, prompt, prompts, True)
    out = np.zeros(len(parents))
    for v in range(len(parents)):
        p = parents[v]
        if p >= 0:
            above = total[p] / n[p] if parents[p] >= 0 else 0.0
            out[v] = (2 * total[v] / n[v] - above) / np.sqrt(n[v])
    return out


@njit()
def treepo_numba(parents, leaves, x, prompt, prompts):
    total, n = _over_prompt(parents, leaves, x, prompt, prompts, False)
    over = total[leaves]
    value, groups = np.zeros(len(parents)), np.ones(len(parents))
    for v in range(len(parents)):
        p = parents[v]
        if p >= 0:
            value[v], groups[v] = value[p], groups[p]
            if n[v] > 1:
                value[v] += total[v] / n[v]
                groups[v] += 1
    return over - value[leaves] / groups[leaves]


# Plain Python over nested dicts, as trainers hold their trees.


def nested(x: Planted) -> list[list[dict[str, Any]]]:
    """The trees of each prompt; ``id`` says where a node's result goes, ``leaf`` where a rollout's does."""
    nodes: list[dict[str, Any]] = [{"id": i, "children": []} for i in range(len(x.parents))]
    prompts: list[list[dict[str, Any]]] = [[] for _ in range(int(x.groups.max()) + 1)]
    trees = iter(x.groups.tolist())
    for node, parent in zip(nodes, x.parents.tolist(), strict=True):
        (nodes[parent]["children"] if parent >= 0 else prompts[next(trees)]).append(node)
    for i, (leaf, reward) in enumerate(zip(x.leaves.tolist(), x.rewards.tolist(), strict=True)):
        nodes[leaf] |= {"reward": reward, "leaf": i}
    return prompts


def _leaves(node: dict[str, Any], out: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if not node["children"]:
        out.append(node)
    for child in node["children"]:
        _leaves(child, out)
    return out


def _sum(node: dict[str, Any]) -> None:
    node["total"], node["n"] = node.get("over", 0.0), int("over" in node)
    for child in node["children"]:
        _sum(child)
        node["total"] += child["total"]
        node["n"] += child["n"]


def tree_rl_recursion(prompts: list[list[dict[str, Any]]], size: int) -> np.ndarray:
    out = [0.0] * size

    def advantage(node: dict[str, Any], value: float) -> None:
        for child in node["children"]:
            mine = child["total"] / child["n"]
            out[child["id"]] = (mine + mine - value) / child["n"] ** 0.5
            advantage(child, mine)

    for trees in prompts:
        ends = [leaf for tree in trees for leaf in _leaves(tree, [])]
        total = sum(leaf["reward"] for leaf in ends)
        for leaf in ends:
            leaf["over"] = leaf["reward"] - (total - leaf["reward"]) / (len(ends) - 1)
        for tree in trees:
            _sum(tree)
            advantage(tree, 0.0)
    return np.array(out)


def treepo_recursion(prompts: list[list[dict[str, Any]]], size: int) -> np.ndarray:
    out = [0.0] * size

    def advantage(node: dict[str, Any], value: float, groups: int) -> None:
        if not node["children"]:
            out[node["leaf"]] = node["over"] - value / groups
        for child in node["children"]:
            if child["n"] > 1:
                advantage(child, value + child["total"] / child["n"], groups + 1)
            else:
                advantage(child, value, groups)

    for trees in prompts:
        ends = [leaf for tree in trees for leaf in _leaves(tree, [])]
        mean = sum(leaf["reward"] for leaf in ends) / len(ends)
        for leaf in ends:
            leaf["over"] = leaf["reward"] - mean
        for tree in trees:
            _sum(tree)
            advantage(tree, 0.0, 1)
    return np.array(out)


def _z_lists(x: list[float]) -> list[float]:
    mean = sum(x) / len(x)
    std = (sum((r - mean) ** 2 for r in x) / (len(x) - 1)) ** 0.5
    return [(r - mean) / (std + EPS) for r in x]


def tree_grpo_recursion(prompts: list[list[dict[str, Any]]], size: int) -> np.ndarray:
    out = [0.0] * size
    for trees in prompts:
        ends = [_leaves(tree, []) for tree in trees]
        for of in [[leaf for tree in ends for leaf in tree], *ends]:
            for leaf, z in zip(of, _z_lists([leaf["reward"] for leaf in of]), strict=True):
                out[leaf["leaf"]] += z
    return np.array(out)


def recursion(method: str, x: Planted) -> Callable[[], np.ndarray]:
    """The call to time; the nested dicts are given."""
    prompts = nested(x)
    size = len(x.parents) if method == "tree_rl" else len(x.leaves)
    run = {"tree_rl": tree_rl_recursion, "tree_grpo": tree_grpo_recursion, "treepo": treepo_recursion}[method]
    return lambda: run(prompts, size)


# One deep tree, where a walk that starts anew at every node is quadratic.


def comb(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """A path of ``steps`` nodes with one leaf beside each of its steps, and rewards."""
    spine = np.arange(steps) * 2
    parents = np.full(2 * steps, -1)
    parents[spine[1:]] = spine[:-1]
    parents[spine + 1] = spine
    return parents, np.random.default_rng(0).random(steps)


def walk_again(parents: np.ndarray, rewards: np.ndarray) -> Callable[[], np.ndarray]:
    """Tree-GRPO's difference mode as its code walks: all nodes below are listed again for every node."""
    nodes: list[dict[str, Any]] = [{"children": [], "parent": None, "reward": None} for _ in parents]
    for node, parent in zip(nodes, parents.tolist(), strict=True):
        if parent >= 0:
            node["parent"] = nodes[parent]
            nodes[parent]["children"].append(node)
    leaves = [node for node in nodes if not node["children"]]
    for leaf, reward in zip(leaves, rewards.tolist(), strict=True):
        leaf["reward"] = reward

    def below(node: dict[str, Any]) -> list[float]:
        if not node["children"]:
            return [node["reward"]]
        found, waiting = [], list(node["children"])
        while waiting:
            each = waiting.pop()
            if each["children"]:
                waiting.extend(each["children"])
            else:
                found.append(each["reward"])
        return found

    def run() -> np.ndarray:
        out = []
        for node in nodes:
            if node["parent"] is None:
                out.append(0.0)
                continue
            mine, above = below(node), below(node["parent"])
            mean = sum(mine) / len(mine)
            gain = max(mean - sum(above) / len(above) - 0.1, 0.0)
            out.append((gain + mean) / len(mine) ** 0.5)
        return np.array(out)

    return run

"""What every function of a forest and one number a rollout or node promises: kinds, dtypes, strides, messages."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import rollmath as rm
from rollmath import Forest, tree

PARENTS = [-1, 0, 0, 0, 1, 1, 2, 2, 2, -1]
#: Function of (forest, x) by name, and what it calls x.
REWARDS = {
    name: getattr(tree, name)
    for name in (
        "arpo_hard",
        "deep_search",
        "deep_search_values",
        "prover_advantage",
        "qlass",
        "soft_values",
        "spo",
        "spo_pav",
        "tree_grpo",
        "tree_grpo_difference",
        "tree_rl",
        "tree_rpo",
        "treepo",
        "treepo_segment",
        "treepo_spo",
    )
}
REWARDS["outside_subtree"] = lambda f, r: tree.outside_subtree(f, r).advantages
REWARDS["credit"] = lambda f, r: tree.credit(f, r, "spo").advantages
NODES = {
    "uct": lambda f, x: tree.uct(f, x, f.leaf_counts),
    "puct": lambda f, x: tree.puct(f, x, f.leaf_counts, np.full(f.n_nodes, 0.5)),
    "regularized_policy": lambda f, x: tree.regularized_policy(f, x, f.leaf_counts, np.full(f.n_nodes, 0.5)),
    "frontier_score": tree.frontier_score,
}
CALLS = [(name, "rewards", call) for name, call in REWARDS.items()]
CALLS += [(name, "values", call) for name, call in NODES.items()]
calls = pytest.mark.parametrize(("name", "what", "call"), CALLS, ids=[c[0] for c in CALLS])
FOREST = Forest.from_parents(PARENTS)


def numbers(forest, what):
    n = forest.n_leaves if what == "rewards" else forest.n_nodes
    return (np.arange(n) % 3 == 1).astype(np.float64)


def test_every_such_method_is_here():
    forests = {
        name
        for name in tree.__all__
        if inspect.isfunction(getattr(tree, name))
        and list(inspect.signature(getattr(tree, name)).parameters)[:2] in (["forest", "rewards"], ["forest", "values"])
    }
    assert forests == {name for name, _, _ in CALLS}


@calls
def test_kinds_and_dtypes(name, what, call):
    x = numbers(FOREST, what)
    base = call(FOREST, x)
    assert isinstance(base, np.ndarray)
    assert base.dtype == np.float64
    assert len(base) in {FOREST.n_nodes, FOREST.n_leaves}
    for same in (x.tolist(), x.astype(int), x.astype(bool), np.repeat(x, 2)[::2], x[::-1].copy()[::-1]):
        assert call(FOREST, same).tobytes() == base.tobytes()
    for dtype in (np.float32, np.float16):
        got = call(FOREST, x.astype(dtype))
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, base, rtol=1e-6, atol=1e-6)
    x.setflags(write=False)
    assert call(FOREST, x).tobytes() == base.tobytes()

    torch = pytest.importorskip("torch")
    for dtype, wide in ((torch.float64, 1), (torch.float32, 0), (torch.bfloat16, 0), (torch.int64, 0)):
        got = call(FOREST, torch.from_numpy(x.copy()).to(dtype))
        assert got.dtype == (torch.float64 if wide else torch.float32)
        np.testing.assert_allclose(got.numpy(), base, rtol=1e-6, atol=1e-6)


@calls
def test_no_nodes_and_lone_roots(name, what, call):
    empty = Forest.from_parents([])
    assert call(empty, []).shape == (0,)
    roots = Forest.from_parents([-1, -1])
    assert call(roots, [0.5, 0.25]).shape == (2,)


@calls
def test_no_value_is_lost_silently(name, what, call):
    """NaN and infinity where they are used; the last leaf is used by all that takes rewards, node 0 by no score."""
    x = numbers(FOREST, what)
    for bad in (np.nan, np.inf, -np.inf):
        x[4 if what == "rewards" else FOREST.roots[0] + 1] = bad
        with pytest.raises(ValueError, match=rf"{name}\(\): '{what}' must be (finite|in \[0, 1\]).*, got {bad:g} at "):
            call(FOREST, x)


@calls
def test_messages(name, what, call):
    n = len(numbers(FOREST, what))
    who = rf"{name}\(\): '{what}' "
    of = "n_leaves" if what == "rewards" else "n_nodes"
    for bad, error, message in (
        (np.zeros(n + 1), ValueError, rf"must have length {n} \(= forest.{of}\), got {n + 1}"),
        (np.zeros((n, 1)), TypeError, "must be 1-D"),
        (1.0, TypeError, "must be 1-D"),
        (["a"] * n, TypeError, "must hold floats, ints or bools"),
        (np.zeros(n, complex), TypeError, "must hold floats, ints or bools"),
        (None, TypeError, "must be an array of numbers"),
    ):
        with pytest.raises(error, match=who + message):
            call(FOREST, bad)
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match=who + "requires grad"):
        call(FOREST, torch.zeros(n, requires_grad=True))


@pytest.mark.parametrize("name", [name for name, _, _ in CALLS])
def test_no_forest(name):
    function = getattr(tree, name)
    more = {"uct": 1, "puct": 2, "regularized_policy": 2, "credit": 1}.get(name, 0)
    for bad in (None, PARENTS, rm.Groups([0])):
        with pytest.raises(TypeError, match=rf"{name}\(\): 'forest' must be a rollmath.Forest"):
            function(bad, [1.0], *[[1.0]] * more)

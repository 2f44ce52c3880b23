"""What every function of a forest promises: kinds, dtypes, errors, and the same bits for any threads and numbering."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest

import rollmath as rm
from rollmath import Forest, ops, tree


class Row(NamedTuple):
    """A call of a forest and one number a rollout or a node, and what there is to know about it.

    ``nan``: such a number ``"raises"``, ``"spreads"`` into the result, or ``"counts"`` as an ordinary input.
    """

    call: Any
    argument: str = "rewards"
    level: str = "rollout"
    nan: str = "raises"


def of_nodes(call, argument="values", **keywords):
    return Row(call, argument, "node", **keywords)


UP = {"leaf_mean": {}, "mean_of_children": {}, "max": {}, "sum": {}, "leaf_logmeanexp": {"beta": 0.5}}
STAT = {"mean": {}, "std": {}, "quantile": {"q": 0.3}, "top_mean": {"k": 2}}
ROWS = {
    "arpo_hard": Row(tree.arpo_hard),
    **{f"credit {name}": Row(lambda f, x, name=name: tree.credit(f, x, name)) for name in tree.PRESETS},
    "deep_search": Row(tree.deep_search),
    "deep_search_values": Row(tree.deep_search_values),
    "outside_subtree": Row(tree.outside_subtree),
    "outside_subtree group": Row(partial(tree.outside_subtree, climb="group")),
    "outside_subtree children": Row(partial(tree.outside_subtree, value="mean_of_children")),
    "prover_advantage": Row(tree.prover_advantage),
    "qlass": Row(tree.qlass),
    "qlass min_max": Row(partial(tree.qlass, scale="min_max")),
    "soft_values": Row(tree.soft_values),
    "soft_values children": Row(partial(tree.soft_values, over="children")),
    "spo": Row(tree.spo),
    "spo normalized": Row(partial(tree.spo, edge="normalized", leave_one_out=True)),
    "spo_pav": Row(tree.spo_pav),
    "tree_grpo": Row(tree.tree_grpo),
    "tree_grpo_difference": Row(tree.tree_grpo_difference),
    "tree_rl": Row(tree.tree_rl),
    "tree_rl code": Row(partial(tree.tree_rl, sqrt="code", zero_fill=True, shift="step")),
    "tree_rpo": Row(tree.tree_rpo),
    "treepo": Row(partial(tree.treepo, remove_no_std_subgroup=True)),
    "treepo_segment": Row(partial(tree.treepo_segment, eta=0.9)),
    "treepo_spo": Row(tree.treepo_spo),
    "frontier_score": of_nodes(tree.frontier_score),
    "nonzero_edges": of_nodes(tree.nonzero_edges, "advantages", nan="counts"),
    "puct": of_nodes(lambda f, x: tree.puct(f, x, f.leaf_counts, np.full(f.n_nodes, 0.5))),
    "regularized_policy": of_nodes(
        lambda f, x: tree.regularized_policy(f, x, f.leaf_counts, np.full(f.n_nodes, 0.5)),
    ),
    "uct": of_nodes(lambda f, x: tree.uct(f, x, f.leaf_counts)),
    "uct siblings": of_nodes(lambda f, x: tree.uct(f, x, f.leaf_counts, parent_visits="siblings")),
    "backup": of_nodes(partial(ops.backup, gamma=0.9), "x", nan="spreads"),
    "leaf_to_node_weights": Row(
        lambda f, x: ops.leaf_to_node_weights(f, np.ones(f.n_leaves), x), "advantages", nan="spreads"
    ),
    "parent": of_nodes(ops.parent, "x", nan="spreads"),
    "root": of_nodes(ops.root, "x", nan="spreads"),
    **{f"down {how}": of_nodes(partial(ops.down, how=how), "x", nan="spreads") for how in ("sum", "mean", "max")},
    "down last": of_nodes(partial(ops.down, how="last"), "x", nan="counts"),
    **{
        f"leaf_stat {how}": Row(partial(ops.leaf_stat, how=how, **more), "leaf_values", nan="spreads")
        for how, more in STAT.items()
    },
    **{f"up {how}": Row(partial(ops.up, how=how, **more), "leaf_values", nan="spreads") for how, more in UP.items()},
    "up any": Row(partial(ops.up, how="any"), "leaf_values"),
}
#: Without one float a rollout or node; in files of their own.
OTHERS = {"expansion_nodes", "probe_only_fresh", "staged_advantage", "tree_opo"}
#: All public functions whose first argument is a forest.
FUNCTIONS = {
    name: made
    for package in (tree, ops)
    for name in package.__all__
    if callable(made := getattr(package, name)) and next(iter(inspect.signature(made).parameters), "") == "forest"
}
rows = pytest.mark.parametrize("name", ROWS)
#: Two trees of one prompt, and one alone.
FOREST = Forest.from_parents([-1, 0, 0, 1, 1, -1, 5, 5, 5, -1, 9, 9], groups=["q", "q", "p"])


def count(forest, name):
    return forest.n_leaves if ROWS[name].level == "rollout" else forest.n_nodes


def who(name):
    return rf"^{name.split()[0]}\(\): '{ROWS[name].argument}' "


def columns(out):
    """The arrays of a result."""
    return [x for x in out if hasattr(x, "dtype")] if isinstance(out, tuple) else [out]


def numbers(name, seed=0):
    """0, 1/2 and 1, which every float type has."""
    return np.random.default_rng(seed).choice([0.0, 0.5, 1.0], count(FOREST, name))


def test_every_function_of_a_forest_has_a_row():
    assert {name.split()[0] for name in ROWS} | OTHERS == set(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_no_forest(name):
    needed = [p for p in inspect.signature(FUNCTIONS[name]).parameters.values() if p.default is p.empty][1:]
    arrays = [[0.0] for p in needed if p.kind is p.POSITIONAL_OR_KEYWORD]
    options = {p.name: 1 for p in needed if p.kind is p.KEYWORD_ONLY}
    for bad, what in [(np.array([-1, 0]), "a 1-D int64 array"), ([-1, 0], "an object of type list"), (None, "an obj")]:
        with pytest.raises(
            TypeError, match=rf"^{name}\(\): 'forest' must be a rollmath.Forest, got {what}.*; make one"
        ):
            FUNCTIONS[name](bad, *arrays, **options)


@rows
def test_the_kind_and_float_type_that_came_in_come_out(name, tolerance):
    torch = pytest.importorskip("torch")
    x, call = numbers(name), ROWS[name].call
    expected = columns(call(FOREST, x))
    wide = np.asfortranarray(np.stack([x, x + 1]).T)
    still = x.copy()
    still.setflags(write=False)
    whole = (x == 1).astype(np.int64)
    of_whole = columns(call(FOREST, whole.astype(np.float64)))
    f4, f8 = np.float32, np.float64
    for given, dtype, numbers_of in [
        (still, f8, expected),
        (x.tolist(), f8, expected),
        (wide[:, 0], f8, expected),
        (np.repeat(x, 2)[::2], f8, expected),
        (x.astype(">f8"), f8, expected),
        (x.astype(np.float32), f4, expected),
        (x.astype(np.float16), f4, expected),
        (whole, f8, of_whole),
        (whole == 1, f8, of_whole),
        (torch.tensor(x), torch.float64, expected),
        (torch.tensor(x).float(), torch.float32, expected),
        (torch.tensor(np.repeat(x, 2)).to(torch.bfloat16)[::2], torch.float32, expected),
        (torch.tensor(whole), torch.float32, of_whole),
    ]:
        for got, right in zip(columns(call(FOREST, given)), numbers_of, strict=True):
            assert isinstance(got, torch.Tensor if isinstance(given, torch.Tensor) else np.ndarray)
            if right.dtype.kind == "f":
                assert got.dtype == dtype
                small = dtype in (f4, torch.float32)
                np.testing.assert_allclose(np.asarray(got), right, **tolerance("float32" if small else "float64"))
            else:
                assert np.array_equal(np.asarray(got), right)


@rows
def test_wrong_calls(name):
    torch = pytest.importorskip("torch")
    x, call, text = numbers(name), ROWS[name].call, who(name)
    n, what = len(x), "forest.n_leaves" if ROWS[name].level == "rollout" else "forest.n_nodes"
    for length in (0, n - 1, FOREST.n_trees):
        with pytest.raises(ValueError, match=rf"{text}must have length {n} \(= {what}\), got {length}"):
            call(FOREST, np.zeros(length))
    for bad, message in [
        (x[None], "must be 1-D, got a 2-D float64 array"),
        (0.5, "must be 1-D, got a 0-D float64 array"),
        (["a"] * n, "must hold floats, ints or bools, got <U1"),
        (x.astype(complex), "must hold floats, ints or bools, got complex128"),
        (None, "must be an array of numbers, got an object of type NoneType"),
        (np.ma.array(x, mask=x > 0), "is a masked array"),
    ]:
        with pytest.raises(TypeError, match=text + message):
            call(FOREST, bad)
    with pytest.raises(ValueError, match=text + r"requires grad, but .*; call .detach\(\)"):
        call(FOREST, torch.tensor(x, requires_grad=True))


@rows
def test_no_value_is_lost_silently(name):
    x, call, nan = numbers(name), ROWS[name].call, ROWS[name].nan
    if nan == "raises":
        for bad in (np.nan,) if name == "up any" else (np.nan, np.inf, -np.inf):
            x[1] = bad
            with pytest.raises(ValueError, match=rf"(?i){who(name)}must .*, got {bad} at (index|node) 1"):
                call(FOREST, x)
        return
    x[0 if nan == "spreads" else 1] = np.nan
    out = columns(call(FOREST, x))
    assert any(np.isnan(column).any() for column in out) == (nan == "spreads")


@rows
@pytest.mark.filterwarnings("error")
def test_forests_of_nothing_and_of_one_node(name):
    call = ROWS[name].call
    for parents in ([], [-1], [-1, -1], [-1, 0, 1]):
        forest = Forest.from_parents(parents)
        lengths = {len(column) for column in columns(call(forest, np.ones(count(forest, name))))}
        assert lengths <= {forest.n_leaves, forest.n_nodes}


@pytest.fixture(scope="module")
def large():
    """A forest of three trees a prompt with its nodes numbered as they grew, the same with any numbering, and where
    each node went. Past the size from which calls run in parallel, in nodes and in rollouts."""
    rng, n, size = np.random.default_rng(0), 120_000, 300
    place = np.arange(n) % size
    bushy, deep = (rng.random(n) ** 4 * place).astype(int), np.maximum(place - rng.integers(1, 9, n), 0)
    above = np.arange(n) - place + np.where(np.arange(n) // size % 4, bushy, deep)
    parents = np.where(place, above, -1)
    forest = Forest.from_parents(parents, groups=np.arange(n // size) // 3)
    assert forest.n_leaves > 65_536
    to = rng.permutation(n)
    turned = np.empty_like(to)
    turned[to] = np.where(parents < 0, -1, to[parents])
    other = Forest.from_parents(turned, groups=forest.groups.index[np.argsort(to[forest.roots])])
    return forest, other, to


@rows
def test_threads_and_numbering_change_no_bit(same_bits, large, name):
    forest, other, to = large
    call, level = ROWS[name].call, ROWS[name].level
    by_node = np.random.default_rng(1).random(forest.n_nodes)
    by_node[::3] = 1.0
    turned = np.empty_like(by_node)
    turned[to] = by_node
    x, y = (by_node[forest.leaves], turned[other.leaves]) if level == "rollout" else (by_node, turned)
    x.setflags(write=False)  # no function writes into its input
    before = rm.num_threads()
    try:
        rm.set_num_threads(1)
        expected = columns(call(forest, x))
        for threads in (2, 3):
            rm.set_num_threads(threads)
            for got, right in zip(columns(call(forest, x)), expected, strict=True):
                same_bits(got, right)
        again = columns(call(other, y))
    finally:
        rm.set_num_threads(before)
    for got, right in zip(again, expected, strict=True):
        if len(right) == forest.n_nodes:
            same_bits(got[to], right)
        else:
            at = np.zeros(forest.n_nodes, right.dtype)
            at[other.leaves] = got
            same_bits(at[to[forest.leaves]], right)

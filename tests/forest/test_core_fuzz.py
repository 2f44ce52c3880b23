"""The compiled forest, called as the Python layer never would: an exception, and never a panic or an abort."""

from __future__ import annotations

import contextlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rollmath import _core

SMALL = st.integers(-2, 6)
# Around the ends of int64, and sizes that no address space holds; what a machine may have would be taken from it.
WILD = st.one_of(SMALL, st.sampled_from([2**50, 2**60, 2**62, 2**63 - 1, -(2**63)]))
HOWS = ["sum", "mean_of_children", "leaf_mean", "max", "min", "any", "all", "logmeanexp_of_children", "leaf_logmeanexp"]
STATS = ["mean", "var", "std", "quantile", "top_mean", "median"]


def ints(values, max_size=6):
    return st.lists(values, max_size=max_size).map(lambda v: np.array(v, dtype=np.int64))


OTHER = st.sampled_from(
    [
        None,
        3,
        "x",
        object(),
        [1, 2],
        np.zeros((2, 2), np.int64),
        np.zeros(6, np.int64)[::2],
        np.frombuffer(b"x" * 33, dtype=np.int64, count=4, offset=1),
        np.zeros(2, "f4"),
        np.zeros(2, "c16"),
        np.zeros(2, "O"),
        np.array(1),
    ]
)
ANY = st.one_of(ints(SMALL), ints(WILD), OTHER)


def attempt(function, *args):
    """The result, or None for an ordinary exception. A panic is a BaseException and passes through."""
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        return function(*args)
    return None


def use(forest, data):
    """Every function of a forest that was made after all."""
    n, draw = len(forest), data.draw
    for x in (np.zeros(n), np.zeros(forest.n_leaves, "f4"), draw(ANY)):
        weights = draw(st.one_of(st.none(), ANY, st.lists(st.floats(), min_size=n, max_size=n).map(np.array)))
        for how in (*HOWS, "median"):
            attempt(_core.forest_up, "f", "x", forest, x, how)
            attempt(_core.forest_up, "f", "x", forest, x, how, draw(st.floats()), weights, draw(st.floats()))
        for how in ("sum", "mean", "max", "min", "last", "first"):
            attempt(_core.forest_down, "f", "x", forest, x, how)
            attempt(_core.forest_down, "f", "x", forest, x, how, weights)
        for how in STATS:
            attempt(_core.forest_leaf_stat, "f", "x", forest, x, how, draw(st.floats()))
        attempt(_core.forest_root, "f", "x", forest, x)
        attempt(_core.forest_parent, "f", "x", forest, x, draw(st.floats()))
    for per in ("node", "rollout", "token"):
        for include_root in (False, True):
            rows = attempt(_core.forest_rows, "f", forest, per, include_root)
            # As much memory as asked for is the caller's affair.
            size = 0 if rows is None or rows[-1] > 100 else int(rows[-1])
            for x in (np.zeros(n, "u8"), np.zeros(n, "u2"), np.zeros(forest.n_leaves, "u1"), draw(ANY)):
                dtype = getattr(x, "dtype", np.dtype("u4"))
                for out in (np.zeros(size, dtype), draw(ANY)):
                    attempt(_core.forest_expand, "f", forest, x, per, include_root, out)
    attempt(_core.forest_token_index, "f", forest, draw(st.booleans()))
    for trees in (np.arange(forest.n_trees), draw(ANY)):
        attempt(_core.forest_pack, "f", forest, trees)
        attempt(_core.forest_rollout_tokens, "f", forest, trees, draw(st.booleans()))
    forest.siblings("f")
    for name in ("parents", "order", "depth", "leaves", "leaf_counts", "tree", "roots", "lengths", "places", "n_rows"):
        getattr(forest, name)
    attempt(forest.prune, "f", draw(ANY))
    return attempt(forest.prune, "f", np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)), dtype=bool))


@given(st.data())
def test_arguments_of_every_kind(data):
    parents = data.draw(ANY)
    optional = [data.draw(st.one_of(st.none(), ANY)) for _ in range(4)]
    forest = attempt(_core.Preorder.from_parents, "f", parents, *optional)
    if forest is not None:
        use(forest, data)
    rows = _core.Csr.from_ids("f", data.draw(ints(SMALL)))
    attempt(_core.Preorder.from_sequences, "f", *[data.draw(ANY) for _ in range(2)], rows, *optional[:2])


@given(st.data(), st.integers(1, 6))
def test_trees_with_spans_of_every_size(data, n):
    draw = data.draw
    parents = np.array([draw(st.integers(-1, v - 1)) for v in range(n)], dtype=np.int64)

    def column(values):
        return np.array(draw(st.lists(values, min_size=n, max_size=n)), dtype=np.int64)

    offsets = draw(st.one_of(st.none(), ints(WILD), st.just(np.array([0, 9, 2**62, 2**63 - 1]))))
    n_rows = draw(st.one_of(st.none(), st.sampled_from([0, 1, 9, 2**40, 2**63, 2**64 - 1, 2**64, -1])))
    # One wild column among tame ones, or no spans: so that checks behind the first are reached.
    wild = draw(st.integers(0, 3))
    rows, starts, lengths = (column(WILD if k == wild else st.integers(0, 3)) for k in range(3))
    for places in ((rows, starts), None):
        made = attempt(_core.Preorder.from_parents, "f", parents, None, lengths, places, offsets, n_rows)
        if made is not None and (pruned := use(made, data)) is not None:
            use(pruned[0], data)


@given(st.data(), st.lists(st.integers(0, 4), max_size=5))
def test_sequences_that_almost_fit(data, lengths):
    draw = data.draw
    offsets = np.cumsum([0, *lengths]).astype(np.int64) + draw(st.sampled_from([0, 0, 0, 1, -1]))
    tokens = np.zeros(max(sum(lengths) + draw(st.integers(-1, 1)), 0), draw(st.sampled_from(["i4", "i8"])))
    size = max(len(lengths) + draw(st.sampled_from([0, 0, 1, -1])), 0)
    groups = _core.Csr.from_ids("f", np.array(draw(st.lists(SMALL, min_size=size, max_size=size)), dtype=np.int64))
    prompts = draw(st.one_of(st.none(), st.just(np.zeros(len(lengths), np.int64)), ints(WILD)))
    payload = draw(st.one_of(st.none(), st.just(np.zeros(len(tokens), np.int64)), ints(WILD)))
    for order in (offsets, offsets[::-1].copy(), draw(ints(WILD))):
        made = attempt(_core.Preorder.from_sequences, "f", tokens, order, groups, prompts, payload)
        if made is not None:
            use(made, data)

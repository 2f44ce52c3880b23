"""The compiled functions, called as the Python layer never would: an exception, and never a panic."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath import _core

SMALL = st.integers(-3, 9)
ARRAYS = st.one_of(
    st.lists(st.floats(allow_nan=True), max_size=6).map(np.array),
    st.lists(SMALL, max_size=6).flatmap(
        lambda v: st.sampled_from(
            ["i8", "i4", "u1", "u2", "u4", "u8", "f4", "f8", "bool", "c16", "U1", "O", ">f8"]
        ).map(lambda dtype: np.array(v).astype(dtype))
    ),
    st.sampled_from([np.zeros((2, 3)), np.zeros((2, 3), "u1").T, np.zeros(12, "u8")[::2], np.array(1.0), np.zeros(0)]),
    st.just(np.frombuffer(b"x" * 33, dtype=np.float64, count=4, offset=1)),
)
ANYTHING = st.one_of(ARRAYS, SMALL, st.none(), st.text(max_size=3), st.floats(), st.just([1, 2]), st.just(object()))
INDEX = st.one_of(SMALL, st.sampled_from([2**31, 2**63, -(2**63), 2**64]))
WORDS = st.sampled_from(
    [
        "",
        "x",
        "count",
        "sum",
        "mean",
        "var",
        "min",
        "max",
        "quantile",
        "logmeanexp",
        "linear",
        "none",
        "std",
        "loo",
        "hazen",
    ]
)
CSR = st.lists(SMALL, max_size=6).map(lambda ids: _core.Csr.from_ids("f", np.array(ids, dtype=np.int64)))
LAYOUTS = st.one_of(
    st.lists(st.integers(0, 3), max_size=4).map(
        lambda n: _core.Layout.packed("f", np.cumsum([0, *n]).astype(np.int64))
    ),
    st.tuples(st.integers(0, 3), st.integers(0, 3)).map(lambda n: _core.Layout.padded("f", *n)),
)
SCAN_WORDS = st.sampled_from(["carry", "state", "ignore", "cut", "raise", "previous", "drop", "zero", "last", "x"])
SCAN_RULES = st.one_of(
    st.tuples(ANYTHING, SCAN_WORDS, SCAN_WORDS, st.one_of(SCAN_WORDS, ANYTHING), ANYTHING),
    st.tuples(
        st.none(),
        st.sampled_from(["carry", "state", "ignore", "cut"]),
        st.sampled_from(["raise", "previous", "drop"]),
        st.sampled_from(["zero", "last"]),
        st.none(),
    ),
)
DECAYS = st.tuples(st.floats(), st.one_of(st.floats(), ANYTHING), st.one_of(st.none(), st.floats(), ANYTHING))
RULES = st.sampled_from([rm.Convention(), rm.Convention(nan="propagate", singleton="nan"), None, object()])


def survives(function, *args):
    """Runs it; any ordinary exception is a fine answer. A panic is a BaseException and passes through."""
    with contextlib.suppress(TypeError, ValueError, OverflowError, AttributeError):
        function(*args)


@given(st.data())
def test_arrays_and_numbers_of_every_kind(data):
    draw = data.draw
    for function, kinds in [
        (_core.Csr.from_ids, [ANYTHING]),
        (_core.Csr.from_objects, [st.one_of(ANYTHING, st.lists(ANYTHING, max_size=4))]),
        (_core.Csr.from_index, [ANYTHING, SMALL]),
        (_core.Csr.product, [st.one_of(ANYTHING, st.lists(CSR, max_size=3))]),
        (_core.check_offsets, [WORDS, ANYTHING, SMALL]),
        (_core.offsets_from_lengths, [ANYTHING, st.one_of(st.none(), INDEX), WORDS]),
        (_core.pack, [ANYTHING, SMALL, ANYTHING, ANYTHING]),
        (_core.unpack, [ANYTHING, ANYTHING, SMALL, ANYTHING, ANYTHING]),
        (_core.mask_positions, [ANYTHING, SMALL, SMALL]),
        (lambda who, *args: _core.widen_bf16(*args), [ANYTHING]),
        (_core.from_lists, [st.one_of(ANYTHING, st.lists(ANYTHING, max_size=4)), WORDS]),
        (_core.reduce, [WORDS, CSR, ANYTHING, ANYTHING, WORDS, st.floats(), WORDS]),
        (_core.weighted_mean, [WORDS, CSR, ANYTHING, ANYTHING, ANYTHING]),
        (
            _core.normalize,
            [WORDS, CSR, ANYTHING, ANYTHING, st.one_of(WORDS, ANYTHING), st.one_of(WORDS, ANYTHING), RULES],
        ),
        (
            _core.order_project,
            [
                WORDS,
                CSR,
                ANYTHING,
                st.one_of(ANYTHING, st.tuples(ANYTHING, ANYTHING)),
                st.one_of(st.floats(), ANYTHING),
                st.sampled_from(["free", "ball", "sphere", "x"]),
                st.one_of(st.none(), st.floats(), ANYTHING),
            ],
        ),
        (_core.Layout.packed, [ANYTHING]),
        (_core.Layout.padded, [SMALL, INDEX, st.one_of(st.none(), ANYTHING)]),
        (lambda who, layout, x: layout.only(who, x), [LAYOUTS, ANYTHING]),
        (
            _core.gae,
            [LAYOUTS, ANYTHING, st.booleans(), ANYTHING, SCAN_RULES, DECAYS, ANYTHING, ANYTHING, st.booleans()],
        ),
        (_core.row_moments, [WORDS, LAYOUTS, ANYTHING, ANYTHING]),
        (_core.affine, [WORDS, LAYOUTS, ANYTHING, ANYTHING, st.tuples(*[st.floats()] * 3), ANYTHING]),
        (
            _core.knapsack,
            [ANYTHING, st.tuples(ANYTHING, ANYTHING, ANYTHING), INDEX, st.sampled_from(["unsolved", "even", "x"])],
        ),
        (
            _core.allocate,
            [ANYTHING, INDEX, st.tuples(ANYTHING, ANYTHING, ANYTHING), INDEX, st.sampled_from(["auto", "dp", "x"])],
        ),
        (_core.select_places, [st.one_of(st.none(), CSR, ANYTHING), ANYTHING, ANYTHING, ANYTHING]),
        (_core.select_max_variance, [WORDS, st.one_of(st.none(), CSR), ANYTHING, ANYTHING, ANYTHING, INDEX]),
        (_core.step_edges, [ANYTHING, ANYTHING, ANYTHING, ANYTHING, INDEX]),
        (_core.graph_distance, [st.lists(ARRAYS, max_size=5), ANYTHING, ANYTHING, st.booleans(), st.floats()]),
        (
            _core.graph_backup,
            [
                st.lists(ARRAYS, max_size=5),
                ANYTHING,
                WORDS,
                st.tuples(*[st.floats()] * 3),
                ANYTHING,
                ANYTHING,
                st.tuples(st.floats(), SMALL),
            ],
        ),
    ]:
        survives(function, "f", *[draw(kind) for kind in kinds])


@given(lengths=st.lists(st.integers(0, 4), max_size=5), width=st.integers(0, 5), cut=st.integers(-2, 2))
def test_rows_that_almost_fit(lengths, width, cut):
    offsets = np.cumsum([0, *lengths]).astype(np.int64)
    x = np.zeros(max(len(lengths) * width + cut, 0), dtype=np.uint32)
    values = np.zeros(max(int(offsets[-1]) + cut, 0), dtype=np.uint32)
    survives(_core.pack, "f", x, width, offsets, values)
    survives(_core.unpack, "f", values, offsets, width, np.zeros(1, "u4"), x)
    survives(_core.pack, "f", x, width, offsets[::-1].copy(), values)
    survives(_core.pack, "f", x, width, offsets - 1, values)


@given(data=st.data(), n=st.integers(0, 8))
def test_values_of_every_size_in_well_formed_calls(data, n):
    floats = st.floats(width=64, allow_nan=True, allow_infinity=True)
    x = np.array(data.draw(st.lists(floats, min_size=n, max_size=n)), dtype=np.float64)
    groups = _core.Csr.from_ids("f", np.array(data.draw(st.lists(SMALL, min_size=n, max_size=n)), dtype=np.int64))
    valid = np.array(data.draw(st.lists(st.integers(0, 255), min_size=n, max_size=n)), dtype=np.uint8)
    for what in ("count", "sum", "mean", "var", "min", "max", "quantile", "logmeanexp"):
        survives(_core.reduce, "f", "x", groups, x, valid, what, data.draw(st.sampled_from([0.0, 1.0, 0.3])))
    for scale in ("none", "std", "loo_std", 0.0, x):
        for center in ("none", "mean", "loo", x):
            rules = rm.Convention(nan=data.draw(st.sampled_from(["propagate", "omit"])), eps=0.0)
            survives(_core.normalize, "f", "x", groups, x, valid, center, scale, rules)
    order = np.array(data.draw(st.lists(st.integers(-1, 9), min_size=n, max_size=n)), dtype=np.int64)
    for of, seen, first in (
        (groups, valid, order),
        (None, None, None),
        (groups, None, None),
        (None, valid, abs(order)),
    ):
        survives(_core.select_places, "f", of, x, seen, first)
        survives(_core.select_max_variance, "f", "x", of, x, seen, first, data.draw(st.integers(0, 9)))


@given(data=st.data(), lengths=st.lists(st.integers(0, 4), max_size=4), padded=st.booleans(), off=st.integers(-1, 1))
def test_scans_that_almost_fit(data, lengths, padded, off):
    draw, rows = data.draw, len(lengths)
    total = rows * 4 if padded else sum(lengths)
    if padded:
        layout = _core.Layout.padded("f", rows, 4, np.array(lengths, dtype=np.int64))
    else:
        layout = _core.Layout.packed("f", np.cumsum([0, *lengths]).astype(np.int64))
    dtype = draw(st.sampled_from(["f4", "f8"]))
    values = st.floats(width=32, allow_nan=True, allow_infinity=True)

    def array(n, kind=dtype):
        n = max(n + (off if draw(st.integers(0, 5)) == 0 else 0), 0)
        return np.array(draw(st.lists(values, min_size=n, max_size=n))).astype(kind)

    def marks(n):
        return draw(
            st.one_of(st.none(), st.lists(st.integers(0, 2), min_size=n, max_size=n).map(lambda m: np.array(m, "u1")))
        )

    r, v, w, per_row = array(total), array(total), array(total), draw(st.booleans())
    r = array(rows, "f8") if per_row else r
    end = draw(st.sampled_from(["zero", "last", "given"]))
    rule = (
        marks(total),
        draw(st.sampled_from(["carry", "state", "ignore", "cut"])),
        draw(st.sampled_from(["raise", "previous", "drop"])),
        array(rows, "f8") if end == "given" else end,
        marks(rows),
    )
    a, g = np.zeros(total, dtype), np.zeros(total, dtype)
    lam = array(rows, "f8") if draw(st.booleans()) else 0.5
    two = draw(st.sampled_from([None, 0.25]))
    survives(_core.gae, "f", layout, r, per_row, v, rule, (0.9, lam, two), a, g, True)
    survives(_core.gae, "f", layout, r, per_row, None, rule, (0.9, lam, two), a, None, True)
    survives(_core.vtrace, "f", layout, r, per_row, v, w, rule, (0.9, lam), (1.0, 1.0, 2.0), a, g)
    groups = _core.Csr.from_ids("f", np.array(draw(st.lists(SMALL, min_size=rows, max_size=rows)), dtype=np.int64))
    choices = (draw(st.booleans()), draw(st.booleans()), draw(st.sampled_from([0.0, 1e-8])), draw(st.booleans()))
    survives(_core.optimal_token_baseline, "f", layout, groups, r, per_row, v, w, None, rule, choices, a)
    survives(_core.row_moments, "f", "x", layout, v, rule[0])
    survives(_core.affine, "f", "x", layout, v, rule[0], (0.0, 0.0, 1.0), a)
    survives(_core.affine, "f", "x", layout, None, rule[0], (0.0, 0.0, 1.0), a)


@given(data=st.data(), n=st.integers(0, 8), norm=st.sampled_from(["free", "ball", "sphere"]))
def test_orders_that_almost_fit(data, n, norm):
    draw = data.draw
    sizes = st.sampled_from([0.0, -0.0, 1.0, 5e-324, 1e-200, 1e140, -1e140, 1e200, np.nan, np.inf, -0.3, 0.1])

    def array(kind, length, dtype):
        return np.array(draw(st.lists(kind, min_size=length, max_size=length)), dtype=dtype)

    groups = _core.Csr.from_ids("f", array(st.integers(0, 1), n, np.int64))
    m = draw(st.integers(0, 6))
    row = st.integers(0, max(n - 1, 0)) if draw(st.booleans()) else st.integers(-1, n)
    edges = array(row, m, np.int64), array(row, m, np.int64)
    if draw(st.booleans()):
        edges = np.minimum(*edges), np.maximum(*edges)
    margin = array(sizes, m, np.float64) if draw(st.booleans()) else draw(sizes)
    radius = draw(st.one_of(st.none(), sizes))
    survives(_core.order_project, "f", "x", groups, array(sizes, n, np.float64), edges, margin, norm, radius)


def empty():
    return np.zeros(0, dtype=np.uint32)


@pytest.mark.parametrize(
    "call",
    [
        lambda: _core.Csr.from_index("f", np.zeros(0, dtype=np.int64), 2**62),
        lambda: _core.pack("f", empty(), 2**63, np.zeros(3, dtype=np.int64), empty()),
        lambda: _core.unpack("f", empty(), np.zeros(3, dtype=np.int64), 2**63, np.zeros(1, "u4"), empty()),
        lambda: _core.mask_positions("f", np.zeros(0, "u1"), 2**63, 2),
        lambda: _core.Layout.padded("f", 3, 2**63),
    ],
)
def test_sizes_past_all_memory(call):
    with pytest.raises(ValueError, match="f"):
        call()


@given(data=st.data(), n_states=st.integers(0, 5), n_ends=st.integers(0, 2), off=st.integers(0, 5))
def test_step_graphs_that_almost_fit(data, n_states, n_ends, off):
    draw = data.draw
    n = n_states + n_ends
    odd = st.sampled_from([0.0, -0.0, 1.0, 5e-324, 1e-200, 1e308, -1e308, np.nan, np.inf, -np.inf, -0.3, 0.1])

    def array(kind, length, dtype):
        # Now and then one too many, or numbers that are out of range.
        return np.array(draw(st.lists(kind, min_size=length, max_size=length + (off == 0))), dtype=dtype)

    node = st.integers(-1, n) if off == 1 else st.integers(0, max(n - 1, 0))
    sources = np.sort(array(st.integers(0, max(n_states - 1, 0)), draw(st.integers(0, 9)) if n_states else 0, np.int64))
    target = array(node, len(sources), np.int64)
    offsets = np.searchsorted(sources, np.arange(n + 1))
    cut = draw(st.integers(0, n_states)) if off == 2 else n_states
    graph = [offsets, target, np.array([0, cut, n_states][off != 2 :]), np.array([n_states, n, n][off != 2 :])]
    graph[2][0] = 0
    values, each = array(odd, n, "f8"), array(odd, len(target), "f8")
    gamma, beta = draw(odd), draw(odd)
    for how in ("mean", "max", "logsumexp"):
        for rewards in (None, each):
            for weights in (None, each[::-1].copy()):
                options = (gamma, beta, draw(odd))
                survives(_core.graph_backup, "f", graph, values, how, options, rewards, weights, (1e-9, 20))
    marks = array(st.integers(0, 2), n, np.uint8)
    for costs in (None, each):
        survives(_core.graph_distance, "f", graph, marks, costs, draw(st.booleans()), draw(odd))
    survives(_core.step_edges, "f", sources, target, target, sources, n)


@given(data=st.data(), n=st.integers(0, 4), width=st.integers(0, 4), budget=st.one_of(st.integers(-1, 12), INDEX))
def test_budgets_that_almost_fit(data, n, width, budget):
    draw = data.draw
    odd = st.sampled_from([0.0, 1.0, 0.5, 5e-324, 1e308, -1e308, np.nan, np.inf, -np.inf, -0.3])
    count = st.sampled_from([0, 1, 2, -1, 2**62, -(2**63)]) if draw(st.integers(0, 5)) == 0 else st.integers(1, 3)

    def array(kind, length, dtype):
        return np.array(draw(st.lists(kind, min_size=length, max_size=length)), dtype=dtype)

    place = array(st.integers(-3, 3), n, np.int64)
    limits = array(count, n, np.int64), array(count, n, np.int64) + draw(st.integers(0, 3)), place
    for spare in ("unsolved", "even", "leave"):
        survives(_core.knapsack, "f", array(st.floats(0, 1), n, np.float64), limits, budget, spare)
        survives(_core.knapsack, "f", array(odd, n, np.float64), limits, budget, spare)
    prompts = limits[0], place, array(st.integers(0, 2), n, np.uint8)
    for method in ("auto", "greedy", "dp"):
        survives(_core.allocate, "f", array(odd, n * width, np.float64), width, prompts, budget, method)

"""Allocation over any table: every allocation tried, ties, both ways against each other, and what they refuse."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm

allocate = rm.select.allocate
FILE = "select/allocate.py"

NUMBERS = st.one_of(
    st.integers(-2, 2).map(float),
    st.integers(-10, 10).map(lambda k: k / 10),
    st.floats(-10, 10).map(lambda x: float(np.float32(x))),
    st.sampled_from([math.nan, -math.inf]),
)
GAINS = st.lists(st.sampled_from([3.0, 2.0, 1.0, 0.5, 0.0, -1.0]), max_size=4).map(lambda g: sorted(g, reverse=True))


@st.composite
def tables(draw, concave):
    """Rows, the fewest of each, and a budget between the fewest and the most allowed."""
    n = draw(st.integers(1, 4))
    width = draw(st.integers(1, 5))
    rows = []
    for _ in range(n):
        if concave:
            gains = draw(GAINS)[: width - 1]
            start = draw(st.integers(0, width - 1 - len(gains)))
            row = [math.nan] * start + [float(x) for x in np.cumsum([draw(st.integers(-2, 2)), *gains])]
        else:
            row = draw(st.lists(NUMBERS, min_size=width, max_size=width))
        rows.append(row + [math.nan] * (width - len(row)))
    low = [draw(st.integers(0, 1)) for _ in rows]
    allowed = [
        [k for k, v in enumerate(row) if k >= least and v > -math.inf] for row, least in zip(rows, low, strict=True)
    ]
    if not all(allowed):
        rows = [row if ks else [0.0] * width for row, ks in zip(rows, allowed, strict=True)]
        low = [min(least, width - 1) for least in low]
        allowed = [
            [k for k, v in enumerate(row) if k >= least and v > -math.inf] for row, least in zip(rows, low, strict=True)
        ]
    return rows, low, draw(st.integers(sum(map(min, allowed)), sum(map(max, allowed))))


def check(oracle, table, method, random):
    rows, low, budget = table
    place = list(range(len(rows)))
    random.shuffle(place)
    options = {"budget": budget, "low": low, "method": method}
    found, most = oracle(FILE, "best")(rows, budget=budget, low=low)
    if not found:
        with pytest.raises(ValueError, match=r"allocate\(\): 'budget' cannot be met: no allowed numbers of rollouts"):
            allocate(rows, ties=place, **options)
        return
    expected, how = oracle(FILE, "allocate")(rows, budget=budget, low=low, place=place, method=method)
    got = allocate(rows, ties=place, **options)
    assert (got.counts.tolist(), got.method, got.unspent) == (expected, how, 0)
    assert got.counts.tolist() in found
    assert got.value == pytest.approx(float(most), rel=1e-14, abs=1e-15)


@given(tables(concave=True), st.sampled_from(["auto", "dp", "greedy"]), st.randoms(use_true_random=False))
def test_concave_tables(oracle, table, method, random):
    check(oracle, table, method, random)


@given(tables(concave=False), st.sampled_from(["auto", "dp"]), st.randoms(use_true_random=False))
def test_tables_of_any_shape(oracle, table, method, random):
    check(oracle, table, method, random)


def test_by_hand():
    table = np.array([[0.0, 5.0, 8.0, 9.0], [0.0, 4.0, 7.0, np.nan]])
    got = allocate(table, budget=4)
    assert (got.counts.tolist(), *got[1:]) == ([2, 2], 15.0, 0, "greedy")
    # Nothing but two rollouts of the first are worth something together.
    got = allocate([[0.0, 0.0, 5.0], [0.0, 1.0, 2.0]], budget=2)
    assert (got.counts.tolist(), got.value, got.method) == ([2, 0], 5.0, "dp")
    # Ties by gains: even. Ties by the program: the last has the fewest.
    even = [[0.0, 1.0, 2.0, 3.0]] * 3
    assert allocate(even, budget=4).counts.tolist() == [2, 1, 1]
    assert allocate(even, budget=4, ties=[3, 2, 1]).counts.tolist() == [1, 1, 2]
    assert allocate(even, budget=4, method="dp").counts.tolist() == [3, 1, 0]
    assert allocate(even, budget=4, method="dp", prompts=["c", "b", "a"]).counts.tolist() == [0, 1, 3]
    # Totals that rounding would tell apart: 0.1 + 0.2 + 0.3 in any order.
    row = [0.0, 0.1, 0.3, 0.3]
    for method in ("dp", "auto"):
        assert allocate([row] * 3, budget=3, method=method).value == pytest.approx(0.4)
    assert allocate([row] * 3, budget=3).counts.tolist() == [2, 1, 0]
    # Values may fall; the budget is spent.
    assert allocate([[0.0, -1.0], [0.0, -2.0]], budget=2).value == -3.0
    # Rows of those that take no part may hold anything.
    got = allocate([[0.0, 1.0], [math.inf, math.nan]], budget=1, valid=[1, 0])
    assert (got.counts.tolist(), got.value) == ([1, 0], 1.0)
    assert allocate([[0.0, 1.0], [0.0, 1.0]], budget=1, low=[0, -7], valid=[1, 0]).counts.tolist() == [1, 0]
    assert allocate([], budget=0).counts.tolist() == []
    assert allocate([[0.0, 1.0, 1.5]] * 2, budget=3, low=[2, 0]).counts.tolist() == [2, 1]


def test_the_table_of_knapsack_gives_its_allocation():
    p = np.random.default_rng(0).random(24)
    n = np.arange(33)[None, :]
    table = np.where(n >= 2, rm.select.knapsack_value(np.tile(n[0], 24), np.repeat(p, 33)).reshape(24, 33), -np.inf)
    expected = rm.select.knapsack(p, budget=200, high=32)
    for method in ("auto", "dp"):
        got = allocate(table, budget=200, method=method)
        assert got.counts.tolist() == expected.counts.tolist()
        assert got.value == pytest.approx(expected.value, rel=1e-14)


def test_a_large_table_that_is_nearly_concave():
    # Without leaving anything out, these would be 10^10 steps.
    p, n = np.random.default_rng(1).random(2000), np.arange(129)
    table = rm.select.knapsack_value(np.tile(n, 2000), np.repeat(p, 129)).reshape(2000, 129)
    table[:, :2] = np.nan
    got = allocate(table, budget=40_000)
    assert got.method == "dp"
    assert got.counts.tolist() == rm.select.knapsack(p, budget=40_000, high=128).counts.tolist()
    # Even numbers only.
    table[:, 1::2] = np.nan
    even = allocate(table, budget=40_000)
    assert (even.counts % 2 == 0).all()
    assert got.value * 0.999 < even.value < got.value


@given(tables(concave=False), st.randoms(use_true_random=False), st.sampled_from([None, 3]))
def test_with_ids_the_order_of_the_rows_does_not_matter(oracle, table, random, seed):
    rows, low, budget = table
    if not oracle(FILE, "best")(rows, budget=budget, low=low)[0]:
        return
    ids, order = random.sample(range(50), len(rows)), list(range(len(rows)))
    random.shuffle(order)
    got = allocate(rows, budget=budget, low=low, prompts=ids, seed=seed)
    turned = allocate(
        [rows[i] for i in order], budget=budget, low=[low[i] for i in order], prompts=[ids[i] for i in order], seed=seed
    )
    assert turned.counts.tolist() == got.counts[order].tolist()
    assert (turned.value, turned.method) == (got.value, got.method)


def test_threads_change_nothing():
    before = rm.num_threads()
    table = np.random.default_rng(0).integers(0, 5, (40, 20)).astype(float)
    try:
        rm.set_num_threads(1)
        expected = allocate(table, budget=300)
        for n in (2, 3):
            rm.set_num_threads(n)
            assert allocate(table, budget=300).counts.tolist() == expected.counts.tolist()
    finally:
        rm.set_num_threads(before)
    assert expected.method == "dp"


def test_kinds():
    torch = pytest.importorskip("torch")
    table = [[0.0, 2.0, 3.0], [0.0, 1.5, 2.0]]
    for dtype in (torch.bfloat16, torch.float32, torch.float64, torch.int64):
        got = allocate(torch.tensor(table).to(dtype), budget=2)
        assert (got.counts.dtype, got.counts.tolist()) == (torch.int64, [1, 1])
    with pytest.raises(ValueError, match=r"allocate\(\): 'values' requires grad"):
        allocate(torch.tensor(table, requires_grad=True), budget=2)
    given_ = np.array(table, np.float32)
    assert allocate(given_[:, ::-1][:, ::-1], budget=3).counts.tolist() == [2, 1]
    assert given_.tolist() == table


def test_messages():
    table = [[0.0, 2.0, 3.0], [0.0, 1.0, 3.0]]
    sums = (
        r"'budget' must be from {} \(= the sum of the fewest allowed\) to 4 \(= the sum of the most allowed\), got {}"
    )
    bent = r"'values' must be concave for method='greedy' .* but row {} is not at 1 rollouts; use method='dp'"
    none = r"'values' must allow a number of rollouts of at least 'low' \(= {}\), got none in row {}"
    size = (
        "'values' must be at most 1e300 in size, or NaN or -inf for what is not allowed, got {} in row 0 for 1 rollouts"
    )
    ways = "'method' must be one of 'auto', 'greedy', 'dp', got 'heap'"
    for values, options, error, message in [
        (table, {"budget": 5}, ValueError, sums.format(0, 5)),
        (table, {"budget": 1, "low": 1}, ValueError, sums.format(2, 1)),
        (table, {"budget": 2, "method": "greedy"}, ValueError, bent.format(1)),
        ([[0.0, math.nan, 1.0]], {"budget": 2, "method": "greedy"}, ValueError, bent.format(0)),
        (
            [[0.0, math.nan, 1.0]],
            {"budget": 1},
            ValueError,
            "'budget' cannot be met: no allowed numbers of rollouts add",
        ),
        ([[0.0], [math.nan]], {"budget": 0}, ValueError, none.format(0, 1)),
        (table, {"budget": 4, "low": 3}, ValueError, none.format(3, 0)),
        ([[0.0, math.inf]], {"budget": 1}, ValueError, size.format("inf")),
        ([[0.0, -1e301]], {"budget": 1}, ValueError, size.format("-1e301")),
        ([0.0, 1.0], {"budget": 1}, TypeError, r"'values' must be 2-D, \[prompts, rollouts \+ 1\], got a 1-D float64"),
        ([["a"]], {"budget": 1}, TypeError, "'values' must hold floats, ints or bools, got <U1"),
        (table, {"budget": 2, "method": "heap"}, ValueError, ways),
        (table, {"budget": 2, "low": -1}, ValueError, "'low' must be at least 0, got -1"),
        (table, {"budget": 2, "low": [0]}, ValueError, r"'low' must have length 2 \(= len\(values\)\), got 1"),
        (table, {"budget": 2, "prompts": [1, 1]}, ValueError, "'prompts' must name each row once, got 1 twice"),
        (table, {"budget": 2, "prompts": [1]}, ValueError, r"'values' must have length 1 \(= len\(prompts\)\), got 2"),
        (table, {"budget": 2, "valid": [1.0, 0.0]}, TypeError, "'valid' must be bool or integer"),
        (table, {"budget": 1.5}, TypeError, "'budget' must be a whole number"),
    ]:
        with pytest.raises(error, match=r"allocate\(\): " + message):
            allocate(values, **options)
    # Far too much work for the program is said at once.
    bent = np.tile(np.arange(5000.0) ** 2, (400, 1))
    with pytest.raises(ValueError, match=r"'budget' must be small enough for the dynamic program, .* got 1000000 roll"):
        allocate(bent, budget=1_000_000)

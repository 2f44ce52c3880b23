"""Knapsack RL: by hand, against rollouts handed out one by one and against dynamic programs, laws, and refusals."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import rollmath as rm

knapsack, value = rm.select.knapsack, rm.select.knapsack_value
FILE = "select/knapsack.py"

RATES = st.one_of(
    st.sampled_from([0.0, 1.0, 0.5]),
    st.integers(0, 8).map(lambda k: k / 8),
    st.integers(0, 10).map(lambda k: k / 10),
    st.integers(1, 999).map(lambda k: k / 1000),
)
SPARE = st.sampled_from(["unsolved", "even", "leave"])


@st.composite
def jobs(draw, most=6):
    """Rates, limits and a budget that they allow."""
    rates = draw(st.lists(RATES, max_size=most))
    low = draw(st.lists(st.integers(1, 3), min_size=len(rates), max_size=len(rates)))
    high = [n + draw(st.integers(0, 8)) for n in low]
    return rates, low, high, draw(st.integers(sum(low), sum(high)))


def test_the_vector(vectors):
    v = vectors("flat")["knapsack"]
    got = knapsack(v["p"], budget=v["B"], low=v["lo"], high=v["hi"])
    assert got.counts.tolist() == v["greedy"] == v["dp"]
    assert got.value == pytest.approx(v["value"][1], rel=1e-14)
    assert (got.unspent, got.method, got.counts.dtype) == (0, "greedy", np.int64)
    # What a program finds that scores nothing beyond `low` as 0.
    assert value(v["listing"], v["p"]).sum() == pytest.approx(v["value"][2], rel=1e-14)
    assert got.value > v["value"][2]


def test_by_hand():
    # The three in the middle gain; they take all they can, unsolved prompts the rest, evenly.
    assert knapsack([0.5, 0.0, 1.0, 0.0], budget=20, high=8).counts.tolist() == [8, 5, 2, 5]
    assert knapsack([0.5, 0.0, 1.0, 0.0], budget=20, high=8, spare="even").counts.tolist() == [8, 4, 4, 4]
    left = knapsack([0.5, 0.0, 1.0, 0.0], budget=20, high=8, spare="leave")
    assert (left.counts.tolist(), left.unspent) == ([8, 2, 2, 2], 6)
    # Unsolved prompts are full: those that are solved take the rest.
    assert knapsack([1.0, 0.0, 1.0], budget=13, high=5).counts.tolist() == [4, 5, 4]
    # Equal rates: even, the odd one by the order of preference.
    assert knapsack([0.5] * 3, budget=11, high=8).counts.tolist() == [4, 4, 3]
    assert knapsack([0.5] * 3, budget=11, high=8, ties=[2, 1, 0]).counts.tolist() == [3, 4, 4]
    assert knapsack([0.5] * 3, budget=11, high=8, prompts=["z", "y", "x"]).counts.tolist() == [3, 4, 4]
    # Who starts with more gets no more than the others.
    assert knapsack([0.5, 0.5], budget=10, low=[5, 1], high=9).counts.tolist() == [5, 5]
    assert knapsack([0.0, 0.0], budget=10, low=[5, 1], high=9).counts.tolist() == [5, 5]
    assert knapsack([0.5, math.nan], budget=3, high=8, valid=[1, 0]).counts.tolist() == [3, 0]
    # Nothing is asked of prompts that take no part.
    assert knapsack([0.5, 9.0], budget=3, low=[1, -1], high=[8, -2], valid=[1, 0]).counts.tolist() == [3, 0]
    assert knapsack([], budget=0, high=8)[1:] == (0.0, 0, "greedy")
    assert knapsack([], budget=0, high=8).counts.tolist() == []


@given(jobs(), SPARE, st.randoms(use_true_random=False))
def test_rollouts_one_by_one(oracle, job, spare, random):
    rates, low, high, budget = job
    place = list(range(len(rates)))
    random.shuffle(place)
    expected = oracle(FILE, "knapsack")(rates, budget=budget, low=low, high=high, spare=spare, place=place)
    got = knapsack(rates, budget=budget, low=low, high=high, spare=spare, ties=place)
    assert got.counts.tolist() == expected
    assert got.unspent == budget - sum(expected)
    assert got.value == pytest.approx(float(sum(oracle(FILE, "knapsack_value")(expected, rates))), rel=1e-13)


@given(jobs(), st.lists(st.booleans(), min_size=6, max_size=6), st.sampled_from([np.float32, np.float64]))
def test_prompts_that_take_no_part(oracle, job, there, dtype):
    rates, low, high, budget = job
    rates, there = np.array(rates, dtype), there[: len(job[0])]
    budget = min(max(budget, sum(n for n, v in zip(low, there, strict=True) if v)),
                 sum(n for n, v in zip(high, there, strict=True) if v))  # fmt: skip
    got = knapsack(rates, budget=budget, low=low, high=high, valid=there)
    expected = oracle(FILE, "knapsack")(rates, budget=budget, low=low, high=high, valid=there)
    assert got.counts.tolist() == expected
    assert not got.counts[~np.array(there, bool)].any()


@given(jobs(most=3))
def test_every_allocation_tried(oracle, job):
    rates, low, high, budget = job
    of = oracle(FILE, "knapsack_value")
    table = [
        [math.nan if n < least else of([n], [p])[0] for n in range(most + 1)]
        for p, least, most in zip(rates, low, high, strict=True)
    ]
    found, _ = oracle("select/allocate.py", "best")(table, budget=budget, low=low)
    assert knapsack(rates, budget=budget, low=low, high=high).counts.tolist() in found


def test_the_repr_is_one_line():
    assert (
        repr(knapsack([0.3] * 512, budget=8192, high=64))
        == "Allocation(8192 rollouts for 512 prompts, value 75.0139, greedy)"
    )
    assert repr(knapsack([0.5, 0.0], budget=12, high=6, spare="leave")) == (
        "Allocation(8 rollouts for 2 prompts, 4 unspent, value 0.121094, greedy)"
    )


def program(rates, low, high, budget, nothing=None):
    """The best value of a dynamic program over prompts; ``nothing`` is what ``low`` rollouts count, V by default."""
    best = {0: (0.0, ())}
    for p, least, most in zip(rates, low, high, strict=True):
        fresh, numbers = {}, range(least, most + 1)
        row = value(numbers, [p] * len(numbers)).tolist()
        if nothing is not None:
            row[0] = nothing
        for (spent, (worth, counts)), n in itertools.product(best.items(), numbers):
            total = worth + row[n - least]
            if spent + n not in fresh or total > fresh[spent + n][0]:
                fresh[spent + n] = total, (*counts, n)
        best = fresh
    return best[budget]


@given(jobs())
def test_no_dynamic_program_finds_more(job):
    rates, low, high, budget = job
    got = knapsack(rates, budget=budget, low=low, high=high)
    assert got.value >= program(rates, low, high, budget)[0] * (1 - 1e-14)
    # One that scores nothing beyond `low` as 0 finds no more either, and often less.
    _, counts = program(rates, low, high, budget, nothing=0.0)
    assert got.value >= value(counts, rates).sum() * (1 - 1e-14)


def test_a_program_that_scores_low_as_nothing_is_often_worse():
    rng, worse = np.random.default_rng(0), 0
    for _ in range(40):
        rates, n = rng.random(5), [2] * 5
        got = knapsack(rates, budget=24, high=12)
        worse += value(program(rates, n, [12] * 5, 24, nothing=0.0)[1], rates).sum() < got.value * (1 - 1e-12)
    assert worse > 5


def test_many_prompts_against_a_table():
    # Of 300 prompts and 5,000 rollouts: the largest gains of the whole table.
    p = np.random.default_rng(3).random(300)
    n = np.arange(2, 64)[:, None]
    gains = p * (1 - p) ** 2 * (p**n * (1 - p) + (1 - p) ** n * p)
    for budget in (600, 601, 5000, 300 * 64):
        got = knapsack(p, budget=budget, high=64)
        best = value(np.full(300, 2), p).sum() + np.sort(gains.ravel())[::-1][: budget - 600].sum()
        assert got.counts.sum() == budget
        assert got.value == pytest.approx(best, rel=1e-12)


@given(jobs(), st.randoms(use_true_random=False), st.sampled_from([None, 7]))
def test_with_ids_the_order_of_the_rows_does_not_matter(job, random, seed):
    rates, low, high, budget = job
    ids = random.sample(range(100), len(rates))
    order = list(range(len(rates)))
    random.shuffle(order)
    got = knapsack(rates, budget=budget, low=low, high=high, prompts=ids, seed=seed)
    columns = [[x[i] for i in order] for x in (rates, low, high, ids)]
    turned = knapsack(columns[0], budget=budget, low=columns[1], high=columns[2], prompts=columns[3], seed=seed)
    assert turned.counts.tolist() == got.counts[order].tolist()
    assert turned.value == got.value
    assert turned.unspent == got.unspent


@given(jobs())
def test_another_rollout_is_never_taken_from_anyone(job):
    rates, low, high, budget = job
    got = knapsack(rates, budget=budget, low=low, high=high)
    assert (got.counts >= np.array(low, int)).all()
    assert (got.counts <= np.array(high, int)).all()
    if budget < sum(high):
        more = knapsack(rates, budget=budget + 1, low=low, high=high)
        assert (more.counts >= got.counts).all()
        assert more.value >= got.value


def test_a_seed_breaks_ties_by_id():
    first = {tuple(knapsack([0.5] * 4, budget=9, high=9, prompts=range(4), seed=s).counts) for s in range(40)}
    assert len(first) == 4
    some = knapsack([0.5] * 4, budget=9, high=9, prompts=[3, 1, 0, 2], seed=5).counts
    again = knapsack([0.5] * 4, budget=9, high=9, prompts=range(4), seed=5).counts
    assert some.tolist() == again[[3, 1, 0, 2]].tolist()


EDGE = [5e-324, 1e-300, 1e-160, 1e-17, 1e-9, 0.5, 1 - 1e-9, 1 - 2**-53, 0.1, 0.3, 1 / 3, 0.999]


def test_the_value_keeps_its_digits():
    n = [0, 1, 2, 3, 5, 17, 100]
    for p in EDGE[1:]:
        exact = Fraction(p)
        for k, got in zip(n, value(n, [p] * len(n)), strict=True):
            true = (1 - exact**k - (1 - exact) ** k) * exact * (1 - exact) ** 2 if k else Fraction(0)
            if k < 2:
                assert got == 0.0
            elif true > Fraction(1, 10**290):
                assert abs(Fraction(float(got)) / true - 1) < Fraction(1, 10**14), (p, k)


@pytest.mark.parametrize("p", EDGE)
def test_gains_never_rise(p):
    # As it is computed: powers by one factor after another.
    q = 1.0 - p
    most, successes, failures, last = p * q * q, p, q, math.inf
    for _ in range(3000):
        gain = most * (successes * q + failures * p)
        assert gain <= last
        last, successes, failures = gain, successes * p, failures * q


@example([0.5, 5e-324, 1 - 2**-53, 1e-12], 3000)
@given(st.lists(st.sampled_from(EDGE), min_size=1, max_size=4), st.integers(8, 12000))
def test_rates_at_the_edge_of_float64(rates, budget):
    high = 3000
    budget = min(max(budget, 2 * len(rates)), high * len(rates))
    got = knapsack(rates, budget=budget, high=high)
    assert got.counts.sum() == budget
    assert got.counts.min() >= 2
    assert got.counts.max() <= high


def test_a_large_budget_and_a_narrow_one():
    got = knapsack([0.5, 1e-6, 0.0], budget=1_000_000, high=10**15)
    assert got.counts.sum() == 1_000_000
    assert got.counts[1] > 900_000
    assert knapsack([0.3, 0.6], budget=4, high=2**61).counts.tolist() == [2, 2]


def test_kinds():
    torch = pytest.importorskip("torch")
    p = [0.25, 0.5, 0.75]
    expected = knapsack(p, budget=20, high=16).counts.tolist()
    for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float64):
        got = knapsack(torch.tensor(p, dtype=dtype), budget=20, high=torch.tensor([16, 16, 16]))
        assert (got.counts.dtype, got.counts.tolist()) == (torch.int64, expected)
        worth = value(got.counts, torch.tensor(p, dtype=dtype))
        assert worth.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert float(worth.sum()) == pytest.approx(got.value, rel=1e-6)
    assert knapsack(np.array([True, False]), budget=6, high=4).counts.tolist() == [2, 4]
    assert value([2, 4], [1, 0]).dtype == np.float64
    rates = np.asfortranarray(np.array([p, p])).T[:, 0]
    assert knapsack(rates, budget=20, high=16).counts.tolist() == expected
    frozen = np.array(p)
    frozen.setflags(write=False)
    assert knapsack(frozen, budget=20, high=np.int32(16)).counts.tolist() == expected


def test_messages():
    ok = {"success_rates": [0.5, 0.1], "budget": 8, "high": 8}
    for wrong, error, message in [
        (
            {"budget": 3},
            ValueError,
            r"'budget' must be from 4 \(= the sum of 'low'\) to 16 \(= the sum of 'high'\), got 3",
        ),
        ({"budget": 17}, ValueError, r"'budget' must be from 4 .* to 16 .*, got 17"),
        ({"budget": 2**64}, ValueError, r"'budget' must be below 2\*\*62, got 18446744073709551616"),
        ({"budget": 2**40, "high": 2**41}, ValueError, "'budget' must be at most 134217728, got 1099511627776"),
        ({"budget": -1}, ValueError, "'budget' must be at least 0, got -1"),
        ({"budget": 8.0}, TypeError, "'budget' must be a whole number, got an object of type float"),
        ({"success_rates": [0.5, 1.5]}, ValueError, r"'success_rates' must be in \[0, 1\] .*, got 1.5 at index 1"),
        ({"success_rates": [-0.1, 0.5]}, ValueError, r"'success_rates' must be in \[0, 1\] .*, got -0.1 at index 0"),
        ({"success_rates": [0.5, math.nan]}, ValueError, r"'success_rates' must be in \[0, 1\] .*, got nan at index 1"),
        ({"success_rates": [[0.5]]}, TypeError, "'success_rates' must be 1-D"),
        ({"low": 0}, ValueError, "'low' must be at least 1, got 0"),
        ({"low": [2, 0]}, ValueError, "'low' must be at least 1, got 0 at index 1"),
        ({"low": 9}, ValueError, "'high' must be at least 'low', got 8 with low=9 at index 0"),
        ({"high": [8, 1]}, ValueError, "'high' must be at least 'low', got 1 with low=2 at index 1"),
        ({"high": [8]}, ValueError, r"'high' must have length 2 \(= len\(success_rates\)\), got 1"),
        ({"high": 8.0}, TypeError, "'high' must be a whole number, got an object of type float"),
        ({"high": [8.0, 8.0]}, TypeError, "'high' must hold integers, got float64"),
        ({"high": True}, TypeError, "'high' must be a whole number, got an object of type bool"),
        ({"high": 2**70}, ValueError, r"'high' must be below 2\*\*62, got"),
        ({"spare": "drop"}, ValueError, "'spare' must be one of 'unsolved', 'even', 'leave', got 'drop'"),
        ({"prompts": ["a", "a"]}, ValueError, "'prompts' must name each row once, got 'a' twice"),
        ({"prompts": ["a"]}, ValueError, r"'success_rates' must have length 1 \(= len\(prompts\)\), got 2"),
        ({"ties": [1.0]}, ValueError, r"'ties' must have length 2 \(= len\(success_rates\)\), got 1"),
        ({"seed": -1}, ValueError, "'seed' must be at least 0, got -1"),
        ({"valid": [1]}, ValueError, r"'valid' must have length 2 \(= len\(success_rates\)\), got 1"),
    ]:
        with pytest.raises(error, match=r"knapsack\(\): " + message):
            knapsack(**(ok | wrong))
    with pytest.raises(ValueError, match=r"knapsack_value\(\): 'success_rates' must be in \[0, 1\]"):
        value([1], [2.0])
    with pytest.raises(ValueError, match=r"knapsack_value\(\): 'counts' must have length 1 \(= len\(success_rates\)\)"):
        value([1, 2], [0.5])
    with pytest.raises(ValueError, match=r"knapsack_value\(\): 'counts' must be whole numbers of at least 0, got 1.5"):
        value([1.5], [0.5])

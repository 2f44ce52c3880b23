"""Variance-aware sampling: the vector, weights by definition, the mixture, its distribution, and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

learnability, vas_weights, vas = rm.select.learnability, rm.select.vas_weights, rm.select.vas
FILE = "select/vas.py"
SCORES = st.lists(st.one_of(st.integers(0, 4).map(lambda k: k / 4), st.floats(-10, 10)), max_size=8)


def test_the_vector(vectors):
    v = vectors("flat")["vas"]
    assert learnability(v["p"]).tolist() == v["learnability"]
    assert learnability([math.nan, 0.5], valid=[0, 1]).tolist() == [0.0, 0.25]


@given(st.lists(st.floats(0, 1), max_size=8), st.sampled_from([np.float32, np.float64]))
def test_learnability(oracle, tolerance, p, dtype):
    got = learnability(np.array(p, dtype))
    assert got.dtype == dtype
    assert_allclose(got, oracle(FILE, "learnability")(np.array(p, dtype).tolist()), **tolerance(dtype.__name__))
    assert_allclose(got, learnability(1 - np.array(p, dtype)), **tolerance(dtype.__name__))


@given(SCORES, st.data(), st.sampled_from([0.0, 0.3, 1.0]))
def test_weights(oracle, tolerance, scores, data, momentum):
    n = len(scores)
    valid = data.draw(st.none() | st.lists(st.booleans(), min_size=n, max_size=n))
    old = data.draw(st.none() | st.lists(st.floats(0, 1), min_size=n, max_size=n)) if momentum < 1 else [0.5] * n
    momentum = 0.0 if old is None else momentum
    got = vas_weights(scores, previous=old, momentum=momentum, valid=valid)
    expected = oracle(FILE, "vas_weights")(scores, previous=old, momentum=momentum, valid=valid)
    assert_allclose(got, expected, **tolerance("float64"))
    assert ((got >= 0) & (got <= 1)).all()


def test_weights_by_hand():
    assert vas_weights([0.1, 0.2, 0.0]).tolist() == [0.5, 1.0, 0.0]
    assert vas_weights([0.7, 0.7, 0.7]).tolist() == [1.0, 1.0, 1.0]
    assert vas_weights([-1e308, 1e308, 0.0]).tolist() == [0.0, 1.0, 0.5]
    assert vas_weights([0.0, 5e-324, 1e-323]).tolist() == [0.0, 0.5, 1.0]
    assert vas_weights([0.0, 1.0, -1e308, 1e308], valid=[1, 1, 0, 0]).tolist() == [0.0, 1.0, 0.0, 0.0]
    assert vas_weights([0.0, 1.0], previous=[0.5, 0.25], momentum=1.0).tolist() == [0.5, 0.25]
    assert vas_weights([math.nan, 1.0, 3.0], valid=[0, 1, 1]).tolist() == [0.0, 0.0, 1.0]
    assert vas_weights([]).tolist() == []
    torch = pytest.importorskip("torch")
    got = vas_weights(torch.tensor([0.0, 0.5, 1.0], dtype=torch.bfloat16))
    assert (got.dtype, got.tolist()) == (torch.float32, [0.0, 0.5, 1.0])


@given(
    st.lists(st.integers(-99, 99), unique=True, max_size=9), st.data(), st.integers(1, 10),
    st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 1.0]), st.integers(0, 4), st.sampled_from(["keep", "drop"]),
)  # fmt: skip
def test_the_mixture(oracle, ids, data, keep, ratio, seed, short):
    n = len(ids)
    weights = data.draw(st.lists(st.sampled_from([0.0, 0.0, 1.0, 2.5]), min_size=n, max_size=n))
    valid = data.draw(st.none() | st.lists(st.booleans(), min_size=n, max_size=n))
    options = {"keep": keep, "ratio": ratio, "seed": seed, "short": short, "valid": valid}
    got = vas(weights, ids, **options)
    assert got.indices.tolist() == oracle(FILE, "vas")(weights, ids, **options)
    there = n if valid is None else sum(valid)
    assert len(got.indices) == (0 if short == "drop" and there < keep else min(keep, there))
    report = got.report
    assert report.unit == "prompt"
    assert report.kept_rollouts + sum(one.rollouts for one in report.dropped) == n
    order = data.draw(st.permutations(range(n)))
    turned = vas(
        [weights[i] for i in order], [ids[i] for i in order], **options | {"valid": valid and [valid[i] for i in order]}
    )
    assert turned.mask.tolist() == got.mask[list(order)].tolist()


def test_the_distribution():
    # One by weight, among the first two; one of the rest at random.
    w, draws = [3.0, 1.0, 0.0, 0.0], 4_000
    counts = np.zeros(4)
    for seed in range(draws):
        counts[vas(w, [10, 20, 30, 40], keep=2, seed=seed).indices] += 1
    p = np.array([0.75 + 0.25 / 3, 0.25 + 0.75 / 3, 1 / 3, 1 / 3])
    assert (np.abs(counts - draws * p) < 4.5 * np.sqrt(draws * p * (1 - p))).all()


def test_the_shares_of_both_parts():
    ids = np.arange(100)
    weights = (ids < 50).astype(float)
    for ratio, least in [(0.0, 0), (0.29, 29), (0.5, 50), (1.0, 50)]:
        got = vas(weights * 1e-9, ids, keep=100 if ratio else 10, ratio=ratio, seed=0)
        assert (got.indices < 50).sum() >= least
    # All by weight, as far as weights go; then others fill up.
    got = vas(weights, ids, keep=60, ratio=1.0, seed=0)
    assert (got.indices < 50).sum() == 50
    assert len(got.indices) == 60
    assert len(vas(np.zeros(100), ids, keep=10, seed=1).indices) == 10


def test_missing_weights_and_kinds():
    got = vas([1.0, math.nan, 0.5], list("pqr"), keep=3, seed=0, nan="omit")
    assert str(got.report) == "vas kept 2 of 3 prompts\n  missing weight  1 prompt: 'q'"
    got = vas([1.0], ["p"], keep=3, seed=0, short="drop")
    assert str(got.report) == "vas kept 0 of 1 prompt\n  fewer than keep  1 prompt: 'p'"
    torch = pytest.importorskip("torch")
    got = vas(torch.tensor([1.0, 0.0, 2.0], dtype=torch.float16), torch.tensor([1, 2, 3]), keep=2, seed=0)
    assert got.mask.tolist() == vas([1.0, 0.0, 2.0], [1, 2, 3], keep=2, seed=0).mask.tolist()


def test_messages():
    cases = [
        (lambda: learnability([1.5]), ValueError, r"learnability\(\): 'success_rates' must be in \[0, 1\] .*, got 1.5"),
        (lambda: learnability([0.5], valid=[]), ValueError, r"learnability\(\): 'valid' must have length 1"),
        (lambda: vas_weights([math.inf]), ValueError, r"vas_weights\(\): 'scores' must be finite .*, got inf"),
        (
            lambda: vas_weights([1.0], momentum=0.5),
            ValueError,
            r"vas_weights\(\): 'momentum' needs the weights from before as previous=, got momentum=0.5 without",
        ),
        (
            lambda: vas_weights([1.0], previous=[1.0], momentum=2),
            ValueError,
            r"vas_weights\(\): 'momentum' must be between 0 and 1, got 2",
        ),
        (
            lambda: vas_weights([1.0], previous=[1.0, 2.0]),
            ValueError,
            r"vas_weights\(\): 'previous' must have length 1 \(= len\(scores\)\), got 2",
        ),
        (
            lambda: vas_weights([1.0], previous=[-1.0]),
            ValueError,
            r"vas_weights\(\): 'previous' must be finite and not negative .*, got -1",
        ),
    ]
    for wrong, error, message in [
        ({"weights": [1.0, -1.0]}, ValueError, "'weights' must be finite and not negative .*, got -1 at index 1"),
        ({"weights": [1.0, math.nan]}, ValueError, "'weights' must be finite and not negative .*, got nan at index 1"),
        ({"prompts": ["a", "a"]}, ValueError, "'prompts' must name each row once, got 'a' twice"),
        ({"keep": 0}, ValueError, "'keep' must be at least 1, got 0"),
        ({"ratio": 1.5}, ValueError, "'ratio' must be between 0 and 1, got 1.5"),
        ({"seed": -1}, ValueError, "'seed' must be at least 0, got -1"),
        ({"short": "fill"}, ValueError, "'short' must be one of"),
        (
            {"keep": 3, "short": "raise"},
            ValueError,
            "'keep' must be at most the prompts that take part, got 3, but there are 2",
        ),
    ]:
        options = {"weights": [1.0, 2.0], "prompts": ["a", "b"], "keep": 1, "seed": 0} | wrong
        cases.append((lambda options=options: vas(**options), error, r"vas\(\): " + message))
    for call, error, message in cases:
        with pytest.raises(error, match=message):
            call()

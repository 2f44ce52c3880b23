"""Draws with replacement: the definition, how often rows are drawn, laws, kinds, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm

resample = rm.select.resample

# Sums of these are exact.
WEIGHTS = st.lists(st.sampled_from([0.0, 1.0, 0.5, 2.0, 0.375, 5.0]), min_size=1, max_size=16).filter(any)
HOWS = ["systematic", "multinomial"]


@given(WEIGHTS, st.sampled_from(HOWS), st.sampled_from([None, 0, 1, 7, 20]), st.integers(0, 2**40), st.booleans())
def test_the_definition(oracle, weights, how, n, seed, named):
    uid = [f"p{(7 * i) % 17:02d}" for i in range(len(weights))] if named else None
    got = resample(weights, n=n, how=how, seed=seed, uid=uid)
    assert got.dtype == np.int64
    assert got.tolist() == oracle("select/resample.py", "resample")(weights, n=n, how=how, seed=seed, uid=uid)


@given(WEIGHTS, st.sampled_from(HOWS), st.integers(1, 50), st.integers(0, 99), st.randoms(use_true_random=False))
def test_laws(weights, how, n, seed, random):
    w = np.array(weights)
    uid = np.arange(len(w)) * 11 - 40
    times = np.bincount(resample(w, n=n, how=how, seed=seed, uid=uid), minlength=len(w))
    assert times.sum() == n
    assert not times[w == 0].any()
    # Any order of the rows, and any scale.
    order = np.array(random.sample(range(len(w)), len(w)))
    turned = resample(w[order] * 1024, n=n, how=how, seed=seed, uid=uid[order])
    assert np.bincount(turned, minlength=len(w)).tolist() == times[order].tolist()
    if how == "systematic":
        # As often as expected, up to one, and so is every run of rows in the order of their uids.
        for a in range(len(w)):
            share, got = n * w[a:].cumsum() / w.sum(), times[a:].cumsum()
            assert (got >= np.floor(share - 1e-9)).all()
            assert (got <= np.ceil(share + 1e-9)).all()


@pytest.mark.parametrize("how", HOWS)
def test_how_often_rows_are_drawn(how):
    w = np.array([0.1, 0.4, 0.0, 0.3, 0.2]) * 7
    seen = sum(np.bincount(resample(w, n=6, how=how, seed=s), minlength=5) for s in range(4000))
    assert seen.tolist() == pytest.approx((24_000 * w / w.sum()).tolist(), abs=5 * math.sqrt(24_000 * 0.25))
    # One call with many draws, by chi square with three degrees of freedom.
    many = np.bincount(resample(w, n=100_000, how=how, seed=3), minlength=5)[w > 0]
    expected = 100_000 * w[w > 0] / w.sum()
    assert ((many - expected) ** 2 / expected).sum() < 16.3


def test_the_same_numbers_everywhere():
    w = [0.5, 0.0, 0.125, 0.125, 0.25]
    assert resample(w, n=8, seed=7).tolist() == [0, 0, 0, 0, 2, 3, 4, 4]
    assert resample(w, n=8, seed=5, how="multinomial").tolist() == [0, 0, 0, 3, 3, 4, 4, 4]


def test_equal_weights_draw_each_row_once():
    for w in (0.1, 1 / 3, 1e-300, 1e300):
        assert resample([w] * 1000, seed=2).tolist() == list(range(1000))


def test_the_ends_of_the_float_range():
    assert resample([1.7e308] * 4, n=8, seed=0).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert resample([5e-324, 0.0, 5e-324], n=4, seed=0).tolist() == [0, 0, 2, 2]
    assert set(resample([0.0, 1e-320, 1e308, 0.0], n=50, how="multinomial", seed=0).tolist()) == {2}


def test_weights_of_a_filtration():
    r, ids = np.array([0.1, 0.9, 0.4, 0.7, 0.2] * 3), np.repeat([0, 1, 2], 5)
    weights = rm.select.policy_filtration(r, ids, how="best_random").weights
    rows = resample(weights, seed=1)
    # Weights of a prompt add up to 1: each gets a third of the draws.
    assert np.bincount(ids[rows]).tolist() == [5, 5, 5]
    assert (np.bincount(rows, minlength=15)[r == 0.9] >= 2).all()


def test_empty_and_the_kinds_of_torch():
    assert resample([], seed=0).tolist() == []
    assert resample([1.0, 2.0], n=0, seed=0).tolist() == []
    assert resample(np.array([1, 2]), seed=0).dtype == np.int64
    torch = pytest.importorskip("torch")
    rows = resample(torch.tensor([0.0, 1.0], dtype=torch.bfloat16), n=3, seed=0)
    assert rows.equal(torch.tensor([1, 1, 1]))


@pytest.mark.parametrize(
    ("weights", "options", "error", "message"),
    [
        pytest.param(
            [1.0, -1.0], {}, ValueError, "'weights' must be finite and not negative .* got -1 at index 1", id="negative"
        ),
        pytest.param(
            [math.nan], {}, ValueError, "'weights' must be finite and not negative .* got nan at index 0", id="nan"
        ),
        pytest.param([math.inf], {}, ValueError, "'weights' must be finite and not negative .* got inf", id="inf"),
        pytest.param([0.0, 0.0], {}, ValueError, "'weights' must not all be 0, got 2 of them", id="zero"),
        pytest.param([], {"n": 2}, ValueError, "'weights' must not all be 0, got 0 of them", id="none"),
        pytest.param([[1.0]], {}, TypeError, "'weights' must be 1-D", id="rank"),
        pytest.param(["a"], {}, TypeError, "'weights' must hold floats, ints or bools", id="text"),
        pytest.param([1.0], {"n": -1}, ValueError, "'n' must be at least 0, got -1", id="n"),
        pytest.param([1.0], {"n": 1.0}, TypeError, "'n' must be a whole number", id="n float"),
        pytest.param([1.0], {"seed": -1}, ValueError, "'seed' must be at least 0, got -1", id="seed"),
        pytest.param([1.0], {"seed": None}, TypeError, "'seed' must be a whole number", id="no seed"),
        pytest.param(
            [1.0], {"how": "gumbel"}, ValueError, "'how' must be one of 'systematic', 'multinomial'", id="how"
        ),
        pytest.param(
            [1.0, 1.0], {"uid": [3]}, ValueError, r"'uid' must have length 2 \(= len\(weights\)\), got 1", id="uid"
        ),
        pytest.param([1.0, 1.0], {"uid": [3, 3]}, ValueError, "'uid' must name each row once, got 3 twice", id="twice"),
    ],
)
def test_messages(weights, options, error, message):
    with pytest.raises(error, match=rf"^resample\(\): {message}"):
        resample(weights, **{"seed": 0, **options})

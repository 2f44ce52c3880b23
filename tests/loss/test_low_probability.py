"""loss.low_probability_weight."""

import pytest

pytest.importorskip("torch")

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rollmath.loss import low_probability_weight

TOKENS = st.lists(st.tuples(st.floats(-50, 50), st.floats(-60, 0.01)), max_size=20)


def test_by_hand(vectors):
    v = vectors("flat")["lowprob"]
    out = low_probability_weight(v["A"], np.log(v["pi"]), alpha=v["alpha"])
    np.testing.assert_allclose(out, v["adv"], rtol=1e-14)


@given(TOKENS, st.floats(0, 1))
def test_the_oracle(oracle, tolerance, tokens, alpha):
    a, logprobs = np.array(tokens, dtype=float).reshape(-1, 2).T
    expected = oracle("loss/low_probability.py", "low_probability_weight")(a, logprobs, alpha=alpha)
    np.testing.assert_allclose(low_probability_weight(a, logprobs, alpha=alpha), expected, **tolerance("float64"))


@given(TOKENS, st.floats(0, 1))
def test_laws(tokens, alpha):
    a, logprobs = np.array(tokens, dtype=float).reshape(-1, 2).T
    out = low_probability_weight(a, logprobs, alpha=alpha)
    # Never more, never another sign, never less than 1 - alpha of it.
    assert (np.abs(out) <= np.abs(a) * (1 + 1e-15)).all()
    assert (out * a >= 0).all()
    assert (np.abs(out) >= (1 - alpha) * np.abs(a) - 1e-12).all()
    np.testing.assert_array_equal(low_probability_weight(a, logprobs, alpha=0.0), a)


def test_the_ends():
    assert low_probability_weight([2.0, 2.0, 2.0], [0.0, -np.inf, 3.0], alpha=0.25).tolist() == [2.0, 1.5, 2.0]
    assert np.isnan(low_probability_weight([2.0], [np.nan], alpha=0.25)).all()


@pytest.mark.parametrize(
    ("alpha", "error", "match"),
    [
        (1.5, ValueError, r"low_probability_weight\(\): 'alpha' must be between 0 and 1, got 1.5"),
        (np.nan, ValueError, "'alpha' must be between 0 and 1, got nan"),
        ("1", TypeError, "'alpha' must be a number, got an object of type str"),
    ],
)
def test_errors(alpha, error, match):
    with pytest.raises(error, match=match):
        low_probability_weight([0.0], [0.0], alpha=alpha)

"""VAPO's lambda."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

length_adaptive_lambda = rm.temporal.length_adaptive_lambda


@given(st.lists(st.one_of(st.integers(0, 100), st.integers(0, 2**40)), max_size=9), st.floats(1e-6, 10))
def test_the_oracle(oracle, tolerance, lengths, alpha):
    expected = oracle("temporal/length_adaptive.py", "length_adaptive_lambda")(lengths, alpha=alpha)
    got = length_adaptive_lambda(np.array(lengths, dtype=np.int64), alpha=alpha)
    assert_allclose(got, expected, **tolerance("float64"))
    assert ((got >= 0) & (got <= 1)).all()


def test_by_hand():
    assert length_adaptive_lambda([0, 1, 20, 25, 100]).tolist() == [0.0, 0.0, 0.0, 1 - 1 / 1.25, 0.8]
    assert length_adaptive_lambda([2**62], alpha=1e300).tolist() == [1.0]


def test_the_weights_of_the_td_errors_add_up_to_alpha_times_the_length():
    lengths = np.array([400, 4000, 40000])
    lam = length_adaptive_lambda(lengths)
    assert_allclose((1 - lam**lengths) / (1 - lam), 0.05 * lengths, rtol=1e-8)


def test_kinds():
    torch = pytest.importorskip("torch")
    got = length_adaptive_lambda(torch.tensor([40, 2000]))
    assert got.dtype == torch.float32
    assert_allclose(got.numpy(), [0.5, 0.99], rtol=1e-7)
    assert length_adaptive_lambda(np.array([40, 0, 40], dtype=np.int32)[::2]).dtype == np.float64
    assert length_adaptive_lambda([]).tolist() == []


@pytest.mark.parametrize(
    ("lengths", "alpha", "error", "message"),
    [
        ([1.5], 0.05, TypeError, "'lengths' must hold integers, got float64"),
        ([True], 0.05, TypeError, "'lengths' must hold integers, got bool"),
        ([[1]], 0.05, TypeError, "'lengths' must be 1-D, got a 2-D int64 array"),
        ([3, -1], 0.05, ValueError, "'lengths' must not be negative, got -1 at 1"),
        ([3], 0.0, ValueError, "'alpha' must be a positive, finite number, got 0.0"),
        ([3], -1, ValueError, "'alpha' must be a positive, finite number, got -1"),
        ([3], math.nan, ValueError, "'alpha' must be a positive, finite number, got nan"),
        ([3], math.inf, ValueError, "'alpha' must be a positive, finite number, got inf"),
        ([3], True, ValueError, "'alpha' must be a positive, finite number, got True"),
        ([3], "a", TypeError, "'alpha' must be a number, got an object of type str"),
    ],
)
def test_wrong_calls(lengths, alpha, error, message):
    with pytest.raises(error, match=rf"length_adaptive_lambda\(\): {message}"):
        length_adaptive_lambda(lengths, alpha=alpha)

"""QAE: the quantile as a baseline, exact at every boundary."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

quantile_baseline = rm.group.quantile_baseline

REWARDS = st.one_of(st.sampled_from([0.0, 1.0, 0.7, -1.0]), st.integers(-640, 640).map(lambda k: k / 64))
ROWS = st.lists(st.tuples(REWARDS, st.integers(0, 3), st.booleans()), max_size=24)
DTYPES = st.sampled_from([np.float32, np.float64])
QUANTILES = st.integers(1, 24).flatmap(lambda j: st.integers(1, j).map(lambda i: Fraction(i, j)))
RULES = st.fixed_dictionaries(
    {
        "scale": st.sampled_from(["std", "none"]),
        "ddof": st.sampled_from([0, 1]),
        "eps_place": st.sampled_from(["add", "max", "sqrt", "where_positive"]),
        "singleton": st.sampled_from(["zero", "raw", "abs", "nan"]),
        "zero_spread": st.sampled_from(["zero", "unscaled", "nan"]),
    }
)


def unzip(rows, dtype=np.float64):
    r, ids, valid = zip(*rows, strict=True) if rows else ((), (), ())
    return np.array(r, dtype), list(ids), np.array(valid, bool)


def test_hand_checked_vectors(vectors):
    v = vectors("flat")["qae"]
    ids = np.repeat([0, 1, 2], 8)
    r = np.concatenate([[1] * int(8 * p) + [0] * (8 - int(8 * p)) for p in v["p"]])
    assert_allclose(quantile_baseline(r, ids, quantile=v["K"]), v["adv"], rtol=1e-14)
    # What an interpolating quantile would get wrong: 0.26.
    assert quantile_baseline([0.1, 0.2, 0.3, 0.4, 0.5], [0] * 5, scale="none")[1] == 0.0


@given(ROWS, QUANTILES, RULES, st.booleans(), DTYPES)
def test_the_oracle(oracle, tolerance, rows, quantile, rules, masked, dtype):
    r, ids, valid = unzip(rows, dtype)
    options = {"valid": valid if masked else None, **rules}
    expected = oracle("group/quantile.py", "quantile_baseline")(r, ids, quantile=quantile, **options)
    got = quantile_baseline(r, ids, quantile=float(quantile), **options)
    assert_allclose(got, expected, **tolerance(dtype.__name__))


@given(ROWS, st.integers(1, 5), st.sampled_from(["omit", "propagate"]))
def test_the_oracle_with_nan(oracle, tolerance, rows, every, nan):
    r, ids, _ = unzip(rows)
    r[::every] = np.nan
    expected = oracle("group/quantile.py", "quantile_baseline")(r, ids, nan=nan)
    assert_allclose(quantile_baseline(r, ids, nan=nan), expected, **tolerance("float64"))


def test_every_boundary_is_exact():
    """All K = i / j with j <= 64 against groups of 1 to 64, as fractions; and decimals, which floats do not hold."""
    sizes = np.arange(1, 65)
    ids = np.repeat(sizes, sizes)
    rank = np.concatenate([np.arange(1, n + 1) for n in sizes])
    decimals = {Fraction(i, d) for d in (10, 100, 1000) for i in range(1, d + 1)}
    shares = {Fraction(i, j) for j in range(1, 65) for i in range(1, j + 1)} | decimals
    for share in sorted(shares):
        got = quantile_baseline(rank, ids, quantile=float(share), scale="none", singleton="raw")
        # The lowest rank of a group tells its baseline.
        baseline = (1 - got[np.cumsum(sizes) - sizes])[1:].astype(int)
        exact = [-(-share.numerator * n // share.denominator) for n in sizes[1:].tolist()]
        assert baseline.tolist() == exact, share


def test_a_group_at_the_boundary_counts_as_hard():
    """p = 1 - K exactly: the baseline is 0, and successes get the credit."""
    for n in range(2, 40):
        for failures in range(1, n):
            r = [0] * failures + [1] * (n - failures)
            got = quantile_baseline(r, [0] * n, quantile=failures / n, scale="none")
            assert got.tolist() == r
            if failures + 1 < n:
                got = quantile_baseline(r, [0] * n, quantile=(failures + 1) / n, scale="none")
                assert got.tolist() == [-1] * failures + [0] * (n - failures)


@given(ROWS, QUANTILES, st.integers(-100, 100), st.sampled_from([0.25, 2.0]))
def test_laws(same_bits, rows, quantile, shift, factor):
    r, ids, _ = unzip(rows)
    r = np.round(r * 64) / 64
    options = {"quantile": float(quantile), "scale": "none"}
    base = quantile_baseline(r, ids, **options)
    same_bits(quantile_baseline(r + shift, ids, **options), base)
    same_bits(quantile_baseline(r * factor, ids, **options), base * factor)
    # Somebody is the quantile.
    assert (rm.ops.segment_count(ids, valid=base == 0) >= 1).all()


@pytest.mark.parametrize("value", [0.0, -0.1, 1.1, math.nan, math.inf])
def test_quantile_out_of_range(value):
    message = rf"quantile_baseline\(\): 'quantile' must be above 0 and at most 1, got {value}"
    with pytest.raises(ValueError, match=message):
        quantile_baseline([1.0], [0], quantile=value)


def test_messages():
    for value, kind in ((True, "True"), ("0.4", ".* type str"), (None, ".* type NoneType")):
        with pytest.raises(TypeError, match=rf"quantile_baseline\(\): 'quantile' must be a number, got {kind}"):
            quantile_baseline([1.0], [0], quantile=value)
    with pytest.raises(ValueError, match=r"quantile_baseline\(\): 'scale' must be one of 'std', 'none', got 'iqr'"):
        quantile_baseline([1.0], [0], scale="iqr")
    with pytest.raises(ValueError, match=r"quantile_baseline\(\): 'groups' has a group with one valid member"):
        quantile_baseline([1.0], [0], singleton="raise")

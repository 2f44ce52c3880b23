"""Segment reductions against NumPy, their limits and their kinds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm
from rollmath import ops

PATH = "ops/segment.py"
VALUES = st.one_of(st.sampled_from([0.0, 1.0, -0.0, 0.7]), st.integers(-64000, 64000).map(lambda k: k / 64))
ROWS = st.lists(st.tuples(VALUES, st.integers(0, 4), st.booleans()), max_size=30)
METHODS = (
    "linear lower higher nearest midpoint inverted_cdf hazen weibull median_unbiased normal_unbiased".split()  # noqa: SIM905
)
PLAIN = ["segment_sum", "segment_mean", "segment_var", "segment_std", "segment_min", "segment_max", "loo_mean"]


def unzip(rows):
    x, ids, valid = zip(*rows, strict=True) if rows else ((), (), ())
    return np.array(x, dtype=np.float64), list(ids), np.array(valid, dtype=bool)


@pytest.mark.parametrize("name", PLAIN)
@given(rows=ROWS, masked=st.booleans())
def test_the_oracle(oracle, tolerance, name, rows, masked):
    x, ids, valid = unzip(rows)
    mask = valid if masked else None
    expected = oracle(PATH, name)(x, ids, valid=mask)
    assert_allclose(getattr(ops, name)(x, ids, valid=mask), expected, **tolerance("float64"))
    got = getattr(ops, name)(x.astype(np.float32), rm.Groups(ids), valid=mask)
    assert got.dtype == np.float32
    assert_allclose(got, oracle(PATH, name)(x.astype(np.float32), ids, valid=mask), rtol=2e-6, atol=2e-5)


@given(rows=ROWS)
def test_count_and_gather(oracle, rows):
    x, ids, valid = unzip(rows)
    assert ops.segment_count(ids).tolist() == oracle(PATH, "segment_count")(ids).tolist()
    assert ops.segment_count(ids, valid=valid).tolist() == oracle(PATH, "segment_count")(ids, valid=valid).tolist()
    maxima = ops.segment_max(x, ids)
    assert ops.gather(maxima, ids).tolist() == oracle(PATH, "gather")(maxima, ids).tolist()


@pytest.mark.parametrize("method", METHODS)
@given(rows=ROWS, q=st.one_of(st.sampled_from([0.0, 0.25, 0.4, 0.5, 1.0, 1 / 3]), st.floats(0, 1)))
def test_quantiles_are_those_of_numpy(oracle, tolerance, method, rows, q):
    x, ids, valid = unzip(rows)
    got = ops.segment_quantile(x, ids, q, method=method, valid=valid)
    expected = oracle(PATH, "segment_quantile")(x, ids, q, method=method, valid=valid)
    assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


@given(rows=ROWS, beta=st.sampled_from([-2.0, -0.1, 0.01, 1.0, 3.0]))
def test_logmeanexp(oracle, rows, beta):
    x, ids, valid = unzip(rows)
    got = ops.segment_logmeanexp(x, ids, beta, valid=valid)
    assert_allclose(got, oracle(PATH, "segment_logmeanexp")(x, ids, beta, valid=valid), rtol=1e-10, atol=1e-10)


def test_limits_of_logmeanexp(vectors):
    v = vectors("flat")["er"]
    assert_allclose(ops.segment_logmeanexp(v["r"], [0] * 4, v["eta"]), v["v"], rtol=1e-14)
    assert ops.segment_logmeanexp([3.0, 7.0], [0, 0], 1e6)[0] == pytest.approx(7, abs=1e-5)
    assert ops.segment_logmeanexp([3.0, 7.0], [0, 0], -1e6)[0] == pytest.approx(3, abs=1e-5)
    assert ops.segment_logmeanexp([3.0, 7.0], [0, 0], 1e-7)[0] == pytest.approx(5, abs=1e-6)
    assert ops.segment_logmeanexp([1e4, 1e4 + 1], [0, 0], 50.0)[0] == pytest.approx(1e4 + 1 - math.log(2) / 50)
    assert ops.segment_logmeanexp([0.7] * 12, [0] * 12, 3.0).tolist() == [0.7]
    assert ops.segment_logmeanexp([-math.inf, 0.0], [0, 0], 1.0)[0] == pytest.approx(-math.log(2))


@given(rows=ROWS, weights=st.lists(st.integers(0, 5), min_size=30, max_size=30))
def test_weighted_mean(oracle, tolerance, rows, weights):
    x, ids, valid = unzip(rows)
    w = np.array(weights[: len(x)], dtype=np.float64) / 4
    got = ops.segment_weighted_mean(x, ids, w, valid=valid)
    expected = oracle(PATH, "segment_weighted_mean")(x, ids, w, valid=valid)
    assert_allclose(got, expected, **tolerance("float64"))


def test_weights_of_zero_take_a_row_out():
    assert ops.segment_weighted_mean([math.nan, 5.0], [0, 0], [0.0, 1.0]).tolist() == [5.0]
    assert np.isnan(ops.segment_weighted_mean([1.0, 5.0], [0, 0], [0, 0]))
    assert ops.segment_weighted_mean([0.7] * 9, [0] * 9, np.linspace(0.1, 1, 9)).tolist() == [0.7]


@given(rows=ROWS, random=st.randoms(use_true_random=False), dtype=st.sampled_from([np.float32, np.float64]))
def test_permuting_rows_changes_no_bit(same_bits, rows, random, dtype):
    x, ids, valid = unzip(rows)
    x, ids = x.astype(dtype) * dtype(0.1), np.array(ids, dtype=np.int64)
    turn = np.arange(len(x))
    random.shuffle(turn)
    before, after = rm.Groups(ids), rm.Groups(ids[turn])
    calls = [lambda x, g, v, name=name: getattr(ops, name)(x, g, valid=v) for name in PLAIN[:-1]]
    calls += [lambda x, g, v: ops.segment_quantile(x, g, 0.3, valid=v)]
    calls += [lambda x, g, v: ops.segment_logmeanexp(x, g, 1.5, valid=v)]
    for call in calls:
        a, b = ops.gather(call(x, before, valid), before), ops.gather(call(x[turn], after, valid[turn]), after)
        same_bits(a[turn], b)
    same_bits(ops.loo_mean(x, before, valid=valid)[turn], ops.loo_mean(x[turn], after, valid=valid[turn]))
    w = np.abs(x).astype(np.float64)
    a = ops.segment_weighted_mean(x, before, w, valid=valid)
    b = ops.segment_weighted_mean(x[turn], after, w[turn], valid=valid[turn])
    same_bits(ops.gather(a, before)[turn], ops.gather(b, after))


def test_equal_values_leave_nothing():
    for value in (0.7, 0.1, 1000.1, 1e-300, 1e300):
        x, ids = np.full(300, value), np.repeat(np.arange(3), 100)
        assert set(ops.segment_mean(x, ids)) == {value}
        assert not ops.segment_var(x, ids).any()
        assert set(ops.loo_mean(x, ids)) == {value}


def test_variance_of_close_values_does_not_cancel(tolerance):
    x = 1e9 + np.arange(8) / 8
    assert ops.segment_var(x, [0] * 8)[0] == pytest.approx(np.var(np.arange(8) / 8, ddof=1), rel=1e-12)
    x = np.float32([1000.0, 1000.0094])
    assert ops.segment_std(x, [0, 0])[0] == pytest.approx(np.std(x.astype(np.float64), ddof=1), rel=1e-6)


def test_one_group_of_a_hundred_thousand(tolerance):
    x, ids = np.random.default_rng(0).normal(size=100_000), np.zeros(100_000, int)
    assert ops.segment_sum(x, ids)[0] == pytest.approx(math.fsum(x), rel=1e-11, abs=1e-9)
    assert ops.segment_std(x, ids)[0] == pytest.approx(np.std(x, ddof=1), rel=1e-12)
    assert ops.segment_quantile(x, ids, 0.9)[0] == np.quantile(x, 0.9)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_variance_of_a_group_with_nan_is_nan(bad):
    assert np.isnan(ops.segment_var([bad, 1.0, 2.0], [0] * 3)[0])


def test_nan_and_infinity_follow_ieee():
    x, ids = [math.nan, 1.0, math.inf, 2.0, math.inf, -math.inf], [0, 0, 1, 1, 2, 2]
    assert_allclose(ops.segment_sum(x, ids), [math.nan, math.inf, math.nan])
    assert_allclose(ops.segment_mean(x, ids), [math.nan, math.inf, math.nan])
    assert_allclose(ops.segment_min(x, ids), [math.nan, 2.0, -math.inf])
    assert_allclose(ops.segment_max(x, ids), [math.nan, math.inf, math.inf])
    assert_allclose(ops.loo_mean(x[:4], ids[:4])[3], math.inf)


def test_leave_one_out_is_exact_for_zeros_and_ones():
    x = np.array([1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0])
    for n in range(2, 8):
        expected = [(x[:n].sum() - v) / (n - 1) for v in x[:n]]
        assert ops.loo_mean(x[:n], [0] * n).tolist() == expected


def test_leave_one_out_of_groups_of_one_and_of_rows_left_out():
    assert_allclose(ops.loo_mean([5.0, 1.0], [0, 1], singleton="zero"), [0, 0])
    assert_allclose(ops.loo_mean([5.0, 1.0, 3.0], [0, 0, 0], valid=[0, 1, 1]), [2, 3, 1])
    assert_allclose(ops.loo_mean([5.0, 1.0], [0, 0], valid=[0, 1]), [1, math.nan])
    with pytest.raises(ValueError, match=r"loo_mean\(\): 'singleton' must be one of 'nan', 'zero', got 'raw'"):
        ops.loo_mean([1.0], [0], singleton="raw")


def test_gather_changes_no_dtype_and_shares_no_memory():
    torch = pytest.importorskip("torch")
    for dtype in ("f2", "i4", "U1", "bool"):
        per_group = np.array([1, 0], dtype=dtype)
        assert ops.gather(per_group, [4, 4, 5]).dtype == per_group.dtype
    for dtype in (torch.bfloat16, torch.int32, torch.bool, torch.float16):
        got = ops.gather(torch.ones(2, dtype=dtype), [4, 4, 5])
        assert (got.dtype, len(got)) == (dtype, 3)
    per_group = np.ones(2)
    ops.gather(per_group, [0, 1])[:] = 7
    assert per_group.tolist() == [1, 1]
    counts = ops.segment_count([0, 0])
    counts[:] = 7  # a result belongs to the caller
    assert ops.segment_count([0, 0]).tolist() == [2]


@pytest.mark.parametrize("beta", [5e-324, 1e-300, 1e-14, 1e-9, -1e-14])
def test_logmeanexp_goes_to_the_mean(beta):
    assert_allclose(ops.segment_logmeanexp([0.0, 1.0, 2.0], [0] * 3, beta), [1.0], atol=1e-9)


def test_the_sign_of_zero_does_not_depend_on_row_order():
    for a, b in [(0.0, -0.0), (-0.0, 0.0)]:
        for reduce in (ops.segment_min, ops.segment_max, ops.segment_mean, ops.segment_sum):
            assert not np.signbit(reduce([a, b], [0, 0])).any()
        assert not np.signbit(ops.segment_quantile([a, b], [0, 0], 0.5)).any()
        assert not np.signbit(ops.loo_mean([a, b], [0, 0])).any()


def test_nan_is_no_other_of_itself():
    assert_allclose(ops.loo_mean([math.nan, 1.0, 3.0], [0] * 3), [2.0, math.nan, math.nan])
    assert_allclose(ops.loo_mean([math.inf, 1.0, 3.0], [0] * 3), [2.0, math.inf, math.inf])

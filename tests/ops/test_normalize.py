"""``normalize``: every center and scale against the oracle, and where the policies have a say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm
from rollmath.ops import BetaPdf, LogMeanExp, Quantile, WeightedMean, normalize

VALUES = st.one_of(st.sampled_from([0.0, 1.0, 0.7]), st.integers(-640, 640).map(lambda k: k / 64))
ROWS = st.lists(st.tuples(VALUES, st.integers(0, 3), st.booleans(), st.integers(1, 8)), max_size=20)
CONVENTIONS = st.fixed_dictionaries(
    {
        "ddof": st.sampled_from([0, 1]),
        "eps": st.sampled_from([1e-6, 1e-3]),
        "eps_place": st.sampled_from(["add", "max", "sqrt", "where_positive"]),
        "singleton": st.sampled_from(["zero", "raw", "abs"]),
        "zero_spread": st.sampled_from(["zero", "unscaled", "nan"]),
    }
)
CENTERS = st.sampled_from(["none", "mean", "loo", 0.5, "rows"])
SCALES = st.sampled_from(["none", "std", "loo_std", "batch_std", "batch_residual_std", 2.0, "rows"])


def unzip(rows):
    x, ids, valid, w = zip(*rows, strict=True) if rows else ((), (), (), ())
    return np.array(x, dtype=np.float64), list(ids), np.array(valid, dtype=bool), np.array(w, dtype=np.float64)


@given(rows=ROWS, convention=CONVENTIONS, center=CENTERS, scale=SCALES, masked=st.booleans())
def test_the_oracle(oracle, tolerance, rows, convention, center, scale, masked):
    x, ids, valid, w = unzip(rows)
    options = {
        "center": w / 8 if center == "rows" else center,
        "scale": w if scale == "rows" else scale,
        "valid": valid if masked else None,
    }
    expected = oracle("ops/normalize.py", "normalize")(x, ids, **options, **convention)
    # A guard of 1e-6 where the spread is 0 multiplies one rounding of the center by a million.
    assert_allclose(normalize(x, ids, **options, **convention), expected, rtol=1e-9, atol=1e-8)


@given(rows=ROWS, ddof=st.sampled_from([0, 1]), scale=st.sampled_from(["std", "none", "batch_std"]))
def test_centers_with_a_parameter(oracle, rows, ddof, scale):
    x, ids, _, w = unzip(rows)
    # Groups of one are the subject of a test of their own.
    x, ids, w = np.tile(x, 2), ids * 2, np.tile(w, 2)
    for center, spelled in [
        (Quantile(0.4, "inverted_cdf"), ("quantile", 0.4, "inverted_cdf")),
        (WeightedMean(w), ("weights", w)),
        (LogMeanExp(2.0), ("logmeanexp", 2.0)),
    ]:
        expected = oracle("ops/normalize.py", "normalize")(x, ids, center=spelled, scale=scale, ddof=ddof)
        assert_allclose(normalize(x, ids, center=center, scale=scale, ddof=ddof), expected, rtol=1e-8, atol=1e-8)


@given(
    bits=st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=20),
    scale=st.sampled_from(["mean", "bernoulli", "bernoulli_std"]),
)
def test_scales_of_success_rates(oracle, tolerance, bits, scale):
    x, ids = np.array([b for b, _ in bits], dtype=np.float64), [g for _, g in bits]
    expected = oracle("ops/normalize.py", "normalize")(x, ids, scale=scale)
    assert_allclose(normalize(x, ids, scale=scale), expected, **tolerance("float64"))


def test_by_hand():
    assert_allclose(normalize([1.0, 0, 0, 0], [0] * 4, center="loo", scale="loo_std", zero_spread="unscaled")[0], 1)
    assert_allclose(normalize([3.0, 5.0], [0, 1], center=1.0, scale=2.0, eps=0.0), [1, 2])
    assert_allclose(normalize([3.0, 5.0], [0, 0], center=[1.0, 2.0], scale=[2, 3], eps=0.0), [1, 1])
    assert_allclose(normalize([3.0, 5.0], [0, 0], center="none", scale="none"), [3, 5])


def test_hand_checked_vectors(vectors):
    v = vectors("flat")["liteppo"]
    ids = np.repeat([0, 1], 4)
    assert_allclose(normalize(v["r"], ids, scale="batch_std", eps=1e-4), v["adv_raw"])
    assert_allclose(
        normalize(v["r"], ids, scale="batch_residual_std", eps=0.0) * v["std_resid"],
        normalize(v["r"], ids, scale="none"),
    )
    v = vectors("flat")["qae"]
    r = [1.0] + [0.0] * 7 + [1.0] * 6 + [0.0] * 2 + [1.0] * 5 + [0.0] * 3
    center = Quantile(v["K"], "inverted_cdf")
    assert_allclose(normalize(r, np.repeat([0, 1, 2], 8), center=center), v["adv"])
    v = vectors("flat")["opo"]
    assert_allclose(normalize(v["r"], [0, 0, 0], center=WeightedMean(v["L"]), scale="none"), v["adv"])


def test_nan_in_the_batch_statistics():
    x, ids = [math.nan, 1.0, 2.0, 3.0], [0, 1, 1, 1]
    omitted = normalize(x, ids, scale="batch_std", nan="omit", eps=0.0)
    assert_allclose(omitted, [0, -1, 0, 1])
    # A lone reward that becomes NaN by choice is no reason to lose the batch.
    alone = normalize([9.0, 1.0, 2.0, 3.0], ids, scale="batch_residual_std", singleton="nan", eps=0.0)
    assert_allclose(alone, [math.nan, -1, 0, 1])


def test_nan_spreads_through_the_batch_standard_deviation():
    assert np.isnan(normalize([math.nan, 1.0, 2.0, 3.0], [0, 1, 1, 1], scale="batch_std", nan="propagate")).all()


def test_too_few_rows_for_a_batch_standard_deviation():
    assert normalize([3.0], [0], center=1.0, scale="batch_std", eps=0.5).tolist() == [4.0]
    assert normalize([], [], scale="batch_std").tolist() == []


def test_singleton_has_no_say_where_nothing_is_taken_from_the_group():
    assert normalize([1.0], [0], center="none", scale="none", singleton="raise").tolist() == [1.0]


@pytest.mark.parametrize("center", [Quantile(0.5), LogMeanExp(1.0), WeightedMean([2.0])])
def test_singleton_speaks_for_every_center_of_the_group(center):
    assert normalize([3.0], [0], center=center, scale="none", singleton="raw").tolist() == [3.0]


@pytest.mark.parametrize(("scale", "value"), [("bernoulli", 1.0), ("bernoulli_std", 0.0), ("mean", 0.0)])
def test_no_spread_is_zero_for_every_scale_without_eps(scale, value):
    assert normalize([value, value], [0, 0], scale=scale, eps=0.0).tolist() == [0.0, 0.0]


def test_messages():
    for call, message in [
        (lambda: normalize([1.0], [0], center="std"), "'center' must be one of 'none', 'mean', 'loo', got 'std'"),
        (lambda: normalize([1.0], [0], scale="max"), "'scale' must be one of 'none', 'std', 'loo_std', .* got 'max'"),
        (lambda: normalize([1.0], [0], center=[1.0, 2.0]), r"'center' must have length 1 \(= len\(groups\)\), got 2"),
        (lambda: normalize([1.0], [0], scale=[1.0, 2.0]), r"'scale' must have length 1 \(= len\(groups\)\), got 2"),
        (lambda: normalize([1.0], [0], center=Quantile(2)), r"'q' must be in \[0, 1\], got 2"),
        (
            lambda: normalize([1.0], [0], center=Quantile(0.5, "best")),
            "'method' must be one of 'linear', .*'best'",
        ),
        (lambda: normalize([1.0], [0], center=LogMeanExp(0)), "'beta' must be finite and not 0, got 0"),
        (lambda: normalize([1.0], [0], center=WeightedMean([-1])), "'weights' must be finite and not negative, got -1"),
        (lambda: normalize([1.0], [0], center=WeightedMean([1, 2])), r"'weights' must have length 1 .*, got 2"),
    ]:
        with pytest.raises(ValueError, match=r"normalize\(\): " + message):
            call()
    with pytest.raises(TypeError, match=r"normalize\(\): 'q' must be a number, got an object of type list"):
        normalize([1.0], [0], center=Quantile([0.5]))
    with pytest.raises(ValueError, match=r"mine\(\): 'r' must have length 1 \(= len\(groups\)\), got 2"):
        normalize([1.0, 2.0], [0], name="r", who="mine")


def test_a_method_of_ones_own_in_three_lines():
    def qae(rewards, groups, *, k=0.4, **override):
        center = Quantile(k, method="inverted_cdf")
        return normalize(rewards, groups, center=center, scale="std", name="rewards", who="qae", **override)

    out = qae(np.float32([0.1, 0.2, 0.3, 0.4, 0.5]), rm.Groups([0] * 5), eps=0.0)
    assert out.dtype == np.float32
    assert_allclose(out, (np.arange(5) - 1) / np.std(np.arange(5), ddof=1), rtol=1e-6)


def test_a_center_or_scale_that_is_not_finite_is_named():
    with pytest.raises(ValueError, match=r"normalize\(\): 'center' must be finite where rows are valid, got nan"):
        normalize([1.0, 2.0], [0, 0], center=[0.0, math.nan])
    with pytest.raises(ValueError, match=r"normalize\(\): 'scale' must be finite where rows are valid, got inf"):
        normalize([1.0, 2.0], [0, 0], scale=math.inf)
    assert normalize([1.0, 2.0], [0, 0], center=[0.0, math.nan], scale="none", valid=[1, 0]).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("order", [[0, 1, 2], [1, 0, 2], [1, 2, 0]])
def test_nan_among_equal_values_makes_the_whole_group_nan(order):
    x = np.array([math.nan, 1.0, 1.0])[order]
    for options in ({}, {"scale": "none"}, {"center": "loo", "scale": "none"}, {"center": "loo", "scale": "loo_std"}):
        assert np.isnan(normalize(x, [0, 0, 0], nan="propagate", **options)).all()


@pytest.mark.parametrize("center", ["mean", Quantile(0.5), LogMeanExp(1.0), WeightedMean([1.0, 5.0, 1.0, 1.0])])
@pytest.mark.parametrize("scale", ["none", "std", "mean", "batch_std", "batch_residual_std", "bernoulli_std"])
def test_a_missing_value_is_in_no_statistic(center, scale):
    x, ids, keep = np.array([0.25, math.nan, 0.75, 0.5]), np.array([0, 0, 0, 1]), [0, 2, 3]
    rest = WeightedMean([1.0, 1.0, 1.0]) if isinstance(center, WeightedMean) else center
    got = normalize(x, ids, center=center, scale=scale, nan="omit")
    assert got[1] == 0
    assert_allclose(got[keep], normalize(x[keep], ids[keep], center=rest, scale=scale), rtol=1e-15)


def test_bernoulli_needs_a_probability():
    with pytest.raises(ValueError, match=r"scale='bernoulli_std' needs 'x' in \[0, 1\], got 2.0"):
        normalize([2.0, 3.0], [0, 0], scale="bernoulli_std")


@pytest.mark.parametrize("zero_spread", ["zero", "unscaled", "nan"])
def test_others_without_spread_follow_the_policy(zero_spread):
    expected = {"zero": 0.0, "unscaled": 1.0, "nan": math.nan}[zero_spread]
    got = normalize([1.0, 0, 0, 0], [0] * 4, center="loo", scale="loo_std", eps=0.0, zero_spread=zero_spread)
    assert_allclose(got, [expected, *[-1 / 3 / math.sqrt(1 / 3)] * 3])
    with pytest.raises(ValueError, match="has no spread in the group of row 0 without that row; choose zero_spread="):
        normalize([1.0, 0, 0, 0], [0] * 4, center="loo", scale="loo_std", zero_spread="raise")


def test_weights_are_looked_at_where_rows_are_valid():
    got = normalize([1.0, 3.0, 9.0], [0] * 3, center=WeightedMean([1, 1, math.nan]), scale="none", valid=[1, 1, 0])
    assert got.tolist() == [-1.0, 1.0, 0.0]
    with pytest.raises(ValueError, match=r"normalize\(\): 'weights' must not all be 0 in a group, but .* of row 1"):
        normalize([1.0, 2.0, 3.0], [0, 1, 1], center=WeightedMean([1, 0, 0]))
    with pytest.raises(ValueError, match="'weights' must be finite and not negative, got NaN at index 1"):
        normalize([1.0, 2.0], [0, 0], center=WeightedMean([1, math.nan]))


def test_huge_integers_are_named():
    for name in ("center", "scale"):
        with pytest.raises(ValueError, match=rf"normalize\(\): '{name}' must fit float64, got an integer of 1329 bits"):
            normalize([1.0, 2.0], [0, 0], **{name: 10**400})


def test_a_lone_nan_residual_is_no_part_of_the_batch():
    got = normalize([1.0, 2, 5], [0, 0, 1], scale="batch_residual_std", nan="propagate", singleton="nan", eps=0.0)
    assert_allclose(got, [-math.sqrt(0.5), math.sqrt(0.5), math.nan])


def test_beta_pdf(vectors):
    v = vectors("flat")["bnpo"]
    ids, scale = np.repeat([0, 1, 2], 4), BetaPdf(v["alpha"], v["beta"])
    # The weight of the vector is 1 / pdf.
    assert_allclose(normalize(v["r"], ids, scale=scale, eps=0.0), v["adv"], rtol=1e-12)
    assert_allclose(normalize([1.0, 0, 1, 1], [0, 0, 1, 1], scale=BetaPdf(1, 1), eps=0.0), [0.5, -0.5, 0, 0])
    assert normalize([1.0, 1, 0, 0], [0, 0, 1, 1], scale=BetaPdf(2, 0.5), eps=0.0).tolist() == [0.0] * 4
    with pytest.raises(ValueError, match=r"normalize\(\): 'alpha' must be positive and finite, got 0.0"):
        normalize([1.0, 0.0], [0, 0], scale=BetaPdf(0, 1))
    with pytest.raises(ValueError, match=r"scale=BetaPdf needs 'x' in \[0, 1\], got 2.0"):
        normalize([2.0, 0.0], [0, 0], scale=BetaPdf(1, 1))

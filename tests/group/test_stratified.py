"""Stratified GRPO: strata, blend, and what a small stratum gets."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

stratified = rm.group.stratified

REWARDS = st.one_of(st.sampled_from([0.0, 1.0, 0.7, -1.0]), st.integers(-640, 640).map(lambda k: k / 64))
ROWS = st.lists(st.tuples(REWARDS, st.integers(0, 3), st.booleans(), st.integers(0, 2)), max_size=24)
DTYPES = st.sampled_from([np.float32, np.float64])
OPTIONS = st.fixed_dictionaries(
    {
        "blend": st.sampled_from([0.0, 0.3, 1.0, 1]),
        "min_stratum": st.integers(1, 4),
        "scale": st.sampled_from(["std", "none"]),
        "ddof": st.sampled_from([0, 1]),
        "eps_place": st.sampled_from(["add", "max", "sqrt", "where_positive"]),
        "singleton": st.sampled_from(["zero", "raw", "abs", "nan"]),
        "zero_spread": st.sampled_from(["zero", "unscaled", "nan"]),
    }
)


def unzip(rows, dtype=np.float64):
    r, ids, valid, strata = zip(*rows, strict=True) if rows else ((), (), (), ())
    return np.array(r, dtype), list(ids), np.array(valid, bool), list(strata)


def test_hand_checked_vectors(vectors):
    v, rules = vectors("flat")["san"], {"ddof": 0, "eps": 1e-8}
    ids, strata = [0] * 6, v["strata"]
    assert_allclose(stratified(v["r"], ids, strata=strata, **rules), v["san"], rtol=1e-14)
    assert_allclose(stratified(v["r"], ids, strata=strata, blend=0, **rules), v["glob"], rtol=1e-14)
    assert_allclose(stratified(v["r"], ids, strata=strata, blend=0.8, **rules), v["blend_a0_8"], rtol=1e-14)


def test_a_prompt_with_and_without_a_hint_as_in_pope():
    r, ids, hint = [1.0, 1, 0, 1, 0, 0, 0, 1], ["p"] * 8, ["hint"] * 4 + ["plain"] * 4
    apart = [0.25, 0.25, -0.75, 0.25, -0.25, -0.25, -0.25, 0.75]
    assert stratified(r, ids, strata=hint, scale="none").tolist() == apart
    together = [0.5, 0.5, -0.5, 0.5, -0.5, -0.5, -0.5, 0.5]
    assert stratified(r, ids, strata=hint, scale="none", blend=0.0).tolist() == together
    separate = rm.group.grpo(r, [f"p {h}" for h in hint])
    assert stratified(r, ids, strata=hint).tolist() == separate.tolist()


@given(ROWS, OPTIONS, st.booleans(), DTYPES)
def test_the_oracle(oracle, tolerance, rows, options, masked, dtype):
    r, ids, valid, strata = unzip(rows, dtype)
    options = options | {"strata": strata, "valid": valid if masked else None}
    expected = oracle("group/stratified.py", "stratified")(r, ids, **options)
    assert_allclose(stratified(r, ids, **options), expected, **tolerance(dtype.__name__))


@given(ROWS, st.integers(1, 5), st.sampled_from(["omit", "propagate"]), st.sampled_from([0.5, 1.0]))
def test_the_oracle_with_nan(oracle, tolerance, rows, every, nan, blend):
    r, ids, _, strata = unzip(rows)
    r[::every] = np.nan
    options = {"strata": strata, "nan": nan, "blend": blend}
    expected = oracle("group/stratified.py", "stratified")(r, ids, **options)
    assert_allclose(stratified(r, ids, **options), expected, **tolerance("float64"))


@given(ROWS)
def test_stratifying_removes_the_variance_between_strata_and_nothing_else(rows):
    r, _, _, strata = unzip(rows)
    if not len(r):
        return
    one = [0] * len(r)
    within, total = (stratified(r, one, strata=strata, scale="none", blend=b) for b in (1.0, 0.0))
    s = rm.ops.segment_mean(r, strata)
    share = rm.ops.segment_count(strata) / len(r)
    assert_allclose(total.var() - within.var(), (share * (s - r.mean()) ** 2).sum(), rtol=1e-9, atol=1e-9)


@given(ROWS, st.integers(-100, 100))
def test_laws(tolerance, same_bits, rows, shift):
    r, ids, _, strata = unzip(rows)
    r = np.round(r * 64) / 64
    cells = rm.Groups.product(ids, strata) if rows else rm.Groups([])
    base = stratified(r, ids, strata=strata, eps=0.0)
    same_bits(base, rm.group.grpo(r, cells, eps=0.0) + 0.0)
    same_bits(stratified(r, ids, strata=[1] * len(r)), rm.group.grpo(r, ids) + 0.0)
    same_bits(stratified(r, ids, strata=strata, min_stratum=99), rm.group.grpo(r, ids))
    # Shifting a whole stratum changes nothing but the part of the group.
    assert_allclose(stratified(r + shift * np.array(strata), ids, strata=strata, eps=0.0), base, **tolerance("float64"))


def test_a_loner():
    r, ids, strata = [1.0, 0.0, 0.0, 1.0], [0] * 4, [0, 0, 0, 1]
    group = rm.group.grpo(r, ids)
    assert stratified(r, ids, strata=strata)[3] == 0.0
    assert stratified(r, ids, strata=strata, min_stratum=2)[3] == group[3]
    assert_allclose(stratified(r, ids, strata=strata, blend=0.75)[3], 0.25 * group[3])
    assert np.isnan(stratified(r, ids, strata=strata, convention=rm.conventions.GRPO_COMPOSER)).tolist() == [
        False,
        False,
        False,
        True,
    ]
    message = (
        r"stratified\(\): 'strata' has a stratum with one valid member \(row 3\); choose singleton='zero', .*, or min"
    )
    with pytest.raises(ValueError, match=message):
        stratified(r, ids, strata=strata, singleton="raise")
    assert stratified(r, ids, strata=strata, singleton="raise", min_stratum=2)[3] == group[3]
    assert stratified(r, ids, strata=strata, singleton="raise", blend=0.0).tolist() == group.tolist()


def test_strata_of_any_id(same_bits):
    torch = pytest.importorskip("torch")
    r, ids = [1.0, 0.0, 0.0, 1.0], ["p", "q", "p", "q"]
    expected = stratified(r, ids, strata=[3, 3, 1, 3])
    for strata in (rm.Groups([3, 3, 1, 3]), np.array([3, 3, 1, 3]), torch.tensor([3, 3, 1, 3]), list("xxyx")):
        same_bits(stratified(r, ids, strata=strata), expected)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"blend": -0.1}, ValueError, "'blend' must be between 0 and 1, got -0.1"),
        ({"blend": 1.5}, ValueError, "'blend' must be between 0 and 1, got 1.5"),
        ({"blend": math.nan}, ValueError, "'blend' must be between 0 and 1, got nan"),
        ({"blend": True}, TypeError, "'blend' must be a number, got True"),
        ({"blend": "half"}, TypeError, "'blend' must be a number, got an object of type str"),
        ({"min_stratum": 0}, ValueError, "'min_stratum' must be at least 1, got 0"),
        ({"min_stratum": 1.5}, TypeError, "'min_stratum' must be a whole number, got an object of type float"),
        ({"min_stratum": True}, TypeError, "'min_stratum' must be a whole number, got an object of type bool"),
        ({"scale": "mean"}, ValueError, "'scale' must be one of 'std', 'none', got 'mean'"),
        ({"strata": [0]}, ValueError, r"'strata' must have length 2 \(= the number of rows\), got 1"),
        ({"strata": [0.5, 1.5]}, TypeError, "'strata' must be strings, ints, UUIDs or tuples, got float"),
        ({"strata": None}, TypeError, "'strata' must be a sequence with one id a row, got an object of type NoneType"),
    ],
)
def test_messages(options, error, message):
    with pytest.raises(error, match=r"stratified\(\): " + message):
        stratified([1.0, 0.0], [0, 0], **({"strata": [0, 0]} | options))

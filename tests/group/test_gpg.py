"""GPG: the correction for rollouts without signal."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

gpg = rm.group.gpg

REWARDS = st.one_of(st.sampled_from([0.0, 1.0, 0.7, -1.0]), st.integers(-640, 640).map(lambda k: k / 64))
ROWS = st.lists(st.tuples(REWARDS, st.integers(0, 6), st.booleans()), max_size=24)
DTYPES = st.sampled_from([np.float32, np.float64])
CORRECTIONS = st.sampled_from(["informative", "nonzero_reward", "none"])


def unzip(rows, dtype=np.float64):
    r, ids, valid = zip(*rows, strict=True) if rows else ((), (), ())
    return np.array(r, dtype), list(ids), np.array(valid, bool)


def test_by_hand():
    r, ids = [1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0], list("aabbccd")
    # Of seven rollouts only the first two are compared with anything.
    assert_allclose(gpg(r, ids), [1.75, -1.75, 0, 0, 0, 0, 0])
    assert_allclose(gpg(r, ids, f_norm=7.0), [0.25, -0.25, 0, 0, 0, 0, 0])
    # Four of seven rewards are not 0.
    assert_allclose(gpg(r, ids, correction="nonzero_reward"), [0.875, -0.875, 0, 0, 0, 0, 0])
    assert gpg(r, ids, correction="none").tolist() == rm.group.dr_grpo(r, ids).tolist()
    # Who keeps its reward has a signal.
    assert_allclose(gpg(r, ids, singleton="raw"), np.array([0.5, -0.5, 0, 0, 0, 0, 1]) * 7 / 3)
    assert_allclose(gpg(r, ids, valid=[1, 1, 1, 1, 0, 0, 0]), [1, -1, 0, 0, 0, 0, 0])


@pytest.mark.parametrize("correction", ["informative", "nonzero_reward", "none"])
@pytest.mark.parametrize("r", [[0.0] * 4, [0.7] * 4])
def test_no_signal_at_all_is_zero(correction, r):
    assert gpg(r, [0, 0, 1, 2], correction=correction).tolist() == [0.0] * 4


@given(ROWS, CORRECTIONS, st.sampled_from(["zero", "raw", "abs", "nan"]), st.sampled_from([1.0, 0.3]), DTYPES)
def test_the_oracle(oracle, tolerance, rows, correction, singleton, f_norm, dtype):
    r, ids, valid = unzip(rows, dtype)
    for mask in (None, valid):
        options = {"correction": correction, "singleton": singleton, "f_norm": f_norm, "valid": mask}
        expected = oracle("group/gpg.py", "gpg")(r, ids, **options)
        assert_allclose(gpg(r, ids, **options), expected, **tolerance(dtype.__name__))


@given(ROWS, CORRECTIONS, st.integers(1, 5), st.sampled_from(["omit", "propagate"]))
def test_the_oracle_with_nan(oracle, tolerance, rows, correction, every, nan):
    r, ids, _ = unzip(rows)
    r[::every] = np.nan
    expected = oracle("group/gpg.py", "gpg")(r, ids, correction=correction, nan=nan)
    assert_allclose(gpg(r, ids, correction=correction, nan=nan), expected, **tolerance("float64"))


@given(ROWS, st.integers(-100, 100))
def test_laws(tolerance, rows, shift):
    r, ids, _ = unzip(rows)
    base = gpg(r, ids)
    assert_allclose(gpg(r + shift, ids), base, **tolerance("float64"))
    assert_allclose(rm.ops.segment_sum(base, ids), 0, atol=1e-9)
    # Rollouts without signal leave the mean over all rollouts as it was without them.
    n = len(r)
    more = gpg(np.append(r, [0.5] * 5), [*ids, *[99] * 5])
    if base.any():
        assert_allclose(more[:n] / (n + 5), base / n, **tolerance("float64"))


def test_verl_is_another_correction():
    r, ids, verl = [1.0, 0.0, 0.0, 0.0], [0, 0, 0, 0], rm.conventions.VERL
    assert_allclose(gpg(r, ids, convention=verl), [0.75, -0.25, -0.25, -0.25])
    assert_allclose(gpg(r, ids, convention=verl, **verl.options["gpg"]), [3, -1, -1, -1])


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_f_norm_out_of_range(value):
    with pytest.raises(ValueError, match=rf"gpg\(\): 'f_norm' must be finite and positive, got {value}"):
        gpg([1.0], [0], f_norm=value)


def test_messages():
    for value, kind in (("1", "an object of type str"), (None, "an object of type NoneType"), (True, "True")):
        with pytest.raises(TypeError, match=rf"gpg\(\): 'f_norm' must be a number, got {kind}"):
            gpg([1.0], [0], f_norm=value)
    message = r"gpg\(\): 'correction' must be one of 'informative', 'nonzero_reward', 'none', got 'verl'"
    with pytest.raises(ValueError, match=message):
        gpg([1.0], [0], correction="verl")

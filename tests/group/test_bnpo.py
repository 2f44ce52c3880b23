"""BNPO: the Beta density of the batch, and the batches for which there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

bnpo, dr_grpo = rm.group.bnpo, rm.group.dr_grpo

REWARDS = st.one_of(st.sampled_from([0.0, 1.0, 0.7]), st.integers(0, 64).map(lambda k: k / 64))
ROWS = st.lists(st.tuples(REWARDS, st.integers(0, 5), st.booleans()), max_size=24)
DTYPES = st.sampled_from([np.float32, np.float64])


def unzip(rows, dtype=np.float64):
    r, ids, valid = zip(*rows, strict=True) if rows else ((), (), ())
    return np.array(r, dtype), list(ids), np.array(valid, bool)


def well_conditioned(r, ids):
    """Means that nearly coincide make parameters of 1e6 and more, whose log-density cancels to eight digits."""
    p = rm.ops.segment_mean(r, ids)
    return len(p) < 2 or np.ptp(p) == 0 or p.var() > 1e-4


def test_hand_checked_vectors(vectors):
    v = vectors("flat")["bnpo"]
    assert_allclose(bnpo(v["r"], np.repeat([0, 1, 2], 4)), v["adv"], rtol=1e-13)


def test_limits(vectors):
    """alpha = beta = 1 is the centred reward; 3/2 is GRPO up to a factor."""
    v = vectors("flat")["bnpo"]
    r, ids = v["r"], np.repeat([0, 1, 2], 4)
    ratio = rm.group.grpo(r, ids, ddof=0, eps=0.0) / bnpo(r, ids)
    assert_allclose(ratio, ratio[0], rtol=1e-12)
    far = [1, 1, 1, 0, 0, 0, 0, 1]  # 3/4 and 1/4: c < 1, and bounded below
    assert_allclose(
        bnpo(far + [1] * 4 + [0] * 4, np.repeat([0, 1, 2, 3], 4))[:8], dr_grpo(far, [0] * 4 + [1] * 4), rtol=0.3
    )


@pytest.mark.parametrize(
    ("r", "ids"),
    [
        ([1, 0, 0, 0], [0] * 4),  # one prompt
        ([1, 0, 1, 0], [0, 0, 1, 1]),  # the same mean everywhere
        ([0.3, 0.1, 0.1, 0.3], [0, 0, 1, 1]),  # the same, but for rounding
        ([1, 1, 1, 1], [0, 0, 1, 1]),  # all solved
        ([0, 0, 0, 0], [0, 0, 1, 1]),  # all failed
        ([1, 1, 0, 0], [0, 0, 1, 1]),  # each solved or failed
        ([1, 0], [0, 1]),  # groups of one
        ([1, 0, 1], [0, 0, 1]),  # one group, and a group of one
        ([0.5, 0.5 + 1e-7, 0.5, 0.5], [0, 0, 1, 1]),
        ([], []),
    ],
)
def test_batches_without_a_density_get_centred_rewards(r, ids):
    assert bnpo(r, ids).tolist() == dr_grpo(r, ids).tolist()


@given(ROWS, st.sampled_from([1e6, 1.0, 0.5]), st.sampled_from(["zero", "raw", "abs", "nan"]), st.booleans(), DTYPES)
def test_the_oracle(oracle, tolerance, rows, max_weight, singleton, masked, dtype):
    r, ids, valid = unzip(rows, dtype)
    if not well_conditioned(r.astype(float), ids):
        return
    options = {"singleton": singleton, "max_weight": max_weight, "valid": valid if masked else None}
    if masked and not well_conditioned(r[valid].astype(float), np.array(ids)[valid].tolist()):
        return
    expected = oracle("group/bnpo.py", "bnpo")(r, ids, **options)
    assert_allclose(bnpo(r, ids, **options), expected, **tolerance(dtype.__name__))


@given(ROWS, st.integers(1, 5), st.sampled_from(["omit", "propagate"]))
def test_the_oracle_with_nan(oracle, tolerance, rows, every, nan):
    r, ids, _ = unzip(rows)
    r = np.round(r)
    r[::every] = np.nan
    seen = ~np.isnan(r)
    if not well_conditioned(r[seen], np.array(ids)[seen].tolist()):
        return
    expected = oracle("group/bnpo.py", "bnpo")(r, ids, nan=nan)
    assert_allclose(bnpo(r, ids, nan=nan), expected, **tolerance("float64"))


@given(ROWS)
def test_laws(tolerance, rows):
    r, ids, _ = unzip(rows)
    base = bnpo(r, ids)
    assert np.isfinite(base).all()
    assert_allclose(rm.ops.segment_sum(base, ids), 0, atol=1e-9 * max(1.0, np.abs(base).max(initial=0)))
    # The weight is bounded, and one for a group.
    centred = dr_grpo(r, ids)
    assert (np.abs(base) <= 1e6 * np.abs(centred) * (1 + 1e-9)).all()
    assert (base * centred >= 0).all()
    # Failures for successes: the batch is mirrored.
    mirrored = bnpo(1 - np.round(r), ids)
    assert_allclose(mirrored, -bnpo(np.round(r), ids), rtol=1e-7, atol=1e-9)  # the density of large parameters cancels


def test_the_weight_is_bounded():
    rng = np.random.default_rng(0)
    r = np.concatenate([rng.random((200, 16)) < 0.5, [[1] + [0] * 15]]).astype(float).ravel()
    ids = np.repeat(np.arange(201), 16)
    free, bound = bnpo(r, ids, max_weight=1e9), bnpo(r, ids, max_weight=3.0)
    centred = dr_grpo(r, ids)[-16:]
    assert np.abs(free[-16:] / centred).max() > 4
    assert_allclose(bound[-16:], 3.0 * centred)
    assert bnpo([1.0], [0], max_weight=0.25, singleton="raw").tolist() == [0.25]


def test_messages():
    with pytest.raises(
        ValueError, match=r"bnpo\(\): 'rewards' must be between 0 and 1, got -1.0 at index 1; scale them"
    ):
        bnpo([1.0, -1.0], [0, 0])
    assert bnpo([1.0, -1.0], [0, 0], valid=[1, 0]).tolist() == [0.0, 0.0]
    for value in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=rf"bnpo\(\): 'max_weight' must be finite and positive, got {value}"):
            bnpo([1.0], [0], max_weight=value)
    with pytest.raises(TypeError, match=r"bnpo\(\): 'max_weight' must be a number, got True"):
        bnpo([1.0], [0], max_weight=True)
    with pytest.raises(ValueError, match=r"bnpo\(\): 'max_weight' must have a finite inverse, got 1e-320"):
        bnpo([1.0], [0], max_weight=1e-320)

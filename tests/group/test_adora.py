"""ADORA: GRPO and a gate by lengths."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

adora = rm.group.adora

REWARDS = st.one_of(st.sampled_from([0.0, 1.0, 1.0, 0.7, -1.0]), st.integers(-640, 640).map(lambda k: k / 64))
ROWS = st.lists(
    st.tuples(REWARDS, st.integers(0, 3), st.integers(0, 50), st.booleans(), st.booleans(), st.booleans()), max_size=24
)
GATES = st.fixed_dictionaries(
    {
        "weight": st.sampled_from([0.1, 0.0, 2.0]),
        "no_correct": st.sampled_from(["scale", "keep"]),
        "no_incorrect": st.sampled_from(["scale", "keep"]),
    }
)


def unzip(rows, dtype=np.float64):
    r, ids, lengths, valid, right, cut = zip(*rows, strict=True) if rows else ((),) * 6
    masks = (np.array(x, dtype=bool) for x in (valid, right, cut))
    return np.array(r, dtype=dtype), np.array(ids, dtype=np.int64), np.array(lengths, dtype=np.int64), *masks


def test_by_hand(vectors):
    v = vectors("flat")["adora"]
    assert_allclose(adora(v["r"], [0] * 4, v["L"]), v["adv"], rtol=1e-14)
    # One token longer than the mean of the incorrect ones, and the gate is open.
    assert_allclose(adora(v["r"], [0] * 4, [50, 80, 90, 86]), rm.group.grpo(v["r"], [0] * 4))
    assert_allclose(adora(v["r"], [0] * 4, [50, 80, 90, 85]), v["adv"], rtol=1e-14)


@given(ROWS, GATES, st.booleans(), st.booleans(), st.booleans(), st.sampled_from(["f4", "f8"]))
def test_the_oracle(oracle, tolerance, rows, gates, masked, given_right, given_cut, dtype):
    r, ids, lengths, valid, right, cut = unzip(rows, dtype)
    options = {
        **gates,
        "valid": valid if masked else None,
        "correct": right if given_right else None,
        "truncated": cut if given_cut else None,
    }
    for rules in ({}, {"ddof": 0, "eps": 1e-4, "singleton": "raw"}):
        expected = oracle("group/adora.py", "adora")(r, ids.tolist(), lengths, **options, **rules)
        got = adora(r, ids, lengths, **options, **rules)
        assert got.dtype == r.dtype
        assert_allclose(got, expected, **tolerance(r.dtype))


@given(ROWS, st.integers(1, 5), st.sampled_from(["omit", "propagate"]))
def test_the_oracle_with_nan(oracle, tolerance, rows, every, nan):
    r, ids, lengths, valid, *_ = unzip(rows)
    r[::every] = np.nan
    expected = oracle("group/adora.py", "adora")(r, ids.tolist(), lengths, valid=valid, nan=nan)
    assert_allclose(adora(r, ids, lengths, valid=valid, nan=nan), expected, **tolerance("float64"))


@given(ROWS, st.randoms(use_true_random=False), st.sampled_from([np.float32, np.float64]))
def test_permuting_rows_changes_no_bit(same_bits, rows, random, dtype):
    r, ids, lengths, valid, *_ = unzip(rows)
    r = r.astype(dtype) * dtype(0.1)
    turn = np.arange(len(r))
    random.shuffle(turn)
    got = adora(r[turn], ids[turn], lengths[turn], valid=valid[turn])
    same_bits(got, adora(r, ids, lengths, valid=valid)[turn])


@given(ROWS)
def test_it_is_grpo_or_a_tenth_of_it_and_groups_do_not_see_each_other(same_bits, rows):
    r, ids, lengths, *_ = unzip(rows)
    got, whole = adora(r, ids, lengths), rm.group.grpo(r, ids)
    for group in set(ids.tolist()):
        mine = ids == group
        assert (got[mine] == whole[mine]).all() or (got[mine] == 0.1 * whole[mine]).all()
        same_bits(adora(r[mine], ids[mine], lengths[mine]), got[mine])
    assert_allclose(rm.ops.segment_sum(got, ids), 0, atol=1e-11)
    assert_allclose(adora(2 * r, ids, lengths, eps=0.0), adora(r, ids, lengths, eps=0.0), atol=1e-12)
    same_bits(adora(r, ids, lengths, weight=1.0), whole)


def test_truncated_incorrect_rollouts_are_no_part_of_the_mean():
    r, lengths = [1.0, 0.0, 0.0], [60, 50, 4096]
    assert_allclose(adora(r, [0] * 3, lengths), 0.1 * rm.group.grpo(r, [0] * 3))
    assert_allclose(adora(r, [0] * 3, lengths, truncated=[0, 0, 1]), rm.group.grpo(r, [0] * 3))


def test_kinds_and_layouts():
    torch = pytest.importorskip("torch")
    out = adora(torch.tensor([1.0, 0.0]), torch.tensor([5, 5]), torch.tensor([7, 9]))
    assert (type(out), out.dtype) == (torch.Tensor, torch.float32)
    wide = np.random.default_rng(0).normal(size=(6, 2))
    ids, lengths = [0, 0, 0, 1, 1, 1], np.arange(12)[::2]
    assert (adora(wide[:, 1], ids, lengths) == adora(wide[:, 1].copy(), ids, lengths.copy())).all()
    assert adora([0.7] * 3, [0] * 3, [1, 2, 3]).tolist() == [0.0] * 3
    assert adora([], [], []).tolist() == []
    assert adora([math.nan, 1.0], [0, 0], [math.nan, 1], valid=[0, 0]).tolist() == [0.0, 0.0]


ONE = ([1.0], [0], [3])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: adora(*ONE, no_correct="drop"), ValueError, "'no_correct' must be one of 'scale', 'keep', got 'drop'"),
        (lambda: adora(*ONE, no_incorrect=1), ValueError, "'no_incorrect' must be one of 'scale', 'keep', got 1"),
        (lambda: adora(*ONE, weight=math.nan), ValueError, r"adora\(\): 'weight' must be finite, got nan"),
        (lambda: adora(*ONE, weight=False), TypeError, "'weight' must be a number, got False"),
        (lambda: adora([1.0], [0], [-1]), ValueError, "'lengths' must be finite and not negative where rows are va"),
        (lambda: adora([1.0], [0], [1, 2]), ValueError, r"'lengths' must have length 1 \(= len\(groups\)\), got 2"),
        (
            lambda: adora(*ONE, correct=[1.0]),
            TypeError,
            r"'correct' must be bool or integer \(nonzero = True\), got fl",
        ),
        (lambda: adora(*ONE, truncated=[1, 1]), ValueError, r"'truncated' must have length 1 \(= len\(groups\)\), got"),
        (lambda: adora([math.nan], [0], [1]), ValueError, r"adora\(\): 'rewards' must be finite, got NaN at index 0"),
        (lambda: adora(*ONE, singleton="raise"), ValueError, r"adora\(\): .* one valid member"),
        (lambda: adora(*ONE, epsilon=1), TypeError, r"adora\(\) got an unexpected keyword argument 'epsilon'"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()

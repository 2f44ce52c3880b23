"""ASPO: shaping by the position of the first tool call."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

aspo = rm.group.aspo

ROWS = st.lists(
    st.tuples(
        st.integers(-128, 128).map(lambda k: k / 64),
        st.integers(0, 3),
        st.integers(-1, 40),
        st.integers(1, 60),
        st.booleans(),
        st.booleans(),
    ),
    max_size=24,
)


def unzip(rows, dtype=np.float64):
    a, ids, p, lengths, right, valid = zip(*rows, strict=True) if rows else ((),) * 6
    whole = (np.array(x, dtype=np.int64) for x in (ids, p, lengths))
    return np.array(a, dtype=dtype), *whole, *(np.array(x, dtype=bool) for x in (right, valid))


def test_by_hand(vectors):
    v = vectors("flat")["aspo"]
    got = aspo(v["A"], [0] * 3, v["p"], v["L"], correct=[1, 1, 1], delta=v["delta"], k=v["k"])
    assert_allclose(got, v["adv"], rtol=1e-15)
    # 2 * 400 / 800 is more than 0.7 * 0.8, which bounds it.
    wide = aspo([0.8, 0.8], [0, 0], [0, 800], [800, 800], correct=[1, 1])
    assert_allclose(wide, [0.8 * 1.7, 0.8 * 0.3])


@given(ROWS, st.sampled_from([-2.0, 1.5, 0.0]), st.sampled_from([0.7, 0.0, 2.0]), st.booleans(), st.sampled_from("fd"))
def test_the_oracle(oracle, tolerance, rows, delta, k, masked, dtype):
    a, ids, p, lengths, right, valid = unzip(rows, dtype)
    options = {"correct": right, "delta": delta, "k": k, "valid": valid if masked else None}
    expected = oracle("group/aspo.py", "aspo")(a, ids.tolist(), p, lengths, **options)
    got = aspo(a, ids, p, lengths, **options)
    assert got.dtype == a.dtype
    assert_allclose(got, expected, **tolerance(a.dtype))
    given_use = aspo(a, ids, np.maximum(p, 0), lengths, used=p >= 0, **options)
    assert (given_use == got).all()


@given(ROWS, st.randoms(use_true_random=False), st.sampled_from([np.float32, np.float64]))
def test_permuting_rows_changes_no_bit(same_bits, rows, random, dtype):
    a, ids, p, lengths, right, valid = unzip(rows)
    a = a.astype(dtype) * dtype(0.1)
    turn = np.arange(len(a))
    random.shuffle(turn)
    got = aspo(a[turn], ids[turn], p[turn], lengths[turn], correct=right[turn], valid=valid[turn])
    same_bits(got, aspo(a, ids, p, lengths, correct=right, valid=valid)[turn])


@given(ROWS)
def test_no_sign_changes_and_only_correct_users_do(same_bits, rows):
    a, ids, p, lengths, right, _ = unzip(rows)
    got = aspo(a, ids, p, lengths, correct=right)
    assert (np.sign(got) == np.sign(a)).all()
    chosen = right & (p >= 0)
    same_bits(got[~chosen], a[~chosen])
    later = aspo(a, ids, np.where(p >= 0, p + 7, p), lengths, correct=right)
    assert_allclose(later, got, rtol=1e-12, atol=1e-12)
    for group in set(ids.tolist()):
        mine = ids == group
        same_bits(aspo(a[mine], ids[mine], p[mine], lengths[mine], correct=right[mine]), got[mine])


def test_one_user_or_equal_positions_change_nothing():
    assert aspo([0.7], [0], [13], [100], correct=[1]).tolist() == [0.7]
    assert aspo([0.7] * 3, [0] * 3, [0.1] * 3, [9] * 3, correct=[1] * 3).tolist() == [0.7] * 3
    assert aspo([0.7, 0.2], [0, 0], [math.nan, 5], [100, 50], correct=[1, 1]).tolist() == [0.7, 0.2]
    # All correct and no spread: A is 0, and so is its share.
    assert aspo([0.0, 0.0], [0, 0], [1, 50], [100, 100], correct=[1, 1]).tolist() == [0.0, 0.0]
    assert aspo([math.nan, 0.2], [0, 0], [3, 5], [9, 9], correct=[1, 1], valid=[0, 1]).tolist() == [0.0, 0.2]
    assert aspo([], [], [], [], correct=[]).tolist() == []


def test_kinds_and_layouts():
    torch = pytest.importorskip("torch")
    a = torch.tensor([0.8, 0.8], dtype=torch.float16)
    out = aspo(a, torch.tensor([5, 5]), torch.tensor([1, 9]), torch.tensor([10, 10]), correct=torch.tensor([True] * 2))
    assert (type(out), out.dtype) == (torch.Tensor, torch.float32)
    wide = np.random.default_rng(0).normal(size=(6, 2))
    args = ([0, 0, 0, 1, 1, 1], np.arange(12)[::2], np.arange(1, 13)[::2])
    assert (aspo(wide[:, 1], *args, correct=[1] * 6) == aspo(wide[:, 1].copy(), *args, correct=[1] * 6)).all()


ONE = ([1.0], [0], [3], [9])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: aspo(*ONE, correct=[1], k=-0.1),
            ValueError,
            r"aspo\(\): 'k' must be finite and not negative, got -0.1",
        ),
        (lambda: aspo(*ONE, correct=[1], delta=math.nan), ValueError, "'delta' must be finite, got nan"),
        (lambda: aspo(*ONE, correct=[1.0]), TypeError, "'correct' must be bool or integer"),
        (lambda: aspo(*ONE, correct=[1, 0]), ValueError, r"'correct' must have length 1 \(= len\(groups\)\), got 2"),
        (lambda: aspo(*ONE, correct=[1], used=[1, 0]), ValueError, "'used' must have length 1"),
        (
            lambda: aspo([1.0], [0], [-1], [9], correct=[1], used=[1]),
            ValueError,
            "'positions' must be finite and not neg",
        ),
        (
            lambda: aspo(*ONE, correct=None),
            TypeError,
            r"aspo\(\): 'correct' must be bool or integer, one a row, got None",
        ),
        (
            lambda: aspo([1.0], [0], [math.inf], [9], correct=[1]),
            ValueError,
            "'positions' must be finite and not n",
        ),
        (lambda: aspo([1.0], [0], [3], [0], correct=[1]), ValueError, "'lengths' must be finite and positive where"),
        (
            lambda: aspo([math.nan], [0], [3], [9], correct=[0]),
            ValueError,
            "'advantages' must be finite where rows are",
        ),
        (lambda: aspo([1.0], [0], [3, 4], [9], correct=[1]), ValueError, "'positions' must have length 1"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()

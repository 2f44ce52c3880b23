"""GDPO: channels normalised one by one, added, whitened."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm
from rollmath.conventions import Whiten

gdpo = rm.group.gdpo

REWARDS = st.one_of(st.sampled_from([0.0, 1.0, 0.7, -1.0]), st.integers(-640, 640).map(lambda k: k / 64))
ROWS = st.lists(st.tuples(REWARDS, REWARDS, REWARDS, st.integers(0, 4), st.booleans(), st.integers(1, 5)), max_size=16)
DTYPES = st.sampled_from([np.float32, np.float64])
OPTIONS = st.fixed_dictionaries(
    {
        "weights": st.sampled_from([None, [1.0, 0.5, -2.0]]),
        "scale": st.sampled_from(["std", "none"]),
        "leave_one_out": st.booleans(),
    }
)
RULES = st.fixed_dictionaries(
    {
        "eps": st.sampled_from([1e-6, 1e-4]),
        "eps_place": st.sampled_from(["add", "where_positive"]),
        "singleton": st.sampled_from(["zero", "raw"]),
        "zero_spread": st.sampled_from(["zero", "unscaled"]),
    }
)

HOW = st.sampled_from([None, {}, {"eps": 1e-4, "eps_place": "add", "ddof": 0}])


def unzip(rows, dtype=np.float64):
    *r, ids, valid, lengths = zip(*rows, strict=True) if rows else ((),) * 6
    return np.array(r, dtype).T.reshape(-1, 3), list(ids), np.array(valid, bool), np.array(lengths, int)


def close(tolerance, dtype, whitened):
    """Rounding of the sum, 1e-15, is divided by 1e-4 where the sums hardly differ."""
    room = tolerance(dtype.__name__)
    return room | {"atol": 1e-10} if whitened and dtype == np.float64 else room


def test_hand_checked_vectors(vectors):
    v, ids = vectors("flat")["gdpo"], [0] * 4 + [1] * 4
    trl = {"convention": rm.conventions.TRL, **rm.conventions.TRL.options["gdpo"]}
    assert_allclose(gdpo(v["R"], ids, weights=v["w"], eps=1e-4, whiten=None), v["pre"], rtol=1e-12)
    assert_allclose(gdpo(v["R"], ids, weights=v["w"], **trl), v["adv"], rtol=1e-12)
    summed = np.array(v["R"]) @ v["w"]
    assert_allclose(rm.group.grpo(summed, ids, convention=rm.conventions.TRL), v["grpo_sum"], rtol=1e-12)


@given(ROWS, OPTIONS, RULES, HOW, st.booleans(), st.booleans(), DTYPES)
def test_the_oracle(oracle, tolerance, rows, options, rules, how, weigh, masked, dtype):
    r, ids, valid, lengths = unzip(rows, dtype)
    options = options | rules | {"valid": valid if masked else None, "lengths": lengths if weigh else None}
    expected = oracle("group/gdpo.py", "gdpo")(r, ids, whiten=how, **options)
    got = gdpo(r, ids, whiten=None if how is None else Whiten(**how), **options)
    assert_allclose(got, expected, **close(tolerance, dtype, how is not None))


@given(ROWS, st.integers(1, 5), st.integers(1, 3), st.sampled_from(["omit", "propagate"]), st.booleans())
def test_the_oracle_with_nan(oracle, tolerance, rows, every, columns, nan, whiten):
    r, ids, _, _ = unzip(rows)
    r[::every, :columns] = np.nan
    expected = oracle("group/gdpo.py", "gdpo")(r, ids, nan=nan, whiten={} if whiten else None)
    got = gdpo(r, ids, nan=nan, whiten=Whiten() if whiten else None)
    assert_allclose(got, expected, **close(tolerance, np.float64, whiten))


def test_a_missing_channel_adds_nothing_and_a_rollout_without_any_gets_nothing():
    nan = math.nan
    r = [[1.0, nan], [0.0, nan], [1.0, 2.0], [nan, 4.0], [nan, nan]]
    got = gdpo(r, [0] * 5, nan="omit", whiten=None)
    first = rm.group.grpo([1.0, 0.0, 1.0], [0] * 3)
    second = rm.group.grpo([2.0, 4.0], [0] * 2)
    assert_allclose(got, [first[0], first[1], first[2] + second[0], second[1], 0], rtol=1e-14)
    whitened = gdpo(r, [0] * 5, nan="omit")
    assert_allclose(whitened[:4], rm.ops.whiten(got[:4]), rtol=1e-12)
    assert whitened[4] == 0
    assert np.isnan(gdpo(r, [0] * 5, nan="propagate")).all()


@given(ROWS)
def test_one_channel_is_grpo(same_bits, rows):
    r, ids, valid, _ = unzip(rows)
    column = np.ascontiguousarray(r[:, :1])
    grpo = rm.group.grpo(column[:, 0], ids, valid=valid)
    same_bits(gdpo(column, ids, valid=valid, whiten=None), grpo + 0.0)
    same_bits(gdpo(column, ids, valid=valid), rm.ops.whiten(grpo, valid=valid) + 0.0)


@given(ROWS, st.sampled_from([0.25, 64.0]))
def test_the_scale_of_a_channel_does_not_matter(tolerance, rows, factor):
    r, ids, _, _ = unzip(rows)
    scaled = r * [1.0, factor, 1.0]
    base = gdpo(r, ids, eps=0.0, whiten=None)
    assert_allclose(gdpo(scaled, ids, eps=0.0, whiten=None), base, **tolerance("float64"))
    assert_allclose(gdpo(r, ids, lengths=np.ones(len(r))), gdpo(r, ids), **close(tolerance, np.float64, True))


def test_whitened_over_tokens():
    r = np.random.default_rng(0).normal(size=(12, 2))
    ids, lengths = np.arange(12) // 4, np.arange(1, 13)
    got = gdpo(r, ids, lengths=lengths)
    tokens = np.repeat(got, lengths)
    assert_allclose([tokens.mean(), tokens.var(ddof=1)], [0, 1], atol=1e-7)
    assert not gdpo(np.ones((4, 3)), [0] * 4, lengths=[1, 2, 3, 4]).any()


def test_nemo_rl():
    r = np.random.default_rng(1).normal(size=(8, 2))
    ids, nemo = np.arange(8) // 4, rm.conventions.NEMO_RL
    parts = [rm.group.grpo(r[:, c].copy(), ids, leave_one_out=True, convention=nemo) for c in range(2)]
    total = parts[0] + parts[1]
    expected = (total - total.mean()) / total.std(ddof=1)
    assert_allclose(gdpo(r, ids, convention=nemo, **nemo.options["gdpo"]), expected, rtol=1e-12)


def test_layouts_and_lists(same_bits):
    torch = pytest.importorskip("torch")
    r = np.random.default_rng(2).normal(size=(6, 3))
    ids = [0, 1, 0, 1, 0, 1]
    expected = gdpo(r, ids)
    for same in (np.asfortranarray(r), np.repeat(r, 2, axis=1)[:, ::2], r.tolist()):
        same_bits(gdpo(same, ids), expected)
    got = gdpo(torch.from_numpy(r).T.contiguous().T, torch.tensor(ids))
    same_bits(got.numpy(), expected)
    assert gdpo(torch.from_numpy(r).to(torch.bfloat16), ids).dtype == torch.float32
    with pytest.raises(ValueError, match=r"gdpo\(\): 'rewards' requires grad"):
        gdpo(torch.ones(2, 2, requires_grad=True), [0, 0])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"whiten": "token"}, TypeError, "'whiten' must be a Whiten or None, got 'token'"),
        ({"leave_one_out": "no"}, TypeError, "'leave_one_out' must be True or False, got 'no'"),
        ({"leave_one_out": math.nan}, TypeError, "'leave_one_out' must be True or False, got nan"),
        ({"scale": "mad"}, ValueError, "'scale' must be one of 'std', 'none', got 'mad'"),
        ({"lengths": [1]}, ValueError, r"'lengths' must have length 2 \(= len\(groups\)\), got 1"),
        ({"lengths": [1, -1]}, ValueError, "'lengths' must be finite and not negative where .*, got -1 at index 1"),
        ({"lengths": [1, -1], "whiten": None}, ValueError, "'lengths' must be finite and not negative where"),
        ({"lengths": [0, 0]}, ValueError, "'lengths' must not all be 0 where rows are valid"),
        ({"weights": [1.0]}, ValueError, r"'weights' must have length 2 \(= rewards.shape\[1\]\), got 1"),
        ({"weights": [1.0, math.nan]}, ValueError, "'weights' must be finite, got nan"),
        ({"weights": "ab"}, TypeError, "'weights' must be 1-D"),
    ],
)
def test_messages(options, error, message):
    with pytest.raises(error, match=r"gdpo\(\): " + message):
        gdpo([[1.0, 0.0], [0.0, 0.0]], [0, 0], **options)


def test_nothing_in_nothing_out():
    for empty in ([], np.zeros((0, 3))):
        assert gdpo(empty, []).shape == (0,)
        assert gdpo(empty, [], weights=[1.0, 1.0, 1.0], lengths=[]).dtype == np.float64


def test_a_tensor_is_read_once(monkeypatch, same_bits):
    """Reading one that is on a device waits for it. Ints give float32 as everywhere."""
    torch = pytest.importorskip("torch")
    reads, read = [], torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self, *a, **k: reads.append(self) or read(self, *a, **k))
    for dtype in (torch.float64, torch.bfloat16, torch.int64):
        x = torch.tensor([[1, 0], [0, 0], [1, 1]], dtype=dtype)
        got = gdpo(x, [0, 0, 0])
        assert (len(reads), got.dtype) == (1, torch.float64 if dtype == torch.float64 else torch.float32)
        assert_allclose(got.numpy(), gdpo(x.tolist(), [0, 0, 0]), rtol=1e-6)
        reads.clear()


def test_messages_about_rewards():
    with pytest.raises(TypeError, match=r"gdpo\(\): 'rewards' must be 2-D, \[N, channels\], got a 1-D float64 array"):
        gdpo([1.0, 0.0], [0, 0])
    with pytest.raises(
        ValueError, match=r"must have shape \[2 \(= len\(groups\)\), 1 or more channels\], got \[1, 2\]"
    ):
        gdpo([[1.0, 0.0]], [0, 0])
    with pytest.raises(ValueError, match=r"1 or more channels\], got \[2, 0\]"):
        gdpo(np.ones((2, 0)), [0, 0])
    with pytest.raises(ValueError, match=r"gdpo\(\): 'rewards\[:, 1\]' must be finite, got NaN at index 1"):
        gdpo([[1.0, 0.0], [0.0, math.nan]], [0, 0])

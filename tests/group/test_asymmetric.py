"""PSR, NSR and W-REINFORCE."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

psr, nsr, w_reinforce = rm.group.psr, rm.group.nsr, rm.group.w_reinforce
METHODS = ["psr", "nsr", "w_reinforce"]

ROWS = st.lists(st.tuples(st.sampled_from([0.0, 1.0, 0.5, 0.7, -1.0]), st.booleans()), max_size=16)


def unzip(rows, dtype=np.float64):
    r, valid = zip(*rows, strict=True) if rows else ((), ())
    return np.array(r, dtype=dtype), np.array(valid, dtype=bool)


def test_by_hand(vectors):
    v = vectors("flat")["wreinforce"]
    assert w_reinforce(v["r"], positive=v["lam"]).tolist() == v["adv"]


@given(ROWS, st.sampled_from([0.5, 0.0, -2.0]), st.booleans(), st.sampled_from(["f4", "f8"]))
def test_the_oracle(oracle, tolerance, rows, threshold, masked, dtype):
    r, valid = unzip(rows, dtype)
    options = {"threshold": threshold, "valid": valid if masked else None}
    for name in METHODS:
        got = getattr(rm.group, name)(r, **options)
        assert got.dtype == r.dtype
        assert_allclose(got, oracle("group/asymmetric.py", name)(r, **options), **tolerance(got.dtype))


@given(ROWS)
def test_the_two_halves_add_up(rows):
    r, valid = unzip(rows)
    assert (w_reinforce(r, positive=1.0, valid=valid) == psr(r, valid=valid) + nsr(r, valid=valid)).all()


def test_a_batch_without_wrong_or_correct_rollouts_is_zero_and_not_nan():
    assert nsr([1.0, 1.0]).tolist() == [0.0, 0.0]
    assert psr([0.0, 0.0]).tolist() == [0.0, 0.0]
    assert psr([]).tolist() == []


@pytest.mark.parametrize("name", METHODS)
def test_kinds_and_layouts(name):
    torch = pytest.importorskip("torch")
    method = getattr(rm.group, name)
    out = method(torch.tensor([1.0, 0.0], dtype=torch.bfloat16))
    assert (type(out), out.dtype) == (torch.Tensor, torch.float32)
    wide = np.arange(8.0).reshape(4, 2)
    assert (method(wide[:, 1]) == method(wide[:, 1].copy())).all()
    r = np.array([1.0, 0.0])
    method(r)
    assert r.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: psr([math.nan]), ValueError, r"psr\(\): 'rewards' must be finite where rows are valid, got nan at in"),
        (lambda: nsr([0.0, math.inf]), ValueError, "'rewards' must be finite where rows are valid, got inf at index 1"),
        (lambda: psr([1.0], valid=[1, 0]), ValueError, r"'valid' must have length 1 \(= len\(rewards\)\), got 2"),
        (lambda: psr([[1.0]]), TypeError, "'rewards' must be 1-D"),
        (lambda: psr(["a"]), TypeError, "'rewards' must hold floats, ints or bools, got <U1"),
        (lambda: psr([1.0], threshold=math.nan), ValueError, "'threshold' must be finite, got nan"),
        (lambda: nsr([1.0], threshold=True), TypeError, "'threshold' must be a number, got True"),
        (lambda: w_reinforce([1.0], positive=-0.1), ValueError, "'positive' must be finite and not negative, got -0.1"),
        (lambda: w_reinforce([1.0], negative=1.0), ValueError, "'negative' must be finite and at most 0, got 1.0"),
        (lambda: w_reinforce([1.0], negative="1"), TypeError, "'negative' must be a number, got an object of type str"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_row_that_takes_no_part_may_hold_anything():
    assert psr([math.nan, 1.0], valid=[0, 1]).tolist() == [0.0, 1.0]

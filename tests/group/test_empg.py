"""EMPG: step advantages modulated by entropy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

empg = rm.group.empg

ROWS = st.lists(
    st.tuples(
        st.integers(-128, 128).map(lambda k: k / 64),
        st.one_of(st.just(0.5), st.integers(0, 256).map(lambda k: k / 64)),
        st.integers(0, 3),
        st.integers(1, 30),
        st.booleans(),
    ),
    max_size=20,
)
OPTIONS = st.fixed_dictionaries(
    {
        "k": st.sampled_from([1.0, 0.0, 3.0]),
        "k_future": st.sampled_from([1.0, 0.0, 0.3]),
        "zeta": st.sampled_from([0.05, 0.0, 1.0]),
        "center": st.booleans(),
    }
)


def unzip(rows, dtype=np.float64):
    a, h, ids, tokens, valid = zip(*rows, strict=True) if rows else ((),) * 5
    whole = (np.array(x, dtype=np.int64) for x in (ids, tokens))
    return np.array(a, dtype=dtype), np.array(h, dtype=np.float64), *whole, np.array(valid, dtype=bool)


def test_by_hand(vectors):
    v = vectors("flat")["empg"]
    a = rm.ops.gather(np.array(v["A"], dtype=float), v["traj"])
    assert_allclose(empg(a, v["H"], v["traj"], center=False), v["A_mod"], rtol=1e-14)
    assert_allclose(empg(a, v["H"], v["traj"]), v["A_final"], rtol=1e-14)
    weight = empg(np.ones(5), v["H"], v["traj"], zeta=0.0, center=False)
    # The recorded weights have 1e-8 added to their mean.
    assert_allclose(weight, v["g"], rtol=2e-8)


@given(ROWS, OPTIONS, st.booleans(), st.booleans(), st.booleans(), st.sampled_from(["f4", "f8"]))
def test_the_oracle(oracle, tolerance, rows, options, masked, weighted, stepped, dtype):
    a, h, ids, tokens, valid = unzip(rows, dtype)
    more = {
        "valid": valid if masked else None,
        "weights": tokens if weighted else None,
        # Every other number, against the order of the rows.
        "step": -2 * np.arange(len(a)) if stepped else None,
    }
    expected = oracle("group/empg.py", "empg")(a, h, ids, **options, **more)
    got = empg(a, h, ids, **options, **more)
    assert got.dtype == a.dtype
    assert_allclose(got, expected, **tolerance(a.dtype))


@given(ROWS, OPTIONS, st.randoms(use_true_random=False), st.sampled_from([np.float32, np.float64]))
def test_permuting_rows_changes_no_bit(same_bits, rows, options, random, dtype):
    a, h, ids, tokens, valid = unzip(rows)
    a, step = a.astype(dtype) * dtype(0.1), np.arange(len(a))
    turn = np.arange(len(a))
    random.shuffle(turn)
    got = empg(a[turn], h[turn], ids[turn], step=step[turn], weights=tokens[turn], valid=valid[turn], **options)
    same_bits(got, empg(a, h, ids, step=step, weights=tokens, valid=valid, **options)[turn])


@given(ROWS)
def test_laws(tolerance, rows):
    a, h, ids, tokens, valid = unzip(rows)
    close = tolerance("float64")
    got = empg(a, h, ids, weights=tokens, valid=valid)
    assert_allclose(np.sum(got * tokens), 0, atol=1e-9)
    # The modulation has mean 1 over the batch, so advantages of 1 keep theirs.
    ones = empg(np.ones(len(a)), h, ids, zeta=0.0, center=False)
    assert_allclose(ones.sum(), len(a), **close)
    # Entropies count by where they lie between the smallest and the largest.
    assert_allclose(empg(a, 2 * h + 3, ids, eps=0.0), empg(a, h, ids, eps=0.0), **close)
    assert_allclose(empg(a, h, ids, k=0.0, zeta=0.0, center=False), a, **close)


def test_equal_entropies_modulate_nothing():
    a, ids = np.array([0.7, -0.7, 0.7]), ["x", "x", "y"]
    assert empg(a, [0.3] * 3, ids, zeta=0.0, center=False).tolist() == a.tolist()
    assert empg(a, [0.3] * 3, ids, zeta=0.5, center=False).tolist() == [1.2, -0.7, 0.7]
    assert not empg([0.7] * 3, [0.3] * 3, ids, zeta=0.0).any()


def test_a_step_left_out_is_no_next_step():
    args = ([1.0, 9.0, 1.0], [0.0, math.nan, 1.0], ["x"] * 3)
    got = empg(*args, valid=[1, 0, 1], zeta=1.0, k=0.0, center=False)
    assert_allclose(got, [1 + math.exp(-1 / (1 + 1e-8)), 0.0, 1.0])
    assert empg(*args, valid=[0, 0, 0]).tolist() == [0.0] * 3
    assert empg([], [], []).tolist() == []


def test_weights_are_tokens():
    """Twice the weight is the same row twice, apart from the bonus of a next step."""
    a, h = [1.0, -1.0], [0.2, 0.9]
    twice = empg([1.0, 1.0, -1.0], [0.2, 0.2, 0.9], [0, 1, 2], zeta=0.0)
    assert_allclose(empg(a, h, [0, 1], weights=[2, 1], zeta=0.0), twice[1:], rtol=1e-14)


def test_a_strong_modulation_does_not_vanish():
    """The steps that count are far from the most certain one, so that exp(-k h) of all of them is next to nothing."""
    given = {"weights": [0, 1, 1], "zeta": 0.0, "center": False, "eps": 0.0}
    got = empg([0.0, 1.0, 1.0], [0.0, 0.9375, 1.0], [0, 1, 2], k=750.0, **given)
    least = math.exp(-750 * 0.0625)
    assert_allclose(got, [0.0, 2 / (1 + least), 2 * least / (1 + least)], rtol=1e-12)
    with pytest.raises(ValueError, match=r"empg\(\): 'k' takes a step without weight past float64, got 1000.0"):
        empg([0.0, 1.0, 1.0], [0.0, 0.9375, 1.0], [0, 1, 2], k=1000.0, **given)


def test_kinds_and_layouts():
    torch = pytest.importorskip("torch")
    out = empg(torch.tensor([1.0, 0.0]), torch.tensor([0.1, 0.3]), torch.tensor([5, 5]))
    assert (type(out), out.dtype) == (torch.Tensor, torch.float32)
    wide = np.random.default_rng(0).random(size=(6, 2))
    ids = [0, 0, 0, 1, 1, 1]
    assert (empg(wide[:, 1], wide[:, 0], ids) == empg(wide[:, 1].copy(), wide[:, 0].copy(), ids)).all()


ONE = ([1.0], [0.5], ["x"])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: empg(*ONE, k=-1), ValueError, r"empg\(\): 'k' must be finite and not negative, got -1"),
        (lambda: empg(*ONE, k_future=math.nan), ValueError, "'k_future' must be finite and not negative, got nan"),
        (lambda: empg(*ONE, zeta=True), TypeError, "'zeta' must be a number, got True"),
        (lambda: empg(*ONE, eps=-1e-9), ValueError, "'eps' must be finite and not negative, got -1e-09"),
        (lambda: empg(*ONE, center=0), TypeError, "'center' must be True or False, got 0"),
        (
            lambda: empg([math.nan], [0.5], ["x"]),
            ValueError,
            "'advantages' must be finite where rows are valid, got na",
        ),
        (
            lambda: empg([1.0], [math.inf], ["x"]),
            ValueError,
            "'entropies' must be finite where rows are valid, got inf",
        ),
        (lambda: empg([1.0], [0.5, 1], ["x"]), ValueError, r"'entropies' must have length 1 \(= len\(trajectory\)"),
        (lambda: empg(*ONE, weights=[-1]), ValueError, "'weights' must be finite and not negative where rows are"),
        (lambda: empg(*ONE, weights=[0]), ValueError, "'weights' must not all be 0"),
        (lambda: empg(*ONE, step=[0.5]), TypeError, "'step' must hold integers, got float64"),
        (
            lambda: empg([1.0, 2.0], [0.1, 0.2], ["x", "x"], step=[4, 4]),
            ValueError,
            "'step' must differ within a trajectory, but 4 at index 1 occurs twice",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()

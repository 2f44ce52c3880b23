"""Rows that take part, and traps of token rows that a test of values alone would not find."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

import rollmath as rm
from rollmath.ops import Moments, Whiten, discounted_sum, moments, whiten

t, g = rm.temporal, rm.group
REWARDS = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [np.nan, 5.0, 0.0]])
VALUES = np.array([[0.5, 0.25, 0.0], [0.125, 0.5, 0.75], [9.0, np.inf, 0.0]])
MASK = np.array([[1, 1, 0], [1, 0, 1], [1, 0, 1]])
VALID = np.array([1, 1, 0])

CALLS = {
    "gae": lambda r, v, m, **o: np.stack(t.gae(r, v, mask=m, **o)),
    "gae_whiten": lambda r, v, m, **o: np.stack(t.gae(r, v, mask=m, whiten=Whiten(), **o)),
    "td_lambda": lambda r, v, m, **o: t.td_lambda(r, v, mask=m, **o),
    "vtrace": lambda r, v, m, **o: np.stack(t.vtrace(r, v, v, mask=m, **o)),
    "discounted_returns": lambda r, v, m, **o: t.discounted_returns(r, mask=m, **o),
    "reinforce_pp": lambda r, v, m, **o: g.reinforce_pp(r, mask=m, **o),
    "whiten": lambda r, v, m, **o: whiten(r, mask=m, **o),
}


@pytest.mark.parametrize("name", CALLS)
def test_rows_that_do_not_take_part_are_not_looked_at(same_bits, name):
    call = CALLS[name]
    got = call(REWARDS, VALUES, MASK, valid=VALID)
    without = call(REWARDS[:2], VALUES[:2], MASK[:2])
    same_bits(got[..., :2, :], without)
    assert not got[..., 2, :].any()
    with pytest.raises(ValueError, match="'valid' must have length 3"):
        call(REWARDS, VALUES, MASK, valid=[1])


@pytest.mark.parametrize("name", ["gae", "td_lambda", "vtrace", "discounted_returns", "reinforce_pp"])
def test_one_reward_a_row_of_such_rows_is_not_looked_at(same_bits, name):
    rewards = np.array([1.0, -1.0, np.nan])
    values = np.where(np.isfinite(VALUES), VALUES, 0.0)
    bootstrap = {} if name == "reinforce_pp" else {"bootstrap": np.array([0.5, 0.25, np.nan])}
    got = CALLS[name](rewards, values, MASK, valid=VALID, **bootstrap)
    bootstrap = {key: x[:2] for key, x in bootstrap.items()}
    same_bits(got[..., :2, :], CALLS[name](rewards[:2], values[:2], MASK[:2], **bootstrap))
    assert not got[..., 2, :].any()


def test_padding_is_a_gap_unless_lengths_say_otherwise():
    rewards, mask = np.zeros((1, 3)), np.array([[1, 1, 0]])
    for gaps in ("state", "ignore", "cut"):
        with pytest.raises(ValueError, match=f"'lengths' is needed where gaps='{gaps}' and 'bootstrap' is not 'zero'"):
            t.discounted_returns(rewards, mask=mask, gaps=gaps, bootstrap=[1.0])
        got = t.discounted_returns(rewards, mask=mask, lengths=[2], gaps=gaps, bootstrap=[1.0])
        assert got.tolist() == [[1.0, 1.0, 0.0]]
    assert t.discounted_returns(rewards, mask=mask, bootstrap=[1.0]).tolist() == [[1.0, 1.0, 0.0]]


def test_what_is_not_finite_does_not_hide_behind_a_cut():
    with pytest.raises(ValueError, match="'rewards' must be finite at trained tokens, got NaN at row 1, position 4"):
        t.discounted_returns([[1, 0, 1, 0, 2.0], [1, 0, 1, 0, np.nan]], mask=[[1, 0, 1, 0, 1]] * 2, gaps="cut")


def test_what_is_past_the_float_type():
    huge = np.array([[3e38, 3e38]], np.float32)
    assert t.gae(huge, huge * 0, lam=1.0).advantages.tolist() == [[np.inf, float(huge[0, 0])]]
    with pytest.raises(ValueError, match="'rewards' must be small enough for sums in float64"):
        t.gae(huge, huge * 0, lam=1.0, whiten=Whiten())
    with pytest.raises(ValueError, match=r"discounted_sum\(\): 'x' must be small enough for sums in float64"):
        discounted_sum(huge, whiten=Whiten())
    with pytest.raises(ValueError, match="must be small enough"):
        t.vtrace(huge, huge * 0, huge * 0)
    with pytest.raises(ValueError, match="'x' must be small enough for sums in float64"):
        whiten(np.array([[1e200], [1e200], [-1e200]]))


@pytest.mark.parametrize("log_ratio", [np.inf, -np.inf, np.nan])
def test_log_ratios_are_finite(log_ratio):
    with pytest.raises(ValueError, match="'log_ratios' must be finite at trained tokens"):
        t.vtrace([[1.0, 0.0]], [[0.0, 0.0]], [[0.0, log_ratio]])
    # One that only overflows is clipped.
    assert t.vtrace([[1.0]], [[0.0]], [[1000.0]]).advantages.tolist() == [[1.0]]


def test_results_share_no_memory_with_numbers_of_rows():
    torch = pytest.importorskip("torch")
    buffer, zeros = torch.full((4,), 0.5, dtype=torch.float64), torch.zeros(4, 1, dtype=torch.float64)
    for option in ("lam", "lam_returns", "bootstrap"):
        with pytest.raises(ValueError, match=f"'out' shares memory with '{option}'"):
            t.gae(zeros, zeros, **{option: buffer}, out=(buffer.view(4, 1), zeros.clone()))
    with pytest.raises(ValueError, match="'out' shares memory with 'out'"):
        t.gae(zeros, zeros, out=(buffer.view(4, 1), buffer.view(4, 1)))


def test_negative_zero_is_kept():
    plain = t.discounted_returns([[-0.0, -1.0]], gamma=0.0)
    gapped = t.discounted_returns([[-0.0, 0.0, -1.0]], gamma=0.0, mask=[[1, 0, 1]])
    assert np.signbit(plain).all()
    assert np.signbit(gapped[0, [0, 2]]).all()


def test_moments_are_a_value():
    m = moments([1.0, 2.0])
    assert m == Moments(m.weights, m.means, m.squares, m.low, m.high) != moments([1.0, 3.0])
    assert hash(m) == hash(Moments(m.weights, m.means, m.squares, m.low, m.high))
    assert m != 1
    assert not np.signbit([moments([0.0, -0.0]).mean, moments([-0.0, 0.0]).mean]).any()
    for parts in ([], [1], m):
        with pytest.raises(TypeError, match=r"Moments.merge\(\): 'parts' must be a list of one Moments or more"):
            Moments.merge(parts)
    for name in ("weights", "squares"):
        fields = {key: [1.0] for key in ("weights", "means", "squares", "low", "high")} | {name: [-1.0]}
        with pytest.raises(ValueError, match=rf"Moments\(\): '{name}' must not be negative, got -1.0"):
            Moments(**fields)
    with pytest.raises(TypeError, match=r"Moments\(\): 'weights' must be 1-D"):
        Moments("a", [1.0], [1.0], [1.0], [1.0])


def test_given_moments_leave_no_room_for_weights():
    m = moments([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="'weights' have no say where 'moments' are given"):
        whiten([1.0, 2.0], weights=[1, 1], moments=m)
    with pytest.raises(ValueError, match="'x' must be finite at trained tokens, got NaN at row 0, position 1"):
        whiten([[1.0, np.nan]], moments=m)


def test_rows_left_out_leave_no_warning():
    assert_allclose(whiten([1.0, np.inf, 3.0], valid=[1, 0, 1]), [-np.sqrt(0.5), 0, np.sqrt(0.5)], rtol=1e-7)


@pytest.mark.parametrize("call", [lambda x: t.gae(x, x), discounted_sum, whiten, moments])
def test_lists_of_unequal_rows_are_named(call):
    with pytest.raises(TypeError, match=r"has rows of unequal length; use Ragged\.from_lists"):
        call([[1.0, 2.0], [3.0]])


def test_a_lambda_of_one_row_is_no_scalar():
    assert t.gae([[0.0, 1.0]], [[0.0, 0.0]], lam=np.array([0.5])).advantages.tolist() == [[0.5, 1.0]]
    assert t.gae([[0.0, 1.0]], [[0.0, 0.0]], lam=np.array(0.5)).advantages.tolist() == [[0.5, 1.0]]


@pytest.mark.parametrize("width", [True, 2**70])
def test_a_width_is_a_number_of_columns(width):
    with pytest.raises((TypeError, ValueError), match=r"expand\(\): 'width' must be"):
        rm.ops.expand([1.0], lengths=[1], width=width)

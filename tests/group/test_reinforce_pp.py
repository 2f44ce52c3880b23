"""REINFORCE++ and its form with a group baseline."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm
from rollmath.ops import Whiten

reinforce_pp, baseline = rm.group.reinforce_pp, rm.group.reinforce_pp_baseline
NUMBERS = st.integers(-64, 64).map(lambda k: k / 16)
TOKEN_ROWS = st.lists(st.lists(st.tuples(NUMBERS, st.booleans()), max_size=7), max_size=7)
ROLLOUTS = st.lists(st.tuples(NUMBERS, st.integers(0, 3), st.integers(1, 9), st.booleans()), max_size=16)
HOW = st.fixed_dictionaries(
    {
        "ddof": st.sampled_from([0, 1]),
        "eps": st.sampled_from([1e-8, 1e-3]),
        "eps_place": st.sampled_from(["sqrt", "max"]),
    }
)


@given(TOKEN_ROWS, st.sampled_from([1.0, 0.9, 0.0]), HOW, st.booleans())
def test_the_oracle(oracle, rows, gamma, how, plain):
    masks = [[int(m) for _, m in row] for row in rows]
    rewards = [[x if m else 0.0 for x, m in row] for row in rows]
    expected = oracle("group/reinforce_pp.py", "reinforce_pp")(rewards, masks, gamma=gamma, whiten=not plain, **how)
    packed = rm.Ragged.from_lists(rewards, dtype="float64")
    mask = rm.Ragged.from_lists(masks, dtype="int64")
    got = reinforce_pp(packed, mask=mask, gamma=gamma, whiten=None if plain else Whiten(**how))
    # Spreads near eps = 1e-8 multiply a rounding of the mean by 1e4.
    assert_allclose(got.values, [x for row in expected for x in row], rtol=1e-9, atol=1e-9)


def test_one_reward_a_row_is_that_of_its_last_token(same_bits):
    mask = np.array([[1, 1, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]])
    rewards = np.array([1.0, -2.0, 0.0])
    tokens = np.zeros((3, 4))
    tokens[[0, 1], [3, 0]] = rewards[:2]
    same_bits(reinforce_pp(rewards, mask=mask, gamma=0.5), reinforce_pp(tokens, mask=mask, gamma=0.5))
    assert_allclose(reinforce_pp(rewards, mask=mask, gamma=0.5, whiten=None)[0], [0.25, 0.5, 0, 1])
    packed = reinforce_pp(rewards, lengths=[2, 1, 0], whiten=None)
    assert packed.to_lists() == [[1.0, 1.0], [-2.0], []]
    with pytest.raises(ValueError, match=r"reinforce_pp\(\): one number a row in 'rewards' needs 'mask' or 'lengths'"):
        reinforce_pp(rewards)


@given(ROLLOUTS, HOW, st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_the_oracle_with_a_baseline(oracle, rollouts, how, weigh, raw, masked, plain):
    r, ids, lengths, valid = zip(*rollouts, strict=True) if rollouts else ((), (), (), ())
    options = {"lengths": lengths if weigh else None, "valid": valid if masked else None}
    written = oracle("group/reinforce_pp.py", "reinforce_pp_baseline")
    expected = written(r, ids, raw=raw, whiten=not plain, **options, **how)
    how = None if plain else Whiten(**how)
    got = baseline(np.array(r, float), ids, whiten=how, singleton="raw" if raw else "zero", **options)
    # Spreads near eps = 1e-8 multiply a rounding of the mean by 1e4.
    assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


@given(ROLLOUTS, st.integers(1, 5), st.sampled_from(["omit", "propagate"]), st.booleans(), st.booleans())
def test_the_oracle_with_a_baseline_and_missing_rewards(oracle, rollouts, every, nan, weigh, plain):
    r, ids, lengths, _ = zip(*rollouts, strict=True) if rollouts else ((), (), (), ())
    holes = np.array(r, float)
    holes[::every] = np.nan
    options = {"lengths": lengths if weigh else None, "nan": nan}
    expected = oracle("group/reinforce_pp.py", "reinforce_pp_baseline")(holes, ids, whiten=not plain, **options)
    got = baseline(holes, ids, whiten=None if plain else Whiten(), **options)
    assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


def test_lengths_are_of_those_that_take_part():
    nan = float("nan")
    assert_allclose(
        baseline([1.0, 0.0, nan, 5.0], [0] * 4, lengths=[2, 2, 7, nan], valid=[1, 1, 1, 0], nan="omit")[:2],
        baseline([1.0, 0.0], [0, 0], lengths=[2, 2]),
        rtol=1e-12,
    )
    for whiten in (None, Whiten()):
        with pytest.raises(ValueError, match=r"reinforce_pp_baseline\(\): 'lengths' must not all be 0 where rows are"):
            baseline([1.0, 0.0, 0.0], [0] * 3, lengths=[0, 0, 4], valid=[1, 1, 0], whiten=whiten)
        with pytest.raises(ValueError, match=r"reinforce_pp_baseline\(\): 'lengths' must be finite and not negative"):
            baseline([1.0, 0.0], [0, 0], lengths=[1, nan], whiten=whiten)


@given(ROLLOUTS, st.randoms(use_true_random=False), st.sampled_from([np.float32, np.float64]))
def test_permuting_rows_changes_no_bit(same_bits, rollouts, random, dtype):
    r, ids, lengths, _ = (np.array(x) for x in zip(*rollouts, strict=True)) if rollouts else (np.zeros(0),) * 4
    r, ids, lengths = r.astype(dtype) * dtype(0.1), ids.astype(int), lengths.astype(int)
    turn = np.arange(len(r))
    random.shuffle(turn)
    same_bits(baseline(r[turn], ids[turn], lengths=lengths[turn]), baseline(r, ids, lengths=lengths)[turn])
    tokens = rm.Ragged.from_lengths(np.repeat(r, lengths), lengths)
    turned = rm.Ragged.from_lengths(np.repeat(r[turn], lengths[turn]), lengths[turn])
    ours, theirs = reinforce_pp(tokens, gamma=0.9), reinforce_pp(turned, gamma=0.9)
    for i, j in enumerate(turn):
        same_bits(theirs[i], ours[j])


def test_the_baseline_form_is_that_of_expanded_tokens():
    r, ids, lengths = np.array([1.0, 0.0, 0.5, 0.25]), [0, 0, 1, 1], np.array([3, 1, 2, 5])
    scalars = baseline(r, ids, lengths=lengths)
    expanded = np.repeat(rm.group.grpo(r, ids, scale="none"), lengths)
    white = rm.ops.whiten(expanded)
    assert_allclose(np.repeat(scalars, lengths), white, rtol=1e-12)
    assert abs((scalars * lengths).sum()) < 1e-12


def test_degenerate_batches():
    assert baseline([1.0, 1.0, 3.0], [0, 0, 1]).tolist() == [0.0] * 3
    assert reinforce_pp([2.0, 2.0], lengths=[3, 1]).values.tolist() == [0.0] * 4
    assert reinforce_pp(np.zeros((0, 4))).shape == (0, 4)
    assert baseline([1.0, 0.0, 5.0], [0, 0, 0], valid=[1, 1, 0]).tolist()[2] == 0.0
    assert baseline([4.0, 1.0, 0.0], [0, 1, 1], whiten=None, convention=rm.conventions.VERL).tolist() == [
        4.0,
        0.5,
        -0.5,
    ]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: baseline([1.0, 0.0], [0, 0], lengths=[1, -1]),
            r"'lengths' must be finite and not negative where rows are valid, got -1",
        ),
        (lambda: baseline([1.0, 0.0], [0, 0], lengths=[1]), r"'lengths' must have length 2"),
        (lambda: baseline([1.0, float("nan")], [0, 0]), r"'rewards' must be finite, got NaN at index 1"),
        (lambda: reinforce_pp([[0.0, 1.0]], gamma=1.5), r"reinforce_pp\(\): 'gamma' must be in \[0, 1\], got 1.5"),
        (
            lambda: reinforce_pp([[1.0, 1.0]], mask=[[1, 0]]),
            r"'rewards' has 1 at row 0, position 1, where the mask is 0",
        ),
        (lambda: reinforce_pp([[1.0, float("inf")]]), r"'rewards' must be finite at trained tokens, got inf at row 0"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "call", [lambda: baseline([1.0], [0], whiten=True), lambda: reinforce_pp([[1.0]], whiten=True)]
)
def test_whiten_is_a_whiten(call):
    with pytest.raises(TypeError, match="'whiten' must be a Whiten or None, got True"):
        call()


def test_torch_and_out():
    torch = pytest.importorskip("torch")
    rewards = torch.tensor([[0.0, 0.0, 1.0], [0.0, -1.0, 0.0]], dtype=torch.bfloat16)
    mask = torch.tensor([[1, 0, 1], [1, 1, 0]])
    out = torch.empty(2, 3)
    got = reinforce_pp(rewards, mask=mask, out=out)
    assert got is out
    assert got.dtype == torch.float32
    assert_allclose(got.numpy(), reinforce_pp(rewards.float().numpy(), mask=mask.numpy()))
    assert baseline(torch.tensor([1, 0]), torch.tensor([3, 3])).dtype == torch.float32

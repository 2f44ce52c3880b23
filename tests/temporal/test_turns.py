"""Advantages over turns, and from turns to tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

turn_gae, expand_turns = rm.temporal.turn_gae, rm.temporal.expand_turns

UNIT = st.one_of(st.sampled_from([0.0, 0.5, 0.95, 1.0]), st.floats(0, 1))
DTYPES = [np.float64, np.float32]


def turns_of(batch, form):
    """Turn numbers in the form of a call, and what goes with them."""
    arrays, how = batch.hand(form, "turns", dtype=np.int64, fill=7)
    return arrays[0], how


def test_turns_by_hand(vectors):
    v = vectors("structured")["turn_gae"]
    got = turn_gae(np.array([v["r"]], float), np.array([v["V"]]))
    assert_allclose(got.advantages, [v["adv"]], atol=5e-7)
    assert_allclose(got.returns, np.array([v["adv"]]) + v["V"], atol=5e-7)


@given(data=st.data(), dtype=st.sampled_from(DTYPES), padded=st.booleans())
def test_turn_gae_is_the_oracle(oracle, tolerance, tokens, flat, dtype, data, padded):
    batch = data.draw(tokens(rewards_on_gaps=True)).rounded(dtype)
    options = {"gamma": data.draw(UNIT), "lam": data.draw(UNIT), "truncated": batch.truncated}
    options["bootstrap"] = data.draw(st.sampled_from(["zero", "last", batch.bootstrap]))
    form = "lengths" if padded else "ragged"
    arrays, how = batch.hand(form, "rewards", "values", dtype=dtype)
    del how["mask"]
    got = turn_gae(*arrays, **how, **options)
    expected = oracle("temporal/turns.py", "turn_gae")(batch["rewards"], batch["values"], **options)
    for ours, theirs in zip(got, expected, strict=True):
        numbers = batch.read(form, ours)
        assert numbers.dtype == dtype
        assert_allclose(numbers, flat(theirs), **tolerance(np.dtype(dtype).name))


@given(data=st.data())
def test_turn_gae_is_gae_over_turns(same_bits, tokens, data):
    batch = data.draw(tokens(rewards_on_gaps=True))
    (rewards, values), _ = batch.hand("ragged", "rewards", "values")
    for ours, theirs in zip(
        turn_gae(rewards, values), rm.temporal.gae(rewards, values, gamma=0.99, lam=0.9), strict=True
    ):
        same_bits(ours.values, theirs.values)


def test_expanding_by_hand():
    x = rm.Ragged.from_lists([[0.5, -1.0], [2.0]])
    turns = rm.Ragged.from_lists([[0, 0, -1, 1], [0, 0]])
    assert expand_turns(x, turns).to_lists() == [[0.5, 0.5, 0.0, -1.0], [2.0, 2.0]]
    assert expand_turns(x, turns, mask=[1, 0, 0, 1, 1, 1]).to_lists() == [[0.5, 0.0, 0.0, -1.0], [2.0, 2.0]]
    padded = np.array([[0, 0, -1, 1], [0, 0, 5, 5]])
    got = expand_turns(np.array([[0.5, -1.0], [2.0, 9.0]]), padded, lengths=[4, 2])
    assert got.tolist() == [[0.5, 0.5, 0.0, -1.0], [2.0, 2.0, 0.0, 0.0]]


@given(data=st.data(), dtype=st.sampled_from(DTYPES), x_padded=st.booleans())
def test_expand_turns_is_the_oracle(oracle, same_bits, tokens, flat, form, data, dtype, x_padded):
    batch = data.draw(tokens())
    counts = [max(row, default=-1) + 1 for row in batch["turns"]]
    numbers = [[data.draw(st.integers(-64, 64)) / 64 for _ in range(n)] for n in counts]
    x = rm.Ragged.from_lengths(flat(numbers, dtype), counts)
    turns, how = turns_of(batch, form)
    got = expand_turns(x.to_padded() if x_padded else x, turns, **how)
    expected = oracle("temporal/turns.py", "expand_turns")(numbers, batch["turns"], batch.mask)
    same_bits(batch.read(form, got), flat(expected, dtype))


@given(data=st.data())
def test_a_mask_may_be_said_with_minus_one(same_bits, tokens, data):
    batch = data.draw(tokens())
    x = rm.Ragged.from_lengths(np.arange(8.0 * len(batch.mask)), [8] * len(batch.mask))
    turns, how = turns_of(batch, "ragged")
    marked = turns.with_values(np.where(batch.flat_mask, turns.values, -1))
    same_bits(expand_turns(x, turns, **how).values, expand_turns(x, marked).values)


def test_tensors():
    torch = pytest.importorskip("torch")
    rewards, values = torch.zeros(3, 4), torch.full((3, 4), 0.5, dtype=torch.bfloat16)
    turns = torch.tensor([[0, 0, 1, 1], [0, -1, -1, -1], [0, 1, 3, 3]])
    level = turn_gae(rewards, values).advantages
    assert (level.dtype, level.shape) == (torch.float32, (3, 4))
    wide = expand_turns(level, turns)
    assert (wide.dtype, wide[2].tolist()) == (torch.float32, level[2][[0, 1, 3, 3]].tolist())
    # The kind is that of the numbers, the form that of the turns.
    packed = expand_turns(level, rm.Ragged.from_padded(turns.numpy(), lengths=[4, 0, 1]))
    assert isinstance(packed.values, torch.Tensor)
    assert isinstance(expand_turns(level.numpy(), turns), np.ndarray)


def test_wrong_expansions():
    x = rm.Ragged.from_lists([[0.5, -1.0], [2.0]])
    turns = rm.Ragged.from_lists([[0, 1], [1]])
    with pytest.raises(
        ValueError, match=r"expand_turns\(\): 'turns' is 1 at row 1, position 0, but 'x' has 1 turns there"
    ):
        expand_turns(x, turns)
    with pytest.raises(ValueError, match=r"expand_turns\(\): 'turns' must have 2 rows \(= those of x\), got 1"):
        expand_turns(x, rm.Ragged.from_lists([[0, 1]]))
    with pytest.raises(TypeError, match=r"expand_turns\(\): 'turns' must hold integers, got float64"):
        expand_turns(x, turns.with_values(np.zeros(3)))
    with pytest.raises(TypeError, match=r"expand_turns\(\): 'x' must be a Ragged or a padded 2-D array \[B, T\]"):
        expand_turns([1.0, 2.0], turns)

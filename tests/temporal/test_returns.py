"""Discounted returns: by hand, against the oracle, and their laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

discounted_returns = rm.temporal.discounted_returns

UNIT = st.one_of(st.sampled_from([0.0, 0.5, 0.95, 1.0]), st.floats(0, 1))
DTYPES = [np.float64, np.float32]


def test_by_hand():
    row = np.array([[1.0, 0.0, 2.0]])
    assert discounted_returns(row, gamma=0.5).tolist() == [[1.5, 1.0, 2.0]]
    assert discounted_returns(row, gamma=0.5, bootstrap=[8.0]).tolist() == [[2.5, 3.0, 6.0]]
    assert discounted_returns(row, gamma=0.5, bootstrap=[8.0], truncated=[False]).tolist() == [[1.5, 1.0, 2.0]]
    assert discounted_returns(row, gamma=0.0).tolist() == row.tolist()
    assert discounted_returns(row).tolist() == [[3.0, 2.0, 2.0]]


@pytest.mark.parametrize(
    ("gaps", "expected"),
    [
        ("carry", [1 + 0.5 * 3, 0, 2 + 0.5 * 2, 2]),
        ("state", [1 + 0.25 * 3, 0, 2 + 0.5 * 2, 2]),
        ("ignore", [1 + 0.5 * 4 + 0.25 * 3, 0, 2 + 0.5 * 2, 2]),
        # A reward does not travel back past the gap.
        ("cut", [1, 0, 2 + 0.5 * 2, 2]),
    ],
)
def test_gaps_by_hand(gaps, expected):
    row = np.array([[1.0, 4.0, 2.0, 2.0]])
    got = discounted_returns(row, gamma=0.5, mask=np.array([[1, 0, 1, 1]]), gaps=gaps, reward_on_gap="drop")
    assert got.tolist() == [expected]


@pytest.mark.parametrize("gaps", ["carry", "state", "ignore", "cut"])
@given(data=st.data(), dtype=st.sampled_from(DTYPES))
def test_the_oracle(oracle, tolerance, tokens, flat, form, gaps, dtype, data):
    batch = data.draw(tokens()).rounded(dtype)
    options = {"gamma": data.draw(UNIT), "gaps": gaps}
    # Without lengths the padding is part of a row: nothing ends behind it but zeros.
    if gaps == "carry" or form != "mask":
        options["bootstrap"] = data.draw(st.sampled_from(["zero", batch.bootstrap]))
        options["truncated"] = data.draw(st.sampled_from([None, batch.truncated]))
    arrays, how = batch.hand(form, "rewards", dtype=dtype, fill=0.0)
    got = batch.read(form, discounted_returns(*arrays, **how, **options))
    expected = oracle("temporal/returns.py", "discounted_returns")(batch["rewards"], batch.mask, **options)
    assert got.dtype == dtype
    assert_allclose(got, flat(expected), **tolerance(np.dtype(dtype).name))


@pytest.mark.parametrize("reward_on_gap", ["previous", "drop"])
@pytest.mark.parametrize("gaps", ["carry", "state", "ignore", "cut"])
@given(data=st.data())
def test_rewards_on_gaps(oracle, tolerance, tokens, flat, gaps, reward_on_gap, data):
    batch = data.draw(tokens(rewards_on_gaps=True))
    options = {"gamma": data.draw(UNIT), "gaps": gaps, "reward_on_gap": reward_on_gap}
    arrays, how = batch.hand("ragged", "rewards")
    try:
        expected = oracle("temporal/returns.py", "discounted_returns")(batch["rewards"], batch.mask, **options)
    except ValueError:
        with pytest.raises(ValueError, match="no trained token"):
            discounted_returns(*arrays, **how, **options)
        return
    assert_allclose(discounted_returns(*arrays, **how, **options).values, flat(expected), **tolerance("float64"))


@given(data=st.data(), dtype=st.sampled_from(DTYPES))
def test_every_form_gives_the_same_bits(same_bits, tokens, form, data, dtype):
    batch = data.draw(tokens())
    options = {"gamma": data.draw(UNIT), "bootstrap": batch.bootstrap}
    results = []
    for each in ("ragged", form):
        arrays, how = batch.hand(each, "rewards", dtype=dtype, fill=0.0)
        results.append(batch.read(each, discounted_returns(*arrays, **how, **options)))
    same_bits(*results)


@given(data=st.data(), gamma=UNIT)
def test_inserting_gaps_changes_no_bit(same_bits, tokens, data, gamma):
    batch = data.draw(tokens())
    (rewards,), how = batch.hand("ragged", "rewards")
    short = rm.Ragged.from_lengths(rewards.values[batch.flat_mask], [sum(m) for m in batch.mask])
    got = discounted_returns(rewards, gamma=gamma, bootstrap=batch.bootstrap, **how).values
    same_bits(got[batch.flat_mask], discounted_returns(short, gamma=gamma, bootstrap=batch.bootstrap).values)
    assert not got[~batch.flat_mask].any()


@given(data=st.data(), random=st.randoms(use_true_random=False), dtype=st.sampled_from(DTYPES))
def test_permuting_rows_changes_no_bit(same_bits, tokens, data, random, dtype):
    batch = data.draw(tokens())
    order = list(range(len(batch.mask)))
    random.shuffle(order)
    results = []
    for rows in (batch, batch.picked(order)):
        arrays, how = rows.hand("ragged", "rewards", dtype=dtype)
        results.append(discounted_returns(*arrays, **how, gamma=0.9, bootstrap=rows.bootstrap))
    before, after = results
    same_bits(np.concatenate([before[i] for i in order] or [before.values]), after.values)


@pytest.mark.parametrize("gaps", ["carry", "cut"])
def test_the_number_of_threads_changes_no_bit(same_bits, threads, big, gaps):
    b = big()
    results = []
    for n in (1, 2, 5):
        threads(n)
        results.append(discounted_returns(b["rewards"], mask=b["mask"], gamma=0.99, gaps=gaps).values)
    same_bits(results[1], results[0])
    same_bits(results[2], results[0])


@given(data=st.data())
def test_they_are_linear_in_the_rewards(tolerance, tokens, data):
    batch = data.draw(tokens())
    (rewards, values), how = batch.hand("ragged", "rewards", "values")
    other = values.with_values(np.where(batch.flat_mask, values.values, 0.0))
    total = discounted_returns(rewards.with_values(rewards.values + other.values), gamma=0.9, **how)
    parts = [discounted_returns(x, gamma=0.9, **how).values for x in (rewards, other)]
    assert_allclose(total.values, sum(parts), **tolerance("float64"))


@pytest.mark.parametrize("how", ["lengths and mask", "mask", "ragged mask", "lengths"])
def test_one_reward_a_row(same_bits, how):
    lengths = np.array([3, 0, 2])
    rewards = np.array([1.0, 0.0, -2.0])
    mask = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 0]])
    given_by = {
        "lengths and mask": {"mask": mask, "lengths": lengths},
        "mask": {"mask": mask},
        "ragged mask": {"mask": rm.Ragged.from_padded(mask, lengths=lengths)},
        "lengths": {"lengths": [3, 0, 2]},
    }[how]
    got = discounted_returns(rewards, gamma=0.5, **given_by)
    if isinstance(got, rm.Ragged):
        got = got.to_padded(3)
    first = 0.25 if how == "lengths" else 0.5
    middle = 0.5 if how == "lengths" else 0.0
    same_bits(got, np.array([[first, middle, 1], [0, 0, 0], [-1, -2, 0]]))


def test_tensors_and_arrays_that_are_not_contiguous(same_bits):
    torch = pytest.importorskip("torch")
    rewards = np.random.default_rng(0).normal(size=(5, 9)).astype(np.float32)
    lengths = [9, 0, 3, 1, 9]
    expected = discounted_returns(rewards, gamma=0.9, lengths=lengths)
    for x in (torch.from_numpy(rewards), torch.from_numpy(np.asfortranarray(rewards))):
        got = discounted_returns(x, gamma=0.9, lengths=torch.tensor(lengths))
        assert got.dtype == torch.float32
        same_bits(got.numpy(), expected)
    same_bits(discounted_returns(np.asfortranarray(rewards), gamma=0.9, lengths=lengths), expected)
    short = torch.from_numpy(rewards).to(torch.bfloat16)
    got = discounted_returns(short, gamma=0.9)
    same_bits(got.numpy(), discounted_returns(short.float().numpy(), gamma=0.9))


def test_whole_numbers_and_batches_without_anything():
    assert discounted_returns(np.array([[1, 0, 2]])).dtype == np.float64
    assert discounted_returns(rm.Ragged.from_lists([[], []], dtype=np.float64)).to_lists() == [[], []]
    assert discounted_returns(np.zeros((0, 4))).shape == (0, 4)
    assert (
        discounted_returns(np.zeros((2, 2)), mask=np.zeros((2, 2), bool), bootstrap=[1.0, 2.0]).tolist() == [[0, 0]] * 2
    )

"""TD(lambda) targets: against the oracle, and their laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

td_lambda = rm.temporal.td_lambda

UNIT = st.one_of(st.sampled_from([0.0, 0.5, 0.95, 1.0]), st.floats(0, 1))
DTYPES = [np.float64, np.float32]


def test_by_hand():
    """G_1 = 1; G_0 = 0 + .5 ((1 - .5) .4 + .5 * 1)."""
    got = td_lambda(np.array([[0.0, 1.0]]), np.array([[0.3, 0.4]]), gamma=0.5, lam=0.5)
    assert_allclose(got, [[0.35, 1.0]], atol=1e-15)


def options_of(data, batch, form, gaps):
    lams = st.one_of(UNIT, st.lists(UNIT, min_size=len(batch.mask), max_size=len(batch.mask)))
    options = {"gamma": data.draw(UNIT), "lam": data.draw(lams), "gaps": gaps}
    # Without lengths the padding is part of a row: nothing ends behind it but zeros.
    if gaps == "carry" or form != "mask":
        options["bootstrap"] = data.draw(st.sampled_from(["zero", "last", batch.bootstrap]))
        options["truncated"] = data.draw(st.sampled_from([None, batch.truncated]))
    return options


@pytest.mark.parametrize("gaps", ["carry", "state", "ignore"])
@given(data=st.data(), dtype=st.sampled_from(DTYPES))
def test_the_oracle(oracle, tolerance, tokens, flat, form, gaps, dtype, data):
    batch = data.draw(tokens()).rounded(dtype)
    options = options_of(data, batch, form, gaps)
    arrays, how = batch.hand(form, "rewards", "values", dtype=dtype, fill=0.0 if gaps == "ignore" else np.nan)
    got = batch.read(form, td_lambda(*arrays, **how, **options))
    expected = oracle("temporal/td_lambda.py", "td_lambda")(batch["rewards"], batch["values"], batch.mask, **options)
    assert got.dtype == dtype
    assert_allclose(got, flat(expected), **tolerance(np.dtype(dtype).name))


@pytest.mark.parametrize("reward_on_gap", ["previous", "drop"])
@given(data=st.data())
def test_rewards_on_gaps(oracle, tolerance, tokens, flat, reward_on_gap, data):
    batch = data.draw(tokens(rewards_on_gaps=True))
    options = {"gamma": data.draw(UNIT), "lam": data.draw(UNIT), "reward_on_gap": reward_on_gap}
    arrays, how = batch.hand("ragged", "rewards", "values")
    try:
        expected = oracle("temporal/td_lambda.py", "td_lambda")(
            batch["rewards"], batch["values"], batch.mask, **options
        )
    except ValueError:
        with pytest.raises(ValueError, match="no trained token"):
            td_lambda(*arrays, **how, **options)
        return
    assert_allclose(td_lambda(*arrays, **how, **options).values, flat(expected), **tolerance("float64"))


@given(data=st.data(), dtype=st.sampled_from(DTYPES))
def test_they_are_the_returns_of_gae(same_bits, tokens, form, data, dtype):
    batch = data.draw(tokens())
    options = options_of(data, batch, form, "carry")
    arrays, how = batch.hand(form, "rewards", "values", dtype=dtype)
    ours = td_lambda(*arrays, **how, **options)
    theirs = rm.temporal.gae(*arrays, **how, **options).returns
    same_bits(batch.read(form, ours), batch.read(form, theirs))


@given(data=st.data(), gamma=UNIT)
def test_lambda_1_gives_the_discounted_returns_and_lambda_0_one_step(tolerance, tokens, data, gamma):
    batch = data.draw(tokens())
    (rewards, values), how = batch.hand("ragged", "rewards", "values")
    full = td_lambda(rewards, values, gamma=gamma, lam=1.0, bootstrap=batch.bootstrap, **how)
    returns = rm.temporal.discounted_returns(rewards, gamma=gamma, bootstrap=batch.bootstrap, **how)
    assert_allclose(full.values, returns.values, **tolerance("float64"))
    step = td_lambda(rewards, values, gamma=gamma, lam=0.0, bootstrap=batch.bootstrap, **how)
    for i, row in enumerate(step):
        m = np.array(batch.mask[i], dtype=bool)
        ahead = np.append(values[i][m][1:], batch.bootstrap[i])[: m.sum()]
        assert_allclose(row[m], rewards[i][m] + gamma * ahead, **tolerance("float64"))


@given(data=st.data(), garbage=st.sampled_from([0.0, 1e30, np.nan, -np.inf]))
def test_inserting_gaps_changes_no_bit(same_bits, tokens, data, garbage):
    batch = data.draw(tokens())
    options = options_of(data, batch, "ragged", "carry")
    keep = batch.flat_mask
    arrays, how = batch.hand("ragged", "rewards", "values")
    arrays[1].values[~keep] = garbage
    short = [rm.Ragged.from_lengths(x.values[keep], [sum(m) for m in batch.mask]) for x in arrays]
    got = td_lambda(*arrays, **how, **options).values
    same_bits(got[keep], td_lambda(*short, **options).values)
    assert not got[~keep].any()


@given(data=st.data(), random=st.randoms(use_true_random=False), dtype=st.sampled_from(DTYPES))
def test_permuting_rows_changes_no_bit(same_bits, tokens, data, random, dtype):
    batch = data.draw(tokens())
    order = list(range(len(batch.mask)))
    random.shuffle(order)
    results = []
    for rows in (batch, batch.picked(order)):
        arrays, how = rows.hand("ragged", "rewards", "values", dtype=dtype)
        results.append(td_lambda(*arrays, **how, gamma=0.9, lam=0.8, bootstrap=rows.bootstrap))
    before, after = results
    same_bits(np.concatenate([before[i] for i in order] or [before.values]), after.values)


def test_the_number_of_threads_changes_no_bit(same_bits, threads, big):
    b = big()
    results = []
    for n in (1, 2, 5):
        threads(n)
        results.append(td_lambda(b["rewards"], b["values"], mask=b["mask"], gamma=0.99, lam=0.9).values)
    same_bits(results[1], results[0])
    same_bits(results[2], results[0])


def test_one_reward_a_row_and_tensors(same_bits):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 4)).astype(np.float32)
    rewards = np.array([1.0, -1.0, 0.5], dtype=np.float32)
    lengths = [4, 1, 2]
    at_ends = np.zeros((3, 4), np.float32)
    at_ends[range(3), np.array(lengths) - 1] = rewards
    expected = td_lambda(at_ends, values, gamma=0.9, lam=0.8, lengths=lengths)
    same_bits(td_lambda(rewards, values, gamma=0.9, lam=0.8, lengths=lengths), expected)
    got = td_lambda(torch.from_numpy(rewards), torch.from_numpy(values), gamma=0.9, lam=0.8, lengths=lengths)
    assert got.dtype == torch.float32
    same_bits(got.numpy(), expected)
    same_bits(td_lambda(at_ends, np.asfortranarray(values), gamma=0.9, lam=0.8, lengths=lengths), expected)

"""V-trace: by hand, against the oracle, and its laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

vtrace = rm.temporal.vtrace

UNIT = st.one_of(st.sampled_from([0.0, 0.5, 0.95, 1.0]), st.floats(0, 1))
CLIPS = st.sampled_from([0.3, 1.0, 2.0])
DTYPES = [np.float64, np.float32]
COLUMNS = ("rewards", "values", "log_ratios")


def test_by_hand():
    """gamma .5; ratios (2, .5), so rho = c = (1, .5); V = (.4, .2), r = (0, 1).

    delta_1 = .5 (1 - .2) = .4, v_1 = .6; delta_0 = .5 * .2 - .4 = -.3, v_0 = .4 - .3 + .5 * 1 * .4 = .3.
    """
    args = np.array([[0.0, 1.0]]), np.array([[0.4, 0.2]]), np.log([[2.0, 0.5]])
    got = vtrace(*args, gamma=0.5)
    assert_allclose(got.returns, [[0.3, 0.6]], atol=1e-15)
    assert_allclose(got.advantages, [[0.5 * 0.6 - 0.4, 0.5 * (1 - 0.2)]], atol=1e-15)
    wider = vtrace(*args, gamma=0.5, clip_pg_rho=10.0)
    assert_allclose(wider.advantages, [[2 * (0.5 * 0.6 - 0.4), 0.4]], atol=1e-15)
    assert wider.returns.tolist() == got.returns.tolist()


def options_of(data, batch, form, gaps):
    lams = st.one_of(UNIT, st.lists(UNIT, min_size=len(batch.mask), max_size=len(batch.mask)))
    options = {"gamma": data.draw(UNIT), "lam": data.draw(lams), "gaps": gaps}
    options |= {"clip_rho": data.draw(CLIPS), "clip_c": data.draw(CLIPS)}
    options["clip_pg_rho"] = data.draw(st.one_of(st.none(), CLIPS))
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
    arrays, how = batch.hand(form, *COLUMNS, dtype=dtype, fill=0.0 if gaps == "ignore" else np.nan)
    got = vtrace(*arrays, **how, **options)
    expected = oracle("temporal/vtrace.py", "vtrace")(*(batch[c] for c in COLUMNS), batch.mask, **options)
    for ours, theirs in zip(got, expected, strict=True):
        numbers = batch.read(form, ours)
        assert numbers.dtype == dtype
        assert_allclose(numbers, flat(theirs), **tolerance(np.dtype(dtype).name))


@pytest.mark.parametrize("reward_on_gap", ["previous", "drop"])
@given(data=st.data())
def test_rewards_on_gaps(oracle, tolerance, tokens, flat, reward_on_gap, data):
    batch = data.draw(tokens(rewards_on_gaps=True))
    options = {"gamma": data.draw(UNIT), "lam": data.draw(UNIT), "reward_on_gap": reward_on_gap}
    arrays, how = batch.hand("ragged", *COLUMNS)
    try:
        expected = oracle("temporal/vtrace.py", "vtrace")(*(batch[c] for c in COLUMNS), batch.mask, **options)
    except ValueError:
        with pytest.raises(ValueError, match="no trained token"):
            vtrace(*arrays, **how, **options)
        return
    for ours, theirs in zip(vtrace(*arrays, **how, **options), expected, strict=True):
        assert_allclose(ours.values, flat(theirs), **tolerance("float64"))


@given(data=st.data(), clip=st.sampled_from([1.0, 1.5, math.inf]))
def test_on_policy_the_returns_are_td_lambda_targets(tolerance, tokens, data, clip):
    batch = data.draw(tokens())
    (rewards, values), how = batch.hand("ragged", "rewards", "values")
    same = values.with_values(np.zeros(len(values.values)))
    options = {"gamma": data.draw(UNIT), "lam": data.draw(UNIT), "bootstrap": batch.bootstrap, **how}
    got = vtrace(rewards, values, same, clip_rho=clip, clip_c=clip, **options)
    expected = rm.temporal.td_lambda(rewards, values, **options)
    assert_allclose(got.returns.values, expected.values, **tolerance("float64"))
    if options["lam"] == 1.0:
        gae = rm.temporal.gae(rewards, values, **options)
        assert_allclose(got.advantages.values, gae.advantages.values, **tolerance("float64"))


@given(data=st.data(), dtype=st.sampled_from(DTYPES))
def test_every_form_gives_the_same_bits(same_bits, tokens, form, data, dtype):
    batch = data.draw(tokens())
    options = options_of(data, batch, form, "carry")
    results = []
    for each in ("ragged", form):
        arrays, how = batch.hand(each, *COLUMNS, dtype=dtype)
        results.append([batch.read(each, x) for x in vtrace(*arrays, **how, **options)])
    for ours, theirs in zip(*results, strict=True):
        same_bits(ours, theirs)


@given(data=st.data(), garbage=st.sampled_from([0.0, 1e30, np.nan, -np.inf]))
def test_inserting_gaps_changes_no_bit(same_bits, tokens, data, garbage):
    batch = data.draw(tokens())
    options = options_of(data, batch, "ragged", "carry")
    keep = batch.flat_mask
    arrays, how = batch.hand("ragged", *COLUMNS)
    for x in arrays[1:]:
        x.values[~keep] = garbage
    short = [rm.Ragged.from_lengths(x.values[keep], [sum(m) for m in batch.mask]) for x in arrays]
    for ours, theirs in zip(vtrace(*arrays, **how, **options), vtrace(*short, **options), strict=True):
        same_bits(ours.values[keep], theirs.values)
        assert not ours.values[~keep].any()


@given(data=st.data(), random=st.randoms(use_true_random=False), dtype=st.sampled_from(DTYPES))
def test_permuting_rows_changes_no_bit(same_bits, tokens, data, random, dtype):
    batch = data.draw(tokens())
    order = list(range(len(batch.mask)))
    random.shuffle(order)
    results = []
    for rows in (batch, batch.picked(order)):
        arrays, how = rows.hand("ragged", *COLUMNS, dtype=dtype)
        results.append(vtrace(*arrays, **how, gamma=0.9, bootstrap=rows.bootstrap))
    for before, after in zip(*results, strict=True):
        same_bits(np.concatenate([before[i] for i in order] or [before.values]), after.values)


def test_the_number_of_threads_changes_no_bit(same_bits, threads, big):
    b = big()
    results = []
    for n in (1, 2, 5):
        threads(n)
        results.append(vtrace(*(b[c] for c in COLUMNS), mask=b["mask"], gamma=0.99))
    for other in results[1:]:
        same_bits(other.advantages.values, results[0].advantages.values)
        same_bits(other.returns.values, results[0].returns.values)


def test_huge_ratios_are_clipped(same_bits):
    args = np.ones((1, 3)), np.full((1, 3), 0.5)
    got = vtrace(*args, np.full((1, 3), 1000.0))
    for ours, theirs in zip(got, vtrace(*args, np.zeros((1, 3))), strict=True):
        same_bits(ours, theirs)
    with pytest.raises(ValueError, match="vtrace"):
        vtrace(*args, np.full((1, 3), 1000.0), clip_pg_rho=math.inf)


def test_one_reward_a_row_and_tensors(same_bits):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    values, ratios = rng.normal(size=(2, 3, 4)).astype(np.float32)
    rewards = np.array([1.0, -1.0, 0.5], dtype=np.float32)
    lengths = [4, 1, 2]
    at_ends = np.zeros((3, 4), np.float32)
    at_ends[range(3), np.array(lengths) - 1] = rewards
    expected = vtrace(at_ends, values, ratios, lengths=lengths)
    others = [
        vtrace(rewards, values, ratios, lengths=lengths),
        vtrace(at_ends, np.asfortranarray(values), ratios, lengths=lengths),
    ]
    tensors = [torch.from_numpy(x) for x in (at_ends, values, ratios)]
    others.append([x.numpy() for x in vtrace(*tensors, lengths=torch.tensor(lengths))])
    for other in others:
        for ours, theirs in zip(other, expected, strict=True):
            same_bits(ours, theirs)

"""Bi-level GAE: by hand, against the oracle, against RAGEN's recorded outputs, and its laws."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

two_level_gae = rm.temporal.two_level_gae

UNIT = st.one_of(st.sampled_from([0.0, 0.5, 0.95, 1.0]), st.floats(0, 1))
DTYPES = [np.float64, np.float32]
RAGEN = json.loads((Path(__file__).parents[1] / "vectors" / "peers" / "ragen-temporal.json").read_text())["records"]
VERL = rm.conventions.Whiten(ddof=1, eps=1e-8, eps_place="sqrt")


def turns_of(batch, form):
    """Turn numbers in the form of a call, and what goes with them."""
    arrays, how = batch.hand(form, "turns", dtype=np.int64, fill=7)
    return arrays[0], how


def test_two_levels_by_hand():
    """Turns (V .5, .2 with reward 0) and (V .4 with reward 1); gamma_turn = .5, lam_turn = 1, gamma = 1, lam = .5.

    Turn level, V = (.2, .4): delta = (0 + .5 * .4 - .2, 1 - .4) = (0, .6); A = (.3, .6); returns G = (.5, 1).
    Token level: A = (.2 - .5 + .5 * .3, .5 - .2) = (-.15, .3) and (.6).
    """
    rewards, values = np.array([[0.0, 0.0, 0.0, 1.0]]), np.array([[0.5, 0.2, 9.0, 0.4]])
    turns = np.array([[0, 0, -1, 1]])
    got = two_level_gae(rewards, values, turns, gamma=1.0, lam=0.5, gamma_turn=0.5, lam_turn=1.0)
    assert_allclose(got.advantages, [[-0.15, 0.3, 0, 0.6]], atol=1e-15)
    assert_allclose(got.returns, [[0.35, 0.5, 0, 1.0]], atol=1e-15)


def rules_of(data, batch):
    rules = {name: data.draw(UNIT) for name in ("gamma", "lam", "gamma_turn")}
    rules["lam_turn"] = data.draw(st.one_of(st.none(), UNIT))
    rules["bootstrap"] = data.draw(st.sampled_from(["zero", "last", batch.bootstrap]))
    return rules | {"truncated": data.draw(st.sampled_from([None, batch.truncated]))}


@given(data=st.data(), dtype=st.sampled_from(DTYPES))
def test_two_level_gae_is_the_oracle(oracle, tolerance, tokens, flat, form, dtype, data):
    batch = data.draw(tokens()).rounded(dtype)
    rules = rules_of(data, batch)
    arrays, how = batch.hand(form, "rewards", "values", dtype=dtype)
    turns, _ = turns_of(batch, form)
    got = two_level_gae(*arrays, turns, **how, **rules)
    columns = [[[int(k) for k in row] for row in batch["turns"]], batch.mask]
    expected = oracle("temporal/two_level.py", "two_level_gae")(batch["rewards"], batch["values"], *columns, **rules)
    for ours, theirs in zip(got, expected, strict=True):
        numbers = batch.read(form, ours)
        assert numbers.dtype == dtype
        assert_allclose(numbers, flat(theirs), **tolerance(np.dtype(dtype).name))


@given(data=st.data())
def test_one_turn_is_gae_over_its_tokens(tolerance, tokens, data):
    """The only turn is rewarded with its reward, and a bootstrap that the turn level discounts."""
    batch = data.draw(tokens())
    (rewards, values), how = batch.hand("ragged", "rewards", "values")
    turns = rewards.with_values(np.zeros(len(rewards.values), np.int64))
    got = two_level_gae(rewards, values, turns, gamma=0.9, lam=0.8, **how)
    expected = rm.temporal.gae(rewards, values, gamma=0.9, lam=0.8, **how)
    for ours, theirs in zip(got, expected, strict=True):
        assert_allclose(ours.values, theirs.values, **tolerance("float64"))


@given(data=st.data())
def test_turns_of_one_token_are_the_turn_level(tolerance, tokens, data):
    batch = data.draw(tokens())
    (rewards, values), how = batch.hand("ragged", "rewards", "values")
    turns = rewards.with_values(np.arange(len(rewards.values)))
    got = two_level_gae(rewards, values, turns, gamma=0.3, lam=0.4, gamma_turn=0.9, lam_turn=0.8, **how)
    expected = rm.temporal.gae(rewards, values, gamma=0.9, lam=0.8, **how)
    for ours, theirs in zip(got, expected, strict=True):
        assert_allclose(ours.values, theirs.values, **tolerance("float64"))


@given(data=st.data(), step=st.integers(1, 5))
def test_turn_numbers_may_skip(same_bits, tokens, data, step):
    batch = data.draw(tokens())
    arrays, how = batch.hand("ragged", "rewards", "values")
    turns, _ = turns_of(batch, "ragged")
    other = turns.with_values(step * turns.values)
    for ours, theirs in zip(two_level_gae(*arrays, other, **how), two_level_gae(*arrays, turns, **how), strict=True):
        same_bits(ours.values, theirs.values)


@given(data=st.data(), garbage=st.sampled_from([0.0, 1e30, np.nan, -np.inf]))
def test_inserting_gaps_changes_no_bit(same_bits, tokens, data, garbage):
    batch = data.draw(tokens())
    rules, keep = rules_of(data, batch), batch.flat_mask
    arrays, how = batch.hand("ragged", "rewards", "values")
    turns, _ = turns_of(batch, "ragged")
    arrays[1].values[~keep] = garbage
    short = [rm.Ragged.from_lengths(x.values[keep], [sum(m) for m in batch.mask]) for x in (*arrays, turns)]
    for ours, theirs in zip(two_level_gae(*arrays, turns, **how, **rules), two_level_gae(*short, **rules), strict=True):
        same_bits(ours.values[keep], theirs.values)
        assert not ours.values[~keep].any()


@given(data=st.data(), dtype=st.sampled_from(DTYPES))
def test_every_form_gives_the_same_bits(same_bits, tokens, form, data, dtype):
    batch = data.draw(tokens())
    rules, results = rules_of(data, batch), []
    for each in ("ragged", form):
        arrays, how = batch.hand(each, "rewards", "values", dtype=dtype)
        got = two_level_gae(*arrays, turns_of(batch, each)[0], **how, **rules)
        results.append([batch.read(each, x) for x in got])
    for ours, theirs in zip(*results, strict=True):
        same_bits(ours, theirs)


@given(data=st.data(), random=st.randoms(use_true_random=False), dtype=st.sampled_from(DTYPES))
def test_permuting_rows_changes_no_bit(same_bits, tokens, data, random, dtype):
    batch = data.draw(tokens())
    order = list(range(len(batch.mask)))
    random.shuffle(order)
    results = []
    for rows in (batch, batch.picked(order)):
        arrays, how = rows.hand("ragged", "rewards", "values", dtype=dtype)
        results.append(two_level_gae(*arrays, turns_of(rows, "ragged")[0], **how, bootstrap=rows.bootstrap))
    for before, after in zip(*results, strict=True):
        same_bits(np.concatenate([before[i] for i in order] or [before.values]), after.values)


def test_a_reward_on_an_observation_goes_to_the_turn_before_it():
    values, turns = np.array([[0.5, 9.0, 0.4]]), np.array([[0, -1, 1]])
    rewards = np.array([[0.0, 1.0, 0.0]])
    at_turn = two_level_gae(np.array([[1.0, 0.0, 0.0]]), values, turns)
    assert [x.tolist() for x in two_level_gae(rewards, values, turns, reward_on_gap="previous")] == [
        x.tolist() for x in at_turn
    ]
    nothing = two_level_gae(np.zeros((1, 3)), values, turns)
    assert [x.tolist() for x in two_level_gae(rewards, values, turns, reward_on_gap="drop")] == [
        x.tolist() for x in nothing
    ]


def test_one_reward_a_row_tensors_and_arrays_that_are_not_contiguous(same_bits):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 4)).astype(np.float32)
    turns = np.array([[0, 0, 1, 1], [0, -1, -1, -1], [0, 1, 3, 3]])
    lengths = [4, 1, 3]
    rewards = np.array([1.0, -1.0, 0.5], np.float32)
    at_ends = np.zeros((3, 4), np.float32)
    at_ends[range(3), np.array(lengths) - 1] = rewards
    expected = two_level_gae(at_ends, values, turns, lengths=lengths)
    others = [
        two_level_gae(rewards, values, turns, lengths=lengths),
        two_level_gae(
            np.asfortranarray(at_ends), values[:, ::-1].copy()[:, ::-1], turns.astype(np.int8), lengths=lengths
        ),
    ]
    tensors = [torch.from_numpy(x) for x in (at_ends, values, turns)]
    got = two_level_gae(*tensors, lengths=torch.tensor(lengths))
    assert got.advantages.dtype == torch.float32
    others.append([x.numpy() for x in got])
    for other in others:
        for ours, theirs in zip(other, expected, strict=True):
            same_bits(ours, theirs)


def recorded(case):
    return [
        ({k: np.array(r[k]) for k in ("rewards", "values", "turns", "mask")}, r) for r in RAGEN if r["unlike"] == case
    ]


def ours(given, record, **override):
    given = given | override
    return two_level_gae(given["rewards"], given["values"], given["turns"], mask=given["mask"], **record["options"])


def agree(got, given, record):
    # RAGEN computes in float32.
    trained = given["mask"] != 0
    assert_allclose(got.returns[trained], np.array(record["returns"])[trained], rtol=2e-6, atol=2e-6)
    white = rm.temporal.whiten(got.advantages, how=VERL, mask=given["mask"])
    assert_allclose(white[trained], np.array(record["whitened_advantages"])[trained], rtol=5e-6, atol=5e-6)


@pytest.mark.parametrize(("given", "record"), recorded(None))
def test_agrees_with_ragen_where_every_turn_has_a_reward(given, record):
    agree(ours(given, record), given, record)


def test_ragen_loses_a_turn_without_reward():
    """Its turns end where a reward is not 0, so the tokens of such a turn are taken for the beginning of the next."""
    ((given, record),) = recorded("a turn without reward")
    merged = np.where(given["turns"] >= 0, 0, -1)
    agree(ours(given, record, turns=merged), given, record)
    assert np.abs(ours(given, record).returns - np.array(record["returns"]))[0, :3].max() > 0.01


def test_ragen_raises_for_an_episode_without_reward():
    ((given, record),) = recorded("an episode without reward")
    assert record["refused"].startswith("IndexError")
    got = ours(given, record)
    assert_allclose(got.advantages[0, 5], -given["values"][0, 5], atol=1e-15)


# --- wrong calls ------------------------------------------------------------------------------------------------------

ROW = np.zeros((1, 3))
VALUES = np.full((1, 3), 0.5)


@pytest.mark.parametrize(
    ("turns", "options", "error", "message"),
    [
        ([[1, 0, 0]], {}, ValueError, "'turns' must not decrease along a row, got 0 after 1 at row 0, position 1"),
        ([[0, -1, -2]], {}, ValueError, r"'turns' must be at least -1 \(a gap\), got -2 at row 0, position 2"),
        (
            [[0, -1, 1]],
            {"mask": [[1, 1, 1]]},
            ValueError,
            "'turns' is -1 at row 0, position 1, where the mask is not 0",
        ),
        ([[0.0, 1.0, 1.0]], {}, TypeError, "'turns' must hold integers, got float64"),
        ([[0, 1]], {}, ValueError, "'turns' must have shape"),
        ([[0, 0, 1]], {"gamma": 1.5}, ValueError, r"'gamma' must be in \[0, 1\], got 1.5"),
        ([[0, 0, 1]], {"lam": -0.5}, ValueError, r"'lam' must be in \[0, 1\], got -0.5"),
        ([[0, 0, 1]], {"gamma_turn": np.nan}, ValueError, r"'gamma_turn' must be in \[0, 1\], got nan"),
        ([[0, 0, 1]], {"lam_turn": 2}, ValueError, r"'lam_turn' must be in \[0, 1\], got 2"),
        ([[0, 0, 1]], {"lam_turn": "a"}, TypeError, "'lam_turn' must be a number"),
        ([[0, 0, 1]], {"bootstrap": [1.0, 2.0]}, ValueError, r"'bootstrap' must have length 1"),
        ([[0, 0, 1]], {"bootstrap": "mean"}, ValueError, "'bootstrap' must be"),
        ([[0, 0, 1]], {"truncated": [True, False]}, ValueError, "'truncated' must have length 1"),
        ([[0, 0, 1]], {"reward_on_gap": "keep"}, ValueError, "'reward_on_gap' must be one of"),
        ([[0, 0, 1]], {"lengths": [4]}, ValueError, "'lengths'"),
        ([[0, 0, 1]], {"mask": [[1, 1]]}, ValueError, "'mask' must have shape"),
    ],
)
def test_wrong_turns_and_options(turns, options, error, message):
    with pytest.raises(error, match=rf"two_level_gae\(\): {message}"):
        two_level_gae(ROW, VALUES, np.array(turns), **options)


@pytest.mark.parametrize(
    ("rewards", "values", "message"),
    [
        ([[0, np.nan, 0]], VALUES, r"'rewards' must be finite at trained tokens, got NaN at row 0, position 1"),
        ([[0, 0, 0]], [[0.5, 0.5, np.inf]], r"'values' must be finite at trained tokens, got inf at row 0, position 2"),
        ([[0, 0, 0]], [[0.5, 0.5]], r"'rewards' must have shape"),
        ([1.0, 2.0], VALUES, r"'rewards' must have length 1"),
    ],
)
def test_wrong_numbers(rewards, values, message):
    with pytest.raises(ValueError, match=rf"two_level_gae\(\): {message}"):
        two_level_gae(np.array(rewards), np.array(values), np.array([[0, 0, 1]]))


def test_rewards_that_have_no_place():
    turns = np.array([[-1, 0, -1]])
    with pytest.raises(ValueError, match=r"two_level_gae\(\): 'rewards' has 1 at row 0, position 2, where"):
        two_level_gae(np.array([[0.0, 0, 1]]), VALUES, turns)
    with pytest.raises(ValueError, match=r"position 0, .* and no trained token before it"):
        two_level_gae(np.array([[1.0, 0, 0]]), VALUES, turns, reward_on_gap="previous")
    with pytest.raises(ValueError, match=r"'rewards' has 1 for row 0, which has no trained token"):
        two_level_gae(np.array([1.0]), VALUES, np.full((1, 3), -1))

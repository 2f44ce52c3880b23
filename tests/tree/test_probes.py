"""tree.probe_values: the oracle, forests that give the same, and what has to be refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Ragged
from rollmath.tree import probe_values, spo_chain

SEEDS = st.integers(0, 2**32)


@given(SEEDS)
def test_probes_against_the_oracle(oracle, same_bits, seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 10, rng.integers(1, 12))
    rewards = Ragged.from_lengths(rng.choice([0.0, 1.0, 0.1, 1 / 3], lengths.sum()), lengths)
    truncated = rewards.with_values(rng.random(lengths.sum()) < 0.3)
    f = oracle("tree/probes.py", "probe_values")
    for options in ({}, {"penalty": -0.5, "empty": 0.25}):
        got = probe_values(rewards, truncated=truncated, **options)
        expected = f(rewards.to_lists(), truncated.to_lists(), **options)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-15)
        padded = rewards.to_padded(9, fill=np.nan)
        cut = truncated.to_padded(9, fill=True)
        same_bits(probe_values(padded, truncated=cut, lengths=lengths, **options), got)
        there = np.arange(9) < lengths[:, None]
        same_bits(probe_values(padded, truncated=cut, mask=there, **options), got)
    # In any order, and of equal rewards exactly their value.
    same_bits(probe_values(Ragged.from_lists([row[::-1] for row in rewards.to_lists()])), probe_values(rewards))
    assert probe_values(np.full((2, 7), 0.1)).tolist() == [0.1, 0.1]


def test_probes():
    # What a truncated probe has for a reward is not looked at; without probes the value is 0, or what is asked for.
    rewards = Ragged.from_lists([[1.0, np.nan], [], [0.5]])
    truncated = Ragged.from_lists([[0, 1], [], [0]])
    assert probe_values(rewards, truncated=truncated).tolist() == [0.5, 0.0, 0.5]
    assert probe_values(rewards, truncated=truncated.values, penalty=-1.0, empty=0.125).tolist() == [0.0, 0.125, 0.5]
    assert np.isnan(probe_values(rewards, truncated=truncated, empty=np.nan)).tolist() == [False, True, False]
    assert probe_values(np.zeros((0, 4))).shape == (0,)
    assert probe_values(np.zeros((2, 0))).tolist() == [0.0, 0.0]


@given(SEEDS)
def test_a_forest_with_probes_for_leaves_gives_the_same(seed):
    """A spine of prefixes: probes weigh 1, the next prefix 0, and its leaf is the rollout itself."""
    rng = np.random.default_rng(seed)
    n_cuts = int(rng.integers(1, 6))
    probes = [rng.choice([0.0, 1.0, 0.25], rng.integers(0, 5)).tolist() for _ in range(n_cuts)]
    parents, weights, reward, spine = [-1], [1.0], {}, [0]
    for row in probes:
        here = spine[-1]
        for r in row:
            reward[len(parents)] = r
            parents, weights = [*parents, here], [*weights, 1.0]
        spine.append(len(parents))
        parents, weights = [*parents, here], [*weights, 0.0]
    score = reward[spine[-1]] = float(rng.random())
    forest = rm.Forest.from_parents(parents)
    leaf_values = [reward[v] for v in forest.leaves]
    value = rm.ops.up(forest, leaf_values, how="mean_of_children", weights=weights, empty=0.0)
    expected = probe_values(Ragged.from_lists(probes, dtype="float64"))
    assert value[spine[:-1]].tolist() == expected.tolist()
    # And an edge of the spine has gained what the segment has.
    logprobs = Ragged.from_lists([[-1.0] * n_cuts], dtype="float64")
    cuts = Ragged.from_lists([range(-1, n_cuts - 1)], dtype="int64")
    chain = spo_chain(logprobs, cuts, expected, [score])
    gained = value - rm.ops.parent(forest, value)
    assert gained[spine[1:]].tolist() == chain.values.tolist()


def test_kinds():
    torch = pytest.importorskip("torch")
    got = probe_values(torch.tensor([[1, 0], [1, 1]]))
    assert (got.dtype, got.tolist()) == (torch.float32, [0.5, 1.0])
    assert probe_values(torch.ones((1, 2), dtype=torch.bfloat16)).dtype == torch.float32
    assert probe_values([[True, False]]).dtype == np.float64
    assert probe_values(np.ones((1, 2), np.float16)).dtype == np.float32
    with pytest.raises(ValueError, match=r"probe_values\(\): 'rewards' requires grad"):
        probe_values(torch.ones((1, 2), requires_grad=True))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: probe_values([[1.0, np.nan]]), ValueError, "'rewards' must be finite, got nan at row 0, position 1"),
        (lambda: probe_values([1.0]), TypeError, r"probe_values\(\): 'rewards' must be a Ragged or a padded 2-D array"),
        (lambda: probe_values([[1.0]], penalty=np.nan), ValueError, "'penalty' must be finite, got nan"),
        (lambda: probe_values([[1.0]], empty=np.inf), ValueError, "'empty' must be finite, got inf"),
        (lambda: probe_values([[1.0]], truncated=[[0.5]]), TypeError, "'truncated' must be bool or integer"),
        (lambda: probe_values([[1.0]], truncated=[[1, 0]]), ValueError, r"'truncated' must have shape \(1, 1\)"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()

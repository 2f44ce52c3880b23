"""What a prompt sampler draws: how often, in which order, and what changes no draw."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose

from rollmath.select import PromptSampler

#: 0.999 quantiles of chi-square, by degrees of freedom.
CHI_SQUARE = {3: 16.27, 4: 18.47, 5: 20.52, 11: 31.26}


def chi_square(counts, chances):
    expected = np.array(chances) * sum(counts)
    return float(((np.array(counts) - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("explore", [0.0, 0.3])
def test_draws_with_replacement_have_the_distribution(explore):
    weights = np.array([0.5, 0.0, 3.0, 1.0, 1e-9, 5.5])
    sampler = PromptSampler(range(6), explore=explore)
    sampler.set_priorities(range(6), weights)
    chances = (1 - explore) * weights / weights.sum() + explore / 6
    drawn = sampler.draw(100_000, seed=1, replace=True)
    assert_allclose(drawn.probability, chances[drawn.positions], rtol=1e-14)
    counts = np.bincount(drawn.positions, minlength=6)
    often = chances > 1e-6
    assert chi_square(counts[often], chances[often]) < CHI_SQUARE[often.sum() - 1]
    assert explore or counts[~often].tolist() == [0, 0]


@pytest.mark.parametrize("explore", [0.0, 0.5])
def test_draws_without_replacement_have_the_distribution(explore):
    weights = [1.0, 2.0, 3.0, 6.0]
    sampler = PromptSampler(range(4), explore=explore)
    sampler.set_priorities(range(4), weights)

    def chance(i, left):
        return (1 - explore) * weights[i] / sum(weights[j] for j in left) + explore / len(left)

    pairs = list(itertools.permutations(range(4), 2))
    chances = [chance(i, range(4)) * chance(j, {0, 1, 2, 3} - {i}) for i, j in pairs]
    counts = dict.fromkeys(pairs, 0)
    for seed in range(8000):
        counts[tuple(sampler.draw(2, seed=seed).positions.tolist())] += 1
    assert chi_square(list(counts.values()), chances) < CHI_SQUARE[11]


def test_half_of_many():
    sampler = PromptSampler(range(1000))
    sampler.set_priorities(range(1000), np.arange(1000))
    drawn = sampler.draw(999, seed=3)
    assert sorted(drawn.positions.tolist()) == list(range(1, 1000))
    assert drawn.positions[:100].mean() > 600
    # The first draws of a longer call, and the same in every process.
    assert drawn.positions[:5].tolist() == sampler.draw(5, seed=3).positions.tolist() == [767, 233, 552, 503, 283]


def test_the_smallest_weights_have_their_shares():
    """A product of subnormal numbers keeps few bits, or none."""
    sampler = PromptSampler(range(3))
    sampler.set_priorities(range(3), [5e-324, 0.0, 5e-324])
    counts = np.bincount(sampler.draw(4000, seed=0, replace=True).positions, minlength=3)
    assert chi_square(counts[[0, 2]], [0.5, 0.5]) < 10.83


@pytest.mark.parametrize("explore", [0.0, 0.25])
def test_how_prompts_came_changes_no_draw(explore):
    """Two ranks with the same prompts in the same order, and the same updates, draw the same."""
    names = [f"prompt {i}" for i in range(300)]
    one, other = (PromptSampler(names[:k], priority="failure", explore=explore) for k in (300, 7))
    other.add(names[7:200])
    other.add(names[200:])
    rows = np.random.default_rng(0).integers(0, 300, 900)
    for order in (rows, rows[::-1]):
        (one if order is rows else other).update([names[i] for i in order], order % 7 / 6)
    for seed in range(20):
        assert one.draw(50, seed=seed).prompts == other.draw(50, seed=seed).prompts


def test_added_prompts_of_no_weight_change_no_draw():
    few, many = PromptSampler(range(100), priority="failure"), PromptSampler(range(100), priority="failure")
    for sampler in (few, many):
        sampler.update(range(100), np.arange(100) / 100)
    many.add(range(100, 1000))
    many.retire(range(100, 1000))
    for seed in range(20):
        assert few.draw(30, seed=seed).positions.tolist() == many.draw(30, seed=seed).positions.tolist()


def test_weights_of_zero_are_never_drawn():
    sampler = PromptSampler(range(70))
    sampler.set_priorities(range(70), np.where(np.arange(70) % 3 == 1, 10.0 ** np.arange(-300, 50, 5), 0.0))
    can = {i for i in range(70) if i % 3 == 1}
    for seed in range(50):
        assert set(sampler.draw(50, seed=seed, replace=True).positions.tolist()) <= can
        assert set(sampler.draw(len(can), seed=seed).positions.tolist()) == can


def test_exclude_and_short():
    sampler = PromptSampler(["a", "b", "c"], explore=0.5)
    sampler.retire(["c"])
    assert sampler.draw(1, seed=0, exclude=["a", "a"]).prompts == ("b",)
    assert sampler.draw(1, seed=0, exclude=[0], by="position").prompts == ("b",)
    assert set(sampler.draw(5, seed=0, short="keep").prompts) == {"a", "b"}
    assert len(sampler.draw(5, seed=0, replace=True).positions) == 5
    sampler.set_priorities(["a", "b"], [0.0, 0.0])
    drawn = sampler.draw(2, seed=0)
    assert (set(drawn.prompts), drawn.probability.tolist()) == ({"a", "b"}, [0.5, 0.5])

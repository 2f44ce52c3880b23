"""Leaves drawn for training: the definition, fixed numbers, how often each is drawn, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Forest
from rollmath.select import leaf_sample

SIZES = st.tuples(st.integers(0, 2**32), st.integers(1, 40))


def draw(oracle, size):
    parents = oracle("forest.py", "random_parents")(*size)
    rng = np.random.default_rng(size[0])
    forest = Forest.from_parents(parents, groups=rng.integers(0, 3, int((parents < 0).sum())))
    return forest, rng.random(forest.n_leaves) < 0.3


@given(
    SIZES,
    st.integers(1, 6),
    st.integers(0, 5),
    st.sampled_from(["tree", "prompt"]),
    st.sampled_from(["leaves", "parents"]),
    st.booleans(),
)
def test_the_definition(oracle, size, k, seed, per, spread, marked):
    forest, correct = draw(oracle, size)
    correct = correct if marked else None
    got = leaf_sample(forest, k=k, seed=seed, per=per, spread=spread, correct=correct)
    groups = (forest.rollout_groups if per == "prompt" else forest.rollout_trees).index.tolist()
    families = forest.siblings.index[forest.leaves].tolist()
    expected = oracle("select/leaf_sample.py", "leaf_sample")(
        groups, families, k=k, seed=seed, spread=spread, correct=None if correct is None else correct.tolist()
    )
    assert got.indices.tolist() == expected
    assert np.flatnonzero(got.mask).tolist() == expected
    # min(k, n) of each, and a correct one where there is one.
    kept, all_of = np.bincount(np.array(groups)[expected], minlength=max(groups) + 1), np.bincount(groups)
    assert kept.tolist() == np.minimum(all_of, k).tolist()
    if marked:
        for group in set(np.array(groups)[correct].tolist()):
            assert (correct & got.mask)[np.array(groups) == group].any()
    # The forest of these alone.
    assert forest.prune(got.mask).forest.n_leaves == len(expected)


def test_the_same_numbers_everywhere():
    forest = Forest.from_parents([-1, 0, 0, 0, 0, 0, -1, 6, 6])
    assert leaf_sample(forest, k=3, seed=7).indices.tolist() == [0, 3, 4, 5, 6]
    assert str(leaf_sample(forest, k=3, seed=7).report) == (
        "leaf_sample kept 5 of 7 rollouts in 2 of 2 groups\n  not drawn  1 group, 2 rollouts: 0 (2)"
    )


def times(forest, n=4000, **options):
    """How often each leaf is drawn."""
    return sum(leaf_sample(forest, seed=seed, **options).mask.astype(int) for seed in range(n))


def test_how_often_leaves_are_drawn():
    #  parents: 1 (three leaves), 2 (one leaf), 3 (one leaf)
    forest = Forest.from_parents([-1, 0, 0, 0, 1, 1, 1, 2, 3])
    near = {"abs": 160}  # five standard deviations
    assert times(forest, k=2).tolist() == pytest.approx([1600] * 5, **near)
    # Two of three parents, and of each any child.
    parents = times(forest, k=2, spread="parents")
    assert parents.tolist() == pytest.approx([889, 889, 889, 2667, 2667], **near)
    # One for certain; the others alike.
    assert times(forest, k=2, correct=[0, 0, 0, 0, 1]).tolist() == pytest.approx([1000] * 4 + [4000], **near)
    assert times(forest, k=2, correct=[1, 1, 0, 0, 0]).tolist() == pytest.approx([2500] * 2 + [1000] * 3, **near)
    both = times(forest, k=2, spread="parents", correct=[1, 0, 0, 0, 0])
    assert both.tolist() == pytest.approx([4000, 0, 0, 2000, 2000], **near)


def test_kinds_and_empty_forests():
    assert leaf_sample(Forest.from_parents([]), k=1, seed=0).indices.tolist() == []
    assert leaf_sample(Forest.from_parents([]), k=1, seed=0, spread="parents", correct=[]).indices.tolist() == []
    torch = pytest.importorskip("torch")
    forest = Forest.from_parents([-1, 0, 0])
    got = leaf_sample(forest, k=1, seed=0, correct=torch.tensor([False, True]))
    assert got.mask.equal(torch.tensor([False, True]))
    assert leaf_sample(forest, k=2, seed=0).mask.all()
    # Rewards of the drawn rollouts, for a method on the forest of these.
    rewards = np.array([0.0, 1.0])
    chosen = leaf_sample(forest, k=1, seed=0)
    assert rm.tree.spo(forest.prune(chosen.mask).forest, rewards[chosen.indices]).tolist() == [0.0, 0.0]


def test_wrong_calls():
    forest = Forest.from_parents([-1, 0, 0])
    for wrong, error, message in [
        ({"k": 0}, ValueError, "'k' must be at least 1, got 0"),
        ({"k": 2.0}, TypeError, "'k' must be a whole number"),
        ({"seed": -1}, ValueError, "'seed' must be at least 0, got -1"),
        ({"per": "group"}, ValueError, "'per' must be one of 'tree', 'prompt', got 'group'"),
        ({"spread": "all"}, ValueError, "'spread' must be one of 'leaves', 'parents', got 'all'"),
        ({"correct": [1]}, ValueError, r"'correct' must have length 2 \(= forest.n_leaves\), got 1"),
        ({"correct": [1.0, 0.0]}, TypeError, r"'correct' must be bool or integer \(nonzero = True\), got float64"),
        ({"forest": None}, TypeError, "'forest' must be a rollmath.Forest"),
    ]:
        with pytest.raises(error, match=r"leaf_sample\(\): " + message):
            leaf_sample(**{"forest": forest, "k": 1, "seed": 0, **wrong})

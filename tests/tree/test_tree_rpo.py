"""tree.tree_rpo: the hand vector, the oracle, and what siblings' z-scores must be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Forest
from rollmath.tree import spo, tree_rpo

#: Options multiply.
MANY = settings(max_examples=max(300, settings().max_examples))
SIZES = st.tuples(st.integers(0, 2**32), st.integers(1, 40))


def draw(oracle, size):
    forest = Forest.from_parents(oracle("forest.py", "random_parents")(*size))
    rng = np.random.default_rng(size[0])
    return forest, rng.choice([0.0, 1.0] if size[0] % 2 else rng.normal(size=5), forest.n_leaves)


def well(forest, rewards):
    """Siblings that differ in their last bits only have no digits left; theirs are not compared."""
    value = rm.ops.up(forest, rewards.astype(np.float64), how="mean_of_children")
    spread = rm.ops.gather(rm.ops.segment_std(value, forest.siblings, ddof=0), forest.siblings)
    return ~((spread > 0) & (spread < 1e-6))


def test_the_vector(vectors):
    f1 = vectors("structured")["F1"]
    forest = Forest.from_parents(f1["parent"])
    rewards = [f1["leaf_reward"][f1["names"][v]] for v in forest.leaves]
    assert np.round(tree_rpo(forest, rewards), 6).tolist() == [0.0, *f1["sibling_z_ddof1"][1:]]
    assert np.round(tree_rpo(forest, rewards, ddof=0, eps=1e-8), 6).tolist() == [0.0, *f1["spo_grpo"][1:]]


@MANY
@given(SIZES, st.sampled_from([0, 1]), st.sampled_from(["zero", "raw"]), st.sampled_from([np.float64, np.float32]))
def test_against_the_oracle(oracle, tolerance, size, ddof, singleton, dtype):
    forest, rewards = draw(oracle, size)
    rewards = rewards.astype(dtype)
    got = tree_rpo(forest, rewards, ddof=ddof, singleton=singleton)
    expected = np.array(
        oracle("tree/tree_rpo.py", "tree_rpo")(forest.parents, forest.leaves, rewards, ddof=ddof, singleton=singleton)
    )
    assert got.dtype == dtype
    sure = well(forest, rewards)
    np.testing.assert_allclose(got[sure], expected[sure], **tolerance(dtype.__name__))


@given(SIZES)
def test_siblings_sum_to_zero_and_spo_has_the_same_numbers(oracle, size):
    forest, rewards = draw(oracle, size)
    got = tree_rpo(forest, rewards)
    np.testing.assert_allclose(rm.ops.segment_sum(got, forest.siblings), 0, atol=1e-9)
    same = spo(forest, rewards, edge="normalized", convention=rm.conventions.DEFAULT)
    assert np.array_equal(got, same)


@given(SIZES)
def test_shift_and_scale(oracle, size):
    forest, rewards = draw(oracle, size)
    sure = well(forest, rewards)
    got = tree_rpo(forest, rewards, eps=0.0)[sure]
    np.testing.assert_allclose(tree_rpo(forest, rewards + 3, eps=0.0)[sure], got, atol=1e-6)
    np.testing.assert_allclose(tree_rpo(forest, rewards * 8, eps=0.0)[sure], got, atol=1e-9)


def test_only_children_equal_siblings_and_roots():
    chain = Forest.from_parents([-1, 0, 1])
    assert tree_rpo(chain, [0.7]).tolist() == [0, 0, 0]
    assert tree_rpo(chain, [0.7], singleton="raw", eps=0.0).tolist() == [0, 0.7, 0.7]
    with pytest.raises(
        ValueError, match=r"tree_rpo\(\): 'forest' has an only child, node 1 below node 0; choose singl"
    ):
        tree_rpo(chain, [0.7], singleton="raise")
    star = Forest.from_parents([-1] + [0] * 9)
    assert not tree_rpo(star, np.full(9, 0.1)).any()
    with pytest.raises(ValueError, match=r"tree_rpo\(\): 'rewards' give the siblings below node 0 equal values"):
        tree_rpo(star, np.full(9, 0.1), zero_spread="raise")
    assert tree_rpo(Forest.from_parents([]), []).shape == (0,)
    assert tree_rpo(Forest.from_parents([-1, -1]), [1.0, 2.0], singleton="raw").tolist() == [0, 0]


def test_non_finite_rewards():
    forest = Forest.from_parents([-1, 0, 0, 1, 1, 2, 2])
    with pytest.raises(ValueError, match=r"tree_rpo\(\): 'rewards' must be finite, got nan at index 1; take such roll"):
        tree_rpo(forest, [1.0, np.nan, 0.0, 1.0])
    got = tree_rpo(forest, [1.0, np.nan, 0.0, 1.0], nan="propagate")
    assert np.isnan(got).tolist() == [False, True, True, True, True, False, False]


def test_a_convention_of_another_method():
    with pytest.raises(ValueError, match=r"tree_rpo\(\): 'convention': SPO.* has no convention for 'tree_rpo'"):
        tree_rpo(Forest.from_parents([-1, 0, 0]), [0.0, 1.0], convention=rm.conventions.SPO)

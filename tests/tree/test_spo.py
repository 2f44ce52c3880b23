"""tree.spo: hand-checked numbers of the official code, the oracle, and the laws of the formula."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Forest
from rollmath.tree import nonzero_edges, spo

SIZES = st.tuples(st.integers(0, 2**32), st.integers(1, 50))
VARIANTS = [("difference", False), ("normalized", False), ("difference", True), ("normalized", True)]


def draw(oracle, size):
    """A random forest and 0/1 or real rewards."""
    forest = Forest.from_parents(oracle("forest.py", "random_parents")(*size))
    rng = np.random.default_rng(size[0])
    values = [0.0, 1.0] if size[0] % 2 else rng.normal(size=5)
    return forest, rng.choice(values, forest.n_leaves)


def test_the_vectors_of_the_official_code(vectors):
    f1 = vectors("structured")["F1"]
    forest = Forest.from_parents(f1["parent"])
    rewards = [f1["leaf_reward"][f1["names"][v]] for v in forest.leaves]

    def check(got, name, digits):
        assert np.round(got, digits).tolist() == [0.0, *f1[name][1:]]

    check(spo(forest, rewards), "spo_rloo", 7)
    check(spo(forest, rewards, edge="normalized"), "spo_grpo", 6)
    check(spo(forest, rewards, leave_one_out=True), "sibling_loo", 7)
    check(spo(forest, rewards, edge="normalized", ddof=1, eps=1e-6), "sibling_z_ddof1", 6)
    assert nonzero_edges(forest, spo(forest, rewards)).tolist() == [False] + [True] * 8


@given(SIZES, st.sampled_from(VARIANTS), st.sampled_from([np.float64, np.float32]))
def test_against_the_oracle(oracle, tolerance, size, variant, dtype):
    forest, rewards = draw(oracle, size)
    rewards = rewards.astype(dtype)
    edge, leave_one_out = variant
    got = spo(forest, rewards, edge=edge, leave_one_out=leave_one_out)
    expected = oracle("tree/spo.py", "spo")(forest.parents, forest.leaves, rewards, edge, leave_one_out)
    assert got.dtype == dtype
    if edge == "normalized":
        # Siblings that differ in their last bits only have no digits left; theirs is not compared.
        value = rm.ops.up(forest, rewards.astype(np.float64), how="mean_of_children")
        spread = rm.ops.gather(rm.ops.segment_std(value, forest.siblings, ddof=0), forest.siblings)
        ill = (spread > 0) & (spread < 1e-6)
        got, expected = np.where(ill, 0, got), np.where(ill, 0, expected)
    np.testing.assert_allclose(got, expected, **tolerance(dtype.__name__))
    expected = oracle("tree/spo.py", "nonzero_edges")(forest.parents, got)
    assert nonzero_edges(forest, got).tolist() == expected


@given(SIZES)
def test_differences_telescope(oracle, size):
    forest, rewards = draw(oracle, size)
    advantage = spo(forest, rewards)
    value = rm.ops.up(forest, rewards, how="mean_of_children")
    for leaf, reward in zip(forest.leaves, rewards, strict=True):
        path = oracle("forest.py", "path")(forest.parents, leaf)
        assert advantage[path].sum() == pytest.approx(reward - value[path[0]], abs=1e-12)


@given(SIZES)
def test_leave_one_out_is_the_difference_scaled_and_sums_to_zero(oracle, size):
    forest, rewards = draw(oracle, size)
    plain, loo = spo(forest, rewards), spo(forest, rewards, leave_one_out=True)
    b = forest.siblings.counts[forest.siblings.index]
    np.testing.assert_allclose(loo[b > 1], (b / np.maximum(b - 1, 1) * plain)[b > 1], atol=1e-12)
    assert not loo[b == 1].any()
    np.testing.assert_allclose(rm.ops.segment_sum(loo, forest.siblings), 0, atol=1e-12)


@given(SIZES, st.sampled_from(VARIANTS))
def test_shift_scale_and_renumbering(oracle, same_bits, size, variant):
    forest, rewards = draw(oracle, size)
    keywords = {"edge": variant[0], "leave_one_out": variant[1]}
    got = spo(forest, rewards, **keywords)
    if variant[0] == "difference":
        np.testing.assert_allclose(spo(forest, rewards + 3, **keywords), got, atol=1e-11)
        same_bits(spo(forest, rewards * 4, **keywords), got * 4)
    to = np.random.default_rng(size[0]).permutation(forest.n_nodes)
    turned = np.empty_like(to)
    turned[to] = np.where(forest.parents < 0, -1, to[forest.parents])
    other, by_node = Forest.from_parents(turned), np.zeros(len(to))
    by_node[to[forest.leaves]] = rewards
    same_bits(spo(other, by_node[other.leaves], **keywords)[to], got)


def test_a_flat_group_is_grpo_and_rloo():
    forest = Forest.from_parents([-1, 0, 0, 0, 0])
    rewards = [1.0, 0.0, 0.0, 0.5]
    flat = rm.group.grpo(rewards, [0] * 4, ddof=0, eps=1e-8)
    assert np.array_equal(spo(forest, rewards, edge="normalized")[1:], flat)
    assert np.array_equal(spo(forest, rewards, leave_one_out=True)[1:], rm.group.rloo(rewards, [0] * 4))


def test_only_children_and_equal_siblings():
    chain = Forest.from_parents([-1, 0, 1])
    for edge, leave_one_out in VARIANTS:
        assert spo(chain, [0.7], edge=edge, leave_one_out=leave_one_out).tolist() == [0, 0, 0]
    # singleton= speaks where other siblings are needed; roots stay 0.
    assert spo(chain, [0.7], leave_one_out=True, singleton="raw").tolist() == [0, 0.7, 0.7]
    assert np.isnan(spo(chain, [0.7], edge="normalized", singleton="nan")).tolist() == [False, True, True]
    assert spo(chain, [0.7], singleton="raise").tolist() == [0, 0, 0]
    for edge, leave_one_out in VARIANTS[1:]:
        text = r"spo\(\): 'forest' has an only child, node 1 below node 0; choose singleton='zero', "
        with pytest.raises(ValueError, match=text):
            spo(chain, [0.7], edge=edge, leave_one_out=leave_one_out, singleton="raise")
    star = Forest.from_parents([-1] + [0] * 9)
    for edge, leave_one_out in VARIANTS:
        assert not spo(star, np.full(9, 0.1), edge=edge, leave_one_out=leave_one_out).any()


def test_equal_siblings_raise_if_asked_to():
    forest = Forest.from_parents([-1, 0, 0, 1, 1, 2, -1])
    for leave_one_out in (False, True):
        keywords = {"leave_one_out": leave_one_out, "zero_spread": "raise"}
        text = r"spo\(\): 'rewards' give the siblings below node 1 equal values, no spread; choose zero_spread='zero', "
        with pytest.raises(ValueError, match=text):
            spo(forest, [1.0, 1.0, 0.0, 5.0], edge="normalized", **keywords)
        # Without a division, with other values, and for only children and roots there is nothing to refuse.
        assert spo(forest, [1.0, 1.0, 0.0, 5.0], **keywords)[3] == 0
        assert spo(forest, [1.0, 0.0, 0.0, 5.0], edge="normalized", **keywords)[3] != 0
        got = spo(forest, [np.nan, np.nan, 0.0, 5.0], edge="normalized", nan="propagate", **keywords)
        assert np.isnan(got).tolist() == [False, True, True, True, True, False, False]


def test_roots_and_empty_forests():
    assert spo(Forest.from_parents([-1, -1]), [1.0, 2.0]).tolist() == [0.0, 0.0]
    assert spo(Forest.from_parents([-1, -1]), [1.0, 2.0], edge="normalized", singleton="raw").tolist() == [0.0, 0.0]
    for edge, leave_one_out in VARIANTS:
        assert spo(Forest.from_parents([]), [], edge=edge, leave_one_out=leave_one_out).shape == (0,)


def test_non_finite_rewards():
    forest = Forest.from_parents([-1, 0, 0, 1, 1, 2, 2])
    for bad in (np.nan, np.inf):
        for nan in ("raise", "omit"):
            with pytest.raises(
                ValueError, match=rf"'rewards' must be finite, got {bad} at index 1; take such rollouts"
            ):
                spo(forest, [1.0, bad, 0.0, 1.0], nan=nan)
    got = spo(forest, [1.0, np.nan, 0.0, 1.0], nan="propagate")
    assert np.isnan(got).tolist() == [False, True, True, True, True, False, False]
    assert nonzero_edges(forest, got).tolist() == [False] + [True] * 6


def test_torch_and_integers():
    torch = pytest.importorskip("torch")
    forest = Forest.from_parents([-1, 0, 0])
    got = spo(forest, torch.tensor([1, 0]))
    assert (got.dtype, got.tolist()) == (torch.float32, [0.0, 0.5, -0.5])
    assert nonzero_edges(forest, got).dtype == torch.bool
    assert spo(forest, torch.tensor([1.0, 0.0], dtype=torch.bfloat16)).dtype == torch.float32
    assert spo(forest, [True, False]).dtype == np.float64
    with pytest.raises(ValueError, match=r"spo\(\): 'rewards' requires grad"):
        spo(forest, torch.tensor([1.0, 0.0], requires_grad=True))


def test_wrong_calls():
    forest = Forest.from_parents([-1, 0, 0])
    with pytest.raises(ValueError, match=r"spo\(\): 'rewards' must have length 2 \(= forest.n_leaves\), got 3"):
        spo(forest, [0.0, 1.0, 0.0])
    with pytest.raises(ValueError, match=r"spo\(\): 'edge' must be one of 'difference', 'normalized', got 'rloo'"):
        spo(forest, [0.0, 1.0], edge="rloo")
    with pytest.raises(ValueError, match=r"has no convention for 'spo'"):
        spo(forest, [0.0, 1.0], convention=rm.conventions.VERL)
    with pytest.raises(TypeError, match=r"spo\(\) got an unexpected keyword argument 'epsilon'"):
        spo(forest, [0.0, 1.0], epsilon=1.0)
    with pytest.raises(TypeError, match=r"spo\(\): 'forest' must be a rollmath.Forest, got a 1-D int64 array"):
        spo(np.array([-1, 0, 0]), [0.0, 1.0])
    with pytest.raises(ValueError, match=r"nonzero_edges\(\): 'advantages' must have length 3 \(= forest.n_nodes\)"):
        nonzero_edges(forest, [0.0, 1.0])

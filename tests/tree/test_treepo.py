"""tree.treepo, treepo_segment and treepo_spo: numbers of the official code, the oracle, and the laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Forest
from rollmath.tree import tree_rpo, treepo, treepo_segment, treepo_spo

#: Options multiply.
MANY = settings(max_examples=max(300, settings().max_examples))
SIZES = st.tuples(st.integers(0, 2**32), st.integers(1, 40))
DTYPES = st.sampled_from([np.float64, np.float32])
CALLS = [treepo, treepo_segment, treepo_spo]


def draw(oracle, size):
    """A random forest with up to three trees a prompt, and rewards that are 0/1 or real."""
    parents = oracle("forest.py", "random_parents")(*size)
    rng = np.random.default_rng(size[0])
    forest = Forest.from_parents(parents, groups=np.arange((parents < 0).sum()) // int(rng.integers(1, 4)))
    return forest, rng.choice([0.0, 1.0] if size[0] % 2 else rng.normal(size=5), forest.n_leaves)


def well(forest, rewards):
    """Siblings that differ in their last bits only have no digits left, and neither do their children."""
    value = rm.ops.up(forest, rewards.astype(np.float64), how="mean_of_children")
    spread = rm.ops.gather(rm.ops.segment_std(value, forest.siblings, ddof=0), forest.siblings)
    ill = ((spread > 0) & (spread < 1e-5)).astype(float)
    return rm.ops.parent(forest, ill) + ill == 0


def test_the_vectors_of_the_official_code(vectors):
    f1 = vectors("structured")["F1"]
    forest = Forest.from_parents(f1["parent"])
    names = [f1["names"][v] for v in forest.leaves]
    rewards = [f1["leaf_reward"][name] for name in names]
    for form in ("average", "group_size"):
        expected = [f1[f"treepo_{form}"][name] for name in names]
        assert np.round(treepo(forest, rewards, form=form), 7).tolist() == expected
    assert np.round(treepo_segment(forest, rewards), 6).tolist() == [0.0, *f1["treepo_progress"][1:]]
    assert np.round(treepo_spo(forest, rewards), 6).tolist() == [0.0, *f1["treepo_spo_clone"][1:]]


@MANY
@given(SIZES, st.sampled_from(["average", "group_size"]), st.booleans(), st.sampled_from(["raw", "zero"]), DTYPES)
def test_rollouts_against_the_oracle(oracle, tolerance, size, form, remove, singleton, dtype):
    forest, rewards = draw(oracle, size)
    rewards = rewards.astype(dtype)
    keywords = {"form": form, "remove_no_std_subgroup": remove, "singleton": singleton}
    got = treepo(forest, rewards, **keywords)
    expected = oracle("tree/treepo.py", "treepo")(
        forest.parents, forest.leaves, rewards, forest.groups.index, **keywords
    )
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected, **tolerance(dtype.__name__))


@MANY
@given(SIZES, st.sampled_from([None, 0.3, 0.5, 0.9, 1.0]), DTYPES)
def test_segments_against_the_oracle(oracle, tolerance, size, eta, dtype):
    forest, rewards = draw(oracle, size)
    rewards = rewards.astype(dtype)
    got = treepo_segment(forest, rewards, eta=eta)
    expected = oracle("tree/treepo.py", "treepo_segment")(
        forest.parents, forest.leaves, rewards, forest.groups.index, eta=eta
    )
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected, **tolerance(dtype.__name__))


@MANY
@given(SIZES, DTYPES)
def test_its_spo_against_the_oracle(oracle, tolerance, size, dtype):
    forest, rewards = draw(oracle, size)
    rewards = rewards.astype(dtype)
    got = treepo_spo(forest, rewards)
    expected = np.array(oracle("tree/treepo.py", "treepo_spo")(forest.parents, forest.leaves, rewards))
    assert got.dtype == dtype
    sure = well(forest, rewards)
    np.testing.assert_allclose(got[sure], expected[sure], **tolerance(dtype.__name__))


@given(SIZES)
def test_segments_telescope_and_eta_one_is_none(oracle, size):
    forest, rewards = draw(oracle, size)
    below = forest.parents[forest.leaves] >= 0
    paths = [oracle("forest.py", "path")(forest.parents, leaf) for leaf in forest.leaves]
    got = treepo_segment(forest, rewards)
    sums = np.array([got[path].sum() for path in paths])
    # The leaf's value: what treepo gives by group size, but that the leaf and its only-child ancestors count, too.
    size = forest.rollout_groups.counts[forest.rollout_groups.index]
    over = np.where(size > 1, treepo(forest, rewards, form="group_size", singleton="zero"), 0)
    sizes = [forest.leaf_counts[path[1:]] for path in paths]
    many = np.array([n[n > 1].sum() for n in sizes]) + size
    every = np.array([n.sum() for n in sizes]) + size
    np.testing.assert_allclose(sums[below], (over * many / every)[below], atol=1e-11)
    got = treepo_spo(forest, rewards)
    z = tree_rpo(forest, rewards, ddof=0, eps=0.0, singleton="raw")
    sure = well(forest, rewards)[forest.leaves]
    sums = np.array([got[path].sum() for path in paths])
    np.testing.assert_allclose(sums[sure], z[forest.leaves][sure], atol=1e-9)
    one = treepo_segment(forest, rewards, eta=1.0)
    np.testing.assert_allclose(one, treepo_segment(forest, rewards), atol=1e-12)


@given(SIZES)
def test_shift_scale_and_renumbering(oracle, same_bits, size):
    forest, rewards = draw(oracle, size)
    to = np.random.default_rng(size[0]).permutation(forest.n_nodes)
    turned = np.empty_like(to)
    turned[to] = np.where(forest.parents < 0, -1, to[forest.parents])
    by_root = {int(to[v]): int(forest.groups.index[i]) for i, v in enumerate(forest.roots)}
    other, by_node = Forest.from_parents(turned, groups=[by_root[v] for v in sorted(by_root)]), np.zeros(len(to))
    by_node[to[forest.leaves]] = rewards
    for call in (treepo, treepo_segment):
        got = call(forest, rewards, singleton="zero")
        np.testing.assert_allclose(call(forest, rewards + 3, singleton="zero"), got, atol=1e-11)
        same_bits(call(forest, rewards * 4, singleton="zero"), got * 4)
        again = call(other, by_node[other.leaves], singleton="zero")
        if call is treepo:
            mine = np.zeros(len(to))
            mine[to[forest.leaves]] = got
            same_bits(again, mine[other.leaves])
        else:
            same_bits(again[to], got)
    same_bits(treepo_spo(other, by_node[other.leaves])[to], treepo_spo(forest, rewards))


def test_a_flat_group_is_dr_grpo_and_z_scores():
    forest = Forest.from_parents([-1, 0, 0, 0, 0])
    rewards = [1.0, 0.0, 0.0, 0.5]
    assert np.array_equal(treepo(forest, rewards), rm.group.dr_grpo(rewards, [0] * 4))
    assert np.array_equal(treepo_spo(forest, rewards)[1:], rm.group.grpo(rewards, [0] * 4, ddof=0, eps=0.0))


def test_removed_subtrees_and_prompts_of_their_own():
    forest = Forest.from_parents([-1, 0, 0, 1, 1, 2, 2])
    rewards = [1.0, 1.0, 1.0, 0.0]
    assert treepo(forest, rewards).tolist() == [0.125, 0.125, 0.375, -0.625]
    assert treepo(forest, rewards, remove_no_std_subgroup=True).tolist() == [0.25, 0.25, 0.375, -0.625]
    # What the trainer that glues the first branch to the prompt's id computes: subtrees as prompts.
    glued = Forest.from_parents([-1, -1, 0, 0, 1, 1])
    assert treepo(glued, rewards).tolist() == [0.0, 0.0, 0.5, -0.5]


def test_eta_and_depths_that_differ():
    # Below node 1 there are leaves at depths 2 and 3, so k is 2 and 3 there: the mean of 1/4 and 1/8.
    forest = Forest.from_parents([-1, 0, 1, 1, 3, 0])
    rewards = [1.0, 0.0, 0.5]
    plain = treepo_segment(forest, rewards)
    weak = treepo_segment(forest, rewards, eta=0.5)
    value = np.cumsum(plain[[1, 3, 4]])
    assert weak[1] == pytest.approx(plain[1])
    assert weak[2] == pytest.approx(plain[2] + 0.5 * value[0])
    assert weak[3] == pytest.approx(value[1] - 0.25 * value[0])
    # Powers of a long chain neither overflow nor divide by 0.
    chain = Forest.from_parents(np.r_[-1, np.arange(3000), 0])
    assert not np.isnan(treepo_segment(chain, [1.0, 0.0], eta=0.01)).any()


def test_only_children_and_equal_rewards():
    chain = Forest.from_parents([-1, 0, 1])
    assert treepo(chain, [0.7]).tolist() == [0.7 / (1 + 0)]
    assert treepo(chain, [0.7], singleton="zero").tolist() == [0.0]
    assert treepo_segment(chain, [0.7]).tolist() == [0, 0, 0]
    assert treepo_spo(chain, [0.7]).tolist() == [0.0, 0.7, 0.0]
    assert treepo_spo(chain, [0.7], singleton="zero").tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match=r"treepo\(\): .*one valid member"):
        treepo(chain, [0.7], singleton="raise")
    with pytest.raises(ValueError, match=r"treepo_segment\(\): .*one valid member"):
        treepo_segment(chain, [0.7], singleton="raise")
    with pytest.raises(ValueError, match=r"treepo_spo\(\): 'forest' has an only child, node 1 below node 0"):
        treepo_spo(chain, [0.7], singleton="raise")
    with pytest.raises(ValueError, match=r"treepo_spo\(\): 'rewards' give the siblings below node 0 equal values"):
        treepo_spo(Forest.from_parents([-1, 0, 0]), [0.7, 0.7], zero_spread="raise")
    bushy = Forest.from_parents([-1, 0, 0, 0, 1, 1, 2, 2, 2, 2])
    for form in ("average", "group_size"):
        assert not treepo(bushy, np.full(7, 0.1), form=form).any()
    assert not treepo_segment(bushy, np.full(7, 0.1)).any()
    assert not treepo_spo(bushy, np.full(7, 0.1)).any()


def test_siblings_equal_but_for_their_last_bit_have_no_standing():
    # (0.1 + 0.2) / 2 and (0.3 + 0) / 2 are not the same float64.
    forest = Forest.from_parents([-1, 0, 0, 1, 1, 2, 2])
    got = treepo_spo(forest, [0.1, 0.2, 0.3, 0.0])
    assert got[1:3].tolist() == [0.0, 0.0]


def test_empty_forests_and_lone_roots():
    for call in CALLS:
        assert call(Forest.from_parents([]), []).shape == (0,)
    lone = Forest.from_parents([-1, -1])
    assert treepo(lone, [1.0, 2.0]).tolist() == [1.0, 2.0]
    assert treepo_segment(lone, [1.0, 2.0]).tolist() == [0.0, 0.0]
    assert treepo_spo(lone, [1.0, 2.0]).tolist() == [0.0, 0.0]


@pytest.mark.filterwarnings("error")
def test_non_finite_rewards():
    forest = Forest.from_parents([-1, 0, 0, 1, 1, -1, 5, 5])
    for bad in (np.nan, np.inf):
        rewards = [1.0, bad, 0.0, 1.0, 0.0]
        for call in CALLS:
            with pytest.raises(
                ValueError, match=rf"{call.__name__}\(\): 'rewards' must be finite, got {bad} at index 1"
            ):
                call(forest, rewards)
        for options in ({}, {"form": "group_size", "remove_no_std_subgroup": True}):
            got = treepo(forest, rewards, nan="propagate", **options)
            assert not np.isfinite(got[:3]).any()
            assert np.isfinite(got[3:]).all()
        for eta in (None, 0.5):
            got = treepo_segment(forest, rewards, nan="propagate", eta=eta)
            assert not np.isfinite(got[1:5]).any()
            assert np.isfinite(got[[0, 5, 6, 7]]).all()
    got = treepo_spo(forest, [1.0, np.nan, 0.0, 1.0, 0.0], nan="propagate")
    assert np.isnan(got).tolist() == [False, True, True, True, True, False, False, False]


def test_wrong_calls():
    forest = Forest.from_parents([-1, 0, 0])
    for call in CALLS:
        with pytest.raises(ValueError, match=rf"has no convention for '{call.__name__}'"):
            call(forest, [0.0, 1.0], convention=rm.conventions.VERL)
    with pytest.raises(ValueError, match=r"treepo\(\): 'form' must be one of 'average', 'group_size', got 'sum'"):
        treepo(forest, [0.0, 1.0], form="sum")
    with pytest.raises(TypeError, match=r"treepo\(\): 'remove_no_std_subgroup' must be True or False, got 1"):
        treepo(forest, [0.0, 1.0], remove_no_std_subgroup=1)
    for eta in (-1.0, 0.0, 2.0, np.nan):
        with pytest.raises(ValueError, match=r"treepo_segment\(\): 'eta' must be above 0 and at most 1, got "):
            treepo_segment(forest, [0.0, 1.0], eta=eta)

"""tree.tree_grpo and its difference mode: numbers of the official code, the oracle, and the laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Forest
from rollmath.tree import tree_grpo, tree_grpo_difference

#: Options multiply.
MANY = settings(max_examples=max(300, settings().max_examples))
SIZES = st.tuples(st.integers(0, 2**32), st.integers(1, 40))
FORMS = ["sum", "nested", "inner"]


def draw(oracle, size):
    """A random forest with up to three trees a prompt, and rewards that are 0/1 or real."""
    parents = oracle("forest.py", "random_parents")(*size)
    rng = np.random.default_rng(size[0])
    forest = Forest.from_parents(parents, groups=np.arange((parents < 0).sum()) // int(rng.integers(1, 4)))
    values = [0.0, 1.0] if size[0] % 2 else rng.normal(size=5)
    return forest, rng.choice(values, forest.n_leaves)


def test_the_vectors_of_the_official_code(vectors):
    case = vectors("structured")["tree_grpo"]
    forest = Forest.from_parents([-1, -1, 0, 0, 0, 1, 1, 1], groups=["q", "q"])
    assert forest.tree[forest.leaves].tolist() == case["tree"]
    assert np.round(tree_grpo(forest, case["r"]), 6).tolist() == pytest.approx(case["inter_plus_intra"], abs=1.01e-6)
    assert np.round(tree_grpo(forest, case["r"], form="nested"), 5).tolist() == pytest.approx(case["nested"], abs=1e-5)


@MANY
@given(SIZES, st.sampled_from(FORMS), st.sampled_from(["raw", "zero"]), st.sampled_from([np.float64, np.float32]))
def test_against_the_oracle(oracle, tolerance, size, form, singleton, dtype):
    forest, rewards = draw(oracle, size)
    rewards = rewards.astype(dtype)
    got = tree_grpo(forest, rewards, form=form, singleton=singleton)
    prompts, trees = forest.rollout_groups.index.tolist(), forest.tree[forest.leaves].tolist()
    expected = oracle("tree/tree_grpo.py", "tree_grpo")(rewards, prompts, trees, form=form, singleton=singleton)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected, **tolerance(dtype.__name__))


@given(SIZES, st.sampled_from([0.1, 0.0, -0.5]), st.sampled_from([np.float64, np.float32]))
def test_the_difference_mode_against_the_oracle(oracle, tolerance, size, margin, dtype):
    forest, rewards = draw(oracle, size)
    rewards = rewards.astype(dtype)
    got = tree_grpo_difference(forest, rewards, margin=margin)
    expected = oracle("tree/tree_grpo.py", "tree_grpo_difference")(
        forest.parents, forest.leaves, rewards, margin=margin
    )
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected, **tolerance(dtype.__name__))


@given(SIZES)
def test_within_a_tree_the_inner_term_sums_to_zero_on_shared_tokens(oracle, size):
    forest, rewards = draw(oracle, size)
    inner = tree_grpo(forest, rewards, form="inner", singleton="zero")
    at_roots = rm.ops.up(forest, inner, how="sum")[forest.roots]
    np.testing.assert_allclose(at_roots, 0, atol=1e-10)
    # So what a shared token gets over its rollouts is the prompt's term alone.
    prompt = rm.group.grpo(rewards, forest.rollout_groups)
    total = rm.ops.up(forest, tree_grpo(forest, rewards, singleton="zero"), how="sum")[forest.roots]
    np.testing.assert_allclose(total, rm.ops.up(forest, prompt, how="sum")[forest.roots], atol=1e-10)


@given(SIZES, st.sampled_from(FORMS))
def test_shift_scale_and_renumbering(oracle, same_bits, size, form):
    forest, rewards = draw(oracle, size)
    got = tree_grpo(forest, rewards, form=form, singleton="zero")
    np.testing.assert_allclose(tree_grpo(forest, rewards + 3, form=form, singleton="zero"), got, atol=1e-9)
    free = tree_grpo(forest, rewards, form=form, singleton="zero", eps=0.0)
    np.testing.assert_allclose(tree_grpo(forest, rewards * 7, form=form, singleton="zero", eps=0.0), free, atol=1e-9)
    to = np.random.default_rng(size[0]).permutation(forest.n_nodes)
    turned = np.empty_like(to)
    turned[to] = np.where(forest.parents < 0, -1, to[forest.parents])
    by_node, ids = np.zeros(len(to)), np.zeros(len(to))
    by_node[to[forest.leaves]], ids[to[forest.leaves]] = rewards, got
    by_root = {int(to[v]): int(forest.groups.index[i]) for i, v in enumerate(forest.roots)}
    other = Forest.from_parents(turned, groups=[by_root[v] for v in sorted(by_root)])
    same_bits(tree_grpo(other, by_node[other.leaves], form=form, singleton="zero"), ids[other.leaves])


def test_one_tree_a_prompt_is_twice_grpo():
    forest = Forest.from_parents([-1, 0, 0, 1, 1])
    rewards = [1.0, 0.0, 0.5]
    flat = rm.group.grpo(rewards, [0] * 3)
    assert np.array_equal(tree_grpo(forest, rewards), 2 * flat)
    assert np.array_equal(tree_grpo(forest, rewards, form="inner"), flat)


def test_lone_rewards_and_no_spread():
    forest = Forest.from_parents([-1, -1, 0, 0, 1, -1], groups=["a", "a", "b"])
    rewards = [1.0, 1.0, 0.0, 0.5]
    raw, zero = tree_grpo(forest, rewards), tree_grpo(forest, rewards, singleton="zero")
    alone = [0.0, 0.0, 0.0, 2 * 0.5]
    np.testing.assert_allclose(raw - zero, np.array(alone) / (1 + 1e-6), atol=1e-15)
    assert tree_grpo(forest, rewards, form="inner").tolist() == pytest.approx([0, 0, 0, 0.5 / (1 + 1e-6)])
    with pytest.raises(ValueError, match=r"tree_grpo\(\): .*one valid member"):
        tree_grpo(forest, rewards, singleton="raise")
    with pytest.raises(ValueError, match=r"tree_grpo\(\): .*spread"):
        tree_grpo(forest, rewards, zero_spread="raise")
    for form in FORMS:
        assert not tree_grpo(forest, np.full(4, 0.1), form=form, singleton="zero").any()


def test_the_difference_mode_as_the_code_writes_it_to_tokens():
    forest = Forest.from_parents([-1, 0, 0, 1, 1], lengths=[0, 2, 1, 1, 2])
    score = tree_grpo_difference(forest, [0.0, 1.0, 0.0])
    tokens = forest.expand(score, per="rollout")
    tree = np.repeat(forest.tree[forest.leaves], np.diff(tokens.offsets))
    standard = rm.ops.normalize(tokens.values, tree)
    flat = np.array([0.0, *[score[1]] * 2, 1.4, *[score[1]] * 2, 0.0, 0.0])
    np.testing.assert_allclose(standard, (flat - flat.mean()) / (flat.std(ddof=1) + 1e-6), atol=1e-12)


def test_empty_forests_and_lone_roots():
    for form in FORMS:
        assert tree_grpo(Forest.from_parents([]), [], form=form).shape == (0,)
    assert tree_grpo(Forest.from_parents([-1, -1]), [1.0, 2.0], singleton="zero").tolist() == [0, 0]
    assert tree_grpo_difference(Forest.from_parents([]), []).shape == (0,)
    assert tree_grpo_difference(Forest.from_parents([-1, -1]), [1.0, 2.0]).tolist() == [0, 0]


@pytest.mark.filterwarnings("error")
def test_non_finite_rewards():
    forest = Forest.from_parents([-1, -1, 0, 0, 1, 1, -1, 6, 6], groups=["a", "a", "b"])
    rewards = [1.0, np.nan, 0.0, 1.0, 0.0, 1.0]
    for bad in (np.nan, np.inf):
        rewards[1] = bad
        for call in (tree_grpo, tree_grpo_difference):
            with pytest.raises(
                ValueError, match=rf"{call.__name__}\(\): 'rewards' must be finite, got {bad} at index 1"
            ):
                call(forest, rewards)
        for form in ("sum", "nested"):
            got = tree_grpo(forest, rewards, form=form, nan="propagate")
            assert not np.isfinite(got[:4]).any()
            assert np.isfinite(got[4:]).all()
    got = tree_grpo(forest, [1.0, np.nan, 0.0, 1.0, 0.0, 1.0], form="inner", nan="propagate")
    assert np.isnan(got).tolist() == [True, True, False, False, False, False]


def test_wrong_calls():
    forest = Forest.from_parents([-1, 0, 0])
    with pytest.raises(ValueError, match=r"tree_grpo\(\): 'form' must be one of 'sum', 'nested', 'inner', got 'diff'"):
        tree_grpo(forest, [0.0, 1.0], form="diff")
    with pytest.raises(ValueError, match=r"tree_grpo\(\): 'convention': VERL.* has no convention for 'tree_grpo'"):
        tree_grpo(forest, [0.0, 1.0], convention=rm.conventions.VERL)
    with pytest.raises(ValueError, match=r"tree_grpo_difference\(\): 'margin' must be finite, got nan"):
        tree_grpo_difference(forest, [0.0, 1.0], margin=np.nan)

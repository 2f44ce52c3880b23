"""tree.tree_rl: numbers of the official code, the oracle over random forests, and the laws of the formula."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Forest
from rollmath.tree import tree_rl

#: Options multiply.
MANY = settings(max_examples=max(300, settings().max_examples))
SIZES = st.tuples(st.integers(0, 2**32), st.integers(1, 40))
FORMS = ["sum", "local", "global", "ancestors"]
OPTIONS = st.fixed_dictionaries(
    {
        "form": st.sampled_from(FORMS),
        "global_term": st.sampled_from(["difference", "value"]),
        "value": st.sampled_from(["leaf_mean", "mean_of_children"]),
        "sqrt": st.sampled_from(["paper", "code", "none"]),
        "shift": st.sampled_from(["none", "step", "token"]),
        "zero_fill": st.booleans(),
    }
)


def draw(oracle, size, trees_a_group=1):
    """A random forest with lengths, 0/1 or real rewards, and some rollouts selected."""
    parents = oracle("forest.py", "random_parents")(*size)
    rng = np.random.default_rng(size[0])
    groups = np.arange((parents < 0).sum()) // trees_a_group
    forest = Forest.from_parents(parents, groups=groups, lengths=rng.integers(0, 4, len(parents)))
    values = [0.0, 1.0] if size[0] % 2 else rng.normal(size=5)
    return forest, rng.choice(values, forest.n_leaves), rng.random(forest.n_leaves) < 0.6


def test_the_vectors_of_the_official_code(vectors):
    f1 = vectors("structured")["F1"]
    forest = Forest.from_parents(f1["parent"])
    rewards = [f1["leaf_reward"][f1["names"][v]] for v in forest.leaves]

    def check(name, **options):
        assert tree_rl(forest, rewards, **options).tolist() == pytest.approx([0.0, *f1[name][1:]], abs=5e-7)

    check("treerl_local", form="local", sqrt="none")
    check("treerl_final_unweighted", sqrt="none")
    check("treerl_final_paper_sqrt")
    script = dict(rm.conventions.TREE_RL.options["tree_rl"])
    check("treerl_final_code_sqrt", convention=rm.conventions.TREE_RL, **script)
    check("treerl_final_code_sqrt", sqrt="code")


@MANY
@given(SIZES, OPTIONS, st.integers(1, 3), st.booleans(), st.sampled_from([np.float64, np.float32]))
def test_against_the_oracle(oracle, tolerance, size, options, trees_a_group, some, dtype):
    forest, rewards, selected = draw(oracle, size, trees_a_group)
    rewards = rewards.astype(dtype)
    keywords = options | {"selected": selected if some else None}
    got = tree_rl(forest, rewards, **keywords)
    expected = oracle("tree/tree_rl.py", "tree_rl")(
        forest.parents, forest.leaves, rewards, forest.groups.index, lengths=forest.lengths, **keywords
    )
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected, **tolerance(dtype.__name__))


@given(SIZES, st.integers(1, 3))
def test_local_advantages_telescope_to_the_leave_one_out_difference(oracle, size, trees_a_group):
    forest, rewards, _ = draw(oracle, size, trees_a_group)
    local = tree_rl(forest, rewards, form="local", sqrt="none")
    over = rm.group.rloo(rewards, forest.rollout_groups)
    for leaf, expected in zip(forest.leaves, over, strict=True):
        if forest.parents[leaf] >= 0:
            path = oracle("forest.py", "path")(forest.parents, leaf)
            assert local[path].sum() == pytest.approx(expected, abs=1e-12)


@given(SIZES, st.sampled_from(FORMS), st.sampled_from(["paper", "code", "none"]))
def test_shift_scale_and_renumbering(oracle, same_bits, size, form, sqrt):
    forest, rewards, _ = draw(oracle, size)
    got = tree_rl(forest, rewards, form=form, sqrt=sqrt)
    np.testing.assert_allclose(tree_rl(forest, rewards + 3, form=form, sqrt=sqrt), got, atol=1e-11)
    same_bits(tree_rl(forest, rewards * 4, form=form, sqrt=sqrt), got * 4)
    to = np.random.default_rng(size[0]).permutation(forest.n_nodes)
    turned = np.empty_like(to)
    turned[to] = np.where(forest.parents < 0, -1, to[forest.parents])
    other, by_node = Forest.from_parents(turned), np.zeros(len(to))
    by_node[to[forest.leaves]] = rewards
    same_bits(tree_rl(other, by_node[other.leaves], form=form, sqrt=sqrt)[to], got)


@given(SIZES, st.integers(1, 3))
def test_the_value_of_a_root_is_zero_so_both_global_terms_are_equal(oracle, same_bits, size, trees_a_group):
    forest, rewards, _ = draw(oracle, size, trees_a_group)
    both = [tree_rl(forest, rewards, global_term=term) for term in ("difference", "value")]
    same_bits(*both)
    # A step that all rollouts of a tree share is the root's equal, and then exactly so.
    if trees_a_group == 1:
        same = (forest.leaf_counts == forest.leaf_counts[forest.roots][forest.tree]) & (forest.leaf_counts > 1)
        assert not both[0][same].any()


def test_a_flat_group_is_twice_rloo():
    forest = Forest.from_parents([-1, 0, 0, 0, 0])
    rewards = [1.0, 0.0, 0.0, 0.5]
    flat = rm.group.rloo(rewards, [0] * 4)
    for sqrt in ("paper", "code", "none"):
        np.testing.assert_allclose(tree_rl(forest, rewards, sqrt=sqrt)[1:], 2 * flat, atol=1e-15)


def test_zero_fill_copies_the_step_before_from_the_second_on():
    # 0 -> 1 -> 2 -> {3, 4}, 0 -> 5: node 2 shares all rollouts of node 1.
    forest = Forest.from_parents([-1, 0, 1, 2, 2, 0])
    plain = tree_rl(forest, [1.0, 1.0, 0.0], form="local", sqrt="none")
    filled = tree_rl(forest, [1.0, 1.0, 0.0], form="local", sqrt="none", zero_fill=True)
    assert plain.tolist() == [0.0, 0.5, 0.0, 0.0, 0.0, -1.0]
    assert filled.tolist() == [0.0, 0.5, 0.5, 0.5, 0.5, -1.0]
    # The first step keeps a 0, and hands it on.
    first = Forest.from_parents([-1, 0, 1, 1])
    assert not tree_rl(first, [0.5, 0.5], form="local", zero_fill=True).any()


def test_several_trees_of_a_prompt_share_its_root():
    one = Forest.from_parents([-1, 0, 0, 1, 1, 2, 2])
    two = Forest.from_parents([-1, -1, 0, 1, 2, 2, 3, 3], groups=["q", "q"])
    rewards = [1.0, 0.0, 1.0, 1.0]
    for options in ({}, {"sqrt": "code"}, {"value": "mean_of_children", "shift": "step"}):
        np.testing.assert_allclose(
            tree_rl(two, rewards, **options)[2:], tree_rl(one, rewards, **options)[1:], atol=1e-15
        )


def test_selected_rollouts_alone_count_in_the_square_root():
    forest = Forest.from_parents([-1, 0, 0, 1, 1, 1, 1])
    rewards, selected = [0.0, 1.0, 1.0, 0.0, 1.0], [True, True, True, False, False]
    got = tree_rl(forest, rewards, selected=selected)
    everything = tree_rl(forest, rewards, sqrt="none")
    np.testing.assert_allclose(got, everything / np.sqrt([1, 2, 1, 1, 1, 1, 1]) * [0, 1, 1, 1, 1, 0, 0], atol=1e-15)
    assert not tree_rl(forest, rewards, selected=[0] * 5).any()


def test_prompts_of_one_rollout():
    chain = Forest.from_parents([-1, 0, 1])
    assert tree_rl(chain, [0.7]).tolist() == [0, 0, 0]
    # Their value is the root's, too, so only the code's global term sees it.
    assert tree_rl(chain, [0.7], singleton="raw").tolist() == [0, 0, 0]
    assert tree_rl(chain, [0.7], singleton="raw", global_term="value").tolist() == [0, 0.7, 0.7]
    with pytest.raises(ValueError, match=r"tree_rl\(\): .*one valid member"):
        tree_rl(chain, [0.7], convention=rm.conventions.TREE_RL)
    with pytest.raises(ValueError, match=r"tree_rl\(\): .*one valid member"):
        tree_rl(chain, [0.7], singleton="raise")
    assert np.isnan(tree_rl(chain, [0.7], singleton="nan")).tolist() == [False, True, True]


def test_equal_rewards_are_exactly_zero():
    forest = Forest.from_parents([-1, 0, 0, 0, 1, 1, 2, 2, 2, 2])
    for form in FORMS:
        for sqrt in ("paper", "code", "none"):
            assert not tree_rl(forest, np.full(7, 0.1), form=form, sqrt=sqrt, shift="step", zero_fill=True).any()


def test_empty_forests_and_lone_roots():
    for form in FORMS:
        assert tree_rl(Forest.from_parents([]), [], form=form, sqrt="code", shift="step").shape == (0,)
        assert tree_rl(Forest.from_parents([-1, -1]), [1.0, 2.0], form=form).tolist() == [0.0, 0.0]
        assert tree_rl(Forest.from_parents([-1, -1], groups=[0, 0]), [1.0, 2.0], form=form).tolist() == [0.0, 0.0]


@pytest.mark.filterwarnings("error")
def test_non_finite_rewards():
    forest = Forest.from_parents([-1, 0, 0, 1, 1, -1, 5, 5])
    for bad in (np.nan, np.inf):
        text = rf"tree_rl\(\): 'rewards' must be finite, got {bad} at index 1; take such rollouts"
        with pytest.raises(ValueError, match=text):
            tree_rl(forest, [1.0, bad, 0.0, 1.0, 0.0])
        for form in FORMS:
            for options in ({}, {"sqrt": "code", "zero_fill": True, "shift": "step"}):
                got = tree_rl(forest, [1.0, bad, 0.0, 1.0, 0.0], form=form, nan="propagate", **options)
                assert np.isnan(got).tolist() == [False, True, True, True, True, False, False, False]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"form": "both"}, ValueError, r"'form' must be one of 'sum', 'local', 'global', 'ancestors', got 'both'"),
        ({"global_term": "none"}, ValueError, r"'global_term' must be one of 'difference', 'value', got 'none'"),
        ({"value": "mean"}, ValueError, r"'value' must be one of 'leaf_mean', 'mean_of_children', got 'mean'"),
        ({"sqrt": True}, ValueError, r"'sqrt' must be one of 'paper', 'code', 'none', got True"),
        ({"shift": "tokens"}, ValueError, r"'shift' must be one of 'none', 'step', 'token', got 'tokens'"),
        (
            {"shift": "token"},
            ValueError,
            r"'shift' must be 'none' or 'step' for a forest without lengths, got 'token'; b",
        ),
        ({"zero_fill": 1}, TypeError, r"'zero_fill' must be True or False, got 1"),
        ({"selected": [1]}, ValueError, r"'selected' must have length 2 \(= forest.n_leaves\), got 1"),
        ({"selected": [0.5, 1.0]}, TypeError, r"'selected' must be bool or integer"),
        ({"convention": rm.conventions.VERL}, ValueError, r"has no convention for 'tree_rl'"),
    ],
)
def test_wrong_options(options, error, message):
    with pytest.raises(error, match=r"^tree_rl\(\): .*" + message if "convention" in options else message):
        tree_rl(Forest.from_parents([-1, 0, 0]), [0.0, 1.0], **options)


def test_an_unknown_option():
    with pytest.raises(TypeError, match=r"tree_rl\(\) got an unexpected keyword argument 'epsilon'"):
        tree_rl(Forest.from_parents([-1, 0, 0]), [0.0, 1.0], epsilon=1.0)

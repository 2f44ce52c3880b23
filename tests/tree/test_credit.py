"""tree.credit: every combination of switches against the oracle, and the published methods as settings."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Convention, Forest
from rollmath.tree import PRESETS, Credit, credit

SIZES = st.tuples(st.integers(0, 2**32), st.integers(1, 30))


def allowed():
    """Every combination of the switches that a Credit takes."""
    found = []
    for level, leaf, value, baseline, own, scale, root in itertools.product(
        ["node", "rollout"],
        ["reward", "loo", "zscore"],
        ["mean_of_children", "leaf_mean"],
        ["none", "parent", "siblings", "ancestors", "shared_ancestors", "tree", "prompt", "batch"],
        ["included", "excluded"],
        ["none", "std"],
        ["estimate", "zero"],
    ):
        try:
            rule = Credit(level=level, leaf=leaf, value=value, baseline=baseline, own=own, scale=scale, root=root)
        except ValueError:
            continue
        found.append(rule)
    return found


RULES = allowed()


def draw(oracle, size):
    seed, n = size
    rng = np.random.default_rng(seed)
    parents = oracle("forest.py", "random_parents")(seed, n)
    groups = rng.integers(0, 3, int((parents < 0).sum()))
    forest = Forest.from_parents(parents, groups=groups)
    return forest, rng.integers(-3, 4, forest.n_leaves) / 2, groups, rng


@given(
    SIZES,
    st.sampled_from(RULES),
    st.sampled_from(["none", "sqrt_leaves"]),
    st.sampled_from(["zero", "raw"]),
    st.sampled_from([0, 1]),
)
def test_against_the_oracle(oracle, size, rule, divide, singleton, ddof):
    forest, rewards, groups, _ = draw(oracle, size)
    rule = replace(rule, divide=divide, convention=Convention(singleton=singleton, ddof=ddof, eps=1e-4))
    got = credit(forest, rewards, rule)
    expected = oracle("tree/credit.py", "credit")(forest.parents, forest.leaves, rewards, groups.tolist(), [rule])
    assert got.level == rule.level
    np.testing.assert_allclose(got.advantages, expected, rtol=1e-9, atol=1e-9)


@given(SIZES, st.sampled_from(RULES), st.sampled_from(["penalty", "exclude"]))
def test_truncated_rollouts_against_the_oracle(oracle, size, rule, truncated):
    forest, rewards, groups, rng = draw(oracle, size)
    cut = rng.random(forest.n_leaves) < 0.3
    rule = replace(rule, truncated=truncated, penalty=-0.25, convention=Convention(eps=1e-4))
    got = credit(forest, rewards, rule, truncated=cut).advantages
    expected = oracle("tree/credit.py", "credit")(forest.parents, forest.leaves, rewards, groups.tolist(), [rule], cut)
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


@given(SIZES, st.sampled_from([r for r in RULES if r.scale == "none"]))
def test_weights_of_branches_against_the_oracle(oracle, size, rule):
    forest, rewards, groups, rng = draw(oracle, size)
    weights = rng.choice([0.0, 0.5, 1.0, 2.0], forest.n_nodes)
    got = credit(forest, rewards, rule, weights=weights).advantages
    expected = oracle("tree/credit.py", "credit")(
        forest.parents, forest.leaves, rewards, groups.tolist(), [rule], None, weights.tolist()
    )
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


@given(SIZES, st.sampled_from([r for r in RULES if r.scale == "none" or r.leaf == "reward"]))
def test_laws(oracle, size, rule):
    forest, rewards, _, _ = draw(oracle, size)
    rule = replace(rule, convention=Convention(eps=0.0))
    base = credit(forest, rewards, rule).advantages
    factor = 1.0 if rule.scale == "std" or rule.leaf == "zscore" else 3.0
    np.testing.assert_allclose(credit(forest, 3.0 * rewards, rule).advantages, factor * base, rtol=1e-9, atol=1e-9)
    if (rule.baseline != "none" or rule.leaf != "reward") and rule.root == "estimate":
        np.testing.assert_allclose(credit(forest, rewards + 5.0, rule).advantages, base, rtol=1e-9, atol=1e-9)


def methods():
    """What each preset is the setting of."""
    tree, group = rm.tree, rm.group
    return {
        "grpo": lambda f, r: group.grpo(r, f.rollout_groups),
        "rloo": lambda f, r: group.rloo(r, f.rollout_groups),
        "spo": tree.spo,
        "spo_normalized": lambda f, r: tree.spo(f, r, edge="normalized"),
        "spo_leave_one_out": lambda f, r: tree.spo(f, r, leave_one_out=True),
        "tree_rpo": tree.tree_rpo,
        "tree_rl": tree.tree_rl,
        "tree_grpo": tree.tree_grpo,
        "treepo": tree.treepo,
        "arpo_hard": tree.arpo_hard,
        "outside_subtree": lambda f, r: tree.outside_subtree(f, r, climb="none").advantages,
    }


def test_every_preset_is_compared():
    assert set(methods()) == set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
@given(size=SIZES)
def test_presets_are_the_methods(oracle, name, size):
    forest, rewards, _, _ = draw(oracle, size)
    if name in {"tree_rl", "treepo"}:  # the roots of a prompt are one there
        forest = Forest.from_parents(forest.parents)
    np.testing.assert_allclose(
        credit(forest, rewards, name).advantages, methods()[name](forest, rewards), rtol=1e-9, atol=1e-9
    )


def test_kinds():
    forest = Forest.from_parents([-1, 0, 0])
    assert credit(forest, np.array([1, 0], np.float32), "spo").advantages.dtype == np.float32
    torch = pytest.importorskip("torch")
    got = credit(forest, torch.tensor([1.0, 0.0]), "spo").advantages
    assert got.dtype == torch.float32
    assert got.tolist() == [0.0, 0.5, -0.5]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"value": "max"}, r"'value' must be one of 'mean_of_children', 'leaf_mean', got 'max'"),
        ({"baseline": "none", "own": "excluded"}, r"own='excluded' needs a baseline"),
        ({"baseline": "ancestors", "own": "excluded"}, r"own='excluded' does not go with baseline='ancestors'"),
        (
            {"baseline": "tree", "own": "excluded", "value": "mean_of_children"},
            r"own='excluded' with baseline='tree' is over rollouts, so value must be 'leaf_mean'",
        ),
        ({"baseline": "prompt", "scale": "std"}, r"scale='std' at level='node' does not go with baseline='prompt'"),
        ({"baseline": "tree", "root": "zero"}, r"root='zero' goes with baseline='parent'"),
    ],
)
def test_choices_that_are_wrong(options, text):
    with pytest.raises(ValueError, match=r"Credit\(\): " + text):
        Credit(**options)


def test_errors():
    forest = Forest.from_parents([-1, 0, 0])
    with pytest.raises(TypeError, match=r"Credit\(\): 'convention' must be a Convention, got str"):
        Credit(convention="VERL")
    with pytest.raises(ValueError, match=r"credit\(\): 'rule' must be a Credit or one of 'grpo', .*, got 'ppo'"):
        credit(forest, [1.0, 0.0], "ppo")
    with pytest.raises(TypeError, match=r"credit\(\): 'rule' must be a Credit, several, or the name of a preset"):
        credit(forest, [1.0, 0.0], 3)
    with pytest.raises(ValueError, match=r"credit\(\): 'rule' must have terms of one level"):
        credit(forest, [1.0, 0.0], [Credit(), Credit(level="rollout")])
    with pytest.raises(ValueError, match=r"credit\(\): 'truncated' is needed"):
        credit(forest, [1.0, 0.0], Credit(truncated="penalty"))
    with pytest.raises(ValueError, match=r"credit\(\): 'rewards' must be finite, got inf at index 1"):
        credit(forest, [1.0, np.inf], "spo")
    with pytest.raises(ValueError, match=r"credit\(\): 'weights' must be finite and not negative, got -1 at node 1"):
        credit(forest, [1.0, 0.0], "spo", weights=[1.0, -1.0, 1.0])
    with pytest.raises(ValueError, match=r"credit\(\): 'weights' do not go with scale='std'"):
        credit(forest, [1.0, 0.0], "spo_normalized", weights=[1.0, 1.0, 1.0])

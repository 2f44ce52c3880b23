"""Forest.from_sequences(sampled_jointly=): what only looks like a branch must not become one."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Forest, Ragged

ROWS = st.lists(
    st.tuples(st.lists(st.integers(0, 1), max_size=8), st.integers(0, 2), st.sampled_from(["x", "y"])), max_size=20
)


def build(lists, groups, **keywords):
    rows = Ragged.from_lists(lists, dtype=np.int32)
    return Forest.from_sequences(rows.values, rows.offsets, groups=groups, **keywords)


@given(ROWS, st.booleans())
def test_ids_are_smaller_groups_that_keep_their_name(data, with_prompts):
    lists, groups, ids = map(list, zip(*data, strict=True)) if data else ([], [], [])
    prompts = [[g, g] if with_prompts else [] for g in groups]
    lists = [p + t for p, t in zip(prompts, lists, strict=True)]
    keywords = {"prompt_lengths": [len(p) for p in prompts]}
    forest = build(lists, groups, sampled_jointly=ids, **keywords)
    smaller = build(lists, rm.Groups.product(groups, ids), **keywords)
    assert forest.parents.tolist() == smaller.parents.tolist()
    assert forest.token_index.tolist() == smaller.token_index.tolist()
    trees = list(dict.fromkeys(zip(groups, ids, strict=True)))
    assert [forest.groups.ids[g] for g in forest.groups.index] == [g for g, _ in trees]
    assert forest.rollout_groups == rm.Groups(groups)
    same = build(lists, groups, sampled_jointly=True, **keywords)
    assert same.parents.tolist() == build(lists, groups, **keywords).parents.tolist()


@given(ROWS, st.integers(0, 2**32))
def test_nothing_merges_if_nothing_was_sampled_jointly(data, seed):
    lists, groups, _ = map(list, zip(*data, strict=True)) if data else ([], [], [])
    forest = build(lists, groups, sampled_jointly=False)
    assert forest.n_trees == forest.n_leaves == len(lists)
    assert forest.parents.tolist() == [p for v in range(len(lists)) for p in (-1, 2 * v)]
    assert forest.rollout_groups == rm.Groups(groups)
    node = forest.expand(np.arange(forest.n_nodes), per="rollout")
    assert node.lengths.tolist() == [len(t) for t in lists]
    assert forest.token_index.tolist() == list(range(sum(map(len, lists))))
    # What keeps a forest keeps the groups of its trees.
    again = pickle.loads(pickle.dumps(forest))
    assert again.rollout_groups == forest.rollout_groups
    keep = np.random.default_rng(seed).random(len(lists)) < 0.5
    pruned, report = forest.prune(keep)
    assert pruned.rollout_groups == rm.Groups([g for g, k in zip(groups, keep, strict=True) if k])
    assert len(report.dropped_trees) == (~keep).sum()
    assert pruned.expand(np.zeros(pruned.n_nodes), per="rollout").lengths.tolist() == node.lengths[keep].tolist()


def test_why_it_matters():
    # Four independent rollouts, of which three begin with 5 by chance. As one tree, the mean over the children of the
    # root counts these three as one branch; as independent rollouts each counts the same.
    tokens, offsets, rewards = [5, 1, 5, 2, 5, 3, 6, 4], [0, 2, 4, 6, 8], [0.0, 0.0, 0.0, 1.0]
    merged = Forest.from_sequences(tokens, offsets, groups=["q"] * 4)
    assert rm.ops.up(merged, rewards, how="mean_of_children")[0] == 0.5
    apart = Forest.from_sequences(tokens, offsets, groups=["q"] * 4, sampled_jointly=False)
    assert rm.ops.segment_mean(rewards, apart.rollout_groups).tolist() == [0.25]


def test_prompts_stay_prompts():
    forest = Forest.from_sequences(
        [1, 2, 3, 1, 2, 3], [0, 3, 6], groups=["q", "q"], prompt_lengths=[2, 2], sampled_jointly=np.False_
    )
    assert forest.lengths.tolist() == [2, 1, 2, 1]
    assert forest.token_index.tolist() == [2, 5]


@pytest.mark.parametrize(
    ("value", "error", "match"),
    [
        ([0], ValueError, r"'sampled_jointly' must have length 2 \(= the number of sequences\), got 1"),
        ("no", TypeError, r"'sampled_jointly' must be True, False or one id a sequence, got 'no'"),
        (1, TypeError, r"'sampled_jointly' must be True, False or one id a sequence, got 1"),
        (None, TypeError, r"'sampled_jointly' must be True, False or one id a sequence, got None"),
        ([0.5, 0.5], TypeError, r"'sampled_jointly' must be strings, ints, UUIDs or tuples, got float"),
        ([True, False], TypeError, r"'sampled_jointly' must not be bools; convert them to ints or strings"),
    ],
)
def test_wrong_calls(value, error, match):
    with pytest.raises(error, match=rf"^Forest.from_sequences\(\): {match}"):
        Forest.from_sequences([1, 2], [0, 1, 2], groups=[0, 0], sampled_jointly=value)

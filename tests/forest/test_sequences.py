"""Forest.from_sequences: what merges, where spans point, whose leaf is whose."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Forest, Ragged

ROWS = st.lists(st.tuples(st.lists(st.integers(0, 2), max_size=30), st.integers(0, 3), st.integers(0, 1)), max_size=40)


def build(lists, groups, **keywords):
    rows = Ragged.from_lists(lists, dtype=np.int32)
    return Forest.from_sequences(rows.values, rows.offsets, groups=groups, **keywords), rows


def spelled(forest, rows):
    """The tokens of each rollout, read through the spans of its nodes."""
    node = forest.expand(np.arange(forest.n_nodes), per="rollout", include_root=True)
    column = np.concatenate([np.arange(n) for n in node.lengths]) if len(node) else np.array([], int)
    spans = forest.spans
    assert (spans.starts[node.values] <= column).all()
    assert (column < (spans.starts + spans.lengths)[node.values]).all()
    return node.with_values(rows.values[rows.offsets[spans.rows[node.values]] + column])


@given(ROWS)
def test_every_rollout_reads_back_and_shared_tokens_appear_once(oracle, data):
    lists, groups, extra = map(list, zip(*data, strict=True)) if data else ([], [], [])
    payload = [[(e + t) % 2 for t in tokens] for tokens, e in zip(lists, extra, strict=True)]
    for keywords, keys in [({}, None), ({"payload": Ragged.from_lists(payload).values}, payload)]:
        forest, rows = build(lists, groups, **keywords)
        assert spelled(forest, rows).to_lists() == lists
        assert forest.rollout_groups == rm.Groups(groups)
        assert forest.n_trees == len(set(groups))
        assert len(set(forest.leaves.tolist())) == len(lists)
        once = oracle("forest.py", "distinct_prefixes")(lists, groups, keys)
        assert forest.token_index.tolist() == [int(rows.offsets[r]) + c for r, c in once]
        assert forest.order.tolist() == list(range(forest.n_nodes))
        weight = forest.token_weight(per="rollout").values
        assert weight.sum() == pytest.approx(len(once))
        again = pickle.loads(pickle.dumps(forest))
        assert again.token_index.tolist() == forest.token_index.tolist()
        assert again.leaves.tolist() == forest.leaves.tolist()


@given(ROWS)
def test_prompts_become_roots(data):
    lists, groups, _ = map(list, zip(*data, strict=True)) if data else ([], [], [])
    prompts = [[g] * (g + 1) for g in groups]
    forest, rows = build(
        [p + t for p, t in zip(prompts, lists, strict=True)], groups, prompt_lengths=[len(p) for p in prompts]
    )
    assert spelled(forest, rows).to_lists() == [p + t for p, t in zip(prompts, lists, strict=True)]
    assert forest.expand(np.zeros(forest.n_nodes), per="rollout").lengths.tolist() == [len(t) for t in lists]
    assert forest.lengths[forest.roots].tolist() == [g + 1 for g in forest.groups.ids]
    without, _ = build(lists, groups)
    assert without.parents.tolist() == forest.parents.tolist()


def test_the_vector(vectors):
    trie = vectors("structured")["trie"]
    forest, _ = build(trie["seqs"], [0] * 4)
    assert len(forest.token_index) == trie["tree_tokens"]
    assert len(forest.expand(np.zeros(forest.n_nodes), per="rollout").values) == trie["flat_tokens"]


def test_prefixes_and_duplicates_own_leaves():
    forest, _ = build([[1], [1, 2], [1, 2], [1], []], [0] * 5)
    assert forest.parents.tolist() == [-1, 0, 1, 1, 3, 3, 1, 0]
    assert forest.leaves.tolist() == [2, 4, 5, 6, 7]
    assert forest.lengths.tolist() == [0, 1, 0, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int32, np.int64, ">i4"])
def test_kinds_of_tokens(dtype):
    torch = pytest.importorskip("torch")
    lists = [[1, 2, 3], [1, 2, 4]]
    flat = np.concatenate(lists).astype(dtype)
    offsets = np.array([0, 3, 6], np.int32)
    expected = build(lists, ["g", "g"])[0].spans
    kinds = [flat, np.repeat(flat, 2)[::2]] + ([torch.from_numpy(flat)] if dtype in {np.int32, np.int64} else [])
    for tokens in kinds:
        for ends in (offsets, torch.from_numpy(offsets), offsets.tolist()):
            got = Forest.from_sequences(tokens, ends, groups=torch.tensor([5, 5])).spans
            assert all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True))


def test_tokens_of_int64_do_not_wrap():
    forest = Forest.from_sequences(np.array([2**32, 0]), [0, 1, 2], groups=[0, 0])
    assert forest.n_nodes == 3


def test_threads_do_not_matter():
    rng = np.random.default_rng(0)
    lists = [[g, *rng.integers(0, 2, 600)] for g in range(8) for _ in range(40)]
    groups = rng.permutation(np.repeat(np.arange(8), 40))
    before, made = rm.num_threads(), []
    try:
        for threads in (1, 2, 4):
            rm.set_num_threads(threads)
            forest, _ = build(lists, groups)
            weight = forest.token_weight(per="rollout")
            made.append((forest.parents.tobytes(), forest.token_index.tobytes(), weight.values.tobytes()))
    finally:
        rm.set_num_threads(before)
    assert made[0] == made[1] == made[2]


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "match"),
    [
        (([1, 2], [0, 1]), {"groups": [0]}, ValueError, r"'tokens' must have length 1 \(= offsets\[-1\]\), got 2"),
        (([1, 2], [1, 2]), {"groups": [0]}, ValueError, r"'offsets' must start at 0, got 1"),
        (([1, 2], [0, 3, 2]), {"groups": [0, 0]}, ValueError, r"'offsets' must not decrease, got 2 after 3 at index 2"),
        (
            ([1, 2], [0, 2]),
            {"groups": [0, 1]},
            ValueError,
            r"'groups' must have length 1 \(= len\(offsets\) - 1\), got 2",
        ),
        (([1.0], [0, 1]), {"groups": [0]}, TypeError, r"from_sequences\(\): 'tokens' must hold integers, got float64"),
        (([[1]], [0, 1]), {"groups": [0]}, TypeError, r"'tokens' must be 1-D"),
        (
            ([1], [0, 1]),
            {"groups": [0], "payload": [1, 2]},
            ValueError,
            r"'payload' must have length 1 \(= len\(tokens\)\)",
        ),
        (([1], [0, 1]), {"groups": [0], "payload": [0.5]}, TypeError, r"'payload' must hold integers"),
        (([1], [0, 1]), {"groups": [0], "prompt_lengths": [1, 1]}, ValueError, r"'prompt_lengths' must have length 1"),
        (([1], [0, 1]), {"groups": [0], "prompt_lengths": [2]}, ValueError, r"the length 1 of its sequence, got 2 for"),
        (
            ([1, 2, 1, 3], [0, 2, 4]),
            {"groups": [0, 0], "prompt_lengths": [2, 2]},
            ValueError,
            r"must mark the same prompt within a group, got 0 and 1, which differ at token 1",
        ),
    ],
)
def test_wrong_calls(arguments, keywords, error, match):
    with pytest.raises(error, match=match):
        Forest.from_sequences(*arguments, **keywords)

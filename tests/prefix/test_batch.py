"""PrefixBatch: the hand vector, a trie of dictionaries as the oracle, selections, and error messages."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Forest, Ragged
from rollmath.prefix import PrefixBatch, pack

SEEDS = st.integers(0, 2**32)
TOKENS = np.array([9, 1, 2, 3, 4, 9, 1, 2, 5, 9, 7])


@pytest.fixture
def batch():
    """Prompt 9 with the answers 1 2 3 4, 1 2 5 and 7."""
    return pack(Forest.from_sequences(TOKENS, [0, 5, 9, 11], groups=["a"] * 3, prompt_lengths=[1, 1, 1]))


def test_the_vector(vectors):
    given = vectors("structured")["trie"]
    lists = given["seqs"]
    flat = np.array([t for x in lists for t in x])
    batch = pack(Forest.from_sequences(flat, np.cumsum([0, *map(len, lists)]), groups=[0] * len(lists)))
    assert (batch.n_tokens, batch.saved.flat, batch.saved.packed) == (7, 12, 7)
    assert batch.saved.share == pytest.approx(0.416667, abs=1e-6)
    assert batch.take_column(flat).tolist() == [1, 2, 3, 4, 6, 5, 7]
    weights = batch.expand(1.0 / batch.forest.leaf_counts * len(lists)) / len(lists)
    assert (1 / weights / 4).tolist() == [0.75, 0.75, 0.5, 0.25, 0.25, 0.25, 0.25]


def test_a_batch_by_hand(batch):
    assert batch.index.tolist() == [0, 1, 2, 3, 4, 8, 10]
    assert batch.positions.tolist() == [0, 1, 2, 3, 4, 3, 1]
    assert batch.end.tolist() == [7, 6, 6, 5, 5, 6, 7]
    assert batch.previous.tolist() == [-1, 0, 1, 2, 3, 2, 0]
    assert batch.targets.tolist() == [1, 2, 3, 4, 5, 6]
    assert batch.sources.tolist() == [0, 1, 2, 3, 2, 0]
    assert batch.rollouts.tolist() == [0, 1, 2]
    assert batch.gather(TOKENS[batch.index]).to_lists() == [[1, 2, 3, 4], [1, 2, 5], [7]]
    assert batch.gather(TOKENS[batch.index], include_root=True).to_lists() == [[9, 1, 2, 3, 4], [9, 1, 2, 5], [9, 7]]
    assert batch.labels(TOKENS).tolist() == [1, 2, 3, 4, 5, 7]
    assert batch.shift(np.eye(7)).argmax(1).tolist() == [0, 1, 2, 3, 2, 0]
    assert [x.dtype.name for x in (batch.index, batch.positions, batch.end, batch.previous)] == ["int64"] + [
        "int32"
    ] * 3


@given(SEEDS, st.booleans(), st.booleans())
def test_against_a_trie_of_dictionaries(oracle, make_case, seed, prompts, payload):
    case = make_case(seed, prompts=prompts, payload=payload)
    packed = oracle("prefix/batch.py", "trie")(case.lists, case.groups, case.payload)
    expected = oracle("prefix/batch.py", "columns")(packed, len(case.lists))
    batch = case.batch
    for name in ("index", "positions", "previous"):
        assert getattr(batch, name).tolist() == expected[name]
    q = np.arange(batch.n_tokens)
    attends = (q <= q[:, None]) & (q[:, None] < batch.end)
    assert attends.tolist() == expected["attends"]
    assert batch.rollouts.tolist() == list(range(len(case.lists)))
    assert batch.gather(q, include_root=True).to_lists() == expected["rows"]
    assert batch.gather(q).to_lists() == [x[n:] for x, n in zip(expected["rows"], case.prompts, strict=True)]
    assert batch.lengths.tolist() == case.lengths.tolist()
    assert (batch.saved.flat, batch.saved.packed) == (len(case.flat), len(packed))
    owners = [sorted(token.rollouts) for token in packed]
    assert batch.expand(batch.forest.leaf_counts).tolist() == [len(x) for x in owners]


@given(SEEDS, st.integers(1, 40))
def test_a_forest_from_parents(oracle, seed, n):
    """Nodes in any order of ids, of any number of tokens; every node is a row of its own."""
    parents = oracle("forest.py", "random_parents")(seed, n)
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 3, n)
    offsets = np.cumsum([0, *lengths])
    spans = (np.arange(n), np.zeros(n, np.int64), lengths)
    forest = Forest.from_parents(parents, spans=spans, offsets=offsets)
    batch = pack(forest)
    order = oracle("forest.py", "preorder")(parents)
    assert batch.index.tolist() == [i for v in order for i in range(offsets[v], offsets[v + 1])]
    path = oracle("forest.py", "path")
    got = batch.gather(batch.index, include_root=True).to_lists()
    want = [[i for v in path(parents, leaf) for i in range(offsets[v], offsets[v + 1])] for leaf in forest.leaves]
    assert got == want
    assert batch.positions.tolist() == [
        sum(lengths[u] for u in path(parents, v)[:-1]) + i for v in order for i in range(lengths[v])
    ]
    x = rng.normal(size=n)
    assert batch.gather(batch.expand(x)).to_lists() == forest.expand(x, per="rollout").to_lists()


@given(SEEDS)
def test_trees_may_be_taken_in_any_order(make_case, seed):
    case = make_case(seed)
    batch = case.batch
    turn = np.random.default_rng(seed).permutation(batch.n_trees)[: max(1, batch.n_trees - 1)]
    part = batch.take(turn)
    assert part.trees.tolist() == batch.trees[turn].tolist()
    flat = case.flat
    got = dict(zip(part.rollouts.tolist(), part.gather(part.take_column(flat)).to_lists(), strict=True))
    assert list(got) == sorted(got)
    assert all(case.lists[r][case.prompts[r] :] == tokens for r, tokens in got.items())
    assert part.n_tokens == batch.saved.packed_per_tree[turn].sum()
    chosen = np.zeros(batch.n_trees, bool)
    chosen[turn] = True
    assert sorted(batch.take(chosen).index.tolist()) == sorted(part.index.tolist())
    # Within a tree nothing depends on which other trees there are.
    alone = part.take([0])
    n = alone.n_tokens
    assert (part.end[:n] == alone.end).all()
    assert (part.previous[:n] == alone.previous).all()


@given(SEEDS, st.integers(1, 30))
def test_split(make_case, seed, budget):
    batch = make_case(seed).batch
    parts, oversized = batch.split(budget)
    assert np.concatenate([p.trees for p in parts] or [[]]).tolist() == batch.trees.tolist()
    for number, part in enumerate(parts):
        assert (part.n_tokens > budget) == (number in oversized)
        assert part.n_trees == 1 or part.n_tokens <= budget
        if number + 1 < len(parts):  # no tree would have fitted
            assert part.n_tokens + parts[number + 1].saved.packed_per_tree[0] > budget


@given(SEEDS, st.integers(1, 30))
def test_split_keeps_groups_whole(seed, budget):
    """Sequences one by one are trees of their own, and those of a group are anywhere."""
    rng = np.random.default_rng(seed)
    groups, lengths = rng.integers(0, 4, 12), rng.integers(0, 6, 12)
    forest = Forest.from_sequences(
        np.arange(lengths.sum()), np.append(0, np.cumsum(lengths)), groups=groups, sampled_jointly=False
    )
    batch = pack(forest).take(rng.permutation(12)[:10])
    parts, oversized = batch.split(budget, unit="group")
    found = [groups[part.trees].tolist() for part in parts]
    assert all(sorted(x, key=list(dict.fromkeys(x)).index) == x for x in found)
    seen = [g for x in found for g in dict.fromkeys(x)]
    assert seen == list(dict.fromkeys(groups[batch.trees].tolist()))
    assert sorted(t for part in parts for t in part.trees) == sorted(batch.trees)
    for number, part in enumerate(parts):
        assert (part.n_tokens > budget) == (number in oversized)
        assert part.n_tokens <= budget or len(set(found[number])) == 1
        again = pickle.loads(pickle.dumps(part))
        assert part.saved.flat == again.saved.flat
        assert part.saved.packed_per_tree.tolist() == again.saved.packed_per_tree.tolist()


def test_split_is_not_quadratic():
    n = 400_000
    spans = (np.zeros(n, int), np.arange(n), np.ones(n, int))
    parts, oversized = pack(Forest.from_parents(np.full(n, -1), spans=spans, offsets=[0, n])).split(1000)
    assert (len(parts), len(oversized)) == (400, 0)
    assert all(part.n_tokens == 1000 for part in parts)


def test_turns_that_begin_a_tree():
    """The tokens and rows of ``Forest.from_messages`` are those of its report; a rollout may be in two trees."""
    ask = {"prompt": [1, 2], "response": [3]}
    first, second = {"prompt": [1, 2, 3, 9], "response": [4]}, {"prompt": [1, 2, 9], "response": [5]}
    forest = Forest.from_messages([[ask, first], [ask, second]], groups=["q", "q"])
    batch, tokens, rows = pack(forest), forest.report.tokens.values, forest.report.rows
    assert batch.take_column(tokens).tolist() == [1, 2, 3, 9, 4, 1, 2, 9, 5]
    assert batch.gather(batch.take_column(tokens)).to_lists() == rows.tokens.to_lists()
    assert [part.rollouts.tolist() for part in batch.split(1).parts] == [[0, 1], [2]]
    (whole,), _ = batch.split(1, unit="group")
    assert rows.take(whole.rollouts).rollouts.index.tolist() == [0, 1, 1]


@given(SEEDS)
def test_a_pruned_forest(make_case, seed):
    """Fewer rollouts, the same flat tokens."""
    case = make_case(seed)
    keep = case.rng.random(len(case.lists)) < 0.5
    forest, report = case.forest.prune(keep)
    got = pack(forest)
    rows = got.gather(got.take_column(case.flat), include_root=True).to_lists()
    assert rows == [case.lists[i] for i in report.kept_rollouts]


@given(SEEDS)
def test_merge_is_the_way_back(make_case, seed):
    case = make_case(seed)
    batch = case.batch
    x = np.random.default_rng(seed).normal(size=batch.n_targets)
    assert batch.merge(batch.gather(x)).tolist() == x.tolist()
    assert batch.merge(batch.gather(x).values, how="same", tolerance=0.1).tolist() == x.tolist()
    copies = batch.merge(batch.gather(np.ones(batch.n_targets)), how="sum")
    counts = batch.expand(batch.forest.leaf_counts)[batch.targets]
    assert copies.tolist() == counts.tolist()
    # <gather(x), y> = <x, merge(y)>: the sum is the adjoint.
    y = np.random.default_rng(seed + 1).normal(size=int(batch.offsets[-1]))
    left = np.nansum(batch.gather(x).values * y)
    assert left == pytest.approx(x @ batch.merge(y, how="sum"), abs=1e-12)


def test_copies_that_differ_are_named(batch):
    x = batch.gather(np.arange(6.0)).values
    x[5] += 0.25  # rollout 1, its second token
    text = (
        r"PrefixBatch.merge\(\): 'x' must be the same for all copies of a token, but 1 of 6 differ, by 0.25 at most; "
        r"first position 1 of rollout 1: 1.25 and 1.0; give a tolerance, or a loss over rollouts with PrefixBatch.gath"
    )
    with pytest.raises(ValueError, match=text):
        batch.merge(x)
    assert batch.merge(x, tolerance=0.25).tolist() == [0, 1, 2, 3, 4, 5]
    x[5] = np.nan
    with pytest.raises(ValueError, match="by nan at most"):
        batch.merge(x, tolerance=1.0)
    x[1] = np.nan
    assert np.isnan(batch.merge(x)).tolist() == [False, True, False, False, False, False]
    assert batch.merge(np.arange(8) * 0, how="sum").dtype == np.float64
    assert batch.merge(x.astype(np.float32)).dtype == np.float32


def test_a_first_token_without_a_prompt():
    batch = pack(Forest.from_sequences([1, 2, 1, 3], [0, 2, 4], groups=[0, 0]))
    assert (batch.targets.tolist(), batch.sources.tolist()) == ([1, 2], [0, 0])
    got = batch.gather(np.array([0.5, 0.25]))
    np.testing.assert_array_equal(got.values, [np.nan, 0.5, np.nan, 0.25])
    assert batch.gather(np.array([0.5, 0.25]), fill=0).values.tolist() == [0, 0.5, 0, 0.25]
    got = batch.gather(np.array([0.5, 0.25], np.float32), fill=np.float32("nan")).values
    assert np.isnan(got).tolist() == [True, False, True, False]
    with pytest.raises(TypeError, match=r"PrefixBatch.gather\(\): 'fill' must be"):
        batch.gather(np.array([0.5, 0.25]), fill="0")
    assert batch.merge(got).tolist() == [0.5, 0.25]
    torch = pytest.importorskip("torch")
    x = torch.tensor([0.5, 0.25], requires_grad=True)
    batch.gather(x, fill=0.0).values.sum().backward()
    assert x.grad.tolist() == [1, 1]


def test_payloads_keep_tokens_apart():
    sequences = {"tokens": [1, 2, 1, 2], "offsets": [0, 2, 4], "groups": [0, 0]}
    assert pack(Forest.from_sequences(**sequences)).n_tokens == 2
    assert pack(Forest.from_sequences(**sequences, payload=[0, 0, 0, 1])).n_tokens == 3
    assert pack(Forest.from_sequences([1, 2, 1, 2], [0, 2, 4], groups=[0, 1])).n_tokens == 4


def test_rows_line_up(make_case):
    case = make_case(3)
    rows = case.rows()
    for part in case.batch.split(5).parts:
        assert rows.take(part.rollouts).offsets.tolist() == part.offsets.tolist()


def test_columns_of_any_kind(batch):
    torch = pytest.importorskip("torch")
    wide = torch.arange(22.0).view(11, 2).requires_grad_()
    got = batch.take_column(wide)
    assert got.shape == (7, 2)
    got.sum().backward()
    assert wide.grad[:, 0].tolist() == [1, 1, 1, 1, 1, 0, 0, 0, 1, 0, 1]
    assert batch.take_column(list(range(11))).tolist() == batch.index.tolist()
    assert batch.take_column(np.zeros((11, 3, 2))).shape == (7, 3, 2)
    assert batch.labels(torch.from_numpy(TOKENS)).dtype == torch.int64
    assert batch.expand(torch.arange(batch.forest.n_nodes)).dtype == torch.int64
    assert batch.gather(torch.arange(7, dtype=torch.bfloat16)).values.dtype == torch.bfloat16
    merged = batch.merge(batch.gather(torch.arange(6, dtype=torch.bfloat16)))
    assert (merged.dtype, merged.tolist()) == (torch.float32, list(range(6)))


def test_the_noun(batch):
    assert repr(batch) == "PrefixBatch(7 tokens of 11, 3 rollouts, 1 tree)"
    again = pickle.loads(pickle.dumps(batch))
    assert again.index.tolist() == batch.index.tolist()
    assert repr(again) == repr(batch)
    with pytest.raises(AttributeError, match="immutable"):
        batch.trees = None
    for x in (batch.index, batch.end, batch.previous, batch.positions, batch.targets, batch.rollouts, batch.trees):
        with pytest.raises(ValueError, match="read-only"):
            x[0] = 1
    with pytest.raises(TypeError, match=r"PrefixBatch\(\): make one with rollmath.prefix.pack"):
        PrefixBatch()
    part = pickle.loads(pickle.dumps(batch.take([])))
    assert (part.n_tokens, part.n_rollouts, part.n_targets) == (0, 0, 0)


def test_nothing_at_all():
    batch = pack(Forest.from_sequences([], [0], groups=[]))
    assert repr(batch) == "PrefixBatch(0 tokens of 0, 0 rollouts, 0 trees)"
    assert batch.saved.share == 0.0
    assert batch.split(1).parts == ()
    assert batch.gather(np.zeros(0)).to_lists() == []
    assert batch.take_column(np.zeros((0, 2))).shape == (0, 2)
    assert batch.merge(np.zeros(0)).shape == (0,)
    with pytest.raises(ValueError, match=r"block_mask\(\): the batch must have a token, got none"):
        batch.block_mask()
    empty = pack(Forest.from_sequences([], [0, 0, 0], groups=["a", "b"]))
    assert (empty.n_rollouts, empty.gather(np.zeros(0)).to_lists()) == (2, [[], []])


def test_it_needs_no_torch(script):
    out, _ = script(
        "import sys; sys.modules['torch'] = None\n"
        "import rollmath as rm\n"
        "b = rm.prefix.pack(rm.Forest.from_sequences([1, 2, 1, 3], [0, 2, 4], groups=[0, 0]))\n"
        "print(b.take_column([5, 6, 7, 8]).tolist(), b.gather(b.positions).to_lists(), b.saved.packed)\n"
        "try: rm.prefix.merged_loss\n"
        "except ModuleNotFoundError as error: print(error)\n"
    )
    assert out.splitlines() == [
        "[5, 6, 8] [[0, 1], [0, 1]] 3",
        "rollmath.prefix.merged_loss needs torch: install rollmath with its 'torch' extra",
    ]


def test_a_chain_is_not_quadratic():
    n = 200_000
    forest = Forest.from_parents(
        np.arange(-1, n - 1), spans=(np.zeros(n, int), np.arange(n), np.ones(n, int)), offsets=[0, n]
    )
    batch = pack(forest)
    assert (batch.end == n).all()
    assert batch.positions[-1] == n - 1
    assert batch.gather(batch.index, include_root=True)[0][-1] == n - 1


WRONG = [
    (lambda _: pack([1]), TypeError, r"pack\(\): 'forest' must be a rollmath.Forest, got an object of type list"),
    (lambda _: pack(Forest.from_parents([-1, 0])), ValueError, r"pack\(\): 'forest' does not know where"),
    (
        lambda _: pack(Forest.from_parents([-1, 0], lengths=[1, 1])),
        ValueError,
        r"'forest' does not know where its tokens are; build it with from_sequences or from_messages, or give from_pa",
    ),
    (
        lambda _: pack(Forest.from_paths([["a", "b"]], lengths=[[1, 2]])),
        ValueError,
        r"pack\(\): 'forest' does not know where its tokens are",
    ),
    (lambda b: b.take([1]), ValueError, r"PrefixBatch.take\(\): 'trees' must be in \[0, 1\) \(= n_trees\), got 1 to 1"),
    (lambda b: b.take([-1]), ValueError, r"'trees' must be in \[0, 1\)"),
    (lambda b: b.take([0, 0]), ValueError, r"'trees' must not repeat; every token of a batch is there once"),
    (lambda b: b.take([True, False]), ValueError, r"'trees' as bools must have shape \(1,\) \(= n_trees\), got \(2,\)"),
    (lambda b: b.take([0.0]), TypeError, r"PrefixBatch.take\(\): 'trees' must hold integers, got float64"),
    (lambda b: b.split(0), ValueError, r"PrefixBatch.split\(\): 'max_tokens' must be at least 1, got 0"),
    (lambda b: b.split(1, unit="rollout"), ValueError, r"'unit' must be one of 'tree', 'group', got 'rollout'"),
    (
        lambda b: b.labels([1, 2]),
        ValueError,
        r"PrefixBatch.labels\(\): 'flat' must have shape \(11, \.\.\.\) \(= flat tokens\), got \(2,\)",
    ),
    (lambda b: b.split(1.5), TypeError, r"PrefixBatch.split\(\): 'max_tokens' must be a whole number"),
    (
        lambda b: b.take_column([1, 2]),
        ValueError,
        r"PrefixBatch.take_column\(\): 'flat' must have shape \(11, \.\.\.\) \(= flat tokens\), got \(2,\)",
    ),
    (lambda b: b.take_column(3), ValueError, r"'flat' must have shape \(11, \.\.\.\) \(= flat tokens\), got \(\)"),
    (lambda b: b.take_column("x"), ValueError, r"'flat' must have shape"),
    (
        lambda b: b.shift(np.zeros(6)),
        ValueError,
        r"PrefixBatch.shift\(\): 'outputs' must have shape \(7, \.\.\.\) \(= n_tokens\), got \(6,\)",
    ),
    (lambda b: b.shift([1.0]), TypeError, r"PrefixBatch.shift\(\): 'outputs' must be an array \[n_tokens, \.\.\.\]"),
    (
        lambda b: b.expand(np.zeros(2)),
        ValueError,
        r"PrefixBatch.expand\(\): 'x' must have shape \(5,\) \(= forest.n_nodes\), got \(2,\)",
    ),
    (
        lambda b: b.gather(np.zeros(5)),
        ValueError,
        r"PrefixBatch.gather\(\): 'x' must have length 7 \(= n_tokens\) or 6 \(= n_targets\), got 5",
    ),
    (
        lambda b: b.gather(np.zeros(6), include_root=True),
        ValueError,
        r"PrefixBatch.gather\(\): 'x' must have length 7 \(= n_tokens\), got 6",
    ),
    (lambda b: b.gather(np.zeros((7, 1))), TypeError, r"PrefixBatch.gather\(\): 'x' must be 1-D, got a 2-D float64"),
    (
        lambda b: b.merge(np.zeros(9)),
        ValueError,
        r"PrefixBatch.merge\(\): 'x' must have length 8 \(= offsets\[-1\]\), got 9",
    ),
    (
        lambda b: b.merge(Ragged(np.zeros(8), [0, 8])),
        ValueError,
        r"PrefixBatch.merge\(\): 'x' must have the offsets of the batch; see PrefixBatch.offsets",
    ),
    (lambda b: b.merge(np.zeros(8), how="mean"), ValueError, r"'how' must be one of 'same', 'sum', got 'mean'"),
    (lambda b: b.merge(np.zeros(8), tolerance=-1), ValueError, r"'tolerance' must be finite and not negative, got -1"),
    (lambda b: b.block_mask(0), ValueError, r"PrefixBatch.block_mask\(\): 'block_size' must be at least 1, got 0"),
]


@pytest.mark.parametrize(("call", "error", "text"), WRONG, ids=range(len(WRONG)))
def test_wrong_calls(batch, call, error, text):
    with pytest.raises(error, match=text):
        call(batch)


def test_constants_that_require_grad(batch):
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match=r"PrefixBatch.merge\(\): 'x' requires grad"):
        batch.merge(torch.zeros(8, requires_grad=True))


def test_threads_change_no_bit(same_bits):
    rng = np.random.default_rng(0)
    flat = rng.integers(0, 2, 300_000)
    forest = Forest.from_sequences(flat, np.arange(0, 300_001, 1000), groups=np.arange(300) // 8)
    before, found = rm.num_threads(), []
    try:
        for n in (1, 3):
            rm.set_num_threads(n)
            batch = pack(forest)
            found.append([batch.index, batch.end, batch.previous, batch.positions, batch.gather(batch.index).values])
    finally:
        rm.set_num_threads(before)
    for a, b in zip(*found, strict=True):
        same_bits(a, b)

"""Forest.expand, token_weight and token_index: from nodes to tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Forest

SIZES = st.tuples(st.integers(0, 2**32), st.integers(1, 40))


@given(SIZES, st.booleans())
def test_per_rollout_walks_each_path(oracle, size, include_root):
    parents = oracle("forest.py", "random_parents")(*size)
    lengths = np.random.default_rng(size[0]).integers(0, 4, len(parents))
    forest = Forest.from_parents(parents, lengths=lengths)
    x = np.arange(len(parents)) * 10
    expected = oracle("forest.py", "expand_rollouts")(parents, forest.leaves, lengths, x.tolist(), include_root)
    got = forest.expand(x, per="rollout", include_root=include_root)
    assert got.to_lists() == expected
    by_rollout = forest.expand(x[forest.leaves], per="rollout", include_root=include_root)
    assert by_rollout.to_lists() == [[x[leaf]] * len(row) for leaf, row in zip(forest.leaves, expected, strict=True)]


@given(SIZES, st.booleans())
def test_per_node_counts_each_token_once(oracle, size, include_root):
    parents = oracle("forest.py", "random_parents")(*size)
    rng = np.random.default_rng(size[0])
    lengths = rng.integers(0, 4, len(parents))
    x = np.arange(len(parents))
    kept = [include_root or p >= 0 for p in parents]
    plain = Forest.from_parents(parents, lengths=lengths).expand(x, per="node", include_root=include_root)
    assert plain.to_lists() == [[v] * (lengths[v] if kept[v] else 0) for v in x]

    # The same nodes laid out in rows, one after another in random order, with a gap before each.
    order, rows, starts = rng.permutation(len(parents)), np.zeros_like(x), np.zeros_like(x)
    widths = [0, 0, 0]
    for v in order:
        rows[v] = row = int(rng.integers(0, 3))
        starts[v] = widths[row] + 1
        widths[row] += 1 + lengths[v]
    offsets = np.concatenate([[0], np.cumsum(widths)])
    forest = Forest.from_parents(parents, spans=(rows, starts, lengths), offsets=offsets)
    got = forest.expand(x, per="node", include_root=include_root)
    in_place = [v for _, _, v in sorted((rows[v], starts[v], v) for v in x) if kept[v]]
    assert got.values.tolist() == [v for v in in_place for _ in range(lengths[v])]
    assert len(got) == 3
    if not include_root:
        flat = [offsets[rows[v]] + starts[v] + k for v in in_place for k in range(lengths[v])]
        assert forest.token_index.tolist() == flat == sorted(flat)


def test_types_come_back():
    torch = pytest.importorskip("torch")
    forest = Forest.from_parents([-1, 0, 1, 1], lengths=[0, 2, 1, 1])
    for dtype in [np.float64, np.float32, np.int32, np.uint8, bool]:
        assert forest.expand(np.ones(4, dtype), per="node").values.dtype == dtype
    assert forest.expand([1, 2, 3, 4], per="node").values.dtype == np.int64
    assert forest.expand(np.ones(4, np.float16), per="node").values.dtype == np.float32
    assert Forest.from_parents([], lengths=[]).expand(np.ones(0, np.float16), per="node").values.dtype == np.float32
    kinds = [(torch.float64, torch.float64), (torch.bfloat16, torch.float32), (torch.float16, torch.float32)]
    for dtype, out in [*kinds, (torch.int32, torch.int32), (torch.bool, torch.bool)]:
        values = forest.expand(torch.ones(4, dtype=dtype), per="rollout").values
        assert isinstance(values, torch.Tensor)
        assert values.dtype == out
    with pytest.raises(ValueError, match=r"'x' requires grad"):
        forest.expand(torch.ones(4, requires_grad=True), per="node")


def test_not_contiguous_and_read_only():
    forest = Forest.from_parents([-1, 0, 1, 1], lengths=[0, 2, 1, 1])
    x = np.arange(12.0).reshape(4, 3)
    expected = forest.expand(x[:, 1].copy(), per="node").values
    unaligned = np.frombuffer(b"-" + x[:, 1].tobytes(), dtype=np.float64, offset=1)
    for y in (unaligned, unaligned.view(np.int64), x[:, 1].astype(">i8")):
        assert np.array_equal(forest.expand(y, per="node").values, np.repeat(y, [0, 2, 1, 1]))
    assert np.array_equal(forest.expand(x[:, 1], per="node").values, expected)
    assert np.array_equal(forest.expand(np.asfortranarray(x)[:, 1], per="node").values, expected)
    x.setflags(write=False)
    assert np.array_equal(forest.expand(x[:, 1], per="node").values, expected)


def test_token_weights_of_the_vector(vectors):
    f1 = vectors("structured")["F1"]
    forest = Forest.from_parents(f1["parent"], lengths=f1["ntok"])
    counts = np.repeat(f1["n_leaves"], f1["ntok"])
    assert np.array_equal(forest.token_weight().values, 1 / counts)
    assert forest.token_weight(per="rollout").values.sum() == pytest.approx(sum(f1["ntok"]))


def test_a_comb_of_empty_nodes_is_linear():
    # 100,000 nodes without tokens above each of 2,000 leaves: walking them all would take minutes.
    depth, width = 100_000, 2_000
    parents = np.concatenate([np.arange(-1, depth - 1), np.full(width, depth - 1)])
    forest = Forest.from_parents(parents, lengths=np.repeat([0, 1], [depth, width]))
    assert forest.expand(np.arange(len(parents)), per="rollout").values.tolist() == list(range(depth, depth + width))


def test_threads_do_not_matter():
    rng = np.random.default_rng(3)
    parents = np.concatenate([[-1], np.zeros(300, int), rng.integers(1, 301, 3000)])
    forest = Forest.from_parents(parents, lengths=rng.integers(0, 90, len(parents)))
    x, before, made = rng.random(len(parents)), rm.num_threads(), []
    try:
        for threads in (1, 2, 4):
            rm.set_num_threads(threads)
            made.append([forest.expand(x, per=per).values.tobytes() for per in ("rollout", "node")])
    finally:
        rm.set_num_threads(before)
    assert made[0] == made[1] == made[2]


@pytest.mark.parametrize("per", ["rollout", "node"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.uint8, bool, np.int16])
def test_out_is_written_and_returned(per, dtype):
    torch = pytest.importorskip("torch")
    forest = Forest.from_parents([-1, 0, 0, 1, 1], lengths=[1, 2, 0, 3, 1])
    x = np.array([3, 0, 2, 1, 7]).astype(dtype)
    expected = forest.expand(x, per=per)
    out = np.ones_like(expected.values)
    got = forest.expand(x, per=per, out=out)
    assert got.values is out
    assert got.to_lists() == expected.to_lists()
    ragged = rm.Ragged.from_lengths(np.ones_like(expected.values), np.diff(expected.offsets))
    assert forest.expand(x, per=per, out=ragged).values is ragged.values
    assert ragged.to_lists() == expected.to_lists()
    tensor = torch.ones(len(out), dtype=torch.from_numpy(out).dtype)
    got = forest.expand(torch.from_numpy(x), per=per, out=tensor)
    assert got.values is tensor
    assert tensor.tolist() == expected.values.tolist()
    # The prompt token goes into its own result, and the other one is as before.
    assert forest.expand(x, per=per, include_root=True).values.sum() > expected.values.sum()
    assert forest.expand(x, per=per).to_lists() == expected.to_lists()
    empty = Forest.from_parents([], lengths=[]).expand(x[:0], per=per, out=np.zeros(0, dtype))
    assert empty.values.dtype == dtype


def test_an_out_that_does_not_fit():
    torch = pytest.importorskip("torch")
    forest, x = Forest.from_parents([-1, 0, 0], lengths=[0, 1, 1]), np.arange(3.0)
    other = rm.Ragged.from_lengths(np.zeros(2), [2])
    read_only = np.zeros(2)
    read_only.setflags(write=False)
    whole = np.zeros(3)
    for out, error, message in [
        (np.zeros(3), ValueError, r"'out' must have shape \(2,\), got \(3,\)"),
        (np.zeros((1, 2)), ValueError, r"'out' must have shape \(2,\), got \(1, 2\)"),
        (
            np.zeros(2, "f4"),
            TypeError,
            r"'out' must be of the kind and dtype of the values \(float64\), got a 1-D float32",
        ),
        (torch.zeros(2).double(), TypeError, r"'out' must be of the kind and dtype of the values"),
        ([0.0, 0.0], TypeError, r"'out' must be of the kind and dtype of the values .*, got an object of type list"),
        (read_only, ValueError, r"'out' is read-only; pass an array that may be written to"),
        (np.zeros(4)[::2], ValueError, r"'out' must be C-contiguous and aligned"),
        (other, ValueError, r"'out' must have the rows of the result, 2 with 2 tokens in all, got Ragged"),
    ]:
        with pytest.raises(error, match=rf"Forest.expand\(\): {message}"):
            forest.expand(x, per="rollout", out=out)
    with pytest.raises(ValueError, match=r"Forest.expand\(\): 'out' shares memory with 'x'"):
        forest.expand(whole, per="rollout", out=whole[1:])
    with pytest.raises(ValueError, match=r"Forest.expand\(\): 'out' requires grad"):
        forest.expand(torch.zeros(3), per="rollout", out=torch.zeros(2, requires_grad=True))


@pytest.mark.gpu
def test_values_on_a_device():
    import torch

    forest = Forest.from_parents([-1, 0, 0], lengths=[0, 1, 1])
    got = forest.expand(torch.arange(3.0).cuda(), per="rollout")
    assert got.values.is_cuda
    assert got.values.tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match=r"'out' has one number a token and is on cuda"):
        forest.expand(torch.arange(3.0).cuda(), per="rollout", out=torch.zeros(2).cuda())


def test_wrong_calls():
    forest = Forest.from_parents([-1, 0, 0, 1, 1], lengths=[0, 1, 1, 1, 1])
    with pytest.raises(ValueError, match=r"Forest.expand\(\): 'x' must have length 5 \(= forest.n_nodes\), got 4"):
        forest.expand(np.zeros(4), per="rollout")
    with pytest.raises(ValueError, match=r"with per='node', got one a rollout; take them up to nodes first"):
        forest.expand(np.zeros(3), per="node")
    with pytest.raises(ValueError, match=r"'per' must be one of 'rollout', 'node', got 'token'"):
        forest.expand(np.zeros(5), per="token")
    with pytest.raises(ValueError, match=r"Forest.expand\(\): 'per' must be one of 'rollout', 'node', got 3"):
        forest.expand(np.zeros(5), per=3)
    with pytest.raises(TypeError, match=r"Forest.expand\(\): 'include_root' must be True or False, got 'no'"):
        forest.expand(np.zeros(5), per="node", include_root="no")
    with pytest.raises(TypeError, match=r"'x' must be 1-D"):
        forest.expand(np.zeros((5, 1)), per="node")
    with pytest.raises(TypeError, match=r"'x' must hold floats, ints or bools, got complex128"):
        forest.expand(np.zeros(5, complex), per="node")
    bare = Forest.from_parents([-1, 0])
    with pytest.raises(ValueError, match=r"'forest' has no tokens; build it with lengths= or spans="):
        bare.expand(np.zeros(2), per="node")
    for forest in (bare, Forest.from_parents([-1], lengths=[1]), Forest.from_parents([-1], spans=([0], [0], [1]))):
        with pytest.raises(ValueError, match=r"Forest.token_index\(\): 'forest' .*build it with"):
            _ = forest.token_index
    huge = Forest.from_parents([-1, 0, 0], lengths=[0, 2**62, 2**61])
    with pytest.raises(ValueError, match=r"Forest.expand\(\): 'forest' has more tokens to write than memory holds, 6"):
        huge.expand(np.zeros(3), per="node")
    shared = Forest.from_parents([-1, 0, 1, 1], lengths=[0, 2**62, 0, 0])
    with pytest.raises(ValueError, match=r"'forest' has more tokens to write than int64 counts"):
        shared.expand(np.zeros(4), per="rollout")
    width = 2**62
    far = Forest.from_parents([-1, 0], spans=([0, 0], [0, 0], [0, width]), offsets=[0, width])
    with pytest.raises(ValueError, match=r"Forest.token_index\(\): 'forest' has more tokens to write than"):
        _ = far.token_index

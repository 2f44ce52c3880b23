"""Masks: the intervals say what the ancestors say, and the BlockMask is the one of create_block_mask."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from torch.nn.attention.flex_attention import create_block_mask, flex_attention  # noqa: E402

from rollmath import Forest  # noqa: E402
from rollmath.prefix import pack  # noqa: E402

SEEDS = st.integers(0, 2**32)


def large(seed, tokens=400):
    """Trees of some hundred tokens, so that there are blocks of every kind."""
    rng = np.random.default_rng(seed)
    lists = []
    for _ in range(12):
        shared = lists[rng.integers(len(lists))][: rng.integers(0, 60)] if lists and rng.random() < 0.7 else []
        lists.append([*shared, *rng.integers(0, 1000, rng.integers(1, tokens // 6)).tolist()])
    flat = np.array([t for x in lists for t in x])
    return pack(Forest.from_sequences(flat, np.cumsum([0, *map(len, lists)]), groups=rng.integers(0, 3, 12)))


@given(SEEDS)
def test_the_dense_mask_is_that_of_the_ancestors(oracle, make_case, seed):
    case = make_case(seed)
    packed = oracle("prefix/batch.py", "trie")(case.lists, case.groups)
    expected = oracle("prefix/batch.py", "columns")(packed, len(case.lists))["attends"]
    batch = case.batch
    assert batch.dense_mask().tolist() == expected
    if batch.n_tokens:
        q = torch.arange(batch.n_tokens)
        assert batch.mask_mod()(0, 0, q[:, None], q[None]).tolist() == expected


@settings(max_examples=12)
@given(SEEDS, st.sampled_from([1, 2, 3, 16, 32, 128, 1000]))
def test_the_block_mask_is_that_of_torch(seed, size):
    batch = large(seed, tokens=40 if size < 16 else 400)
    ours, n = batch.block_mask(size), batch.n_tokens
    theirs = create_block_mask(batch.mask_mod(), None, None, n, n, device="cpu", BLOCK_SIZE=size)
    assert torch.equal(ours.to_dense(), theirs.to_dense())
    assert ours.shape == theirs.shape
    assert ours.BLOCK_SIZE == theirs.BLOCK_SIZE
    assert ours.sparsity() == theirs.sparsity()
    for name in ("kv", "full_kv", "q", "full_q"):
        counts, expected = (getattr(x, f"{name}_num_blocks") for x in (ours, theirs))
        assert counts.dtype == expected.dtype
        assert torch.equal(counts, expected)
        columns, wanted = (getattr(x, f"{name}_indices") for x in (ours, theirs))
        assert (columns.dtype, columns.shape) == (wanted.dtype, wanted.shape)
        used = torch.arange(columns.shape[-1]) < counts[..., None]
        assert torch.equal(columns[used], wanted[used])


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("seed", range(3))
def test_flex_attention_on_the_cpu(seed):
    """Forward alone: torch has no backward of it on a CPU."""
    batch = large(seed)
    q, k, v = torch.randn(3, 1, 2, batch.n_tokens, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    dense = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=batch.dense_mask())
    torch.testing.assert_close(flex_attention(q, k, v, block_mask=batch.block_mask(32)), dense, rtol=1e-10, atol=1e-12)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_a_model_with_a_block_mask(make_case, make_model):
    model = make_model()
    case = make_case(5, rollouts=20, longest=9)
    batch = case.batch
    ids, places = batch.take_column(torch.from_numpy(case.flat))[None], batch.position_ids()[None]
    with torch.no_grad():
        dense = model(ids, places, batch.dense_mask()[None])
        sparse = model(ids, places, batch.block_mask(16))
    torch.testing.assert_close(sparse, dense, rtol=1e-10, atol=1e-12)


def test_tensors_are_made_once_for_a_device(make_case):
    batch = make_case(3).batch
    assert batch._tensor("end", "cpu") is batch._tensor("end", torch.device("cpu"))
    assert batch.position_ids().dtype == torch.int64
    assert batch.position_ids().tolist() == batch.positions.tolist()

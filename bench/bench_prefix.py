"""Prefix-tree batches: the packed form of a step, and the blocks of its attention mask."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pytest

import rollmath as rm
from bench import tree_alternatives
from bench.machine import THREADS
from bench.measure import cases


class Step(NamedTuple):
    """Prompts with eight rollouts each, of which four and four share a beginning; and the packed form of it."""

    tokens: np.ndarray
    offsets: np.ndarray
    groups: np.ndarray
    prompt_lengths: np.ndarray
    advantages: np.ndarray
    packed: tuple[np.ndarray, ...]


@lru_cache(maxsize=1)
def step(prompts: int, length: int) -> Step:
    rng = np.random.default_rng(0)
    shared = length // 4
    tokens = rng.integers(0, 150_000, (prompts, 2, 4, length), dtype=np.int32)
    tokens[:, :, :, :shared] = tokens[:, :1, :1, :shared]
    tokens[:, :, :, shared : 2 * shared] = tokens[:, :, :1, shared : 2 * shared]
    tokens[:, :, :, shared] = np.arange(2)[:, None]
    tokens[:, :, :, 2 * shared] = np.arange(4)
    advantages = rng.normal(size=(prompts, 2, 4))

    # One tree: the prompt, and twice a beginning with four ends.
    own = length - 2 * shared
    places = np.arange(length)
    size = shared + 2 * (shared + 4 * own)
    half = [tokens[:, :, 0, shared : 2 * shared], tokens[:, :, :, 2 * shared :].reshape(prompts, 2, -1)]
    ids = np.concatenate([tokens[:, 0, 0, :shared], np.concatenate(half, 2).reshape(prompts, -1)], 1)
    one = np.concatenate([places[shared : 2 * shared], np.tile(places[2 * shared :], 4)])
    positions = np.concatenate([places[:shared], one, one])
    starts = [shared + h * (shared + 4 * own) for h in range(2)]
    end, previous = np.full(size, size), np.arange(-1, size - 1)
    for start in starts:
        leaves = start + shared + own * np.arange(5)
        end[start : start + shared] = leaves[-1]
        end[start + shared : leaves[-1]] = np.repeat(leaves[1:], own)
        previous[start], previous[leaves[:-1]] = shared - 1, start + shared - 1
    base = np.arange(prompts)[:, None] * size
    previous = np.where(previous < 0, -1, previous + base)

    def weights(a: np.ndarray) -> np.ndarray:
        parts = [np.concatenate([np.repeat(x.sum(1)[:, None], shared, 1), np.repeat(x, own, 1)], 1)
                 for x in (a[:, 0], a[:, 1])]  # fmt: skip
        return np.concatenate([np.repeat(a.sum((1, 2))[:, None], shared, 1), *parts], 1).ravel()

    packed = (
        ids.ravel(), np.tile(positions, prompts), (end + base).ravel(), previous.ravel(),
        weights(advantages.clip(min=0)), weights(advantages.clip(max=0)),
    )  # fmt: skip
    n = prompts * 8
    return Step(
        tokens.ravel(), np.arange(n + 1) * length, np.repeat(np.arange(prompts), 8), np.full(n, shared),
        advantages.ravel(), packed,
    )  # fmt: skip


def batch_of(s: Step) -> rm.prefix.PrefixBatch:
    return rm.prefix.pack(
        rm.Forest.from_sequences(s.tokens, s.offsets, groups=s.groups, prompt_lengths=s.prompt_lengths)
    )


def whole(s: Step) -> tuple[np.ndarray, ...]:
    """Trie, positions, intervals, where each token is predicted, and both weights of each token."""
    batch = batch_of(s)
    gains = rm.ops.leaf_to_node_weights(batch.forest, np.ones(len(s.groups)), s.advantages)
    weights = [batch.expand(x) for x in (gains.positive, gains.negative)]
    return s.tokens[batch.index], batch.positions, batch.end, batch.previous, *weights


@cases(rollmath=THREADS, python_dict=1)
def test_prefix_batch(measure, quick, provider, threads):
    s = step(4, 64) if quick else step(128, 1123)
    if provider == "python dict":
        lists = [x.tolist() for x in np.split(s.tokens, s.offsets[1:-1])]
        groups, advantages = s.groups.tolist(), s.advantages.tolist()

        def call():
            return tree_alternatives.prefix_dict(lists, groups, advantages)
    else:

        def call():
            return whole(s)

    shape = f"{len(s.groups)} rollouts, {len(s.tokens)} tokens, {len(s.packed[0])} packed"
    measure(
        "prefix_batch", provider, call, shape=shape, dtype="int32", expected=s.packed, view=tuple, rtol=1e-12,
        threads=threads, rounds=2 if provider == "python dict" else None,
    )  # fmt: skip
    measure.peak("prefix_batch_peak", provider, call, shape=shape, dtype="int32", threads=threads)


@cases(rollmath=1, torch=THREADS[-1], torch_compiled=THREADS[-1])
def test_block_mask(measure, quick, provider, threads):
    torch = pytest.importorskip("torch")
    from torch.nn.attention.flex_attention import create_block_mask

    # As much as the grid of tokens of the plain way fits: 16,384 squared.
    s = step(1, 64) if quick else step(3, 1123)
    batch = batch_of(s)
    n = batch.n_tokens
    make = torch.compile(create_block_mask) if provider == "torch compiled" else create_block_mask

    def call():
        if provider == "rollmath":
            return batch.block_mask()
        return make(batch.mask_mod(), None, None, n, n, device="cpu")

    blocks = -(-n // 128)
    q, kv = np.arange(n)[:, None], np.arange(n)
    padded = np.zeros((blocks * 128, blocks * 128), bool)
    padded[:n, :n] = (kv <= q) & (q < batch.end)
    expected = padded.reshape(blocks, 128, blocks, 128).any((1, 3)).astype(np.int32)
    measure(
        "block_mask", provider, call, shape=f"{n} tokens in blocks of 128", dtype="int32", expected=expected,
        view=lambda mask: mask.to_dense()[0, 0].numpy(), threads=threads,
    )  # fmt: skip


@lru_cache(maxsize=1)
def deep(prompts: int, rollouts: int, length: int) -> rm.prefix.PrefixBatch:
    """Rollouts that share 19 of 20 tokens."""
    rng = np.random.default_rng(0)
    tokens = np.repeat(rng.integers(0, 1000, (prompts, 1, length)), rollouts, 1)
    tokens[:, :, length * 19 // 20] = np.arange(rollouts)
    n = prompts * rollouts
    groups = np.repeat(np.arange(prompts), rollouts)
    return rm.prefix.pack(
        rm.Forest.from_sequences(
            tokens.ravel(), np.arange(n + 1) * length, groups=groups, prompt_lengths=np.full(n, length // 100)
        )
    )


@cases(rollmath=1, gathered=1)
@pytest.mark.parametrize("kind", ["few", "most"])
def test_merged_loss(measure, quick, provider, threads, kind):
    """The loss and its gradient, of packed tokens and of gathered ones."""
    torch = pytest.importorskip("torch")
    if kind == "most":
        batch = deep(2, 8, 200) if quick else deep(8, 64, 2000)
    else:
        batch = batch_of(step(4, 64) if quick else step(128, 1123))
    rows = rm.Rows(batch.rollouts, batch.lengths)
    normalizer, advantages = rm.loss.Normalizer.local(rows), np.random.default_rng(1).normal(size=rows.n_rows)
    theta = -torch.rand(batch.n_targets, generator=torch.Generator().manual_seed(0))
    prox = theta + 0.1
    wide = batch.gather(prox).values
    theta.requires_grad_()
    given = {"normalizer": normalizer, "level": "row"}

    def merged():
        logprobs = rm.LogProbs(theta, prox)
        return rm.prefix.merged_loss(logprobs, advantages, batch, rows, rm.loss.PPO(), **given).loss

    def gathered():
        logprobs = rm.LogProbs(batch.gather(theta).values, wide)
        return rm.loss.policy_loss(logprobs, advantages, rows, rm.loss.PPO(), **given).loss

    def call(loss=merged if provider == "rollmath" else gathered):
        return torch.autograd.grad(loss(), theta)[0]

    measure(
        f"merged_loss_{kind}", provider, call, shape=f"{batch.n_targets} targets of {int(batch.offsets[-1])} positions",
        dtype="float32", expected=torch.autograd.grad(gathered(), theta)[0], rtol=1e-5, threads=threads,
    )  # fmt: skip

"""The transformer of the demo, larger, and read in two more ways: rows of unequal length, and packed trees."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.training.tasks import Task
from rollmath.demo.model import CharTransformer, ModelConfig, load, save

WIDTH, LAYERS, HEADS = 128, 3, 4

__all__ = ["Cache", "CharTransformer", "advance", "feed", "load", "prefill", "run", "save", "untrained"]


def untrained(vocabulary: int, context: int) -> CharTransformer:
    """A model with random weights; 0.6 million of them at the sizes of the tasks."""
    return CharTransformer(ModelConfig(vocabulary, WIDTH, LAYERS, HEADS, context))


def for_task(task: Task) -> CharTransformer:
    """A model of random weights for a task."""
    return untrained(len(task.symbols), task.context)


@dataclass
class Cache:
    """Keys and values ``[layers, B, H, context, D]`` of rows whose lengths may differ."""

    keys: Tensor
    values: Tensor

    def take(self, rows: Tensor) -> Cache:
        """Some rows, in that order; a row may be named several times (branching)."""
        return Cache(self.keys.index_select(1, rows), self.values.index_select(1, rows))


def run(model: CharTransformer, tokens: Tensor, positions: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
    """Logits ``[B, T, V]``; of a packed batch with ``positions`` ``[T]`` and a ``mask`` ``[T, T]``, who sees whom."""
    return logits(model, hidden(model, tokens, positions, mask))


def hidden(
    model: CharTransformer, tokens: Tensor, positions: Tensor | None = None, mask: Tensor | None = None
) -> Tensor:
    """What :func:`run` makes its logits of, ``[B, T, C]``."""
    return _forward(model, tokens, positions, mask)[0]


def logits(model: CharTransformer, x: Tensor) -> Tensor:
    """Logits ``[..., V]`` of hidden states ``[..., C]``."""
    return F.linear(model.norm(x), model.embedding.weight)


def prefill(model: CharTransformer, tokens: Tensor, lengths: Tensor) -> tuple[Cache, Tensor]:
    """Read rows ``[B, T]``, padded on the right; return their state, and the logits ``[B, V]`` at their ends."""
    x, keys, values = _forward(model, tokens, None, None)
    room = model.config.context - tokens.shape[1]
    cache = Cache(F.pad(torch.stack(keys), (0, 0, 0, room)), F.pad(torch.stack(values), (0, 0, 0, room)))
    return cache, logits(model, x[torch.arange(len(tokens)), lengths - 1])


def advance(model: CharTransformer, cache: Cache, tokens: Tensor, positions: Tensor) -> Tensor:
    """Append one token to each row, at its position ``[B]``; return the logits ``[B, V]`` after it."""
    rows, heads = torch.arange(len(tokens)), model.config.heads
    end = int(positions.max()) + 1
    same = bool((positions == end - 1).all())
    # What a shorter row still holds behind its end, it does not see.
    mask = None if same else (torch.arange(end) <= positions[:, None])[:, None]
    x = model.embedding(tokens) + model.position(positions)
    for layer, block in enumerate(model.blocks):
        qkv = block.qkv(block.norm_attention(x)).view(len(x), 3, heads, -1)
        if same:
            cache.keys[layer, :, :, end - 1] = qkv[:, 1]
            cache.values[layer, :, :, end - 1] = qkv[:, 2]
        else:
            cache.keys[layer, rows, :, positions] = qkv[:, 1]
            cache.values[layer, rows, :, positions] = qkv[:, 2]
        mixed = _look_back(qkv[:, 0], cache.keys[layer, :, :, :end], cache.values[layer, :, :, :end], mask)
        x = x + block.out(mixed.reshape(len(x), -1))
        x = x + block.down(F.gelu(block.up(block.norm_mlp(x))))
    return logits(model, x)


def _look_back(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, rows: int = 256) -> Tensor:
    """Attention of one token ``[B, H, D]`` of each row: twice as fast as torch's, which is made for many."""
    out = torch.empty_like(query)
    for i in range(0, len(query), rows):
        part = slice(i, i + rows)
        scores = torch.matmul(keys[part], query[part, ..., None])[..., 0] * query.shape[-1] ** -0.5
        if mask is not None:
            scores = scores.masked_fill(~mask[part], -torch.inf)
        out[part] = torch.matmul(scores.softmax(-1)[:, :, None], values[part])[:, :, 0]
    return out


def feed(model: CharTransformer, cache: Cache, tokens: Tensor, counts: Tensor, positions: Tensor) -> Tensor:
    """Append to each row the first ``counts`` ``[B]`` of its ``tokens`` ``[B, T]``, from its position ``[B]`` on.

    Return the logits ``[B, V]`` after the last of them; those of a row that gets none mean nothing.
    """
    columns = torch.arange(tokens.shape[1])
    rows, which = (columns < counts[:, None]).nonzero(as_tuple=True)
    at = positions[rows] + which
    end = int(at.max()) + 1
    mask = (torch.arange(end) <= (positions[:, None] + columns)[..., None])[:, None]
    x, heads = model.embedding(tokens[rows, which]) + model.position(at), model.config.heads
    query = x.new_zeros(*tokens.shape, heads, model.config.width // heads)
    for layer, block in enumerate(model.blocks):
        qkv = block.qkv(block.norm_attention(x)).view(len(x), 3, heads, -1)
        cache.keys[layer, rows, :, at] = qkv[:, 1]
        cache.values[layer, rows, :, at] = qkv[:, 2]
        query[rows, which] = qkv[:, 0]
        mixed = F.scaled_dot_product_attention(
            query.transpose(1, 2), cache.keys[layer, :, :, :end], cache.values[layer, :, :, :end], attn_mask=mask
        )
        x = x + block.out(mixed.transpose(1, 2)[rows, which].reshape(len(x), -1))
        x = x + block.down(F.gelu(block.up(block.norm_mlp(x))))
    return logits(model, x[counts.cumsum(0) - 1])


def _forward(
    model: CharTransformer, tokens: Tensor, positions: Tensor | None, mask: Tensor | None
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    at = torch.arange(tokens.shape[1]) if positions is None else positions
    x, keys, values = model.embedding(tokens) + model.position(at), [], []
    for block in model.blocks:
        batch, length, width = x.shape
        qkv = block.qkv(block.norm_attention(x)).view(batch, length, 3, block.heads, width // block.heads)
        query, key, value = (part.transpose(1, 2) for part in qkv.unbind(2))
        keys.append(key)
        values.append(value)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=mask is None)
        x = x + block.out(mixed.transpose(1, 2).reshape(batch, length, width))
        x = x + block.down(F.gelu(block.up(block.norm_mlp(x))))
    return x, keys, values

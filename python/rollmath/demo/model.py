"""A small character-level transformer with a key/value cache, in plain torch on the CPU."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

CHECKPOINT = Path(__file__).with_name("checkpoint.npz")


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the transformer; stored inside the checkpoint."""

    vocab: int
    width: int = 96
    layers: int = 3
    heads: int = 4
    context: int = 52


class Cache:
    """Keys and values of the tokens seen so far: one pair of [B, H, context, D] buffers per layer."""

    def __init__(self, keys: list[Tensor], values: list[Tensor], length: int) -> None:
        self.keys = keys
        self.values = values
        self.length = length

    @classmethod
    def empty(cls, config: ModelConfig, batch: int) -> Cache:
        """Return a cache without tokens for ``batch`` rows."""
        shape = (batch, config.heads, config.context, config.width // config.heads)
        return cls(
            [torch.zeros(shape) for _ in range(config.layers)], [torch.zeros(shape) for _ in range(config.layers)], 0
        )

    def take(self, rows: Tensor) -> Cache:
        """Return a cache with the given rows, in that order; a row may be named several times (branching)."""
        return Cache(
            [k.index_select(0, rows) for k in self.keys], [v.index_select(0, rows) for v in self.values], self.length
        )


class Block(nn.Module):
    """Pre-norm attention and a GELU network of four times the width."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm_attention = nn.LayerNorm(config.width)
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)
        self.norm_mlp = nn.LayerNorm(config.width)
        self.up = nn.Linear(config.width, 4 * config.width, bias=False)
        self.down = nn.Linear(4 * config.width, config.width, bias=False)

    def forward(self, x: Tensor, cache: Cache | None, layer: int) -> Tensor:
        """Transform x [B, T, C]; with a cache the T tokens continue its rows and are written into it."""
        batch, length, width = x.shape
        qkv = self.qkv(self.norm_attention(x)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = (part.transpose(1, 2) for part in qkv.unbind(2))
        if cache is not None and cache.length + length > cache.keys[layer].shape[2]:
            raise ValueError(f"the context holds {cache.keys[layer].shape[2]} tokens, {cache.length + length} needed")
        if cache is not None:
            end = cache.length + length
            cache.keys[layer][:, :, cache.length : end] = key
            cache.values[layer][:, :, cache.length : end] = value
            key, value = cache.keys[layer][:, :, :end], cache.values[layer][:, :, :end]
        # One new token sees the whole cache; several are only fed to an empty cache, where plain causality holds.
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=length > 1)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        hidden: Tensor = self.down(nn.functional.gelu(self.up(self.norm_mlp(x))))
        return x + hidden


class CharTransformer(nn.Module):
    """Decoder with learned positions and an output layer tied to the embedding."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab, config.width)
        self.position = nn.Embedding(config.context, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.05)

    def forward(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """Return logits [B, T, V] of the token after each of ``tokens`` [B, T]."""
        start = 0 if cache is None else cache.length
        if start > 0 and tokens.shape[1] != 1:
            raise ValueError(f"a filled cache is continued one token at a time, got {tokens.shape[1]}")
        x = self.embedding(tokens) + self.position.weight[start : start + tokens.shape[1]]
        for layer, block in enumerate(self.blocks):
            x = block(x, cache, layer)
        if cache is not None:
            cache.length += tokens.shape[1]
        return nn.functional.linear(self.norm(x), self.embedding.weight)

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(parameter.numel() for parameter in self.parameters())


def save(model: CharTransformer, path: Path) -> None:
    """Write the weights as float16 arrays, with the configuration as JSON text; nothing is pickled."""
    arrays = {name: value.numpy().astype(np.float16) for name, value in model.state_dict().items()}
    np.savez_compressed(path, allow_pickle=False, config=np.array(json.dumps(asdict(model.config))), **arrays)


def load(path: Path = CHECKPOINT) -> CharTransformer:
    """Read a model written by :func:`save`; the weights are float32 again."""
    with np.load(path, allow_pickle=False) as stored:
        model = CharTransformer(ModelConfig(**json.loads(str(stored["config"]))))
        weights = {name: torch.from_numpy(stored[name].astype(np.float32)) for name in stored.files if name != "config"}
    model.load_state_dict(weights)
    return model

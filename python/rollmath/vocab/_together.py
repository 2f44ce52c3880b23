"""Ranks that share a vocabulary find out together whether they were called with the same, and rightly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from rollmath.vocab._agree import agree, words
from rollmath.vocab._autograd import Options
from rollmath.vocab._inputs import Inputs
from rollmath.vocab._shard import VocabShard, check_spans


def together(
    who: str,
    logits: torch.Tensor,
    temperature: Any,
    shard: VocabShard,
    prepare: Callable[[], tuple[Inputs, Options]],
) -> tuple[Inputs, Options]:
    """What ``prepare`` returns, if it raises on no rank and all ranks have the same rows, labels and options."""
    kept: list[tuple[Inputs, Options]] = []

    def make() -> dict[str, str]:
        inputs, options = prepare()
        kept.append((inputs, options))
        same = {
            "outputs": options.outputs,
            "labels": inputs.labels,
            "temperature": temperature,
            "softcap": options.softcap,
            "mask": inputs.mask,
            "ignore_index": options.ignore_index,
            "ids": inputs.ids,
            "allowed": inputs.set_ids,
            "allowed.offsets": inputs.set_offsets,
            "backend": options.backend,
        }
        return {
            **shard.span(logits.shape[-1]),
            "the shape of the rows of 'logits'": str(tuple(logits.shape[:-1])),
            "the dtype of 'logits'": str(logits.dtype).removeprefix("torch."),
            **{f"'{name}'": words(x) for name, x in same.items()},
        }

    check_spans(who, agree(who, make, shard.group, ["span"]))
    return kept[0]

"""What is compiled: calls of the kernels' own wrappers, and their limits. Here the kernels that stream logits."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

ROWS, VOCAB = 8192, 151936
BF16, F32 = torch.bfloat16, torch.float32


@dataclass(frozen=True)
class Case:
    """One call, and the kernel in it that is looked at.

    Attributes:
        name: what the tables say.
        kernel: name of the launched function.
        call: launches it.
        itemsize: bytes of an element.
        streams: tensors that the main loop reads side by side; an element is one of each.
        elements: elements that a thread takes per turn, where the loads do not say it.
        streaming: whether the loop must be one of 16-byte loads without barriers and shuffles.
        stack: bytes of stack that may be used. Where a kernel needs little more than half of the registers, the
            assembler may spill a few to keep two programs on a processor.
        budget: instructions per element of the main loop on sm_90, at most.
        quick: whether it is part of the short run.
    """

    name: str
    kernel: str
    call: Callable[[], object]
    itemsize: int = 2
    streams: int = 1
    elements: int | None = None
    streaming: bool = True
    stack: int = 0
    budget: float | None = None
    quick: bool = False


def kernels(name: str) -> Any:
    """A module of the kernels, imported when it is compiled."""
    return importlib.import_module(f"rollmath.kernels.{name}")


def empty(*shape: int, dtype: torch.dtype = F32) -> torch.Tensor:
    """A tensor without memory, whose address counts as aligned."""
    return torch.empty(*shape, dtype=dtype, device="meta")


def forward(*outputs: str, dtype: torch.dtype = BF16, width: int = VOCAB, **options: Any) -> Callable[[], object]:
    """The row statistics of logits."""
    logits, labels = empty(ROWS, width, dtype=dtype), empty(ROWS, dtype=torch.int64)
    options = {"inv_temperature": 1 / 0.7, **options}
    return lambda: kernels("row_stats").forward(logits, labels, outputs=outputs, **options)


def backward(*outputs: str, dtype: torch.dtype = BF16, width: int = VOCAB, **options: Any) -> Callable[[], object]:
    """Their gradient."""
    logits, labels = empty(ROWS, width, dtype=dtype), empty(ROWS, dtype=torch.int64)
    options = {"inv_temperature": 1 / 0.7, **options}

    def call() -> object:
        names = ("shift", "log2_l", *kernels("row_stats").NAMES)
        saved = {name: empty(ROWS, dtype=torch.int64 if name == "argmax" else F32) for name in names}
        grads = {name: empty(ROWS) for name in outputs}
        return kernels("row_stats_backward").backward(logits, labels, saved, grads, **options)

    return call


BOTH = ("logprob", "entropy")


def partials(**options: Any) -> Callable[[], object]:
    """What is merged of parts of the vocabulary, here of rows that are cut into four."""
    logits, labels = empty(64, VOCAB, dtype=BF16), empty(64, dtype=torch.int64)
    options = {"inv_temperature": 1.0, "outputs": BOTH, "split": 4, **options}
    return lambda: kernels("row_stats").forward(logits, labels, **options)


def token_sets() -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and offsets of allowed sets."""
    return empty(2**24, dtype=torch.int64), empty(ROWS + 1, dtype=torch.int64)


def kl(what: str, *, reverse: bool, dtype: torch.dtype = BF16, width: int = VOCAB) -> Callable[[], object]:
    """The exact divergence of two tensors of logits, or its gradient."""
    pair = empty(ROWS, width, dtype=dtype), empty(ROWS, width, dtype=dtype)
    same = {"inv_temperature": 1 / 0.7, "reverse": reverse}
    saved = {name: empty(ROWS) for name in ("raw", "top", "log2_l", "ref_top", "ref_log2_l")}
    if what == "forward":
        return lambda: kernels("kl").forward(*pair, **same)
    return lambda: kernels("kl").backward(*pair, saved, empty(ROWS), **same)


BOTH = ("logprob", "entropy")

ROW_CASES = [
    Case("forward, logprob + entropy", "row_kernel", forward(*BOTH), budget=10.5, quick=True),
    Case("forward, logprob", "row_kernel", forward("logprob")),
    Case("forward, + sum_p_squared", "row_kernel", forward(*BOTH, "sum_p_squared")),
    Case("forward, + var_logprob", "row_kernel", forward(*BOTH, "var_logprob")),
    Case("forward, + p_max, argmax", "row_kernel", forward(*BOTH, "p_max", "argmax")),
    Case("forward, temperature of each row", "row_kernel", forward(*BOTH, inv_temperature=empty(ROWS))),
    Case("forward, soft-cap", "row_kernel", forward(*BOTH, softcap=30.0)),
    Case("forward, misaligned rows", "row_kernel", forward(*BOTH, width=VOCAB + 1)),
    Case("forward, float32", "row_kernel", forward(*BOTH, dtype=F32), itemsize=4),
    Case("forward, float16", "row_kernel", forward(*BOTH, dtype=torch.float16)),
    Case("forward, rows in four parts", "row_kernel", partials()),
    Case("merge of parts", "merge_kernel", partials(), streaming=False),
    Case("forward, allowed sets", "set_kernel", forward(*BOTH, allowed=token_sets()), streaming=False),
    Case("backward, logprob + entropy", "_backward", backward(*BOTH), budget=22, quick=True),
    Case("backward, logprob", "_backward", backward("logprob")),
    Case("backward, + sum_p_squared, var_logprob", "_backward", backward(*BOTH, "sum_p_squared", "var_logprob")),
    Case("backward, temperature of each row", "_backward", backward(*BOTH, inv_temperature=empty(ROWS))),
    Case("backward, soft-cap", "_backward", backward(*BOTH, softcap=30.0)),
    Case("backward, misaligned rows", "_backward", backward(*BOTH, width=VOCAB + 1)),
    Case("backward, float32", "_backward", backward(*BOTH, dtype=F32), itemsize=4),
    Case("backward, allowed sets", "_backward", backward(*BOTH, allowed=token_sets()), streaming=False),
    Case("KL forward", "_kl_forward", kl("forward", reverse=True), streams=2, budget=27, quick=True),
    Case("KL forward, misaligned rows", "_kl_forward", kl("forward", reverse=True, width=VOCAB + 1), streams=2),
    Case("KL forward, float32", "_kl_forward", kl("forward", reverse=True, dtype=F32), streams=2, itemsize=4),
    Case("KL(p || q) backward", "_kl_backward", kl("backward", reverse=True), streams=2, budget=22, quick=True),
    Case("KL(q || p) backward", "_kl_backward", kl("backward", reverse=False), streams=2, budget=22),
]

"""Who computes the reductions: torch, or the Triton kernels of ``rollmath.kernels``. Both have the same signatures."""

from __future__ import annotations

import importlib.util
import os
from functools import cache
from types import SimpleNamespace
from typing import Any

import torch

from rollmath._arrays import choice
from rollmath.vocab import _torch_rows

BACKENDS = ("auto", "torch", "triton")


def check_backend(who: str, backend: str, logits: torch.Tensor) -> None:
    """Raises unless ``backend`` can reduce these logits."""
    choice(who, "backend", backend, BACKENDS)
    if backend != "triton":
        return
    if not _has_triton():
        msg = f"{who}(): backend 'triton' needs the package triton, which is not installed; say backend='torch'"
        raise ValueError(msg)
    if logits.dtype == torch.float64:
        msg = f"{who}(): backend 'triton' takes logits of 16 or 32 bits, got float64; say backend='torch'"
        raise ValueError(msg)
    if not logits.is_cuda and not _interpreted():
        msg = (
            f"{who}(): backend 'triton' needs logits on a GPU, got {logits.device}; on a CPU the kernels run only in "
            "Triton's interpreter, with TRITON_INTERPRET=1 in the environment before triton is imported"
        )
        raise ValueError(msg)


def implementation(backend: str, logits: torch.Tensor) -> Any:
    """Something with ``forward``, ``partials``, ``merge`` and ``backward``."""
    if backend == "auto":
        backend = "triton" if logits.is_cuda and logits.dtype != torch.float64 and _has_triton() else "torch"
    return _kernels() if backend == "triton" else _torch_rows


@cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET", "0").lower() in {"1", "true", "on", "y", "yes"}


@cache
def _kernels() -> SimpleNamespace:
    # Not before the first launch: importing triton takes a while, and it may be missing.
    from rollmath.kernels import row_stats, row_stats_backward  # noqa: PLC0415

    return SimpleNamespace(
        forward=row_stats.forward,
        partials=row_stats.partials,
        merge=row_stats.merge,
        backward=row_stats_backward.backward,
    )

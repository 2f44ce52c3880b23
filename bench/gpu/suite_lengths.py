"""What the first call and each new length cost."""

from __future__ import annotations

import time
from typing import Any

import torch

import rollmath as rm
from bench.gpu import clock
from bench.gpu.run import Run

LENGTHS = 32


def _once(call: Any) -> float:
    start = time.perf_counter()
    call()
    if clock.is_cuda():
        torch.cuda.synchronize()
    return (time.perf_counter() - start) * 1e3


def suite(run: Run) -> None:
    """Forward and backward over 32 new numbers of rows; a compilation takes tens of milliseconds."""
    vocab = 320 if run.smoke else 32000
    lengths = [3, 4] if run.smoke else [1000 + 37 * i for i in range(LENGTHS)]
    first = lengths[0] - 1

    def call(rows: int) -> None:
        x = torch.randn(rows, vocab, device=clock.device()).bfloat16().requires_grad_()
        stats = rm.vocab.row_stats(x, torch.zeros(rows, dtype=torch.int64, device=x.device), backend=run.backend)
        (stats.logprob.sum() + stats.entropy.sum()).backward()

    once = _once(lambda: call(first))
    again = _once(lambda: call(first))
    each = [_once(lambda n=n: call(n)) for n in lengths]
    shape = f"{len(lengths)} lengths x {vocab}"
    slow = sum(t > 20 + 2 * again for t in each)
    run.keep("first call", "rollmath", shape=shape, dtype="bfloat16", p50_ms=round(once, 3))
    run.keep("same length again", "rollmath", shape=shape, dtype="bfloat16", p50_ms=round(again, 3))
    run.keep("slowest new length", "rollmath", shape=shape, dtype="bfloat16", p50_ms=round(max(each), 3))
    run.keep("new lengths that took 20 ms more", "rollmath", shape=shape, dtype="bfloat16", count=slow)

"""Log-probability and entropy of hidden states and a weight, without logits in memory."""

from __future__ import annotations

from typing import Any

import torch

import rollmath as rm
from bench.gpu import clock, peers
from bench.gpu.run import Run, relative
from bench.gpu.suite_row_stats import error_of


def operands(rows: int, width: int, vocab: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hidden states and a weight whose logits have a spread of about 3."""
    generator = torch.Generator(clock.device()).manual_seed(rows)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, device=clock.device())

    hidden = normal(rows, width).bfloat16()
    weight = normal(vocab, width).mul_(3 / width**0.5).bfloat16()
    return hidden, weight, torch.randint(vocab, (rows,), generator=generator, device=clock.device())


def ours(run: Run, **options: Any) -> Any:
    def call(h: torch.Tensor, w: torch.Tensor, y: torch.Tensor) -> Any:
        stats = rm.vocab.linear_row_stats(h, w, y, outputs=("logprob", "entropy"), backend=run.backend, **options)
        return stats.logprob, stats.entropy

    return call


def gradients(call: Any, h: torch.Tensor, w: torch.Tensor, y: torch.Tensor, upstream: Any) -> Any:
    """Forward and backward; derivatives of hidden states and weight."""
    leaves = [h.detach().requires_grad_(), w.detach().requires_grad_()]
    outputs = [(out, g) for out, g in zip(call(*leaves, y)[:2], upstream, strict=True) if out is not None]
    return torch.autograd.grad([o for o, _ in outputs], leaves, [g for _, g in outputs])


def suite(run: Run) -> None:
    """Forward, and forward with backward; gradients are checked on a size whose float64 form fits."""
    rows, width, vocab = (24, 32, 200) if run.smoke else (8192, 4096, 151936)
    shape, dtype = f"{rows} x {width} x {vocab}", "bfloat16"
    h, w, y = operands(rows, width, vocab)
    run.matrix = clock.matrix_rate(h, w)
    run.keep("matrix product", "torch", shape=shape, dtype=dtype, note=f"{run.matrix:.1f} TFLOP/s")
    some = torch.linspace(0, rows - 1, min(64, rows), device=h.device).long()
    wide = error_of((h[some].double() @ w.double().T), y[some])
    product = 2 * rows * width * vocab
    upstream = [torch.full((rows,), -1.0 / rows, device=h.device), torch.full((rows,), 0.01 / rows, device=h.device)]
    every = {
        "rollmath": ours(run),
        "rollmath float32 logits": ours(run, logits_dtype="float32"),
        **peers.linear(),
    }
    for name, call in every.items():
        with torch.no_grad():
            # Logits of bfloat16 are themselves rounded by up to 2^-9 of their size, about 0.05 here.
            limit = 2e-3 if "float32 logits" in name else 0.12
            run.attempt(
                "fused linear forward", name, lambda c=call: c(h, w, y),
                shape=shape, dtype=dtype, limit=limit, floor=run.floor(operations=product),
                error=lambda got: wide((got[0][some], None if got[1] is None else got[1][some])),
            )  # fmt: skip
        small_error = _small_error(call, run)
        run.attempt(
            "fused linear forward and backward", name, lambda c=call: gradients(c, h, w, y, upstream),
            shape=shape, dtype=dtype, limit=2e-2, floor=run.floor(operations=4 * product),
            error=lambda _, e=small_error: e(), note="floor: 8NVH",
        )  # fmt: skip
        if clock.is_cuda():
            torch.cuda.empty_cache()


def _small_error(call: Any, run: Run) -> Any:
    """The error of both gradients, relative, on a small problem in float64."""
    h, w, y = operands(*((16, 32, 200) if run.smoke else (1024, 1024, 32768)))
    upstream = [torch.full((len(h),), 1.0, device=h.device), torch.full((len(h),), 0.1, device=h.device)]

    def exact(a: torch.Tensor, b: torch.Tensor, labels: torch.Tensor, both: bool) -> Any:
        log_p = torch.log_softmax(a @ b.T, -1)
        entropy = -(log_p.exp() * log_p).sum(-1) if both else None
        return log_p.gather(1, labels[:, None])[:, 0], entropy

    def error() -> float:
        got = gradients(call, h, w, y, upstream)
        both = call(h, w, y)[1] is not None
        wide = gradients(
            lambda a, b, c: exact(a, b, c, both), h.double(), w.double(), y, [g.double() for g in upstream]
        )
        return max(relative(a, b) for a, b in zip(got, wide, strict=True))

    return error

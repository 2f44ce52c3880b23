"""Log-probability and entropy from logits, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

import rollmath as rm
from bench.gpu import clock, peers
from bench.gpu.run import Run, worst

#: Rows that are checked against float64, and how far a time may be from it.
CHECKED, LIMIT = 64, 2e-5


def logits_of(rows: int, vocab: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Random logits with a spread of 3 and a label that stands out, as a trained policy has; never zeros."""
    generator = torch.Generator(clock.device()).manual_seed(rows + vocab)
    # One row more than is used: a peer takes [1, N + 1, V].
    base = torch.empty(rows + 1, vocab, device=clock.device(), dtype=dtype)
    for start in range(0, rows + 1, 1024):
        part = base[start : start + 1024]
        part.copy_(torch.randn(part.shape, generator=generator, device=clock.device()).mul_(3))
    x, y = base[:-1], torch.randint(vocab, (rows,), generator=generator, device=clock.device())
    x[torch.arange(0, rows, 2), y[::2]] += 12
    return x, y


def exact(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    log_p = torch.log_softmax(x.double(), -1)
    return log_p.gather(1, y[:, None])[:, 0], -(log_p.exp() * log_p).sum(-1)


def error_of(x: torch.Tensor, y: torch.Tensor) -> Callable[[Any], float]:
    some = torch.linspace(0, len(x) - 1, min(CHECKED, len(x)), device=x.device).long()
    log_p, entropy = exact(x[some], y[some])

    def error(got: Any) -> float:
        wrong = max(worst(got[0][some], log_p), worst(None if got[1] is None else got[1][some], entropy))
        return wrong if all(g is None or bool(g.isfinite().all()) for g in got[:2]) else float("inf")

    return error


def gradient_error(x: torch.Tensor, y: torch.Tensor, upstream: Any, names: int) -> Callable[[Any], float]:
    """Relative to what flows in: where a label has probability 1, next to nothing is left of it."""
    some = torch.linspace(0, len(x) - 1, min(CHECKED, len(x)), device=x.device).long()
    wide = x[some].double().requires_grad_()
    loss = sum((value * g[some]).sum() for value, g in zip(exact(wide, y[some])[:names], upstream[:names], strict=True))
    (expected,) = torch.autograd.grad(loss, wide)

    def error(got: torch.Tensor) -> float:
        part = (got[some].double() - expected).abs().amax(1) / sum(g[some].double().abs() for g in upstream[:names])
        return float(part.nan_to_num(nan=float("inf")).amax())

    return error


def ours(run: Run, names: tuple[str, ...], **options: Any) -> Callable[[torch.Tensor, torch.Tensor], Any]:
    def call(x: torch.Tensor, y: torch.Tensor) -> Any:
        stats = rm.vocab.row_stats(x, y, outputs=names, backend=run.backend, **options)
        return stats.logprob, stats.entropy

    return call


def providers(run: Run, rows: int) -> dict[str, Callable[[torch.Tensor, torch.Tensor], Any]]:
    temperature = torch.ones(rows, device=clock.device())
    both = ("logprob", "entropy")
    return {
        "rollmath": ours(run, both),
        "rollmath log-probability alone": ours(run, ("logprob",)),
        "rollmath temperature a row": ours(run, both, temperature=temperature),
        "rollmath four outputs": ours(run, (*both, "sum_p_squared", "var_logprob")),
        # In a smoke run the compiler would take most of the time.
        **{name: call for name, call in peers.row_stats().items() if not (run.smoke and "compiled" in name)},
    }


def forward(run: Run, x: torch.Tensor, y: torch.Tensor, shape: str, dtype: str) -> None:
    floor = run.floor(moved=x.numel() * x.element_size())
    error = error_of(x, y)
    for name, call in providers(run, len(x)).items():
        with torch.no_grad():
            run.attempt(
                "row stats forward", name, lambda c=call: c(x, y),
                shape=shape, dtype=dtype, error=error, limit=LIMIT, floor=floor,
            )  # fmt: skip


def backward(run: Run, x: torch.Tensor, y: torch.Tensor, shape: str, dtype: str) -> None:
    floor = run.floor(moved=2 * x.numel() * x.element_size())
    generator = torch.Generator(x.device).manual_seed(1)
    upstream = [torch.randn(len(x), generator=generator, device=x.device) for _ in range(2)]
    for name, call in providers(run, len(x)).items():
        leaf = x.detach().requires_grad_() if "liger" not in name else None
        try:
            # The peer that wants a row more gets it as the leaf.
            base = x._base.detach().requires_grad_() if leaf is None and x._base is not None else leaf
            source = leaf if leaf is not None else base[:-1]
            outputs = [(out, g) for out, g in zip(call(source, y)[:2], upstream, strict=True) if out is not None]
        except Exception as problem:
            run.lost("row stats backward", name, shape, problem, ours=name.startswith("rollmath"))
            continue

        def step(outputs: Any = outputs, base: Any = base) -> torch.Tensor:
            found = torch.autograd.grad([o for o, _ in outputs], base, [g for _, g in outputs], retain_graph=True)
            return found[0][: len(x)]

        limit = 1e-5 if x.dtype == torch.float32 else 2.0**-7
        run.attempt(
            "row stats backward", name, step,
            shape=shape, dtype=dtype, error=gradient_error(x, y, upstream, len(outputs)), limit=limit, floor=floor,
        )  # fmt: skip
        del outputs, leaf, base, source


def suite(run: Run) -> None:
    """The shapes of the table, an odd vocabulary, a strided view, float32, and few rows."""
    if run.smoke:
        shapes = [(6, 320, torch.bfloat16), (5, 97, torch.float32)]
    else:
        shapes = [(n, v, torch.bfloat16) for n in (8192, 32768) for v in (128256, 151936)]
        shapes += [(8192, 32000, torch.bfloat16), (8192, 151937, torch.bfloat16), (8192, 128256, torch.float32)]
        shapes += [(64, 151936, torch.bfloat16), (1024, 151936, torch.bfloat16)]
    for rows, vocab, dtype in shapes:
        name, shape = str(dtype).removeprefix("torch."), f"{rows} x {vocab}"
        x, y = logits_of(rows, vocab, dtype)
        forward(run, x, y, shape, name)
        if rows <= 8192:
            backward(run, x, y, shape, name)
        del x, y
        if clock.is_cuda():
            torch.cuda.empty_cache()

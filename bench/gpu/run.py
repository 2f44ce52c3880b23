"""What a suite is given: it checks, times and keeps rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from bench import machine
from bench.gpu import clock

PACKAGES = {
    "verl": "verl",
    "trl": "trl",
    "liger": "liger-kernel",
    "flash-attn": "flash-attn",
    "cce": "cut-cross-entropy",
    "quack": "quack-kernels",
}


class Run:
    """One run on one device.

    Attributes:
        smoke: small sizes, nothing measured: does everything run, and is it right?
        bandwidth: GB/s of a copy and of a sum.
        matrix: TFLOP/s of the library on the operands of the fused linear, once that suite has measured it.
    """

    def __init__(self, *, smoke: bool, backend: str) -> None:
        self.smoke, self.backend = smoke, backend
        self.rows: list[dict[str, Any]] = []
        self.failed: list[str] = []
        self.bandwidth = clock.bandwidths(2**-10 if smoke else 4)
        self.matrix: float | None = None

    def floor(self, *, moved: int = 0, operations: int = 0) -> float:
        """Milliseconds that no version runs below: bytes at the larger bandwidth, operations at the matrix rate."""
        return max(moved / max(self.bandwidth.values()) / 1e6, operations / (self.matrix or float("inf")) / 1e9)

    def keep(self, op: str, provider: str, *, shape: str, dtype: str, **found: Any) -> None:
        """Keeps a row."""
        name = provider.split(maxsplit=1)[0]
        row = {"op": op, "provider": provider, "shape": shape, "dtype": dtype, "note": ""}
        row |= dict.fromkeys(("p20_ms", "p50_ms", "p80_ms", "floor_ms", "share", "error", "peak_bytes", "count"))
        row["peer_version"] = machine.version(PACKAGES[name]) if name in PACKAGES else None
        row |= found
        self.rows.append(row)
        said = {name: value for name, value in found.items() if name in {"p50_ms", "error", "count", "note"} and value}
        print(f"  {op} {provider} {shape}: {said}", flush=True)

    def attempt(
        self,
        op: str,
        provider: str,
        call: Callable[[], Any],
        *,
        shape: str,
        dtype: str,
        error: Callable[[Any], float],
        limit: float,
        floor: float | None = None,
        graph: Sequence[Callable[[], Any]] | None = None,
        note: str = "",
    ) -> None:
        """Checks a call, and times it if its error is within the limit. A peer that fails is a line, not the end."""
        ours = provider.startswith("rollmath")
        try:
            wrong = error(call())
            if not wrong <= limit:
                print(f"  {op} {provider} {shape}: error {wrong:.2e} is over {limit:.0e}; no time is kept", flush=True)
                if ours:
                    self.failed.append(f"{op} {provider} {shape}: error {wrong:.2e} over {limit:.0e}")
                return
            times = clock.timed(call) if graph is None else clock.timed_graph(graph)
            used = clock.peak(call)
        except Exception as problem:
            self.lost(op, provider, shape, problem, ours=ours)
            return
        if times is None:
            return
        share = None if floor is None else round(floor / times.p50, 4)
        ms = {f"{name}_ms": round(value, 5) for name, value in times._asdict().items()}
        floor = None if floor is None else round(floor, 5)
        found = ms | {"floor_ms": floor, "share": share, "error": wrong, "peak_bytes": used, "note": note}
        self.keep(op, provider, shape=shape, dtype=dtype, **found)

    def lost(self, op: str, provider: str, shape: str, problem: Exception, *, ours: bool) -> None:
        text = f"{type(problem).__name__}: {(str(problem).splitlines() or [''])[0][:200]}"
        print(f"  {op} {provider} {shape}: {text}", flush=True)
        if ours:
            self.failed.append(f"{op} {provider} {shape}: {text}")
        if clock.is_cuda():
            torch.cuda.empty_cache()


def worst(got: torch.Tensor | None, expected: torch.Tensor) -> float:
    """Largest absolute difference, infinite where NaN differs; 0 for what a provider does not compute."""
    if got is None:
        return 0.0
    difference = (got.detach().double() - expected.double()).abs()
    return float(difference.nan_to_num(nan=float("inf")).amax())


def relative(got: torch.Tensor, expected: torch.Tensor) -> float:
    """``||got - expected|| / ||expected||``."""
    wrong = (got.detach().double() - expected.double()).norm() / expected.double().norm()
    return float(wrong.nan_to_num(nan=float("inf")))

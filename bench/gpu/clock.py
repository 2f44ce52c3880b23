"""Times of device work, ceilings of the device, and memory; on a CPU only a smoke test of the same calls."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

#: Bytes that rotating inputs must exceed together, so that no call finds its inputs in the L2 cache.
COLD = 256 << 20


class Times(NamedTuple):
    """Milliseconds a call."""

    p20: float
    p50: float
    p80: float


def is_cuda() -> bool:
    return torch.cuda.is_available()


def device() -> torch.device:
    return torch.device("cuda" if is_cuda() else "cpu")


def describe() -> dict[str, Any]:
    """The device and what drives it."""
    if not is_cuda():
        return {"device": "cpu", "driver": None, "cuda": None, "capability": None}
    ask = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.split("\n")[0].strip()
    except (OSError, subprocess.CalledProcessError):
        driver = None
    return {
        "device": torch.cuda.get_device_name(),
        "driver": driver,
        "cuda": torch.version.cuda,
        "capability": "{}.{}".format(*torch.cuda.get_device_capability()),
    }


def timed(call: Callable[[], Any], *, milliseconds: int = 500) -> Times:
    """Events around single calls after a warm-up; the L2 cache is flushed before each."""
    if not is_cuda():
        start = time.perf_counter()
        call()
        return Times(*[(time.perf_counter() - start) * 1e3] * 3)
    from triton.testing import do_bench

    p20, p50, p80 = do_bench(call, warmup=100, rep=milliseconds, quantiles=[0.2, 0.5, 0.8])
    return Times(p20, p50, p80)


def timed_graph(calls: Sequence[Callable[[], Any]], *, replays: int = 50) -> Times | None:
    """Calls on inputs of their own, captured one after another in one graph; None where they cannot be captured."""
    if not is_cuda():
        return timed(calls[0])
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for call in calls:
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            for call in calls:
                call()
    except RuntimeError as error:
        print(f"    not captured: {str(error).splitlines()[0]}")
        torch.cuda.synchronize()
        return None
    each = []
    for _ in range(replays):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        each.append(begin.elapsed_time(end) / len(calls))
    p20, p50, p80 = torch.tensor(each).quantile(torch.tensor([0.2, 0.5, 0.8])).tolist()
    return Times(p20, p50, p80)


def host(call: Callable[[], Any], *, calls: int = 50) -> float:
    """Milliseconds of the host a call, device work left running."""
    for _ in range(3):
        call()
    if is_cuda():
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(calls if is_cuda() else 1):
        call()
    spent = (time.perf_counter() - start) * 1e3 / (calls if is_cuda() else 1)
    if is_cuda():
        torch.cuda.synchronize()
    return spent


def peak(call: Callable[[], Any]) -> int | None:
    """Bytes that a call takes beyond what is allocated before it, its outputs included."""
    if not is_cuda():
        return None
    call()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def bandwidths(gib: float) -> dict[str, float]:
    """GB/s of a copy (bytes read and written) and of a sum (bytes read)."""
    count = int(gib * 2**30) // 2
    x = torch.randn(count // 64, device=device()).bfloat16().repeat(64)
    y = torch.empty_like(x)
    copied, read = timed(lambda: y.copy_(x)).p50, timed(lambda: x.view(torch.float32).amax()).p50
    size = x.numel() * 2
    return {"copy": round(2 * size / copied / 1e6, 1), "read": round(size / read / 1e6, 1)}


def matrix_rate(a: torch.Tensor, b: torch.Tensor) -> float:
    """TFLOP/s of ``a @ b.T`` through the library."""
    spent = timed(lambda: a @ b.T).p50
    return 2 * a.shape[0] * a.shape[1] * b.shape[0] / spent / 1e9

"""What a run was measured on: processor, versions, commit, load, and the bandwidth of its memory at that moment."""

import contextlib
import ctypes
import importlib.metadata
import os
import platform
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
#: Thread counts at which parallel providers are measured.
THREADS = sorted({1, CORES})


def cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)
        if found:
            return found[1].strip()
    return platform.processor() or platform.machine()


def slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)", "", name.lower())).strip("-")


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    """Of the sources that rollmath is imported from, with "+" if they are changed."""
    import rollmath

    git = ["git", "-C", str(Path(rollmath.__file__).parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--", ":/python", ":/rust", ":/Cargo.lock"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def resident() -> int:
    """Memory of this process now, in bytes; :func:`peak` counts from here."""
    # Freed memory that the allocator keeps would hide what is taken again.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    # Linux: 5 sets the high-water mark back.
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak() -> int:
    """The most memory that this process had since :func:`resident`, in bytes."""
    return _status("VmHWM")


def _status(name: str) -> int:
    found = re.search(rf"^{name}:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def scheduler() -> str:
    """ "fifo" when the run has real-time priority, so that other work on the machine cannot take its cores."""
    if not hasattr(os, "sched_getscheduler"):
        return "other"
    return {os.SCHED_FIFO: "fifo", os.SCHED_RR: "rr"}.get(os.sched_getscheduler(0), "other")


def describe() -> dict[str, object]:
    import rollmath

    return {
        "cpu": cpu(),
        "cores": CORES,
        "scheduler": scheduler(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": version("torch"),
        "numba": version("numba"),
        "rollmath": rollmath.__version__,
        "commit": commit(),
    }


def set_threads(n: int) -> None:
    """For every library that is loaded and has threads of its own."""
    import sys

    import rollmath

    rollmath.set_num_threads(n)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(n)
    if "numba" in sys.modules:
        sys.modules["numba"].set_num_threads(n)


def pieces(x: np.ndarray, n: int) -> list[np.ndarray]:
    return np.array_split(x, n)


def bandwidth(megabytes: int) -> dict[str, float]:
    """GB/s, best of five: read, write, copy (read + write) of touched memory, and the first write to fresh memory."""
    count = megabytes * 2**20 // 8
    source, target = np.ones(count, np.int64), np.ones(count, np.int64)
    kernels = {
        "read": (1, lambda a, _: a.max()),  # the fastest reduction that NumPy has: no carried sum, vectorised
        "write": (1, lambda _, b: b.fill(3)),
        "copy": (2, lambda a, b: np.copyto(b, a)),
        "fresh_write": (1, lambda a, _: np.empty_like(a).fill(3)),
    }
    out = {}
    for threads in THREADS:
        parts = list(zip(pieces(source, threads), pieces(target, threads), strict=True))
        with ThreadPoolExecutor(threads) as pool:
            for name, (passes, kernel) in kernels.items():
                best = min(_timed(pool, kernel, parts) for _ in range(5))
                out[f"{name}_t{threads}"] = round(passes * source.nbytes / best / 1e9, 1)
    return out


def _timed(pool: ThreadPoolExecutor, kernel, parts) -> float:
    start = time.perf_counter()
    list(pool.map(lambda ab: kernel(*ab), parts))
    return time.perf_counter() - start

"""Triton without a GPU: a driver that names one, tensors without memory, launches that only compile.

The wrappers of the kernels choose block sizes and warps, and Triton itself derives types and divisibility from their
arguments. So what is compiled here is what a launch would compile, and not a copy of it that could grow old.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

TARGETS = {
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}


class _Driver:
    """The part of Triton's driver that compilation asks. Each target is a device, so that their caches stay apart."""

    def __init__(self, name: str) -> None:
        self.target, self.device = TARGETS[name], list(TARGETS).index(name)

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> int:
        return self.device

    def get_current_stream(self, device: int) -> int:  # noqa: ARG002 - asked with a device
        return 0


class Launch(NamedTuple):
    """One launch that was asked for: the name of the kernel, what it compiled to, and the grid."""

    name: str
    kernel: Any
    grid: tuple[int, ...]


@contextmanager
def launches(target: str) -> Iterator[list[Launch]]:
    """Inside, a launch of any kernel compiles it for ``target`` and is noted instead of run."""
    noted: list[Launch] = []
    run = JITFunction.run

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> Any:  # noqa: ARG001
        kernel = run(self, *args, grid=grid, warmup=True, **options)
        noted.append(Launch(self.fn.__name__, kernel, grid if isinstance(grid, tuple) else ()))
        return kernel

    JITFunction.run = compile_only
    driver.set_active(_Driver(target))  # type: ignore[arg-type]
    try:
        yield noted
    finally:
        JITFunction.run = run


def compiled(target: str, call: Callable[[], object]) -> list[Launch]:
    """The launches of ``call`` on a target."""
    with launches(target) as noted:
        call()
    return noted


def _tool(*command: str, binary: bytes) -> str:
    """Output of one of the tools that Triton brings along, on a file with the machine code."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / command[0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(binary)
        return subprocess.run([tool, *command[1:], path], capture_output=True, text=True, check=True).stdout


def sass(kernel: Any) -> str:
    """Machine code of NVIDIA, as text."""
    return _tool("cuobjdump", "-sass", binary=kernel.asm["cubin"])


def resources(kernel: Any) -> str:
    """``REG:40 STACK:0 SHARED:1024 LOCAL:0 ...``."""
    return _tool("cuobjdump", "-res-usage", binary=kernel.asm["cubin"])

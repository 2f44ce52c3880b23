"""Sizes of the launches: a table for each kind of kernel, and no measuring at run time."""

import contextlib
import os
import warnings
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
import torch


class Config(NamedTuple):
    """How a row is cut: lanes of 16 bytes in a tile, warps that hold them, tiles in flight."""

    lanes: int = 512
    warps: int = 4
    stages: int = 1


#: Every launch says this, so that no default of a Triton version decides what multiplies and adds in one rounding.
FUSION = {"enable_fp_fusion": True}


def launching(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """The context of a launch on tensors of ``device``: Triton launches on the current one, which need not be it."""
    return torch.cuda.device(device) if device.type == "cuda" else _quietly()


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """In the interpreter NumPy does the arithmetic, and warns where a device just gives infinity or NaN."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def config_of(vocab: int, vector: int) -> Config:
    """The sizes for rows of ``vocab`` logits, ``vector`` of them in 16 bytes.

    The environment variable ``ROLLMATH_KERNEL_CONFIG``, for example ``512x4x1`` (lanes, warps, stages), decides alone.
    """
    chosen = os.environ.get("ROLLMATH_KERNEL_CONFIG")
    if chosen:
        return _parsed(chosen)
    lanes = 32
    while lanes < 512 and lanes * vector < vocab:
        lanes *= 2
    return Config(lanes, max(1, lanes // 128), 1)


@cache
def _parsed(text: str) -> Config:
    parts = [int(part) if part.isdigit() else 0 for part in text.split("x")]
    powers = all(part > 0 and part & (part - 1) == 0 for part in parts[:2])
    if not 1 <= len(parts) <= 3 or not powers or not 8 <= parts[0] <= 4096 or parts[-1] < 1:
        msg = "ROLLMATH_KERNEL_CONFIG must be lanes (8 to 4096) x warps x stages with powers of two for the first two"
        raise ValueError(f"{msg}, as 512x4x1, got {text!r}")
    return Config(*parts)


def cdiv(a: int, b: int) -> int:
    """``a / b`` rounded up. Those of Triton take ten times as long, and a launch asks several times."""
    return -(-a // b)


def power_of_two(n: int) -> int:
    """The smallest power of two that is not below ``n``."""
    return 1 << max(0, n - 1).bit_length()


@cache
def _processors(index: int) -> int:
    return torch.cuda.get_device_properties(index).multi_processor_count


def parts_of(rows: int, vocab: int, device: torch.device) -> int:
    """Into how many parts a row is cut, so that few rows still keep a device busy.

    1 from four rows a processor on (528 rows on a device with 132), for rows of less than 32,768 logits, and on a CPU.
    Otherwise the smallest power of two that makes four programs a processor, with 8,192 logits a part at least.
    """
    if device.type != "cuda" or rows == 0:
        return 1
    wanted = 4 * _processors(device.index if device.index is not None else torch.cuda.current_device())
    parts = 1
    while rows * parts < wanted and vocab >= 2 * parts * 8192 and vocab >= 32768:
        parts *= 2
    return parts

"""What a trainer writes with torch alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


def collate(lists: list[list[int]]) -> Callable[[], Any]:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    pad = torch.nn.utils.rnn.pad_sequence
    return lambda: pad([torch.tensor(row, dtype=torch.int64) for row in lists], batch_first=True)


def select(x: np.ndarray, lengths: np.ndarray) -> Callable[[], Any]:
    """``x[mask]``."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    tensor = torch.from_numpy(x)
    mask = torch.arange(x.shape[1])[None, :] < torch.from_numpy(lengths)[:, None]
    return lambda: tensor[mask]

"""Ragged rows back to padded form: out=, fill, aliasing, and arrays that other calls use."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from rollmath import Ragged


class TestScatter:
    """Values taken through a mask go back by their columns; the rules are those of the other path."""

    def test_out_over_the_values_is_refused(self):
        r = Ragged.from_padded(np.array([[5.0, 6.0]]), mask=[[1, 1]])
        with pytest.raises(ValueError, match=r"Ragged.to_padded\(\): 'out' shares memory with 'values'"):
            r.to_padded(out=r.values.reshape(1, 2))
        assert r.values.tolist() == [5.0, 6.0]

    def test_read_only_and_fill(self):
        r = Ragged.from_padded(np.array([[5, 6]], dtype=np.uint8), mask=[[0, 1]])
        out = np.zeros((1, 2), dtype=np.uint8)
        out.setflags(write=False)
        with pytest.raises(ValueError, match="'out' is read-only"):
            r.to_padded(out=out)
        with pytest.raises(ValueError, match="'fill' must fit uint8, got -1"):
            r.to_padded(fill=-1)

    def test_tensors(self):
        torch = pytest.importorskip("torch")
        for dtype in (torch.uint16, torch.bfloat16, torch.bool, torch.int64):
            x = torch.tensor([[1, 0, 1]]).to(dtype)
            r = Ragged.from_padded(x.view(torch.int16).view(dtype) if dtype == torch.bfloat16 else x, mask=[[0, 1, 1]])
            assert r.to_padded(3).tolist() == [[0, 0, 1]]
        with pytest.raises(ValueError, match="'values' requires grad"):
            r.with_values(torch.ones(2, requires_grad=True)).to_padded()
        with pytest.raises(ValueError, match=r"'fill' must fit torch.int8, got 300"):
            Ragged(torch.zeros(1, dtype=torch.int8), [0, 1]).to_padded(fill=300)


def test_a_result_past_all_memory_says_so():
    with pytest.raises(MemoryError, match=r"Ragged.to_padded\(\): cannot allocate a result of shape \(1, 230584"):
        Ragged([1.0], [0, 1]).to_padded(2**61)


def test_positions_cannot_be_written():
    r = Ragged.from_padded(np.eye(3), mask=np.eye(3, dtype=bool))
    for each in (r, pickle.loads(pickle.dumps(r)), r.with_values([1, 2, 3])):
        with pytest.raises(ValueError, match="read-only"):
            each.positions[0] = 1


def test_an_array_that_another_call_writes_is_refused():
    """Threads with one out=: a call finds it borrowed by another. Many rounds, since they must meet."""
    x, lengths, out = np.ones((4096, 512)), np.full(4096, 512), np.empty((4096, 512))
    ragged = Ragged.from_padded(x, lengths=lengths)
    refused = []

    def write():
        for _ in range(60):
            try:
                ragged.to_padded(out=out)
            except ValueError as error:
                refused.append(str(error))

    with ThreadPoolExecutor(4) as pool:
        for job in [pool.submit(write) for _ in range(4)]:
            job.result()
    assert set(refused) == {
        "Ragged.to_padded(): 'out' is in use by another call, or shares memory with another argument"
    }
    assert (out == 1).all()


def test_a_narrow_out_is_named():
    for r in (Ragged.from_lists([[1, 2, 3]]), Ragged.from_padded(np.array([[1, 2, 3]]), mask=[[0, 0, 1]])):
        with pytest.raises(ValueError, match=r"'out' must have at least 3 columns \(= the longest row\), got 2"):
            r.to_padded(out=np.zeros((1, 2), dtype=np.int64))

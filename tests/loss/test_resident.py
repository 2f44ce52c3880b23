"""Columns of rows on a device."""

import gc

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from fused_losses import a_step, assert_same, called  # noqa: E402

from rollmath import Rows  # noqa: E402
from rollmath.loss import PPO, Staleness, _resident  # noqa: E402

# The interpreter computes in NumPy, which warns of infinities that are meant.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def test_columns_of_rows_move_once_and_go_with_them(kernels, device, monkeypatch):
    step, moved = a_step(), []
    real = _resident.Resident._moved
    monkeypatch.setattr(_resident.Resident, "_moved", lambda self, x: (moved.append(len(x)), real(self, x))[1])
    for _ in range(3):
        called(step, PPO(), device)
    assert len(moved) == 3  # rows of positions, rollouts of rows, weights of rows
    before = len(_resident._ALL)
    del step
    gc.collect()
    assert len(_resident._ALL) < before


def test_versions_that_were_written_to_are_moved_again(kernels, device):
    step, versions = a_step(), np.zeros(39, np.int64)
    step.rows = Rows([0, 1, 0, 2, 2], [5, 0, 7, 9, 18], mask=step.mask, version=versions)
    options = {"correction": Staleness(8, 6)}
    for new in (0, 4, 7):
        versions[:] = new
        found = called(step, PPO(), device, **options)
        assert_same(found, called(step, PPO(), **options))


def test_columns_of_rows_on_another_stream(monkeypatch):
    """Its kernels wait for the copies of the first, whose memory is not used again before they are done."""
    step, events, capturing = a_step(), [], False
    here = _resident.resident(step.rows, (39,), torch.device("cpu"))
    here.row(step.rows), here.segments(step.rows, "rollout"), here.weights(np.arange(5.0)), here.weights(np.ones(5))

    class Stream(str):
        def wait_stream(self, other):
            events.append((self, other))

    now = here._stream = Stream("first")
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: now)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: capturing)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda _, stream: events.append(stream))
    here.meet()
    assert events == []
    now = Stream("second")
    for _ in range(2):
        here.meet()
    assert events == [("second", "first"), *["second"] * 6]  # rows, weights, four of segments
    # What a graph reads stays, however many other weights there are later.
    capturing, now, kept = True, Stream("graph"), here.weights(np.arange(5.0))
    here.meet()
    for i in range(9):
        here.weights(np.arange(5.0) + i + 1)
    assert len(events) == 7
    assert len(here._weights) == 4
    assert any(x is kept for x in here._captured.values())

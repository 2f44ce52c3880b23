"""Batches of rows for the tests of losses, and both forms of the arithmetic."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from rollmath import LogProbs, Ragged, Rows

# A script that test_distributed.py runs.
collect_ignore = ["distributed_job.py"]


@dataclass
class Batch:
    """Packed policies of rows with gaps, one advantage and one prompt a rollout."""

    rows: Rows
    theta: object
    prox: object
    behaviour: object
    ref: object
    entropy: object
    advantages: np.ndarray
    prompts: np.ndarray

    @property
    def logprobs(self) -> LogProbs:
        return LogProbs(self.theta, self.prox, self.behaviour, self.ref)

    def lists(self, x):
        """A packed column as a list with one list a row."""
        return Ragged(np.asarray(x.detach() if hasattr(x, "detach") else x), self.rows.offsets).to_lists()


@pytest.fixture(scope="session")
def make_batch():
    """``make_batch(seed)``: rows with gaps, without positions, of rollouts that are scattered over the batch."""
    torch = pytest.importorskip("torch")

    def make(seed: int, n_rows: int = 6, *, dtype=torch.float64, longest: int = 5, spread: float = 0.5) -> Batch:
        rng = np.random.default_rng(seed)
        lengths = rng.integers(0, longest + 1, n_rows)
        total = int(lengths.sum())
        names = [f"rollout {i}" for i in rng.integers(0, max(n_rows // 2, 1), n_rows)]
        mask = None if seed % 5 == 0 else rng.random(total) < 0.7
        rows = Rows(names, lengths, mask=mask, version=rng.integers(-1, 4, total))
        theta = -3 * rng.random(total)
        others = [theta + spread * rng.standard_normal(total) for _ in range(3)]
        policies = [torch.tensor(x, dtype=dtype) for x in (theta, *others)]
        entropy = torch.tensor(rng.random(total), dtype=dtype).requires_grad_()
        return Batch(
            rows,
            policies[0].requires_grad_(),
            *policies[1:],
            entropy,
            rng.standard_normal(rows.n_rollouts),
            rng.integers(0, 2, rows.n_rollouts),
        )

    return make


@pytest.fixture(scope="session")
def use_form():
    """``with use_form("at_once"):`` policy_loss does its arithmetic in that form, whatever the device."""
    pytest.importorskip("torch")
    from rollmath.loss import _engine, _policy_loss

    @contextmanager
    def use(form: str) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_policy_loss, "evaluate", getattr(_engine, form))
            yield

    return use


@pytest.fixture(scope="session")
def use_piece():
    """``with use_piece(3):`` pieces have about three trained tokens."""
    pytest.importorskip("torch")
    from rollmath.loss import _places

    @contextmanager
    def use(size: int) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_places, "PIECE", size)
            yield

    return use


@pytest.fixture(scope="session")
def derivatives():
    """``derivatives(out, theta, entropy)``: the gradients of a loss, as a namespace with the loss and its metrics."""
    torch = pytest.importorskip("torch")

    def get(out, theta, entropy=None):
        wanted = [theta] if entropy is None else [theta, entropy]
        found = torch.autograd.grad(out.loss, wanted)
        return SimpleNamespace(
            loss=out.loss.detach(),
            theta=found[0],
            entropy=None if entropy is None else found[1],
            metrics=out.metrics,
        )

    return get


@pytest.fixture
def kernels(monkeypatch):
    """Small blocks; a call without kernels is an error; counts launches and texts."""
    pytest.importorskip("triton")
    from rollmath.loss import _fused, _generate, _policy_loss
    from rollmath.loss._call import Result

    counted = SimpleNamespace(launches=0, texts=set())
    real = _fused.kernels_of

    class Counted:
        def __init__(self, kernel):
            self.kernel = kernel

        def __getitem__(self, grid):
            counted.launches += 1
            return self.kernel[grid]

    def kernels_of(text):
        counted.texts.add(text)
        return _generate.Kernels(*map(Counted, real(text)))

    def evaluate(call):
        found = _fused.fused(call)
        assert isinstance(found, Result), found
        return found

    monkeypatch.setattr(_fused, "kernels_of", kernels_of)
    monkeypatch.setattr(_policy_loss, "evaluate", evaluate)
    for name, block in {"BLOCK": 32, "SEGMENT_BLOCK": 16, "TILE": 1024}.items():
        monkeypatch.setattr(_fused, name, block)
    return counted

"""Conformance with other trainers' own functions: batches, comparison and a table of the largest differences."""

import importlib
import warnings
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import pytest

# Scripts that run in environments of other peers.
collect_ignore = ["golden"]


@dataclass(frozen=True)
class Batch:
    """Rollouts of ragged groups in random order, one reward each, with a response length each."""

    rewards: np.ndarray
    ids: np.ndarray
    lengths: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        return (np.arange(self.lengths.max()) < self.lengths[:, None]).astype(np.float32)

    def token_rewards(self) -> np.ndarray:
        """[B, T] with the reward on the last response token, where outcome rewards are put."""
        out = np.zeros(self.mask.shape, self.rewards.dtype)
        out[np.arange(len(out)), self.lengths - 1] = self.rewards
        return out


def make_batch(seed: int, kind: str, dtype: str) -> Batch:
    rng = np.random.default_rng(seed)
    sizes = np.concatenate([np.arange(1, 17), [1, 1, 2, 2, 8], rng.integers(1, 17, 20)])
    groups = []
    for size in sizes:
        if kind == "binary":
            rewards = rng.integers(0, 2, size).astype(float)
        else:
            rewards = rng.normal(rng.normal(), 0.2 + rng.random(), size)
        if rng.random() < 0.25:
            # Multiples of 1/8 add up exactly, so that no peer has a rounding residue here; other constants are
            # in tests of their own.
            rewards[:] = rng.integers(-16, 17) / 8
        groups.append(rewards)
    names = np.array([f"prompt-{rng.integers(1 << 60):x}" for _ in sizes], dtype=object)
    ids = np.repeat(names, sizes)
    order = rng.permutation(len(ids))
    return Batch(np.concatenate(groups)[order].astype(dtype), ids[order], rng.integers(1, 40, len(ids)))


@pytest.fixture(
    params=[(s, k, d) for s in (1, 2, 3) for k in ("binary", "real") for d in ("float32", "float64")], ids=str
)
def batch(request) -> Batch:
    return make_batch(*request.param)


@pytest.fixture(scope="session")
def peer():
    """Import a module of a peer; what it warns about on import is its own affair."""

    def load(module: str) -> ModuleType:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(module)

    return load


@pytest.fixture
def agree(record_property):
    """Compare two results and note the largest difference for the table at the end."""

    def check(function: str, ours, theirs, *, atol: float) -> None:
        ours, theirs = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
        assert ours.shape == theirs.shape
        np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))
        difference = float(np.nanmax(np.abs(ours - theirs), initial=0.0))
        record_property("difference", (function, difference))
        assert difference <= atol, f"{function}: {difference} > {atol}"

    return check


def pytest_terminal_summary(terminalreporter):
    worst: dict[str, float] = {}
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, value in report.user_properties:
            if name == "difference":
                worst[value[0]] = max(worst.get(value[0], 0.0), value[1])
    if worst:
        terminalreporter.section("largest absolute differences")
        for function, difference in sorted(worst.items()):
            terminalreporter.write_line(f"{function:60} {difference:.3g}")

"""Conformance with other trainers' own functions: batches, comparison and a table of the largest differences."""

import importlib
import math
import re
import warnings
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

# Scripts that run in environments of other peers.
collect_ignore = ["golden"]

#: Around the generated part of docs/conformance.md.
BEGIN, END = "<!-- begin: written by `make conformance` -->", "<!-- end -->"


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


@dataclass(frozen=True)
class Tokens:
    """Padded ``[B, T]`` rows with gaps, of groups in random order; a row without a trained token; groups of one.

    Rewards are on trained tokens; values and the rest are everywhere, in the padding too, as a model returns them.
    """

    mask: np.ndarray
    ids: np.ndarray
    rewards: np.ndarray
    outcomes: np.ndarray
    values: np.ndarray
    logprobs: np.ndarray
    sum_pi_squared: np.ndarray
    weights: np.ndarray

    @property
    def trained(self) -> np.ndarray:
        return self.mask != 0


def make_tokens(seed: int, dtype: str) -> Tokens:
    rng = np.random.default_rng([seed, 77])
    sizes = [1, 1, 2, 2, 3, 4, 5, 8]
    ids = rng.permutation(np.repeat([f"prompt-{i}" for i in range(len(sizes))], sizes)).astype(object)
    lengths = rng.integers(1, 60, len(ids))
    inside = np.arange(lengths.max()) < lengths[:, None]
    mask = inside & (rng.random(inside.shape) < 0.8)
    mask[3] = False
    last = mask & (mask[:, ::-1].cumsum(1)[:, ::-1] == 1)
    draws = rng.normal(size=(4, *mask.shape))
    pi = rng.random(mask.shape) * 0.98 + 0.01
    arrays = {
        "rewards": draws[0] * mask,
        "outcomes": rng.integers(0, 3, len(ids))[:, None] / 2 * last,
        "values": draws[1],
        "logprobs": np.log(pi),
        # Of a distribution that has `pi` somewhere.
        "sum_pi_squared": pi**2 + (1 - pi) ** 2 * rng.random(mask.shape),
        "weights": np.exp(0.3 * draws[2]),
    }
    return Tokens(mask=mask.astype(np.int64), ids=ids, **{k: v.astype(dtype) for k, v in arrays.items()})


@pytest.fixture(params=[(s, d) for s in (1, 2, 3) for d in ("float32", "float64")], ids=str)
def tokens(request) -> Tokens:
    return make_tokens(*request.param)


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


def pytest_addoption(parser):
    parser.addoption("--write-conformance", help="a file whose generated table to rewrite with the differences seen")


def pytest_terminal_summary(terminalreporter, config):
    worst: dict[str, float] = {}
    golden: dict[tuple[str, str], float] = {}
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, value in report.user_properties:
            if name == "difference":
                worst[value[0]] = max(worst.get(value[0], 0.0), value[1])
            elif name == "golden difference":
                golden[tuple(value[:2])] = max(golden.get(tuple(value[:2]), 0.0), value[2])
    if worst:
        terminalreporter.section("largest absolute differences")
        for function, difference in sorted(worst.items()):
            terminalreporter.write_line(f"{function:60} {difference:.3g}")
    if path := config.getoption("--write-conformance", None):
        missing = [kind for kind in ("failed", "error", "skipped") if terminalreporter.stats.get(kind)]
        if missing or not (worst and golden):
            why = f"{' and '.join(missing)} tests" if missing else "no live or no golden tests"
            terminalreporter.write_line(f"{path} is left as it is: {why}", red=True)
        else:
            write_table(Path(path), worst, golden)


def bound(difference: float) -> str:
    """The power of ten that a difference is below: the same on every machine."""
    return f"1e{math.floor(math.log10(difference)) + 1}" if difference else "0"


def write_table(path: Path, worst: Mapping[str, float], golden: Mapping[tuple[str, str], float]) -> None:
    """The part of ``path`` between the markers."""
    live: dict[str, dict[str, float]] = defaultdict(dict)
    for name, difference in worst.items():
        dtype = next(iter(re.findall(r" (float32|float64)\b", name)), "float64")
        live[re.sub(r" float(32|64)\b", "", name)][dtype] = difference
    lines = ["| live | float32 | float64 |", "|---|---|---|"]
    for name, seen in sorted(live.items(), key=lambda item: item[0].lower()):
        cells = [bound(seen[d]) if d in seen else "-" for d in ("float32", "float64")]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} |")
    lines += ["", "| golden | methods | float32 |", "|---|---|---|"]
    for framework in sorted({framework for framework, _ in golden}):
        seen = {what: difference for (who, what), difference in golden.items() if who == framework}
        methods = ", ".join(f"`{method}`" for method in sorted(seen))
        lines.append(f"| `{framework}` | {methods} | {bound(max(seen.values()))} |")
    head, _, rest = path.read_text().partition(BEGIN)
    path.write_text(head + BEGIN + "\n" + "\n".join(lines) + "\n" + END + rest.partition(END)[2])

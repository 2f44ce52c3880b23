"""Fixtures and rules for all tests. Helpers come as fixtures, because test files cannot import each other."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# A script that only `make test-peers` can import.
collect_ignore = ["reference/trl_job.py"]

HERE = Path(__file__).parent
ROOT = HERE.parent


def _driver() -> bool:
    """Whether a CUDA device is there, without importing torch."""
    try:
        return ctypes.CDLL("libcuda.so.1").cuInit(0) == 0
    except OSError:
        return False


# Without a GPU, Triton kernels run in Triton's interpreter. Triton reads this when a kernel is defined.
if not _driver():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# "fast" is the same on every run; "slow" looks for what nobody has seen yet.
settings.register_profile("fast", max_examples=60, deadline=None, derandomize=True, database=None)
settings.register_profile("slow", max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile(os.environ.get("ROLLMATH_HYPOTHESIS", "fast"))

#: How far a result may be from the float64 oracle, by the dtype of the result. The one place for tolerances. CPU
#: arithmetic is float64 inside, so float32 and float16 inputs cost one rounding.
TOLERANCES = {
    "float64": {"rtol": 1e-11, "atol": 1e-11},
    "float32": {"rtol": 5e-7, "atol": 1e-7},
}


@pytest.fixture(scope="session")
def tolerance():
    """Keywords of ``numpy.testing.assert_allclose`` for the dtype of a result."""
    return lambda dtype: TOLERANCES[str(dtype).removeprefix("torch.")]


# Oracles import what they share from `definitions`.
sys.path.append(str(HERE / "reference"))


@cache
def _module(path: str):
    spec = importlib.util.spec_from_file_location(f"reference_{path.replace('/', '_')[:-3]}", HERE / "reference" / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def oracle():
    """``oracle("group/grpo.py", "grpo")``: the slow, clear float64 reference of a public function."""
    return lambda path, name: getattr(_module(path), name)


@pytest.fixture(scope="session")
def vectors():
    """``vectors("flat")``: hand-checked numbers, ``tests/vectors/flat.json``."""
    return lambda name: json.loads((HERE / "vectors" / f"{name}.json").read_text())


@pytest.fixture(scope="session")
def samples():
    """``samples("math-8-samples")``: a folder of real rollouts (ROLLMATH_SAMPLES, or next to the repository)."""
    root = Path(os.environ.get("ROLLMATH_SAMPLES", ROOT.parent / "shared" / "samples"))

    def folder(name: str) -> Path:
        if not (root / name).is_dir():
            pytest.skip(f"no sample rollouts at {root / name}; set ROLLMATH_SAMPLES")
        return root / name

    return folder


@pytest.fixture(scope="session")
def same_bits():
    """Raises unless two arrays have the same dtype, shape and bits (so that -0.0 is not 0.0, and NaN is NaN)."""

    def check(a, b) -> None:
        a, b = np.asarray(a), np.asarray(b)
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert a.tobytes() == b.tobytes(), f"bits differ at {np.flatnonzero(a.view('u1') != b.view('u1'))[:8]} (bytes)"

    return check


@pytest.fixture(scope="session")
def script():
    """``script(code, **env)`` runs Python code in a process of its own and returns (stdout, stderr).

    The deadline is hard: a process that hangs after a fork is killed with all its children.
    """

    def run(code: str, deadline: float = 60, **env: str) -> tuple[str, str]:
        base = {k: v for k, v in os.environ.items() if "NUM_THREADS" not in k and k != "LOCAL_WORLD_SIZE"}
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env={**base, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=deadline)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            out, err = process.communicate()
            pytest.fail(f"hung for {deadline} s\n{out}\n{err}")
        assert process.returncode == 0, f"exit status {process.returncode}\n{out}\n{err}"
        return out, err

    return run


@cache
def _cuda() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()


def _round_once():
    """The interpreter of Triton 3.6 multiplies, rounds, adds and rounds, where a GPU and that of 3.9 round once."""
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    rounds = InterpreterBuilder.create_fma

    def create_fma(self, x, y, z):
        if z.data.dtype != np.float32:
            return rounds(self, x, y, z)
        # The product of two float32 is exact in float64.
        with np.errstate(all="ignore"):
            exact = np.multiply(x.data, y.data, dtype=np.float64) + z.data
            return TensorHandle(exact.astype(np.float32), z.dtype.scalar)

    InterpreterBuilder.create_fma = create_fma


@pytest.fixture(scope="session")
def device():
    """Where Triton kernels run: the GPU if there is one, else the CPU, in Triton's interpreter."""
    triton = pytest.importorskip("triton")
    if _cuda():
        return "cuda"
    if tuple(map(int, triton.__version__.split(".")[:2])) < (3, 9):
        _round_once()
    return "cpu"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if "device" in item.fixturenames and _cuda():
            item.add_marker(pytest.mark.gpu)
        if item.get_closest_marker("gpu") and not _cuda():
            item.add_marker(pytest.mark.skip(reason="no CUDA device on this machine"))


def _must_not_skip(report, may: bool) -> None:
    """With ROLLMATH_REQUIRE_ALL=1 a missing tool, sample or package is a failure.

    A missing GPU never is, nor a missing peer: `make test-peers` has an environment for those, and there they must run.
    """
    required = os.environ.get("ROLLMATH_REQUIRE_ALL", "0") not in {"", "0"}
    if required and report.skipped and not may and not hasattr(report, "wasxfail"):
        reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"ROLLMATH_REQUIRE_ALL=1 allows no skip, but: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    _must_not_skip(report, may=item.get_closest_marker("gpu") is not None)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    report = yield
    of_a_peer = collector.path.parent == HERE / "conformance"
    _must_not_skip(report, may=of_a_peer and collector.config.option.markexpr != "peers")
    return report

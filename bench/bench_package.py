"""The package itself: time to import, size of the wheel."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.machine import ROOT
from bench.measure import cases


@cases(probe_numpy=1, rollmath=1)
def test_import(measure, quick, provider, threads):
    """Whole interpreters that import NumPy, and NumPy with rollmath."""
    modules = {"probe numpy": "numpy", "rollmath": "numpy, rollmath"}[provider]
    command = [sys.executable, "-c", f"import {modules}"]
    measure(
        "import", provider, lambda: subprocess.run(command, check=True), shape="interpreter start + import", dtype="-",
        threads=threads, rounds=3 if quick else 11,
    )  # fmt: skip


def wheel(folder: Path) -> Path:
    """One that ``make wheel`` left, else one built now."""
    ready = sorted((ROOT / "dist").glob("rollmath-*.whl"), key=lambda p: p.stat().st_mtime)
    newest = max(p.stat().st_mtime for part in ("python", "rust") for p in (ROOT / part).rglob("*.[pr][ys]"))
    if ready and ready[-1].stat().st_mtime >= newest:
        return ready[-1]
    if not shutil.which("cargo") or not importlib.util.find_spec("maturin"):
        pytest.skip("no wheel in dist/ that is newer than the sources; run make wheel")
    command = [sys.executable, "-m", "maturin", "build", "--release", "--locked", "--out", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_wheel_size(measure, quick, tmp_path):
    if quick:
        pytest.skip("builds a wheel")
    measure.size("wheel", "rollmath", wheel(tmp_path).stat().st_size)

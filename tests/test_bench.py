"""The benchmark command: it runs, its outputs agree, its rows are what bench/results holds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytest.importorskip("pytest_benchmark", reason="pytest-benchmark is not installed")


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    # Clean of the variables by which this pytest would speak to the one inside.
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_a_quick_run_keeps_valid_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from bench.measure import validate

    done = bench("--quick", "--no-save", "-k", "groups and not verl", "--json", str(tmp_path / "rows.jsonl"))
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    for row in rows:
        validate(row)
    assert {"rollmath", "python dict bincount"} <= {r["provider"] for r in rows if r["op"] == "grpo_uuid"}
    assert "against rollmath" in done.stdout
    with pytest.raises(ValueError, match="fields differ"):
        validate({**rows[0], "surplus": 1})
    with pytest.raises(ValueError, match="correct"):
        validate({**rows[0], "correct": False})


def test_a_run_without_suites_fails() -> None:
    assert bench("--quick", "-k", "no_such_suite").returncode != 0


def test_outputs_that_disagree_get_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from bench.measure import Measure

    rows: list[dict] = []
    measure = Measure(None, rows, quick=True)  # would fail on None if it came to timing
    for wrong, tolerance in ((1.0, 0.0), (1.1, 1e-3), ((1.0, 2.0), 0.0)):
        with pytest.raises(AssertionError):
            measure("op", "numpy", lambda w=wrong: w, shape="-", dtype="-", expected=2.0, rtol=tolerance)
    assert rows == []


def test_saved_rows_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from bench.measure import validate

    for path in (ROOT / "bench" / "results").glob("*.jsonl"):
        for line in path.read_text().splitlines():
            validate(json.loads(line))


def test_verdicts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from bench.reach import Line, faster, ties, times_of, within

    def row(provider: str, ms: float, kind: str = "alternative", threads: int = 1) -> dict:
        return {"op": "op", "provider": provider, "p50_ms": ms, "kind": kind, "threads": threads}

    rows = [row("rollmath", 2.0, "rollmath"), row("rollmath", 1.0, "rollmath", 2), row("numpy", 1.2)]
    rows += [row("verl", 50.0, "peer"), row("probe", 0.5, "probe"), row("probe", 0.2, "probe", 2)]
    for judge, word in (
        (within(1.0), "met"),
        (within(0.9), "missed"),
        (faster("op", "verl", 40), "met"),
        (faster("op", "verl", 60), "missed"),
        (faster("op", "trl", 60), "not measured"),
        (ties("op"), "tie"),
        (times_of("op", "probe", 5), "met"),
        (times_of("op", "probe", 4.5), "missed"),
    ):
        assert Line("op", "", judge).verdict(rows).word == word

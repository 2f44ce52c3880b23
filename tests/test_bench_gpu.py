"""The GPU benchmark: without a GPU it runs at tiny sizes, checks its outputs, and saves nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
ROOT = Path(__file__).parents[1]


@pytest.fixture
def modules(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from bench.gpu import reach, rows, run

    return reach, rows, run


def test_a_smoke_run_is_right(tmp_path, modules):
    out = tmp_path / "rows.jsonl"
    command = [
        sys.executable,
        "-m",
        "bench.gpu",
        "--smoke",
        "--json",
        str(out),
        "--only",
        "lengths",
        "rows",
        "loss",
        "gae",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = [json.loads(line) for line in out.read_text().splitlines()]
    for row in found:
        modules[1].validate(row)
    mine = {row["op"] for row in found if row["provider"] == "rollmath"}
    assert {"row stats forward", "row stats backward", "policy loss, forward, in a graph", "GAE with gaps"} <= mine


def test_saved_rows_are_valid(modules):
    for path in (ROOT / "bench" / "results" / "gpu").glob("*.jsonl"):
        for line in path.read_text().splitlines():
            modules[1].validate(json.loads(line))


def row(op, provider, ms, **more):
    return {"op": op, "provider": provider, "p50_ms": ms, "dtype": "bfloat16", "peak_bytes": None} | more


def test_verdicts(modules):
    reach = modules[0]
    assert all("not measured" in line for line in reach.verdicts([]))
    rows = [row("row stats forward", "rollmath", 0.6, shape="8192 x 151936", share=0.93)]
    assert "met, 93.0 %" in next(v for v in reach.verdicts(rows) if "met" in v and "not" not in v)
    rows.append(row("row stats forward", "trl kernel", 0.5, shape="8192 x 151936", share=0.99))
    assert "missed, 93.0 % of bandwidth, goal 90 %; best other trl kernel takes 0.83x" in "\n".join(
        reach.verdicts(rows)
    )
    shape = "8192 x 4096 x 151936"
    mine = row("fused linear forward and backward", "rollmath", 54.0, shape=shape, floor_ms=51.6, peak_bytes=3 << 30)
    text = "\n".join(reach.verdicts([mine, row(mine["op"], "liger", 50.0, shape=shape)]))
    assert "met, 1.047x of the 8NVH" in text
    assert "missed, 1.080x of the best other" in text
    assert "missed, 732 MB" in text
    assert "met, 18.0 us, goal 20 us" in "\n".join(
        reach.verdicts([row("policy loss, forward, in a graph", "rollmath", 0.018, shape="1048576 tokens")])
    )


def test_wrong_outputs_get_no_time_and_ours_fail_the_run(modules):
    run = modules[2].Run(smoke=True, backend="torch")
    common = {"shape": "-", "dtype": "float32", "limit": 1e-3}
    run.attempt("op", "torch", lambda: 1.0, error=lambda got: abs(got - 2), **common)
    assert (run.rows, run.failed) == ([], [])
    run.attempt("op", "rollmath", lambda: float("nan"), error=lambda got: abs(got - 2), **common)
    run.attempt("op", "rollmath", lambda: 1 / 0, error=lambda got: 0.0, **common)
    assert run.rows == []
    assert [line.split(":")[0] for line in run.failed] == ["op rollmath -", "op rollmath -"]

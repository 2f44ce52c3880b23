"""``python -m bench.gpu``: check everything against float64, time it, print the table, append to bench/results/gpu."""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import uuid
import warnings
from pathlib import Path

from bench import machine
from bench.gpu import clock, suite_lengths, suite_linear, suite_row_stats, suite_tokens
from bench.gpu.reach import verdicts
from bench.gpu.rows import table, validate
from bench.gpu.run import Run

SUITES = {
    "lengths": suite_lengths.suite,
    "rows": suite_row_stats.suite,
    "linear": suite_linear.suite,
    "loss": suite_tokens.loss_suite,
    "gae": suite_tokens.gae_suite,
}


def main(argv: list[str] | None = None) -> int:
    """Returns 0 also where a goal is missed, which is a result; not 0 where an output of ours is wrong or fails."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--only", nargs="*", choices=SUITES, default=list(SUITES), help="some of the suites")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes; nothing saved; without a GPU, on torch")
    parser.add_argument("--backend", default="auto", choices=("auto", "torch", "triton"), help="of rollmath.vocab")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to FILE")
    parser.add_argument("--commit", help="of the sources, where there is no git to ask")
    options = parser.parse_args(argv)
    if not clock.is_cuda() and not options.smoke:
        print("no CUDA device here; --smoke runs tiny sizes without one")
        return 2
    warnings.filterwarnings("ignore", module="torch")
    import torch._functorch.config

    import rollmath

    torch._functorch.config.donated_buffer = False  # backward passes are repeated on one graph
    smoke = options.smoke
    run = Run(smoke=smoke, backend=options.backend)
    about = {
        "run": uuid.uuid4().hex[:12],
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **clock.describe(),
        "torch": machine.version("torch"),
        "triton": machine.version("triton"),
        "python": platform.python_version(),
        "rollmath": rollmath.__version__,
        "commit": options.commit or machine.commit(),
        "bandwidth_gb_s": run.bandwidth,
    }
    print(about, flush=True)
    for name in options.only:
        print(f"{name}:", flush=True)
        try:
            SUITES[name](run)
        except Exception as problem:
            run.failed.append(f"{name}: {type(problem).__name__}: {problem}")
            print(f"  {run.failed[-1]}", flush=True)
    rows = [row | about | {"matrix_tflop_s": run.matrix and round(run.matrix, 1)} for row in run.rows]
    for row in rows:
        validate(row)
    print(table(rows))
    if not smoke:
        print("\n" + "\n".join(verdicts(rows)))
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if options.json:
        options.json.write_text(text)
    if rows and not smoke:
        path = machine.ROOT / "bench" / "results" / "gpu" / f"{machine.slug(about['device'])}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(text)
        print(f"{len(rows)} rows appended to {path}")
    for line in run.failed:
        print(f"FAILED {line}")
    return int(bool(run.failed))


if __name__ == "__main__":
    raise SystemExit(main())

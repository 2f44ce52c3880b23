"""``python -m bench``: run the suites, print the table, append one row a provider to ``bench/results``."""

import argparse
import datetime
import json
import os
import sys
import uuid
from pathlib import Path

import pytest

from bench import machine
from bench.measure import ROWS, validate
from bench.report import table

HERE = Path(__file__).parent


class Keep:
    """Takes the rows out of the pytest session."""

    def __init__(self) -> None:
        self.rows: list[dict] = []

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self.rows = session.config.stash[ROWS]


def main(argv: list[str] | None = None) -> int:
    """Returns 0 also where a goal is missed, which is a result; not 0 where outputs disagree or nothing ran."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("-k", metavar="EXPRESSION", help="only suites and providers that match, as in pytest")
    parser.add_argument("--quick", action="store_true", help="small sizes, no verdicts, nothing saved")
    parser.add_argument("--no-save", action="store_true", help="append nothing to bench/results")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the rows to FILE")
    parser.add_argument("--label", help="added to the names of the providers: settings of the system in this run")
    options = parser.parse_args(argv)

    run = {
        "run": uuid.uuid4().hex[:12],
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **machine.describe(),
        "bandwidth_gb_s": machine.bandwidth(16 if options.quick else 256),
    }
    print(" ".join(f"{k}={v}" for k, v in run.items() if k != "bandwidth_gb_s"))
    print("memory, GB/s:", " ".join(f"{k}={v}" for k, v in run["bandwidth_gb_s"].items()), flush=True)

    arguments = [
        "-c",
        str(HERE / "pytest.ini"),
        "--rootdir",
        str(HERE),
        str(HERE),
        "-p",
        "benchmark",
        "-rs",
        "--tb=short",
    ]
    arguments += ["--quick"] * options.quick + (["-k", options.k] if options.k else [])
    # No other plugin: what is loaded (hypothesis, xdist, ...) takes seconds and may hook into the calls.
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    keep = Keep()
    status = pytest.main(arguments, plugins=[keep])
    rows = [row | run for row in keep.rows]
    for row in rows:
        row["provider"] += f" ({options.label})" if options.label else ""
    for row in rows:
        validate(row)
    print("\n" + table(rows, quick=options.quick))
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if options.json:
        options.json.write_text(text)
    if rows and not (options.quick or options.no_save):
        path = HERE / "results" / f"{machine.slug(run['cpu'])}.jsonl"
        path.parent.mkdir(exist_ok=True)
        with path.open("a") as file:
            file.write(text)
        print(f"{len(rows)} rows appended to {path.relative_to(machine.ROOT)}")
    return int(status)


if __name__ == "__main__":
    sys.exit(main())

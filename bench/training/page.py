"""The tables of ``docs/evidence.md``: made from the lines of the runs, and put between markers in the prose.

    python -m bench.training.page           write tables and pictures
    python -m bench.training.page --check   say what is not as the lines give it; exit status 1 then

A table lies between a line ``<!-- table: SUITE TASK -->`` and a line ``<!-- end -->``. A suite that tunes gives a
table of learning rates; ``diagnostics TASK`` and ``legend`` are markers too.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.training import curves, tables
from bench.training.arms import ARMS
from bench.training.suites import SUITES, Suite

ROOT = Path(__file__).parents[2]
RESULTS, DOCS = ROOT / "bench" / "results" / "training", ROOT / "docs"
PAGE, PICTURES = "evidence.md", Path("images", "evidence")
_BEGIN, _END = re.compile(r"<!-- table: (.+?) -->"), "<!-- end -->"


class Filled(NamedTuple):
    """A page with its tables.

    Attributes:
        text: of the page.
        stale: markers whose table was another; each with its file and line.
        empty: markers for which there is no data, whose table was kept.
    """

    text: str
    stale: list[str]
    empty: list[str]


def fill(page: Path, results: Path, suites: Mapping[str, Suite] = SUITES) -> Filled:
    """The page as the results give it.

    Raises:
        ValueError: a marker that is not closed or names what there is not; the message names file and line.
    """
    table = _maker(results, suites)
    out: list[str] = []
    stale, empty = [], []
    lines = iter(enumerate(page.read_text(encoding="utf-8").splitlines(), 1))
    for number, line in lines:
        out.append(line)
        if not (found := _BEGIN.fullmatch(line.strip())):
            continue
        where = f"{page}:{number}: table {found[1]}"
        old = _until_end(lines, where)
        try:
            new = table(found[1].split())
        except ValueError as wrong:
            msg = f"{where}: {wrong}"
            raise ValueError(msg) from wrong
        if new is None:
            empty.append(f"{where}: no finished runs in {results}; kept as it is")
        elif (made := ["", *new.splitlines(), ""]) != old:
            stale.append(f"{where}: is not what the lines in {results} give")
            old = made
        out += [*old, _END]
    return Filled("\n".join(out) + "\n", stale, empty)


def _until_end(lines: Iterator[tuple[int, str]], where: str) -> list[str]:
    old: list[str] = []
    for _, line in lines:
        if line.strip() == _END:
            return old
        if _BEGIN.fullmatch(line.strip()):
            break
        old.append(line)
    msg = f"{where}: expected a line {_END} before the next marker and the end of the page"
    raise ValueError(msg)


def _maker(results: Path, suites: Mapping[str, Suite]) -> Callable[[list[str]], str | None]:
    runs, file = curves.read(results), results / curves.DIAGNOSTICS
    lines = [line for _, line in curves.parse(file)] if file.exists() else []
    titles = {name: arm.title for name, arm in ARMS.items()}
    order = list(dict.fromkeys(arm for suite in suites.values() for arm in suite.arms))

    def make(words: list[str]) -> str | None:
        if words == ["legend"]:
            return tables.LEGEND
        if len(words) != 2:
            msg = f"expected SUITE TASK, diagnostics TASK or legend, got {' '.join(words)!r}"
            raise ValueError(msg)
        name, task = words
        if name == "diagnostics":
            return tables.diagnostics(task, lines, order, titles)
        if name not in suites or task not in suites[name].tasks:
            there = "; ".join(f"{suite.name}: {', '.join(suite.tasks)}" for suite in suites.values())
            msg = f"expected a suite and one of its tasks ({there}), got {name!r} {task!r}"
            raise ValueError(msg)
        kind = tables.learning_rates if suites[name].tuning else tables.results
        return kind(suites[name], task, runs, titles)

    return make


def write(results: Path = RESULTS, docs: Path = DOCS, suites: Mapping[str, Suite] = SUITES) -> list[str]:
    """Put the tables into the page; returns which changed, and which have no data. Once more changes nothing."""
    page = docs / PAGE
    filled = fill(page, results, suites)
    if filled.stale:
        page.write_text(filled.text, encoding="utf-8")
    return [line.replace("is not what", "is now what") for line in filled.stale] + filled.empty


def check(results: Path = RESULTS, docs: Path = DOCS, suites: Mapping[str, Suite] = SUITES) -> list[str]:
    """Which tables of the page are not what the results give."""
    return fill(docs / PAGE, results, suites).stale


def pictures(results: Path = RESULTS, docs: Path = DOCS, suites: Mapping[str, Suite] = SUITES) -> list[Path]:
    """Draw those of all suites with runs that the page shows."""
    from bench.training import plots  # matplotlib is only wanted here

    runs, titles = curves.read(results), {name: arm.title for name, arm in ARMS.items()}
    text = (docs / PAGE).read_text(encoding="utf-8")

    def shown(name: str) -> bool:
        return f"({(PICTURES / name).as_posix()})" in text

    return [path for suite in suites.values() for path in plots.write(suite, runs, titles, docs / PICTURES, shown)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.training.page", description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the lines")
    parser.add_argument("--docs", type=Path, default=DOCS, help=f"folder with {PAGE}")
    parser.add_argument("--check", action="store_true", help="write nothing, say which tables are stale")
    options = parser.parse_args(argv)
    if options.check:
        stale = check(options.results, options.docs)
        print("\n".join(stale))
        return int(bool(stale))
    for said in [*write(options.results, options.docs), *pictures(options.results, options.docs)]:
        print(said)
    return 0


if __name__ == "__main__":
    sys.exit(main())

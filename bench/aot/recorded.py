"""The recorded figures, ``bench/results/kernels-aot.json``, and the table of ``docs/kernels.md`` made of them."""

from __future__ import annotations

import json
from pathlib import Path

from bench.aot.figures import Figures

ROOT = Path(__file__).parents[2]
FILE = ROOT / "bench" / "results" / "kernels-aot.json"
PAGE = ROOT / "docs" / "kernels.md"
BEGIN, END = "<!-- kernels-aot -->\n", "<!-- /kernels-aot -->\n"

#: case -> target -> figures
Rows = dict[str, dict[str, Figures]]

HEADER = f"{'kernel':52} {'regs':>5} {'spill':>5} {'instr/el':>8} {'special/el':>10} {'bits':>8} {'bar':>4} {'shfl':>4}"


def line(name: str, now: Figures) -> str:
    """A row for people."""
    bits = ",".join(map(str, now["load_bits"]))
    each = now["per_element"] if now["per_element"] is not None else f"({now['instructions']})"
    special = now["special_per_element"] if now["special_per_element"] is not None else "-"
    lost = now["spills"] + now["stack"]
    return (
        f"{name:52} {now['registers']:5} {lost:5} {each!s:>8} {special!s:>10} {bits:>8} "
        f"{now['barriers']:4} {now['shuffles']:4}"
    )


def _all() -> dict[str, Rows]:
    return json.loads(FILE.read_text()) if FILE.exists() else {}


def load(version: str) -> Rows:
    """What is recorded for this version of Triton."""
    return _all().get(version, {})


def save(version: str, rows: Rows, *, whole: bool) -> None:
    """Record. Unless they are the whole, cases and targets that were not compiled now keep what they have."""
    known = _all()
    before = {} if whole else known.get(version, {})
    known[version] = before | {name: before.get(name, {}) | targets for name, targets in rows.items()}
    FILE.write_text(_lines(known))
    if PAGE.exists():
        head, rest = PAGE.read_text().split(BEGIN)
        _, tail = rest.split(END)
        PAGE.write_text(head + BEGIN + table(known) + END + tail)


def _lines(known: dict[str, Rows]) -> str:
    """JSON with one case on one target a line, so that a change shows as one line."""

    def block(x: dict[str, object], depth: int) -> str:
        if depth == 3:
            return json.dumps(x)
        inside = (f"{json.dumps(key)}: {block(value, depth + 1)}" for key, value in x.items())
        return "{\n" + ",\n".join(f"{' ' * (depth + 1)}{line}" for line in inside) + "\n" + " " * depth + "}"

    return block(known, 0) + "\n"


def table(known: dict[str, Rows]) -> str:
    """The figures in Markdown: one table per version of Triton, newest first."""
    parts = []
    for version in sorted(known, key=lambda v: [int(p) for p in v.split(".")[:2]], reverse=True):
        targets = list(dict.fromkeys(t for row in known[version].values() for t in row))
        targets = [t for t in ("sm_90", "sm_80", "sm_100", "gfx942") if t in targets]
        parts.append(f"\nTriton {version}:\n")
        parts.append("| kernel | " + " | ".join(targets) + " |")
        parts.append("|---" * (len(targets) + 1) + "|")
        for name, row in known[version].items():
            cells = [_cell(row[t]) if t in row else "" for t in targets]
            shown = name.replace("|", "\\|")
            parts.append(f"| {shown} | " + " | ".join(cells) + " |")
    return "\n".join(parts) + "\n\n"


def _cell(now: Figures) -> str:
    each = f"{now['per_element']:.1f}" if now["per_element"] is not None else f"({now['instructions']})"
    return f"{each}, {now['registers']}" + ", spills" * bool(now["spills"] or now["stack"])

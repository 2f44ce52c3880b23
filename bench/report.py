"""The table of a run, in plain text."""

from itertools import groupby
from typing import Any

from bench.reach import TIE, verdicts

HEAD = ("provider", "output", "threads", "p20 ms", "p50 ms", "p80 ms", "rounds", "against rollmath")


def against(row: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """How many times as long as rollmath, whose best row with the same kind of output counts."""
    mine = [r for r in rows if r["kind"] == "rollmath"]
    plain = [r for r in mine if r["provider"] == "rollmath"] or mine
    like = [r for r in plain if r["output"] == row["output"]] or plain
    if not like or row["kind"] == "rollmath":
        return ""
    ratio = row["p50_ms"] / min(r["p50_ms"] for r in like)
    return f"{ratio:.2f}x" + (" (tie)" if 1 / TIE <= ratio <= TIE else "")


def table(rows: list[dict[str, Any]], *, quick: bool) -> str:
    lines = []
    for (op, shape), members in groupby(rows, key=lambda r: (r["op"], r["shape"])):
        part = list(members)
        if part[0]["p50_ms"] is None:
            sizes = [f"{r['bytes']} bytes" if r["count"] is None else str(r["count"]) for r in part]
            lines += [f"{op}: {n} ({r['provider']})" for n, r in zip(sizes, part, strict=True)] + [""]
            continue
        cells = [HEAD] + [
            (
                r["provider"],
                r["output"],
                str(r["threads"]),
                *(f"{r[f'{p}_ms']:.3f}" for p in ("p20", "p50", "p80")),
                str(r["rounds"]),
                against(r, part),
            )
            for r in part
        ]
        widths = [max(len(c[i]) for c in cells) for i in range(len(HEAD))]
        lines.append(f"{op}: {shape}")
        lines += [
            "  "
            + "  ".join(t.ljust(w) if i < 2 else t.rjust(w) for i, (t, w) in enumerate(zip(c, widths, strict=True)))
            for c in cells
        ]
        lines.append("")
    if quick:
        return "\n".join([*lines, "Small sizes: no verdicts."])
    judged = verdicts(rows)
    width = max((len(what) for what, _ in judged), default=0)
    return "\n".join(lines + [f"{what.ljust(width)}  {v.word.ljust(12)}  {v.text}" for what, v in judged])

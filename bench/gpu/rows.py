"""Rows of results: what each must have, and the table of a run."""

from __future__ import annotations

from typing import Any

NUMBER = (float, type(None))
#: Every row of bench/results/gpu has these fields with these types.
SCHEMA: dict[str, tuple[type, ...]] = {
    "op": (str,),
    "provider": (str,),
    "shape": (str,),
    "dtype": (str,),
    "p20_ms": NUMBER,
    "p50_ms": NUMBER,
    "p80_ms": NUMBER,
    "floor_ms": NUMBER,
    "share": NUMBER,
    "error": NUMBER,
    "peak_bytes": (int, type(None)),
    "count": (int, type(None)),
    "note": (str,),
    "peer_version": (str, type(None)),
    "run": (str,),
    "date": (str,),
    "device": (str,),
    "driver": (str, type(None)),
    "cuda": (str, type(None)),
    "capability": (str, type(None)),
    "torch": (str, type(None)),
    "triton": (str, type(None)),
    "python": (str,),
    "rollmath": (str,),
    "commit": (str, type(None)),
    "bandwidth_gb_s": (dict,),
    "matrix_tflop_s": NUMBER,
}


def validate(row: dict[str, Any]) -> None:
    """Raises ValueError unless a row has exactly the fields of SCHEMA."""
    if row.keys() != SCHEMA.keys():
        msg = f"row fields differ: {sorted(row.keys() ^ SCHEMA.keys())}"
        raise ValueError(msg)
    wrong = {name: row[name] for name, types in SCHEMA.items() if type(row[name]) not in types}
    if wrong:
        msg = f"row fields have wrong types: {wrong}"
        raise ValueError(msg)


def table(rows: list[dict[str, Any]]) -> str:
    """One block an op and shape."""
    lines, last = [], None
    blocks = list(dict.fromkeys((row["op"], row["shape"], row["dtype"]) for row in rows))
    for row in sorted(rows, key=lambda r: blocks.index((r["op"], r["shape"], r["dtype"]))):
        if (row["op"], row["shape"], row["dtype"]) != last:
            last = row["op"], row["shape"], row["dtype"]
            lines.append(f"\n{row['op']}: {row['shape']} {row['dtype']}")
        cells = [f"{row[f'{p}_ms']:10.4f}" if row[f"{p}_ms"] is not None else " " * 10 for p in ("p20", "p50", "p80")]
        cells.append(f"{100 * row['share']:6.1f} %" if row["share"] is not None else " " * 8)
        cells.append(f"error {row['error']:.1e}" if row["error"] is not None else " " * 13)
        cells.append(f"{row['peak_bytes'] / 2**20:8.0f} MiB" if row["peak_bytes"] is not None else " " * 12)
        cells.append(str(row["count"]) if row["count"] is not None else "")
        lines.append(f"  {row['provider']:34}" + " ".join(cells) + f"  {row['note']}".rstrip())
    return "\n".join(lines)

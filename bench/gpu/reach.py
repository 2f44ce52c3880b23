"""What the kernels are meant to reach, judged on the rows of one run."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]


def _rows(rows: list[Row], op: str, shape: str = "", provider: str = "rollmath") -> list[Row]:
    return [r for r in rows if r["op"] == op and r["provider"] == provider and shape in ("", r["shape"])]


def _peers(rows: list[Row], mine: Row) -> list[Row]:
    return [
        r
        for r in rows
        if (r["op"], r["shape"], r["dtype"]) == (mine["op"], mine["shape"], mine["dtype"])
        and not r["provider"].startswith("rollmath")
    ]


def verdicts(rows: list[Row]) -> list[str]:
    """One line a goal: met, missed, or not measured."""
    return [
        *_share(rows, "row stats forward", [f"{n} x {v}" for n in (8192, 32768) for v in (128256, 151936)], 0.90),
        *_share(rows, "row stats backward", [f"8192 x {v}" for v in (128256, 151936)], 0.90),
        *_fused(rows),
        _under(rows, "policy loss, forward, in a graph", 0.020),
        _under(rows, "GAE with gaps", 0.100),
        _none(rows, "new lengths that took 20 ms more"),
    ]


def _word(good: bool) -> str:
    return "met" if good else "missed"


def _share(rows: list[Row], op: str, shapes: list[str], least: float) -> list[str]:
    lines = []
    for shape in shapes:
        found = [r for r in _rows(rows, op, shape) if r["dtype"] == "bfloat16"]
        if not found:
            lines.append(f"{op} {shape}: not measured")
            continue
        mine = found[0]
        others = _peers(rows, mine)
        best = min(others, key=lambda r: r["p50_ms"], default=None)
        text = f"{100 * mine['share']:.1f} % of bandwidth, goal {100 * least:.0f} %"
        if best is not None:
            text += f"; best other {best['provider']} takes {best['p50_ms'] / mine['p50_ms']:.2f}x"
        good = mine["share"] >= least and (best is None or best["p50_ms"] >= mine["p50_ms"])
        lines.append(f"{op} {shape}: {_word(good)}, {text}")
    return lines


def _fused(rows: list[Row]) -> list[str]:
    found = _rows(rows, "fused linear forward and backward")
    if not found:
        return ["fused linear forward and backward: not measured"]
    mine = found[0]
    ratio = mine["p50_ms"] / mine["floor_ms"]
    others = [r["p50_ms"] for r in _peers(rows, mine)]
    against = mine["p50_ms"] / min(others) if others else 0.0
    # The gradient of the weight is an output that everybody has to write, in float32 until the end.
    _, width, vocab = (int(part) for part in mine["shape"].split(" x "))
    extra = None if mine["peak_bytes"] is None else mine["peak_bytes"] - width * vocab * 4
    lines = [
        f"fused linear: {_word(ratio <= 1.08)}, {ratio:.3f}x of the 8NVH matrix time, goal 1.08x",
        f"fused linear: {_word(against <= 1.05)}, {against:.3f}x of the best other, goal 1.05x",
    ]
    if extra is not None:
        lines.append(
            f"fused linear: {_word(extra < 600e6)}, {extra / 1e6:.0f} MB and a float32 gradient of the weight, goal 600"
        )
    return lines


def _under(rows: list[Row], op: str, limit: float) -> str:
    found = _rows(rows, op)
    if not found:
        return f"{op}: not measured"
    return f"{op}: {_word(found[0]['p50_ms'] <= limit)}, {1e3 * found[0]['p50_ms']:.1f} us, goal {1e3 * limit:.0f} us"


def _none(rows: list[Row], op: str) -> str:
    found = _rows(rows, op)
    return f"{op}: " + (f"{_word(found[0]['count'] == 0)}, {found[0]['count']}" if found else "not measured")

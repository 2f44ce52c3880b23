"""An audit as plain text, at most 96 columns wide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rollmath._audit_match import Match

if TYPE_CHECKING:
    from rollmath._audit_result import Audit

_WIDTH = 96
_LABEL = 13
_NAMES = 6
_GROUPING = {
    "ids": "",
    "batch": " with the whole batch as one group",
    "consecutive": " with groups by position",
}


def text_of(audit: Audit) -> str:
    """The whole report."""
    lines = [title(audit), ""]
    for label, sentences in facts(audit):
        for i, text in enumerate(sentences):
            lines += _wrapped("" if i else label, text)
    if rows := why(audit):
        lines += ["", *_table(*rows)]
    if audit.findings:
        lines += ["", "look at"]
        for text in remarks(audit):
            lines += _wrapped("-", text, indent=2)
    return "\n".join(lines).rstrip()


def title(audit: Audit) -> str:
    """One line: how much there is, and whose advantages."""
    s = audit.summary
    lo, hi = s["group_size_min"], s["group_size_max"]
    sizes = "" if lo is None else f" of {lo}" if lo == hi else f" of {lo} to {hi}"
    return f"Audit of {_count(s['rollouts'], 'rollout')} in {_count(s['groups'], 'group')}{sizes}"


def facts(audit: Audit) -> list[tuple[str, list[str]]]:
    """Label and sentences of each part of the summary."""
    s = audit.summary
    left = [f"{_count(s['not_valid'], 'rollout')}, in none of the numbers here"]
    made = [("not valid", left)] if s["not_valid"] else []
    if not s["rollouts"]:
        return made
    made.append(("signal", [_signal(s)]))
    if s["rewards"]:
        made += [("rewards", [_rewards(s)]), ("groups", [_spread(s)])]
    made.append(("advantages", _advantages(s)))
    if s["length_mean"] is not None:
        made.append(("length", _length(s)))
    if s["truncated"]:
        made.append(("truncated", [_truncated(s)]))
    made.append(("convention", _convention(audit)))
    return made


def remarks(audit: Audit) -> list[str]:
    """The findings in words, with their first rows."""
    return [f.text + (f" (rows {_some(f.rows)})" if f.rows else "") for f in audit.findings]


def why(audit: Audit) -> list[list[str]]:
    """Cells of the table of reasons, its head first; empty if every rollout carries signal."""
    rows = [row for row in audit.why if row["reason"] != "signal"]
    if not rows:
        return []
    tokens = rows[0]["token_share"] is not None
    made = [["why no signal", "rollouts", "share", "groups", *["tokens"] * tokens, "groups that lose most"]]
    for row in rows:
        ids = ", ".join(map(short, row["ids"])) + (", ..." if row["groups"] > len(row["ids"]) else "")
        cells = [row["reason"], f"{row['rollouts']:,}", percent(row["share"]), f"{row['groups']:,}"]
        made.append([*cells, *[percent(row["token_share"])] * tokens, ids])
    return made


def percent(x: float | None) -> str:
    """A share in percent."""
    return "-" if x is None else f"{100 * x:.1f}%"


def short(x: Any) -> str:
    """An id on one line, at most 12 characters of it: the end, where ids differ, rather than the middle."""
    text = " ".join(str(x).split())
    return text if len(text) <= 12 else f"{text[:3]}...{text[-6:]}"


def _signal(s: dict[str, Any]) -> str:
    text = (
        f"{s['signal_rollouts']:,} of {_count(s['rollouts'], 'rollout')} ({percent(s['effective_rollouts'])}), "
        f"{s['signal_groups']:,} of {_count(s['groups'], 'group')} ({percent(s['effective_groups'])})"
    )
    if s["tokens"] is not None:
        text += f", {s['signal_tokens']:,} of {_count(s['tokens'], 'token')} ({percent(s['effective_tokens'])})"
    return text


def _rewards(s: dict[str, Any]) -> str:
    parts = [f"mean {_num(s['reward_mean'])}, std {_num(s['reward_std'])}", _count(s["distinct_rewards"], "value")]
    for at, bound, words in (("at_low", "low", "at the bottom"), ("at_high", "high", "at the top")):
        if s[bound] is not None:
            parts.append(f"{percent(s[at])} {words} ({_num(s[bound])})")
    return ", ".join(parts)


def _spread(s: dict[str, Any]) -> str:
    text = f"{percent(s['mixed_groups'])} have spread"
    if s["low"] is not None:
        text += f", {percent(s['all_low_groups'])} all at the bottom"
    if s["high"] is not None:
        text += f", {percent(s['all_high_groups'])} all at the top"
    return text


def _advantages(s: dict[str, Any]) -> list[str]:
    if s["advantage_mean"] is None:
        return ["none that is trained on"]
    # A mean of this size is what rounding leaves of 0.
    mean = s["advantage_mean"]
    size = (s["advantage_abs_sum"] or 0.0) / (s["positive"] + s["negative"] + s["zero"])
    mean = 0.0 if abs(mean) < 1e-6 * size else mean
    values = (
        f"mean {_num(mean)}, std {_num(s['advantage_std'])}, {_num(s['advantage_min'])} to "
        f"{_num(s['advantage_max'])}; {s['positive']:,} positive, {s['negative']:,} negative, {s['zero']:,} zero"
    )
    total = (
        f"sum of |A| {_num(s['advantage_abs_sum'])}; effective sample size {_num(s['effective_sample_size'])} of "
        f"{s['trained_rollouts']:,}"
    )
    return [values, total]


def _length(s: dict[str, Any]) -> list[str]:
    made = [f"mean {_num(s['length_mean'])} trained tokens"]
    if s["length_positive"] is not None and s["length_negative"] is not None:
        made[0] += f"; {_num(s['length_positive'])} where A > 0, {_num(s['length_negative'])} where A < 0"
    if s["length_reward_correlation"] is not None:
        within = _count(s["length_reward_groups"], "group")
        made.append(f"correlation with the reward {s['length_reward_correlation']:.2f} (mean within {within})")
    if s["positive_mass"] is not None:
        by_token = percent(s["positive_token_mass"])
        made.append(f"A > 0 has {percent(s['positive_mass'])} of sum |A| by rollout, {by_token} by token")
    return made


def _truncated(s: dict[str, Any]) -> str:
    text = (
        f"{_count(s['truncated'], 'rollout')}, {s['truncated_signal']:,} with signal, "
        f"{s['truncated_positive']:,} with A > 0"
    )
    if s["truncated_reward_mean"] is not None and s["finished_reward_mean"] is not None:
        means = _num(s["truncated_reward_mean"]), _num(s["finished_reward_mean"])
        text += f", mean reward {means[0]} (others {means[1]})"
    return text


def _convention(audit: Audit) -> list[str]:
    if not audit.given:
        return [f"advantages computed here: {audit.method} of {audit.convention}"]
    if not audit.matches:
        return [_nothing(audit)]
    best, asked = audit.matches[0], audit.asked
    fit = [m for m in audit.matches if m.off == 0]
    if fit:
        made = [f"the given advantages look like {_names(best)}: largest difference {_tiny(best.difference)}"]
        made += [f"within the tolerance too: {_names(m)}: {_tiny(m.difference)}" for m in fit[1:4]]
        if len(fit) > 4:
            made.append(f"and {len(fit) - 4} more")
    elif 2 * best.off < best.compared:
        most = f"all but {best.off:,} of {best.compared:,} look like {_names(best)}"
        made = [f"{most}: largest difference {_tiny(best.within)}"]
    else:
        made = [f"none that we know; nearest {_names(best)}: {_off(best)}"]
    if asked is not None and asked.off and asked is not best:
        made.append(f"not like {audit.method} of {audit.convention}: {_off(asked)}")
    return made


def _nothing(audit: Audit) -> str:
    """Why the advantages were compared with nothing."""
    s = audit.summary
    if "zero advantage" in audit.rows and s["zero"] == s["trained_rollouts"]:
        return "all advantages are 0, though groups have spread: none of the formulas"
    varies = [f.rollouts for f in audit.findings if f.kind == "varies"]
    if varies and varies[0] == s["trained_rollouts"]:
        return "advantages differ from token to token in every rollout: not compared"
    return "no rollout tells conventions apart"


def _off(m: Match) -> str:
    if m.undefined:
        how = "NaN there" if m.undefined == m.off else f"{m.undefined:,} of them NaN there"
    else:
        how = f"by up to {_tiny(m.difference)}" if m.difference < math.inf else "some NaN or infinite here"
    return f"{m.off:,} of {m.compared:,} off, {how}"


def _names(m: Match) -> str:
    """``grpo of VERL, SKYRL``."""
    by_method: dict[str, list[str]] = {}
    for name in m.names:
        framework, _, method = name.rpartition(" ")
        by_method.setdefault(method, []).append(framework)
    parts = []
    for method, names in by_method.items():
        more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
        parts.append(f"{method} of {', '.join(names[:_NAMES])}{more}")
    return "; ".join(parts) + _GROUPING[m.grouping]


def _num(x: float | None) -> str:
    if x is None:
        return "-"
    return f"{x + 0.0:.4g}" if abs(x) < 1e4 else f"{x:,.0f}" if abs(x) < 1e12 else f"{x:.3g}"


def _tiny(x: float | None) -> str:
    return f"{x:.1e}" if x else "0"


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def _some(rows: Sequence[int]) -> str:
    return ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")


def _wrapped(label: str, text: str, indent: int = _LABEL) -> list[str]:
    """The label and the text beside it, broken at spaces."""
    lines, line = [], label.ljust(indent)
    for word in text.split(" "):
        if len(line) + len(word) > _WIDTH and line.strip() and line != label.ljust(indent):
            lines.append(line.rstrip())
            line = " " * indent
        line += word + " "
    return [*lines, line.rstrip()]


def _table(*rows: list[str]) -> list[str]:
    """Columns, numbers to the right; the last one is cut at the width."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=False))
        ]
        line = "  ".join([*cells, row[-1]])
        lines.append(line if len(line) <= _WIDTH else line[: _WIDTH - 3] + "...")
    return lines

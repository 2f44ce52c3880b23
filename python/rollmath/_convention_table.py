"""The conventions of all frameworks side by side, as text and as the markdown of ``docs/conventions.md``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from rollmath._arrays import Immutable
from rollmath._convention import Convention, Framework

#: What a method divides by: "s" a standard deviation, "mean", "" nothing; others have "d", which is theirs to explain.
_DIVISORS = {
    **dict.fromkeys(("gigpo", "gigpo_episode", "gigpo_step", "hgpo"), "s"),
    **dict.fromkeys(("grpo", "gdpo", "lite_ppo", "passk", "quantile_baseline", "spo", "stratified"), "s"),
    **dict.fromkeys(("tree_grpo", "tree_rpo", "treepo_spo"), "s"),
    **dict.fromkeys(("g2po", "graft", "graphgpo", "rewardflow"), "s"),
    "maxrl": "mean",
    **dict.fromkeys(
        ("dr_grpo", "gpg", "opmd", "opo", "optimal_baseline", "reinforce_pp_baseline", "remax", "rloo"), ""
    ),
    **dict.fromkeys(("rloo_vectorized", "tree_rl", "treepo", "treepo_segment"), ""),
}
_KNOWN = {"live": "executed live", "golden": "golden vector", "read": "code read", "paper": "paper text"}
_MISSING = {"raise": "error", "omit": "left out, gets 0", "propagate": "NaN for its group"}
_COLUMNS = (
    "convention", "method", "denominator", "eps", "ddof", "group of one", "no spread", "missing reward", "options",
    "known from",
)  # fmt: skip
#: In print the options are last, where they are cut.
_PRINTED = (*(name for name in _COLUMNS if name != "options"), "options")
_WIDTH = 120
#: Columns that give way where the table is wider, and what they keep.
_SHRINK = (("options", 18), ("denominator", 12), ("method", 16), ("options", 7), ("method", 14))


class ConventionTable(Immutable):
    """One row a framework and method; ``print`` it, or take :attr:`rows` or :meth:`markdown`.

    In print it is 120 columns wide: long cells are cut with "...", and a wide table leaves out the versions.
    """

    _rows: tuple[dict[str, str], ...]
    _how: tuple[str, ...]

    def __init__(self, default: Convention, frameworks: Mapping[str, Framework], method: str | None = None) -> None:
        named = [(name, each, framework) for name, framework in frameworks.items() for each in framework.known]
        kept = [(name, each, framework) for name, each, framework in named if method in {None, each}]
        if not kept and method is not None:
            has = ", ".join(sorted({each for _, each, _ in named}))
            msg = f"table(): 'method' must be one that a framework has ({has}), got {method!r}"
            raise ValueError(msg)
        rows, how = [], []
        if method is None or any(each in framework for _, each, framework in kept):
            rows, how = [_row("DEFAULT", "all", default, {}, "our choice", "")], ["-"]
        for name, each, framework in kept:
            known, given = framework.known[each], framework.options.get(each, {})
            rows.append(_row(name, each, framework.get(each), given, _KNOWN[known], framework.version))
            how.append(known)
        self._fill(_rows=tuple(rows), _how=tuple(how))

    @property
    def rows(self) -> list[dict[str, str]]:
        """A dict a row; its keys are the columns, and ``"version"``."""
        return [dict(row) for row in self._rows]

    def markdown(self) -> str:
        """The table of ``docs/conventions.md``."""
        code = {"convention", "method", "options"}
        lines = ["| " + " | ".join(_COLUMNS) + " |", "|" + "---|" * len(_COLUMNS)]
        for row in self._cells():
            cells = [
                f"`{cell}`" if name in code and cell not in {"-", "all"} else cell
                for name, cell in zip(_COLUMNS, row, strict=True)
            ]
            lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
        return "\n".join(lines)

    def _cells(self, columns: tuple[str, ...] = _COLUMNS) -> list[list[str]]:
        def cell(row: dict[str, str], name: str) -> str:
            return f"{row['version']}, {row[name]}" if name == "known from" and row["version"] else row[name]

        return [[cell(row, name) for name in columns] for row in self._rows]

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        rows = [list(_PRINTED), *self._cells(_PRINTED)]
        used = [i for i in range(len(_PRINTED)) if any(row[i] != "-" for row in rows[1:])]
        columns = {_PRINTED[i]: [row[i] for row in rows] for i in used}
        widths = {name: max(map(len, cells)) for name, cells in columns.items()}
        if _over(widths) > 0:
            columns["known from"] = ["known", *self._how]
            widths["known from"] = max(map(len, columns["known from"]))
        for name, least in _SHRINK:
            if name in widths:
                widths[name] = max(min(least, widths[name]), widths[name] - max(_over(widths), 0))
        shown = [[_cut(cell, widths[name]).ljust(widths[name]) for cell in cells] for name, cells in columns.items()]
        return "\n".join("  ".join(row).rstrip() for row in zip(*shown, strict=True))


def _over(widths: Mapping[str, int]) -> int:
    """By how much columns are too wide together."""
    return sum(widths.values()) + 2 * (len(widths) - 1) - _WIDTH


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."


def _row(
    name: str, method: str, rules: Convention | None, options: Mapping[str, Any], how: str, version: str
) -> dict[str, str]:
    row = dict.fromkeys(_COLUMNS, "-") | {"convention": name, "version": version, "method": method, "known from": how}
    if options:
        row["options"] = ", ".join(f"{key}={_short(value)}" for key, value in options.items())
    if rules is None:  # keywords alone
        return row
    divisor = "s" if method == "all" else _DIVISORS.get(method, "d")
    if divisor:
        row |= {"denominator": _denominator(rules, divisor), "eps": _number(rules.eps)}
    if divisor not in {"", "mean"}:
        row["ddof"] = str(rules.ddof)
    # Where nothing is divided, equal rewards give 0 whatever the policy.
    spread = {"zero": "0", "unscaled": "x - center", "nan": "NaN", "raise": "error"}[rules.zero_spread]
    if method == "remax":  # no groups
        return row | {"missing reward": _MISSING[rules.nan]}
    return row | {
        "group of one": _singleton(rules, divisor),
        "no spread": spread if divisor else "0",
        "missing reward": _MISSING[rules.nan],
    }


def _denominator(rules: Convention, s: str) -> str:
    if rules.eps == 0:
        return s
    forms = {
        "add": f"{s} + eps",
        "max": f"max({s}, eps)",
        "sqrt": f"sqrt({s}^2 + eps)",
        "where_positive": f"{s} + eps if {s} > 0, else 1",
    }
    return forms[rules.eps_place]


def _singleton(rules: Convention, divisor: str) -> str:
    """What the only member x of a group gets: mean 0 and standard deviation 1 are taken for "raw", |x| for "abs"."""
    if rules.singleton in {"zero", "nan", "raise"}:
        return {"zero": "0", "nan": "NaN", "raise": "error"}[rules.singleton]
    if not divisor:
        return "x"
    size = "1" if rules.singleton == "raw" else "|x|"
    if rules.eps_place == "max" and size == "1" and rules.eps <= 1:
        return "x"
    # Of "where positive", the case that it is: a reward of 0 gives 0 either way.
    below = _denominator(rules, size).partition(" if ")[0].replace("1^2", "1")
    return "x" if below == "1" else f"x / {below}" if " " not in below or "(" in below else f"x / ({below})"


def _number(x: float) -> str:
    digits, exponent = f"{x:e}".split("e")
    if x == 0 or int(exponent) >= -2:
        return f"{x:g}"
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"


def _short(value: Any) -> str:
    """The repr of an option; of a dataclass, the fields that are not its defaults."""
    if is_dataclass(value) and not isinstance(value, type):
        changed = [(f.name, getattr(value, f.name)) for f in fields(value) if getattr(value, f.name) != f.default]
        return f"{type(value).__name__}({', '.join(f'{name}={_short(x)}' for name, x in changed)})"
    return _number(value) if isinstance(value, float) else repr(value)

"""Forests as DOT and as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rollmath._layout import Layout

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLUE, _ORANGE, _GREY = (0x5B, 0x9B, 0xD5), (0xF0, 0x9A, 0x4E), "#e8e8e8"
#: Pixels: a character, a line, the space around text, between columns, and around all.
_CHAR, _LINE, _PAD, _GAP, _EDGE = 7.25, 22, 6, 36, 8


class Picture(NamedTuple):
    """What a drawing shows."""

    forest: Layout
    labels: Sequence[Any]
    values: NDArray[Any] | None
    max_label: int

    def texts(self) -> tuple[list[str], list[str]]:
        """What each node shows, and its whole label."""
        whole = ["" if label is None else printable(str(label)) for label in self.labels]
        shown = [text if len(text) <= self.max_label else text[: self.max_label - 1] + "…" for text in whole]
        if self.values is not None:
            shown = [f"{a}  {x:.3g}".strip() for a, x in zip(shown, self.values.tolist(), strict=True)]
        return shown, whole

    def colours(self) -> list[str]:
        """White for 0, blue above, orange below, as strong as the value is beside the largest; grey for NaN."""
        if self.values is None:
            return ["#ffffff"] * len(self.labels)
        x = self.values.astype(np.float64)
        finite = np.abs(x[np.isfinite(x)])
        top = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
        share = np.minimum(np.abs(x) / top, 1.0).tolist()
        return [
            _GREY if np.isnan(v) else mixed(part, _BLUE if v > 0 else _ORANGE)
            for v, part in zip(x.tolist(), share, strict=True)
        ]

    def thickness(self) -> NDArray[np.float64]:
        """Of the edge above each node: 1 for one leaf, and slowly more."""
        return np.round(1 + 0.7 * np.log2(self.forest.leaf_counts), 1)


def mixed(share: float, colour: tuple[int, int, int], zero: int = 255) -> str:
    """A colour of which there is only a share, the rest is white, or another grey."""
    return "#" + "".join(f"{round(zero + (c - zero) * share):02x}" for c in colour)


def printable(text: str) -> str:
    """On one line, and without what XML cannot hold."""
    line = " ".join(text.split())
    return line if line.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)


def dot(picture: Picture) -> str:
    """In the DOT language."""
    forest, (shown, _) = picture.forest, picture.texts()
    lines = [
        "digraph forest {",
        "  rankdir=LR",
        '  node [shape=box, style="rounded,filled", fillcolor="#ffffff", fontname=monospace]',
        "  edge [arrowhead=none]",
    ]
    colours = picture.colours()
    for v in forest.order.tolist():
        # A backslash begins an escape in a label, and a quote ends it.
        text = shown[v].replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'  {v} [label="{text}", fillcolor="{colours[v]}"]')
    wide = picture.thickness()
    edges = ((int(forest.parents[v]), v) for v in forest.order.tolist())
    lines += [f"  {above} -> {v} [penwidth={wide[v]:g}]" for above, v in edges if above >= 0]
    return "\n".join([*lines, "}"])


def _places(forest: Layout, width: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Left end and middle line of each box: a column a depth, a line a leaf, parents amid their leaves."""
    n = forest.n_nodes
    depth = forest.depth
    column = np.zeros(int(depth.max(initial=-1)) + 1)
    np.maximum.at(column, depth, width)
    left = np.cumsum(column + _GAP) - column - _GAP + _EDGE
    order, counts = forest.order, forest.leaf_counts
    is_leaf = np.zeros(n, dtype=bool)
    is_leaf[forest.leaves] = True
    # The leaves below a node are neighbours in preorder, so that only the number of those before it is needed.
    first = np.empty(n)
    first[order] = np.cumsum(is_leaf[order]) - is_leaf[order]
    line = first + (counts - 1) / 2 + forest.tree * 0.5
    return left[depth], _EDGE + _LINE * (line + 0.5)


def svg(picture: Picture) -> str:
    """As SVG."""
    forest, (shown, whole) = picture.forest, picture.texts()
    width = np.array([len(text) for text in shown]) * _CHAR + 2 * _PAD
    x, y = _places(forest, width)
    right, bottom = (float(a.max(initial=0)) for a in (x + width, y))
    w, h = f"{right + _EDGE:.0f}", f"{bottom + _LINE / 2 + _EDGE:.0f}"
    size = f'viewBox="0 0 {w} {h}" width="{w}" height="{h}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="monospace" font-size="12">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        '<g fill="none" stroke="#b0b0b0">',
    ]
    wide, colours, below = picture.thickness(), picture.colours(), forest.order.tolist()
    for v in below:
        if (above := int(forest.parents[v])) < 0:
            continue
        a, b = x[above] + width[above], x[v]
        middle = (a + b) / 2
        curve = f"M{a:.0f} {y[above]:.0f}C{middle:.0f} {y[above]:.0f} {middle:.0f} {y[v]:.0f} {b:.0f} {y[v]:.0f}"
        parts.append(f'<path d="{curve}" stroke-width="{wide[v]:g}"/>')
    parts.append('</g><g stroke="#888">')
    box = _LINE - 4
    for v in below:
        at = f'x="{x[v]:.0f}" y="{y[v] - box / 2:.0f}" width="{width[v]:.0f}" height="{box}" rx="4"'
        parts.append(f'<rect {at} fill="{colours[v]}"/>')
    parts.append("</g><g>")
    for v in below:
        # Only a label that was cut has more to say.
        title = "" if shown[v].startswith(whole[v]) else f"<title>{escape(whole[v])}</title>"
        parts.append(f'<text x="{x[v] + _PAD:.0f}" y="{y[v] + 4:.0f}">{escape(shown[v])}{title}</text>')
    return "\n".join([*parts, "</g></svg>"])

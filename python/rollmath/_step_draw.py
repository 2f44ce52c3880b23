"""Step graphs as SVG: states in columns by the longest way from the start, steps as arrows between them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rollmath._draw import mixed, printable
from rollmath._step_layout import LABEL, Layout, arrange, spread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Point = tuple[float, float]

#: Blue above 0 and vermillion below, which colour-blind eyes tell apart (of the palette of Okabe and Ito); grey for 0.
_ABOVE, _BELOW, _ZERO, _UNKNOWN, _PLAIN = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00), 0xC4, "#000000", "#777777"
#: Pixels: a letter of a state and of an action, a box, the space between columns and around all, an arrow's head, and
#: the distance of lines that lead back, beside columns and below them.
_CHAR, _SMALL, _BOX, _GAP, _EDGE, _HEAD, _SIDE, _LANE = 7.25, 6.1, 22.0, 36.0, 14.0, 8.0, 5.0, 14.0


class Drawing(NamedTuple):
    """What is drawn. Nodes and edges are numbered from 0; titles are shown when the mouse rests on them."""

    source: list[int]
    target: list[int]
    starts: list[bool]
    ends: list[bool]
    node_labels: Sequence[str]
    node_titles: Sequence[str]
    edge_labels: Sequence[str]
    edge_titles: Sequence[str]
    credit: NDArray[np.float64] | None
    visits: NDArray[np.int64]

    def colours(self) -> list[str]:
        """Of the edges, as strong as the credit is beside the largest; black for NaN."""
        if self.credit is None:
            return [_PLAIN] * len(self.source)
        finite = np.abs(self.credit[np.isfinite(self.credit)])
        top = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
        return [
            _UNKNOWN if np.isnan(x) else mixed(min(abs(x) / top, 1.0), _ABOVE if x > 0 else _BELOW, _ZERO)
            for x in self.credit.tolist()
        ]

    def widths(self) -> list[float]:
        """Of the edges: 1.5 pixels for one visit, and slowly more."""
        return [round(1.5 + 1.2 * x, 1) for x in np.log2(self.visits).tolist()]


def svg(drawing: Drawing) -> str:
    """As SVG."""
    shape = _Shape(drawing, arrange(drawing.source, drawing.target, drawing.starts, drawing.ends))
    lines = [shape.back(e) if back else shape.forward(e) for e, back in enumerate(shape.at.back)]
    w, h = f"{shape.right:.0f}", f"{shape.bottom - shape.top:.0f}"
    size = f'viewBox="0 {shape.top:.0f} {w} {h}" width="{w}" height="{h}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="monospace" font-size="12">',
        f'<rect y="{shape.top:.0f}" width="100%" height="100%" fill="#fff"/>',
        '<g stroke-linejoin="round">',
    ]
    colours, wide = drawing.colours(), drawing.widths()
    for e, line in enumerate(lines):
        x, y = shape.tip(e)
        half = _HEAD / 2 + wide[e] / 2
        dash = ' stroke-dasharray="7 3"' if shape.at.back[e] else ""
        parts.append(
            f'<g class="edge">{_title(drawing.edge_titles[e])}'
            f'<path d="{line}" fill="none" stroke="{colours[e]}" stroke-width="{wide[e]:g}"{dash}/>'
            f'<path d="M{x:.1f} {y:.1f}l{-_HEAD:g} {-half:.1f}v{2 * half:.1f}z" fill="{colours[e]}"/></g>'
        )
    parts.append("</g><g>")
    for v, text in enumerate(drawing.node_labels):
        fill, ink = ("#444", "#fff") if drawing.ends[v] else ("#fff", "#000")
        thick = 2.5 if drawing.starts[v] else 1
        x, y = shape.x[v], shape.y[v]
        box = f'x="{x:.1f}" y="{y - _BOX / 2:.1f}" width="{shape.width[v]:.1f}" height="{_BOX:g}"'
        parts.append(
            f'<g class="node">{_title(drawing.node_titles[v])}'
            f'<rect {box} rx="{11 if drawing.ends[v] else 4}" fill="{fill}" stroke="#444" stroke-width="{thick:g}"/>'
            f'<text x="{x + 8:.1f}" y="{y + 4:.1f}" fill="{ink}">{escape(text)}</text></g>'
        )
    # A white rim keeps letters readable where lines pass behind them; it must not be over other letters.
    rim = 'stroke="#fff" stroke-width="3" stroke-linejoin="round" paint-order="stroke"'
    parts.append(f'</g><g font-size="10" fill="#333" pointer-events="none" {rim}>')
    for e, text in enumerate(drawing.edge_labels):
        x, y = shape.labels[e]
        parts += [f'<text x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'] if text else []
    return "\n".join([*parts, "</g></svg>"])


def _title(text: str) -> str:
    return "<title>" + escape("\n".join(printable(line) for line in text.split("\n"))) + "</title>"


class _Shape:
    """Coordinates: columns from left to right, lines of edges in the gaps between them, ways back below everything."""

    def __init__(self, drawing: Drawing, at: Layout) -> None:
        self.drawing, self.at = drawing, at
        n, columns = len(drawing.node_labels), range(len(at.columns))
        self.width = [len(text) * _CHAR + 16 for text in drawing.node_labels] + [0.0] * (len(at.layer) - n)
        self.wide = [max((self.width[v] for v in at.columns[c]), default=0.0) for c in columns]
        # Lines that lead back go down in the gap behind their source and up in the gap before their target.
        self.down: dict[int, list[int]] = {c: [] for c in range(-1, len(columns))}
        self.up: dict[int, list[int]] = {c: [] for c in range(-1, len(columns))}
        letters = [0] * len(columns)
        for e, route in enumerate(at.routes):
            first, last = at.layer[route[0]], at.layer[route[-1]]
            if at.back[e]:
                self.down[first].append(e)
                self.up[last - 1].append(e)
            else:
                letters[first] = max(letters[first], len(drawing.edge_labels[e]))
        sides = {c: _SIDE * (len(self.down[c]) + len(self.up[c])) for c in self.down}
        gaps = [letters[c] * _SMALL + _GAP + sides[c] for c in columns]
        self.left = []
        self.right = _EDGE + sides[-1] + (_HEAD if self.up[-1] else 0.0)
        for c in columns:
            self.left.append(self.right)
            self.right += self.wide[c] + (gaps[c] if c + 1 < len(columns) else _EDGE + sides[c])
        self.y = [_EDGE + _BOX / 2 + height for height in at.y]
        self.x = [self.left[c] + (self.wide[c] - w) / 2 for c, w in zip(at.layer, self.width, strict=True)]
        self._leave, self._arrive = self._ports(0, 1), self._ports(-1, -2)
        self.labels = self._forward_labels()
        low = [y + _BOX / 2 for y in self.y] + [y + 3 for _, y in self.labels.values()]
        lowest = max(low, default=0.0)
        ways = [e for e, leads_back in enumerate(at.back) if leads_back]
        self.lanes = {e: lowest + _LANE * (i + 1.2) for i, e in enumerate(ways)}
        for e in ways:
            a, b = self._sides(e)
            x = (a + b - len(drawing.edge_labels[e]) * _SMALL) / 2
            self.labels[e] = (max(x, 4.0), self.lanes[e] - 3)
        ends = [x + len(drawing.edge_labels[e]) * _SMALL for e, (x, _) in self.labels.items()]
        self.right = max([self.right, *(x + 4 for x in ends)])
        self.top = min([0.0, *(y - _EDGE for _, y in self.labels.values())])
        self.bottom = max([lowest, *self.lanes.values()]) + _EDGE

    def _ports(self, end: int, neighbour: int) -> list[float]:
        """Height of an end of each edge: those of one node share its side, by where they come from or go to."""
        of_node: dict[int, list[int]] = {}
        for e, route in enumerate(self.at.routes):
            of_node.setdefault(route[end], []).append(e)
        made = [0.0] * len(self.at.routes)
        for v, edges in of_node.items():
            edges.sort(key=lambda e: (self.at.back[e], self.y[self.at.routes[e][neighbour]], e))
            pitch = min(9.0, (_BOX - 4) / max(len(edges) - 1, 1))
            for i, e in enumerate(edges):
                made[e] = self.y[v] + pitch * (i - (len(edges) - 1) / 2)
        return made

    def tip(self, e: int) -> Point:
        """Where the arrow ends."""
        return self.x[self.at.routes[e][-1]], self._arrive[e]

    def _ends(self, e: int) -> tuple[Point, Point]:
        """Where the line leaves its source, and where its head begins."""
        source = self.at.routes[e][0]
        x, y = self.tip(e)
        return (self.x[source] + self.width[source], self._leave[e]), (x - _HEAD, y)

    def forward(self, e: int) -> str:
        """Level through columns, and curved in the gaps."""
        route = self.at.routes[e]
        (x, y), (tip_x, tip_y) = self._ends(e)
        line = f"M{x:.1f} {y:.1f}"
        for v in route[1:]:
            c = self.at.layer[v]
            a, b = self.left[c - 1] + self.wide[c - 1], self.left[c] - _HEAD
            below = tip_y if v == route[-1] else self.y[v]
            middle = (a + b) / 2
            line += f"H{a:.1f}C{middle:.1f} {y:.1f} {middle:.1f} {below:.1f} {b:.1f} {below:.1f}"
            y = below
        return f"{line}H{tip_x:.1f}"

    def back(self, e: int) -> str:
        """Down behind the source, along a lane of its own, and up before the target."""
        (x, y), (tip_x, tip_y) = self._ends(e)
        a, b = self._sides(e)
        return f"M{x:.1f} {y:.1f}H{a:.1f}V{self.lanes[e]:.1f}H{b:.1f}V{tip_y:.1f}H{tip_x:.1f}"

    def _sides(self, e: int) -> Point:
        first, last = self.at.layer[self.at.routes[e][0]], self.at.layer[self.at.routes[e][-1]]
        a = self.left[first] + self.wide[first] + _SIDE * (self.down[first].index(e) + 1)
        return a, self.left[last] - _HEAD - _SIDE * (self.up[last - 1].index(e) + 1)

    def _forward_labels(self) -> dict[int, Point]:
        """Where the label of each edge that leads on begins: amid its first gap, and none over another."""
        places: dict[int, Point] = {}
        gaps: dict[int, list[int]] = {}
        for e, route in enumerate(self.at.routes):
            if self.at.back[e]:
                continue
            c = self.at.layer[route[0]]
            gaps.setdefault(c, []).append(e)
            a = self.left[c] + self.wide[c] + _SIDE * len(self.down[c])
            b = self.left[c + 1] - _SIDE * len(self.up[c]) - _HEAD
            after = self._arrive[e] if len(route) == 2 else self.y[route[1]]
            half = len(self.drawing.edge_labels[e]) * _SMALL / 2
            places[e] = ((a + b) / 2 - half, (self._leave[e] + after) / 2 + 3)
        for edges in gaps.values():
            edges.sort(key=lambda e: (places[e][1], e))
            for e, y in zip(edges, spread([places[e][1] for e in edges], [LABEL] * len(edges)), strict=True):
                places[e] = (places[e][0], y)
        return places

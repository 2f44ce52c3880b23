"""One sampled tree as a picture: the text of each segment, coloured by its advantage, and the rewards at the leaves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

from .run import Step
from .tasks import decode

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.patches import FancyBboxPatch

INK, GREY, EDGE, RIGHT, WRONG = "#1f2933", "#52606d", "#9aa5b1", "#2b8a3e", "#c2255c"
CHARACTER, PAD, GAP, ROW = 0.0753, 0.09, 0.75, 0.27  # inches: a monospaced character, and the distances


@dataclass(frozen=True)
class Drawing:
    """One tree, ready to draw: everything is indexed by node, and node 0 is the prompt."""

    parents: list[int]
    texts: list[str]
    advantages: list[float]
    rewards: list[float | None]
    answer: str
    step: int

    @property
    def interest(self) -> float:
        """How much there is to see: a readable number of leaves, steps wrong at different depths, whole steps."""
        leaves = [reward for reward in self.rewards if reward is not None]
        if len(set(leaves)) < 2:
            return 0.0
        first = [node for node, parent in enumerate(self.parents) if parent == 0]
        last = [text for text, reward in zip(self.texts, self.rewards, strict=True) if reward is not None]
        below = [a for a, parent in zip(self.advantages, self.parents, strict=True) if parent > 0]
        whole = sum(self.texts[node].endswith(";") for node in first) / len(first)
        words = min(1.0, sum(len(text) for text in last) / len(last) / 8)
        differ = float(len({self.texts[node] for node in first}) > 1)
        spread = float(np.std([self.advantages[node] for node in first]) + np.std(below))
        return 3 * (12 <= len(leaves) <= 30) + whole + words + differ + spread


def drawings(step: Step) -> list[Drawing]:
    """Cut the forest of a training step into its trees, with their nodes in depth-first order."""
    rollouts, tree = step.rollouts, step.rollouts.tree
    if tree is None:
        return []
    children: list[list[int]] = [[] for _ in tree.parents]
    for node, parent in enumerate(tree.parents.tolist()):
        if parent >= 0:
            children[parent].append(node)
    reward_of = dict(zip(tree.leaves.tolist(), step.rewards.tolist(), strict=True))
    out = []
    for root, item in enumerate(rollouts.items):
        nodes = _preorder(children, root)
        place = {node: index for index, node in enumerate(nodes)}
        spans = [(int(tree.row[v]), int(tree.start[v]), int(tree.start[v] + tree.length[v])) for v in nodes[1:]]
        out.append(
            Drawing(
                [-1] + [place[int(tree.parents[v])] for v in nodes[1:]],
                [decode(item.prompt).strip()] + [decode(rollouts.tokens[r, a:b].tolist()) for r, a, b in spans],
                [float(step.credit.natural[v]) for v in nodes],
                [reward_of.get(v) for v in nodes],
                item.entry["answer"],
                step.number,
            )
        )
    return out


def _preorder(children: list[list[int]], root: int) -> list[int]:
    nodes, stack = [], [root]
    while stack:
        nodes.append(stack.pop())
        stack += reversed(children[nodes[-1]])
    return nodes


def _layout(drawing: Drawing) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Heights (leaves one apart, with a gap between the branches of the root) and depths."""
    size = len(drawing.parents)
    depth, height = np.zeros(size, np.int64), np.zeros(size)
    spans: list[list[float]] = [[] for _ in range(size)]
    at = 0.0
    for node in range(1, size):
        depth[node] = depth[drawing.parents[node]] + 1
        at += 0.6 if depth[node] == 1 and node > 1 else 0.0
        if drawing.rewards[node] is not None:
            height[node], at = at, at + 1.0
    for node in range(size - 1, 0, -1):
        if spans[node]:
            height[node] = (min(spans[node]) + max(spans[node])) / 2
        spans[drawing.parents[node]].append(float(height[node]))
    height[0] = (min(spans[0]) + max(spans[0])) / 2
    return height, depth


def draw_tree(drawing: Drawing, path: Path) -> None:
    """Draw the tree from left to right, to scale in inches, and save it."""
    height, depth = _layout(drawing)
    widths = [CHARACTER * len(text) + 2 * PAD for text in drawing.texts]
    columns = [
        max(w for w, d in zip(widths, depth, strict=True) if d == level) for level in range(int(depth.max()) + 1)
    ]
    lefts = np.concatenate([[0.0], np.cumsum([width + GAP for width in columns])])
    size = (float(lefts[-1]) - GAP + 2.1, ROW * float(height.max()) + 1.35)
    x, y = 0.2 + lefts[depth], 1.05 + ROW * height
    figure = plt.figure(figsize=size)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, size[0]), ylim=(size[1], 0))
    axes.axis("off")
    limit = 1.15 * max(abs(a) for a in drawing.advantages) or 1.0  # the darkest shades hide the text
    colours = ScalarMappable(Normalize(-limit, limit), "RdBu")
    for node, parent in enumerate(drawing.parents):
        if parent >= 0:
            _connect(axes, x[parent] + widths[parent], y[parent], x[node], y[node])
        _box(axes, drawing, node, (float(x[node]), float(y[node])), widths[node], colours)
    right, wrong = drawing.rewards.count(1.0), drawing.rewards.count(0.0)
    title = f"{drawing.texts[0][:-1]} = {drawing.answer}"
    axes.text(0.2, 0.35, title, fontsize=13, weight="bold", color=INK, va="center", ha="left")
    words = f"one prompt, {right + wrong} rollouts in a tree: {right} right, {wrong} wrong"
    axes.text(0.2, 0.62, words, fontsize=9.5, color=GREY, va="center", ha="left")
    place = (1 - 0.75 / size[0], 0.3 / size[1], 0.13 / size[0], 1 - 1.35 / size[1])
    bar = figure.colorbar(colours, cax=figure.add_axes(place))
    bar.set_label("advantage of the segment (SPO)", color=GREY, fontsize=9)
    bar.ax.tick_params(labelsize=8, color=EDGE, labelcolor=GREY)
    bar.outline.set_visible(False)
    figure.savefig(path, dpi=150, facecolor="white")
    plt.close(figure)


def _connect(axes: Axes, x0: float, y0: float, x1: float, y1: float) -> None:
    t = np.linspace(0, 1, 25)
    axes.plot(x0 + (x1 - x0) * t, y0 + (y1 - y0) * (3 * t**2 - 2 * t**3), color=EDGE, linewidth=0.9, zorder=1)


def _box(
    axes: Axes, drawing: Drawing, node: int, at: tuple[float, float], width: float, colours: ScalarMappable
) -> None:
    x, y = at
    red, green, blue = (
        to_rgb("#eef1f4") if node == 0 else tuple(colours.to_rgba(np.array([drawing.advantages[node]]))[0, :3])
    )
    style = "round,pad=0,rounding_size=0.05"
    box = FancyBboxPatch((x, y - 0.1), width, 0.2, boxstyle=style, fc=(red, green, blue), ec=EDGE, lw=0.7, zorder=2)
    axes.add_patch(box)
    ink = "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.5 else INK
    font: dict[str, Any] = {"family": "DejaVu Sans Mono", "fontsize": 9, "color": ink}
    axes.text(x + width / 2, y, drawing.texts[node], font, ha="center", va="center_baseline", zorder=3)
    reward = drawing.rewards[node]
    if reward is not None:
        text, colour = ("✓ 1", RIGHT) if reward else ("✗ 0", WRONG)
        axes.text(x + width + 0.1, y, text, ha="left", va="center", fontsize=9, color=colour, family="DejaVu Sans")

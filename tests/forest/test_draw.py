"""Forest.to_graphviz and Forest.to_svg: well-formed, nothing lost, nothing overlapping."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollmath import Forest

SIZES = st.tuples(st.integers(0, 2**32), st.integers(1, 60))
SVG = "{http://www.w3.org/2000/svg}"
NASTY = ['a"b', "back\\slash", "<b>&amp;</b>", "two\nlines\tand  spaces", "\x00\x1b\ud800", "\\", '"', "]]>", "é漢🙂"]


def boxes(picture):
    groups = ET.fromstring(picture).findall(f"{SVG}g")
    return [{k: float(box.get(k)) for k in ("x", "y", "width", "height")} for box in groups[1]]


@given(SIZES, st.sampled_from([None, "values", "nan"]))
def test_svg_is_tidy(oracle, size, kind):
    forest = Forest.from_parents(oracle("forest.py", "random_parents")(*size))
    values = None if kind is None else np.random.default_rng(size[0]).normal(size=forest.n_nodes)
    if kind == "nan":
        values[::2] = np.nan
    made = boxes(forest.to_svg(values))
    assert len(made) == forest.n_nodes
    node = forest.order
    middle = np.empty(forest.n_nodes)
    middle[node] = [b["y"] + b["height"] / 2 for b in made]
    left, right = np.empty(forest.n_nodes), np.empty(forest.n_nodes)
    left[node], right[node] = [b["x"] for b in made], [b["x"] + b["width"] for b in made]
    width, height = (float(x) for x in ET.fromstring(forest.to_svg(values)).get("viewBox").split()[2:])
    assert left.min() >= 0
    assert right.max() <= width
    assert middle.min() >= 9
    assert middle.max() + 9 <= height
    for depth in range(forest.depth.max() + 1):
        column = np.sort(middle[forest.depth == depth])
        assert (np.diff(column) >= 20).all(), "boxes of a column overlap"
    below = forest.parents >= 0
    assert (left[below] > right[forest.parents[below]]).all()
    # A parent is amid its leaves.
    for v in range(forest.n_nodes):
        own = middle[[leaf for leaf in forest.leaves if v in oracle("forest.py", "path")(forest.parents, leaf)]]
        assert middle[v] == pytest.approx((own.min() + own.max()) / 2, abs=0.51)


@pytest.mark.parametrize("label", NASTY)
def test_text_is_escaped(label):
    forest = Forest.from_parents([-1, 0])
    text = ET.fromstring(forest.to_svg(labels=["q", label])).findall(f"{SVG}g")[2][1].text
    expected = " ".join(label.split())
    assert text == "".join(c if c.isprintable() else "\ufffd" for c in expected)
    dot = forest.to_graphviz(labels=["q", label])
    (quoted,) = re.findall(r'^  1 \[label=("(?:[^"\\]|\\.)*"), fillcolor', dot, re.MULTILINE)
    assert quoted[1:-1].replace('\\"', '"').replace("\\\\", "\\") == text
    assert len(dot.splitlines()) == 8
    dot.encode()


def test_colours_and_numbers():
    forest = Forest.from_parents([-1, 0, 0, 0, 0])
    root = ET.fromstring(forest.to_svg([0.0, 1.0, -2.0, np.nan, np.inf], labels=list("abcde")))
    fills = [box.get("fill") for box in root.findall(f"{SVG}g")[1]]
    assert fills == ["#ffffff", "#adcdea", "#f09a4e", "#e8e8e8", "#5b9bd5"]
    assert [t.text for t in root.findall(f"{SVG}g")[2]] == ["a  0", "b  1", "c  -2", "d  nan", "e  inf"]
    plain = ET.fromstring(forest.to_svg(np.zeros(5, np.float32)))
    assert {box.get("fill") for box in plain.findall(f"{SVG}g")[1]} == {"#ffffff"}
    assert [t.text for t in plain.findall(f"{SVG}g")[2]] == [f"{v}  0" for v in range(5)]


def test_long_labels_are_cut_and_shown_whole_on_the_mouse():
    forest = Forest.from_nested({"text": "x" * 60, "children": [{"text": "y", "reward": 1}]}, text="text")
    first, second = ET.fromstring(forest.to_svg()).findall(f"{SVG}g")[2]
    assert (first.text, first[0].text) == ("x" * 39 + "…", "x" * 60)
    assert (second.text, len(second)) == ("y", 0)
    assert 'label="xxx…"' in forest.to_graphviz(max_label=4)


def test_edges_grow_with_the_leaves_behind_them():
    forest = Forest.from_parents([-1, 0, 0, 1, 1, 1, 1])
    widths = {int(b): float(w) for b, w in re.findall(r"-> (\d+) \[penwidth=([\d.]+)\]", forest.to_graphviz())}
    assert (widths[1], widths[2]) == (2.4, 1.0)


def test_empty_forests():
    empty = Forest.from_parents([])
    assert len(ET.fromstring(empty.to_svg())) == 4
    assert empty.to_graphviz().startswith("digraph forest {")


@pytest.mark.parametrize("name", ["to_svg", "to_graphviz"])
@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "match"),
    [
        (
            (),
            {"max_nodes": 2},
            ValueError,
            r"the forest must have at most max_nodes=2 nodes, got 3; draw fewer rollouts",
        ),
        (([1.0],), {}, ValueError, r"'values' must have length 3 \(= forest.n_nodes\), got 1"),
        (([1.0, 2.0],), {}, ValueError, r"'values' must have length 3 .*take rewards up to nodes with rollmath.ops.up"),
        ((["a"] * 3,), {}, TypeError, r"'values' must hold floats, ints or bools"),
        ((), {"labels": ["a"]}, ValueError, r"'labels' must have length 3 \(= forest.n_nodes\), got 1"),
        ((), {"labels": "abc"}, TypeError, r"'labels' must be a list with one object a node, got .* str"),
        ((), {"max_nodes": None}, TypeError, r"'max_nodes' must be a whole number, got .* NoneType"),
        ((), {"max_label": 1}, ValueError, r"'max_label' must be at least 2, got 1"),
    ],
)
def test_wrong_calls(name, arguments, keywords, error, match):
    with pytest.raises(error, match=rf"^Forest.{name}\(\): {match}"):
        getattr(Forest.from_parents([-1, 0, 0]), name)(*arguments, **keywords)

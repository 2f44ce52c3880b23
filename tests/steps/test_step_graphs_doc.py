"""docs/step_graphs.md: its examples run and print what the page says, and its picture is that of the examples."""

import os
import re
from pathlib import Path

import rollmath as rm

PAGE = Path(__file__).parents[2] / "docs" / "step_graphs.md"
TEXT = PAGE.read_text()


def test_the_examples(capsys):
    code = "\n".join(line[4:] for line in TEXT.splitlines() if line.startswith("    "))
    made = {}
    exec(compile(code, str(PAGE), "exec"), made)
    out = capsys.readouterr().out.splitlines()
    said = [x.split("  # ", 1)[1].strip() for x in code.splitlines() if x.startswith("print") and "  # " in x]
    blocks = [line[2:] for line in code.splitlines() if line.startswith("# ")]
    assert (len(said), len(blocks)) == (21, 8)
    for line in said + blocks:
        assert line in out
    picture = PAGE.parent / "images" / "step_graph.svg"
    if os.environ.get("ROLLMATH_WRITE_DOCS"):
        picture.write_text(made["picture"])
    assert picture.read_text() == made["picture"]


def test_what_it_names_is_there():
    for name in set(re.findall(r"`(?:rm\.)?graph\.(\w+)", TEXT)) - {"to_svg", "to_networkx"}:
        assert hasattr(rm.graph, name), name
    named = set(re.findall(r"`Steps\.(from_\w+)", TEXT))
    assert named == {name for name in dir(rm.Steps) if name.startswith("from_")}
    methods = {name for name in rm.graph.__all__ if f"`graph.{name}`" in TEXT}
    assert methods >= {"g2po", "gigpo", "graft", "graphgpo", "hgpo", "rewardflow", "rtmc", "salt", "step_reinforce"}
    for image in re.findall(r"images/\w+\.svg", TEXT):
        assert (PAGE.parent / image).exists()

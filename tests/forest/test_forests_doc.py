"""The examples of docs/forests.md run, one after the other, and print what the page says."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "forests.md"


def test_the_examples(capsys):
    text = PAGE.read_text()
    code = "\n".join(line[4:] for line in text.splitlines() if line.startswith("    "))
    exec(compile(code, str(PAGE), "exec"), {})
    out = capsys.readouterr().out.splitlines()
    said = [
        line.split("  # ", 1)[1].strip() for line in code.splitlines() if line.startswith("print") and "  # " in line
    ]
    assert len(said) == 20
    for line in said:
        assert line in out
    assert (
        "  rollout 1, turn 1: position 2 should be 3 (token 0 of the last response), got 9; new row 2 (segment 1)"
        in out
    )


def test_every_builder_is_on_the_page():
    from rollmath import Forest

    named = set(re.findall(r"Forest\.(from_\w+)", PAGE.read_text()))
    assert named == {name for name in dir(Forest) if name.startswith("from_")}
    assert (PAGE.parent / "images" / "game24.svg").exists()

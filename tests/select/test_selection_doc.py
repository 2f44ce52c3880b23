"""The examples of docs/selection.md run, one after the other, and print what the page says; it names every function."""

import re
from pathlib import Path

import numpy as np
import pytest

import rollmath as rm

PAGE = Path(__file__).parents[2] / "docs" / "selection.md"


def blocks():
    """The indented blocks of the page: code, and what code prints."""
    found = re.findall(r"(?:^    .*\n|^\n(?=    ))+", PAGE.read_text(), re.MULTILINE)
    return ["\n".join(line[4:] for line in block.strip("\n").split("\n")) for block in found]


def test_the_examples(capsys):
    pytest.importorskip("torch")
    world, said = {}, 0
    code = [block for block in blocks() if re.search(r"rm\.|import ", block)]
    printed = [block for block in blocks() if block not in code]
    for block in code:
        exec(compile(block, str(PAGE), "exec"), world)
        out = capsys.readouterr().out
        for line in block.splitlines():
            if line.lstrip().startswith("print") and "  # " in line:
                assert line.split("  # ", 1)[1].strip() in out.splitlines()
                said += 1
        if printed and printed[0] in out:
            del printed[0]
    assert said == 10
    assert not printed


def test_what_the_page_says_of_published_code(vectors):
    """It has less variance in nearly all recorded groups, too, and its list form has not."""
    golden = vectors("selection")["pods"]
    worse = 0
    for one in golden["groups"]:
        r = np.array(one["rewards"])
        worse += r[one["vectorised_form"]].var() < r[one["list_form"]].var()
    assert worse / len(golden["groups"]) > 0.9


def test_every_function_is_on_the_page():
    text = PAGE.read_text()
    types = {"Allocation", "Dropped", "Filtration", "PromptDraw", "PromptStats", "ReplayDraw", "TokenSelection"}
    # How the weights of `vas` and the scores of `depo` and `knapsack` come about is said where these are.
    parts = {"vas_weights", "explorability", "knapsack_value"}
    missing = {name for name in rm.select.__all__ if not re.search(rf"\b{name}\b", text)}
    assert missing <= types | parts

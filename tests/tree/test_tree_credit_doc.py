"""docs/tree_credit.md: its examples run and print what the page says, and the options that it names are there."""

import inspect
import re
from dataclasses import fields
from pathlib import Path

import rollmath as rm

TEXT = (Path(__file__).parents[2] / "docs" / "tree_credit.md").read_text()


def test_the_examples(capsys):
    code = "\n".join(line[4:] for line in TEXT.splitlines() if line.startswith("    "))
    exec(compile(code, "tree_credit.md", "exec"), {})
    said = re.findall(r"^ +print\(.*: (\[.*\])$", TEXT, re.MULTILINE)
    assert len(said) == 3
    assert capsys.readouterr().out.splitlines() == [*said, said[-1]]


def test_every_option_is_there():
    known = {field.name for field in fields(rm.tree.Credit)}
    assert set(re.findall(r"`Credit\((\w+)=\)", TEXT)) <= known
    named = re.findall(r"`(tree\.|ops\.|)(\w+)\(((?:\w+=,? ?)+)\)`", TEXT)
    assert len(named) >= 4
    for where, name, options in named:
        if name in {"Credit", "expand"}:
            continue
        function = getattr(rm.ops if where == "ops." else rm.tree, name)
        for option in re.findall(r"\w+", options):
            assert option in inspect.signature(function).parameters
    for name in re.findall(r"`tree\.(\w+)", TEXT):
        assert hasattr(rm.tree, name)

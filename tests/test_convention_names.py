"""The table of what trainers call our methods: its names are verl's, and its calls exist."""

from __future__ import annotations

import ast
import inspect
import re
from operator import attrgetter
from pathlib import Path

import pytest

import rollmath as rm

ROOT = Path(__file__).parents[1]
ROWS = re.findall(
    r"^\| (.+?) \| (.+?) \| (.+?) \|$",
    (ROOT / "docs" / "conventions.md").read_text().split("## What a trainer calls it")[1].split("\n## ")[0],
    re.MULTILINE,
)[1:]
CALLS = [(trainer, name, call) for trainer, name, cell in ROWS for call in re.findall(r"`(rm\..+?\))`", cell)]


def handled():
    """What ``tests/conformance/test_registry.py`` says of verl's names, read without verl."""
    body = ast.parse((ROOT / "tests" / "conformance" / "test_registry.py").read_text()).body
    (value,) = (n.value for n in body if isinstance(n, ast.Assign) and n.targets[0].id == "HANDLED")
    return {name: function for name, (function, _) in ast.literal_eval(value).items()}


def test_every_name_of_verl_is_there_with_its_function():
    rows = {name.strip("`"): re.match(r"`rm\.([\w.]+)\(", call)[1] for trainer, name, call in ROWS if trainer == "verl"}
    assert {name: function for name, function in rows.items() if " " not in name} == handled()


@pytest.mark.parametrize(("trainer", "name", "call"), CALLS)
def test_the_calls_exist(trainer, name, call):
    """Function, keywords, conventions and options are there."""
    node = ast.parse(call, mode="eval").body
    function = attrgetter(ast.unparse(node.func).removeprefix("rm."))(rm)
    keywords = {}
    for keyword in node.keywords:
        framework = re.match(r"[A-Z_]*", ast.unparse(keyword.value))[0]
        if not framework:
            keywords[keyword.arg] = None
            continue
        assert framework.lower().replace("_", "-") == trainer.lower()
        value = eval(ast.unparse(keyword.value), {framework: getattr(rm.conventions, framework)})
        if keyword.arg == "convention":
            rm.conventions.resolve(name, function.__name__, value, {})
        keywords |= value if keyword.arg is None else {keyword.arg: value}
    inspect.signature(function).bind(*node.args, **keywords)

"""What every exported function must have."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest

import rollmath as rm

PACKAGES = ("group", "ops", "tree", "vocab", "loss", "temporal", "graph", "select")


def exported():
    for package in PACKAGES:
        try:
            module = importlib.import_module(f"rollmath.{package}")
        except ImportError:
            continue
        for name in module.__all__:
            function = getattr(module, name)
            if inspect.isfunction(function):
                yield pytest.param(package, function, id=f"{package}.{name}")


@pytest.mark.parametrize(("package", "function"), list(exported()))
def test_it_has_an_oracle_and_a_formula(package, function, oracle):
    module = function.__module__.rsplit(".", 1)[-1].removeprefix("_")
    path = f"{package}/{module}.py"
    assert (Path(__file__).parent / "reference" / path).exists(), f"no tests/reference/{path}"
    assert callable(oracle(path, function.__name__))
    assert "``" in function.__doc__, "no formula in the docstring"


@pytest.mark.parametrize(("package", "function"), list(exported()))
def test_arrays_are_positional_and_options_keywords(package, function):
    for parameter in inspect.signature(function).parameters.values():
        if parameter.default is not parameter.empty and package != "vocab":
            assert parameter.kind is parameter.KEYWORD_ONLY, f"{parameter.name} has a default but is positional"


def test_no_submodule_shadows_a_public_function():
    for package in ("group", "ops"):
        folder = Path(rm.__file__).parent / package
        files = {path.stem for path in folder.glob("*.py")}
        assert not files & set(importlib.import_module(f"rollmath.{package}").__all__)

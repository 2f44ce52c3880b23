"""The pytest plugin: ``pytest --rollmath-advantage my_pkg.my_module:fn`` runs one test a check, without a test file.

It does nothing unless it is asked, and imports nothing but pytest until then.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

_STYLES = ("rollouts", "consecutive", "tokens", "values", "rows", "verl")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options, in a group of their own."""
    group = parser.getgroup("rollmath", "rollmath: checks of an advantage or loss function")
    where = "my_pkg.my_module:fn or path/to/file.py:fn; may be given several times"
    group.addoption("--rollmath-advantage", action="append", default=[], metavar="FN", help=f"an advantage, {where}")
    group.addoption("--rollmath-loss", action="append", default=[], metavar="FN", help=f"a policy loss, {where}")
    group.addoption("--rollmath-style", choices=_STYLES, help="how they are called (rollmath.testing.check_advantage)")
    group.addoption("--rollmath-options", metavar="JSON", help="keyword arguments of every call, as a JSON object")
    group.addoption("--rollmath-allow", default="", metavar="IDS", help="checks that are known to fail: a,b,c")


def pytest_configure(config: pytest.Config) -> None:
    """With functions to check and no files named, the project's own tests are not collected."""
    if _asked(config) and config.args_source is not config.ArgsSource.ARGS:
        config.args = []


@pytest.hookimpl(tryfirst=True)  # before -k and the like, which then apply
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Adds one item a check of each function."""
    for kind, name in _asked(config):
        function = _Function.from_parent(session, name=name, nodeid=name, kind=kind)
        function.prepare()
        report = config.hook.pytest_make_collect_report(collector=function)
        config.hook.pytest_collectreport(report=report)  # so that they are counted
        items.extend(report.result or [])


def _asked(config: pytest.Config) -> list[tuple[str, str]]:
    return [(kind, name) for kind in ("advantage", "loss") for name in config.getoption(f"rollmath_{kind}")]


class _Function(pytest.Collector):
    """The checks of one function."""

    def __init__(self, *, kind: str, **named: Any) -> None:
        super().__init__(**named)
        self.kind = kind

    def prepare(self) -> None:
        """Errors of the command line, before anything runs."""
        from rollmath.testing._registry import checks, names  # noqa: PLC0415 - see the module

        given = [x.strip() for x in self.config.getoption("rollmath_allow").split(",") if x.strip()]
        try:
            known = [c for kind in sorted({kind for kind, _ in _asked(self.config)}) for c in checks(kind)]
            self.allowed = names("pytest", "--rollmath-allow", known, given)
        except (ValueError, ModuleNotFoundError) as wrong:
            raise pytest.UsageError(str(wrong)) from None
        self.takes = self.wrapped.has

    def collect(self) -> Iterator[pytest.Item]:
        """One item a check that applies to the style."""
        from rollmath.testing._registry import checks  # noqa: PLC0415 - see the module

        for each in checks(self.kind):
            if each.needs <= self.takes:
                yield _Item.from_parent(self, name=each.id, check=each, allowed=each.id in self.allowed)

    @cached_property
    def wrapped(self) -> Any:
        """The function behind its interface."""
        fn, options = _load(self.name, Path(self.config.invocation_params.dir)), self._options()
        style = self.config.getoption("rollmath_style")
        chosen = {} if style is None else {"style": style}
        try:
            if self.kind == "advantage":
                from rollmath.testing._advantage import AdvantageFunction  # noqa: PLC0415 - see the module

                return AdvantageFunction(fn, options=options, **chosen)
            from rollmath.testing._loss import LossFunction  # noqa: PLC0415 - needs torch

            return LossFunction(fn, options=options, **chosen)
        except (TypeError, ValueError, ModuleNotFoundError) as wrong:
            raise pytest.UsageError(str(wrong)) from None

    def _options(self) -> dict[str, Any]:
        text = self.config.getoption("rollmath_options")
        try:
            options = json.loads(text) if text else {}
        except ValueError:
            options = None
        if not isinstance(options, dict):
            msg = f"--rollmath-options must be a JSON object, got {text!r}"
            raise pytest.UsageError(msg)
        return options


class _Item(pytest.Item):
    """One check of one function."""

    def __init__(self, *, check: Any, allowed: bool, **named: Any) -> None:
        super().__init__(**named)
        self.check, self.allowed = check, allowed

    def runtest(self) -> None:
        """Runs the check."""
        from rollmath.testing._classes import settle  # noqa: PLC0415 - see the module

        assert isinstance(self.parent, _Function)
        settle(self.check, self.parent.wrapped, self.allowed)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """The name in reports."""
        assert self.parent is not None
        return Path(self.config.rootpath), None, f"{self.name} of {self.parent.name}"


def _load(target: str, here: Path) -> Callable[..., Any]:
    """The function that ``module:name`` or ``file.py:name`` says; modules are looked for in the current folder too."""
    where, _, name = target.rpartition(":")
    if not where or not name:
        msg = f"a function must be given as module:name or file.py:name, got {target!r}"
        raise pytest.UsageError(msg)
    try:
        module: Any = _file(here / where) if where.endswith(".py") else _module(where, here)
        for part in name.split("."):
            module = getattr(module, part)
    except Exception as wrong:  # whatever an import may raise
        msg = f"{target!r} cannot be loaded: {type(wrong).__name__}: {wrong}"
        raise pytest.UsageError(msg) from None
    if not callable(module):
        msg = f"{target!r} is not callable: {type(module).__name__}"
        raise pytest.UsageError(msg)
    return module  # type: ignore[no-any-return]


def _module(name: str, folder: Path) -> Any:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return importlib.import_module(name)


def _file(path: Path) -> Any:
    """The module of a file: one of a package by its full name, so that it can import its neighbours."""
    path = path.resolve()
    if not path.is_file():
        msg = f"no Python file {path}"
        raise ImportError(msg)
    folder, parts = path.parent, [path.stem] if path.stem != "__init__" else []
    while (folder / "__init__.py").is_file():
        folder, parts = folder.parent, [folder.name, *parts]
    module = _module(".".join(parts), folder)
    if Path(module.__file__ or "").resolve() != path:
        msg = f"{'.'.join(parts)!r} is {module.__file__}: rename the file, or give module:name"
        raise ImportError(msg)
    return module

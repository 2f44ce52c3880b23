"""Base classes of test classes: one test a check."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import pytest

from rollmath.testing._advantage import AdvantageFunction
from rollmath.testing._registry import Check, checks, names
from rollmath.testing._run import run
from rollmath.testing._ways import abilities, arguments_of


def settle(check: Check, wrapped: Any, allowed: bool) -> None:
    """Runs a check as a test: fails without a traceback, skips what is not applicable, xfails what is allowed."""
    result = run(check, wrapped, allowed)
    if result.verdict == "fails":
        pytest.fail(f"{result.seen}\n\n{wrapped.name}, {result.explain()}", pytrace=False)
    if result.verdict == "allowed":
        pytest.xfail(result.seen)
    if result.verdict == "not applicable":
        pytest.skip(result.seen)


class _Checks:
    """What both base classes share.

    Attributes:
        allow: ids of checks that are known to fail.
        exclude: ids of checks that are not run.
        options: keyword arguments of every call.
    """

    KIND: ClassVar[str]
    allow: ClassVar[Iterable[str]] = ()
    exclude: ClassVar[Iterable[str]] = ()
    options: ClassVar[Mapping[str, Any]] = {}

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One test a check that applies to the style."""
        cls = metafunc.cls
        if cls is not None and "rollmath_check" in metafunc.fixturenames:
            if not callable(getattr(cls, cls.KIND, None)):
                msg = f"{cls.__name__} must define {cls.KIND}(), the function to check"
                pytest.fail(msg, pytrace=False)
            left_out = names(cls.__name__, "exclude", checks(cls.KIND), cls.exclude)
            takes = cls._takes()
            made = [c for c in checks(cls.KIND) if c.id not in left_out and c.needs <= takes]
            metafunc.parametrize("rollmath_check", made, ids=[c.id for c in made])

    def test_check(self, rollmath_check: Check) -> None:
        """One check."""
        allowed = names(type(self).__name__, "allow", checks(self.KIND), self.allow)
        settle(rollmath_check, self._wrapped(), rollmath_check.id in allowed)

    @classmethod
    def _takes(cls) -> frozenset[str]:
        raise NotImplementedError

    def _wrapped(self) -> Any:
        raise NotImplementedError


class AdvantageChecks(_Checks):
    """A test class for an advantage function: one test a check of :func:`rollmath.testing.check_advantage`.

    Define :meth:`advantage`, and what its style is::

        class TestMine(rollmath.testing.AdvantageChecks):
            allow = ("singletons",)

            def advantage(self, rewards, groups):
                return my_package.advantages(rewards, groups)

    Attributes:
        style: as ``check_advantage`` has it; so are ``arrays``, ``formula``, ``mask_dtype``.
    """

    KIND = "advantage"
    style: ClassVar[str] = "rollouts"
    arrays: ClassVar[str | None] = None
    formula: ClassVar[str | None] = None
    mask_dtype: ClassVar[str | None] = None
    advantage: Callable[..., Any]

    @classmethod
    def _takes(cls) -> frozenset[str]:
        return abilities(cls.style, arguments_of(cls.advantage) if cls.style == "verl" else ())

    def _wrapped(self) -> AdvantageFunction:
        return AdvantageFunction(
            self.advantage,
            style=self.style,
            arrays=self.arrays,
            formula=self.formula,
            mask_dtype=self.mask_dtype,
            options=self.options,
        )


class LossChecks(_Checks):
    """A test class for a policy loss: one test a check of :func:`rollmath.testing.check_loss`.

    Define :meth:`loss`, and what its style is::

        class TestMine(rollmath.testing.LossChecks):
            clip = (0.2, 0.28)

            def loss(self, logp, old_logp, advantages, mask):
                return my_package.loss(logp, old_logp, advantages, mask)

    Attributes:
        style: as ``check_loss`` has it; so are ``counts``, ``clip``, ``mask_dtype``.
    """

    KIND = "loss"
    style: ClassVar[str] = "tokens"
    counts: ClassVar[Mapping[str, str] | None] = None
    clip: ClassVar[tuple[float, float] | None] = None
    mask_dtype: ClassVar[str | None] = None
    loss: Callable[..., Any]

    @classmethod
    def _takes(cls) -> frozenset[str]:
        return frozenset({"counts"} if cls.style == "verl" or cls.counts else ())

    def _wrapped(self) -> Any:
        from rollmath.testing._loss import LossFunction  # noqa: PLC0415 - needs torch

        return LossFunction(
            self.loss,
            style=self.style,
            counts=self.counts,
            clip=self.clip,
            mask_dtype=self.mask_dtype,
            options=self.options,
        )

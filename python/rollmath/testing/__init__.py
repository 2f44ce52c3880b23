"""Checks of anyone's advantage and loss functions, and the pytest plugin that runs them.

Give it a callable of yours; it says what is wrong with it, in numbers small enough to follow by hand::

    print(rollmath.testing.check_advantage(my_advantage))            # fn(rewards, groups) -> advantages
    rollmath.testing.check_loss(my_loss).assert_ok()                 # fn(logp, old_logp, advantages, mask) -> loss

``pytest --rollmath-advantage my_pkg.my_module:my_advantage`` runs one test a check, without a test file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rollmath._lazy import lazy

if TYPE_CHECKING:
    from rollmath.testing._classes import AdvantageChecks, LossChecks
    from rollmath.testing._registry import Check, checks
    from rollmath.testing._report import Report, Result
    from rollmath.testing._run import check_advantage, check_loss

_load, __dir__ = lazy(
    __name__,
    {
        "_classes": ("AdvantageChecks", "LossChecks"),
        "_registry": ("Check", "checks"),
        "_report": ("Report", "Result"),
        "_run": ("check_advantage", "check_loss"),
    },
)

if not TYPE_CHECKING:
    __getattr__ = _load

__all__ = [
    "AdvantageChecks",
    "Check",
    "LossChecks",
    "Report",
    "Result",
    "check_advantage",
    "check_loss",
    "checks",
]

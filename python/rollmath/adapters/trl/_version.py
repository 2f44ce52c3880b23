"""Which TRL this is: its trainers have no hook for advantages, so that private methods are overridden."""

from __future__ import annotations

import importlib
from typing import Any

#: The release whose source was read and whose trainers run in our tests.
TESTED = "1.16.0"
#: What the mixin overrides or calls.
METHODS = (
    "_calculate_rewards",
    "_compute_loss",
    "_generate_and_score_completions",
    "_get_per_token_logps_and_entropies",
    "_prepare_inputs",
)


def trl_class(name: str) -> Any:
    """A trainer class of TRL.

    Raises:
        ModuleNotFoundError: TRL is not installed.
    """
    try:
        trl = importlib.import_module("trl")
    except ModuleNotFoundError as missing:
        if missing.name != "trl":
            raise
        msg = f"rollmath.adapters.trl.{name} needs TRL: pip install trl=={TESTED}"
        raise ModuleNotFoundError(msg, name="trl") from None
    return getattr(trl, name)


def check_trainer(who: str, trainer: type, *, any_version: bool) -> bool:
    """Whether this is a GRPO trainer (else it is an RLOO trainer), of a TRL that we know.

    Raises:
        TypeError: another trainer.
        RuntimeError: another version of TRL, or methods that are not there.
    """
    kinds = {base.__name__ for base in trainer.__mro__ if base.__module__.partition(".")[0] == "trl"}
    if not kinds & {"GRPOTrainer", "RLOOTrainer"}:
        msg = (
            f"{who}(): a GRPOTrainer or RLOOTrainer of TRL must stand behind the mixin, got {trainer.__name__}; "
            f"write class {trainer.__name__}(RollmathMixin, trl.GRPOTrainer)"
        )
        raise TypeError(msg)
    version = str(importlib.import_module("trl").__version__)
    series = TESTED.rpartition(".")[0]
    if not any_version and version.split(".")[:2] != series.split("."):
        msg = (
            f"{who}(): TRL {series}.x is what this is tested with ({TESTED}), got {version}, whose private methods may "
            f"differ; install trl=={series}.*, or pass any_version=True to go on"
        )
        raise RuntimeError(msg)
    missing = [name for name in METHODS if not callable(getattr(trainer, name, None))]
    if missing:
        msg = f"{who}(): TRL {version} has no {', '.join(missing)}, which this needs; install trl=={series}.*"
        raise RuntimeError(msg)
    return "GRPOTrainer" in kinds

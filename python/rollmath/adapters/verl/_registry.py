"""Names in verl's registries: ours under ``rollmath/``, and ours in place of verl's own."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from rollmath.adapters.verl._batch import Batch
from rollmath.adapters.verl._config import check_known
from rollmath.adapters.verl._estimators import Estimator, as_verl, from_config
from rollmath.adapters.verl._names import estimators, losses
from rollmath.adapters.verl._objectives import as_verl_loss
from rollmath.adapters.verl._replace import INLINE, REPLACEMENTS
from rollmath.adapters.verl._version import load, verl_version

PREFIX = "rollmath/"
_ALGOS = "verl.trainer.ppo.core_algos"


class Registered(NamedTuple):
    """What :func:`register` did.

    Attributes:
        estimators: names for ``algorithm.adv_estimator``.
        objectives: names for ``actor.policy_loss.loss_mode``.
        replaced: verl's own names that are computed here now.
        version: of verl.
    """

    estimators: tuple[str, ...]
    objectives: tuple[str, ...]
    replaced: tuple[str, ...]
    version: str


#: What was in verl's registry and module before, by verl's name.
_before: dict[str, tuple[Any, Any]] = {}
#: The functions that we put there, always the same.
_estimators: dict[str, Callable[..., Any]] = {}
_losses: dict[str, Callable[..., Any]] = {}


def register(*, replace: str | Iterable[str] = (), any_version: bool = False) -> Registered:
    """Adds our estimators and policy losses to verl's registries, as ``rollmath/<name>``.

    To call it again changes nothing but what ``replace`` adds. It has to be called in every process that computes
    advantages or losses: import :mod:`rollmath.adapters.verl.auto` there, see ``docs/trainers/verl.md``.

    Args:
        replace: verl's own estimators to compute here from now on, such as ``("gae", "gdpo")``; ``"all"`` for all of
            them. They keep verl's numbers (1e-6) and read verl's configuration alone.
        any_version: try it with a version of verl that is not supported.

    Returns:
        A :class:`Registered`.

    Raises:
        ModuleNotFoundError: there is no verl.
        RuntimeError: a version of verl that is not supported.
        ValueError: an unknown name in ``replace``.
    """
    names = list(REPLACEMENTS) if replace == "all" else [replace] if isinstance(replace, str) else list(replace)
    check_known("register", "name in 'replace'", names, REPLACEMENTS)
    version = verl_version("register", any_version=any_version)
    algos = load("register", _ALGOS)
    for name, estimator in estimators().items():
        algos.ADV_ESTIMATOR_REGISTRY[PREFIX + name] = _estimators.setdefault(name, as_registered(estimator))
    for name, loss in losses().items():
        algos.POLICY_LOSS_REGISTRY[PREFIX + name] = _losses.setdefault(name, as_verl_loss(name, loss))
    for name in names:
        _replace(algos, name)
    return Registered(
        tuple(PREFIX + name for name in estimators()),
        tuple(PREFIX + name for name in losses()),
        tuple(_before),
        version,
    )


def unregister() -> None:
    """Takes our names out of verl's registries and gives verl's own functions their names back."""
    algos = sys.modules.get(_ALGOS)
    if algos is None:
        return
    for registry in (algos.ADV_ESTIMATOR_REGISTRY, algos.POLICY_LOSS_REGISTRY):
        for name in [name for name in registry if name.startswith(PREFIX)]:
            del registry[name]
    for name, (registered, inline) in _before.items():
        algos.ADV_ESTIMATOR_REGISTRY[name] = registered
        if name in INLINE:
            setattr(algos, INLINE[name], inline)
    _before.clear()


def _replace(algos: Any, name: str) -> None:
    if name in _before:
        return
    inline = getattr(algos, INLINE[name]) if name in INLINE else None
    _before[name] = algos.ADV_ESTIMATOR_REGISTRY[name], inline
    algos.ADV_ESTIMATOR_REGISTRY[name] = REPLACEMENTS[name]
    if name in INLINE:
        setattr(algos, INLINE[name], REPLACEMENTS[name])


def as_registered(estimator: Estimator) -> Callable[..., Any]:
    """A function for verl's registry, which gets keywords alone."""
    who = PREFIX + estimator.name

    def function(
        *, token_level_rewards: Any, response_mask: Any, config: Any = None, index: Any = None, **given: Any
    ) -> tuple[Any, Any]:
        _warn_of_sessions(who)
        columns = {key: value for key, value in {"uid": index, **given}.items() if value is not None}
        return as_verl(from_config(estimator, Batch(who, token_level_rewards, response_mask, config, columns)))

    function.__name__ = function.__qualname__ = who
    return function


def _warn_of_sessions(who: str) -> None:
    """Says so once where v1's trainer asks for several outputs a session, which it tells no estimator.

    The keys of the rows are to be seen in the frame of verl's function that called its ``compute_advantage``.
    """
    frame = sys._getframe(1)
    for _ in range(4):
        if frame.f_back is None:
            return
        frame = frame.f_back
        if frame.f_code.co_name == "compute_advantage_for_multi_trajectories":
            keys = frame.f_locals.get("batch_keys", ())
            if len({str(key).rpartition("_")[0] for key in keys}) < len(keys):
                warnings.warn(
                    f"{who}: some sessions have several outputs, and each row counts as a rollout of its own in the "
                    "statistics; call rollmath.adapters.verl.patch_compute_advantage() to have them counted as one",
                    RuntimeWarning,
                    stacklevel=2,
                )
            return

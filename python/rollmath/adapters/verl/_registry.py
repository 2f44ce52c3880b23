"""Names in verl's registries: ours under ``rollmath/``, and ours in place of verl's own."""

from __future__ import annotations

import functools
import inspect
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

from rollmath._arrays import describe
from rollmath.adapters.verl._batch import Batch
from rollmath.adapters.verl._config import check_known
from rollmath.adapters.verl._estimators import Estimator, as_verl, from_config
from rollmath.adapters.verl._names import ESTIMATORS, losses
from rollmath.adapters.verl._objectives import Always, Loss, as_verl_loss
from rollmath.adapters.verl._replace import INLINE, REPLACEMENTS
from rollmath.adapters.verl._version import load, verl_version

if TYPE_CHECKING:
    from rollmath.loss import Objective

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


#: What was in verl's registry before, and what is there now, by verl's name.
_before: dict[str, tuple[Any, Any]] = {}
#: The functions that we put there, always the same.
_estimators: dict[str, Callable[..., Any]] = {}
_losses: dict[str, Callable[..., Any]] = {}


def register(
    *,
    replace: str | Iterable[str] = (),
    objectives: Mapping[str, Objective] | None = None,
    any_version: bool = False,
) -> Registered:
    """Adds our estimators and policy losses to verl's registries, as ``rollmath/<name>``.

    To call it again changes nothing but what ``replace`` and ``objectives`` add. It has to be called in every process
    that computes advantages or losses: import :mod:`rollmath.adapters.verl.auto` there, or a module of yours that calls
    it, see ``docs/trainers/verl.md``.

    Args:
        replace: verl's own estimators to compute here from now on, such as ``("gae", "gdpo")``; ``"all"`` for all of
            them. They keep verl's numbers (1e-6) and read verl's configuration alone.
        objectives: objectives of yours by name, such as ``{"mine": rollmath.loss.PPO(clip=(0.1, 0.4))}`` for
            ``loss_mode=rollmath/mine``; a name that you gave before gets the new one.
        any_version: try it with a version of verl that is not supported.

    Returns:
        A :class:`Registered`.

    Raises:
        ModuleNotFoundError: there is no verl.
        RuntimeError: a version of verl that is not supported.
        ValueError: an unknown name in ``replace``; a name of ours in ``objectives``.
        TypeError: no objective.
    """
    names = list(REPLACEMENTS) if replace == "all" else [replace] if isinstance(replace, str) else list(replace)
    check_known("register", "name in 'replace'", names, REPLACEMENTS)
    given = dict(objectives or {})
    for name, objective in given.items():
        _check_objective(name, objective)
    version = verl_version("register", any_version=any_version)
    algos = load("register", _ALGOS)
    for name, estimator in ESTIMATORS.items():
        algos.ADV_ESTIMATOR_REGISTRY[PREFIX + name] = _estimators.setdefault(name, as_registered(estimator))
    for name, loss in losses().items():
        algos.POLICY_LOSS_REGISTRY[PREFIX + name] = _losses.setdefault(name, as_verl_loss(name, loss))
    for name, objective in given.items():
        algos.POLICY_LOSS_REGISTRY[PREFIX + name] = as_verl_loss(name, Loss(Always(objective)))
    for name in names:
        _replace(algos, name)
    return Registered(
        tuple(PREFIX + name for name in ESTIMATORS),
        tuple(name for name in algos.POLICY_LOSS_REGISTRY if name.startswith(PREFIX)),
        tuple(_before),
        version,
    )


def _check_objective(name: str, objective: Any) -> None:
    from rollmath.loss import Objective as Base  # noqa: PLC0415 - torch and the objectives load when they are needed

    if not isinstance(objective, Base):
        msg = (
            f"register(): 'objectives[{name!r}]' must be an Objective, such as rollmath.loss.PPO(), "
            f"got {describe(objective)}"
        )
        raise TypeError(msg)
    if name in losses():
        msg = f"register(): 'objectives' has {name!r}, which is a name of ours; choose another name"
        raise ValueError(msg)


def unregister() -> None:
    """Takes our names out of verl's registries and gives verl's own functions their names back."""
    algos = sys.modules.get(_ALGOS)
    if algos is None:
        return
    for registry in (algos.ADV_ESTIMATOR_REGISTRY, algos.POLICY_LOSS_REGISTRY):
        for name in [name for name in registry if name.startswith(PREFIX)]:
            del registry[name]
    for name, (original, ours) in _before.items():
        if algos.ADV_ESTIMATOR_REGISTRY.get(name) is ours:
            algos.ADV_ESTIMATOR_REGISTRY[name] = original
        if name in INLINE and getattr(algos, INLINE[name]) is ours:
            setattr(algos, INLINE[name], original)
    _before.clear()


def _replace(algos: Any, name: str) -> None:
    if name in _before:
        return
    original = algos.ADV_ESTIMATOR_REGISTRY[name]
    ours = with_signature(original, REPLACEMENTS[name])
    _before[name] = original, ours
    algos.ADV_ESTIMATOR_REGISTRY[name] = ours
    if name in INLINE:
        setattr(algos, INLINE[name], ours)


def with_signature(original: Callable[..., Any], ours: Callable[..., Any]) -> Callable[..., Any]:
    """Ours, which takes keywords, as verl's own is called: the order of its arguments, and no others."""
    signature = inspect.signature(original)

    @functools.wraps(original, assigned=("__name__", "__qualname__"))
    def function(*args: Any, **keywords: Any) -> Any:
        given = signature.bind_partial(*args, **keywords).arguments
        return ours(**{**given, **given.pop("kwargs", {})})

    return function


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
    """Says so where v1's trainer asks for several outputs a session: it tells no estimator, and verl's grpo differs.

    The keys of the rows are seen nowhere but in verl's function that called its ``compute_advantage``.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_name != "compute_advantage_for_multi_trajectories":
        frame = frame.f_back
    keys = () if frame is None else frame.f_locals.get("batch_keys", ())
    if len({str(key).rpartition("_")[0] for key in keys}) < len(keys):
        warnings.warn(
            f"{who}: some sessions have several outputs, and each row counts as a rollout of its own in the "
            "statistics; call rollmath.adapters.verl.patch_compute_advantage() to have them counted as one",
            RuntimeWarning,
            stacklevel=2,
        )

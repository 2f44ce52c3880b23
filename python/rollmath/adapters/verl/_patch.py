"""An override of verl's ``compute_advantage``, for what it passes to no estimator.

It says what it patches, and can be undone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from types import FunctionType, TracebackType
from typing import Any

from rollmath.adapters.verl._batch import Batch
from rollmath.adapters.verl._columns import Columns, Queue
from rollmath.adapters.verl._config import check_known, setting
from rollmath.adapters.verl._estimators import Estimator, as_verl, from_config
from rollmath.adapters.verl._names import ESTIMATORS
from rollmath.adapters.verl._registry import PREFIX
from rollmath.adapters.verl._sessions import Sessions
from rollmath.adapters.verl._version import load, verl_version

_LEGACY, _UTILS, _V1 = "verl.trainer.ppo.ray_trainer", "verl.trainer.ppo.v1.utils", "verl.trainer.ppo.v1.trainer_base"
_ONE, _MANY = "compute_advantage", "compute_advantage_for_multi_trajectories"
#: The batch whose advantages v1's trainer computes.
_now: ContextVar[Any] = ContextVar("rollmath_verl_batch", default=None)
#: ``(object, attribute, original, ours)`` of everything that is patched.
_patched: list[tuple[Any, str, Any, Any]] = []


@dataclass(frozen=True)
class Patched:
    """What :func:`patch_compute_advantage` patched; a context manager that undoes it at the end.

    Attributes:
        places: what was replaced, by its full name.
        missing: what could not be imported, and why.
        version: of verl.
    """

    places: tuple[str, ...]
    missing: tuple[str, ...]
    version: str

    def __enter__(self) -> Patched:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        unpatch_compute_advantage()

    def __str__(self) -> str:
        lines = [f"rollmath replaced in verl {self.version}:", *(f"  {place}" for place in self.places)]
        return "\n".join([*lines, *(f"not there: {what}" for what in self.missing)])


def patch_compute_advantage(*, any_version: bool = False) -> Patched:
    """Gives estimators named ``rollmath/...`` the whole batch, and v1's sessions as one rollout each.

    verl passes rewards, mask, uid and little else to an estimator. After this call its ``compute_advantage`` and v1's
    ``compute_advantage_for_multi_trajectories`` hand ours all columns of the DataProto, and those of v1's queue that an
    estimator asks for; a session of several outputs counts once in the statistics, with the reward of its last output,
    and all its rows get its advantage, as in verl's own GRPO. Names without ``rollmath/`` go to verl's function as
    before. Call it in the process that computes advantages: the driver.

    Args:
        any_version: try it with a version of verl that is not supported.

    Returns:
        What was patched (print it); ``with patch_compute_advantage():`` undoes it at the end, and so does
        :func:`unpatch_compute_advantage`.

    Raises:
        ModuleNotFoundError: there is no verl.
        RuntimeError: a version of verl that is not supported; called twice.
    """
    who = "patch_compute_advantage"
    version = verl_version(who, any_version=any_version)
    if _patched:
        msg = f"{who}(): verl is patched already; call unpatch_compute_advantage() first"
        raise RuntimeError(msg)
    missing = []
    for name in (_LEGACY, _UTILS, _V1):
        try:
            load(who, name)
        except ImportError as why:
            missing.append(f"{name} ({why})")
    if _LEGACY not in sys.modules:
        msg = f"{who}(): verl's trainers cannot be imported: {'; '.join(missing)}"
        raise RuntimeError(msg)
    # All that is looked up comes before the first change, so that an error leaves verl as it was.
    original = getattr(sys.modules[_LEGACY], _ONE)
    several = getattr(sys.modules[_UTILS], _MANY) if _UTILS in sys.modules else None
    trainer = sys.modules[_V1].PPOTrainer if _V1 in sys.modules else None
    step = trainer._compute_advantage if trainer else None
    _everywhere(_ONE, original, _one(original))
    if several is not None:
        _everywhere(_MANY, several, _many(several))
    if trainer and step:
        _set(trainer, "_compute_advantage", step, _remembering(step))
    return Patched(tuple(sorted(_named(x, a) for x, a, _, _ in _patched)), tuple(missing), version)


def unpatch_compute_advantage() -> None:
    """Gives verl its functions back, also where modules took ours since, by any name; nothing if there is no patch."""
    if not _patched:
        return
    originals = {ours: original for _, _, original, ours in _patched}
    for where, attribute, original, ours in _patched:
        if getattr(where, attribute, None) is ours:
            setattr(where, attribute, original)
    for module in list(sys.modules.values()):
        for attribute, value in list(getattr(module, "__dict__", {}).items()):
            # Not isinstance, which asks objects that answer with a warning.
            if type(value) is FunctionType and value in originals:
                setattr(module, attribute, originals[value])
    _patched.clear()


def _everywhere(attribute: str, original: Any, ours: Any) -> None:
    """In all modules that hold the function by its name."""
    for module in list(sys.modules.values()):
        if getattr(module, "__dict__", {}).get(attribute) is original:
            _set(module, attribute, original, ours)


def _set(where: Any, attribute: str, original: Any, ours: Any) -> None:
    setattr(where, attribute, ours)
    _patched.append((where, attribute, original, ours))


def _named(where: Any, attribute: str) -> str:
    module = getattr(where, "__module__", None)
    return f"{module}.{where.__name__}.{attribute}" if isinstance(where, type) else f"{where.__name__}.{attribute}"


def ours_by_name(adv_estimator: Any) -> Estimator | None:
    """The estimator of a name with ``rollmath/``; None for one of verl's.

    Raises:
        ValueError: no such estimator; the message lists those that there are.
    """
    name = str(adv_estimator.value if isinstance(adv_estimator, Enum) else adv_estimator)
    if not name.startswith(PREFIX):
        return None
    name = name.removeprefix(PREFIX)
    check_known(PREFIX.rstrip("/"), "estimator", [name], ESTIMATORS)
    return ESTIMATORS[name]


class Settings:
    """``config.algorithm``, and over it what verl passes by name."""

    def __init__(self, config: Any, **given: Any) -> None:
        self._config, self._given = config, given

    def get(self, key: str, default: Any = None) -> Any:
        """A key."""
        return self._given[key] if key in self._given else setting(self._config, key, default)


def _one(original: Callable[..., Any]) -> Callable[..., Any]:
    def compute_advantage(
        data: Any,
        adv_estimator: Any,
        gamma: float = 1.0,
        lam: float = 1.0,
        num_repeat: int = 1,
        norm_adv_by_std_in_grpo: bool = True,
        config: Any = None,
    ) -> Any:
        estimator = ours_by_name(adv_estimator)
        if estimator is None:
            return original(data, adv_estimator, gamma, lam, num_repeat, norm_adv_by_std_in_grpo, config)
        settings = Settings(config, gamma=gamma, lam=lam, norm_adv_by_std_in_grpo=norm_adv_by_std_in_grpo)
        return _into(data, estimator, settings)

    return compute_advantage


def _many(original: Callable[..., Any]) -> Callable[..., Any]:
    def compute_advantage_for_multi_trajectories(
        data: Any,
        batch_keys: list[str],
        adv_estimator: Any,
        gamma: float = 1.0,
        lam: float = 1.0,
        num_repeat: int = 1,
        norm_adv_by_std_in_grpo: bool = True,
        config: Any = None,
    ) -> Any:
        estimator = ours_by_name(adv_estimator)
        if estimator is None:
            return original(data, batch_keys, adv_estimator, gamma, lam, num_repeat, norm_adv_by_std_in_grpo, config)
        settings = Settings(config, gamma=gamma, lam=lam, norm_adv_by_std_in_grpo=norm_adv_by_std_in_grpo)
        now = _now.get()
        here = now is not None and list(now.keys) == list(batch_keys)
        padding = [bool(tag.get("is_padding", False)) for tag in now.tags] if here else None
        sessions = Sessions.of(_MANY, batch_keys, padding=padding)
        width = int(data.batch["response_mask"].shape[1])
        queue = Queue(sys.modules[_V1].tq, list(batch_keys), now.partition_id, width) if here else None
        return _into(data, estimator, settings, sessions if sessions.needed else None, queue)

    return compute_advantage_for_multi_trajectories


def _into(
    data: Any, estimator: Estimator, settings: Settings, sessions: Sessions | None = None, queue: Queue | None = None
) -> Any:
    """Advantages and returns into the batch."""
    if "response_mask" not in data.batch.keys():  # noqa: SIM118 - a TensorDict
        data.batch["response_mask"] = sys.modules[_LEGACY].compute_response_mask(data)
    columns = Columns(data, queue)
    rewards, mask = columns["token_level_rewards"], columns["response_mask"]
    who = PREFIX + estimator.name
    batch = Batch(who, rewards, mask, settings, columns, whole=True, sessions=sessions)
    data.batch["advantages"], data.batch["returns"] = as_verl(from_config(estimator, batch))
    return data


def _remembering(original: Callable[..., Any]) -> Callable[..., Any]:
    """v1's method, while which the batch of the queue is known."""

    def _compute_advantage(self: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        token = _now.set(batch)
        try:
            return original(self, batch, *args, **kwargs)
        finally:
            _now.reset(token)

    return _compute_advantage

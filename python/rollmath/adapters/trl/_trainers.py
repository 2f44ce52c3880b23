"""TRL's trainers with the mixin, made when they are asked for: to make them imports TRL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rollmath.adapters.trl._mixin import RollmathMixin
from rollmath.adapters.trl._version import trl_class

if TYPE_CHECKING:

    class GRPOTrainer(RollmathMixin):
        """``trl.GRPOTrainer`` with the arguments of :class:`RollmathMixin`."""

    class RLOOTrainer(RollmathMixin):
        """``trl.RLOOTrainer`` with the arguments of :class:`RollmathMixin`."""

else:

    def __getattr__(name: str) -> Any:
        if name not in {"GRPOTrainer", "RLOOTrainer"}:
            msg = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(msg)
        doc = f"``trl.{name}`` with the arguments of :class:`RollmathMixin`."
        made = type(name, (RollmathMixin, trl_class(name)), {"__doc__": doc, "__module__": __name__})
        # Made once, and found here when it is pickled.
        globals()[name] = made
        return made

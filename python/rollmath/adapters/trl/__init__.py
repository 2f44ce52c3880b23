"""TRL: trainers that take any advantage, filter, objective or recipe, and stay TRL's own in all else.

::

    from rollmath.adapters.trl import GRPOTrainer
    trainer = GRPOTrainer(model, reward_funcs, args=config, train_dataset=data, recipe="dapo")

TRL is imported with the trainers and not before: :class:`RollmathMixin` and :class:`TRLBatch` do without.
"""

from typing import TYPE_CHECKING

from rollmath._lazy import lazy

if TYPE_CHECKING:
    from rollmath.adapters.trl._batch import TRLBatch
    from rollmath.adapters.trl._mixin import RollmathMixin
    from rollmath.adapters.trl._trainers import GRPOTrainer, RLOOTrainer
    from rollmath.adapters.trl._tree_rollout import tree_rollout

__all__ = ["GRPOTrainer", "RLOOTrainer", "RollmathMixin", "TRLBatch", "tree_rollout"]

_load, __dir__ = lazy(
    __name__,
    {
        "_batch": ("TRLBatch",),
        "_mixin": ("RollmathMixin",),
        "_trainers": ("GRPOTrainer", "RLOOTrainer"),
        "_tree_rollout": ("tree_rollout",),
    },
)
if not TYPE_CHECKING:  # to a type checker, a name that is not there is an error
    __getattr__ = _load

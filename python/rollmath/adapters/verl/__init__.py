"""verl: our estimators and policy losses in its registries, in place of its own, and with more than it passes.

Nothing of verl is imported before a function here is called::

    from rollmath.adapters import verl as rollmath_verl

    rollmath_verl.register()                              # adv_estimator=rollmath/grpo, loss_mode=rollmath/gspo, ...
    rollmath_verl.register(replace=("gae", "gdpo"))       # verl's own names, computed here
    rollmath_verl.patch_compute_advantage()               # columns of the batch, sessions of several outputs

``docs/trainers/verl.md`` says which to call where.
"""

from typing import TYPE_CHECKING

from rollmath._lazy import lazy
from rollmath.adapters.verl._version import SUPPORTED, TESTED

if TYPE_CHECKING:
    from rollmath.adapters.verl._patch import Patched, patch_compute_advantage, unpatch_compute_advantage
    from rollmath.adapters.verl._registry import Registered, register, unregister

_load, __dir__ = lazy(
    __name__,
    {
        "_patch": ("Patched", "patch_compute_advantage", "unpatch_compute_advantage"),
        "_registry": ("Registered", "register", "unregister"),
    },
)
if not TYPE_CHECKING:  # to a type checker, a name that is not there is an error
    __getattr__ = _load

__all__ = [
    "SUPPORTED",
    "TESTED",
    "Patched",
    "Registered",
    "patch_compute_advantage",
    "register",
    "unpatch_compute_advantage",
    "unregister",
]

"""slime: functions to name in its ``--custom-*-path`` flags. slime itself is imported when one of them needs it.

>>> from rollmath.adapters import slime
>>> slime.__all__
['advantages', 'dynamic_filter', 'dynamic_filter_with_fallback', 'loss_reducer', 'policy_loss', 'post_process_rewards',
 'tis']
"""

from typing import TYPE_CHECKING

from rollmath._lazy import lazy

if TYPE_CHECKING:
    from rollmath.adapters.slime._advantages import advantages
    from rollmath.adapters.slime._filter import dynamic_filter, dynamic_filter_with_fallback
    from rollmath.adapters.slime._loss import policy_loss
    from rollmath.adapters.slime._reducer import loss_reducer
    from rollmath.adapters.slime._rewards import post_process_rewards
    from rollmath.adapters.slime._tis import tis

_load, __dir__ = lazy(
    __name__,
    {
        "_advantages": ("advantages",),
        "_filter": (
            "dynamic_filter",
            "dynamic_filter_with_fallback",
        ),
        "_loss": ("policy_loss",),
        "_reducer": ("loss_reducer",),
        "_rewards": ("post_process_rewards",),
        "_tis": ("tis",),
    },
)
if not TYPE_CHECKING:  # to a type checker, a name that is not there is an error
    __getattr__ = _load

__all__ = [
    "advantages",
    "dynamic_filter",
    "dynamic_filter_with_fallback",
    "loss_reducer",
    "policy_loss",
    "post_process_rewards",
    "tis",
]

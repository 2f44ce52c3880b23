"""Credit on step graphs: one number a step, from states and steps that rollouts of a task share.

One file per method family; all work on a :class:`~rollmath.Steps` table.
"""

from typing import TYPE_CHECKING

from rollmath._lazy import lazy

if TYPE_CHECKING:
    from rollmath.graph._canonical import canonical_states
    from rollmath.graph._salt import salt

_load, __dir__ = lazy(
    __name__,
    {
        "_canonical": ("canonical_states",),
        "_salt": ("salt",),
    },
)

__all__ = [
    "canonical_states",
    "salt",
]

if not TYPE_CHECKING:
    __getattr__ = _load

"""Credit on step graphs: one number a step, from states and steps that rollouts of a task share.

One file per method family; all work on a :class:`~rollmath.Steps` table.
"""

from typing import TYPE_CHECKING

from rollmath._lazy import lazy

if TYPE_CHECKING:
    from rollmath.graph._gigpo import gigpo, gigpo_episode, gigpo_step
    from rollmath.graph._hgpo import hgpo
    from rollmath.graph._salt import salt
    from rollmath.graph._step_returns import step_returns

_load, __dir__ = lazy(
    __name__,
    {
        "_gigpo": ("gigpo", "gigpo_episode", "gigpo_step"),
        "_hgpo": ("hgpo",),
        "_salt": ("salt",),
        "_step_returns": ("step_returns",),
    },
)

__all__ = [
    "gigpo",
    "gigpo_episode",
    "gigpo_step",
    "hgpo",
    "salt",
    "step_returns",
]

if not TYPE_CHECKING:
    __getattr__ = _load

"""Credit on step graphs: one number a step, from states and steps that rollouts of a task share.

One file per method family; all work on a :class:`~rollmath.Steps` table.
"""

from typing import TYPE_CHECKING

from rollmath._lazy import lazy

if TYPE_CHECKING:
    from rollmath.graph._canonical import canonical_states
    from rollmath.graph._g2po import g2po
    from rollmath.graph._gigpo import gigpo, gigpo_episode, gigpo_step
    from rollmath.graph._graft import graft, graft_values
    from rollmath.graph._graphgpo import graphgpo
    from rollmath.graph._hgpo import hgpo
    from rollmath.graph._rewardflow import rewardflow, rewardflow_values
    from rollmath.graph._rtmc import rtmc
    from rollmath.graph._salt import salt
    from rollmath.graph._step_reinforce import step_reinforce
    from rollmath.graph._step_returns import segment_returns, step_returns
    from rollmath.graph._values import StepValues

_load, __dir__ = lazy(
    __name__,
    {
        "_canonical": ("canonical_states",),
        "_g2po": ("g2po",),
        "_gigpo": ("gigpo", "gigpo_episode", "gigpo_step"),
        "_graft": ("graft", "graft_values"),
        "_graphgpo": ("graphgpo",),
        "_hgpo": ("hgpo",),
        "_rewardflow": ("rewardflow", "rewardflow_values"),
        "_rtmc": ("rtmc",),
        "_salt": ("salt",),
        "_step_reinforce": ("step_reinforce",),
        "_step_returns": ("segment_returns", "step_returns"),
        "_values": ("StepValues",),
    },
)

__all__ = [
    "StepValues",
    "canonical_states",
    "g2po",
    "gigpo",
    "gigpo_episode",
    "gigpo_step",
    "graft",
    "graft_values",
    "graphgpo",
    "hgpo",
    "rewardflow",
    "rewardflow_values",
    "rtmc",
    "salt",
    "segment_returns",
    "step_reinforce",
    "step_returns",
]

if not TYPE_CHECKING:
    __getattr__ = _load

"""Selection: which rollouts to train on."""

from typing import TYPE_CHECKING

from rollmath._lazy import lazy

if TYPE_CHECKING:
    from rollmath.select._group_filters import mean_band, nonzero_spread
    from rollmath.select._hint_ladder import HintLadder
    from rollmath.select._leaf_sample import leaf_sample
    from rollmath.select._prompt_priority import PromptStats
    from rollmath.select._prompt_sampler import PromptDraw, PromptSampler
    from rollmath.select._replay import ReplayBuffer, ReplayDraw
    from rollmath.select._selection import Dropped, Selection, SelectionReport

_load, __dir__ = lazy(
    __name__,
    {
        "_group_filters": ("mean_band", "nonzero_spread"),
        "_hint_ladder": ("HintLadder",),
        "_leaf_sample": ("leaf_sample",),
        "_prompt_priority": ("PromptStats",),
        "_prompt_sampler": ("PromptDraw", "PromptSampler"),
        "_replay": ("ReplayBuffer", "ReplayDraw"),
        "_selection": ("Dropped", "Selection", "SelectionReport"),
    },
)
if not TYPE_CHECKING:  # to a type checker, a name that is not there is an error
    __getattr__ = _load

__all__ = [
    "Dropped",
    "HintLadder",
    "PromptDraw",
    "PromptSampler",
    "PromptStats",
    "ReplayBuffer",
    "ReplayDraw",
    "Selection",
    "SelectionReport",
    "leaf_sample",
    "mean_band",
    "nonzero_spread",
]

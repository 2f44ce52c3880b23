"""Selection: which rollouts to train on."""

from typing import TYPE_CHECKING

from rollmath._lazy import lazy

if TYPE_CHECKING:
    from rollmath.select._group_filters import mean_band, nonzero_spread
    from rollmath.select._leaf_sample import leaf_sample
    from rollmath.select._replay import ReplayBuffer, ReplayDraw
    from rollmath.select._selection import Dropped, Selection, SelectionReport

_load, __dir__ = lazy(
    __name__,
    {
        "_group_filters": ("mean_band", "nonzero_spread"),
        "_leaf_sample": ("leaf_sample",),
        "_replay": ("ReplayBuffer", "ReplayDraw"),
        "_selection": ("Dropped", "Selection", "SelectionReport"),
    },
)
if not TYPE_CHECKING:  # to a type checker, a name that is not there is an error
    __getattr__ = _load

__all__ = [
    "Dropped",
    "ReplayBuffer",
    "ReplayDraw",
    "Selection",
    "SelectionReport",
    "leaf_sample",
    "mean_band",
    "nonzero_spread",
]

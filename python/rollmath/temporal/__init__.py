"""Values and advantages along time: one function a method, over the scans of :mod:`rollmath.ops`."""

from typing import TYPE_CHECKING

from rollmath._lazy import lazy
from rollmath.ops import Moments, Whiten, whiten

if TYPE_CHECKING:
    from rollmath.temporal._gae import GAE, gae
    from rollmath.temporal._length_adaptive import length_adaptive_lambda
    from rollmath.temporal._returns import discounted_returns
    from rollmath.temporal._td_lambda import td_lambda
    from rollmath.temporal._turn_rows import TurnGAE
    from rollmath.temporal._turns import expand_turns, turn_gae
    from rollmath.temporal._two_level import two_level_gae
    from rollmath.temporal._vtrace import VTrace, vtrace

_load, __dir__ = lazy(
    __name__,
    {
        "_gae": (
            "GAE",
            "gae",
        ),
        "_length_adaptive": ("length_adaptive_lambda",),
        "_returns": ("discounted_returns",),
        "_td_lambda": ("td_lambda",),
        "_turn_rows": ("TurnGAE",),
        "_turns": (
            "expand_turns",
            "turn_gae",
        ),
        "_two_level": ("two_level_gae",),
        "_vtrace": (
            "VTrace",
            "vtrace",
        ),
    },
)
if not TYPE_CHECKING:  # to a type checker, a name that is not there is an error
    __getattr__ = _load

__all__ = [
    "GAE",
    "Moments",
    "TurnGAE",
    "VTrace",
    "Whiten",
    "discounted_returns",
    "expand_turns",
    "gae",
    "length_adaptive_lambda",
    "td_lambda",
    "turn_gae",
    "two_level_gae",
    "vtrace",
    "whiten",
]

"""Values and advantages along time: one function a method, over the scans of :mod:`rollmath.ops`."""

from rollmath.ops import Moments, Whiten, whiten
from rollmath.temporal._gae import GAE, gae
from rollmath.temporal._length_adaptive import length_adaptive_lambda
from rollmath.temporal._returns import discounted_returns
from rollmath.temporal._td_lambda import td_lambda
from rollmath.temporal._turn_rows import TurnGAE
from rollmath.temporal._turns import expand_turns, turn_gae
from rollmath.temporal._two_level import two_level_gae
from rollmath.temporal._vtrace import VTrace, vtrace

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

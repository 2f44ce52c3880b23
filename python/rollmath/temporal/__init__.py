"""Values and advantages along time: one function a method, over the scans of :mod:`rollmath.ops`."""

from rollmath.ops import Moments, Whiten, whiten
from rollmath.temporal._gae import GAE, gae
from rollmath.temporal._returns import discounted_returns
from rollmath.temporal._td_lambda import td_lambda
from rollmath.temporal._vtrace import VTrace, vtrace

__all__ = [
    "GAE",
    "Moments",
    "VTrace",
    "Whiten",
    "discounted_returns",
    "gae",
    "moments",
    "td_lambda",
    "vtrace",
    "whiten",
]

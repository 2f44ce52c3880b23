"""Values and advantages along time: one function a method, over the scans of :mod:`rollmath.ops`."""

from rollmath.temporal._length_adaptive import length_adaptive_lambda

__all__ = ["length_adaptive_lambda"]

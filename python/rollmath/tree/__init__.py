"""Advantages of branches: one number a node of a forest. One file per method family."""

from rollmath.tree._spo import nonzero_edges, spo

__all__ = ["nonzero_edges", "spo"]

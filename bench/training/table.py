"""All arms: whoever imports this has them in ``ARMS``."""

from __future__ import annotations

from bench.training import tree_arms
from bench.training.arms import ARMS

__all__ = ["ARMS", "tree_arms"]

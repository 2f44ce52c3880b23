"""All arms: whoever imports this has them in ``ARMS``."""

from __future__ import annotations

from bench.training import agent_arms, select_arms, stale_arms, tree_arms
from bench.training.arms import ARMS

__all__ = ["ARMS", "agent_arms", "select_arms", "stale_arms", "tree_arms"]

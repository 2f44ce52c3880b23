"""Group-relative advantages: one number a rollout, from the rewards of its group. One file per method family."""

from rollmath.group._grpo import grpo
from rollmath.group._rloo import rloo
from rollmath.group._stats import stats

__all__ = ["grpo", "rloo", "stats"]

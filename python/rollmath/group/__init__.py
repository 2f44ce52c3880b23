"""Group-relative advantages: one function a method, over the primitives of :mod:`rollmath.ops`."""

from rollmath.group._grpo import grpo
from rollmath.group._optimal_token_baseline import optimal_token_baseline
from rollmath.group._reinforce_pp import reinforce_pp, reinforce_pp_baseline
from rollmath.group._rloo import rloo
from rollmath.group._stats import stats

__all__ = ["grpo", "optimal_token_baseline", "reinforce_pp", "reinforce_pp_baseline", "rloo", "stats"]

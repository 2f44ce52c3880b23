"""Group-relative advantages: one number a rollout, from the rewards of its group. One file per method family."""

from rollmath.group._bnpo import bnpo
from rollmath.group._dr_grpo import dr_grpo
from rollmath.group._gdpo import gdpo
from rollmath.group._gpg import gpg
from rollmath.group._grpo import grpo
from rollmath.group._lite_ppo import lite_ppo
from rollmath.group._mapo import mapo
from rollmath.group._maxrl import maxrl
from rollmath.group._opo import opo, optimal_baseline
from rollmath.group._passk import pass_at_k, passk
from rollmath.group._quantile import quantile_baseline
from rollmath.group._remax import remax
from rollmath.group._rloo import rloo
from rollmath.group._stats import stats
from rollmath.group._stratified import stratified

__all__ = [
    "bnpo",
    "dr_grpo",
    "gdpo",
    "gpg",
    "grpo",
    "lite_ppo",
    "mapo",
    "maxrl",
    "opo",
    "optimal_baseline",
    "pass_at_k",
    "passk",
    "quantile_baseline",
    "remax",
    "rloo",
    "stats",
    "stratified",
]

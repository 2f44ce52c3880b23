"""Group-relative advantages: one function a method, over the primitives of :mod:`rollmath.ops`."""

from rollmath.group._grpo import grpo
from rollmath.group._optimal_token_baseline import optimal_token_baseline
from rollmath.group._reinforce_pp import reinforce_pp, reinforce_pp_baseline
from rollmath.group._reward_hbpo import hbpo, hbpo_reward
from rollmath.group._reward_kimi import kimi_length_reward
from rollmath.group._reward_otc import otc_reward
from rollmath.group._reward_overlong import overlong_penalty
from rollmath.group._reward_tempsamp import tempsamp_anchor, tempsamp_reward
from rollmath.group._reward_vote import majority_reward, vote_reward
from rollmath.group._rloo import rloo
from rollmath.group._stats import stats

__all__ = [
    "grpo",
    "hbpo",
    "hbpo_reward",
    "kimi_length_reward",
    "majority_reward",
    "optimal_token_baseline",
    "otc_reward",
    "overlong_penalty",
    "reinforce_pp",
    "reinforce_pp_baseline",
    "rloo",
    "stats",
    "tempsamp_anchor",
    "tempsamp_reward",
    "vote_reward",
]

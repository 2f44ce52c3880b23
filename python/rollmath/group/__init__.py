"""Group-relative advantages: one number a rollout, from the rewards of its group. One file per method family."""

from rollmath.group._grpo import grpo
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
    "otc_reward",
    "overlong_penalty",
    "rloo",
    "stats",
    "tempsamp_anchor",
    "tempsamp_reward",
    "vote_reward",
]

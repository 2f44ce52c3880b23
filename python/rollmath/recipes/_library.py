"""The recipes that come with the library."""

from __future__ import annotations

from rollmath.loss import KL, PPO, Reinforce
from rollmath.recipes._advantage import Advantage
from rollmath.recipes._parts import Filter
from rollmath.recipes._recipe import Recipe

GRPO = Recipe(
    name="grpo",
    advantage=Advantage("group.grpo"),
    objective=PPO(clip=(0.2, 0.2)),
    aggregation="seq_mean_token_mean",
    kl=KL(0.04, kind="k3"),
    source="Shao et al. 2024, DeepSeekMath, arXiv 2402.03300",
)
DAPO = Recipe(
    name="dapo",
    advantage=Advantage("group.grpo"),
    objective=PPO(clip=(0.2, 0.28)),
    aggregation="token_mean",
    filter=Filter("nonzero_spread"),
    source="Yu et al. 2025, DAPO, arXiv 2503.14476",
)
RLOO = Recipe(
    name="rloo",
    advantage=Advantage("group.rloo"),
    objective=Reinforce(),
    aggregation="rollout_mean_token_sum",
    reward_kl=0.05,
    source="Ahmadian et al. 2024, Back to Basics, arXiv 2402.14740",
)

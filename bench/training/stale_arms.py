"""Arms whose sampler lags behind, as in asynchronous training: what a correction of that is worth.

A step is a quarter of that of the other arms, with one update, so that a run has many steps that are off-policy.
"""

from __future__ import annotations

from typing import Any

from bench.training.arms import ONE_UPDATE, SMALL, Arm, add, named
from rollmath.loss import DecoupledPPO, Gate, ImportanceWeight

LAG = 16  # updates: four steps of the other arms


def stale(name: str, title: str, *, fresh_prox: bool = True, **changes: Any) -> Arm:
    """GRPO from a sampler of some steps ago; clipped around the model before the update, or around the sampler."""
    settings = {**ONE_UPDATE, "fresh_prox": fresh_prox}
    return Arm(name, title, named("grpo", **changes), SMALL, lag=LAG, settings=settings)


add(
    Arm("small_grpo", "GRPO, 16 prompts and one update a step", named("grpo"), SMALL, settings=ONE_UPDATE),
    stale("stale_coupled", "Stale, clipped around the sampler", fresh_prox=False),
    stale("stale_uncorrected", "Stale, not corrected"),
    stale("stale_tis", "Stale, truncated weights (TIS)", correction=ImportanceWeight(2.0)),
    stale("stale_mis", "Stale, masked weights (IcePop)", correction=ImportanceWeight((0.5, 2.0), outside="zero")),
    stale("stale_gate", "Stale, tokens far from the sampler rejected", correction=Gate("ratio", (0.5, 2.0))),
    stale("stale_decoupled", "Stale, decoupled PPO", objective=DecoupledPPO(clip=(0.2, 0.2), cap=5.0)),
)

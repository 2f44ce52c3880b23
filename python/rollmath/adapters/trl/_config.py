"""What TRL's own configuration says, in our terms: its objective, KL term, normalisation and advantages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath import conventions, group, ops
from rollmath.loss import CISPO, GSPO, KL, PPO, SAPO, VESPO, Aggregation, Objective

if TYPE_CHECKING:
    from rollmath._arrays import Array
    from rollmath.adapters.trl._batch import TRLBatch

TRL = conventions.TRL_1_16
#: Options that make TRL's objective, and do nothing where it is another one.
OF_OBJECTIVE = (
    "epsilon",
    "epsilon_high",
    "delta",
    "importance_sampling_level",
    "sapo_temperature_pos",
    "sapo_temperature_neg",
    "vespo_k_pos",
    "vespo_lambda_pos",
    "vespo_k_neg",
    "vespo_lambda_neg",
)
#: Options that make TRL's advantages.
OF_ADVANTAGE = ("scale_rewards", "multi_objective_aggregation", "normalize_advantages")


def objective_of(who: str, args: Any) -> Objective:
    """The objective of a GRPOConfig.

    Raises:
        ValueError: a combination of options that has no counterpart here.
    """
    clip = (args.epsilon, args.epsilon if args.epsilon_high is None else args.epsilon_high)
    sequence = args.importance_sampling_level == "sequence"
    kind = args.loss_type
    if kind in {"grpo", "bnpo", "dr_grpo", "dapo", "luspo"} and not (sequence and args.delta is not None):
        return GSPO(clip=clip, unit="row") if sequence else PPO(clip=clip, delta=args.delta)
    if not sequence:
        if kind == "cispo":
            return CISPO(cap=clip[1])
        if kind == "sapo":
            return SAPO(tau_pos=args.sapo_temperature_pos, tau_neg=args.sapo_temperature_neg)
        if kind == "vespo" and not (args.use_vllm and args.vllm_importance_sampling_correction):
            return VESPO(
                k_pos=args.vespo_k_pos,
                lambda_pos=args.vespo_lambda_pos,
                k_neg=args.vespo_k_neg,
                lambda_neg=args.vespo_lambda_neg,
                unit="row",
            )
    also = ", delta" * (args.delta is not None) + ", vllm_importance_sampling_correction" * (kind == "vespo")
    msg = (
        f"{who}(): the configuration's loss_type={kind!r} with importance_sampling_level="
        f"{args.importance_sampling_level!r}{also} has no counterpart here; give 'objective', or leave the loss to TRL"
    )
    raise ValueError(msg)


def kl_of(who: str, args: Any) -> KL | None:
    """The KL term of a GRPOConfig: k3 against the reference; None for beta 0.

    Raises:
        ValueError: a bias correction by the ratio of a sequence.
    """
    if args.beta == 0:
        return None
    if not args.use_bias_correction_kl:
        return KL(args.beta)
    if args.importance_sampling_level != "token":
        msg = (
            f"{who}(): use_bias_correction_kl with importance_sampling_level={args.importance_sampling_level!r} has no "
            "counterpart here; set use_bias_correction_kl=False, or leave the loss to TRL"
        )
        raise ValueError(msg)
    return KL(args.beta, importance="ratio")


@dataclass(frozen=True)
class Window:
    """What TRL divides by beside the counts of a micro-batch.

    Attributes:
        steps: micro-batches of this optimiser step; 1 in an evaluation.
        items: trained tokens of an optimiser step and rank, on average over those of the generation batch.
    """

    steps: int
    items: float


def aggregation_of(args: Any, window: Window) -> Aggregation:
    """What TRL's loss_type divides by, with the counts of a micro-batch: a mean of means but for dapo and its kind."""
    kind, steps = args.loss_type, float(window.steps)
    if kind in {"dapo", "cispo", "vespo"}:
        return Aggregation(unit="batch", within="sum", divisor=max(window.items, 1e-9))
    if kind == "bnpo":
        return Aggregation(unit="token", divisor=steps)
    if kind in {"grpo", "sapo"}:
        return Aggregation(unit="row", divisor=steps, empty="include")
    longest = args.max_completion_length if kind == "dr_grpo" else 1
    return Aggregation(unit="row", within="sum", divisor=steps * longest, empty="include")


def advantages_of(args: Any, batch: TRLBatch, *, grpo: bool) -> Array:
    """TRL's advantages by our functions, which know groups by their ids and give 0 where there is no spread."""
    rewards, groups = batch.rewards, batch.groups
    known: dict[str, Any] = {"valid": batch.valid, "convention": TRL}
    if not grpo:
        out = group.rloo(rewards, groups, **known)
        whiten = TRL.options["gdpo"]["whiten"]
        return ops.whiten(np.asarray(out), how=whiten, valid=batch.valid) if args.normalize_advantages else out
    if args.multi_objective_aggregation == "normalize_then_sum":
        weights = batch.reward_weights
        return group.gdpo(batch.reward_table, groups, weights=weights, **known, **TRL.options["gdpo"])
    if args.scale_rewards == "batch":
        return group.lite_ppo(rewards, groups, **known)
    return group.grpo(rewards, groups, scale="std" if args.scale_rewards == "group" else "none", **known)

"""``--custom-loss-function-path``: an objective of ours in slime's training step."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rollmath import loss as rml
from rollmath._logprobs import LogProbs
from rollmath.adapters.slime._settings import check_sizes, recipe_of, whole_rows
from rollmath.rows import Rows

WHO = "policy_loss"
CLIPPED = ("clip_high", "clip_low")
OWN_TIS = "rollmath.adapters.slime.tis"


@dataclass(frozen=True)
class Terms:
    """What the loss is made of."""

    objective: rml.Objective
    aggregation: rml.Aggregation
    kl: rml.Objective | None
    entropy: float
    correction: Any


def policy_loss(
    args: Any, batch: dict[str, Any], logits: torch.Tensor, sum_of_sample_mean: Callable[[torch.Tensor], torch.Tensor]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    r"""``sum_t w_t (c_t L_t + KL_t - coef H_t)`` over the samples of a micro-batch, as slime reduces its own losses.

    ``--loss-type custom_loss --custom-loss-function-path rollmath.adapters.slime.policy_loss``

    Objective, KL term, entropy bonus and correction are those of the recipe; without one, what slime's own arguments
    say (``--advantage-estimator`` grpo, gspo, cispo and the others, ``--eps-clip``, ``--use-kl-loss``,
    ``--entropy-coef``, ``--use-tis``, ``--use-opsm``), in slime's numbers. Log-probabilities and entropy are taken
    from slime's own function, tensor parallelism included.

    The weight ``w_t`` of a token is slime's, which divides what comes back by the rollouts of the step, or by its
    tokens:

    ====================================== =============================================================================
    aggregation of the recipe              ``w_t``
    ====================================== =============================================================================
    mean over rollouts (or rows) of means  1 / trained tokens of the rollout, in the whole step
    mean over rollouts (or rows) of sums   1 / divisor: 1, or the constant of Dr. GRPO
    ``"token_mean"``                       1; needs ``--calculate-per-token-loss``, and the others that it is not there
    ====================================== =============================================================================

    slime counts every rollout of the step, also those without a trained token (``empty="include"``).

    ``loss_type`` ``custom_loss`` makes slime compute the log-probabilities of the policy before the step in a forward
    pass of their own, which it saves where a rollout trains in one step with its own loss.

    Args:
        args: slime's arguments.
        batch: slime's micro-batch.
        logits: of the model.
        sum_of_sample_mean: slime's reduction, for the metrics.

    Returns:
        The loss, and metrics under slime's names: ``loss``, ``pg_loss``, ``entropy_loss``, ``pg_clipfrac``, ``ppo_kl``,
        ``kl_loss``.

    Raises:
        ValueError: context parallelism; an aggregation that slime's reduction cannot give; several samples of one
            rollout under a mean over rows; reference log-probabilities that slime did not compute; options of slime's
            own loss that have no effect here.

    Source: slime 0.3.1, ``policy_loss_function``, whose code was executed.
    """
    theirs = importlib.import_module("slime.backends.megatron_utils.loss")
    whole_rows(WHO, args, "a custom loss", "use --context-parallel-size 1, or slime's own --loss-type policy_loss")
    for name in ("custom_pg_loss_reducer_function_path", "custom_tis_function_path"):
        if getattr(args, name, None) not in {None, OWN_TIS}:
            msg = f"{WHO}(): 'args.{name}' is not called by a custom loss; put it in the recipe"
            raise ValueError(msg)
    terms = _terms(args)
    lengths = batch["response_lengths"]
    found = theirs.get_log_probs_and_entropy(
        logits,
        args=args,
        unconcat_tokens=batch["unconcat_tokens"],
        total_lengths=batch["total_lengths"],
        response_lengths=lengths,
        with_entropy=True,
        **theirs.get_rollout_top_p_logprob_kwargs(args, batch),
    )[1]
    theta, entropy = torch.cat(found["log_probs"]), torch.cat(found["entropy"])
    check_sizes(WHO, "log_probs", len(theta), lengths)
    logprobs = _policies(args, batch, theta, terms)
    marks = [x.cpu().numpy() for x in batch["loss_masks"]]
    rows = Rows(range(len(marks)), [len(x) for x in marks], mask=marks)
    totals = [int(x) for x in batch["rollout_mask_sums"].tolist()]
    normalizer, times = _normalizer(args, rows, totals, terms.aggregation)
    out = rml.policy_loss(
        logprobs,
        torch.cat(batch["advantages"]),
        rows,
        terms.objective,
        normalizer=normalizer,
        aggregation=terms.aggregation,
        level="token",
        correction=terms.correction,
        kl=terms.kl,
        entropy=rml.EntropyBonus(entropy, terms.entropy) if terms.entropy else None,
    )
    value = out.loss * times
    if theta.numel() == 0:
        value = value + 0 * logits.sum()
    log = _parts(out.metrics, times, terms.kl)
    with torch.no_grad():
        log["entropy_loss"] = sum_of_sample_mean(entropy)
        log["ppo_kl"] = sum_of_sample_mean(logprobs.proximal - theta)
        # The share of the tokens here, times the weight that slime's reduction gives to all of them.
        clipped = sum(out.metrics[name] for name in CLIPPED if name in out.metrics)
        here = normalizer.tokens / max(int(rows.trained.sum()), 1)
        log["pg_clipfrac"] = clipped * here * sum_of_sample_mean(torch.ones_like(entropy))
    return value, log


def _terms(args: Any) -> Terms:
    recipe = recipe_of(args)
    if recipe is not None:
        aggregation = recipe.aggregation
        if isinstance(aggregation, str):
            aggregation = rml.Aggregation.named(aggregation)
        return Terms(recipe.objective, aggregation, recipe.kl, recipe.entropy, recipe.correction)
    clip = (args.eps_clip, args.eps_clip_high)
    objective: rml.Objective
    if args.advantage_estimator == "cispo":
        objective = rml.CISPO(clip=clip)
    elif args.advantage_estimator == "gspo":
        objective = rml.GSPO(clip=clip, unit="row")
    else:
        objective = rml.PPO(clip=clip, dual_clip=args.eps_clip_c)
    kl = None
    if args.use_kl_loss:
        kind: Any = "k3" if args.kl_loss_type == "low_var_kl" else args.kl_loss_type
        kl = rml.KL(
            args.kl_loss_coef,
            kind=kind,
            importance="ratio" if args.use_unbiased_kl else None,
            max_value=10.0 if args.kl_loss_type == "low_var_kl" else None,
        )
    correction: list[Any] = []
    if args.use_tis:
        correction.append(rml.ImportanceWeight((args.tis_clip_low, args.tis_clip)))
    if args.use_opsm:
        correction.append(rml.Gate("k1", args.opsm_delta, level="row", ratio="theta/prox", when="negative_advantage"))
    named = "token_mean" if args.calculate_per_token_loss else "rollout_mean_token_mean"
    return Terms(objective, rml.Aggregation.named(named), kl, args.entropy_coef, tuple(correction) or None)


def _policies(args: Any, batch: dict[str, Any], theta: torch.Tensor, terms: Terms) -> LogProbs:
    """What slime has of the four policies."""

    def column(name: str) -> torch.Tensor | None:
        given = batch.get(name)
        return torch.cat(given).detach().to(theta.dtype) if given else None

    ref = column("ref_log_probs")
    if terms.kl is not None and ref is None:
        msg = (
            f"{WHO}(): 'batch' must have 'ref_log_probs' for the KL term; pass --use-kl-loss, with which slime "
            "loads the reference model, or set kl to nothing in the recipe"
        )
        raise ValueError(msg)
    behaviour = column("rollout_log_probs")
    return LogProbs(
        theta, prox=behaviour if args.use_rollout_logprobs else column("log_probs"), behaviour=behaviour, ref=ref
    )


def _normalizer(args: Any, rows: Rows, totals: list[int], aggregation: rml.Aggregation) -> tuple[rml.Normalizer, float]:
    """Counts under which a token has ``1 / (n * w)``, and ``n``: slime divides by rollouts or tokens of the step."""
    per_token = bool(args.calculate_per_token_loss)
    if per_token != (aggregation.unit == "token"):
        msg = (
            f"{WHO}(): 'args.calculate_per_token_loss' must be {not per_token} for the aggregation {aggregation}; "
            + ("leave --calculate-per-token-loss away" if per_token else "pass --calculate-per-token-loss")
        )
        raise ValueError(msg)
    if aggregation.unit not in {"token", "row", "rollout"}:
        msg = (
            f"{WHO}(): 'aggregation' must be a mean over tokens, rows or rollouts, got {aggregation}; slime divides by "
            "the rollouts or the tokens of the step"
        )
        raise ValueError(msg)
    trained = rows.trained
    if per_token:
        return rml.Normalizer.local(rows), float(trained.sum())
    live = trained > 0
    if aggregation.unit == "row" and (np.array(totals)[live] != trained[live]).any():
        msg = (
            f"{WHO}(): 'aggregation' must not be over rows where a rollout is several samples, for slime divides by "
            f"the number of rollouts, got {aggregation}; use unit='rollout'"
        )
        raise ValueError(msg)
    n = int(live.sum())
    counted = {row: total if there else 0 for row, (total, there) in enumerate(zip(totals, live, strict=True))}
    made = rml.Normalizer(tokens=sum(counted.values()), rows=n, rollouts=n, rollout_tokens=counted)
    return made, float(n)


def _parts(found: rml.LossMetrics, times: float, kl: Any) -> dict[str, torch.Tensor]:
    """The loss and its terms under slime's names."""
    log = {"loss": found["loss"] * times, "pg_loss": found["policy_loss"] * times}
    if "kl_loss" in found:
        # Before its coefficient, as slime reports it.
        log["kl_loss"] = found["kl_loss"] * times / (getattr(kl, "coef", 1.0) or 1.0)
    return log

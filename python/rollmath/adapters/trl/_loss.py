"""The loss of a micro-batch by policy_loss, with the terms that TRL adds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from rollmath._logprobs import LogProbs
from rollmath.adapters.trl._loss_log import Tokens, log_loss
from rollmath.adapters.trl._step import GenerationStep, division, rows_of
from rollmath.loss import EntropyBonus, policy_loss

if TYPE_CHECKING:
    from rollmath.adapters.trl._settings import Settings

#: What TRL's forward pass takes besides token ids and masks.
FIELDS = (
    "pixel_values",
    "image_grid_thw",
    "num_images",
    "pixel_attention_mask",
    "spatial_shapes",
    "num_tiles",
    "image_sizes",
    "token_type_ids",
    "mm_token_type_ids",
    "image_position_ids",
)


def compute_loss(
    trainer: Any, settings: Settings, step: GenerationStep | None, model: Any, inputs: dict[str, Any]
) -> torch.Tensor:
    """What TRL's ``_compute_loss`` returns: the loss that the trainer calls backward on.

    Raises:
        ValueError: log-probabilities of the sampler or the reference that a term needs and that are not there.
    """
    completions = inputs["completion_ids"]
    theta, entropies, aux = trainer._get_per_token_logps_and_entropies(
        model,
        torch.cat([inputs["prompt_ids"], completions], dim=1),
        torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1),
        completions.size(1),
        compute_entropy=True,
        compute_aux_loss=trainer.aux_loss_enabled,
        **{name: inputs.get(name) for name in FIELDS},
    )
    training, objective = bool(trainer.model.training), settings.objective
    assert objective is not None
    rows = rows_of(inputs)
    mask = inputs["rollmath_mask"].to(theta.device)
    advantages = inputs["advantages"]
    prox, behaviour = inputs.get("old_per_token_logps"), inputs.get("sampling_per_token_logps")
    if settings.correction is not None and behaviour is None:
        msg = (
            f"{settings.who}(): 'correction' needs the log-probabilities of the sampler, which come from vLLM or from "
            "rollout_func, field 'logprobs'; there are none"
        )
        raise ValueError(msg)
    chosen = None
    if getattr(trainer, "top_entropy_quantile", 1.0) < 1.0:
        chosen = trainer.get_high_entropy_mask(entropies, mask, 1 - trainer.top_entropy_quantile)
    weight = _weight(trainer, inputs, theta, prox, mask, chosen)
    coef = settings.entropy or getattr(trainer, "entropy_coef", 0.0)
    exact = settings.aggregation is not None
    normalizer, aggregation = division(trainer, settings, step, inputs, rows)
    out = policy_loss(
        LogProbs(theta, prox=prox, behaviour=behaviour, ref=inputs.get("ref_per_token_logps")),
        advantages,
        rows,
        objective,
        normalizer=normalizer,
        aggregation=aggregation,
        level="row" if advantages.dim() == 1 else "token",
        weight=weight,
        correction=settings.correction,
        kl=settings.kl,
        entropy=EntropyBonus(entropies, coef, chosen) if coef and exact else None,
    )
    loss = out.loss
    steps = trainer.current_gradient_accumulation_steps if training else 1
    if coef and not exact:  # TRL's: a mean over the tokens of the micro-batch, whatever the loss type
        trained = mask if chosen is None else mask * chosen
        loss = loss - coef * (entropies * trained).sum() / trained.sum().clamp(min=1.0) / steps
    if trainer.aux_loss_enabled:
        divided = steps if training and trainer.loss_is_scaled_for_ga else 1
        loss = loss + trainer.router_aux_loss_coef * aux / divided
        mean = trainer.accelerator.gather_for_metrics(aux).mean().item()
        trainer._metrics["train" if training else "eval"]["aux_loss"].append(mean)
    tokens = Tokens(theta.detach(), prox, advantages, entropies.detach(), mask)
    log_loss(trainer, settings, out, normalizer, tokens, steps)
    return loss


def _weight(
    trainer: Any,
    inputs: dict[str, Any],
    theta: torch.Tensor,
    prox: torch.Tensor | None,
    mask: torch.Tensor,
    chosen: torch.Tensor | None,
) -> torch.Tensor | None:
    """TRL's factors of the policy term: high-entropy mask, off-policy mask, weights of the mismatch with vLLM."""
    factors = [] if chosen is None else [chosen]
    threshold = getattr(trainer, "off_policy_mask_threshold", None)
    if threshold is not None:
        advantages = inputs["advantages"]
        old = theta.detach() if prox is None else prox
        factors.append(
            trainer.get_off_policy_mask(
                advantages=advantages.unsqueeze(1) if advantages.dim() == 1 else advantages,
                per_token_logps=theta,
                sampling_per_token_logps=inputs.get("sampling_per_token_logps", old),
                mask=mask,
                off_policy_threshold=threshold,
            )
        )
    if inputs.get("importance_sampling_ratio") is not None:
        factors.append(inputs["importance_sampling_ratio"])
    if not factors:
        return None
    weight = torch.ones_like(theta.detach())
    for factor in factors:
        weight = weight * factor
    return weight

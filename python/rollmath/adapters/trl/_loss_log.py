"""The metrics that TRL logs of its loss, under its names, from ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from rollmath.loss import CISPO, GSPO, PPO

if TYPE_CHECKING:
    from rollmath.adapters.trl._settings import Settings
    from rollmath.loss import Normalizer, PolicyLoss

#: Terms of the loss, and means that say nothing beside ``approx_kl``: not logged.
QUIET = ("loss", "policy_loss", "kl_loss", "entropy_loss", "log_ratio", "ratio")
#: Counts that TRL has names for.
NAMED = ("entropy", "clip_low", "clip_high", "kl", "cispo_clip_ratio", "rows", "rows_low", "rows_high")


class Tokens(NamedTuple):
    """Columns ``[B, T]`` of a micro-batch; ``prox`` is None where it is theta."""

    theta: torch.Tensor
    prox: torch.Tensor | None
    advantages: torch.Tensor
    entropies: torch.Tensor
    mask: torch.Tensor


def log_loss(
    trainer: Any, settings: Settings, out: PolicyLoss, normalizer: Normalizer, tokens: Tokens, steps: int
) -> None:
    """Appends to TRL's metrics, means over the tokens of a micro-batch of all ranks: one reduction, one copy."""
    training, objective = bool(trainer.model.training), settings.objective
    metrics = trainer._metrics["train" if training else "eval"]
    quiet = (
        (*QUIET, "dual_clip") if isinstance(objective, PPO) and not (objective.dual_clip or objective.delta) else QUIET
    )
    # Where nothing is trained the model may say anything, NaN too.
    trained = tokens.mask != 0
    sums = {"trained": trained.sum(), "entropy": torch.where(trained, tokens.entropies, 0.0).sum(dtype=torch.float64)}
    clipped = _clipped(settings, tokens, trained)
    if isinstance(objective, GSPO) and clipped is not None:  # one ratio a row: TRL counts rows
        live = clipped.isfinite()
        sums["rows"] = torch.tensor(float(len(clipped)), device=clipped.device)
        sums["rows_low"], sums["rows_high"] = torch.where(live, clipped, 0.0).sum(0)
    if isinstance(objective, CISPO) and objective.cap is not None:
        sums["cispo_clip_ratio"] = _above(objective.cap, tokens, trained)
    known = out.metrics.values_tensor * max(normalizer.tokens, 1)
    table = torch.cat([known, torch.stack([x.double() for x in sums.values()])])
    totals = dict(zip((*out.metrics, *sums), trainer.accelerator.reduce(table, reduction="sum").tolist(), strict=True))
    count = max(totals.pop("trained"), 1.0)
    means = {name: x / count for name, x in totals.items() if name not in quiet and not name.endswith("_max")}
    if "kl" in means:
        metrics["kl"].append(means["kl"])
    metrics["entropy"].append(means["entropy"])
    if "cispo_clip_ratio" in means:
        metrics["cispo_clip_ratio"].append(means["cispo_clip_ratio"])
    elif "clip_low" in means and "clip_high" in means:
        low, high = means["clip_low"], means["clip_high"]
        if "rows" in means:
            low, high = means["rows_low"] / means["rows"], means["rows_high"] / means["rows"]
        metrics["clip_ratio/low_mean"].append(low)
        metrics["clip_ratio/high_mean"].append(high)
        metrics["clip_ratio/region_mean"].append(low + high)
        least, most = _extremes(trainer, clipped)
        metrics["clip_ratio/low_min"].append(least)
        metrics["clip_ratio/high_max"].append(most)
    for name, value in means.items():
        if name not in NAMED:
            metrics[f"rollmath/{name}"].append(value)
    if getattr(trainer, "_entropy_bonus_enabled", False):
        divided = settings.aggregation is None and trainer.args.loss_type not in {"dapo", "cispo", "vespo"}
        terms = [out.metrics[name] for name in ("policy_loss", "kl_loss") if name in out.metrics]
        policy = torch.stack(terms).sum().float() * (normalizer.scale * (steps if divided else 1))
        metrics["policy_loss"].append(trainer.accelerator.gather(policy).nanmean().item())
        if training and trainer.accelerator.sync_gradients:
            metrics["entropy_coef"].append(trainer.entropy_coef)


def _above(cap: float, tokens: Tokens, trained: torch.Tensor) -> torch.Tensor:
    """Tokens over the cap of CISPO with a positive advantage, which is what TRL counts."""
    theta, prox, advantages = tokens[:3]
    a = advantages[:, None] if advantages.dim() == 1 else advantages
    ratio = torch.ones_like(theta) if prox is None else (theta - prox).exp()
    return ((ratio > cap) & (a > 0) & trained).sum()


def _clipped(settings: Settings, tokens: Tokens, trained: torch.Tensor) -> torch.Tensor | None:
    """The shares of tokens of each row that are clipped below and above, ``[B, 2]``; NaN where nothing is trained.

    None where TRL has none, and where every ratio is 1.
    """
    objective, prox = settings.objective, tokens.prox
    if not isinstance(objective, (PPO, GSPO)) or prox is None:
        return None
    lo, hi = objective.clip if isinstance(objective.clip, tuple) else (objective.clip, objective.clip)
    count = trained.sum(-1, keepdim=True)
    x = torch.where(trained, tokens.theta - prox, 0.0)
    if isinstance(objective, GSPO):
        x = (x.sum(-1, keepdim=True) / count.clamp(min=1)).expand_as(trained)
    a = tokens.advantages[:, None] if tokens.advantages.dim() == 1 else tokens.advantages
    ratio = x.exp()
    low = ((ratio < 1 - lo) & (a < 0) & trained).sum(1)
    high = ((ratio > 1 + hi) & (a > 0) & trained).sum(1)
    return torch.stack([low, high], -1) / count


def _extremes(trainer: Any, clipped: torch.Tensor | None) -> tuple[float, float]:
    """The smallest share below and the largest above, over the rows of all ranks that train something."""
    if clipped is None:
        return 0.0, 0.0
    found = trainer.accelerator.gather(clipped)
    found = found[found.isfinite().all(1)].cpu()
    return (float(found[:, 0].min()), float(found[:, 1].max())) if len(found) else (0.0, 0.0)

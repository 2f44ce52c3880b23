"""Policy losses of ours as verl calls them: its configuration, its counts of the global batch, its metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath import LogProbs, Rows
from rollmath.adapters.verl._config import check_known, setting

if TYPE_CHECKING:
    import torch

    from rollmath.loss import Objective

Maker = Callable[[Any], "Objective"]
#: verl's ``loss_agg_mode``, and ours for each; ``norm`` has a divisor besides.
MODES: Mapping[str, str] = {
    "token-mean": "token_mean",
    "token-sum": "token_sum",
    "seq-mean-token-sum": "seq_mean_token_sum",
    "seq-mean-token-sum-norm": "seq_mean_token_sum",
    "seq-mean-token-mean": "seq_mean_token_mean",
}


@dataclass(frozen=True)
class Loss:
    """An objective for verl.

    Attributes:
        make: the objective, from verl's ActorConfig.
        mode: the ``loss_agg_mode`` whatever verl is told; None for the one that it is told.
        local: the mean over all rows of the micro-batch, whatever the counts of the global batch.
        by_row: verl's importance weights multiply the loss of a row, with their geometric mean over it.
    """

    make: Maker
    mode: str | None = None
    local: bool = False
    by_row: bool = False


def clip_of(config: Any) -> tuple[float, float]:
    """The clip range, low and high."""
    both = setting(config, "clip_ratio", 0.2)
    return float(setting(config, "clip_ratio_low", both)), float(setting(config, "clip_ratio_high", both))


def _ppo(config: Any) -> Objective:
    from rollmath.loss import PPO  # noqa: PLC0415 - torch and the objectives load when a loss is computed

    return PPO(clip=clip_of(config), dual_clip=float(setting(config, "clip_ratio_c", 3.0)), max_log_ratio=20)


def _of(name: str, options: Callable[[Any], Mapping[str, Any]]) -> Maker:
    """The objective of that name with options from verl's configuration."""

    def make(config: Any) -> Objective:
        from rollmath import loss  # noqa: PLC0415

        return getattr(loss, name)(**options(config))  # type: ignore[no-any-return]

    return make


def _policy(key: str, default: float) -> Callable[[Any], float]:
    return lambda config: float(setting(setting(config, "policy_loss"), key, default))


def _dppo(divergence: str) -> Callable[[Any], Mapping[str, Any]]:
    return lambda c: {
        "divergence": divergence, "bounds": clip_of(c), "cap": float(setting(c, "clip_ratio_c", 20.0)),
    }  # fmt: skip


def _beta(config: Any) -> Mapping[str, Any]:
    beta = setting(setting(config, "policy_loss"), "dro_beta")
    if beta is None:
        msg = "rollmath/dro(): needs 'actor.policy_loss.dro_beta', the coefficient of the quadratic penalty"
        raise ValueError(msg)
    return {"beta": float(beta)}


_GSPO = _of("GSPO", lambda c: {"clip": clip_of(c), "unit": "row", "gradient": "token", "max_log_ratio": 10})
_GMPO = _of("GMPO", lambda c: {"log_clip": clip_of(c), "unit": "row"})
_SAPO = _of(
    "SAPO",
    lambda c: {
        "tau_pos": float(setting(c, "tau_pos", 1.0)),
        "tau_neg": float(setting(c, "tau_neg", 1.05)),
        "max_log_ratio": 20,
    },
)
_CLIP_COV = _of(
    "ClipCov",
    lambda c: {
        "clip": clip_of(c),
        "share": _policy("clip_cov_ratio", 0.0002)(c),
        "bounds": (_policy("clip_cov_lb", 1.0)(c), _policy("clip_cov_ub", 5.0)(c)),
    },
)
_KL_COV = _of("KLCov", lambda c: {"share": _policy("kl_cov_ratio", 0.0002)(c), "coef": _policy("ppo_kl_coef", 1.0)(c)})

#: By name without ``rollmath/``. Those with a name of verl's are its loss; the others have no counterpart there.
LOSSES: dict[str, Loss] = {
    "vanilla": Loss(_ppo),
    "gspo": Loss(_GSPO),
    "sapo": Loss(_SAPO, mode="seq-mean-token-mean"),
    "gpg": Loss(_of("Reinforce", lambda _: {})),
    "cispo": Loss(_of("CISPO", lambda c: {"clip": clip_of(c), "max_log_ratio": 20})),
    "dppo_tv": Loss(_of("DPPO", _dppo("tv"))),
    "dppo_kl": Loss(_of("DPPO", _dppo("kl"))),
    "dro": Loss(_of("Quadratic", _beta)),
    "clip_cov": Loss(_CLIP_COV),
    "kl_cov": Loss(_KL_COV),
    # verl's takes the mean over the rows of the micro-batch, so that its size depends on how the batch is split.
    "geo_mean": Loss(_GMPO, mode="seq-mean-token-mean", local=True, by_row=True),
    "gmpo": Loss(_GMPO, mode="seq-mean-token-mean", by_row=True),
    "opmd": Loss(_of("OPMD", lambda _: {})),
    "simple_po": Loss(_of("SimplePO", lambda c: {"eps": clip_of(c)[1], "max_log_ratio": 20})),
    "topr": Loss(_of("TOPR", lambda _: {})),
    "vespo": Loss(_of("VESPO", lambda _: {"unit": "row"})),
}


@dataclass(frozen=True)
class Always:
    """Makes the same objective whatever verl's configuration says."""

    objective: Objective

    def __call__(self, _config: Any) -> Objective:
        """The objective."""
        return self.objective


def as_verl_loss(name: str, loss: Loss) -> Callable[..., Any]:
    """A function for verl's registry."""
    who = f"rollmath/{name}"

    def function(
        old_log_prob: torch.Tensor,
        log_prob: torch.Tensor,
        advantages: torch.Tensor,
        response_mask: torch.Tensor,
        loss_agg_mode: str = "token-mean",
        config: Any = None,
        rollout_is_weights: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, dict[str, float]]:
        weight = rollout_is_weights
        if weight is not None and loss.by_row:
            weight = geometric(weight, response_mask)
        return _compute(who, loss, (old_log_prob, log_prob, advantages, response_mask, weight), loss_agg_mode, config)

    function.__name__ = function.__qualname__ = who
    return function


def geometric(weight: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The geometric mean of the weights of each row, at all its tokens."""
    import torch  # noqa: PLC0415

    logs = torch.where(mask != 0, weight.clamp(min=1e-10).log(), 0.0)
    means = logs.sum(-1, keepdim=True) / (mask != 0).sum(-1, keepdim=True).clamp(min=1)
    return means.exp().expand_as(weight)


def _compute(
    who: str, loss: Loss, tensors: tuple[Any, ...], loss_agg_mode: str, config: Any
) -> tuple[torch.Tensor, dict[str, float]]:
    from rollmath.loss import Normalizer, policy_loss  # noqa: PLC0415

    old, theta, advantages, response_mask, weight = tensors
    width = int(response_mask.shape[1])
    n = int(response_mask.shape[0])
    rows = Rows(np.arange(n), np.full(n, width), mask=(response_mask != 0).detach().cpu().numpy())
    mode = loss.mode or loss_agg_mode
    check_known(who, "'loss_agg_mode'", [mode], MODES)
    normalizer = Normalizer.local(rows)
    if loss.local:
        scale = normalizer.rows / max(n, 1)
    else:
        info = setting(config, "global_batch_info", {})
        scale = global_scale(who, mode, info, tokens=normalizer.tokens, rows=normalizer.rows, width=width)
    logprobs = LogProbs(theta, prox=old)
    objective = loss.make(config)
    if objective.coupling == "batch":
        detached = LogProbs(theta.detach(), prox=old)
        part = objective.prepare(detached, advantages, rows)  # type: ignore[attr-defined]
        objective = objective.with_parts([part])  # type: ignore[attr-defined]
    out = policy_loss(
        logprobs,
        advantages,
        rows,
        objective,
        normalizer=normalizer,
        aggregation=MODES[mode],
        level="token",
        weight=weight,
    )
    return out.loss * scale, metrics_of(out.metrics.to_dict())


def global_scale(who: str, mode: str, info: Mapping[str, Any], *, tokens: int, rows: int, width: int) -> float:
    """What the loss of a micro-batch is multiplied by, so that those of all micro-batches and ranks add up as in verl.

    Args:
        who: name of the loss.
        mode: ``loss_agg_mode``.
        info: ``dp_size``, ``batch_num_tokens``, ``global_batch_size``, ``loss_scale_factor``; any may be missing.
        tokens: trained tokens of the micro-batch, which its own mean was over.
        rows: its rows with a trained token, likewise.
        width: columns, by which the ``norm`` mode divides where there is no ``loss_scale_factor``.

    Raises:
        ValueError: several ranks and no count of the global batch, as in verl.
    """
    ranks = int(info.get("dp_size") or 1)
    scale = float(ranks)
    if mode != "token-sum":
        name, here = ("batch_num_tokens", tokens) if mode == "token-mean" else ("global_batch_size", rows)
        count = info.get(name)
        if count is None and ranks > 1:
            msg = f"{who}(): needs {name!r} in config.global_batch_info where 'dp_size' is {ranks}"
            raise ValueError(msg)
        scale *= here / max(here if count is None else int(count), 1)
    if mode.endswith("norm"):
        scale /= float(info.get("loss_scale_factor") or width)
    return scale


def metrics_of(found: Mapping[str, float]) -> dict[str, float]:
    """By the names of verl, as means over the trained tokens of the micro-batch: verl averages over micro-batches."""
    clipped = found.get("clip_high", 0.0) + found.get("clip_low", 0.0)
    return {
        "actor/pg_clipfrac": found.get("clip_cov", clipped),
        "actor/ppo_kl": -found["log_ratio"],
        "actor/pg_clipfrac_lower": found.get("dual_clip", found.get("truncated", 0.0)),
        "actor/signal": found["signal"],
    }

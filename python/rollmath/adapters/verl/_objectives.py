"""Policy losses of ours as verl calls them: its configuration, its counts of the global batch, its metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath import LogProbs, Rows
from rollmath._arrays import describe
from rollmath.adapters.verl._config import check_known, setting

if TYPE_CHECKING:
    import torch

    from rollmath.loss import Aggregation, Normalizer, Objective

Maker = Callable[[Any], "Objective"]
#: verl's ``loss_agg_mode``, as options of an :class:`~rollmath.loss.Aggregation`. With a count of the batch, its
#: ``global_batch_size``, rows without a trained token count; without, they do not.
MODES: Mapping[str, Mapping[str, Any]] = {
    "token-mean": {"unit": "token"},
    "token-sum": {"unit": "batch", "within": "sum"},
    "seq-mean-token-sum": {"unit": "row", "within": "sum"},
    "seq-mean-token-sum-norm": {"unit": "row", "within": "sum"},
    "seq-mean-token-mean": {"unit": "row"},
}


@dataclass(frozen=True)
class Loss:
    """An objective for verl.

    Attributes:
        make: the objective, from verl's ActorConfig.
        mode: the ``loss_agg_mode`` whatever verl is told; None for the one that it is told.
        local: counts of the micro-batch instead of those of the global batch.
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
    "ppo": Loss(_ppo),
    "gspo": Loss(_GSPO),
    "sapo": Loss(_SAPO, mode="seq-mean-token-mean"),
    "gpg": Loss(_of("Reinforce", lambda _: {})),
    "reinforce": Loss(_of("Reinforce", lambda _: {})),
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


def register_objective(name: str, objective: Objective, *, loss_agg_mode: str | None = None) -> str:
    """Makes an objective of yours known to verl, as ``actor.policy_loss.loss_mode=rollmath/<name>``.

    Call it in every process that trains, from a module of yours that verl imports there
    (``actor_rollout_ref.model.external_lib``), before :func:`register`, which puts it into the registry.

    Args:
        name: without ``rollmath/``.
        objective: any objective of :mod:`rollmath.loss`, with its options, or one of your own.
        loss_agg_mode: how the loss is aggregated whatever verl is told; None for what ``actor.loss_agg_mode`` says.

    Returns:
        The name for the configuration.

    Raises:
        ValueError: a name that is taken by another objective; an unknown mode.
        TypeError: no objective.
    """
    from rollmath.loss import Objective as Base  # noqa: PLC0415

    who = "register_objective"
    if not isinstance(objective, Base):
        msg = f"{who}(): 'objective' must be an Objective, such as rollmath.loss.PPO(), got {describe(objective)}"
        raise TypeError(msg)
    if loss_agg_mode is not None:
        check_known(who, "'loss_agg_mode'", [loss_agg_mode], MODES)
    wanted = Loss(Always(objective), mode=loss_agg_mode)
    if LOSSES.setdefault(name, wanted) != wanted:
        msg = f"{who}(): 'name' {name!r} is taken by another objective; choose another name"
        raise ValueError(msg)
    return f"rollmath/{name}"


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
    from rollmath.loss import policy_loss  # noqa: PLC0415

    old, theta, advantages, response_mask, weight = tensors
    width = int(response_mask.shape[1])
    n = int(response_mask.shape[0])
    rows = Rows(np.arange(n), np.full(n, width), mask=(response_mask != 0).detach().cpu().numpy())
    mode = loss.mode or loss_agg_mode
    check_known(who, "'loss_agg_mode'", [mode], MODES)
    info = {} if loss.local else dict(setting(config, "global_batch_info", {}))
    normalizer, aggregation = counts(who, rows, mode, info, width, empty=loss.local)
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
        aggregation=aggregation,
        level="token",
        weight=weight,
    )
    return out.loss, metrics_of(out.metrics.to_dict(), normalizer.tokens, int(rows.trained.sum()))


def counts(
    who: str, rows: Rows, mode: str, info: Mapping[str, Any], width: int, *, empty: bool = False
) -> tuple[Normalizer, Aggregation]:
    """Our counts and aggregation for verl's ``global_batch_info`` and ``loss_agg_mode``.

    Args:
        who: name of the loss.
        rows: those of the micro-batch.
        mode: ``loss_agg_mode``.
        info: ``dp_size``, ``batch_num_tokens``, ``global_batch_size``, ``loss_scale_factor``; any may be missing.
        width: columns, by which the ``norm`` mode divides where there is no ``loss_scale_factor``.
        empty: count rows without a trained token too.

    Raises:
        ValueError: several ranks and no count of the global batch, as in verl.
    """
    from rollmath.loss import Aggregation, Normalizer  # noqa: PLC0415

    local = Normalizer.local(rows)
    ranks = int(info.get("dp_size") or 1)
    tokens, batch = info.get("batch_num_tokens"), info.get("global_batch_size")
    needed = {"token": ("batch_num_tokens", tokens), "row": ("global_batch_size", batch)}.get(MODES[mode]["unit"])
    if needed is not None and needed[1] is None and ranks > 1:
        msg = f"{who}(): needs {needed[0]!r} in config.global_batch_info where 'dp_size' is {ranks}"
        raise ValueError(msg)
    total = local.tokens if tokens is None else max(int(tokens), local.tokens)
    normalizer = local
    if batch is not None:
        # verl counts all rows; rows that hold tokens cannot be more than those.
        full = min(int(batch), total)
        normalizer = Normalizer(tokens=total, rows=full, rollouts=full, empty_rows=int(batch) - full)
    elif tokens is not None:
        normalizer = Normalizer(tokens=total, rows=local.rows, rollouts=local.rollouts, empty_rows=local.empty_rows)
    options = dict(MODES[mode])
    if options["unit"] == "row" and (batch is not None or empty):
        options["empty"] = "include"
    if mode.endswith("norm"):
        options["divisor"] = float(info.get("loss_scale_factor") or width)
    return normalizer.under(grad_reduce="mean", ranks=ranks), Aggregation(**options)


def metrics_of(found: Mapping[str, float], tokens: int, local: int) -> dict[str, float]:
    """By the names of verl, as means over the trained tokens of the micro-batch: verl averages over micro-batches."""
    share = tokens / local if local else 0.0
    return {
        "actor/pg_clipfrac": share * (found.get("clip_high", 0.0) + found.get("clip_low", 0.0)),
        "actor/ppo_kl": -share * found["log_ratio"],
        "actor/pg_clipfrac_lower": share * found.get("dual_clip", 0.0),
        "actor/signal": share * found["signal"],
    }

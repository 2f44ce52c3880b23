"""The arithmetic of a loss on some tokens: derivatives and named sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from rollmath.loss._check import check_token_loss
from rollmath.loss._metrics import add_counts
from rollmath.loss._objectives import Objective
from rollmath.loss._terms import Correction
from rollmath.loss._tokens import Tokens, total


@dataclass(frozen=True)
class Rules:
    """What is done to tokens, whichever they are.

    Attributes:
        who: the function whose arguments these are, for messages.
        coef: coefficient of the entropy bonus; None without one.
    """

    who: str
    objective: Objective
    correction: Correction | None = None
    kl: Objective | None = None
    coef: float | torch.Tensor | None = None

    @property
    def coupled(self) -> bool:
        """Whether tokens of a row or rollout must be seen together."""
        return bool(self._coupled)

    @property
    def whole(self) -> list[Any]:
        """What looks at whole rollouts and says so, by its unit or level."""
        return [x for x in self._coupled if "rollout" in (getattr(x, "unit", None), getattr(x, "level", None))]

    @property
    def _coupled(self) -> list[Any]:
        found: list[Any] = [x for x in (self.objective, self.kl) if x is not None and x.coupling == "sequence"]
        parts = getattr(self.correction, "parts", () if self.correction is None else (self.correction,))
        return found + [x for x in parts if x.coupled]


class Part(NamedTuple):
    """Derivatives with respect to theta and the entropy of each token, and named sums."""

    theta: torch.Tensor
    entropy: torch.Tensor | float
    sums: dict[str, torch.Tensor]


def core(
    rules: Rules,
    tokens: Tokens,
    weight: torch.Tensor | None,
    entropy: torch.Tensor | None,
    entropy_weight: torch.Tensor | None,
) -> Part:
    """Derivatives and sums of some tokens."""
    sums: dict[str, torch.Tensor] = {}
    policy = tokens
    if rules.correction is not None:
        corrected, sums = rules.correction.weigh(tokens)
        policy = tokens.reweighted(corrected)
    if weight is not None:
        policy = policy.reweighted(weight)
    out = check_token_loss(rules.who, rules.objective.token_loss(policy), tokens.theta)
    gradient = _inside(tokens, out.gradient)
    drift = tokens.total(tokens.log_ratio)
    # rho - 1 without cancellation; a ratio of inf would make its mean inf.
    excess = tokens.total(torch.expm1(tokens.log_ratio).clamp_(max=torch.finfo(tokens.theta.dtype).max))
    sums |= {"policy_loss": weighted_sum(policy, out.loss, out.total), "signal": tokens.nonzero(gradient)}
    add_counts(sums, out.counts)
    sums |= {
        "log_ratio": drift,
        "approx_kl": excess - drift,
        "ratio": excess + tokens.trained,
        "ratio_max": tokens.largest(tokens.ratio).double(),
    }
    if rules.kl is not None:
        term = check_token_loss(rules.who, rules.kl.token_loss(tokens), tokens.theta, name="kl")
        sums["kl_loss"] = weighted_sum(tokens, term.loss, term.total)
        add_counts(sums, term.counts)
        gradient = gradient + _inside(tokens, term.gradient)
    g_entropy: torch.Tensor | float = 0.0
    if rules.coef is not None and entropy is not None:
        sums["entropy"] = tokens.total(entropy)
        each = tokens if entropy_weight is None else tokens.reweighted(entropy_weight)
        sums["entropy_loss"] = weighted_sum(each, entropy, sums["entropy"]) * -rules.coef
        g_entropy = each.weight * -rules.coef
    return Part(gradient, g_entropy, sums)


def weighted_sum(tokens: Tokens, loss: torch.Tensor, known: torch.Tensor | None = None) -> torch.Tensor:
    """``sum_t weight_t loss_t``, 0-d float64; ``known`` is the sum without weights, if it is known."""
    # A weight that is a tensor is 0 where nothing is trained.
    if isinstance(tokens.weight, torch.Tensor):
        return total(tokens.weighted(loss))
    return (tokens.total(loss) if known is None else known) * tokens.weight


def _inside(tokens: Tokens, gradient: torch.Tensor) -> torch.Tensor:
    """0 where nothing is trained: what tokens of a row share reaches all its positions."""
    return gradient if tokens.mask is None else torch.where(tokens.mask != 0, gradient, 0)

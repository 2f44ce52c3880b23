"""Gate: keeps or rejects tokens, turns, rows or rollouts by how far two policies are apart there."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Literal

import torch

from rollmath._arrays import choice
from rollmath.loss._mismatch_ratio import LARGEST, Missing, Ratio, RatioLevel, check_level, interval, log, log_ratio
from rollmath.loss._tokens import Tokens, above, below

if TYPE_CHECKING:
    from rollmath.loss._spans import Level


@dataclass(frozen=True)
class Gate:
    r"""Keeps (weight 1) what has ``lo <= s <= hi`` and rejects (weight 0) the rest, ``s`` a statistic of the ratio.

    With ``r = p / q`` the ratio of a token, sampled from q, the statistics of a token are::

        "ratio"   r
        "k1"      -log r              estimates of KL(q || p), so for "prox/behaviour" of KL(behaviour || prox)
        "k2"      (log r)^2 / 2
        "k3"      r - 1 - log r

    On a level above the token, ``reduce`` makes one of those of its trained tokens, and they are kept or rejected
    together: ``"mean"``, ``"sum"``, or ``"every"``, which rejects all if one token is outside. Ratios are combined as
    logs: their mean is the geometric mean, their sum the product. Bounds of ratios are compared as logs; a statistic on
    a bound is inside. The tokens that are rejected still count in the denominator of the loss.

    Attributes:
        statistic: ``"ratio"``, ``"k1"``, ``"k2"`` or ``"k3"``.
        bounds: ``(lo, hi)`` in units of the statistic (a ratio, or nats), maybe infinite; one number is the upper one.
        level: what is kept or rejected together: ``"token"``, ``"turn"``, ``"row"`` or ``"rollout"`` (all its rows,
            which must then be in one call).
        reduce: ``"mean"``, ``"sum"`` or ``"every"``; the same for tokens.
        ratio: what is divided by what. The inverse of a ratio has the inverse bounds, k1 with the other sign.
        when: ``"always"``, or ``"negative_advantage"``: tokens whose advantage is 0 or more are kept in any case.
        missing: tokens whose behaviour is NaN: ``"nan"`` makes the loss NaN; ``"one"`` takes their ratio for 1, and
            they count in means; ``"zero"`` does so too and rejects the tokens themselves.

    Counts ``gate_low`` and ``gate_high``, the share of tokens rejected for being below or above the bounds.

    What others call it:

    ============================================= =================================================================
    elsewhere                                     here
    ============================================= =================================================================
    verl token_k1, "0.5_2.0"                      ``Gate("ratio", (0.5, 2.0), ratio="behaviour/prox")``: verl bounds
                                                  ``-log r``, so its k1 bounds are those of the inverse ratio, while
                                                  those of its importance weights are not
    verl seq_mean_k1, seq_sum_k1                  the same with ``level="row"`` and ``reduce="mean"``, ``"sum"``
    verl token_k3; seq_mean_k3, seq_sum_k3        ``Gate("k3", hi)``; ``level="row"`` with ``"mean"``, ``"sum"``; k2 too
    verl seq_max_k2, seq_max_k3                   ``Gate("k2", hi, level="row", reduce="every")``
    TRL off_policy_mask_threshold                 ``Gate("k1", delta, level="row", when="negative_advantage",
                                                  ratio="theta/behaviour", missing="one")`` (DeepSeek-V3.2)
    slime OPSM, opsm_delta                        the same with ``ratio="theta/prox"``
    OpenRLHF seq-mask-tis                         ``Gate("ratio", (lo, hi), level="row")`` and ``ImportanceWeight(inf)``
    AReaL mask, max of ratios                     ``Gate("ratio", hi, level="row", reduce="every")``
    ROLL segment filter                           ``Gate("ratio", (lo, hi), level="turn")``
    prime-rl mask_ratio_low, mask_ratio_high      ``Gate("ratio", (lo, hi), ratio="theta/behaviour")``
    prime-rl sequence_mask_ratio_low              ``Gate("ratio", (lo, inf), level="row", reduce="every", ratio=...)``
    ============================================= =================================================================

    verl removes what is rejected from the mask, so that it leaves the denominator of the loss too, and clamps
    log-ratios to plus or minus 20 first. verl and TRL are compared by running them, the others by
    reading them, ROLL by a description of it (unverified).

    Raises:
        ValueError: bounds out of order, negative for ratios; an unknown choice; in a loss: a policy that is missing.
        TypeError: bounds that are no numbers.

    Source: estimators: Schulman 2020, "Approximating KL divergence"; rejection of sequences by their mean k1 where the
    advantage is negative: DeepSeek-V3.2, arXiv 2512.02556, equation 9, as TRL has it; geometric gates: Li et al. 2025,
    "When speed kills stability".

    >>> tokens = Tokens.of(
    ...     torch.tensor([-1.0, -1.0]), torch.tensor([1.0, -1.0]), behaviour=torch.tensor([-1.1, -0.1])
    ... )
    >>> Gate("ratio", (0.5, 2.0)).weigh(tokens)[0], Gate("k1", 0.1, level="row").weigh(tokens)[0]
    (tensor([1., 0.]), tensor([0., 0.]))
    """

    statistic: Literal["ratio", "k1", "k2", "k3"]
    bounds: tuple[float, float] | float
    _: KW_ONLY
    level: RatioLevel = "token"
    reduce: Literal["mean", "sum", "every"] = "mean"
    ratio: Ratio = "prox/behaviour"
    when: Literal["always", "negative_advantage"] = "always"
    missing: Missing = "nan"

    def __post_init__(self) -> None:
        choice("Gate", "statistic", self.statistic, ("ratio", "k1", "k2", "k3"))
        least = 0.0 if self.statistic == "ratio" else -math.inf
        object.__setattr__(self, "bounds", interval("Gate", self.bounds, least))
        choice("Gate", "reduce", self.reduce, ("mean", "sum", "every"))
        choice("Gate", "when", self.when, ("always", "negative_advantage"))
        check_level("Gate", self.level, self.ratio, self.missing)

    @property
    def coupled(self) -> bool:
        """Whether the weight of a token depends on other tokens of its rollout."""
        return self.level != "token"

    @property
    def reads_advantages(self) -> bool:
        """Whether the weight of a token depends on its advantage."""
        return self.when == "negative_advantage"

    def weigh(self, tokens: Tokens) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """1 or 0 for each token, and the counts."""
        x, present = log_ratio("Gate", tokens, self.ratio, self.missing)
        s, (lo, hi) = self._of_token(x), self._limits()
        # NaN is neither above nor below. It is finite numbers times 0 that it must reach the weight through.
        unknown = x * 0
        if self.level == "token":
            low, high = below(s, lo), above(s, hi)
        else:
            level: Level = self.level
            if self.reduce == "every":
                low, high = (tokens.reduce(outside, level, "max") for outside in (below(s, lo), above(s, hi)))
            else:
                s = tokens.reduce(s, level, self.reduce)
                low, high = below(s, lo), above(s, hi)
            low, high = tokens.spread(low, level), tokens.spread(high, level)
            unknown = tokens.spread(tokens.reduce(unknown, level, "sum"), level)
        if self.reads_advantages:
            unwanted = below(tokens.advantages, 0)
            low, high = low * unwanted, high * unwanted
        keep = (1 - low).mul_(1 - high).add_(unknown)
        counts = {"gate_low": tokens.total(low), "gate_high": tokens.total(high)}
        return (keep.mul_(present) if self.missing == "zero" and present is not None else keep), counts

    def _of_token(self, x: torch.Tensor) -> torch.Tensor:
        if self.statistic == "ratio":
            return x
        if self.statistic == "k1":
            return -x
        if self.statistic == "k2":
            return x.square().mul_(0.5)
        return x.expm1().sub_(x).clamp_(0.0, LARGEST)

    def _limits(self) -> tuple[float, float]:
        lo, hi = self.bounds if isinstance(self.bounds, tuple) else (-math.inf, self.bounds)
        if self.statistic == "ratio":
            return log(lo), log(hi)
        # What float32 cannot hold is no bound.
        lo, hi = (math.copysign(math.inf, x) if abs(x) > LARGEST else x for x in (lo, hi))
        return lo, hi

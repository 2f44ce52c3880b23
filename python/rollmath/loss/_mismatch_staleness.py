"""Staleness: rejects tokens that an old policy sampled."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Literal

import torch

from rollmath._arrays import choice
from rollmath._checks import whole
from rollmath.loss._mismatch_ratio import LEVELS, RatioLevel
from rollmath.loss._tokens import Tokens

if TYPE_CHECKING:
    from rollmath.loss._spans import Level


@dataclass(frozen=True)
class Staleness:
    """Weight 0 for tokens with ``current - version > max_age``, else 1.

    Attributes:
        current: version of the policy in training, in the units of ``rows.version``, say optimiser steps.
        max_age: the largest age that is kept.
        level: what is rejected together: ``"token"``, or all of a ``"turn"``, ``"row"`` or ``"rollout"`` (all its rows,
            which must then be in one call) with one stale token.
        unknown: tokens of version -1: ``"reject"``, since no age is promised for them, or ``"keep"``.

    Counts ``stale``, the share of tokens that are too old, and ``version_unknown``, whether rejected or not. A version
    above ``current`` is kept.

    Raises:
        ValueError: negative numbers, an unknown choice; in a loss: rows without versions.
        TypeError: no whole numbers.

    Source: the bound on staleness of asynchronous training: AReaL, arXiv 2505.24298, which bounds it in the scheduler;
    weight 0 in the loss is our rule.

    >>> tokens = Tokens.of(torch.zeros(3), torch.zeros(3), version=torch.tensor([4, 7, -1]))
    >>> Staleness(current=8, max_age=2).weigh(tokens)[0]
    tensor([0., 1., 0.])
    """

    current: int
    max_age: int
    _: KW_ONLY
    level: RatioLevel = "token"
    unknown: Literal["reject", "keep"] = "reject"

    def __post_init__(self) -> None:
        for name in ("current", "max_age"):
            object.__setattr__(self, name, whole("Staleness", name, getattr(self, name), 0))
        choice("Staleness", "level", self.level, LEVELS)
        choice("Staleness", "unknown", self.unknown, ("reject", "keep"))

    @property
    def coupled(self) -> bool:
        """Whether the weight of a token depends on other tokens of its rollout."""
        return self.level != "token"

    def weigh(self, tokens: Tokens) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """1 or 0 for each token, and the counts."""
        version = tokens.version
        if version is None:
            msg = "Staleness(): 'rows' must have 'version', the version of the policy that sampled each token"
            raise ValueError(msg)
        dtype = tokens.theta.dtype
        nameless = (version < 0).to(dtype)
        # Compared as integers: float32 has no room for time stamps.
        stale = (version < self.current - self.max_age).to(dtype) * (1 - nameless)
        counts = {"stale": tokens.total(stale), "version_unknown": tokens.total(nameless)}
        rejected = stale + nameless if self.unknown == "reject" else stale
        if self.level != "token":
            level: Level = self.level
            rejected = tokens.spread(tokens.reduce(rejected, level, "max"), level)
        return 1 - rejected, counts

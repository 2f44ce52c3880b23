"""The arithmetic of a loss through ``torch.compile``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch

from rollmath.loss._arithmetic import Part, Rules, core
from rollmath.loss._spans import Spans
from rollmath.loss._tokens import Tokens


def compiled(rules: Rules, tokens: Tokens, *others: torch.Tensor | None) -> Part:
    """What :func:`core` gives, by one compiled function for each set of rules.

    Raises:
        ValueError: rules that look at rows or rollouts.
    """
    if rules.whole_rollouts:
        msg = f"{rules.who}(): 'compiled' takes objectives, KL terms and corrections that look at one token at a time"
        raise ValueError(msg)
    weight, coef = tokens.weight, rules.coef
    columns = {name: getattr(tokens, name) for name in ("behaviour", "ref", "version", "selected", "mask")}
    columns["prox"] = None if tokens.prox is tokens.theta else tokens.prox
    function = _function(replace(rules, coef=None if coef is None else 0.0))
    # Numbers go in as tensors, or each one would be compiled anew.
    gradient, entropy, sums = function(
        tokens.theta,
        tokens.advantages,
        weight if isinstance(weight, torch.Tensor) else tokens.theta.new_tensor(weight),
        None if coef is None else tokens.theta.new_tensor(coef),
        columns,
        *others,
    )
    return Part(gradient, 0.0 if entropy is None else entropy, sums)


@lru_cache(maxsize=64)
def _function(rules: Rules) -> Callable[..., Any]:
    def run(
        theta: torch.Tensor,
        advantages: torch.Tensor,
        weight: torch.Tensor,
        coef: torch.Tensor | None,
        columns: dict[str, torch.Tensor | None],
        *others: torch.Tensor | None,
    ) -> Any:
        tokens = Tokens(theta, advantages, weight, Spans.none(theta.device), **columns)
        part = core(replace(rules, coef=coef), tokens, *others)
        return part.theta, part.entropy if isinstance(part.entropy, torch.Tensor) else None, part.sums

    return torch.compile(run, dynamic=True, fullgraph=True)

"""The arithmetic of a loss through ``torch.compile``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from itertools import count
from types import FunctionType
from typing import Any

import torch

from rollmath.loss._arithmetic import Part, Rules, core
from rollmath.loss._batch import BatchObjective
from rollmath.loss._spans import Spans
from rollmath.loss._tokens import Tokens


def compiled(rules: Rules, tokens: Tokens, *others: torch.Tensor | None) -> Part:
    """What :func:`core` gives, by one compiled function for each set of rules.

    Raises:
        ValueError: rules that look at rows or rollouts.
    """
    if rules.coupled:
        msg = f"{rules.who}(): 'compiled' takes objectives, KL terms and corrections that look at one token at a time"
        raise ValueError(msg)
    weight, coef, objective = tokens.weight, rules.coef, rules.objective
    if isinstance(objective, BatchObjective):
        objective = objective.bare()  # tokens.selected has what was chosen, another set in every step
    columns = {name: getattr(tokens, name) for name in ("behaviour", "ref", "selected", "mask")}
    # Only a correction looks at versions, which otherwise need not be made.
    columns["version"] = None if rules.correction is None else tokens.version
    columns["prox"] = None if tokens.prox is tokens.theta else tokens.prox
    function = _function(replace(rules, objective=objective, coef=None if coef is None else 0.0))
    for x in (tokens.theta, tokens.advantages, weight, *columns.values(), *others):
        if isinstance(x, torch.Tensor) and x.dim():
            torch._dynamo.maybe_mark_dynamic(x, 0)
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


_NUMBERS = count()


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

    # torch keeps what it knows by code object and name, whichever closure it is in: each set of rules has its own.
    code = run.__code__.replace(co_name=f"loss_{next(_NUMBERS)}")
    return torch.compile(FunctionType(code, run.__globals__, code.co_name, None, run.__closure__), fullgraph=True)

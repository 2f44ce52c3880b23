"""The arithmetic of a loss as a graph: what :func:`core` does to stand-ins for tokens.

Objectives, KL terms and corrections are plain torch code. Run once on tensors that hold no numbers, they tell the
operations that they are made of, from which :mod:`rollmath.loss._generate` makes one kernel.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import torch

from rollmath.loss._arithmetic import Rules, core
from rollmath.loss._graph import Graph
from rollmath.loss._lowering import Unsupported
from rollmath.loss._recorder import Recorder, Segments
from rollmath.loss._settled import Settled
from rollmath.loss._tokens import Tokens


class Given(NamedTuple):
    """The columns that a call has beside theta and advantages.

    Attributes:
        one_row: whether every rollout is one row, so that what looks at either looks at the same tokens.
    """

    policies: tuple[str, ...] = ()
    weight: bool = False
    entropy: bool = False
    entropy_weight: bool = False
    version: bool = False
    one_row: bool = False


@lru_cache(maxsize=64)
def graph_of(settled: Settled, given: Given) -> Graph | str:
    """The graph of some rules, or why there is none."""
    try:
        first = _recorded(settled.rules, given, 5, 3)
        # Of a user's code nothing may depend on how many tokens a stand-in has, or on what another call gives.
        if settled.foreign and not first.same(_recorded(settled.rules, given, 7, 4)):
            return "it depends on the number of positions"
    except Unsupported as reason:
        return str(reason)
    except Exception as error:  # of code of the user, which the plain arithmetic raises where it should be
        return f"{type(error).__name__} without numbers: {error}"
    return first


def _recorded(rules: Rules, given: Given, length: int, segments: int) -> Graph:
    recorder = Recorder(length, segments, one_row=given.one_row)
    column = recorder.column
    tokens = _Recorded(
        column("theta"),
        column("advantages"),
        column("token_weight"),
        Segments(recorder),
        version=column("version", torch.int64) if given.version else None,
        **{name: column(name) for name in given.policies},
    )
    tokens.count_of_trained = recorder.number("trained")
    rules = replace(rules, coef=None if rules.coef is None else recorder.number("coef"))
    others = [column(name) if getattr(given, name) else None for name in ("weight", "entropy", "entropy_weight")]
    with torch.no_grad(), recorder:
        part = core(rules, tokens, *others)
    node = recorder.node_of
    entropy = node(part.entropy) if given.entropy else None
    return recorder.graph(node(part.theta), entropy, {name: node(x) for name, x in part.sums.items()})


class _Recorded(Tokens):
    """Tokens of which all are trained; only their number is not that of the stand-ins."""

    count_of_trained: torch.Tensor

    @property
    def trained(self) -> int | torch.Tensor:
        """Number of trained tokens."""
        return self.count_of_trained

    def _with(self, **changed: torch.Tensor) -> Tokens:
        made = super()._with(**changed)
        assert isinstance(made, _Recorded)
        made.count_of_trained = self.count_of_trained
        return made

"""Advantages of tokens: computed where the tokens are, whitened over all ranks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath._arrays import host
from rollmath._convention import Whiten
from rollmath.distributed._exchange import exchange
from rollmath.distributed._moments import Part, affine, of_tokens
from rollmath.ragged import Ragged
from rollmath.recipes import Advantage, Recipe, _prepare
from rollmath.recipes._advantage import compute
from rollmath.recipes._method import method_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WHO = "prepare"


def token_advantages(
    recipe: Recipe,
    step: _prepare.Step,
    rewards: Any,
    valid: NDArray[np.bool_] | None,
    kept: NDArray[np.bool_],
    group: Any,
) -> tuple[Ragged, dict[str, float]]:
    """Of the rows of this rank, and the metrics of those of all.

    Args:
        recipe: its method looks at one row at a time, but for its whitening.
        step: the rollouts of this rank.
        rewards: one a rollout, or one a token.
        valid: rollouts that enter the statistics; None for all.
        kept: rollouts that are trained.
        group: the process group.
    """
    rows = step.rows
    assert rows is not None
    advantage, how = _unwhitened(recipe.advantage)
    mask = None if rows.mask is None else Ragged(rows.mask, rows.offsets)

    def computed() -> Ragged:
        found = compute(_WHO, advantage, rewards, step.groups, rows, step.columns, valid)
        values, level = _prepare.leveled(recipe, found, rows, step.kind)
        if level != "token":
            msg = f"{_WHO}(): advantage {advantage.name!r} must give one number a token, got one a {level}"
            raise ValueError(msg)
        return values

    finish: Callable[[], Ragged] = computed
    if how is not None:
        apply: Any = None

        def make() -> Part:
            nonlocal apply
            live = rows.trained > 0
            if valid is not None:
                live &= valid[rows.rollouts.index]
            # Advantages of tokens lie where the rewards do; the arithmetic is on the host.
            there = Ragged(host(_WHO, "advantages", computed().values)[0], rows.offsets)
            part, apply = of_tokens(_WHO, "advantages", there, mask=mask, valid=live)
            return part

        of_all = affine(_WHO, "advantages", how, exchange(_WHO, make, group).parts)

        def finish() -> Ragged:
            return Ragged(step.kind.wrap(apply(of_all).values), rows.offsets)

    values: Any = None

    def sums() -> NDArray[np.float64]:
        nonlocal values
        values = finish()
        train = kept[rows.rollouts.index]
        if not train.all():
            values = _prepare.zeroed(values, train, rows)
        seen = np.repeat(train, rows.lengths)
        if rows.mask is not None:
            seen &= rows.mask.view(bool)
        x = host(_WHO, "advantages", values.values)[0][seen].astype(np.float64)
        return np.array([len(x), x.sum(), x @ x, np.count_nonzero(x)])

    n, total, squares, nonzero = np.sum(exchange(_WHO, sums, group).parts, axis=0).tolist()
    n = max(n, 1.0)
    return values, {
        "advantage/mean": total / n,
        "advantage/rms": math.sqrt(squares / n),
        "advantage/nonzero": nonzero / n,
    }


def _unwhitened(advantage: Advantage) -> tuple[Advantage, Whiten | None]:
    """The same method without its whitening, and that."""
    parameter = method_of(advantage.method).parameters.get("whiten")
    if parameter is None:
        return advantage, None
    how = advantage.settings().get("whiten", parameter.default)
    return dataclasses.replace(advantage, options={**advantage.options, "whiten": None}), how

"""Advantages of tokens, trees and steps: computed where the tokens are, whitened over all ranks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rollmath._arrays import host
from rollmath._convention import Whiten
from rollmath.distributed._exchange import exchange
from rollmath.distributed._moments import Part, affine, of_tokens
from rollmath.ragged import Ragged
from rollmath.recipes import Advantage, Recipe, _prepare
from rollmath.recipes._advantage import compute
from rollmath.recipes._batch import Level
from rollmath.recipes._method import method_of
from rollmath.recipes._metrics import trained_values
from rollmath.rows import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WHO = "prepare"


class Own(NamedTuple):
    """What this rank made of its rows, and what is known of those of all.

    Attributes:
        rows: of this rank, which train what they train.
        values: their advantages.
        level: what these are one number of.
        trained: trained tokens of each row of all ranks.
        metrics: of all ranks.
    """

    rows: Rows
    values: Any
    level: Level
    trained: NDArray[np.int64]
    metrics: dict[str, float]


def own_advantages(recipe: Recipe, step: _prepare.Step, rewards: Any, found: _prepare.Decided, group: Any) -> Own:
    """The advantages of the rows of this rank, by a method that looks at one row, tree or task at a time.

    Args:
        recipe: its method looks at no more, but for its whitening.
        step: the rollouts of this rank.
        rewards: one a rollout, or one a token.
        found: which of them train, and which enter the statistics.
        group: the process group.
    """
    rows = step.rows
    assert rows is not None
    valid = found.valid
    advantage, how = _unwhitened(recipe.advantage)
    mask = None if rows.mask is None else Ragged(rows.mask, rows.offsets)

    def computed() -> tuple[Any, Level]:
        values = compute(_WHO, advantage, rewards, step.groups, rows, step.columns, valid)
        values, level = _prepare.leveled(recipe, values, rows, step.kind)
        if level != "token" and not (advantage.on_forest or advantage.on_steps):
            msg = f"{_WHO}(): advantage {advantage.name!r} must give one number a token, got one a {level}"
            raise ValueError(msg)
        return values, level

    finish: Callable[[], tuple[Any, Level]] = computed
    if how is not None:
        apply: Any = None

        def make() -> Part:
            nonlocal apply
            live = rows.trained > 0
            if valid is not None:
                live &= valid[rows.rollouts.index]
            # Advantages of tokens lie where the rewards do; the arithmetic is on the host.
            there = Ragged(host(_WHO, "advantages", computed()[0].values)[0], rows.offsets)
            part, apply = of_tokens(_WHO, "advantages", there, mask=mask, valid=live)
            return part

        of_all = affine(_WHO, "advantages", how, exchange(_WHO, make, group).parts)

        def finish() -> tuple[Any, Level]:
            return Ragged(step.kind.wrap(apply(of_all).values), rows.offsets), "token"

    own: Any = None

    def measured() -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        nonlocal own
        values, level = finish()
        if not found.kept.all():
            values = _prepare.zeroed(values, found.kept if level == "rollout" else found.kept_rows, rows)
        own = _prepare.masked(recipe, step, replace(found, values=values, level=level))
        x, n = trained_values(own[1].values, own[0], level)
        return own[0].trained, np.array([n, x.sum(), x @ x, np.count_nonzero(x)])

    parts = exchange(_WHO, measured, group).parts
    trained = np.concatenate([counts for counts, _ in parts])
    n, total, squares, nonzero = np.sum([sums for _, sums in parts], axis=0).tolist()
    n = max(n, 1.0)
    metrics = {
        "tokens/trained": float(trained.sum()),
        "advantage/mean": total / n,
        "advantage/rms": math.sqrt(squares / n),
        "advantage/nonzero": nonzero / n,
    }
    return Own(own[0], own[1].values, own[1].level, trained, metrics)


def _unwhitened(advantage: Advantage) -> tuple[Advantage, Whiten | None]:
    """The same method without its whitening, and that."""
    parameter = method_of(advantage.method).parameters.get("whiten")
    if parameter is None:
        return advantage, None
    how = advantage.settings().get("whiten", parameter.default)
    return replace(advantage, options={**advantage.options, "whiten": None}), how

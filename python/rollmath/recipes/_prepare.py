"""What a recipe does between the rewards of a step and its losses.

The steps are functions of their own: :mod:`rollmath.distributed` takes some on each rank, the others over all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath import _checks
from rollmath._arrays import Array, ArrayLike, Kind, describe, host, is_tensor
from rollmath._logprobs import LogProbs
from rollmath.groups import Groups, as_groups
from rollmath.ragged import Ragged
from rollmath.recipes._advantage import compute, missing
from rollmath.recipes._batch import Batch, Level
from rollmath.recipes._call import where
from rollmath.recipes._method import OF_STEPS, method_of
from rollmath.recipes._metrics import metrics_of
from rollmath.recipes._options import nearest
from rollmath.recipes._reward_kl import rollout_kl, token_rewards
from rollmath.recipes._steps import placed_of
from rollmath.recipes._tree import copies_of, forest_of, prefixes_of, trained_once
from rollmath.rows import Rows
from rollmath.select import Selection
from rollmath.select._selection import Statistics, selection

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rollmath.recipes._recipe import Recipe


def prepare(
    recipe: Recipe, rewards: ArrayLike, groups: Groups | ArrayLike, rows: Rows, columns: dict[str, Any]
) -> Batch:
    """See :meth:`Recipe.prepare`."""
    step = read(recipe, "prepare", rewards, groups, rows, columns)
    shaped, token_level = shaped_rewards(recipe, step)
    found = decide(recipe, step, shaped, shaped if token_level is None else token_level)
    trains, found = masked(recipe, step, found)
    metrics = metrics_over(recipe, step, None if shaped is step.rewards else shaped, found, trains)
    return Batch(trains, found.values, found.level, shaped, found.chosen, metrics)


def advantages(
    recipe: Recipe, rewards: ArrayLike, groups: Groups | ArrayLike, rows: Rows | None, columns: dict[str, Any]
) -> Array | Ragged:
    """See :meth:`Recipe.advantages`."""
    step = read(recipe, "advantages", rewards, groups, rows, columns)
    valid = step.columns.pop("valid", None)
    if valid is not None:
        valid = _checks.mask("advantages", "valid", valid, len(step.groups), "len(groups)")
    if step.copies is not None:
        valid = ~step.copies if valid is None else valid & ~step.copies
    values = compute("advantages", recipe.advantage, step.rewards, step.groups, rows, step.columns, valid)
    return values if rows is None else leveled(recipe, values, rows, step.kind)[0]


@dataclass(frozen=True)
class Step:
    """The arguments of a call, checked."""

    who: str
    rewards: ArrayLike
    x: NDArray[np.float64]
    back: _checks.Back
    groups: Groups
    rows: Rows | None
    #: Columns that the method takes.
    columns: dict[str, Any]
    #: All of them.
    given: Mapping[str, Any]
    truncated: NDArray[np.bool_] | None
    #: Rollouts that another one stands for, None if there are none.
    copies: NDArray[np.bool_] | None = None
    #: Of this step, for a filter that draws.
    seed: int | None = None

    @property
    def kind(self) -> Kind:
        """Of the rewards."""
        return self.back.kind


def read(
    recipe: Recipe, who: str, rewards: ArrayLike, groups: Groups | ArrayLike, rows: Rows | None, columns: dict[str, Any]
) -> Step:
    """Checks rewards, groups, rows and columns.

    Raises:
        ValueError: wrong lengths, a column that is missing.
        TypeError: no Rows; a column that the recipe does not take.
    """
    if rows is not None and not isinstance(rows, Rows):
        msg = f"{who}(): 'rows' must be Rows, got {describe(rows)}"
        raise TypeError(msg)
    made = as_groups(who, groups)
    n, why = (len(made), "len(groups)") if rows is None else (rows.n_rollouts, "rows.n_rollouts")
    if len(made) != n:
        msg = (
            f"{who}(): 'groups' must have length {n} (= {why}), one id a rollout in the order of rows.rollouts.ids, "
            f"got {len(made)}; what has one value a row goes through rows.collapse"
        )
        raise ValueError(msg)
    x, back = _checks.rows(who, "rewards", rewards, n, why)
    if not is_tensor(rewards) and not isinstance(rewards, np.ndarray):
        rewards = x  # so that a method of one's own can compute with a list
    method = method_of(recipe.advantage.method)
    known = {*recipe.advantage.takes, *recipe.columns, "lengths", "logprobs", "truncated"}
    known |= {"valid"} if who == "advantages" else set()
    draws = who == "prepare" and recipe.filter is not None and recipe.filter.signature.takes("seed")
    known |= {"seed"} if draws else set()
    for name, value in columns.items():
        if name not in known and not (method.own and method.open):
            msg = f"{who}() got an unexpected column {name!r}; {recipe.name!r} takes: {nearest(name, known)}"
            raise TypeError(msg)
        shape = getattr(value, "shape", None)
        size = len(value) if isinstance(value, (list, tuple, Groups)) else shape[0] if shape else None
        # What has more axes, or is a Ragged, is for the method to judge.
        flat = isinstance(value, (list, tuple, Groups)) or (shape is not None and len(shape) == 1)
        other = {"logprobs", "forest"} | ({*OF_STEPS, *method.per_step} if method.on_steps else set())
        if flat and name in known and name not in other and not method.per_token and size != n:
            msg = f"{who}(): {name!r} must have length {n} (= {why}), got {size}"
            raise ValueError(msg)
    for name in recipe.needs if who == "prepare" else recipe.advantage.needs:
        if columns.get(name) is None and not (name == "states" and columns.get("steps") is not None):
            raise ValueError(missing(who, f"recipe {recipe.name!r}", name, recipe.needs[name]))
    cut = columns.get("truncated")
    truncated = None if cut is None else _checks.mask(who, "truncated", cut, n, why)
    start = recipe.advantage.start
    both = (method,) if start is None else (method, method_of(start.method))
    taken = {name for of in both for name in (*of.columns, *(["lengths"] if "lengths" in of.parameters else []))}
    taken.add("valid")
    for_method = {k: v for k, v in columns.items() if k in taken or (method.own and method.open)}
    copies = None
    if method.on_prefixes:
        for_method |= prefixes_of(who, made, columns)
    elif method.on_forest:
        for_method["forest"] = forest_of(who, rows, made, columns, tokens=recipe.advantage.per_node)
        copies = copies_of(for_method["forest"], columns.get("paths"))
    elif method.on_steps:
        placed = placed_of(who, method, rows, made, columns, back)
        for_method = {k: v for k, v in for_method.items() if k not in {*OF_STEPS, *placed.columns}} | {"steps": placed}
    seed = columns.get("seed") if draws else None
    seed = None if seed is None else _checks.whole(who, "seed", seed, least=0)
    return Step(who, rewards, x, back, made, rows, for_method, columns, truncated, copies, seed)


def shaped_rewards(recipe: Recipe, step: Step) -> tuple[Array, Ragged | None]:
    """The rewards after the penalties, one a rollout; and one a token where the method works on these."""
    rows = step.rows
    assert rows is not None
    if recipe.overlong is None and not recipe.reward_kl:
        return step.rewards, None
    if recipe.advantage.on_steps and step.given.get("step_rewards") is not None:
        msg = (
            f"{step.who}(): 'step_rewards' are not what the penalties of the recipe are taken off, which are those of "
            "rollouts; take them off yourself, and leave out overlong and reward_kl"
        )
        raise ValueError(msg)
    x = step.x
    if recipe.overlong is not None:
        lengths = step.given.get("lengths")
        lengths = rows.trained_of_rollout if lengths is None else host(step.who, "lengths", lengths)[0]
        x = x + np.asarray(recipe.overlong(lengths, step.truncated), np.float64)
    if not recipe.reward_kl:
        return step.back(x), None
    logprobs = step.given["logprobs"]
    if not isinstance(logprobs, LogProbs) or logprobs.ref is None:
        msg = f"{step.who}(): 'logprobs' must be LogProbs(prox=..., ref=...), got {logprobs!r}"
        raise (ValueError if isinstance(logprobs, LogProbs) else TypeError)(msg)
    if not recipe.advantage.per_token:
        x = x - recipe.reward_kl * rollout_kl(step.who, logprobs, rows)
        return step.back(x), None
    per_token = token_rewards(step.who, x, logprobs, rows, recipe.reward_kl)
    values = step.kind.wrap(per_token.astype(step.back.dtype, copy=False))
    return step.back(x), Ragged(values, rows.offsets)


def eligible(recipe: Recipe, step: Step) -> NDArray[np.bool_] | None:
    """Rollouts that may take part in a selection and in statistics, None for all."""
    valid = None if step.copies is None else ~step.copies
    if recipe.truncated == "exclude" and step.truncated is not None:
        valid = ~step.truncated if valid is None else valid & ~step.truncated
    return valid


def sources(recipe: Recipe, step: Step, shaped: Array, advantages: NDArray[np.float64] | None) -> dict[str, Any]:
    """What the filter reads, by name."""
    rows = step.rows
    assert rows is not None
    assert recipe.filter is not None
    known: dict[str, Any] = {**step.given, "rewards": step.rewards, "shaped": shaped}
    known |= {"advantages": advantages, "rows": rows.rollouts.counts}
    if known.get("lengths") is None:
        known["lengths"] = rows.trained_of_rollout
    return {name: known[name] for name in recipe.filter.reads}


def select(recipe: Recipe, step: Step, shaped: Array, advantages: NDArray[np.float64] | None = None) -> Selection:
    """Which rollouts are trained, and for each other one why not."""
    dropped: list[tuple[str, NDArray[np.bool_]]] = []
    names = []
    valid = eligible(recipe, step)
    taken: Statistics | None = None
    if step.copies is not None:
        names.append("copies of rollouts")
        dropped.append(("copy", step.copies))
    if recipe.truncated != "keep" and step.truncated is not None:
        names.append("truncated rollouts")
        dropped.append(("truncated", step.truncated))
    if recipe.filter is not None:
        assert step.rows is not None
        rules = recipe.advantage.rules
        nan = "omit" if rules is not None and rules.nan == "omit" else "raise"
        read = sources(recipe, step, shaped, advantages)
        # Of the ids of rollouts, so that it is the same however these are spread over ranks.
        uid = list(step.rows.rollouts.ids)
        report = recipe.filter(
            read.get(recipe.filter.on), step.groups, valid=valid, nan=nan, uid=uid, seed=step.seed, columns=read
        ).report
        taken = recipe.filter.statistics or report.statistics
        names.insert(0, report.method)
        found = [(reason, report.codes == code) for code, reason in enumerate(report.reasons, start=1)]
        # Why a rollout is not trained: its group, unless it is no part of it.
        dropped = [*found, *dropped] if valid is None else [*dropped, *found]
    return selection(" and ".join(names) or "no filter", step.groups, dropped, step.kind, statistics=taken)


@dataclass(frozen=True)
class Decided:
    """Which rollouts train, and their advantages."""

    chosen: Selection
    #: Rollouts that enter the statistics, None for all.
    valid: NDArray[np.bool_] | None
    #: Rollouts that train, and rows.
    kept: NDArray[np.bool_]
    kept_rows: NDArray[np.bool_]
    #: Advantages, 0 where a rollout was dropped; None if they were not asked for.
    values: Any = None
    level: Level = "token"


def decide(recipe: Recipe, step: Step, shaped: Array, given: Array | Ragged | None) -> Decided:
    """Selection and advantages; ``given`` are the rewards that the method gets, None to leave advantages out."""
    rows = step.rows
    assert rows is not None
    early = None
    if recipe.filter is not None and "advantages" in recipe.filter.reads:
        early = _advantages(recipe, step, given, eligible(recipe, step))
    chosen = select(recipe, step, shaped, None if early is None else _looked_at(recipe, step, *early))
    valid = statistics(recipe, step, chosen)
    kept = chosen.report.codes == 0
    kept_rows = kept[rows.rollouts.index]
    if given is None:
        return Decided(chosen, valid, kept, kept_rows)
    before = chosen.report.statistics == "before"
    values, level = early if early is not None and before else _advantages(recipe, step, given, valid)
    if not kept.all():
        values = zeroed(values, kept if level == "rollout" else kept_rows, rows)
    return Decided(chosen, valid, kept, kept_rows, values, level)


def _advantages(recipe: Recipe, step: Step, given: Any, valid: NDArray[np.bool_] | None) -> tuple[Any, Level]:
    rows = step.rows
    assert rows is not None
    values = compute(step.who, recipe.advantage, given, step.groups, rows, step.columns, valid)
    return leveled(recipe, values, rows, step.kind)


def _looked_at(recipe: Recipe, step: Step, values: Any, level: Level) -> NDArray[np.float64]:
    """Advantages as a filter sees them: NaN where rewards are missing."""
    if level != "rollout":
        msg = (
            f"{step.who}(): recipe {recipe.name!r} has a filter of advantages, which must be one a rollout, but "
            f"{recipe.advantage.name!r} gives one a {level}"
        )
        raise ValueError(msg)
    x = host(step.who, "advantages", values)[0].astype(np.float64)
    if recipe.advantage.rules is not None and recipe.advantage.rules.nan == "omit":
        x[np.isnan(step.x)] = np.nan
    return x


def masked(recipe: Recipe, step: Step, found: Decided) -> tuple[Rows, Decided]:
    """The rows without what does not train: dropped rollouts, copies of shared tokens, tokens of advantage 0."""
    rows, values, level = step.rows, found.values, found.level
    assert rows is not None
    trains = rows.keep(found.kept_rows)
    if recipe.shared == "once":
        trains = trains.keep(trained_once(step.who, step.columns["forest"], rows, trains))
        if trains.mask is not None:
            values = Ragged(where(trains.mask != 0, values.values), rows.offsets)
    if recipe.zeros == "drop":
        nonzero = host(step.who, "advantages", values.values if level == "token" else values)[0] != 0
        if level == "token":
            trains = trains.keep(Ragged(nonzero, rows.offsets))
        else:
            trains = trains.keep(nonzero[rows.rollouts.index] if level == "rollout" else nonzero)
    return trains, replace(found, values=values)


def metrics_over(recipe: Recipe, step: Step, shaped: Array | None, found: Decided, trains: Rows) -> dict[str, float]:
    """The metrics of a batch, those of advantages 0 if there are none; ``shaped`` is None if there are no penalties."""
    # Our methods give gaps 0; what others give there is not read.
    sparse = not method_of(recipe.advantage.method).own
    values, level = (found.values, found.level) if found.values is not None else (np.zeros(len(step.groups)), "rollout")
    return metrics_of(step.x, shaped, step.groups, found.chosen, trains, values, level, sparse=sparse)


def statistics(recipe: Recipe, step: Step, chosen: Selection) -> NDArray[np.bool_] | None:
    """Rollouts that enter the statistics, None for all."""
    if chosen.report.statistics == "before":
        return eligible(recipe, step)
    codes = chosen.report.codes
    seen = codes == 0
    if recipe.truncated == "mask" and "truncated" in chosen.report.reasons:
        seen |= codes == 1 + chosen.report.reasons.index("truncated")
    return None if seen.all() else seen


def leveled(recipe: Recipe, values: Any, rows: Rows, kind: Kind) -> tuple[Array | Ragged, Level]:
    """What a method gave, and what it has one value of."""
    name = recipe.advantage.name
    if isinstance(values, tuple):
        # temporal.gae gives advantages and returns.
        values = values[0]
    if isinstance(values, Ragged):
        if not np.array_equal(values.offsets, rows.offsets):
            msg = f"prepare(): advantage {name!r} must give a Ragged with the offsets of the rows, got {values!r}"
            raise ValueError(msg)
        return values, "token"
    if not is_tensor(values):
        values = (
            kind.wrap(_checks.rows("prepare", f"advantage {name}", values)[0]) if kind.is_torch else np.asarray(values)
        )
    shape = tuple(values.shape)
    if shape == (rows.n_rollouts,):
        return values, "rollout"
    if shape == (rows.n_rows,):
        return values, "row"
    msg = (
        f"prepare(): advantage {name!r} must give one number a rollout ({rows.n_rollouts},), one a row "
        f"({rows.n_rows},), or a Ragged with the offsets of the rows, got shape {shape}"
    )
    raise ValueError(msg)


def zeroed(values: Any, keep: NDArray[np.bool_], rows: Rows) -> Any:
    """0 where rollouts were dropped; ``keep`` is one a rollout, or one a row."""
    if isinstance(values, Ragged):
        return Ragged(where(np.repeat(keep, rows.lengths), values.values), values.offsets)
    return where(keep, values)

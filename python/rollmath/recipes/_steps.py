"""Methods on steps in a recipe: the table of what agents saw and did, and numbers of steps at their tokens."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath._arrays import Array, ArrayLike, describe, host, is_tensor
from rollmath._checks import Back
from rollmath.groups import Groups
from rollmath.ragged import Ragged
from rollmath.recipes._batch import items
from rollmath.recipes._call import called, length, picked, scattered
from rollmath.recipes._method import NO_ADVANTAGES, OF_STEPS, Method
from rollmath.recipes._turns import Turns, place, spread, tokens_of_turns, turns_of
from rollmath.rows import Rows
from rollmath.steps import Steps, as_steps

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Ours that tell steps by what was done, too; the others are not asked for actions.
OF_ACTIONS = frozenset({"graph.rtmc", "graph.salt"})
#: Ours that take an outcome beside rewards of steps; the others take one of the two.
OF_BOTH = frozenset({"graph.gigpo"})


@dataclass(frozen=True)
class Placed:
    """The steps of the rollouts, and where each of them trains.

    Attributes:
        steps: whose trajectories are the rollouts.
        columns: of the method, with one number a step, in the order of the rows of ``steps``.
        turns: runs of trained positions; None if there are no rows.
        at: the row of ``steps`` of each of these runs; of each row, if a row is a step.
    """

    steps: Steps
    columns: Mapping[str, Any]
    turns: Turns | None = None
    at: NDArray[np.int64] | None = None


def by_actions(method: Method) -> bool:
    """Whether the method may tell steps by what was done."""
    return method.own or method.name in OF_ACTIONS


def check_steps(who: str, method: Method, base: Method | None) -> None:
    """Raises where a method on steps cannot be called, or has no advantages to go on from."""
    msg = ""
    if method.name in NO_ADVANTAGES:
        msg = f"{who}(): 'method' must give one advantage a step, and {method.name!r} does not; call it by hand"
    elif base is not None and not method.on_advantages:
        msg = f"{who}(): 'base' is for methods of steps with a parameter 'advantages', and {method.name!r} has none"
    elif base is None and method.on_advantages and _no_default(method, "advantages"):
        msg = (
            f"{who}(): 'base' must be given, the method whose advantages of rollouts {method.name!r} goes on from, "
            "such as 'group.grpo'"
        )
    elif base is not None and (base.per_token or base.on_forest or base.on_steps):
        msg = f"{who}(): 'base' must be a method of rollouts, such as 'group.grpo', got {base.name!r}"
    if msg:
        raise ValueError(msg)
    for name in ("forest", "rows", "mask", "lengths"):
        if method.on_steps and _no_default(method, name):
            msg = f"{who}(): 'method' {method.name!r} takes steps and {name!r}; a method takes one of them"
            raise TypeError(msg)


def _no_default(method: Method, name: str) -> bool:
    return getattr(method.parameters.get(name), "default", None) is inspect.Parameter.empty


def placed_of(
    who: str, method: Method, rows: Rows | None, groups: Groups, columns: Mapping[str, Any], back: Back
) -> Placed:
    """The steps that were given, checked against rollouts and rows, or those of lists of states.

    Args:
        who: for messages.
        method: that takes them.
        rows: the rows, None if there are none.
        groups: of the rollouts.
        columns: ``steps``, or ``states`` and ``actions``; ``turns``; and what the method takes besides.
        back: the kind of numbers that lists become.

    Raises:
        ValueError: neither steps nor states, or both; steps of other rollouts, groups or turns.
        TypeError: no steps, states or turns.
    """
    given = {name: x for name in OF_STEPS if (x := columns.get(name)) is not None}
    if "steps" in given and (both := [name for name in ("states", "actions") if name in given]):
        msg = f"{who}(): 'steps' and {both[0]!r} both say what the steps are; give one of them"
        raise ValueError(msg)
    if not {"steps", "states"} & set(given):
        msg = f"{who}(): a method on steps needs 'states' (one list a rollout), or 'steps', a rollmath.Steps; pass one"
        raise ValueError(msg)
    if rows is None and "turns" in given:
        msg = f"{who}(): 'turns' are those of the tokens of rows; pass rows=..., or leave them out"
        raise ValueError(msg)
    turns = None if rows is None else turns_of(who, rows, given.get("turns"))
    if "steps" in given:
        steps = as_steps(who, given["steps"])
        _check_rollouts(who, steps, rows, groups)
    else:
        steps = _of_states(who, method, rows, groups, turns, given)
    per_step = {
        name: _per_step(who, name, x, steps, back, flat="steps" in given)
        for name, x in columns.items()
        if (name in method.per_step and x is not None) or (isinstance(x, Ragged) and name not in OF_STEPS)
    }
    if rows is None or turns is None:
        return Placed(steps, per_step)
    _check_counts(who, steps.lengths, rows, turns, "steps" if "steps" in given else "states")
    # From the number of a step in its rollout to its row in the table, which may be in any order.
    start = steps.offsets[:-1]
    rollout, number = (turns.rollout, turns.number) if turns.of_rows is None else (rows.rollouts.index, turns.of_rows)
    return Placed(steps, per_step, turns, steps.order[start[rollout] + number])


def _check_rollouts(who: str, steps: Steps, rows: Rows | None, groups: Groups) -> None:
    n, why = len(groups), "len(groups)"
    if steps.n_trajectories != n:
        msg = f"{who}(): 'steps' must have {n} trajectories (= {why}), got {steps.n_trajectories}"
        raise ValueError(msg)
    ids = () if rows is None else tuple(rows.rollouts.ids)
    if rows is not None and steps.trajectory_ids != ids and set(steps.trajectory_ids) == set(ids):
        at = next(i for i, (a, b) in enumerate(zip(steps.trajectory_ids, ids, strict=True)) if a != b)
        msg = (
            f"{who}(): 'steps' must have its trajectories in the order of rows.rollouts.ids, but number {at} is "
            f"{steps.trajectory_ids[at]!r} there and {ids[at]!r} in the rows"
        )
        if steps.trajectory_ids == tuple(range(n)):
            msg += "; if these are places, not ids, pass states= and actions= instead"
        raise ValueError(msg)
    tasks = steps.trajectory_groups
    if not np.array_equal(tasks.index, groups.index):
        at = int(np.argmax(tasks.index != groups.index))
        msg = (
            f"{who}(): 'steps' must have the groups of the rollouts, but rollout {at}, here in group "
            f"{groups.ids[groups.index[at]]!r}, is in {tasks.ids[tasks.index[at]]!r} there, with others; trajectories "
            "must be in the order of rows.rollouts.ids"
        )
        raise ValueError(msg)


def _of_states(
    who: str, method: Method, rows: Rows | None, groups: Groups, turns: Turns | None, given: Mapping[str, Any]
) -> Steps:
    # Trainers hold lists in arrays of objects.
    both = (x.tolist() if isinstance(x, np.ndarray) else x for x in (given["states"], given.get("actions")))
    states: Any
    actions: Any
    states, actions = both
    for name, x in (("states", states), ("actions", actions)):
        if x is not None and length(x) != len(groups):
            msg = f"{who}(): {name!r} must have one list a rollout, {len(groups)} (= len(groups)), got {describe(x)}"
            raise ValueError(msg) if length(x) is not None else TypeError(msg)
    if actions is None and by_actions(method):
        counts = np.array([length(x) or 0 for x in states], np.int64)
        if rows is None or turns is None:
            msg = f"{who}(): needs 'actions', one list a rollout, where there are no rows; pass actions=... or rows=..."
            raise ValueError(msg)
        _check_counts(who, counts, rows, turns, "states")
        actions = tokens_of_turns(who, rows, turns, counts)
    try:
        return Steps.from_episodes(states, actions, groups=groups)
    except (TypeError, ValueError) as wrong:
        raise type(wrong)(str(wrong).replace("Steps.from_episodes()", f"{who}()", 1)) from None


def _check_counts(who: str, counts: NDArray[np.int64], rows: Rows, turns: Turns, name: str) -> None:
    """Raises unless turns are as many as steps."""
    ids = rows.rollouts.ids
    off = np.flatnonzero((turns.counts >= 0) & (turns.counts != counts))
    if len(off):
        at = int(off[0])
        what, fix = (
            "trained runs of tokens",
            (
                "where turns touch or have gaps inside, turns= says the turn of each token, -1 at gaps, or turns='row' "
                "that each row is one"
            ),
        )
        if turns.of_rows is not None:
            what, fix = "rows", "turns='row' says that each row is a step"
        msg = (
            f"{who}(): {name!r} must have one step a turn, but rollout {ids[at]!r} has {counts[at]} steps and "
            f"{turns.counts[at]} {what}; {fix}"
        )
        raise ValueError(msg)
    if (beyond := turns.number >= counts[turns.rollout]).any():
        at = int(np.argmax(beyond))
        rollout = turns.rollout[at]
        msg = (
            f"{who}(): 'turns' must be below the number of steps, but rollout {ids[rollout]!r} has {counts[rollout]}, "
            f"got {turns.number[at]} at {place(rows, turns.row[at], turns.start[at])}"
        )
        raise ValueError(msg)


def _per_step(who: str, name: str, x: Any, steps: Steps, back: Back, *, flat: bool) -> Any:
    """A column with one number a step, in the order of the rows of ``steps``."""
    x = x.tolist() if isinstance(x, np.ndarray) and x.dtype == object else x
    dtype = bool if name == "invalid" else back.dtype
    if isinstance(x, (list, tuple)) and not (flat and not any(length(part) is not None for part in x)):
        if len(x) != steps.n_trajectories:
            msg = f"{who}(): {name!r} must have one list a rollout, {steps.n_trajectories}, got {len(x)}"
            raise ValueError(msg)
        try:
            parts: list[Any] = [_numbers(who, name, part, dtype) for part in x]
            x = Ragged.from_lists(parts)
        except (TypeError, ValueError) as wrong:
            msg = f"{who}(): {name!r} must hold one list of numbers a rollout: {wrong}"
            raise type(wrong)(msg) from None
        x = Ragged(back.kind.wrap(np.asarray(x.values, dtype)), x.offsets)
    if isinstance(x, Ragged):
        if not np.array_equal(x.offsets, steps.offsets):
            both = zip(x.lengths.tolist(), steps.lengths.tolist(), strict=False)
            at = next((i for i, (a, b) in enumerate(both) if a != b), min(len(x), steps.n_trajectories))
            got = f"{x.lengths[at]} and {steps.lengths[at]} steps" if at < min(len(x), steps.n_trajectories) else "none"
            msg = f"{who}(): {name!r} must have one number a step, but rollout {at} has {got}"
            raise ValueError(msg)
        return steps.by_row(x)
    if not flat or not (is_tensor(x) or isinstance(x, (np.ndarray, list, tuple))):
        msg = f"{who}(): {name!r} must be a Ragged or one list a rollout, with one number a step, got {describe(x)}"
        raise TypeError(msg)
    if length(x) != len(steps):
        msg = f"{who}(): {name!r} must have one number a step, {len(steps)}, got {describe(x)}"
        raise ValueError(msg)
    return x if not isinstance(x, (list, tuple)) else back.kind.wrap(_numbers(who, name, x, dtype))


def _numbers(who: str, name: str, x: Any, dtype: Any) -> NDArray[Any]:
    return np.asarray(host(who, name, x)[0] if is_tensor(x) else x, dtype)


def of_steps(
    who: str,
    method: Method,
    rewards: ArrayLike,
    advantages: Array | None,
    given: dict[str, Any],
    rows: Rows | None,
    valid: NDArray[np.bool_] | None,
) -> Any:
    """What the method gives: one number a step, a row, or at the trained tokens of each step.

    It sees the steps of the rollouts that take part; those of others get 0.
    """
    placed: Placed = given.pop("steps")
    steps, at = placed.steps, np.arange(len(placed.steps))
    columns = {**given, **placed.columns}
    if valid is not None:
        chosen, n = np.flatnonzero(valid), len(valid)
        steps, at = steps.take(valid), np.flatnonzero(valid[steps.trajectory_index])
        columns = {name: picked(x, chosen) if length(x) == n else x for name, x in given.items()}
        columns |= {name: picked(x, at) for name, x in placed.columns.items()}
        rewards, advantages = picked(rewards, chosen), None if advantages is None else picked(advantages, chosen)
    one = not method.own and method.name not in OF_BOTH and "step_rewards" in columns
    supplied = {"rewards": None if one else rewards, "steps": steps, "groups": steps.trajectory_groups}
    if advantages is not None:
        supplied["advantages"] = advantages
    values = called(method, supplied, columns)
    values = values[0] if isinstance(values, tuple) else values
    if isinstance(values, Ragged) or length(values) != len(at):
        msg = (
            f"{who}(): advantage {method.name!r} must give one number a step, {len(at)}, got {describe(values)} of "
            f"length {length(values)}"
        )
        raise ValueError(msg)
    if valid is not None:
        values = scattered(values, at, len(placed.steps))
    if rows is None:
        return values
    turns, found = placed.turns, placed.at
    assert turns is not None
    assert found is not None
    values = items(values, found)
    return values if turns.of_rows is not None else Ragged(spread(values, turns, int(rows.offsets[-1])), rows.offsets)

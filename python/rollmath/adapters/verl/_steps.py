"""Recipes on steps: batches with a row for each step of an agent, or one a rollout, whose turns are in its mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rollmath import Ragged, Rows
from rollmath._arrays import choice
from rollmath.adapters.verl._batch import Batch
from rollmath.adapters.verl._config import check_known
from rollmath.adapters.verl._estimators import Both
from rollmath.groups import Groups, as_groups
from rollmath.recipes._method import Method, method_of
from rollmath.recipes._steps import by_actions

if TYPE_CHECKING:
    from rollmath.recipes import Recipe

#: What verl-agent calls the trajectory of a row, and what the agent saw there.
TRAJECTORY, STATE = "traj_uid", "anchor_obs"
#: What is read where a batch has it: with a row for each step, and with one a rollout. Rewards of steps are not:
#: verl-agent's column of that name has returns.
_OF_STEPS, _OF_ROLLOUTS = ("actions",), ("actions", "turns")
#: How the rewards of the rows of a rollout make that of the rollout.
_REWARDS = ("same", "first", "last", "sum", "mean", "max", "min")


def steps_estimator(batch: Batch, recipe: Recipe, renamed: dict[str, str], *, rewards: Any) -> Both:
    """Advantages of a recipe on steps, at the tokens of each step.

    Args:
        batch: a row is a step if there is a column of trajectories, or where sessions have several outputs; else a
            rollout of several turns.
        recipe: whose method takes steps.
        renamed: the column for each parameter.
        rewards: how those of the rows of a rollout make its reward.
    """
    several = batch.sessions is not None and batch.rollouts < int((batch.sessions.index >= 0).sum())
    by_step = bool({"trajectory", "step"} & set(renamed)) or batch.columns.get(TRAJECTORY) is not None or several
    known = {*recipe.needs, *recipe.advantage.takes, "truncated", "trajectory", "step"} - {"steps"}
    known -= {"turns"} if by_step else set()
    check_known(batch.who, "column in 'algorithm.rollmath.columns'", renamed, known)
    if by_step:
        return _row_a_step(batch, recipe, renamed, rewards)
    if rewards is not None:
        msg = f"{batch.who}(): 'algorithm.rollmath.rewards' is for batches with a row for each step, got {rewards!r}"
        raise ValueError(msg)
    return _row_a_rollout(batch, recipe, renamed)


def _wanted(batch: Batch, recipe: Recipe, renamed: dict[str, str], optional: tuple[str, ...]) -> list[str]:
    """Columns of rollouts and of steps to read, besides the states."""
    there = [name for name in optional if batch.columns.get(name) is not None]
    named = [name for name in (*recipe.needs, *renamed, *there) if name not in {"states", "trajectory", "step"}]
    return list(dict.fromkeys(named))


def _row_a_rollout(batch: Batch, recipe: Recipe, renamed: dict[str, str]) -> Both:
    names = ["states", *_wanted(batch, recipe, renamed, _OF_ROLLOUTS)]
    columns: dict[str, Any] = {}
    rows, real = rows_of_responses(batch, tokens=_by_tokens(method_of(recipe.advantage.method), names))
    for name in names:
        given = renamed.get(name, name)
        found = batch.need(given, asked_for=name)
        # Numbers of turns come one a token.
        padded = getattr(found, "ndim", 1) == 2
        columns[name] = batch.tokens(given)[real] if padded else batch.column(given, asked_for=name)
    made = recipe.prepare(batch.scores(), batch.column("uid"), rows=rows, **columns)
    dense = np.zeros(batch.trained.shape, np.float32)
    if isinstance(made.advantages, Ragged):
        dense[real] = made.advantages.to_padded(width=dense.shape[1])
    else:  # turns="row" is no column
        dense[real] = rows.expand(np.asarray(made.advantages)).to_padded(width=dense.shape[1])
    return dense, dense


def _by_tokens(method: Method, names: list[str]) -> bool:
    """Whether actions are the tokens of the responses."""
    return "actions" not in names and by_actions(method)


def _row_a_step(batch: Batch, recipe: Recipe, renamed: dict[str, str], how: Any) -> Both:
    by_column = "trajectory" in renamed or batch.columns.get(TRAJECTORY) is not None or batch.sessions is None
    how = ("same" if by_column else "last") if how is None else how
    choice(batch.who, "algorithm.rollmath.rewards", how, _REWARDS)
    real, trajectories, time = _in_time(batch, renamed, by_column=by_column)
    # Rows of one trajectory and time: trainers repeat rows to fill a batch.
    order = np.lexsort((time, trajectories.index))
    again = np.zeros(len(order), bool)
    again[1:] = (np.diff(trajectories.index[order]) == 0) & (np.diff(time[order]) == 0)
    stands = np.empty(len(order), np.int64)
    stands[order] = np.cumsum(~again) - 1
    # `steps` are rows of the batch, by trajectory and time, and `of` their trajectories.
    steps, of = order[~again], trajectories.index[order[~again]]
    ends = np.cumsum(np.bincount(of, minlength=trajectories.n_groups))

    def column(name: str, given: str) -> NDArray[Any]:
        found = np.asarray(batch.need(given, asked_for=name))
        if found.ndim < 1 or len(found) != batch.trained.shape[0]:
            msg = f"{batch.who}(): {given!r} must have one value a row, [{batch.trained.shape[0]}], got {found.shape}"
            raise ValueError(msg)
        return found[real]

    def lists(x: list[Any]) -> list[list[Any]]:
        return [x[start:end] for start, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)]

    method, names = method_of(recipe.advantage.method), _wanted(batch, recipe, renamed, _OF_STEPS)
    seen = [_key(x) for x in column("states", renamed.get("states", STATE))]
    for row, copy in zip(steps[stands[order[again]]].tolist(), order[again].tolist(), strict=True):
        if seen[row] != seen[copy]:
            name = trajectories.ids[trajectories.index[row]]
            msg = (
                f"{batch.who}(): rows of a trajectory with the same number of a step must be copies, but rows "
                f"{real[row]} and {real[copy]}, of step {time[row]} of {name!r}, have other states; "
                "algorithm.rollmath.columns.step must name a column that counts the steps of a trajectory"
            )
            raise ValueError(msg)
    columns: dict[str, Any] = {"states": lists([seen[row] for row in steps.tolist()]), "turns": "row"}
    for name in names:
        found = column(name, renamed.get(name, name))[steps]
        columns[name] = lists(list(found)) if name in {"actions", *method.per_step} else found[ends - 1]
    rows = _rows(batch, real[steps], of, tokens=_by_tokens(method, names))
    scores = batch.row_scores()[real][steps]
    prompts = as_groups(batch.who, column("uid", "uid")[steps])
    made = recipe.prepare(
        _rewards(batch.who, scores, rows, how, trajectories), _prompts(batch.who, prompts, rows), rows=rows, **columns
    )
    values = np.asarray(made.advantages, np.float32)
    values = values[rows.rollouts.index] if made.level == "rollout" else values
    out = np.zeros(batch.trained.shape[0], np.float32)
    out[real] = values[stands]
    dense = batch.trained.expand(out)
    return dense, dense


def _key(x: Any) -> Any:
    """Of what an agent saw: pictures by their bytes."""
    if not isinstance(x, np.ndarray):
        return x
    return x.tolist() if x.dtype.hasobject else (x.shape, x.dtype.str, x.tobytes())


def _in_time(
    batch: Batch, renamed: dict[str, str], *, by_column: bool
) -> tuple[NDArray[np.int64], Groups, NDArray[np.int64]]:
    """Rows that are steps, their trajectories, and when they were taken."""
    sessions, given = batch.sessions, renamed.get("trajectory", TRAJECTORY)
    real = np.arange(batch.trained.shape[0]) if sessions is None else np.flatnonzero(sessions.index >= 0)
    if by_column:
        found = np.asarray(batch.need(given, asked_for="trajectory"))
        trajectories = as_groups(batch.who, found[real], name=given, length=len(real), why="the number of rows")
    else:
        assert sessions is not None
        trajectories = Groups(sessions.index[real])
    if "step" in renamed:
        found = np.asarray(batch.need(renamed["step"], asked_for="step"))[real]
        if found.dtype == object:
            found = np.array(found.tolist())
        if found.dtype.kind not in "iu" or found.shape != (len(real),):
            msg = f"{batch.who}(): {renamed['step']!r} must hold one integer a row, the number of the step"
            raise TypeError(msg)
        return real, trajectories, found.astype(np.int64)
    if not by_column:
        assert sessions is not None
        return real, trajectories, sessions.output[real]
    index = trajectories.index
    begins = np.diff(index, prepend=-1) != 0
    counts = np.bincount(index[begins], minlength=trajectories.n_groups)
    if (counts > 1).any():
        msg = (
            f"{batch.who}(): rows of a trajectory must follow one another in the order of time, but those of "
            f"{trajectories.ids[int(np.argmax(counts > 1))]!r} do not (verl reorders rows under "
            "trainer.balance_batch); put the number of its step into each row, and name that column in "
            "algorithm.rollmath.columns.step"
        )
        raise ValueError(msg)
    return real, trajectories, np.arange(len(real))


def _rows(batch: Batch, at: NDArray[np.int64], of: NDArray[np.int64], *, tokens: bool) -> Rows:
    """The rows of the steps, by trajectory and time."""
    trained = batch.trained
    ids = batch.tokens("responses")[at] if tokens else None
    if trained.mask is None:
        return Rows(of, trained.counts[at], tokens=ids)
    return Rows(of, np.full(len(at), trained.shape[1]), mask=trained.mask[at], tokens=ids)


def _rewards(who: str, scores: NDArray[Any], rows: Rows, how: str, trajectories: Groups) -> NDArray[Any]:
    if how == "same":
        spread = scores[rows.rollouts.first][rows.rollouts.index]
        differ = (scores != spread) & ~(np.isnan(scores) & np.isnan(spread))
        if differ.any():
            at = int(np.argmax(differ))
            name = trajectories.ids[rows.rollouts.index[at]]
            msg = (
                f"{who}(): 'token_level_rewards' must add up to the same in all rows of a trajectory, the reward of "
                f"the rollout, but {name!r} has {spread[at]} and {scores[at]}; algorithm.rollmath.rewards says what is "
                "meant: 'sum', 'last', 'first', 'mean', 'max' or 'min'"
            )
            raise ValueError(msg)
        how = "first"
    return np.asarray(rows.collapse(scores, how=how))  # type: ignore[arg-type]


def _prompts(who: str, prompts: Groups, rows: Rows) -> Groups:
    """Of each trajectory."""
    first = rows.rollouts.first
    split = np.flatnonzero(prompts.index != prompts.index[first][rows.rollouts.index])
    if len(split):
        row = int(split[0])
        one = prompts.ids[prompts.index[first[rows.rollouts.index[row]]]]
        other = prompts.ids[prompts.index[row]]
        msg = f"{who}(): 'uid' must be the same in all rows of a trajectory, got {one!r} and {other!r}"
        raise ValueError(msg)
    return prompts.take(first)


def rows_of_responses(batch: Batch, *, tokens: bool) -> tuple[Rows, NDArray[np.bool_]]:
    """One row a rollout, with all positions of the responses, trained or not, and which rows of the batch these are."""
    if batch.sessions is not None and batch.rollouts < int((batch.sessions.index >= 0).sum()):
        msg = f"{batch.who}(): a tree has one row a rollout, but some sessions have several outputs"
        raise ValueError(msg)
    trained, (n, width) = batch.trained, batch.trained.shape
    index = np.arange(n) if batch.sessions is None else batch.sessions.index
    real = index >= 0
    columns = np.arange(width)
    mask = columns < trained.counts[:, None] if trained.mask is None else trained.mask
    lengths = np.where(mask, columns + 1, 0).max(axis=1, initial=0)
    attention = batch.columns.get("attention_mask")
    if attention is not None:
        # What the environment says last is part of a rollout, too.
        lengths = np.maximum(lengths, np.asarray(attention)[:, -width:].sum(axis=1))
    ids = batch.tokens("responses")[real] if tokens else None
    return Rows(index[real], lengths[real], mask=mask[real], tokens=ids), real

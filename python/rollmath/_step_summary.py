"""How much the trajectories of a step table have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from rollmath._arrays import ArrayLike, Immutable, counted, describe, floats
from rollmath._checks import whole
from rollmath._step_merge import MergedSteps
from rollmath.groups import Groups

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rollmath.steps import Steps

#: Credit differs from the advantage by more than this share of the largest advantage.
_SAME = 1e-6


class StepCounts(NamedTuple):
    """Counts, one a task, in the order of ``steps.trajectory_groups.ids``; int64 ``[n_tasks]`` each."""

    trajectories: NDArray[np.int64]
    steps: NDArray[np.int64]
    states: NDArray[np.int64]
    distinct_steps: NDArray[np.int64]
    shared_steps: NDArray[np.int64]
    revisits: NDArray[np.int64]
    changed: NDArray[np.int64]


class StepsSummary(NamedTuple):
    """What :meth:`rollmath.Steps.summary` counts; ``print`` it.

    Attributes:
        n_tasks: tasks.
        n_trajectories: trajectories, with those that have no steps.
        n_steps: rows.
        n_states: distinct states in which a step was taken.
        n_distinct_steps: groups of rows that are the same step.
        n_shared_steps: rows whose step another trajectory takes, too.
        n_revisits: rows whose state the trajectory has been in before.
        n_changed: rows whose credit differs from the advantage of their trajectory; -1 without advantages.
        tasks: ids of the tasks.
        by_task: the same counts one a task.
    """

    n_tasks: int
    n_trajectories: int
    n_steps: int
    n_states: int
    n_distinct_steps: int
    n_shared_steps: int
    n_revisits: int
    n_changed: int
    tasks: tuple[Any, ...]
    by_task: StepCounts

    @property
    def merge_ratio(self) -> float:
        """Rows for each distinct step, at least 1; NaN without rows."""
        return self.n_steps / self.n_distinct_steps if self.n_steps else float("nan")

    @property
    def shared(self) -> float:
        """Share of the rows whose step another trajectory takes, too."""
        return self.n_shared_steps / self.n_steps if self.n_steps else float("nan")

    @property
    def changed(self) -> float:
        """Share of the rows whose credit differs from the advantage of their trajectory; NaN without advantages."""
        return self.n_changed / self.n_steps if self.n_steps and self.n_changed >= 0 else float("nan")

    def __str__(self) -> str:
        n = self.n_trajectories
        what = [
            counted(self.n_tasks, "task"),
            f"{n} trajector{'y' if n == 1 else 'ies'}",
            f"{counted(self.n_steps, 'step')} in {counted(self.n_states, 'state')}",
        ]
        lines = [
            ", ".join(what),
            f"  distinct steps  {self.n_distinct_steps}, {self.merge_ratio:.3g} rows each",
            f"  shared steps    {self.n_shared_steps} rows, {self.shared:.1%}: another trajectory takes them, too",
            f"  revisits        {counted(self.n_revisits, 'row')} in a state that their trajectory has been in before",
        ]
        if self.n_changed >= 0:
            rows = counted(self.n_changed, "row")
            lines.append(f"  credit          differs from the trajectory's in {rows}, {self.changed:.1%}")
        return "\n".join(lines)

    def table(self, *, limit: int = 20) -> str:
        """The counts of the tasks as text, those with the most shared steps first.

        Args:
            limit: how many tasks at most.
        """
        most = whole("StepsSummary.table", "limit", limit)
        heads = ["task", "trajectories", "steps", "states", "distinct", "shared", "revisits", "changed"]
        columns = list(self.by_task if self.n_changed >= 0 else self.by_task[:-1])
        order = np.lexsort((np.arange(self.n_tasks), -self.by_task.shared_steps))[:most].tolist()
        rows = [heads[: len(columns) + 1]] + [[str(self.tasks[g]), *(str(c[g]) for c in columns)] for g in order]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(x.rjust(w) for x, w in zip(row, widths, strict=True)) for row in rows]
        rest = self.n_tasks - len(order)
        return "\n".join(lines + ([f"and {counted(rest, 'more task')}"] if rest else []))


class Summary(Immutable):
    """The summary of a :class:`~rollmath.Steps`."""

    def summary(
        self, advantages: ArrayLike | None = None, *, credit: ArrayLike | None = None, merged: MergedSteps | None = None
    ) -> StepsSummary:
        """How much the trajectories have in common, and how many steps that gives a credit of their own; ``print`` it.

        Args:
            advantages: one number a trajectory.
            credit: one number a row, as a method of :mod:`rollmath.graph` gives it; default: the mean of the advantages
                over each merged step. It differs from the advantage of its trajectory if it does so by more than 1e-6
                of the largest advantage.
            merged: which rows are the same step; default ``steps.merge()``, and another for what a method asks of them
                (``history=``, ``terminal=``).

        Raises:
            ValueError: wrong lengths, or a credit without advantages.
            TypeError: ``merged`` is no MergedSteps.

        >>> from rollmath import Steps
        >>> steps = Steps([0, 0, 1, 1, 1], list("ababc"), list("xyxzy"), groups=["t"] * 5)
        >>> print(steps.summary([1.0, -1.0]))
        1 task, 2 trajectories, 5 steps in 3 states
          distinct steps  4, 1.25 rows each
          shared steps    2 rows, 40.0%: another trajectory takes them, too
          revisits        0 rows in a state that their trajectory has been in before
          credit          differs from the trajectory's in 2 rows, 40.0%
        """
        who, steps = "Steps.summary", cast("Steps", self)
        same = steps.merge() if merged is None else merged
        if not isinstance(same, MergedSteps):
            msg = f"{who}(): 'merged' must be a MergedSteps, as steps.merge() gives, got {describe(merged)}"
            raise TypeError(msg)
        if len(same) != len(steps):
            msg = f"{who}(): 'merged' must be of these steps, with {len(steps)} rows, got {len(same)}"
            raise ValueError(msg)
        if not np.array_equal(same._trajectory, steps.trajectory_index):
            msg = f"{who}(): 'merged' must be of these steps, got one of steps with other trajectories"
            raise ValueError(msg)
        changed = _changed(who, steps, advantages, credit, same)
        tasks = steps.trajectory_groups
        where = tasks.index[steps.trajectory_index]

        def count(rows: NDArray[np.bool_] | NDArray[np.int64]) -> NDArray[np.int64]:
            return np.bincount(where[rows], minlength=tasks.n_groups)

        visits = np.bincount(where, minlength=tasks.n_groups)
        states = steps.groups(by="state")
        been = Groups.product(states, Groups(steps.trajectory_index))
        by_task = StepCounts(
            trajectories=tasks.counts,
            steps=visits,
            states=count(states.first),
            distinct_steps=count(same.groups.first),
            shared_steps=count(same.shared),
            revisits=visits - count(been.first),
            changed=np.full(tasks.n_groups, -1) if changed is None else count(changed),
        )
        return StepsSummary(
            n_tasks=tasks.n_groups,
            n_trajectories=steps.n_trajectories,
            n_steps=len(steps),
            n_states=states.n_groups,
            n_distinct_steps=same.groups.n_groups,
            n_shared_steps=int(same.shared.sum()),
            n_revisits=int(by_task.revisits.sum()),
            n_changed=-1 if changed is None else int(changed.sum()),
            tasks=tasks.ids,
            by_task=by_task,
        )


def _changed(
    who: str, steps: Steps, advantages: ArrayLike | None, credit: ArrayLike | None, merged: MergedSteps
) -> NDArray[np.bool_] | None:
    """Rows whose credit differs from the advantage of their trajectory."""
    if advantages is None:
        if credit is not None:
            msg = f"{who}(): 'credit' needs 'advantages' to be compared with; give one a trajectory"
            raise ValueError(msg)
        return None
    given, _ = floats(who, "advantages", advantages, length=steps.n_trajectories, why="steps.n_trajectories")
    mine = given.astype(np.float64)[steps.trajectory_index]
    if credit is None:
        got = np.asarray(merged.mean(mine))
    else:
        got = floats(who, "credit", credit, length=len(steps), why="the number of rows")[0].astype(np.float64)
    finite = np.abs(given[np.isfinite(given)].astype(np.float64))
    near = np.isclose(got, mine, rtol=0, atol=_SAME * float(finite.max(initial=0)), equal_nan=True)
    return np.asarray(~near)

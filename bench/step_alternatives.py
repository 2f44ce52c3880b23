"""Credit of steps without rollmath: Python dicts and loops, and NumPy where a dict has numbered the keys."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any

import numpy as np
import pytest

from bench import step_inputs as inputs
from bench.step_inputs import GAMMA, LENGTH, Planted


def numbered(keys: Iterable[Any], n: int) -> np.ndarray:
    number: defaultdict[Any, int] = defaultdict(count().__next__)
    return np.fromiter(map(number.__getitem__, keys), np.int64, n)


def _mean(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    return (np.bincount(index, values) / np.bincount(index))[index]


def gigpo_numpy(x: Planted) -> np.ndarray:
    """A dict numbers the states; the rest is NumPy. All trajectories have one length, which is made use of."""
    state = numbered(zip(x.task.tolist(), x.states, strict=True), len(x.states))
    over = x.rewards - _mean(x.rewards, x.of_task)
    steps = inputs.returns(x)
    return np.repeat(over, LENGTH) + steps - _mean(steps, state)


def gigpo_loops(x: Planted) -> np.ndarray:
    """As trainers have it, without their quadratic parts."""
    episodes: defaultdict[int, list[int]] = defaultdict(list)
    for row, t in enumerate(x.trajectory.tolist()):
        episodes[t].append(row)
    rewards = x.rewards.tolist()
    of_task: defaultdict[int, list[float]] = defaultdict(list)
    for t, rows in episodes.items():
        of_task[int(x.task[rows[0]])].append(rewards[t])
    steps, out = [0.0] * len(x.states), [0.0] * len(x.states)
    for t, rows in episodes.items():
        group = of_task[int(x.task[rows[0]])]
        over, running = rewards[t] - sum(group) / len(group), rewards[t]
        for row in reversed(rows):
            steps[row], out[row] = running, over
            running *= GAMMA
    anchors: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
    for row, key in enumerate(zip(x.task.tolist(), x.states, strict=True)):
        anchors[key].append(row)
    for rows in anchors.values():
        mean = sum(steps[row] for row in rows) / len(rows)
        for row in rows:
            out[row] += steps[row] - mean
    return np.array(out)


def salt_numpy(x: Planted, advantages: np.ndarray) -> np.ndarray:
    after: list[str | None] = [*x.states[1:], None]
    after[LENGTH - 1 :: LENGTH] = [None] * len(x.rewards)
    keys = zip(x.task.tolist(), x.states, x.actions, after, strict=True)
    return _mean(np.repeat(advantages, LENGTH), numbered(keys, len(x.states)))


def hgpo_loops(x: Planted, history: int) -> np.ndarray:
    """A dict a level, keys are tuples of the last states."""
    steps = inputs.returns(x).tolist()
    total, weights = [0.0] * len(steps), [0.0] * len(steps)
    tasks = x.task.tolist()
    for k in range(1, history + 2):
        groups: defaultdict[tuple[Any, ...], list[int]] = defaultdict(list)
        for row in range(len(steps)):
            if row % LENGTH >= k - 1:
                groups[(tasks[row], *x.states[row - k + 1 : row + 1])].append(row)
        for rows in groups.values():
            values = [steps[row] for row in rows]
            if min(values) == max(values):
                continue
            mean = sum(values) / len(values)
            for row in rows:
                if (own := steps[row] - mean) != 0:
                    total[row] += (k + 1) * own
                    weights[row] += k + 1
    return np.array([t / (w + 1e-6) for t, w in zip(total, weights, strict=True)])


# Values of a graph: what the best reward that can be reached is worth here, less by gamma a step.


def transitions(states: list[list[str]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct (source, target) pairs as numbers, and the number of each step's state."""
    flat = inputs.flat(states)
    number = numbered(flat, len(flat))
    ends = np.cumsum([len(s) for s in states])
    inside = np.ones(len(flat), bool)
    inside[ends - 1] = False
    pairs = np.unique(np.stack([number[:-1][inside[:-1]], number[1:][inside[:-1]]]), axis=1)
    return pairs[0], pairs[1], number


def values_networkx(
    source: np.ndarray, target: np.ndarray, reward: np.ndarray, sweeps: int
) -> Callable[[], np.ndarray]:
    """A fixed number of sweeps, as a trainer has it; the graph is given."""
    nx = pytest.importorskip("networkx", reason="networkx is not installed")
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(reward)))
    graph.add_edges_from(zip(source.tolist(), target.tolist(), strict=True))

    def call() -> np.ndarray:
        values = dict(enumerate(reward.tolist()))
        for _ in range(sweeps):
            values = {v: max([values[v], *(GAMMA * values[u] for u in graph.successors(v))]) for v in graph.nodes}
        return np.array([values[v] for v in range(len(reward))])

    return call


def values_scipy(source: np.ndarray, target: np.ndarray, reward: np.ndarray) -> Callable[[], np.ndarray]:
    """Distances to the nearest reward, all of which are 1; the graph is given."""
    sparse = pytest.importorskip("scipy.sparse", reason="scipy is not installed")
    from scipy.sparse.csgraph import dijkstra

    back = sparse.csr_array((np.ones(len(source)), (target, source)), shape=(len(reward), len(reward)))
    goals = np.flatnonzero(reward)

    def call() -> np.ndarray:
        distance = dijkstra(back, indices=goals, min_only=True, unweighted=True)
        return np.where(np.isfinite(distance), GAMMA ** np.minimum(distance, 1e9), 0.0)

    return call

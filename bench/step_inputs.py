"""A batch of agent rollouts as trainers hold it: ids, texts and rewards in lists; and a step graph."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

#: Steps of a trajectory, trajectories of a task.
LENGTH, OF = 30, 8
GAMMA = 0.95


class Planted(NamedTuple):
    trajectory: np.ndarray  # one a step
    task: np.ndarray
    states: list[str]
    actions: list[str]
    rewards: np.ndarray  # one a trajectory
    state_number: np.ndarray  # what the texts say, equal where task and text are equal
    action_number: np.ndarray

    def renew(self) -> None:
        """New strings, as rollouts bring them: a string that was a key knows its hash from then on."""
        for texts in (self.states, self.actions):
            texts[:] = [text[:1] + text[1:] for text in texts]

    @property
    def of_task(self) -> np.ndarray:
        """The task of each trajectory."""
        return self.task[::LENGTH]

    @property
    def shape(self) -> str:
        return f"{len(self.of_task) // OF} tasks of {OF} trajectories of {LENGTH} steps, texts of {len(self.states[0])}"


@lru_cache(maxsize=2)
def planted(tasks: int, width: int = 400) -> Planted:
    """Texts of all tasks come from one pool and differ at their ends alone; every row has a string of its own."""
    rng = np.random.default_rng(0)
    n = tasks * OF * LENGTH
    task = np.repeat(np.arange(tasks), OF * LENGTH)
    # About 105 of the 240 steps of a task are in states of their own, as in text games.
    state, action = (160 * rng.random(n) ** 1.7).astype(int), rng.integers(0, 6, n)
    room = "You are in a corridor of the old house. " * (width // 40 + 1)
    return Planted(
        trajectory=np.repeat(np.arange(tasks * OF), LENGTH),
        task=task,
        states=[room[: width - 16] + f"Exits lead to{s:03d}" for s in state.tolist()],
        actions=[f"take the exit number {a} of the room" for a in action.tolist()],
        rewards=(rng.random(tasks * OF) < 0.4).astype(float),
        state_number=task * 160 + state,
        action_number=action,
    )


def returns(x: Planted) -> np.ndarray:
    """Discounted, one a step."""
    return np.outer(x.rewards, GAMMA ** np.arange(LENGTH - 1, -1, -1.0)).ravel()


def group_mean(values: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Of each group, at its rows; ``ids`` may have holes."""
    index = np.unique(ids, return_inverse=True)[1]
    return (np.bincount(index, values) / np.bincount(index))[index]


def gigpo(x: Planted) -> np.ndarray:
    over = x.rewards - group_mean(x.rewards, x.of_task)
    steps = returns(x)
    return np.repeat(over, LENGTH) + steps - group_mean(steps, x.state_number)


def transition(x: Planted) -> np.ndarray:
    """The number of (state, action, next state) of each step."""
    after = np.append(x.state_number[1:] % 160 + 1, 0)
    after[LENGTH - 1 :: LENGTH] = 0
    return (x.state_number * 6 + x.action_number) * 161 + after


def advantages(x: Planted) -> np.ndarray:
    """Of trajectories: less the mean of their task."""
    return x.rewards - group_mean(x.rewards, x.of_task)


def salt(x: Planted) -> np.ndarray:
    return group_mean(np.repeat(advantages(x), LENGTH), transition(x))


def hgpo(x: Planted, history: int) -> np.ndarray:
    """Levels of 1 to ``history + 1`` states, less the mean, weighted by one more than their states."""
    steps, key = returns(x), x.state_number
    total, weights = np.zeros(len(steps)), np.zeros(len(steps))
    place = np.tile(np.arange(LENGTH), len(x.rewards))
    for k in range(1, history + 2):
        rows = place >= k - 1
        at, ids = steps[rows], key[rows]
        own = at - group_mean(at, ids)
        # A group in which all are equal has exactly 0, and no weight.
        lowest = -group_extreme(-at, ids)
        own = np.where(group_extreme(at, ids) == lowest, 0.0, own)
        total[rows] += (k + 1) * own
        weights[rows] += np.where(own != 0, k + 1, 0)
        key = key * 200 + np.where(place >= k, np.roll(x.state_number, k) % 160 + 1, 0)
        key = np.unique(key, return_inverse=True)[1]
    return total / (weights + 1e-6)


def group_extreme(values: np.ndarray, ids: np.ndarray) -> np.ndarray:
    index = np.unique(ids, return_inverse=True)[1]
    out = np.full(index.max() + 1, -np.inf)
    np.maximum.at(out, index, values)
    return out[index]


class Walks(NamedTuple):
    states: list[list[str]]
    rewards: np.ndarray


@lru_cache(maxsize=1)
def walks(nodes: int) -> Walks:
    """Walks on a ring of rooms with a door between any two that are near: one task, every room is seen."""
    rng = np.random.default_rng(0)
    out: list[list[str]] = []
    for start in range(0, nodes, 5):
        at = (start + np.cumsum(rng.integers(-3, 6, 40))) % nodes
        at[:5] = np.arange(start, start + 5) % nodes
        out.append([f"room {a}" for a in at.tolist()])
    return Walks(out, (np.arange(len(out)) % 7 == 0).astype(float))


def best_values(source: np.ndarray, target: np.ndarray, reward: np.ndarray) -> np.ndarray:
    """``V = max(reward, gamma max V(target))``."""
    values = reward
    for _ in reward:
        best = np.zeros(len(reward))
        np.maximum.at(best, source, GAMMA * values[target])
        values = np.maximum(values, best)
    return values


def flat(lists: list[list[Any]]) -> list[Any]:
    return [x for part in lists for x in part]

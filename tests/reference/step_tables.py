"""Tables of steps as plain columns, and the dictionaries that oracles on step graphs go by."""

import math
import random

from definitions import guard, lone, mean, std

COLUMNS = ("trajectory", "groups", "state", "action", "step")


def random_table(seed, tasks=None):
    """Columns by name, rows in any order: few texts, the same in all tasks, with revisits and self-loops."""
    draw = random.Random(seed)
    rows = []
    for task in range(tasks or draw.randint(1, 3)):
        states, actions = "abc"[: draw.randint(1, 3)], "xy"[: draw.randint(1, 2)]
        for k in range(draw.randint(1, 5)):
            times = sorted(draw.sample(range(-5, 40), draw.choice([1, 2, 3, 5, 8])))
            rows += [(f"t{task}.{k}", f"task{task}", draw.choice(states), draw.choice(actions), t) for t in times]
    draw.shuffle(rows)
    return {name: [row[i] for row in rows] for i, name in enumerate(COLUMNS)}


def shuffled(table, seed):
    """The rows in another order, and where each was before."""
    order = list(range(len(table["step"])))
    random.Random(seed).shuffle(order)
    return {name: [column[i] for i in order] for name, column in table.items()}, order


def paths(trajectory, step):
    """Rows of each trajectory in time order, trajectories by first appearance."""
    return {t: sorted((i for i, u in enumerate(trajectory) if u == t), key=lambda i: step[i]) for t in trajectory}


def place(trajectory, step):
    """For each row its trajectory's path and its place in there."""
    by_path = paths(trajectory, step)
    return [(by_path[t], by_path[t].index(i)) for i, t in enumerate(trajectory)]


def standard(x, keys, *, scale="none", ddof=1, eps=1e-6, singleton="zero"):
    """``x - mean`` of the elements with the same key, over their spread for ``scale="std"``."""
    out = []
    for value, key in zip(x, keys, strict=True):
        members = [v for v, k in zip(x, keys, strict=True) if k == key]
        spread = scale == "std"
        if len(members) == 1:
            out.append(lone(value, singleton, (lambda s: s + eps) if spread else (lambda s: 1.0)))
        elif min(members) == max(members):
            out.append(0.0)
        else:
            out.append((value - mean(members)) / (guard(std(members, ddof), eps, "add") if spread else 1.0))
    return out


def reward_of_rows(trajectory, step, rewards=None, step_rewards=None):
    """``rewards`` by trajectory id, at last steps; or one a row."""
    if step_rewards is not None:
        return [float(r) for r in step_rewards]
    return [
        float(rewards[trajectory[i]]) if at == len(path) - 1 else 0.0
        for i, (path, at) in enumerate(place(trajectory, step))
    ]


def returns(trajectory, step, earned, gamma):
    """Sum over what is still to come, power by power."""
    return [math.fsum(gamma**k * earned[j] for k, j in enumerate(path[at:])) for path, at in place(trajectory, step)]

"""Random tables of steps with many collisions, and what the oracles of methods on them share."""

from types import SimpleNamespace

import numpy as np
from definitions import mean, std

END = "the end of"


def draw(seed, *, any_order=True):
    """Columns of rows, and the same as ``table``: one dict a trajectory, its rows in time order.

    Tasks use the same few texts. Trajectories are numbered by their first row; rows are interleaved, in time order or,
    with ``step``, in any. A row of the table is (number of the row, state, action), ``final`` the state after the last.
    """
    rng = np.random.default_rng(seed)
    states, actions, longest = (int(rng.integers(*span)) for span in ((1, 5), (1, 4), (1, 8)))
    drawn = []
    for task in range(int(rng.integers(1, 4))):
        for _ in range(int(rng.integers(1, 6))):
            length = int(rng.integers(1, longest + 1))
            seen = [(f"s{rng.integers(states)}", f"a{rng.integers(actions)}") for _ in range(length)]
            drawn.append({"task": f"task{task}", "seen": seen, "final": f"s{rng.integers(states)}"})
    places = [(i, t) for i, one in enumerate(drawn) for t in range(len(one["seen"]))]
    places = [places[i] for i in rng.permutation(len(places))]
    in_time = not any_order or rng.random() < 0.5
    if in_time:
        times = [0] * len(drawn)
        for k, (i, _) in enumerate(places):
            places[k] = (i, times[i])
            times[i] += 1
    order = list(dict.fromkeys(i for i, _ in places))
    at = {place: row for row, place in enumerate(places)}
    table = [{**drawn[i], "rows": [(at[i, t], *seen) for t, seen in enumerate(drawn[i]["seen"])]} for i in order]
    return SimpleNamespace(
        table=table,
        trajectory=[f"t{i}" for i, _ in places],
        state=[drawn[i]["seen"][t][0] for i, t in places],
        action=[drawn[i]["seen"][t][1] for i, t in places],
        next_state=[[*(s for s, _ in drawn[i]["seen"]), drawn[i]["final"]][t + 1] for i, t in places],
        groups=[drawn[i]["task"] for i, _ in places],
        step=None if in_time else [2 * t - 3 for _, t in places],
        rng=rng,
    )


def draw_rewards(drawn):
    """One reward a trajectory: 0/1, 0/10, all the same, or real."""
    kind, n = drawn.rng.integers(5), len(drawn.table)
    values = [[0.0, 1.0], [0.0, 10.0], [0.0], [1.0], [-1.0, 0.0, 0.5, 2.0]][kind]
    return drawn.rng.choice(values, n)


def columns(drawn, *, next_state=False):
    """Arguments of ``Steps``."""
    given = {"groups": drawn.groups, "step": drawn.step}
    if next_state:
        given["next_state"] = drawn.next_state
    return (drawn.trajectory, drawn.state, drawn.action), given


def transitions(table, ends, truncated=None):
    """(number of the row, node, next node) of each row; a node is (task, state), or (task, END, end)."""
    out = []
    for i, one in enumerate(table):
        nodes = [(one["task"], state) for _, state, _ in one["rows"]]
        cut = truncated is not None and truncated[i]
        nodes.append((one["task"], one["final"]) if cut else (one["task"], END, ends[i]))
        out += [(row[0], a, b) for row, a, b in zip(one["rows"], nodes[:-1], nodes[1:], strict=True)]
    return out


def by_row(pairs):
    """Values by the number of the row, as a list."""
    found = dict(pairs)
    return [found[row] for row in range(len(found))]


def returns(table, rewards, gamma, step_rewards=None):
    """The discounted return of each row, by its number."""
    out = {}
    for i, one in enumerate(table):
        rows = [row for row, _, _ in one["rows"]]
        earned = [0.0] * (len(rows) - 1) + [rewards[i]] if step_rewards is None else [step_rewards[r] for r in rows]
        for t, row in enumerate(rows):
            out[row] = sum(gamma ** (k - t) * earned[k] for k in range(t, len(rows)))
    return out


def z(values, keys, scale, singleton, *, ddof=1, eps=1e-6):
    """``(x - mean) / (std + eps)`` among the values with the same key, or ``x - mean``."""
    out = []
    for x, key in zip(values, keys, strict=True):
        group = [v for v, k in zip(values, keys, strict=True) if k == key]
        if len(group) == 1:
            lone = {"zero": 0.0, "raw": x / (1 + eps if scale == "std" else 1), "abs": x / (abs(x) + eps)}
            out.append(lone[singleton])
        elif min(group) == max(group):
            out.append(0.0)
        else:
            out.append((x - mean(group)) / (std(group, ddof) + eps if scale == "std" else 1))
    return out


def episode(table, rewards, scale, statistics, advantages=None, eps=1e-6):
    """The trajectory's term at each row, by the number of the row."""
    tasks = [one["task"] for one in table]
    if advantages is not None:
        terms = advantages
    elif statistics == "trajectories":
        terms = z(rewards, tasks, scale, "raw", eps=eps)
    else:
        where = [i for i, one in enumerate(table) for _ in one["rows"]]
        each = z([rewards[i] for i in where], [tasks[i] for i in where], scale, "raw", eps=eps)
        terms = [each[where.index(i)] for i in range(len(table))]
    return {row[0]: terms[i] for i, one in enumerate(table) for row in one["rows"]}


def of_lines(trajectories):
    """Columns of ``Steps.from_episodes`` from lists of ``"s a s'"``."""
    rows = [[line.split() for line in lines] for lines in trajectories]
    return [[row[0] for row in one] for one in rows], [[row[1] for row in one] for one in rows]


def golden(case):
    """Columns of a case of ``graph_values.json``, and what each trajectory has, in the order of its first row."""
    ids = list(dict.fromkeys(case["trajectory"]))
    given = {"groups": [case["task"][t] for t in case["trajectory"]], "next_state": case["next_state"]}
    return (case["trajectory"], case["state"]), given, {k: [case[k][t] for t in ids] for k in ("rewards", "truncated")}

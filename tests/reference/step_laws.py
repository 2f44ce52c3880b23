"""Laws that every method on steps must hold; a method is called with a table of steps and one reward a trajectory."""

import numpy as np
from step_tables import random_table, shuffled

from rollmath import Steps


def build(table):
    """The table as Steps."""
    return Steps(table["trajectory"], table["state"], table["action"], groups=table["groups"], step=table["step"])


def rows_in_another_order(method, outcome, same, seed):
    """The order of rows changes nothing, and neither does `step` where rows are sorted by time, and so interleaved."""
    table = random_table(seed)
    other, order = shuffled(table, seed)
    steps, turned = build(table), build(other)
    expected = method(steps, outcome(steps))
    same(method(turned, outcome(turned)), expected[order])
    order = np.lexsort((table["step"],))
    plain = build({key: [column[i] for i in order] for key, column in table.items()} | {"step": None})
    same(method(plain, outcome(plain)), expected[order])


def other_names_and_tasks(method, outcome, same, same_renamed, seed):
    """Other keys that are equal where the first ones are, and the steps of other tasks, change nothing."""
    table = random_table(seed)
    steps = build(table)
    expected = method(steps, outcome(steps))
    renamed = table | {"state": [(ord(x), "s") for x in table["state"]], "action": [ord(x) for x in table["action"]]}
    same_renamed(method(build(renamed), outcome(steps)), expected)
    task = table["groups"][0]
    alone = steps.take([t.split(".")[0] == task.replace("task", "t") for t in steps.trajectory_ids])
    same(method(alone, outcome(alone)), expected[[g == task for g in table["groups"]]])


def kinds(method, dtype, torch):
    """Results are of the kind and float type of the rewards, which may be read-only."""
    steps = build(random_table(7))
    rewards = (np.arange(steps.n_trajectories) % 2).astype(dtype)
    rewards.setflags(write=False)
    expected = method(steps, rewards.astype(np.float64))
    got = method(steps, rewards)
    assert got.dtype == (np.float64 if dtype in {np.int64, np.bool_} else np.float32)
    np.testing.assert_array_equal(got, expected.astype(got.dtype))
    tensor = method(steps, torch.tensor(rewards))
    assert tensor.dtype == torch.float32
    np.testing.assert_array_equal(tensor.numpy(), expected.astype(np.float32))
    assert method(steps, rewards.tolist()).dtype == np.float64


def threads(method, steps, same, set_threads, before):
    """The number of threads changes nothing."""
    rewards = np.random.default_rng(0).normal(size=steps.n_trajectories)
    try:
        set_threads(1)
        expected = method(steps, rewards)
        set_threads(4)
        same(method(steps, rewards), expected)
    finally:
        set_threads(before)

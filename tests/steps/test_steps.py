"""The noun Steps: trajectories in time, what goes between rows and trajectories, and wrong calls."""

from __future__ import annotations

import copy
import math
import pickle
import uuid

import numpy as np
import pytest

from rollmath import Groups, Steps

#: Two trajectories of one task and one of another, interleaved; times have gaps and come in any order.
TRAJECTORY = ["u", "t", "v", "t", "u", "t"]
STATE = ["hall", "hall", "hall", "yard", "hall", "room"]
ACTION = ["x", "x", "x", "z", "x", "y"]
TASK = ["p", "p", "q", "p", "p", "p"]
TIME = [7, -3, 0, 9, 2, 0]
FIELDS = (
    "trajectory_index",
    "order",
    "offsets",
    "state_index",
    "action_index",
    "next_index",
    "lengths",
    "position",
    "previous",
    "next",
    "last",
)


def example(**kwargs):
    return Steps(TRAJECTORY, STATE, ACTION, groups=TASK, step=TIME, **kwargs)


def test_rows_in_any_order_come_in_time():
    steps = example()
    assert repr(steps) == "Steps(6 steps of 3 trajectories in 2 tasks, 4 states)"
    assert (len(steps), steps.n_trajectories, steps.n_states) == (6, 3, 4)
    assert steps.trajectory_ids == ("u", "t", "v")
    assert steps.trajectory_groups.ids == ("p", "q")
    assert steps.trajectory_groups.index.tolist() == [0, 0, 1]
    assert steps.row_groups.index.tolist() == [0, 0, 1, 0, 0, 0]
    assert steps.trajectory_index.tolist() == [0, 1, 2, 1, 0, 1]
    assert steps.order.tolist() == [4, 0, 1, 5, 3, 2]
    assert steps.offsets.tolist() == [0, 2, 5, 6]
    assert steps.lengths.tolist() == [2, 3, 1]
    assert steps.position.tolist() == [1, 0, 0, 2, 0, 1]
    assert steps.previous.tolist() == [4, -1, -1, 5, -1, 1]
    assert steps.next.tolist() == [-1, 5, -1, -1, 0, 3]
    assert steps.last.tolist() == [True, False, True, True, False, False]
    assert steps.state_index.tolist() == [0, 0, 1, 2, 0, 3]
    assert steps.next_index.tolist() == [-1, 3, -1, -1, 0, 2]
    assert steps.action_index.tolist() == [0, 0, 1, 2, 0, 3]


def test_without_times_the_rows_of_a_trajectory_are_in_order():
    steps = Steps(TRAJECTORY, STATE, groups=["p", "p", "q"])
    assert steps.next.tolist() == [4, 3, -1, 5, -1, -1]
    assert not steps.action_index.any()
    with_groups = Steps(Groups(TRAJECTORY), Groups(STATE), groups=Groups(TASK))
    for name in FIELDS:
        assert np.array_equal(getattr(steps, name), getattr(with_groups, name)), name


@pytest.mark.parametrize("make", [list, tuple, np.array, lambda x: np.array(x, object), iter])
def test_kinds_of_columns(make):
    steps = Steps(make(TRAJECTORY), make(STATE), make(ACTION), groups=make(TASK), step=np.array(TIME, "i2"))
    for name in FIELDS:
        assert np.array_equal(getattr(steps, name), getattr(example(), name)), name


def test_tensors():
    torch = pytest.importorskip("torch")
    steps = Steps(
        torch.tensor([3, 3, 5]), torch.eye(3)[[0, 1, 0]], torch.tensor([1, 2, 1]), groups=torch.tensor([1, 1])
    )
    assert steps.trajectory_ids == (3, 5)
    assert (steps.state_index.tolist(), steps.action_index.tolist()) == ([0, 1, 0], [0, 1, 0])
    x = torch.tensor([1.0, 2.0], dtype=torch.float16)
    assert steps.gather(x).dtype == torch.float16
    assert steps.gather(x).tolist() == [1, 1, 2]
    rows = steps.by_trajectory(torch.tensor([1, 2, 3]))
    assert rows.values.tolist() == [1, 2, 3]
    assert isinstance(steps.by_row(rows), torch.Tensor)


def test_ids_of_trajectories_and_tasks():
    one, two = uuid.UUID(int=1), uuid.UUID(int=2)
    steps = Steps([("p", 0), ("p", 1), ("p", 0)], list("abc"), groups=[one, two])
    assert steps.trajectory_ids == (("p", 0), ("p", 1))
    assert steps.trajectory_groups.ids == (one, two)


@pytest.mark.parametrize("state", [[], (), np.zeros((0, 3)), np.zeros(0, int), iter([])])
def test_no_rows_at_all(state):
    for steps in (
        Steps([], state, [], groups=[]),
        Steps.from_lengths([], [], groups=[]),
        Steps.from_episodes([], [], groups=[]),
    ):
        assert repr(steps) == "Steps(0 steps of 0 trajectories in 0 tasks, 0 states)"
        for name in (*FIELDS, "_state_rank", "_action_rank"):
            assert len(getattr(steps, name)) == (name == "offsets"), name
        assert steps.gather([]).tolist() == []
        assert len(steps.by_row(steps.by_trajectory([]))) == 0
        for history in (0, 2, None):
            assert len(steps.groups(history=history)) == 0
            merged = steps.merge(history=history, count="trajectory", terminal=[])
            assert (len(merged), merged.groups.n_groups, len(merged.mean([]))) == (0, 0, 0)
        assert len(steps.take([])) == 0
        assert len(pickle.loads(pickle.dumps(steps))) == 0


def test_trajectories_without_rows_keep_their_place():
    steps = Steps.from_lengths([0, 2, 0, 1, 0], ["a", "b", "a"], groups=["x", "p", "p", "q", "q"])
    assert repr(steps) == "Steps(3 steps of 5 trajectories in 3 tasks, 3 states)"
    assert steps.trajectory_ids == (0, 1, 2, 3, 4)
    assert steps.lengths.tolist() == [0, 2, 0, 1, 0]
    assert steps.row_groups.ids == ("p", "q")
    assert steps.next.tolist() == [1, -1, -1]
    assert steps.gather([9.0, 1.0, 9.0, 2.0, 9.0]).tolist() == [1.0, 1.0, 2.0]
    assert steps.by_trajectory([5, 6, 7]).to_lists() == [[], [5, 6], [], [7], []]
    kept = steps.take([1, 0, 0, 1, 1])
    assert (kept.trajectory_ids, kept.lengths.tolist()) == ((0, 3, 4), [0, 1, 0])
    assert kept.trajectory_groups.ids == ("x", "q")
    only = steps.take([1, 0, 1, 0, 1])
    assert (len(only), only.n_trajectories) == (0, 3)
    assert only.merge(history=None).groups.n_groups == 0


def test_steps_of_one_and_a_loop():
    steps = Steps([0, 1], ["a", "a"], ["x", "x"], groups=[0, 0])
    assert steps.merge(history=None).shared.all()
    loop = Steps([0] * 3, ["a"] * 3, ["x"] * 3, groups=[0])
    assert loop.merge().groups.index.tolist() == [0, 0, 1]
    assert not loop.merge().shared.any()
    assert loop.merge(count="trajectory").weights.tolist() == [0.5, 0.5, 1.0]


def test_from_lengths_and_from_episodes_are_the_rows_one_after_another():
    by_rows = Steps([0, 0, 1, 2, 2], list("abcab"), list("xyxxy"), groups=["p", "p", "q"])
    made = [
        Steps.from_lengths([2, 1, 2], list("abcab"), list("xyxxy"), groups=["p", "p", "q"]),
        Steps.from_episodes(
            [list("ab"), ["c"], ("a", "b")],
            [list("xy"), ["x"], iter("xy")],
            groups=["p", "p", "q"],
        ),
        Steps.from_episodes(
            [np.array(["a", "b"]), np.array(["c"]), list("ab")], [list("xy"), ["x"], list("xy")], groups=["p", "p", "q"]
        ),
    ]
    for steps in made:
        for name in FIELDS:
            assert np.array_equal(getattr(steps, name), getattr(by_rows, name)), name
    given = Steps.from_lengths([2, 1], list("abc"), groups=["p", "q"], next_state=list("bad"))
    assert given.next_index.tolist() == [1, 0, 3]


def test_episodes_of_arrays():
    torch = pytest.importorskip("torch")
    x = [np.eye(3)[[0, 1]], np.eye(3)[[1]], np.eye(3)[[0, 2, 1]]]
    expected = [0, 1, 1, 0, 2, 1]
    for states in (x, [torch.from_numpy(a) for a in x], [*x, np.zeros((0, 3))], [*x, []]):
        assert Steps.from_episodes(states, groups=[0] * len(states)).state_index.tolist() == expected
    acts = [np.array([1]), np.array([], int), torch.tensor([1, 1])]
    steps = Steps.from_episodes(x, acts, groups=[0] * 3)
    assert steps.lengths.tolist() == [1, 0, 2]
    assert (steps.state_index.tolist(), steps.next_index.tolist()) == ([0, 0, 1], [2, 1, 2])
    one = [np.array(["a", "b"]), np.array(["b"])]
    assert Steps.from_episodes(one, groups=[0, 0]).state_index.tolist() == [0, 1, 1]


def test_what_an_agent_saw_last():
    steps = Steps.from_episodes([["a", "b", "c"], ["b", "a"]], [["x", "y"], ["x"]], groups=["p", "p"])
    assert steps.lengths.tolist() == [2, 1]
    assert steps.state_index.tolist() == [0, 1, 1]
    assert steps.next_index.tolist() == [1, 2, 0]
    alone = Steps.from_episodes([["a"], ["b"]], [[], []], groups=["p", "p"])
    assert (len(alone), alone.lengths.tolist()) == (0, [0, 0])


def test_between_rows_and_trajectories():
    steps = example()
    x = np.arange(6.0)
    rows = steps.by_trajectory(x)
    assert rows.to_lists() == [[4.0, 0.0], [1.0, 5.0, 3.0], [2.0]]
    assert np.array_equal(steps.by_row(rows), x)
    for dtype in ("f2", "i1", "?", "f8"):
        assert steps.gather(np.ones(3, dtype)).dtype == dtype
        assert steps.by_row(steps.by_trajectory(np.ones(6, dtype))).dtype == dtype


def test_ends_by_outcome():
    steps = Steps([0, 1, 2], ["a"] * 3, groups=[0] * 3)
    index = {
        "one end": steps.merge().groups.index.tolist(),
        "floats": steps.merge(terminal=[0.0, -0.0, 1.0]).groups.index.tolist(),
        "texts": steps.merge(terminal=["won", "lost", "won"]).groups.index.tolist(),
        "objects": steps.merge(terminal=np.array(["won", "lost", "won"], object)).groups.index.tolist(),
        "Groups": steps.merge(terminal=Groups([(1,), (2,), (1,)])).groups.index.tolist(),
        "bools": steps.merge(terminal=[True, False, True]).groups.index.tolist(),
        "NaN": steps.merge(terminal=[math.nan, math.nan, 1.0]).groups.index.tolist(),
        "no matter": steps.merge(terminal=[1, 2, 3], next_state=False).groups.index.tolist(),
    }
    assert index == {
        "one end": [0, 0, 0],
        "floats": [0, 0, 1],
        "texts": [0, 1, 0],
        "objects": [0, 1, 0],
        "Groups": [0, 1, 0],
        "bools": [0, 1, 0],
        "NaN": [0, 0, 1],
        "no matter": [0, 0, 0],
    }


def test_ends_that_are_named_come_before_next_states():
    steps = Steps.from_lengths([1, 1, 1, 0], ["a"] * 3, ["x"] * 3, groups=[0] * 4, next_state=["z", "z", "y"])
    assert steps.merge().groups.index.tolist() == [0, 0, 1]
    assert steps.merge(terminal=["won", "lost", "won", "lost"]).groups.index.tolist() == [0, 1, 0]
    assert steps.merge(terminal=np.array([b"w", b"l", b"l", b"w"])).groups.index.tolist() == [0, 1, 1]


def test_means_keep_types_and_spread_nan():
    torch = pytest.importorskip("torch")
    merged = Steps([0, 1, 2], ["a", "a", "b"], groups=[0] * 3).merge()
    assert merged.mean([1, 2, 5]).tolist() == [1.5, 1.5, 5.0]
    assert np.isnan(merged.mean([1.0, math.nan, 5.0])).tolist() == [True, True, False]
    for dtype, back in [("f4", "f4"), ("f8", "f8"), ("f2", "f4"), ("i4", "f8")]:
        assert merged.mean(np.ones(3, dtype)).dtype == back
    assert merged.mean(torch.ones(3, dtype=torch.bfloat16)).dtype == torch.float32
    with pytest.raises(
        ValueError, match=r"^MergedSteps.mean\(\): 'x' must have length 3 \(= the number of rows\), got 2"
    ):
        merged.mean([1.0, 2.0])


def test_take_is_a_table_of_its_own():
    steps = example()
    kept = steps.take([True, False, True])
    assert repr(kept) == "Steps(3 steps of 2 trajectories in 2 tasks, 4 states)"
    assert kept.trajectory_ids == ("u", "v")
    assert kept.state_index.tolist() == [0, 1, 0]
    assert kept.next.tolist() == [-1, -1, 0]
    assert kept.order.tolist() == [2, 0, 1]
    assert kept._state_rank is steps._state_rank
    rows = [i for i, t in enumerate(TRAJECTORY) if t != "t"]
    fresh = Steps(
        *([c[i] for i in rows] for c in (TRAJECTORY, STATE, ACTION)),
        groups=[TASK[i] for i in rows],
        step=[TIME[i] for i in rows],
    )
    for name in ("trajectory_index", "order", "offsets", "position", "previous", "next", "last"):
        assert np.array_equal(getattr(kept, name), getattr(fresh, name)), name
    for history in (0, 1, None):
        assert kept.merge(history=history).groups == fresh.merge(history=history).groups
    everything = steps.take([1, 1, 1])
    for name in FIELDS:
        assert np.array_equal(getattr(everything, name), getattr(steps, name)), name


def test_nothing_can_be_changed():
    texts, ids = list(STATE), np.array([0, 1, 2, 1, 0, 1])
    steps = Steps(ids, texts, groups=[0] * 3, step=np.array(TIME))
    before = [getattr(steps, name).copy() for name in FIELDS]
    ids[:] = 0
    texts[:] = ["other"] * 6
    assert steps.trajectory_ids == (0, 1, 2)
    merged = steps.merge(count="trajectory")
    arrays = [getattr(s, n) for s in (steps, steps.take([1, 0, 1])) for n in (*FIELDS, "_state_rank", "_action_rank")]
    arrays += [merged.weights, merged.visits, merged.trajectories, merged.shared, merged.groups.index]
    for array in arrays:
        assert not array.flags.writeable
    for name, old in zip(FIELDS, before, strict=True):
        assert np.array_equal(getattr(steps, name), old)
    with pytest.raises(AttributeError, match="Steps is immutable; make a new one instead of setting 'n_states'"):
        steps.n_states = 3
    with pytest.raises(AttributeError, match="MergedSteps is immutable"):
        del merged.weights


@pytest.mark.parametrize("send", [lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy, copy.copy])
def test_copies_are_the_same_and_as_immutable(send):
    steps = example()
    merged = steps.merge(count="trajectory")
    for _ in range(2):  # before and after there are cached columns
        other = send(steps)
        for name in (*FIELDS, "_state_rank", "_action_rank"):
            assert np.array_equal(getattr(other, name), getattr(steps, name)), name
            assert not getattr(other, name).flags.writeable
        assert other.trajectory_ids == steps.trajectory_ids
        assert (other.row_groups, other.trajectory_groups) == (steps.row_groups, steps.trajectory_groups)
        assert repr(other) == repr(steps)
        again = send(merged)
        assert np.array_equal(again.mean(np.arange(6)), merged.mean(np.arange(6)))
        assert np.array_equal(again.shared, merged.shared)
        assert not again.weights.flags.writeable

"""Wrong calls of the step table name the argument, what was expected and what came."""

from __future__ import annotations

import numpy as np
import pytest

from rollmath import Groups, Ragged, Steps


def steps(**changes):
    columns = {"trajectory": [0, 0, 1], "state": ["a", "b", "c"], "groups": ["p", "p", "q"], **changes}
    return Steps(columns.pop("trajectory"), columns.pop("state"), **columns)


def made(x=None):
    return Steps([0, 0, 1], ["a", "b", "c"], groups=["p", "p", "q"])


LENGTHS = Steps.from_lengths
EPISODES = Steps.from_episodes


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: steps(groups=["p", "q", "q"]),
            ValueError,
            r"'groups' must be one a trajectory, but trajectory 0 is in 'p' and, at row 1, .*=Groups.product\(g",
        ),
        (
            lambda: steps(groups=["p"]),
            ValueError,
            r"Steps\(\): 'groups' must have length 3 \(= the number of rows\) or 2 \(= the number of tra.*, got 1",
        ),
        (lambda: steps(groups=None), TypeError, r"Steps\(\): 'groups' must be a sequence with one id a row"),
        (
            lambda: steps(groups=[0.5] * 3),
            TypeError,
            r"Steps\(\): 'groups' must be strings, ints, UUIDs or tuples, got fl",
        ),
        (lambda: steps(trajectory="abc"), TypeError, r"Steps\(\): 'trajectory' must be a sequence with one id a row"),
        (
            lambda: steps(trajectory=[0, "a", 1]),
            TypeError,
            r"Steps\(\): 'trajectory' must be of one type, got int at in",
        ),
        (
            lambda: steps(trajectory=[0.0, 0.0, 1.0]),
            TypeError,
            r"Steps\(\): 'trajectory' must be strings, ints, UUIDs or ",
        ),
        (
            lambda: steps(step=[4, 4, 4]),
            ValueError,
            r"Steps\(\): 'step' must not repeat in a trajectory, but 0 has 4 at rows 0 and 1",
        ),
        (
            lambda: steps(step=[1, 2]),
            ValueError,
            r"Steps\(\): 'step' must have length 3 \(= the number of rows\), got 2",
        ),
        (lambda: steps(step=[0.0, 1.0, 2.0]), TypeError, r"Steps\(\): 'step' must hold integers, got float64"),
        (lambda: steps(step="abc"), TypeError, r"Steps\(\): 'step' must be 1-D"),
        (lambda: LENGTHS([2, -1], "ab", groups=[0, 0]), ValueError, r"Steps.from_lengths\(\): 'lengths' must"),
        (
            lambda: LENGTHS([1.5], "a", groups=[0]),
            TypeError,
            r"Steps.from_lengths\(\): 'lengths' must hold integers, got",
        ),
        (
            lambda: LENGTHS([1, 1], ["a"], groups=[0, 0]),
            ValueError,
            r"Steps.from_lengths\(\): 'state' must have length 2 \(= the number of rows\), got 1",
        ),
        (
            lambda: LENGTHS([1, 1], ["a", "b"], groups=[0]),
            ValueError,
            r"Steps.from_lengths\(\): 'groups' must have length 2 \(= the number of trajectories\), got 1",
        ),
        (
            lambda: EPISODES("ab", groups=[0]),
            TypeError,
            r"Steps.from_episodes\(\): 'states' must be a list with one list a trajectory, got an object of type str",
        ),
        (
            lambda: EPISODES({"a": "b"}, groups=[0]),
            TypeError,
            r"Steps.from_episodes\(\): 'states' must be a list with one list a trajectory, got an object of type dict",
        ),
        (
            lambda: EPISODES(["ab", ["a"]], groups=[0, 0]),
            TypeError,
            r"Steps.from_episodes\(\): 'states' must hold one list a trajectory, got an object of type str at index 0",
        ),
        (
            lambda: EPISODES([["a"], None], groups=[0, 0]),
            TypeError,
            r"Steps.from_episodes\(\): 'states' must hold one list a trajectory, got an object of .* at index 1",
        ),
        (
            lambda: EPISODES([np.array(3)], groups=[0]),
            TypeError,
            r"Steps.from_episodes\(\): 'states' must hold one list a trajectory, got a 0-D int64 array at index 0",
        ),
        (
            lambda: EPISODES([["a"]], [3], groups=[0]),
            TypeError,
            r"Steps.from_episodes\(\): 'actions' must hold one list a trajectory, got an object of type int at index 0",
        ),
        (
            lambda: EPISODES([["a"]], [], groups=[0]),
            ValueError,
            r"Steps.from_episodes\(\): 'actions' must have length 1 \(= len\(states\)\), got 0",
        ),
        (
            lambda: EPISODES([["a", "b"], ["a"]], [["x"], ["y"]], groups=[0, 0]),
            ValueError,
            "'states' must have as many elements as 'actions' in every episode, or one more .* got 1 for 1 action",
        ),
        (
            lambda: EPISODES([["a"], ["a", "b"]], [["x"], ["y"]], groups=[0, 0]),
            ValueError,
            "in every one, got 2 for 1 action in episode 1",
        ),
        (lambda: EPISODES([["a"] * 3], [["x"]], groups=[0]), ValueError, "got 3 for 1 action in episode 0"),
        (lambda: EPISODES([[]], [["x", "y"]], groups=[0]), ValueError, "got 0 for 2 actions in episode 0"),
        (
            lambda: EPISODES([np.zeros((2, 2)), np.zeros((1, 3))], groups=[0, 0]),
            ValueError,
            r"Steps.from_episodes\(\): 'states' must be arrays with rows of one shape, got rows of .* and others",
        ),
        (
            lambda: EPISODES([np.zeros((2, 2)), ["a"]], groups=[0, 0]),
            ValueError,
            r"Steps.from_episodes\(\): 'states' must be arrays with rows of one shape, got rows of .* and others",
        ),
        (
            lambda: made().groups(by="row"),
            ValueError,
            r"Steps.groups\(\): 'by' must be one of 'task', 'trajectory', 'st",
        ),
        (
            lambda: made().groups(by="task", history=None),
            ValueError,
            r"Steps.groups\(\): 'history' must be 0 for by='task', which compares no steps, got None",
        ),
        (
            lambda: made().groups(by="trajectory", history=1),
            ValueError,
            r"Steps.groups\(\): 'history' must be 0 for by='trajectory', which compares no steps, got 1",
        ),
        (lambda: made().groups(history=-1), ValueError, r"Steps.groups\(\): 'history' must be at least 0, got -1"),
        (
            lambda: made().groups(history=1.0),
            TypeError,
            r"Steps.groups\(\): 'history' must be a whole number, got an obj",
        ),
        (
            lambda: made().merge(history=True),
            TypeError,
            r"Steps.merge\(\): 'history' must be a whole number, got an obj",
        ),
        (
            lambda: made().merge(count="row"),
            ValueError,
            r"Steps.merge\(\): 'count' must be one of 'visit', 'trajectory'",
        ),
        (lambda: made().merge(action=1), TypeError, r"Steps.merge\(\): 'action' must be True or False, got 1"),
        (
            lambda: made().merge(next_state="no"),
            TypeError,
            r"Steps.merge\(\): 'next_state' must be True or False, got 'no'",
        ),
        (
            lambda: made().merge(terminal="won"),
            ValueError,
            r"Steps.merge\(\): 'terminal' must be one of 'end', got 'won'",
        ),
        (
            lambda: made().merge(terminal=[1]),
            ValueError,
            r"Steps.merge\(\): 'terminal' must have length 2 \(= steps.n_trajectories\), got 1",
        ),
        (
            lambda: made().merge(terminal=Groups([1])),
            ValueError,
            r"Steps.merge\(\): 'terminal' must have length 2 \(= steps.n_trajectories\), got 1",
        ),
        (
            lambda: made().merge(terminal=[1, "1"]),
            TypeError,
            r"Steps.merge\(\): 'terminal' must be of one type, got int at index 0 and str at index 1",
        ),
        (
            lambda: made().merge(terminal=[b"a", "a"]),
            TypeError,
            r"Steps.merge\(\): 'terminal' must be of one type, got bytes at index 0 and str at index 1",
        ),
        (lambda: made().merge(terminal=[[1, 2]]), TypeError, r"Steps.merge\(\): 'terminal' must be 1-D, got a 2-D"),
        (
            lambda: made().merge(terminal=None),
            TypeError,
            r"Steps.merge\(\): 'terminal' must be an array of numbers, got",
        ),
        (
            lambda: made().merge(terminal=np.array(["a", None], object)),
            TypeError,
            r"Steps.merge\(\): 'terminal' must be of one type, got str at index 0 and NoneType at index 1",
        ),
        (
            lambda: made().take([1]),
            ValueError,
            r"Steps.take\(\): 'keep' must have length 2 \(= steps.n_trajectories\), go",
        ),
        (
            lambda: made().take([0.5, 1]),
            TypeError,
            r"Steps.take\(\): 'keep' must be bool or integer \(nonzero = True\), go",
        ),
        (
            lambda: made().gather([1.0]),
            ValueError,
            r"Steps.gather\(\): 'x' must have length 2 \(= steps.n_trajectories\), ",
        ),
        (lambda: made().gather([[1.0, 2.0]]), TypeError, r"Steps.gather\(\): 'x' must be 1-D, got a 2-D float64 array"),
        (
            lambda: made().by_trajectory([1.0]),
            ValueError,
            r"Steps.by_trajectory\(\): 'x' must have length 3 \(= the number of rows\), got 1",
        ),
        (
            lambda: made().by_row([1.0]),
            ValueError,
            r"Steps.by_row\(\): 'x' must be a Ragged with the offsets of the steps, got an object of type list",
        ),
        (
            lambda: made().by_row(Ragged.from_lists([[1.0], [2.0, 3.0]])),
            ValueError,
            r"Steps.by_row\(\): 'x' must be a Ragged with the offsets of the steps",
        ),
    ],
)
def test_wrong_calls(call, error, message):
    with pytest.raises(error, match=message):
        call()

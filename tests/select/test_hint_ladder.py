"""The ladder of hints: a dict of levels that does the same, GHPO and Scaf-GRPO by it, and what it refuses."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollmath.select import HintLadder

ROUNDS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.sampled_from("abcd"), st.booleans(), st.integers(0, 2)), max_size=9),
        st.sampled_from(["advance", "advance", "settle"]),
        st.sampled_from(["", "pickle", "state", "copy"]),
    ),
    max_size=12,
)


@given(ROUNDS, st.sampled_from(["stay", "down", "reset"]), st.integers(2, 3))
def test_a_dict_of_levels(oracle, rounds, success, levels):
    ours = HintLadder(["a", "b", "c", "d"], levels=levels, success=success)
    plain = oracle("select/hint_ladder.py", "HintLadder")("abcd", levels=levels, success=success)
    for rows, what, pause in rounds:
        prompts, flags, tried = ([row[k] for row in rows] for k in range(3))
        given_ = (prompts, flags) if what == "advance" else (prompts, tried, flags)
        before = ours.levels_of(list("abcd"))
        got = getattr(ours, what)(*given_)
        assert got.dtype == np.int64
        assert got.tolist() == getattr(plain, what)(*given_)
        after = ours.levels_of(list("abcd"))
        assert after.tolist() == [plain.level[p] for p in "abcd"]
        if what == "advance":
            assert (after - before).max() <= 1
            assert success != "stay" or (after >= before).all()
        if pause == "pickle":
            ours = pickle.loads(pickle.dumps(ours))
        elif pause == "copy":
            ours = copy.deepcopy(ours)
        elif pause == "state":
            state, ours = ours.state_dict(), HintLadder(["a", "b"], levels=levels, success=success)
            ours.load_state_dict(state)
            state["level"][:] = 9


def test_ghpo():
    """Up to three tries with 25, 50 and 75 % of the solution, for the prompts that still fail; each step anew."""
    ladder, needs = HintLadder(["p", "q", "r"], levels=3), {"p": 0, "q": 2, "r": 9}
    for _ in range(2):
        levels = ladder.levels_of(["p", "q", "r"])
        assert levels.tolist() == [0, 0, 0]
        for _ in range(3):
            failing = [p for p in needs if ladder.levels_of([p])[0] < needs[p]]
            levels = ladder.advance(failing, np.ones(len(failing), bool))
        assert levels.tolist() == [3]
        assert ladder.levels_of(["p", "q", "r"]).tolist() == [0, 2, 3]
        assert repr(ladder) == "HintLadder(3 prompts, 2 hinted, levels=3, success='stay')"
        ladder.reset(["p", "q", "r"])


def test_what_success_does():
    for success, expected in (("stay", [2, 1]), ("down", [1, 0]), ("reset", [0, 0])):
        ladder = HintLadder(["p", "q"], levels=3, success=success)
        ladder.advance(["p", "q"], [1, 1])
        ladder.advance(["p"], [1])
        assert ladder.advance(["p", "q", "p"], [1, 0, 0])[:2].tolist() == expected
        assert ladder.levels_of(["p", "q"]).tolist() == expected


def test_scaf_grpo():
    """All levels at once: the smallest hint that solved it."""
    ladder = HintLadder(range(2), levels=8)
    tried = np.tile(np.arange(1, 9), 2)
    levels = ladder.settle(np.repeat([0, 1], 8), tried, np.r_[np.arange(8) % 3 == 2, np.zeros(8, int)])
    assert levels.tolist() == [3] * 8 + [8] * 8


def test_new_prompts_and_positions():
    torch = pytest.importorskip("torch")
    ladder = HintLadder([4, 9], levels=2)
    ladder.add([5])
    assert len(ladder) == 3
    assert ladder.levels == 2
    assert ladder.advance(torch.tensor([5, 9]), torch.tensor([True, False])).tolist() == [1, 0]
    assert ladder.advance([2], [1], by="position").tolist() == [2]
    assert ladder.levels_of([5]).tolist() == [2]
    assert ladder.advance([], []).tolist() == []
    assert ladder.settle([], [], []).tolist() == []


LADDER = {"version": 1, "options": {"levels": 2, "success": "stay"}, "prompts": ["a", "b"], "level": np.array([0, 1])}
WRONG = [
    (lambda s: HintLadder(["a"], levels=0), ValueError, r"HintLadder\(\): 'levels' must be at least 1, got 0"),
    (
        lambda s: HintLadder(["a"], levels=2**60),
        ValueError,
        r"HintLadder\(\): 'levels' must be at most 9007199254740992",
    ),
    (lambda s: HintLadder(["a"], levels=1.5), TypeError, r"HintLadder\(\): 'levels' must be a whole number"),
    (
        lambda s: HintLadder(["a"], levels=1, success="up"),
        ValueError,
        r"'success' must be one of 'stay', 'down', 'reset'",
    ),
    (
        lambda s: HintLadder(["a", "a"], levels=1),
        ValueError,
        r"HintLadder\(\): 'prompts' must all be different, got 'a'",
    ),
    (lambda s: s.add(["c", "a"]), ValueError, r"HintLadder.add\(\): 'prompts' must all be different, got 'a' twice"),
    (
        lambda s: s.levels_of(["x"]),
        ValueError,
        r"HintLadder.levels_of\(\): 'prompts' must be known, got 'x' at index 0",
    ),
    (
        lambda s: s.reset([1]),
        TypeError,
        r"HintLadder.reset\(\): 'prompts' must have ids of the type of those known, str",
    ),
    (lambda s: s.advance(["x"], [1]), ValueError, r"HintLadder.advance\(\): 'prompts' must be known, got 'x'"),
    (lambda s: s.advance(["a"], [1, 0]), ValueError, r"'failed' must have length 1 \(= len\(prompts\)\), got 2"),
    (lambda s: s.advance(["a"], [0.5]), TypeError, r"'failed' must be bool or integer \(nonzero = True\), got float64"),
    (lambda s: s.advance(["a"], None), TypeError, r"'failed' must be bool or integer, one a row, got None"),
    (lambda s: s.advance(["a"], [1], by="row"), ValueError, r"'by' must be one of 'id', 'position', got 'row'"),
    (lambda s: s.settle(["a"], [3], [1]), ValueError, r"settle\(\): 'tried' must be between 0 and 2, got 3 at index 0"),
    (lambda s: s.settle(["a"], [1.0], [1]), TypeError, r"settle\(\): 'tried' must hold integers, got float64"),
    (lambda s: s.settle(["a"], [1], [1, 1]), ValueError, r"'solved' must have length 1 \(= len\(prompts\)\), got 2"),
    (lambda s: s.load_state_dict([]), TypeError, r"'state' must be what state_dict\(\) returned, got an object"),
    (lambda s: s.load_state_dict({**LADDER, "version": 0}), ValueError, r"'state' must be of version 1, got version 0"),
    (lambda s: s.load_state_dict({"version": 1}), ValueError, r"'state' must have level, options, .*, got version"),
    (
        lambda s: s.load_state_dict({**LADDER, "options": {"levels": 3, "success": "stay"}}),
        ValueError,
        r"'state' must have been saved with levels=2, as set here, got levels=3",
    ),
    (
        lambda s: s.load_state_dict({**LADDER, "prompts": ["b", "a"]}),
        ValueError,
        r"the same prompts in the same order, 'a' at position 0 as here, got 'b'",
    ),
    (
        lambda s: s.load_state_dict({**LADDER, "level": [0, 3]}),
        ValueError,
        r"load_state_dict\(\): 'level' must be between 0 and 2, got 3 at index 1",
    ),
    (
        lambda s: s.load_state_dict({**LADDER, "level": [0]}),
        ValueError,
        r"'level' must have length 2 \(= len\(prompts\)\), got 1",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), [pytest.param(*w, id=str(i)) for i, w in enumerate(WRONG)])
def test_wrong_calls_change_nothing(call, error, message):
    ladder = HintLadder(["a", "b"], levels=2)
    ladder.load_state_dict(LADDER)
    with pytest.raises(error, match=message):
        call(ladder)
    assert len(ladder) == 2
    assert ladder.levels_of(["a", "b"]).tolist() == [0, 1]

"""The replay buffer: a list of dicts that does the same, what it keeps across checkpoints, and what it refuses."""

from __future__ import annotations

import copy
import pickle
import uuid

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath.select import ReplayBuffer

ROUNDS = st.lists(
    st.tuples(
        st.lists(st.sampled_from("abcdef"), max_size=12),
        st.integers(0, 2**70),
        st.sampled_from(["draw", "sample", "both"]),
        st.sampled_from(["", "pickle", "state", "copy"]),
    ),
    max_size=12,
)


@given(ROUNDS, st.sampled_from([None, 1, 3]), st.sampled_from([None, 1, 2]))
def test_a_list_of_dicts(oracle, rounds, max_age, per_key):
    ours = ReplayBuffer(max_age=max_age, per_key=per_key)
    plain = oracle("select/replay.py", "ReplayBuffer")(max_age, per_key)
    for iteration, (keys, seed, what, pause) in enumerate(rounds):
        positions = np.arange(len(keys)) + 100 * iteration
        for buffer in (ours, plain):
            buffer.add(keys, positions, iteration=iteration)
        if pause == "pickle":
            ours = pickle.loads(pickle.dumps(ours))
        elif pause == "copy":
            ours = copy.deepcopy(ours)
        elif pause == "state":
            state, ours = ours.state_dict(), ReplayBuffer()
            ours.load_state_dict(state)
        for name, given_ in (("sample", {"n": 3}), ("draw", {"iteration": iteration})):
            if what in (name, "both"):
                expected = getattr(plain, name)(**given_, seed=seed)
                got = getattr(ours, name)(**given_, seed=seed)
                assert [got.positions.tolist(), got.iterations.tolist(), got.aged] == list(expected)
        assert len(ours) == len(plain.entries)


def test_by_hand():
    replay = ReplayBuffer(max_age=2, per_key=2)
    replay.add(["p"] * 3 + ["q"], [0, 1, 2, 3], iteration=0)
    assert len(replay) == 4
    assert repr(replay) == "ReplayBuffer(4 entries, max_age=2, per_key=2)"
    first = replay.draw(iteration=1, seed=0)
    assert len(first.positions) == 3
    assert first.iterations.tolist() == [0, 0, 0]
    assert len(replay) == 1
    # What is left comes next, unless it is too old.
    replay.add(["p"], [9], iteration=1)
    left = replay.sample(5, seed=0)
    assert sorted([*first.positions, *left.positions]) == [0, 1, 2, 3, 9]
    assert len(replay) == 2
    late = replay.draw(iteration=2, seed=0)
    assert (late.positions.tolist(), late.aged, len(replay)) == ([9], 1, 0)


def test_the_same_numbers_everywhere():
    replay = ReplayBuffer(per_key=3)
    replay.add(["p"] * 8 + ["q"] * 8, np.arange(16), iteration=0)
    assert replay.sample(5, seed=7).positions.tolist() == [3, 4, 6, 11, 12]
    assert replay.draw(iteration=0, seed=7).positions.tolist() == [3, 4, 6, 10, 11, 12]


def test_draws_are_uniform():
    replay = ReplayBuffer(per_key=2)
    replay.add(["p"] * 5 + ["q"] * 2, np.arange(7), iteration=0)
    counts = np.zeros(7, int)
    for seed in range(4000):
        counts[copy.deepcopy(replay).draw(iteration=0, seed=seed).positions] += 1
    assert counts.tolist() == pytest.approx([1600] * 5 + [4000] * 2, abs=160)  # five standard deviations
    counts[:] = 0
    for seed in range(4000):
        counts[replay.sample(2, seed=seed).positions] += 1
    assert counts.tolist() == pytest.approx([8000 / 7] * 7, abs=150)


@pytest.mark.parametrize(
    "keys", [["a", "b"], [3, 4], [uuid.UUID(int=1), uuid.UUID(int=2)], [(1, "a"), (2, "b")], np.array([5, 6])]
)
def test_keys_of_every_type(keys):
    replay = ReplayBuffer(per_key=1)
    for iteration in range(3):
        replay.add(keys, [0, 1], iteration=iteration)
    replay.add(rm.Groups(keys), [0, 1], iteration=3)
    other = ReplayBuffer()
    other.load_state_dict(pickle.loads(pickle.dumps(replay.state_dict())))
    for buffer in (replay, other):
        assert sorted(buffer.draw(iteration=3, seed=0).positions.tolist()) == [0, 1]
    assert (other.max_age, other.per_key) == (8, 1)


def test_keys_that_are_gone_take_no_memory():
    replay = ReplayBuffer(per_key=None)
    for iteration in range(200):
        replay.add([f"{iteration}-{i}" for i in range(50)], np.arange(50), iteration=iteration)
        replay.draw(iteration=iteration, seed=0)
    assert len(replay._keys) <= 1024 + 50
    assert replay.state_dict()["keys"] == []
    # And letting go of them changes no draw.
    kept, other = ReplayBuffer(per_key=1), ReplayBuffer(per_key=1)
    for buffer in (kept, other):
        buffer.add(["x", "y", "y"], [0, 1, 2], iteration=0)
        buffer.draw(iteration=0, seed=1)
        if buffer is other:
            buffer._forget()
        buffer.add(["x", "x", "y"], [3, 4, 5], iteration=1)
    assert kept.draw(iteration=1, seed=2).positions.tolist() == other.draw(iteration=1, seed=2).positions.tolist()


def test_a_state_from_before_it_had_a_version():
    replay = ReplayBuffer(max_age=3)
    replay.add(["p", "q"], [4, 5], iteration=1)
    state = replay.state_dict()
    assert state.pop("version") == 1
    other = ReplayBuffer()
    other.load_state_dict(state)
    assert other.max_age == 3
    assert other.sample(2, seed=0).positions.tolist() == [4, 5]


def test_arrays_are_copied_and_torch_is_read():
    torch = pytest.importorskip("torch")
    replay, positions = ReplayBuffer(), np.array([4, 5])
    replay.add(torch.tensor([1, 2]), positions, iteration=0)
    positions[:] = 0
    state = replay.state_dict()
    state["positions"][:] = 9
    assert replay.sample(2, seed=0).positions.tolist() == [4, 5]
    replay.add([], [], iteration=1)
    assert len(replay) == 2


def test_wrong_calls():
    replay = ReplayBuffer()
    replay.add(["a"], [0], iteration=0)
    good = replay.state_dict()
    cases = [
        (lambda: ReplayBuffer(max_age=0), ValueError, r"ReplayBuffer\(\): 'max_age' must be at least 1, got 0"),
        (lambda: ReplayBuffer(per_key=1.5), TypeError, r"ReplayBuffer\(\): 'per_key' must be a whole number"),
        (
            lambda: replay.add(["a", "b"], [0], iteration=0),
            ValueError,
            r"ReplayBuffer.add\(\): 'positions' must have length 2 \(= len\(keys\)\), got 1",
        ),
        (
            lambda: replay.add(["b"], [0.5], iteration=0),
            TypeError,
            r"ReplayBuffer.add\(\): 'positions' must hold integers",
        ),
        (lambda: replay.add("b", [0], iteration=0), TypeError, r"ReplayBuffer.add\(\): 'keys' must be a sequence"),
        (
            lambda: replay.add(["b"], [0], iteration=-1),
            ValueError,
            r"ReplayBuffer.add\(\): 'iteration' must be at least 0",
        ),
        (
            lambda: replay.add([1], [0], iteration=0),
            TypeError,
            r"ReplayBuffer.add\(\): 'keys' must be of the type of those before, str, got int",
        ),
        (
            lambda: replay.draw(iteration=0, seed=-1),
            ValueError,
            r"ReplayBuffer.draw\(\): 'seed' must be at least 0, got -1",
        ),
        (
            lambda: replay.draw(iteration=0.0, seed=0),
            TypeError,
            r"ReplayBuffer.draw\(\): 'iteration' must be a whole number",
        ),
        (lambda: replay.sample(-1, seed=0), ValueError, r"ReplayBuffer.sample\(\): 'n' must be at least 0, got -1"),
        (lambda: replay.sample(1, seed=None), TypeError, r"ReplayBuffer.sample\(\): 'seed' must be a whole number"),
        (
            lambda: replay.load_state_dict([1]),
            TypeError,
            r"'state' must be what state_dict\(\) returned, got an object",
        ),
        (
            lambda: replay.load_state_dict({"keys": []}),
            ValueError,
            r"'state' must have codes, iterations, .*, got keys",
        ),
        (
            lambda: replay.load_state_dict({**good, "version": 2}),
            ValueError,
            r"ReplayBuffer.load_state_dict\(\): 'state' must be of version 1, got version 2",
        ),
        (
            lambda: replay.load_state_dict({**good, "max_ages": 2}),
            ValueError,
            r"'state' must have codes, .*, version, got version, .*max_ages",
        ),
        (
            lambda: replay.load_state_dict({**good, "codes": np.zeros(2, int)}),
            ValueError,
            r"ReplayBuffer.load_state_dict\(\): 'codes' must have length 1 \(= len\(positions\)\), got 2",
        ),
        (
            lambda: replay.load_state_dict({**good, "codes": np.ones(1, int)}),
            ValueError,
            r"load_state_dict\(\): 'codes' must be numbers of the 1 'keys', got 1 at index 0",
        ),
        (
            lambda: replay.load_state_dict({**good, "keys": ["a", "a"]}),
            ValueError,
            r"load_state_dict\(\): 'keys' must all be different, got 'a' twice",
        ),
        (
            lambda: replay.load_state_dict({**good, "keys": [[1]]}),
            TypeError,
            r"load_state_dict\(\): 'keys' must be strings, ints, UUIDs or tuples, got list",
        ),
        (
            lambda: replay.load_state_dict({**good, "positions": None}),
            TypeError,
            r"'positions' must be an array of numb",
        ),
        (
            lambda: replay.load_state_dict({**good, "iterations": [-1]}),
            ValueError,
            r"'iterations' must be at least 0, got -1 at index 0",
        ),
        (
            lambda: replay.add(["b"], [0], iteration=2**63),
            ValueError,
            r"add\(\): 'iteration' must be at most 9223372036854775807, got 9223372036854775808",
        ),
        (lambda: replay.draw(iteration=2**63, seed=0), ValueError, r"draw\(\): 'iteration' must be at most 9223372036"),
    ]
    for call, error, message in cases:
        with pytest.raises(error, match=message):
            call()
    # Nothing of it has changed anything.
    assert replay.sample(9, seed=0).positions.tolist() == [0]
    assert replay.state_dict()["keys"] == ["a"]

"""Keys of steps: what may be a key, when two are the same, and in which order they are numbered."""

from __future__ import annotations

import json
import uuid

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Groups, Steps

A, B = uuid.UUID(int=1), uuid.UUID(int=2)


def numbers(state, **kwargs):
    """Numbers of the states of one task, each row a trajectory."""
    n = len(state)
    return Steps(range(n), state, groups=[0] * n, **kwargs).state_index.tolist()


def first_appearance(keys):
    seen = {}
    return [seen.setdefault(key, len(seen)) for key in keys]


FEW = {
    "str": st.sampled_from(
        ["", "a", "b", "ab", "é", "日本語", "\ud800", "\udfff\ud800", "a\0", "x" * 500, "x" * 499 + "y"]
    ),
    "bytes": st.sampled_from([b"", b"a", b"a\0", b"\xff\xfe", "é".encode(), b"z" * 300]),
    "int": st.sampled_from([0, 1, -1, 255, 2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 2**64, 2**200, -(2**200)]),
    "uuid": st.sampled_from([A, B, uuid.UUID(int=2**128 - 1)]),
    "tuple": st.sampled_from(
        [
            (),
            (1,),
            ("1",),
            (b"1",),
            (1, 2),
            ((1,), 2),
            (1, (2,)),
            ("ab", "c"),
            ("a", "bc"),
            (A,),
            ("",),
            ((),),
            (2**70,),
        ]
    ),
}


@pytest.mark.parametrize("kind", FEW)
def test_keys_are_the_same_where_python_says_so(kind):
    @given(st.lists(st.tuples(FEW[kind], st.integers(0, 2)), max_size=30))
    def check(rows):
        keys, tasks = [row[0] for row in rows], [row[1] for row in rows]
        expected = first_appearance(zip(tasks, keys, strict=True))
        steps = Steps(range(len(rows)), keys, keys, groups=tasks)
        assert steps.state_index.tolist() == steps.action_index.tolist() == expected
        assert steps.n_states == len(set(expected))
        # As a tuple, an iterator, and as canonical ids.
        for column in (tuple(keys), Groups(keys) if len({*map(type, keys)}) < 2 else keys):
            assert Steps(range(len(rows)), column, groups=tasks).state_index.tolist() == expected

    check()


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.sampled_from([0, 1, -5, 2**80]),
        st.sampled_from([0.5, 1.5]),
        st.text("ab", max_size=2),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text("aé", max_size=2), inner, max_size=3)),
    max_leaves=6,
)


@given(st.lists(st.lists(JSON, max_size=3), max_size=8), st.booleans())
def test_messages_are_compared_as_json(rows, as_dict):
    rows = [{"content": row} for row in rows] if as_dict else rows
    assert numbers(rows) == first_appearance(json.dumps(row, sort_keys=True) for row in rows)


def test_messages_of_a_chat():
    call = {"id": "1", "function": {"name": "go", "arguments": {"to": "hall", "times": [1, 2]}}}
    turned = {"function": {"arguments": {"times": [1, 2], "to": "hall"}, "name": "go"}, "id": "1"}
    one = [{"role": "user", "content": "where?"}, {"role": "assistant", "tool_calls": [call]}]
    two = [{"content": "where?", "role": "user"}, {"tool_calls": [turned], "role": "assistant"}]
    assert numbers([one, two, one[:1], [*one, *one], (*[one[::-1]],)[0]]) == [0, 0, 1, 2, 3]
    assert numbers([one[0], two[0], one[1]]) == [0, 0, 1]
    # JSON knows no tuples, and two zeros only by their sign.
    assert numbers([[1, (2, -0.0)], [1, [2, 0.0]], [1, [2, 0]]]) == [0, 0, 1]
    assert numbers([[True], [1], [1.0], ["1"], [None], [[]], [{}]]) == list(range(7))


def test_a_string_is_never_bytes_or_a_message():
    texts = ["a", "1", "[]", '{"a":1}', "\ud800"]
    for state, other in [(texts, [t.encode("utf-8", "surrogatepass") for t in texts]), (["1"], [1]), ([(1,)], [[1]])]:
        with pytest.raises(
            TypeError, match=r"^Steps\(\): 'state' and 'next_state' must be of one type, got \w+ and \w+"
        ):
            Steps(range(len(state)), state, groups=[0] * len(state), next_state=other)


def test_state_and_next_state_share_their_numbers():
    steps = Steps([0, 0, 1], ["a", "b", "b"], groups=[0, 1], next_state=["b", "c", "a"], step=[0, 1, 0])
    assert steps.state_index.tolist() == [0, 1, 2]
    assert steps.next_index.tolist() == [1, 3, 4]
    assert steps.n_states == 5
    # Two Groups number their ids on their own; what counts is the ids.
    ids = Steps([0, 0], Groups(["a", "b"]), groups=[0], next_state=Groups(["b", "c"]))
    assert (ids.state_index.tolist(), ids.next_index.tolist()) == ([0, 1], [1, 2])
    mixed = Steps([0, 0], Groups(["a", "b"]), groups=[0], next_state=["b", "c"])
    assert mixed.next_index.tolist() == [1, 2]


@pytest.mark.parametrize("dtype", ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", ">i4", ">f8"])
@pytest.mark.parametrize("shape", [(1,), (3,), (2, 3)])
def test_rows_of_arrays(dtype, shape):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (40, *shape)).astype(dtype)
    expected = first_appearance(map(str, x.tolist()))
    assert numbers(x) == expected
    assert numbers(np.asfortranarray(x)) == expected
    assert numbers(np.repeat(x, 2, axis=0)[::2]) == expected
    assert numbers(x[::-1]) == first_appearance(map(str, x[::-1].tolist()))
    unaligned = np.frombuffer(b"x" + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape)
    assert numbers(unaligned) == expected
    torch = pytest.importorskip("torch")
    if dtype in {"?", "u1", "i4", "f4"}:
        assert numbers(torch.from_numpy(x)) == expected
        if dtype == "f4":
            assert numbers(torch.from_numpy(x).bfloat16()) == expected


def test_zeros_of_either_sign_are_one_state_and_the_caller_keeps_his():
    x = np.array([[0.0, 1.0], [-0.0, 1.0], [1.0, 0.0]])
    assert numbers(x) == [0, 0, 1]
    assert np.signbit(x[1, 0])
    assert numbers(np.zeros((3, 0))) == [0, 0, 0]
    assert numbers(np.zeros((0, 3))) == []
    two = np.zeros(2, np.uint8)
    two[1] = 2  # a bool of another byte
    assert numbers(np.stack([two.view(bool), np.ones(2, bool)])[:, 1:]) == [0, 0]


def test_ints_of_every_kind_are_ints():
    torch = pytest.importorskip("torch")
    expected = [0, 1, 0, 2]
    for dtype in ("i1", "i2", "i4", "i8", ">i4"):
        assert numbers(np.array([3, -1, 3, 0], dtype)) == expected
    values = [3, -1, 3, 0]
    for column in (values, range(4), [np.int32(v) for v in values], torch.tensor(values), np.array(values, object)):
        assert numbers(column) == (expected if not isinstance(column, range) else [0, 1, 2, 3])
    assert numbers([np.uint64(2**64 - 1), -1, 2**64 - 1]) == [0, 1, 0]
    steps = Steps(range(4), values, groups=[0] * 4, next_state=np.array([-1, 3, 0, 3], "i2"))
    assert steps.next_index.tolist() == [1, 0, 2, 0]


class Column:
    """A column of a table: one of pandas has ``tolist``, one of polars ``to_list``, one of pyarrow ``to_pylist``."""

    def __init__(self, door, values):
        setattr(self, door, lambda: values)
        self.values = values

    def __iter__(self):
        return iter([object()] * len(self.values))


def test_columns_of_tables():
    texts = ["b", "a", "b"]
    for column in (np.array(texts), np.array(texts, object), np.array(["b", "a", "b"], "S1"), iter(texts)):
        assert Steps(range(3), column, groups=[0] * 3).state_index.tolist() == [0, 1, 0]
    for door in ("tolist", "to_list", "to_pylist"):
        assert Steps(range(3), Column(door, texts), groups=[0] * 3).state_index.tolist() == [0, 1, 0]
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
        assert numbers(np.array(texts, np.dtypes.StringDType())) == [0, 1, 0]
    for name in ("pandas", "pyarrow", "polars"):
        try:
            module = __import__(name)
        except ImportError:
            continue
        made = {"pandas": "Series", "pyarrow": "array", "polars": "Series"}[name]
        assert Steps(range(3), getattr(module, made)(texts), groups=[0] * 3).state_index.tolist() == [0, 1, 0]


def test_subclasses_of_str_are_str():
    assert numbers([np.str_("a"), "a", type("Text", (str,), {})("a")]) == [0, 0, 0]


def test_tasks_never_share_keys():
    steps = Steps([0, 1, 0, 1], ["a", "a", "b", "a"], ["x"] * 4, groups=["p", "q"], next_state=["a"] * 4)
    assert steps.state_index.tolist() == [0, 1, 2, 1]
    assert steps.action_index.tolist() == [0, 1, 0, 1]
    assert steps.next_index.tolist() == [0, 1, 0, 1]


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["", "a", "b", "d" * 300])), max_size=25), st.randoms())
def test_ranks_do_not_know_the_order_of_rows(rows, random):
    def places(rows):
        """(task, key) by task, and within it by rank."""
        tasks, keys = [row[0] for row in rows], [row[1] for row in rows]
        out = []
        for column in (keys, Groups(keys)):
            steps = Steps(range(len(rows)), column, column, groups=tasks)
            for index, rank in ((steps.state_index, steps._state_rank), (steps.action_index, steps._action_rank)):
                assert sorted(rank.tolist()) == list(range(len(rank)))
                out.append(sorted({(t, int(rank[i]), key) for t, i, key in zip(tasks, index, keys, strict=True)}))
        ordered = [[(task, key) for task, _, key in one] for one in out]
        assert all(one == ordered[0] for one in ordered)
        return ordered[0]

    turned = rows[:]
    random.shuffle(turned)
    assert places(turned) == places(rows)


@pytest.mark.parametrize("tasks", [1, 7, 30_000])
def test_threads_change_nothing(tasks):
    rng = np.random.default_rng(0)
    n = 120_000
    group = rng.integers(0, tasks, n)
    texts = [f"{i:05d}" * 5 for i in rng.integers(0, 50, n).tolist()]
    other = [f"{i:05d}" * 5 for i in rng.integers(20, 70, n).tolist()]
    expected = np.array(
        first_appearance([*zip(group.tolist(), texts, strict=True), *zip(group.tolist(), other, strict=True)])
    )
    before = rm.num_threads()
    try:
        ranks = []
        for threads in (1, 2, 4):
            rm.set_num_threads(threads)
            steps = Steps(np.arange(n), texts, groups=group, next_state=other)
            assert np.array_equal(np.concatenate([steps.state_index, steps.next_index]), expected)
            ranks.append(steps._state_rank)
            assert np.array_equal(ranks[0], ranks[-1])
    finally:
        rm.set_num_threads(before)

"""The compiled functions of step tables, called as the Python layer never would: an exception, and never a panic."""

from __future__ import annotations

import contextlib
import uuid

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rollmath import _core

SMALL = st.integers(-2, 6)
WILD = st.one_of(SMALL, st.sampled_from([2**31, 2**32 - 1, 2**32, 2**63 - 1, -(2**63)]))
SIZES = st.one_of(st.integers(-1, 9), st.sampled_from([2**31, 2**62, 2**63, 2**64]))
OTHER = st.sampled_from(
    [
        None,
        3,
        "x",
        object(),
        [1, 2],
        {"a": 1},
        np.zeros((2, 2), np.int64),
        np.zeros(6, np.int64)[::2],
        np.zeros(6, np.uint8)[::2],
        np.frombuffer(b"x" * 33, dtype=np.int64, count=4, offset=1),
        np.zeros(2, "f4"),
        np.array(1),
    ]
)
OBJECTS = st.one_of(
    st.none(),
    st.booleans(),
    SMALL,
    st.floats(),
    st.text(max_size=3),
    st.binary(max_size=3),
    st.just("\ud800"),
    st.just(uuid.UUID(int=3)),
    st.just(np.int64(3)),
    st.just(object()),
    st.lists(SMALL, max_size=2),
    st.tuples(SMALL, st.text(max_size=1)),
    st.dictionaries(st.one_of(st.text(max_size=2), SMALL), SMALL, max_size=2),
)
CSR = st.lists(st.integers(0, 2), max_size=6).map(lambda ids: _core.Csr.from_ids("f", np.array(ids, np.int64)))


def ints(values):
    return st.lists(values, max_size=6).map(lambda v: np.array(v, np.int64))


def survives(function, *args):
    """Runs it; any ordinary exception is a fine answer. A panic is a BaseException and passes through."""
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        return function(*args)
    return None


@given(st.data())
def test_arrays_and_objects_of_every_kind(data):
    draw, any_array = data.draw, st.one_of(ints(SMALL), ints(WILD), OTHER)
    tasks = draw(st.one_of(CSR, OTHER))
    keys = st.one_of(
        st.lists(OBJECTS, max_size=6),
        st.lists(OBJECTS, max_size=6).map(tuple),
        st.binary(max_size=24).map(lambda b: np.frombuffer(b, np.uint8)),
        any_array,
    )
    column = st.tuples(st.text(max_size=1), keys, st.text(max_size=1), SIZES, st.one_of(st.none(), any_array))
    survives(_core.step_keys, "f", tasks, draw(st.one_of(st.lists(st.one_of(column, OTHER), max_size=3), OTHER)))
    columns = draw(st.one_of(st.lists(any_array, max_size=3), OTHER))
    survives(_core.step_rows, "f", tasks, columns)
    survives(_core.step_window, "f", tasks, columns, draw(any_array), draw(SIZES))


@given(st.data(), st.integers(-1, 1))
def test_columns_that_almost_fit(data, off):
    draw, tasks = data.draw, data.draw(CSR)
    n = max(len(tasks) + off, 0)
    texts = draw(st.lists(st.sampled_from(["", "a", "b", "\udc80"]), min_size=n, max_size=n))
    index = np.array(draw(st.lists(st.integers(-1, 3), min_size=n, max_size=n)), np.int64)
    for ids in (None, index):
        made = survives(_core.step_keys, "f", tasks, [("x", texts, "", 0, ids), ("y", texts, "", 0, None)])
        if off == 0 and ids is None:
            (x, y), rank = made
            assert x.tolist() == y.tolist()
            assert sorted(rank.tolist()) == list(range(len(set(x.tolist()))))
    flat = np.zeros(3 * n, np.uint8)
    for width in (0, 1, 3, 2**40):
        survives(_core.step_keys, "f", tasks, [("x", flat, "k", width, None)])
    numbers = np.array(draw(st.lists(st.integers(-1, 3), min_size=n, max_size=n)), np.int64)
    survives(_core.step_rows, "f", tasks, [numbers, numbers])
    survives(_core.step_window, "f", tasks, [numbers], index, draw(SIZES))
    survives(_core.step_window, "f", tasks, [np.abs(numbers)], np.minimum(index, n - 1), draw(st.integers(0, 9)))

"""One value a rollout from one value a row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from rollmath import Rows

HOWS = ["same", "first", "last", "sum", "mean", "max", "min"]
IDS = ["a", "b", "a", "a"]


def make(segment=None):
    return Rows(IDS, [3, 0, 2, 1], segment=segment)


def test_by_hand():
    x = [1.0, 5.0, 4.0, -2.0]
    expected = {"first": 1, "last": -2, "sum": 3, "mean": 1, "max": 4, "min": -2}
    assert {how: make().collapse(x, how=how)[0] for how in expected} == expected
    assert all(make().collapse(x, how=how)[1] == 5 for how in expected)
    # By segment, not by position.
    turned = make(segment=[2, 0, 0, 1])
    assert turned.collapse(x, how="first").tolist() == [4, 5]
    assert turned.collapse(x, how="last").tolist() == [1, 5]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-8, 8), st.booleans()), max_size=12))
def test_a_loop_over_rollouts(tolerance, rows):
    ids = [i for i, _, _ in rows]
    x = np.array([np.nan if nan else v / 4 for _, v, nan in rows], dtype=float)
    made = Rows(ids, np.ones(len(ids), dtype=int))
    members = [x[[j for j in range(len(ids)) if ids[j] == name]] for name in dict.fromkeys(ids)]
    loops = {"first": lambda v: v[0], "last": lambda v: v[-1], "sum": np.sum, "mean": np.mean}
    for how, loop in (loops | {"max": np.max, "min": np.min}).items():
        expected = np.array([loop(v) for v in members], dtype=float)
        assert_allclose(made.collapse(x, how=how), expected, **tolerance("float64"))


@given(st.lists(st.integers(0, 3), max_size=12), st.sampled_from([np.float32, np.float64, np.int32, np.bool_]))
def test_it_undoes_the_spreading_of_expand(same_bits, ids, dtype):
    rows = Rows(ids, np.arange(len(ids)) % 3 + 1)
    per_rollout = np.arange(rows.n_rollouts).astype(dtype)
    per_row = per_rollout[rows.rollouts.index]
    for how in ("same", "first", "last", "max", "min"):
        same_bits(rows.collapse(per_row, how=how), per_rollout)
    spread = rows.expand(rows.collapse(per_row))
    assert spread.to_lists() == rows.expand(per_row, per="row").to_lists()


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-8, 8)), max_size=12), st.randoms(use_true_random=False))
def test_permuting_rows_changes_no_bit(same_bits, pairs, random):
    ids, x = np.array([i for i, _ in pairs], dtype=int), np.array([v for _, v in pairs], dtype=np.float32) * 0.1
    rows = Rows(ids, np.ones(len(ids), dtype=int))
    order = np.arange(len(ids))
    random.shuffle(order)
    turned = rows.take(order)
    where = [turned.rollouts.ids.index(name) for name in rows.rollouts.ids]
    for how in HOWS[1:]:
        same_bits(turned.collapse(x[order], how=how)[where], rows.collapse(x, how=how))


def test_rows_that_differ_are_named():
    with pytest.raises(
        ValueError,
        match=r"Rows.collapse\(\): 'x' must be the same for all rows of a rollout, but rollout 'a' has 1.0 and 2.0 "
        r"\(row 2\); say how= to choose or combine",
    ):
        make().collapse([1.0, 0.0, 2.0, 1.0])
    assert make().collapse([np.nan, 0.0, np.nan, np.nan])[1] == 0
    with pytest.raises(ValueError, match=r"rollout 'a' has nan and 1\.0"):
        make().collapse([np.nan, 0.0, 1.0, np.nan])


@pytest.mark.parametrize("how", ["first", "last"])
def test_segments_that_are_equal_name_no_row(how):
    """Which of two rows is the last would depend on their order."""
    rows = make(segment=[1, 1, 0 if how == "last" else 2, 1])
    with pytest.raises(
        ValueError,
        match=rf"Rows.collapse\(\): how='{how}' needs one {how} row, but rollout 'a' has rows 0 and 3 of segment 1; "
        "number the rows with segment=",
    ):
        rows.collapse([1.0, 5.0, 4.0, -2.0], how=how)
    # At the other end, and for what asks for no order, they do no harm.
    other = {"first": "last", "last": "first"}[how]
    assert rows.collapse([1.0, 5.0, 4.0, -2.0], how=other).tolist() == [4, 5]
    assert rows.collapse([3.0, 5.0, 3.0, 3.0]).tolist() == [3, 5]
    # Numbers of other rollouts are other numbers.
    assert Rows(["a", "b"], [1, 1], segment=[7, 7]).collapse([1.0, 2.0], how=how).tolist() == [1, 2]


def test_kinds():
    torch = pytest.importorskip("torch")
    rows = make()
    for name in ("bool", "int8", "uint8", "int64", "float32", "float64"):
        for how in HOWS:
            whole = how in {"sum", "mean"} and "float" not in name
            got = rows.collapse(np.ones(4, dtype=name), how=how)
            assert got.dtype == ("float64" if whole else name)
            tensor = rows.collapse(torch.ones(4, dtype=getattr(torch, name)), how=how)
            assert tensor.dtype == (torch.float32 if whole else getattr(torch, name))
            assert tensor.tolist() == got.tolist()
    big = 2**62 + 1
    assert rows.collapse(np.array([big, 0, 1, 2]), how="max").tolist() == [big, 0]
    assert rows.collapse(np.array([1.5] * 4, dtype=np.float16), how="max").dtype == np.float32
    assert rows.collapse(np.repeat(np.ones(4), 2)[::2], how="sum").tolist() == [3, 1]
    assert rows.collapse(np.array([1, 2, 1, 1], dtype=">i4")).tolist() == [1, 2]
    assert rows.collapse(np.array([3, 2, 1, 1], dtype=">i4"), how="sum").tolist() == [5, 2]


@pytest.mark.parametrize("how", HOWS)
def test_no_rows(how):
    assert Rows([], []).collapse([], how=how).tolist() == []


def test_the_result_is_the_callers_own():
    rows = Rows(["a", "b"], [1, 1])
    x = np.array([1.0, 2.0])
    for how in HOWS:
        out = rows.collapse(x, how=how)
        out[:] = 9
    assert x.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("x", "how", "error", "match"),
    [
        ([1.0], "same", ValueError, r"Rows.collapse\(\): 'x' must have shape \(4,\) \(= n_rows\), got \(1,\)"),
        (np.ones((4, 1)), "sum", ValueError, r"'x' must have shape \(4,\) \(= n_rows\), got \(4, 1\)"),
        ([1.0] * 4, "median", ValueError, "'how' must be one of 'same', 'first', .* got 'median'"),
        (list("abcd"), "same", TypeError, "'x' must hold floats, ints or bools"),
        (np.ones(4, dtype=complex), "sum", TypeError, "'x' must hold floats, ints or bools"),
    ],
)
def test_errors(x, how, error, match):
    with pytest.raises(error, match=match):
        make().collapse(x, how=how)


def test_no_gradient():
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match="'x' requires grad"):
        make().collapse(torch.zeros(4, requires_grad=True))

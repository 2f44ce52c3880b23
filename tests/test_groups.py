"""Groups: every kind of id, order of first appearance, and what is not an id."""

from __future__ import annotations

import copy
import pickle
import uuid

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Groups

IDS = st.lists(st.integers(-3, 6), max_size=40)


def check(groups, ids):
    """The definition, in plain Python."""
    distinct = list(dict.fromkeys(ids))
    index = [distinct.index(i) for i in ids]
    assert (len(groups), groups.n_groups) == (len(ids), len(distinct))
    assert groups.ids == tuple(distinct)
    assert groups.index.tolist() == index
    assert groups.counts.tolist() == [index.count(g) for g in range(len(distinct))]
    assert groups.order.tolist() == sorted(range(len(ids)), key=lambda row: (index[row], row))
    assert groups.offsets.tolist() == np.cumsum([0, *groups.counts]).tolist()
    rows = [groups.rows(g).tolist() for g in range(groups.n_groups)]
    assert rows == [[r for r, i in enumerate(index) if i == g] for g in set(index)]
    for array in (groups.index, groups.order, groups.offsets, groups.counts, groups.first):
        assert array.dtype == np.int64
        assert not array.flags.writeable


@given(IDS)
def test_the_definition(ids):
    check(Groups(ids), ids)
    check(Groups(np.array(ids, dtype=np.int64)), ids)
    check(Groups(np.array(ids, dtype=np.int8)), ids)
    check(Groups(np.array(ids, dtype=np.int64) * 10**12), [i * 10**12 for i in ids])


@given(IDS)
def test_every_kind_of_id_gives_the_same_groups(ids):
    torch = pytest.importorskip("torch")
    names = [f"p{i}" for i in ids]
    uuids = [uuid.UUID(int=i + 10) for i in ids]
    tuples = [(i, f"{i}", (i,)) for i in ids]
    objects = np.empty(len(ids), dtype=object)
    objects[:] = tuples
    kinds = [ids, names, [n.encode() for n in names], uuids, tuples, [2**70 + i for i in ids]]
    for kind in [*kinds, [np.int32(i) for i in ids], [(np.int64(i),) for i in ids]]:
        check(Groups(kind), list(kind))
    for array, kind in [
        (np.array(names, dtype="U5"), names),
        (np.array(names, dtype=object), names),
        (np.array(names, dtype="S5"), [n.encode() for n in names]),
        (objects, tuples),
        (torch.tensor(ids, dtype=torch.int64), ids),
        (torch.tensor(ids, dtype=torch.int16), ids),
        (np.array(ids, dtype=">i8"), ids),
        (np.array([*ids, *ids], dtype=np.int64)[::2], [*ids, *ids][::2]),
        ((i for i in ids), ids),
        (tuple(names), names),
    ]:
        check(Groups(array), kind)


def test_strings_of_numpy_2():
    dtypes = getattr(np, "dtypes", None)
    if not hasattr(dtypes, "StringDType"):
        pytest.skip("NumPy 2 is not installed")
    assert Groups(np.array(["a", "b", "a"], dtype=np.dtypes.StringDType())).ids == ("a", "b")


def test_ids_that_look_alike_stay_apart():
    assert Groups(["7", "07", " 7", "7 ", "１"]).n_groups == 5
    assert Groups([2**63 - 1, -(2**63), 2**63 - 1]).ids == (2**63 - 1, -(2**63))
    assert Groups(np.array([0, 10**8, 10**18, -5])).n_groups == 4  # no table as large as the largest id
    assert Groups([(1, 23), (12, 3)]).n_groups == 2


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ("abc", "'ids' must be a sequence with one id a row, got an object of type str"),
        (b"abc", "'ids' must be a sequence with one id a row, got an object of type bytes"),
        (5, "'ids' must be a sequence with one id a row, got an object of type int"),
        (None, "'ids' must be a sequence with one id a row, got an object of type NoneType"),
        ({"a", "b"}, "'ids' must be a sequence with one id a row, got an object of type set"),
        ({"a": 1}, "'ids' must be a sequence with one id a row, got an object of type dict"),
        ([1.0, 2.0], "'ids' must be strings, ints, UUIDs or tuples, got float"),
        ([None], "'ids' must be strings, ints, UUIDs or tuples, got NoneType"),
        ([True, False], "'ids' must not be bools; convert them to ints or strings"),
        ([[1], [2]], "'ids' must be strings, ints, UUIDs or tuples, got list"),
        ([1, "a"], "'ids' must be of one type, got int at index 0 and str at index 1; convert them all"),
        ([1, True], "'ids' must be of one type, got int at index 0 and bool at index 1"),
        ([1, np.int64(1)], "'ids' must be of one type, got int at index 0 and (numpy.)?int64 at index 1"),
        ([(1,), 2], "'ids' must be of one type, got tuple at index 0 and int at index 1"),
        ([(1,), (1.0,)], r"tuples in 'ids' must hold strings, ints or UUIDs, got \(1.0,\) at index 1"),
        ([((1,),), ((True,),)], r"tuples in 'ids' must hold strings, ints or UUIDs, got \(\(True,\),\) at index 1"),
        ([([1],)], r"tuples in 'ids' must hold strings, ints or UUIDs, got \(\[1\],\) at index 0"),
        (np.array([1.0]), "'ids' must be 1-D ids .*, got a 1-D float64 array"),
        (np.array([True]), "'ids' must be 1-D ids .*, got a 1-D bool array"),
        (np.array([[1, 2]]), r"'ids' must be 1-D, got a 2-D int64 array of shape \(1, 2\)"),
        (np.array(3), r"'ids' must be 1-D, got a 0-D int64 array"),
        (np.array([["a"]]), "'ids' must be 1-D ids .*, got a 2-D <U1 array"),
        (np.array([1, None], dtype=object), "'ids' must be of one type, got int at index 0 and NoneType at index 1"),
    ],
)
def test_what_is_no_id(ids, message):
    with pytest.raises(TypeError, match=r"Groups\(\): " + message):
        Groups(ids)
    with pytest.raises(TypeError, match=r"grpo\(\): "):
        rm.group.grpo([1.0, 2.0], ids)


def test_unsigned_ids_past_int64_and_tensors():
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match=r"Groups\(\): 'ids' must fit int64, got 9223372036854775809"):
        Groups(np.array([2**63 + 1], dtype=np.uint64))
    with pytest.raises(TypeError, match=r"got Tensor; stack its tensors or call .tolist\(\)"):
        Groups([torch.tensor(1), torch.tensor(1)])
    for bad in (torch.tensor([1.0]), torch.tensor([True])):
        with pytest.raises(TypeError, match=r"Groups\(\): 'ids' must hold integers, got (float32|bool)"):
            Groups(bad)


def test_ids_do_not_follow_the_array_of_the_caller():
    torch = pytest.importorskip("torch")
    for ids in (np.array([5, 6]), torch.tensor([5, 6]), [5, 6]):
        groups = Groups(ids)
        ids[0] = 9
        assert groups.ids == (5, 6)


@given(IDS, IDS, IDS)
def test_product(a, b, c):
    n = min(len(a), len(b), len(c))
    a, b, c = a[:n], b[:n], c[:n]
    check(Groups.product(a, Groups(b), [str(i) for i in c]), list(zip(a, b, map(str, c), strict=True)))
    check(Groups.product(a), [(i,) for i in a])


def test_product_of_many_parts():
    n = 64
    bits = [[row >> k & 1 for row in range(n)] for k in range(6)]
    made = Groups.product(*bits * 12)  # 72 parts of two groups each, past any integer of 64 bits
    assert (made.n_groups, len(made.ids[5])) == (n, 72)
    with pytest.raises(ValueError, match=r"Groups.product\(\): needs at least one part"):
        Groups.product()
    with pytest.raises(ValueError, match=r"Groups.product\(\): 'groups' must have length 2 .*, got 1"):
        Groups.product([1, 2], [1])


def test_from_sizes():
    assert Groups.from_sizes([2, 1, 3]).index.tolist() == [0, 0, 1, 2, 2, 2]
    assert Groups.from_sizes([]).n_groups == 0
    with pytest.raises(ValueError, match=r"Groups.from_sizes\(\): 'sizes' must be at least 1, got 0"):
        Groups.from_sizes([2, 0])
    with pytest.raises(TypeError, match=r"Groups.from_sizes\(\): 'sizes' must hold integers, got float64"):
        Groups.from_sizes([2.0])


@given(IDS, st.lists(st.integers(0, 39), max_size=20))
def test_take(ids, rows):
    groups, rows = Groups(ids), [r for r in rows if r < len(ids)]
    check(groups.take(rows), [ids[r] for r in rows])
    mask = np.isin(np.arange(len(ids)), rows)
    check(groups.take(mask), [i for i, m in zip(ids, mask, strict=True) if m])


def test_take_checks_its_rows():
    torch = pytest.importorskip("torch")
    groups = Groups(["a", "b", "c"])
    assert groups.take([]).n_groups == 0
    assert groups.take([-1, 0]).ids == ("c", "a")
    assert groups.take(torch.tensor([True, False, True])).ids == ("a", "c")
    assert groups.take(np.array([2, 0, 2], dtype=np.uint8).view(bool)).ids == ("a", "c")
    for rows, error, message in [
        ([3], ValueError, r"'rows' must be less than 3 \(= len\(groups\)\), got 3"),
        ([-4], ValueError, r"'rows' must be at least -3 \(= -len\(groups\)\), got -4"),
        ([True], ValueError, r"'rows' must have length 3 \(= len\(groups\), as a mask\), got 1"),
        ([[0]], TypeError, r"'rows' must be 1-D, got a 2-D int64 array"),
        ([0.0], TypeError, r"'rows' must hold integers, got float64"),
    ]:
        with pytest.raises(error, match=r"Groups.take\(\): " + message):
            groups.take(rows)


@pytest.mark.parametrize("ids", [[], [3, 1, 3], ["a", "b"], [("a", 1), ("b", 2)], [uuid.UUID(int=5)]])
def test_pickle_copy_equality_repr(ids):
    groups = Groups(ids)
    for other in (pickle.loads(pickle.dumps(groups)), copy.deepcopy(groups), Groups(list(ids))):
        check(other, list(ids))
        assert other == groups
        assert hash(other) == hash(groups)
    assert groups != Groups([*ids, *ids, "end"] if ids and isinstance(ids[0], str) else [99])
    assert groups != ids
    assert len(repr(groups)) < 80


def test_repr_says_what_matters():
    assert repr(Groups([])) == "Groups(0 rows)"
    assert repr(Groups([1, 1, 2, 2])) == "Groups(4 rows in 2 groups of 2)"
    assert repr(Groups([1, 1, 2])) == "Groups(3 rows in 2 groups of 1 to 2)"
    assert Groups([1, 2]) == Groups(np.array([1, 2]))
    assert Groups([1, 2]) != Groups([2, 1])
    pickled = pickle.loads(pickle.dumps(Groups.product([1, 1], ["a", "b"]).take([1])))
    assert pickled.ids == ((1, "b"),)


def test_a_hundred_thousand_rows_in_one_group():
    groups = Groups(["same"] * 100_000)
    assert (groups.n_groups, groups.counts.tolist()) == (1, [100_000])
    assert np.array_equal(groups.order, np.arange(100_000))

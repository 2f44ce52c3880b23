"""Ids of rows and their random words: by definition, whatever ids they are and come with, and what is refused."""

from __future__ import annotations

import collections
import enum
import uuid

import numpy as np
import pytest
import uid_order
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath.ops._hash import Uids, unit


class Color(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


Turn = collections.namedtuple("Turn", "prompt number")

INTS = st.one_of(st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1), st.integers(-(2**70), 2**70))
IDS = st.one_of(
    st.lists(INTS, unique=True, max_size=20),
    st.lists(st.text(max_size=4), unique=True, max_size=20),
    st.lists(st.binary(max_size=4), unique=True, max_size=20),
    st.lists(st.uuids(), unique=True, max_size=20),
    st.lists(st.tuples(st.text(max_size=2), INTS), unique=True, max_size=20),
)


def of(ids):
    return Uids.of("f", ids, len(ids))


def test_numbers_are_inside_the_open_interval_and_exact():
    words = [0, 2**12 - 1, 2**12, 2**63, 2**64 - 2**12, 2**64 - 1]
    got = unit(np.array(words, np.uint64))
    assert got.tolist() == [2.0**-53, 2.0**-53, 3 * 2.0**-53, 0.5 + 2.0**-53, 1 - 2.0**-53, 1 - 2.0**-53]
    # Logarithms of either end are finite, and not 0.
    assert np.isfinite(np.log(-np.log(got))).all()


@given(IDS, st.integers(0, 2**70))
def test_order_and_words_are_the_definition(ids, seed):
    uids = of(ids)
    assert [ids[i] for i in np.argsort(uids.rank)] == sorted(ids)
    assert uids.words(seed).tolist() == [uid_order.word(uid_order.bits(x), seed) for x in ids]


@given(IDS, st.integers(0, 9), st.randoms(use_true_random=False))
def test_words_do_not_depend_on_who_else_is_there(ids, seed, random):
    words = dict(zip(ids, of(ids).words(seed).tolist(), strict=True))
    part = random.sample(ids, random.randint(0, len(ids)))
    assert of(part).words(seed).tolist() == [words[x] for x in part]


@pytest.mark.parametrize(
    ("ids", "plain"),
    [
        pytest.param(np.array([3, -4], np.int8), [3, -4], id="int8"),
        pytest.param(np.array([3, 4], np.uint64), [3, 4], id="uint64"),
        pytest.param(np.array([3, -4], ">i8"), [3, -4], id="byte order"),
        pytest.param(np.array([9, 3, 0, -4])[1::2], [3, -4], id="strided"),
        pytest.param([np.int64(3), np.int64(-4)], [3, -4], id="list of int64"),
        pytest.param(np.array([3, 2**64], object), [3, 2**64], id="objects"),
        pytest.param(rm.Groups(["b", "a"]), ["b", "a"], id="groups"),
        pytest.param(np.array(["b", "a"]), ["b", "a"], id="array of strings"),
        pytest.param(list(np.array(["b", "a"])), ["b", "a"], id="list of NumPy strings"),
        pytest.param(list(Color), ["red", "blue"], id="enum"),
        pytest.param([("p", np.int32(1)), ("p", np.int32(0))], [("p", 1), ("p", 0)], id="tuples with int32"),
        pytest.param([Turn("p", 1), Turn("p", 0)], [("p", 1), ("p", 0)], id="named tuples"),
    ],
)
def test_equal_ids_of_other_types_are_the_same(ids, plain):
    got, expected = of(ids), of(plain)
    assert got.rank.tolist() == expected.rank.tolist()
    assert got.words(5).tolist() == expected.words(5).tolist()


def test_the_kinds_of_torch():
    torch = pytest.importorskip("torch")
    assert of(torch.tensor([3, -4], dtype=torch.int32)).words(1).tolist() == of([3, -4]).words(1).tolist()


def test_without_ids_rows_are_their_own():
    assert Uids.of("f", None, 3).words(2).tolist() == of([0, 1, 2]).words(2).tolist()
    for ids in (None, [], np.zeros(0, int)):
        assert Uids.of("f", ids, 0).words(2).tolist() == []


def test_the_same_numbers_everywhere():
    uids = of([uuid.UUID(int=1), uuid.UUID(int=0)])
    assert uids.words(7).tolist() == [16807412853896489682, 13047776175260541632]


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        pytest.param([1, 2, 1], ValueError, "must name each row once, got 1 twice", id="list"),
        pytest.param(np.array([1, 2, 1]), ValueError, "must name each row once, got 1 twice", id="array"),
        pytest.param(["a", "b", "a"], ValueError, "must name each row once, got 'a' twice", id="strings"),
        pytest.param([1, 2], ValueError, r"must have length 3 \(= len\(groups\)\), got 2", id="length"),
        pytest.param(np.array([1, 2]), ValueError, r"must have length 3 \(= len\(groups\)\), got 2", id="short array"),
        pytest.param([1, "a", 2], TypeError, "must be of one type, got int at index 0 and str at index 1", id="types"),
        pytest.param([0.5, 1.0, 2.0], TypeError, "must be strings, ints, UUIDs or tuples, got float", id="floats"),
        pytest.param(np.array([True, False, True]), TypeError, "must be 1-D ids", id="bools"),
        pytest.param(
            [("a", 1), (1, "a"), (2, "a")],
            TypeError,
            "must be ids that have an order, but '<' not supported",
            id="order",
        ),
    ],
)
def test_messages(ids, error, message):
    with pytest.raises(error, match=rf"^f\(\): 'uid' {message}"):
        Uids.of("f", ids, 3)

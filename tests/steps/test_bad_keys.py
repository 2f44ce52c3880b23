"""Columns that are no keys are errors that name the argument, the row and the way out."""

from __future__ import annotations

import contextlib
import gc
import uuid

import numpy as np
import pytest

from rollmath import Groups, Steps

LOOP: list = []
LOOP.append(LOOP)
DEEP: tuple = ()
for _ in range(300):
    DEEP = (DEEP,)


class Message:
    def model_dump(self):
        return {}


ONE_TYPE = r"'state' must be of one type, got "
NUMBERS = "'state' must hold integers, bools or floats of at most 64 bits, got "
NO_KEY = "'state' must be strings, bytes, ints, UUIDs, tuples or chat messages, got "
JSON = (
    r"messages in 'state' must hold what JSON has \(dicts with string keys, lists, strings, finite numbers, bools, "
    r"None\)"
)


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        (["a", b"a"], TypeError, ONE_TYPE + "str at index 0 and bytes at index 1; convert them all"),
        ([b"a", "a"], TypeError, ONE_TYPE + "bytes at index 0 and str at index 1; convert them all"),
        (["a", 1], TypeError, ONE_TYPE + "str at index 0 and int at index 1"),
        (["a", None], TypeError, ONE_TYPE + "str at index 0 and NoneType at index 1"),
        ([1, True], TypeError, ONE_TYPE + "int at index 0 and bool at index 1"),
        ([1, 1.0], TypeError, ONE_TYPE + "int at index 0 and float at index 1"),
        ([np.int64(1), "a"], TypeError, ONE_TYPE + "int at index 0 and str at index 1"),
        ([(1,), [1]], TypeError, ONE_TYPE + "tuple at index 0 and list at index 1"),
        ([{}, []], TypeError, ONE_TYPE + "dict at index 0 and list at index 1"),
        ([uuid.UUID(int=1), (1,)], TypeError, ONE_TYPE + "UUID at index 0 and tuple at index 1"),
        ([True, False], TypeError, "'state' must not be bools; convert them to ints or strings"),
        ([None, None], TypeError, NO_KEY + "NoneType at index 0$"),
        ([1.5, 2.5], TypeError, NO_KEY + "float at index 0; round them to ints, or pass ids of your own"),
        ([np.float64(1), 2], TypeError, NO_KEY + "float64 at index 0; round them to ints"),
        ([{1}, {2}], TypeError, NO_KEY + "set at index 0$"),
        ([np.zeros(2), np.zeros(2)], TypeError, NO_KEY + "ndarray at index 0; stack them into one array"),
        ([Message(), Message()], TypeError, NO_KEY + r"Message at index 0; call .model_dump\(\) on each"),
        ([(1.5,), (1,)], TypeError, r"tuples in 'state' must hold strings, bytes, ints or UUIDs, got 1.5 at index 0"),
        ([(1,), (1, (True,))], TypeError, "tuples in 'state' must hold .*, got True at index 1"),
        ([(1,), (None,)], TypeError, "tuples in 'state' must hold .*, got None at index 1"),
        ([(1,), ([],)], TypeError, r"tuples in 'state' must hold .*, got \[\] at index 1"),
        ([[1], [b"a"]], TypeError, JSON + ", got bytes at index 1$"),
        ([[1], [{1: 2}]], TypeError, JSON + ", got int at index 1$"),
        ([{"a": np.int64(1)}, {}], TypeError, JSON + ", got int64 at index 0$"),
        ([{"a": np.zeros(2)}, {}], TypeError, JSON + ", got ndarray at index 0$"),
        ([[float("nan")], []], TypeError, JSON + ", got nan at index 0$"),
        ([[], [[float("-inf")]]], TypeError, JSON + ", got -inf at index 1$"),
        ([[Message()], []], TypeError, JSON + r", got Message at index 0; call .model_dump\(\) on it"),
        ([[1], LOOP], ValueError, "'state' must be nested at most 200 deep, got more at index 1"),
        ([DEEP, (1,)], ValueError, "'state' must be nested at most 200 deep, got more at index 0"),
        (np.zeros(2), TypeError, "'state' must be integers if it is a 1-D array, got float64; round them, or pass"),
        (np.zeros(2, bool), TypeError, "'state' must be integers if it is a 1-D array, got bool"),
        (np.zeros(2, "M8[s]"), TypeError, "'state' must be integers if it is a 1-D array, got datetime64"),
        (
            np.zeros((2, 2), complex),
            TypeError,
            NUMBERS + "complex128",
        ),
        (
            np.zeros((2, 2), np.longdouble),
            TypeError,
            NUMBERS,
        ),
        (np.array(2), TypeError, "'state' must have one key a row, got a 0-D int64 array"),
        (np.array([1, 2**64 - 1], "u8"), ValueError, "'state' must fit int64, got 18446744073709551615"),
        (np.array(["a", None], object), TypeError, ONE_TYPE + "str at index 0 and NoneType at index 1"),
        (np.ma.array([1, 2], mask=[0, 1]), TypeError, "'state' is a masked array, whose mask would be lost"),
        ("ab", TypeError, "'state' must be a sequence with one key a row, got an object of type str"),
        (b"ab", TypeError, "'state' must be a sequence with one key a row, got an object of type bytes"),
        ({"a": 1, "b": 2}, TypeError, "'state' must be a sequence with one key a row, got an object of type dict"),
        ({1, 2}, TypeError, "'state' must be a sequence with one key a row, got an object of type set"),
        (None, TypeError, "'state' must be a sequence with one key a row, got an object of type NoneType"),
        (5, TypeError, "'state' must be a sequence with one key a row, got an object of type int"),
        (["a"], ValueError, r"'state' must have length 2 \(= the number of rows\), got 1"),
        (np.zeros((3, 2)), ValueError, r"'state' must have length 2 \(= the number of rows\), got 3"),
        (Groups(["a"]), ValueError, r"'state' must have length 2 \(= the number of rows\), got 1"),
        ([], ValueError, r"'state' must have length 2 \(= the number of rows\), got 0"),
    ],
)
def test_bad_states(state, error, message):
    with pytest.raises(error, match=r"^Steps\(\): " + message):
        Steps([0, 0], state, groups=[0])
    if state is not None:
        with pytest.raises(error, match=r"^Steps.from_lengths\(\): " + message.replace("'state'", "'next_state'")):
            Steps.from_lengths([2], ["a", "b"], groups=[0], next_state=state)
        with pytest.raises(error, match=r"^Steps\(\): " + message.replace("'state'", "'action'")):
            Steps([0, 0], ["a", "b"], state, groups=[0])


def test_where_a_nan_is():
    x = np.zeros((5, 2, 3), "f4")
    x[3, 1, 2] = np.nan
    with pytest.raises(
        ValueError, match=r"^Steps\(\): 'state' must not have NaN, which equals nothing, got one at \[3, 1, 2\]"
    ):
        Steps(range(5), x, groups=[0] * 5)
    x[3, 1, 2] = np.inf
    assert Steps(range(5), x, groups=[0] * 5).state_index.tolist() == [0, 0, 0, 1, 0]


@pytest.mark.parametrize(
    ("state", "other", "kinds"),
    [
        (["a"], [b"a"], "str and bytes"),
        ([1], ["1"], "int and str"),
        ([{}], [[]], "dict and list"),
        (np.zeros((1, 2)), np.zeros((1, 3)), r"rows of float64 and shape \(2,\) and rows of float64 and shape \(3,\)"),
        (
            np.zeros((1, 2)),
            np.zeros((1, 2), "f4"),
            r"rows of float64 and shape .* and rows of float32 and shape .*",
        ),
        (np.zeros((1, 8), "u1"), [1], r"rows of uint8 and shape \(8,\) and int"),
        (Groups([1]), Groups(["a"]), "int and str"),
    ],
)
def test_state_and_next_state_of_two_types(state, other, kinds):
    message = rf"^Steps\(\): 'state' and 'next_state' must be of one type, got {kinds}; convert one of them"
    with pytest.raises(TypeError, match=message):
        Steps([0], state, groups=[0], next_state=other)


def test_tensors_that_are_no_keys():
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match=r"^Steps\(\): 'state' requires grad, but no gradient .*; call .detach\(\)"):
        Steps([0, 0], torch.zeros(2, 2, requires_grad=True), groups=[0])
    with pytest.raises(TypeError, match=r"^Steps\(\): 'state' must be a dense tensor of a dtype that NumPy knows"):
        Steps([0, 0], torch.eye(2).to_sparse(), groups=[0])
    with pytest.raises(TypeError, match=NO_KEY + "Tensor at index 0; stack them into one array with a row for each"):
        Steps([0, 0], [torch.zeros(2), torch.zeros(2)], groups=[0])
    with pytest.raises(TypeError, match="'state' must be integers if it is a 1-D array, got float32"):
        Steps([0, 0], torch.zeros(2), groups=[0])


def test_an_id_whose_code_shortens_the_list():
    column = []

    class Id(uuid.UUID):
        @property
        def bytes(self):
            column.clear()
            return super().bytes

    column.extend([Id(int=1), Id(int=2), Id(int=1)])
    assert Steps(range(3), column, groups=[0] * 3).state_index.tolist() == [0, 1, 0]
    assert column == []


def test_a_list_that_becomes_shorter_while_it_is_read():
    # Lone surrogates make an error inside, whose memory may start a collection, and that code of anyone.
    states = [f"\ud800{i}" for i in range(3000)]

    collections = iter(range(1_000_000))

    def shorten(phase, info):
        if next(collections) == 2000:  # in the middle of the list
            del states[2000:]

    before = gc.get_threshold()
    gc.callbacks.append(shorten)
    gc.set_threshold(1, 1, 1)
    try:
        # Which call starts a collection is Python's affair; either the list was whole, or it is too short.
        with contextlib.suppress(ValueError):
            assert Steps(np.arange(3000), states, groups=np.zeros(3000, int)).n_states == 3000
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(shorten)
    with pytest.raises(ValueError, match=r"'state' must have length 3000 \(= the number of rows\), got 2000"):
        Steps(np.arange(3000), states[:2000], groups=np.zeros(3000, int))

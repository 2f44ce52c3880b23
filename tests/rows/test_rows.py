"""Rows: columns, expansion, selection."""

import itertools
import pickle
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollmath import Groups, Ragged, Rows

LISTS = [[1, 2, 3], [], [4, 5]]


def make(**columns):
    return Rows(["a", "b", "a"], [3, 0, 2], **columns)


def test_counts_and_segments():
    rows = make(mask=[1, 0, 1, 0, 2])
    assert (len(rows), rows.n_rows, rows.n_rollouts) == (3, 3, 2)
    assert rows.segment.tolist() == [0, 0, 1]
    assert rows.lengths.tolist() == [3, 0, 2]
    assert rows.offsets.tolist() == [0, 3, 3, 5]
    assert rows.mask.tolist() == [1, 0, 1, 0, 1]
    assert rows.mask.dtype == np.uint8
    assert rows.trained.tolist() == [2, 0, 1]
    assert repr(rows) == "Rows(3 rows of 2 rollouts, 3 of 5 positions trained)"
    assert make().trained.tolist() == [3, 0, 2]
    assert make(segment=[5, 0, 6]).segment.tolist() == [5, 0, 6]


@pytest.mark.parametrize("build", [list, Ragged.from_lists, np.array, lambda x: Ragged.from_lists(x).values])
def test_kinds_of_columns(build):
    lists = LISTS if build is not np.array else [[1, 2, 3], [9, 9, 9], [4, 5, 9]]
    rows = make(tokens=build(lists), version=build(lists), mask=build(lists))
    assert rows.tokens.to_lists() == rows.version.to_lists() == LISTS
    assert rows.mask.tolist() == [1] * 5


@pytest.mark.parametrize("name", ["tokens", "mask"])
def test_lengths_come_from_a_column(name):
    for column in (LISTS, Ragged.from_lists(LISTS)):
        assert Rows([1, 2, 3], **{name: column}).lengths.tolist() == [3, 0, 2]


def test_mask_of_bools_in_lists():
    assert Rows([1, 2], mask=[[True, False], [True]]).mask.tolist() == [1, 0, 1]


def test_tensors_come_to_the_host():
    torch = pytest.importorskip("torch")
    rows = Rows(
        torch.tensor([7, 7]), torch.tensor([2, 1]), tokens=torch.tensor([5, 6, 7]), logprobs=torch.zeros(3).bfloat16()
    )
    assert rows.rollouts.ids == (7,)
    assert isinstance(rows.tokens.values, np.ndarray)
    assert rows.logprobs.values.dtype == np.float32


def test_payloads_are_opaque():
    routing = np.arange(20).reshape(5, 2, 2)
    rows = make(payload={"experts": routing, "allowed": [{1}, {2}, None, "x", 5], "flat": Ragged.from_lists(LISTS)})
    picked = rows.take([2, 0])
    assert picked.payload["experts"].tolist() == routing[[3, 4, 0, 1, 2]].tolist()
    assert picked.payload["allowed"] == ("x", 5, {1}, {2}, None)
    assert picked.payload["flat"].tolist() == [4, 5, 1, 2, 3]


def test_take():
    rows = make(tokens=LISTS, prompts=[[8], [9, 9], []], mask=[1, 0, 1, 1, 1], logprobs=np.arange(5.0), version=[0] * 5)
    picked = rows.take(np.array([-1, 0, 0]))
    assert picked.tokens.to_lists() == [[4, 5], [1, 2, 3], [1, 2, 3]]
    assert picked.prompts.to_lists() == [[], [8], [8]]
    assert picked.mask.tolist() == [1, 1, 1, 0, 1, 1, 0, 1]
    assert picked.segment.tolist() == [1, 0, 0]
    assert picked.logprobs.to_lists() == [[3, 4], [0, 1, 2], [0, 1, 2]]
    assert picked.rollouts.ids == ("a",)
    kept = rows.take([False, True, True])
    assert kept.rollouts.ids == ("b", "a")
    assert kept.version.to_lists() == [[], [0, 0]]
    assert rows.take([]).n_rows == 0


def test_expand():
    rows = make()
    assert rows.expand([1.5, -1.0]).to_lists() == [[1.5] * 3, [], [1.5] * 2]
    by_row = rows.expand(np.array([1, 2, 3], dtype=np.int8), per="row")
    assert by_row.to_lists() == [[1] * 3, [], [3] * 2]
    assert by_row.values.dtype == np.int8
    assert by_row.offsets is not None
    torch = pytest.importorskip("torch")
    assert rows.expand(torch.tensor([1.0, 2.0])).values.tolist() == [1, 1, 1, 1, 1]


def test_expand_copies_values_and_widens_only_halves():
    torch = pytest.importorskip("torch")
    rows = make()
    for name in ("bool", "int8", "uint8", "int64", "float32", "float64"):
        assert rows.expand(np.ones(2, dtype=name)).values.dtype == name
        assert rows.expand(torch.ones(2, dtype=getattr(torch, name))).values.dtype == getattr(torch, name)
    assert rows.expand(np.array([1.5, 2], dtype=np.float16)).values.dtype == np.float32
    for dtype in (torch.float16, torch.bfloat16):
        wide = rows.expand(torch.tensor([1.5, -2.0], dtype=dtype)).values
        assert wide.dtype == torch.float32
        assert wide.tolist() == [1.5, 1.5, 1.5, 1.5, 1.5]
    assert rows.expand(np.array([1, 2], dtype=">i4")).values.tolist() == [1] * 5


def test_values_are_those_of_the_caller_and_the_rest_is_copied():
    torch = pytest.importorskip("torch")
    tokens, logprobs, payload = torch.arange(5), np.zeros(5), np.zeros((5, 2))
    prompt = np.array([7, 8, 9])
    mask, lengths, segment = np.ones(5, dtype=bool), np.array([3, 0, 2]), np.array([0, 0, 1])
    padded, ids = np.zeros((3, 4), dtype=np.int64), np.array([5, 6, 5])
    rows = Rows(
        ids,
        lengths,
        segment=segment,
        mask=mask,
        tokens=tokens,
        prompts=Ragged(prompt, [0, 1, 2, 3]),
        logprobs=logprobs,
        version=padded,
        payload={"x": payload},
    )
    for array in (tokens, logprobs, payload, prompt, mask, lengths, segment, padded, ids):
        array[:] = 1
    shared = (rows.tokens.values, rows.logprobs.values, rows.payload["x"], rows.prompts.values)
    assert all((x == 1).all() for x in shared)
    assert rows.version.values.tolist() == [0] * 5
    assert (rows.lengths.tolist(), rows.segment.tolist(), rows.rollouts.ids) == ([3, 0, 2], [0, 0, 1], (5, 6))
    mask[:] = False
    assert rows.trained.tolist() == [3, 0, 2]


META = {
    "tokens": lambda x: {"tokens": x},
    "mask": lambda x: {"mask": x},
    "version": lambda x: {"version": x},
    "logprobs": lambda x: {"logprobs": x.float()},
    "payload['x']": lambda x: {"payload": {"x": x}},
    "prompts": lambda x: {"prompts": Ragged(x, [0, 1, 2, 5])},
    "tokens[0]": lambda x: {"tokens": [x[:3], [], [1, 2]]},
    "prompts[2]": lambda x: {"prompts": [[1], [2], x]},
}


@pytest.mark.parametrize("name", META)
def test_columns_on_a_device_are_not_copied_in_silence(name):
    torch = pytest.importorskip("torch")
    column = META[name](torch.zeros(5, dtype=torch.int64, device="meta"))
    with pytest.raises(
        ValueError, match=rf"Rows\(\): .{re.escape(name)}. has one number a token and is on meta, .*cpu"
    ):
        make(**column)


def test_a_list_of_tensors_that_require_grad():
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match=r"Rows\(\): 'logprobs\[1\]' requires grad"):
        Rows(["a", "b"], [1, 1], logprobs=[torch.zeros(1), torch.zeros(1, requires_grad=True)])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=8), st.data())
def test_take_and_expand_commute(pairs, data):
    ids, sizes = [p[0] for p in pairs], np.array([p[1] for p in pairs], dtype=np.int64)
    total = int(sizes.sum())
    rows = Rows(ids, sizes, tokens=np.arange(total), mask=np.arange(total) % 2)
    picked = data.draw(st.lists(st.integers(0, len(ids) - 1), max_size=8)) if ids else []
    taken = rows.take(np.array(picked, dtype=np.int64))
    per_row = np.arange(len(ids)) * 10
    expected = [rows.expand(per_row, per="row")[i].tolist() for i in picked]
    assert taken.expand(per_row[picked], per="row").to_lists() == expected
    assert taken.tokens.to_lists() == [rows.tokens[i].tolist() for i in picked]
    assert taken.trained.tolist() == rows.trained[picked].tolist()
    assert [taken.rollouts.ids[g] for g in taken.rollouts.index] == [ids[i] for i in picked]


def test_pickle_keeps_everything():
    rows = Rows.from_turns({"a": [{"prompt": [1], "response": [2, 3], "payload": {"p": ["x", "y"]}, "version": 4}]})
    back = pickle.loads(pickle.dumps(rows))
    assert repr(back) == repr(rows)
    assert back.report == rows.report
    assert back.rollouts == rows.rollouts
    assert back.payload == rows.payload
    assert back.version.to_lists() == [[4, 4]]
    assert not back.lengths.flags.writeable


def test_immutable():
    tokens = np.arange(5)
    rows = make(tokens=tokens, mask=np.ones(5, dtype=bool), payload={"x": np.zeros(5)})
    for array in (rows.lengths, rows.offsets, rows.mask, rows.tokens.values, rows.segment, rows.payload["x"]):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    tokens[0] = 7  # the caller's own array is not frozen
    with pytest.raises(AttributeError, match="Rows is immutable; make a new one instead of setting 'mask'"):
        rows.mask = None
    with pytest.raises(AttributeError, match="Rows is immutable; 'mask' cannot be deleted"):
        del rows.mask
    assert rows.mask is not None
    with pytest.raises(TypeError):
        rows.payload["y"] = 1


def test_no_rows():
    rows = Rows([], [])
    assert (rows.n_rows, rows.n_rollouts, rows.trained.tolist(), rows.expand([]).to_lists()) == (0, 0, [], [])


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: Rows(["a"]), ValueError, "'lengths' is needed unless 'tokens' or 'mask' is a Ragged"),
        (lambda: Rows(["a"], [1, 2]), ValueError, r"'lengths' must have length 1 \(= the number of rows\), got 2"),
        (lambda: Rows(["a"], [1.5]), TypeError, "'lengths' must hold integers, got float64"),
        (lambda: Rows(["a"], [-1]), ValueError, "lengths"),
        (lambda: Rows([1.5], [1]), TypeError, r"Rows\(\): 'rollout' must be strings, ints"),
        (lambda: Rows(["a"], tokens=[[1], [2]]), ValueError, "'tokens' must have length 1"),
        (lambda: make(mask=[1, 1]), ValueError, r"'mask' must have shape \(5,\) \(= positions\) or \(3, T\)"),
        (lambda: make(mask=np.ones(5)), TypeError, r"'mask' must be bool or integer \(nonzero = True\), got float64"),
        (lambda: make(mask=np.ones((3, 2), dtype=int)), ValueError, r"'mask' must have at least 3 columns"),
        (lambda: make(mask=np.ones((2, 3), dtype=int)), ValueError, "'mask' must have length 3"),
        (lambda: make(tokens=Ragged.from_lists([[1], [2, 3], [4, 5]])), ValueError, "row 0 has 3 positions, got 1"),
        (lambda: make(tokens=np.zeros(5)), TypeError, "'tokens' must hold integers, got float64"),
        (lambda: make(logprobs=np.zeros(5, dtype=int)), TypeError, "'logprobs' must hold floats, got int64"),
        (lambda: make(prompts=np.zeros(3, dtype=int)), TypeError, "'prompts' must be a Ragged or a list"),
        (lambda: make(prompts=[[1]]), ValueError, r"'prompts' must have length 3"),
        (lambda: make(segment=[1]), ValueError, r"'segment' must have length 3 \(= the number of rows\), got 1"),
        (lambda: make(payload={"x": [1]}), ValueError, r"payload 'x' must have length 5 \(= positions\), got 1"),
        (lambda: make(payload={"x": 3}), TypeError, r"payload 'x' must be a Ragged, an array"),
        (
            lambda: make(payload=[1]),
            TypeError,
            r"Rows\(\): 'payload' must be a mapping from names to values, got .* list",
        ),
        (lambda: make(payload=np.ones(5)), TypeError, r"'payload' must be a mapping from names to values, got a 1-D"),
        (
            lambda: make(tokens=[[1, 2, 3.5], [], [4, 5]]),
            TypeError,
            r"Rows\(\): 'tokens' as a list of lists: .* got something else at lists\[0\]\[2\]",
        ),
        (
            lambda: make().expand(np.ones(2, dtype=complex)),
            TypeError,
            "'x' must hold floats, ints or bools, got complex",
        ),
        (
            lambda: make().expand(["a", "b"]),
            TypeError,
            r"Rows.expand\(\): 'x' must hold floats, ints or bools, got <U1",
        ),
        (lambda: make().take([3]), ValueError, r"'rows' must be in \[-3, 3\) \(= n_rows\), got 3 to 3"),
        (lambda: make().take([True]), ValueError, r"'rows' as bools must have shape \(3,\)"),
        (lambda: make().take([0.5]), TypeError, "'rows' must hold integers"),
        (lambda: make().expand([1.0]), ValueError, r"'x' must have shape \(2,\) \(= n_rollouts, as per='rollout'\)"),
        (lambda: make().expand([1.0], per="row"), ValueError, r"'x' must have shape \(3,\) \(= n_rows, as per='row'\)"),
        (lambda: make().expand([1.0], per="turn"), ValueError, "'per' must be one of 'rollout', 'row', got 'turn'"),
    ],
)
def test_errors(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_groups_are_accepted():
    groups = Groups(["x", "y", "x"])
    assert Rows(groups, [1, 1, 1]).rollouts is groups


def test_payload_names_are_strings():
    with pytest.raises(TypeError, match=r"Rows\(\): the names in 'payload' must be strings, got 1"):
        Rows(["a"], [1], payload={1: [0]})
    turn = {"prompt": [1], "response": [2], "payload": {1: [0]}}
    with pytest.raises(TypeError, match=r"Rows.from_turns\(\): the names in .*payload must be strings, got 1"):
        Rows.from_turns([[turn]])


@pytest.mark.parametrize("mask", [None, [1, 0, 1, 1, 0, 0, 1]])
@given(kept=st.lists(st.booleans(), min_size=4, max_size=4))
@settings(max_examples=16)
def test_keep_trains_no_token_of_the_other_rows(mask, kept):
    rows = Rows(["a", "b", "a", "c"], [3, 0, 2, 2], mask=mask, tokens=np.arange(7), payload={"x": np.arange(7)})
    before = None if mask is None else rows.mask.copy()
    whole = rows.trained_of_rollout.tolist()  # kept from now on, and not by what keep() makes
    some, again = rows.keep(kept), rows.keep([True, True, False, True]).keep(kept)
    # Parts come before the mask of all: they do not ask for it.
    part = some.take([2, 0, 2])
    wanted = np.repeat(kept, rows.lengths) & (np.ones(7, bool) if mask is None else rows.mask != 0)
    assert (np.ones(7, bool) if some.mask is None else some.mask != 0).tolist() == wanted.tolist()
    assert some.trained.tolist() == np.where(kept, rows.trained, 0).tolist()
    a, b, c, d = some.trained.tolist()
    assert some.trained_of_rollout.tolist() == [a + c, b, d]
    assert whole == [rows.trained[[0, 2]].sum(), rows.trained[1], rows.trained[3]]
    both = [bool(k) for k in kept[:2]] + [False, bool(kept[3])]
    assert again.trained.tolist() == np.where(both, rows.trained, 0).tolist()
    assert (np.ones(7, bool) if again.mask is None else again.mask != 0).tolist() == (
        wanted & np.repeat([True, True, False, True], rows.lengths)
    ).tolist()
    for row, taken in ((2, 0), (0, 1), (2, 2)):
        marks = np.ones(7, bool) if part.mask is None else part.mask != 0
        mine = slice(part.offsets[taken], part.offsets[taken + 1])
        assert marks[mine].tolist() == wanted[rows.offsets[row] : rows.offsets[row + 1]].tolist()
    assert some.rollouts is rows.rollouts
    assert some.tokens is rows.tokens
    assert some.payload is rows.payload
    assert (rows.mask is None) if mask is None else (rows.mask == before).all()
    assert pickle.loads(pickle.dumps(some)).trained.tolist() == some.trained.tolist()


@pytest.mark.parametrize("mask", [None, [1, 0, 1, 1, 0, 0, 1]])
@given(positions=st.lists(st.booleans(), min_size=7, max_size=7), kept=st.lists(st.booleans(), min_size=4, max_size=4))
@settings(max_examples=30)
def test_keep_of_positions(mask, positions, kept):
    rows = Rows(["a", "b", "a", "c"], [3, 0, 2, 2], mask=mask, tokens=np.arange(7))
    some = rows.keep(Ragged(np.array(positions), rows.offsets))
    wanted = np.array(positions) & (np.ones(7, bool) if mask is None else rows.mask != 0)
    both, other = some.keep(kept), rows.keep(kept).keep(Ragged(np.array(positions), rows.offsets))
    for made, marks in ((some, wanted), (both, wanted & np.repeat(kept, rows.lengths))):
        assert (np.ones(7, bool) if made.mask is None else made.mask != 0).tolist() == marks.tolist()
        assert made.trained.tolist() == [int(marks[a:b].sum()) for a, b in itertools.pairwise(rows.offsets)]
        assert made.trained_of_rollout.sum() == marks.sum()
        assert made.tokens is rows.tokens
        part = made.take([3, 0])
        assert part.trained.tolist() == made.trained[[3, 0]].tolist()
        assert pickle.loads(pickle.dumps(made)).trained.tolist() == made.trained.tolist()
    assert other.trained.tolist() == both.trained.tolist()


def test_keep_refuses_what_is_no_mask_of_rows():
    rows = make()
    with pytest.raises(TypeError, match=re.escape("'rows' must be bools [n_rows], or a Ragged of bools, got ")):
        rows.keep([0, 1, 1])
    with pytest.raises(ValueError, match=re.escape("'rows' as a Ragged must have the offsets of these rows, got ")):
        rows.keep(Ragged([True], [0, 1]))
    with pytest.raises(ValueError, match=re.escape("Rows.keep(): 'rows' must have length 3 (= n_rows), got 2")):
        rows.keep([True, False])
    assert rows.keep([True, False, True]) is rows  # the row that goes has no position
    assert Rows([], []).keep([]).n_rows == 0
    some = np.array([True, True, False])
    kept = rows.keep(some)
    some[:] = False  # which is the caller's
    assert kept.trained.tolist() == [*rows.trained[:2], 0]
    with pytest.raises(ValueError, match="read-only"):
        kept.mask[0] = 1

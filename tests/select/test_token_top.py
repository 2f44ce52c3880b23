"""The tokens of the highest scores: every form and kind against sorting, laws, and what is refused."""

import math
import pickle
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from token_forms import FORMS, ROWS, WANTS, Form, agrees, hidden, unzip

import rollmath as rm
from rollmath.ops import _device_rows

torch = pytest.importorskip("torch")

top_tokens = rm.select.top_tokens


def test_by_hand():
    entropy = np.array([0.1, 2.0, 0.2, 0.3, 1.5, 0.4, 2.0, 0.0, 0.1, 0.2])
    chosen = top_tokens(entropy, share=0.3)
    assert np.flatnonzero(chosen.mask).tolist() == [1, 4, 6]
    assert (float(chosen.threshold), int(chosen.kept), int(chosen.total)) == (1.5, 3, 10)
    # Both of 2.0 are at the threshold.
    assert int(top_tokens(entropy, share=0.1).kept) == 2
    assert int(top_tokens(entropy, share=0.1, ties="exact").kept) == 1
    # 0.7 of 10 is 6.999...: rounding of the share, not of the tokens.
    assert 0.7 * 10 == 7.0
    assert 0.29 * 100 < 29
    assert int(top_tokens(np.arange(100.0), share=0.29).kept) == 29
    assert top_tokens(entropy, share=0.01).mask.sum() == 0
    assert float(top_tokens(entropy, share=0.01).threshold) == math.inf
    assert float(top_tokens(entropy, share=0.01, largest=False).threshold) == -math.inf
    assert int(top_tokens(entropy, share=0.01, least=1).kept) == 2
    assert int(top_tokens(entropy, count=99).kept) == 10
    for many in ({"count": 10**30}, {"share": 0.0, "least": 10**30}):
        assert int(top_tokens(entropy, **many).kept) == 10
        with mock.patch.object(_device_rows, "INTERPRET", True):
            assert int(top_tokens(torch.from_numpy(entropy), **many).kept) == 10
    # -0.0 equals 0.0, and the threshold has no sign.
    zeros = top_tokens([-0.0, 0.0, 1.0, -1.0], count=2)
    assert zeros.mask.tolist() == [True, True, True, False]
    assert math.copysign(1.0, float(zeros.threshold)) == 1.0
    assert math.copysign(1.0, float(top_tokens([-0.0, 1.0], count=1, largest=False).threshold)) == 1.0


@pytest.mark.parametrize("form", FORMS)
@given(
    rows=ROWS,
    want=WANTS,
    scope=st.sampled_from(["all", "row"]),
    ties=st.sampled_from(["all", "exact"]),
    largest=st.booleans(),
    dtype=st.sampled_from([np.float32, np.float64]),
    named=st.booleans(),
)
def test_it_is_the_definition(oracle, form, rows, want, scope, ties, largest, dtype, named):
    values, trained, scores = unzip(rows, dtype)
    form = Form(form, trained, dtype)
    options = {"scope": scope, "ties": ties, "largest": largest, "seed": len(rows), **want}
    uids = [f"row {i * 7 % 11}" for i in range(len(rows))] if named else None
    expected = oracle("select/token_top.py", "top_tokens")(scores, uids=uids, **options)
    with form.on_device():
        found = top_tokens(form.column(values), uid=uids, **options, **form.options)
    agrees(form, found, expected, scope)


@given(ROWS, WANTS, st.sampled_from(["all", "exact"]), st.booleans())
def test_flat_scores_are_one_row_or_have_ids_of_their_own(oracle, rows, want, ties, named):
    values, _, _ = unzip(rows, np.float64)
    flat, trained = [x for row in values for x in row], [ok for row in rows for _, ok in row]
    top = oracle("select/token_top.py", "top_tokens")
    (one,) = hidden([flat], [trained])
    uids = [(k * 7 + 3) % 101 for k in range(len(flat))]
    if named:
        mask, _, kept, _ = top([[x] for x in one], uids=uids, ties=ties, **want)
        mask = [x for row in mask for x in row]
    else:
        (mask,), _, kept, _ = top([one], ties=ties, **want)
    found = top_tokens(flat, mask=np.array(trained, bool), uid=uids if named else None, ties=ties, **want)
    assert found.mask.tolist() == mask
    assert [int(found.kept)] == kept


@given(ROWS, WANTS, st.randoms(use_true_random=False), st.sampled_from(["all", "exact"]))
def test_the_order_of_rows_changes_nothing_with_ids(rows, want, random, ties):
    values, trained, _ = unzip(rows)
    order = list(range(len(rows)))
    random.shuffle(order)
    ids = [f"r{i}" for i in range(len(rows))]

    def masks(at):
        form = Form("ragged", [trained[i] for i in at])
        column = form.column([values[i] for i in at])
        return form.lists(top_tokens(column, ties=ties, uid=[ids[i] for i in at], **want, **form.options).mask)

    assert masks(order) == [masks(range(len(rows)))[i] for i in order]


@given(ROWS, WANTS)
def test_shift_and_scale_change_nothing(rows, want):
    values, trained, _ = unzip([[(x if math.isfinite(x) else 9.0, ok) for x, ok in row] for row in rows])
    form = Form("ragged", trained)
    base = form.lists(top_tokens(form.column(values), **want, **form.options).mask)
    for change in (lambda x: 4 * x, lambda x: x + 64.0):
        moved = form.column([[change(x) for x in row] for row in values])
        # Values are few enough bits that nothing is rounded, but for those of float32 that 0.7 has.
        if all(float(np.float32(change(x))) == change(x) for row in values for x in row):
            assert form.lists(top_tokens(moved, **want, **form.options).mask) == base


def test_large_batches_and_threads(same_bits):
    before, first = rm.num_threads(), None
    rng = np.random.default_rng(0)
    x = rng.exponential(size=(64, 5000)).astype(np.float32)
    x[rng.random(x.shape) < 0.3] = 0.25
    mask, lengths = rng.random(x.shape) < 0.9, rng.integers(0, 5001, 64)
    seen = mask & (np.arange(5000) < lengths[:, None])
    k = math.floor(0.2 * seen.sum())
    expected = seen & (x >= np.sort(x[seen])[-k])
    try:
        for n in (1, 2, 3):
            rm.set_num_threads(n)
            same_bits(top_tokens(x, share=0.2, mask=mask, lengths=lengths).mask, expected)
            exact = [
                top_tokens(x, share=share, mask=mask, lengths=lengths, ties="exact", uid=np.arange(64))
                for share in (0.2, 0.8)
            ]
            for share, one in zip((0.2, 0.8), exact, strict=True):
                assert int(one.mask.sum()) == int(one.kept) == math.floor(share * seen.sum())
            first = first or exact
            for one, other in zip(exact, first, strict=True):
                same_bits(one.mask, other.mask)
    finally:
        rm.set_num_threads(before)


def test_kinds():
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        chosen = top_tokens(torch.tensor([0.5, 2.0, 1.0], dtype=dtype), count=2)
        assert chosen.mask.equal(torch.tensor([False, True, True]))
        assert (chosen.threshold.dtype, float(chosen.threshold)) == (torch.float32, 1.0)
    assert top_tokens(torch.tensor([3, 1, 2]), count=1).threshold.dtype == torch.float32
    assert top_tokens([3, 1, 2], count=1).threshold.dtype == np.float64
    assert top_tokens([[1.0, 2.0], [3.0, 4.0]], count=1).mask.tolist() == [[False, False], [False, True]]
    given_x = np.asfortranarray(np.arange(12.0).reshape(3, 4))[::-1]
    assert top_tokens(given_x, count=3).mask.sum() == 3
    frozen = np.arange(4.0)
    frozen.setflags(write=False)
    assert top_tokens(frozen, count=1).mask.tolist() == [False, False, False, True]

    rows = top_tokens(rm.Ragged(np.array([1.0, 2.0]), [0, 0, 2, 2]), share=0.5, scope="row")
    assert (rows.kept.tolist(), rows.total.tolist()) == ([0, 1, 0], [0, 2, 0])


NOTHING = [
    pytest.param([], id="list"),
    pytest.param(np.zeros((0, 3)), id="no rows"),
    pytest.param(np.zeros((2, 0), np.float32), id="no columns"),
    pytest.param(rm.Ragged([], [0]), id="ragged"),
    pytest.param(torch.zeros(0), id="tensor"),
    pytest.param(torch.zeros(2, 0), id="padded tensor"),
    pytest.param(rm.Ragged(torch.zeros(0), [0, 0, 0]), id="ragged tensor"),
]


@pytest.mark.parametrize("empty", NOTHING)
@pytest.mark.parametrize("interpret", [False, True])
def test_no_tokens_at_all(empty, interpret):
    with mock.patch.object(_device_rows, "INTERPRET", interpret):
        for found in (
            top_tokens(empty, share=0.5),
            top_tokens(empty, count=3, ties="exact"),
            rm.select.high_entropy_tokens(empty),
            rm.select.d3s_tokens(empty, empty, share=1.0, scope="all"),
            rm.select.low_probability_tokens(empty, share=0.5, advantages=empty, of="all"),
            rm.select.high_covariance_tokens(empty, empty, count=1),
            rm.select.high_covariance_tokens(empty, empty, share=0.5, least=1, bounds=(1, 5)),
        ):
            assert (int(found.kept), int(found.total)) == (0, 0)
            assert float(found.threshold) in {math.inf, -math.inf, 0.0}
            values = found.mask.values if isinstance(found.mask, rm.Ragged) else found.mask
            assert values.reshape(-1).tolist() == []


def test_rows_name_their_tokens():
    rows = rm.Rows(["a", "a", "b"], [3, 3, 3])
    x = rm.Ragged.from_lengths(np.zeros(9), rows.lengths)
    chosen = top_tokens(x, count=4, ties="exact", uid=rows, seed=3)
    pairs = top_tokens(x, count=4, ties="exact", uid=[("a", 0), ("a", 1), ("b", 0)], seed=3)
    assert chosen.mask.values.tolist() == pairs.mask.values.tolist()
    assert rows.keep(chosen.mask).trained.sum() == 4
    other = [top_tokens(x, count=4, ties="exact", uid=rows, seed=s).mask.values.tobytes() for s in range(8)]
    assert len(set(other)) > 4


def test_it_prints_and_pickles():
    chosen = top_tokens([0.1, 2.0, 0.2], count=1)
    assert repr(chosen) == "TokenSelection(1 of 3 tokens, threshold 2)"
    assert repr(top_tokens([[0.1], [2.0]], count=1, scope="row")) == "TokenSelection(2 of 2 tokens in 2 rows)"
    assert pickle.loads(pickle.dumps(chosen)).mask.tolist() == chosen.mask.tolist()


@pytest.mark.parametrize("scope", ["all", "row"])
def test_nan_is_named(scope):
    x = np.zeros((3, 4), np.float32)
    x[1, 2] = np.nan
    with pytest.raises(
        ValueError, match=r"^top_tokens\(\): 'scores' must not be NaN at trained tokens, got NaN at row 1, position 2$"
    ):
        top_tokens(x, share=0.5, scope=scope)
    mask = np.ones((3, 4), bool)
    mask[1, 2] = False
    assert int(top_tokens(x, share=1.0, mask=mask, scope=scope).kept.sum()) == 11
    assert int(top_tokens(x, share=1.0, lengths=[4, 2, 4], scope=scope).kept.sum()) == 10


BAD = [
    ({}, ValueError, "give either 'share' or 'count', got share=None and count=None"),
    ({"share": 0.5, "count": 1}, ValueError, "give either 'share' or 'count', got share=0.5 and count=1"),
    ({"share": 1.5}, ValueError, "'share' must be between 0 and 1, got 1.5"),
    ({"share": -0.1}, ValueError, "'share' must be between 0 and 1, got -0.1"),
    ({"share": math.nan}, ValueError, "'share' must be between 0 and 1, got nan"),
    ({"share": "all"}, TypeError, "'share' must be a number, got an object of type str"),
    ({"count": 0}, ValueError, "'count' must be at least 1, got 0"),
    ({"count": 1.0}, TypeError, "'count' must be a whole number, got an object of type float"),
    ({"share": 0.5, "least": -1}, ValueError, "'least' must be at least 0, got -1"),
    ({"count": 2, "least": 1}, ValueError, "'least' goes with 'share', got count=2 and least=1"),
    ({"count": 1, "largest": 1}, TypeError, "'largest' must be True or False, got 1"),
    ({"count": 1, "scope": "batch"}, ValueError, "'scope' must be one of 'all', 'row', got 'batch'"),
    ({"count": 1, "ties": "some"}, ValueError, "'ties' must be one of 'all', 'exact', got 'some'"),
    ({"count": 1, "seed": -1}, ValueError, "'seed' must be at least 0, got -1"),
    ({"count": 1, "mask": [[1, 1]]}, ValueError, r"'mask' must have shape (2, 2) (= that of 'scores'), got (1, 2)"),
    ({"count": 1, "mask": [[0.5, 1], [1, 1]]}, TypeError, "'mask' must be bool or integer (nonzero = True), got float"),
    ({"count": 1, "lengths": [3, 1]}, ValueError, "'lengths' must be"),
    ({"count": 1, "lengths": [1]}, ValueError, "'lengths' must have length 2 (= the number of rows), got 1"),
    ({"count": 1, "ties": "exact", "uid": ["a"]}, ValueError, "'uid' must have length 2 (= the number of rows), got 1"),
    ({"count": 1, "ties": "exact", "uid": ["a", "a"]}, ValueError, "'uid' must name each row once, got 'a' twice"),
    ({"count": 1, "ties": "exact", "uid": [3, 3]}, ValueError, "'uid' must name each row once, got 3 twice"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD, ids=[str(i) for i in range(len(BAD))])
def test_messages(options, error, message):
    with pytest.raises(error) as caught:
        top_tokens([[1.0, 2.0], [3.0, 4.0]], **options)
    assert str(caught.value).startswith(f"top_tokens(): {message}")


def test_messages_of_forms():
    with pytest.raises(ValueError, match=r"'lengths' goes with padded arrays, but 'scores' is flat; make packed rows"):
        top_tokens([1.0], count=1, lengths=[1])
    with pytest.raises(ValueError, match=r"'scope' must be 'all' where 'scores' is flat, which has no rows; give rows"):
        top_tokens([1.0], count=1, scope="row")
    with pytest.raises(ValueError, match=r"'mask' must have length 2 \(= that of 'scores'\), got 1"):
        top_tokens([1.0, 2.0], count=1, mask=[True])
    with pytest.raises(TypeError, match=r"'mask' must be 1-D as 'scores' is, got a 2-D int64 array"):
        top_tokens([1.0, 2.0], count=1, mask=[[1, 1]])
    with pytest.raises(TypeError, match=r"'mask' must be 1-D as 'scores' is, got Ragged"):
        top_tokens([1.0, 2.0], count=1, mask=rm.Ragged([1, 1], [0, 2]))
    with pytest.raises(TypeError, match=r"'scores' must be a Ragged or a padded 2-D array \[B, T\], got a 3-D"):
        top_tokens(np.zeros((1, 2, 3)), count=1)
    with pytest.raises(TypeError, match=r"'scores' must hold floats, ints or bools, got <U1"):
        top_tokens([["a"]], count=1)
    with pytest.raises(TypeError, match=r"'scores' has rows of unequal length; use Ragged.from_lists"):
        top_tokens([[1.0], [2.0, 3.0]], count=1)
    with pytest.raises(ValueError, match=r"'scores' requires grad, but no gradient flows through this function"):
        top_tokens(torch.ones(2, requires_grad=True), count=1)
    with pytest.raises(ValueError, match=r"'mask' must have the offsets of 'scores', got Ragged"):
        top_tokens(rm.Ragged([1.0, 2.0], [0, 2]), count=1, mask=rm.Ragged([1, 1], [0, 1, 2]))
    nested = torch.nested.nested_tensor([torch.ones(3), torch.ones(2)], layout=torch.jagged)
    with pytest.raises(TypeError, match=r"'scores' must be .*, got a nested tensor; give Ragged\(values, offsets\)"):
        top_tokens(nested, count=1)
    with pytest.raises(TypeError, match=r"'scores' must be an array of numbers, got an object of type NoneType"):
        top_tokens(None, count=1)

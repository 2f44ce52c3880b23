"""TokenSearch: any split of the tokens gives the mask of all at once, and on a device nothing waits."""

import math
import pickle
import re
from itertools import pairwise
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from token_forms import FORMS, ROWS, WANTS, Form, unzip

import rollmath as rm
from rollmath.ops import _device_rows

torch = pytest.importorskip("torch")

TokenSearch, top_tokens = rm.select.TokenSearch, rm.select.top_tokens


def searched(search, parts):
    """Runs the rounds over (scores, options) of each part."""
    for _ in range(search.rounds):
        assert not search.done
        search = search.narrow(sum(search.count(x, **options) for x, options in parts))
    assert search.done
    return search


def split(rows, cuts):
    """Runs of rows."""
    edges = sorted({0, len(rows), *(cut % (len(rows) + 1) for cut in cuts)})
    return [slice(a, b) for a, b in pairwise(edges)]


@pytest.mark.parametrize("name", FORMS)
@given(
    rows=ROWS,
    want=WANTS,
    ties=st.sampled_from(["all", "exact"]),
    largest=st.booleans(),
    dtype=st.sampled_from([np.float32, np.float64]),
    cuts=st.lists(st.integers(0, 9), max_size=4),
)
def test_any_split_is_one_call(name, rows, want, ties, largest, dtype, cuts):
    values, trained, _ = unzip(rows, dtype)
    ids = [f"row {i}" for i in range(len(rows))]
    options = {"ties": ties, "largest": largest, "seed": 5}
    whole = Form("ragged", trained, dtype)
    expected = top_tokens(whole.column(values), uid=ids, **options, **want, **whole.options)
    forms, parts = [], []
    for part in split(rows, cuts):
        form = Form(name, trained[part], dtype)
        forms.append(form)
        parts.append((form.column(values[part]), {"uid": ids[part], **form.options}))
    with forms[0].on_device():
        search = searched(TokenSearch(dtype=np.dtype(dtype).name, **options, **want), parts)
        masks = [search.mask(x, **more) for x, more in parts]
    found = [row for form, one in zip(forms, masks, strict=True) for row in form.lists(one)]
    assert found == whole.lists(expected.mask)
    for got, wanted in zip((search.threshold, search.kept, search.total), expected[1:], strict=True):
        assert got.shape == ()
        assert np.asarray(got).tobytes() == np.asarray(wanted).tobytes()


def test_rounds():
    assert (TokenSearch(share=0.2).rounds, TokenSearch(share=0.2, dtype="float64").rounds) == (3, 6)
    assert (TokenSearch(share=0.2, ties="exact").rounds, TokenSearch(count=3, ties="exact").rounds) == (9, 9)
    search = TokenSearch(count=2, ties="exact", seed=1)
    parts = [(np.ones((1, 3), np.float32), {"uid": [i]}) for i in range(4)]
    found = searched(search, parts)
    assert repr(found) == "TokenSearch(2 of 12 tokens, threshold 1.0)"
    assert repr(search) == "TokenSearch(count=2, least=0, round 0 of 9)"
    assert repr(pickle.loads(pickle.dumps(found))) == repr(found)
    assert search.round == 0
    with pytest.raises(AttributeError, match="immutable"):
        search.round = 3


def test_numpy_and_tensors_count_alike():
    x = np.random.default_rng(0).normal(size=(4, 50)).astype(np.float32)
    search, other = TokenSearch(share=0.3), TokenSearch(share=0.3)
    for _ in range(3):
        counts, same = search.count(x), other.count(torch.from_numpy(x))
        with mock.patch.object(_device_rows, "INTERPRET", True):
            device = other.count(torch.from_numpy(x))
        assert (type(counts), counts.dtype, counts.shape) == (np.ndarray, np.int64, (2048,))
        assert same.dtype == device.dtype == torch.int64
        assert counts.tolist() == same.tolist() == device.tolist()
        search, other = search.narrow(counts), other.narrow(same)
    # What was found with one kind is applied to the other.
    assert search.mask(torch.from_numpy(x)).numpy().tolist() == other.mask(x).tolist()
    assert (float(search.threshold), int(search.kept)) == (float(other.threshold), int(other.kept))


def test_a_part_without_tokens():
    parts = [(np.zeros((0, 3), np.float32), {}), (np.array([[1.0, 2.0]], np.float32), {"mask": [[0, 0]]})]
    search = searched(TokenSearch(share=0.5), parts)
    assert (int(search.kept), int(search.total), float(search.threshold)) == (0, 0, math.inf)
    assert float(searched(TokenSearch(share=0.5, largest=False), parts).threshold) == -math.inf
    assert search.mask(np.array([math.inf], np.float32)).tolist() == [False]


def test_on_a_device_nan_counts_as_not_trained():
    x = torch.tensor([[3.0, math.nan, 1.0], [-math.nan, 2.0, 0.0]])
    for ties in ("all", "exact"):
        for largest in (True, False):
            with mock.patch.object(_device_rows, "INTERPRET", True):
                found = top_tokens(x, share=0.5, ties=ties, largest=largest)
                rows = top_tokens(x, share=0.5, ties=ties, largest=largest, scope="row")
            assert found.mask.tolist() == (
                [[True, False, False], [False, True, False]]
                if largest
                else [[False, False, True], [False, False, True]]
            )
            assert (int(found.total), rows.total.tolist(), rows.kept.tolist()) == (4, [2, 2], [1, 1])
    with mock.patch.object(_device_rows, "INTERPRET", True):
        mask = top_tokens(torch.tensor([[math.nan, -math.nan]]), count=1)
    assert (mask.mask.tolist(), int(mask.kept)) == ([[False, False]], 0)


def test_messages():
    search, x = TokenSearch(share=0.5), np.ones((1, 2), np.float32)
    with pytest.raises(
        TypeError,
        match=r"TokenSearch.count\(\): 'scores' must be of the dtype of the search, float32, got float64; "
        r"give TokenSearch dtype='float64', or cast",
    ):
        search.count([[1.0]])
    with pytest.raises(ValueError, match=r"TokenSearch.mask\(\): 0 of 3 rounds are done; call narrow\(\) until all"):
        search.mask(x)
    for name in ("threshold", "kept"):
        with pytest.raises(ValueError, match=rf"TokenSearch.{name}: 0 of 3 rounds are done"):
            getattr(search, name)
    with pytest.raises(ValueError, match=r"TokenSearch.total: no round is done; call narrow\(\)"):
        search.total
    with pytest.raises(
        TypeError,
        match=r"TokenSearch.narrow\(\): 'counts' must be 1-D int64, the sum of what count\(\) gave, got a "
        r"1-D float64",
    ):
        search.narrow(np.zeros(2048))
    with pytest.raises(
        TypeError,
        match=r"'counts' must be 1-D int64, the sum of what count\(\) gave, got an object of type int",
    ):
        search.narrow(sum([]))
    with pytest.raises(ValueError, match=r"TokenSearch.narrow\(\): 'counts' must have length 2048, got 3"):
        search.narrow(np.zeros(3, np.int64))
    once = search.narrow(search.count(x))
    for search_of in (once, TokenSearch(share=0.5).narrow(torch.from_numpy(search.count(x)))):
        for zeros in (np.zeros(2048, np.int64), torch.zeros(2048, dtype=torch.int64)):
            with pytest.raises(
                ValueError,
                match=r"'counts' must be of the same tokens in every round, but 1 of 0 are wanted in round 1",
            ):
                search_of.narrow(zeros)
    done = searched(search, [(x, {})])
    for call in (lambda: done.count(x), lambda: done.narrow(np.zeros(2048, np.int64))):
        with pytest.raises(ValueError, match=r"\(\): all 3 rounds are done; call mask\(\)"):
            call()
    with pytest.raises(ValueError, match=r"TokenSearch.count\(\): 'uid' must name the rows with ties='exact', since"):
        TokenSearch(share=0.5, ties="exact").count(x)
    with pytest.raises(
        ValueError,
        match=r"TokenSearch.count\(\): 'scores' must not be NaN at trained tokens, got NaN at row 0, position 1",
    ):
        search.count(np.array([[0.0, np.nan]], np.float32))
    for options, message in (
        ({}, "give either 'share' or 'count'"),
        ({"share": 2.0}, "'share' must be between 0 and 1, got 2.0"),
        ({"share": 0.1, "ties": "any"}, "'ties' must be one of 'all', 'exact', got 'any'"),
        ({"share": 0.1, "dtype": "bfloat16"}, "'dtype' must be one of 'float32', 'float64', got 'bfloat16'"),
        ({"share": 0.1, "seed": -1}, "'seed' must be at least 0, got -1"),
    ):
        with pytest.raises(ValueError, match=re.escape(f"TokenSearch(): {message}")):
            TokenSearch(**options)

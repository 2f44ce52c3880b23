"""ops.segment_broadcast: the oracle, its laws, and wrong calls."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollmath.ops import gather, segment_broadcast, segment_mean

HOW = ["mean", "sum", "max", "min", "median"]
ROWS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(-8, 8), st.integers(0, 3), st.booleans()), max_size=20)


def columns(rows, dtype=np.float64):
    ids, x, w, valid = ([row[i] for row in rows] for i in range(4))
    return ids, np.array(x, dtype) / 3, np.array(w, dtype) / 4, np.array(valid, bool)


@given(ROWS, st.sampled_from(HOW), st.booleans(), st.booleans(), st.sampled_from([np.float64, np.float32]))
def test_against_the_oracle(oracle, tolerance, rows, how, weighted, masked, dtype):
    ids, x, w, valid = columns(rows, dtype)
    options = {"weights": w if weighted and how in {"mean", "sum"} else None, "valid": valid if masked else None}
    got = segment_broadcast(x, ids, how=how, **options)
    expected = oracle("ops/segment_broadcast.py", "segment_broadcast")(x, ids, how=how, **options)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected, **tolerance(dtype.__name__))


@given(ROWS, st.sampled_from(HOW))
def test_again_changes_nothing_and_order_changes_no_bit(same_bits, rows, how):
    ids, x, w, valid = columns(rows)
    once = segment_broadcast(x, ids, how=how)
    if how != "sum":
        same_bits(segment_broadcast(once, ids, how=how), once)
    if how == "mean":
        weighted = segment_broadcast(x, ids, weights=w + 1)
        same_bits(segment_broadcast(weighted, ids, weights=w + 1), weighted)
        np.testing.assert_allclose(once.sum(), x.sum(), atol=1e-12)
        np.testing.assert_allclose((weighted * (w + 1)).sum(), (x * (w + 1)).sum(), atol=1e-12)
        same_bits(once, gather(segment_mean(x, ids), ids))
    turn = np.random.default_rng(0).permutation(len(ids))
    same_bits(
        segment_broadcast(x[turn], [ids[i] for i in turn], how=how, valid=valid[turn]),
        segment_broadcast(x, ids, how=how, valid=valid)[turn],
    )


def test_rows_that_take_no_part_get_what_the_others_make():
    x, ids = [1.0, 3.0, np.nan, 8.0], ["a", "a", "a", "b"]
    valid = [True, True, False, False]
    assert segment_broadcast(x, ids, valid=valid).tolist()[:3] == [2.0, 2.0, 2.0]
    assert np.isnan(segment_broadcast(x, ids, valid=valid)[3])
    assert segment_broadcast(x, ids, how="sum", valid=valid).tolist() == [4.0, 4.0, 4.0, 0.0]
    # A weight of 0 takes a row out like a mask, and NaN weights are no matter where rows are out.
    assert segment_broadcast(x, ids, how="sum", weights=[1, 1, 0, 1]).tolist() == [4.0, 4.0, 4.0, 8.0]
    assert segment_broadcast(x, ids, weights=[1.0, 1.0, np.nan, 1.0], valid=valid).tolist()[:2] == [2.0, 2.0]
    assert segment_broadcast([], []).shape == (0,)


def test_kinds():
    torch = pytest.importorskip("torch")
    x = torch.tensor([1.0, 2.0, 4.0], dtype=torch.bfloat16)
    got = segment_broadcast(x, torch.tensor([0, 0, 1]), how="max")
    assert (got.dtype, got.tolist()) == (torch.float32, [2.0, 2.0, 4.0])
    assert segment_broadcast([1, 2], [0, 0]).dtype == np.float64
    with pytest.raises(ValueError, match=r"segment_broadcast\(\): 'x' requires grad"):
        segment_broadcast(torch.ones(2, requires_grad=True), [0, 0])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"how": "mode"}, ValueError, r"'how' must be one of 'mean', 'sum', 'max', 'min', 'median', got 'mode'"),
        (
            {"how": "median", "weights": [1, 1, 1]},
            ValueError,
            r"'weights' must be None for how='median', which does not weigh; leave rows out with 'valid'",
        ),
        (
            {"weights": [1, -1, 1]},
            ValueError,
            r"'weights' must be finite and not negative where rows are valid, got -1 at index 1",
        ),
        (
            {"how": "sum", "weights": [1, 1, np.inf]},
            ValueError,
            r"'weights' must be finite and not negative .* got inf",
        ),
        ({"weights": [1, 1]}, ValueError, r"'weights' must have length 3 \(= len\(groups\)\), got 2"),
        ({"valid": [1.0, 0.0, 1.0]}, TypeError, r"'valid' must be bool or integer"),
    ],
)
def test_wrong_calls(options, error, message):
    with pytest.raises(error, match=rf"^segment_broadcast\(\): {message}"):
        segment_broadcast([1.0, 2.0, 3.0], [0, 0, 1], **options)

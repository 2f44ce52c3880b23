"""The core functions of tokens with arguments that almost fit: an exception at most, never a panic."""

import contextlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rollmath import _core

ODD = st.sampled_from([0.0, -0.0, 1.0, -2.5, 5e-324, 1e308, np.inf, -np.inf, np.nan])
SHARE = st.sampled_from([0.0, 0.5, 1.0, -1.0, 2.0, np.nan, np.inf])
LARGE = st.sampled_from([0, 1, 5, 2**32 - 1, 2**63, 2**64 - 1])


def survives(function, *args):
    """Any ordinary exception is a fine answer. A panic is a BaseException and passes through."""
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        function(*args)


@given(data=st.data(), lengths=st.lists(st.integers(0, 4), max_size=4), padded=st.booleans())
def test_tokens_that_almost_fit(data, lengths, padded):
    draw, rows = data.draw, len(lengths)
    total = rows * 4 if padded else sum(lengths)
    sizes = np.array(lengths, np.int64)
    layout = (
        _core.Layout.padded("f", rows, 4, sizes)
        if padded
        else _core.Layout.packed("f", np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))
    )

    def array(kind, n, dtype):
        n = max(n + (draw(st.integers(-1, 1)) if draw(st.integers(0, 7)) == 0 else 0), 0)
        with np.errstate(over="ignore"):
            return np.array(draw(st.lists(kind, min_size=n, max_size=n)), np.float64).astype(dtype)

    dtype = draw(st.sampled_from(["f4", "f8"]))
    x, out = array(ODD, total, dtype), np.zeros(max(total + draw(st.integers(0, 9)) // 9, 0), np.uint8)
    mask = draw(st.sampled_from([None, array(st.integers(0, 2), total, np.uint8)]))
    positions = draw(st.sampled_from([None, array(st.integers(-3, 9), total, np.int64)]))
    words = array(st.integers(0, 9), rows, np.uint64), positions
    per_row = draw(st.booleans())
    weights = draw(st.sampled_from([None, (array(ODD, rows if per_row else total, dtype), per_row)]))
    wanted = draw(st.one_of(st.tuples(SHARE, st.none(), LARGE), st.tuples(st.none(), LARGE, LARGE)))
    lowest, by_row = draw(st.booleans()), draw(st.booleans())
    for ties in (None, words):
        survives(_core.token_top, "f", "x", layout, x, lowest, weights, mask, wanted, by_row, ties, out)
    survives(_core.token_random, "f", layout, mask, wanted, by_row, words, out)
    batch, key, number = (layout, mask, x, lowest), draw(LARGE), draw(st.sampled_from([0, 1, 2, 3, 5, 6, 2**31]))
    for tied in (None, (key, words)):
        survives(_core.token_counts, "f", "x", batch, number, key, tied)
        survives(_core.token_mark, "f", "x", batch, key, tied, out)

"""``expand``: one number a row to its tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath.ops import expand

ROWS = st.lists(st.tuples(st.floats(-4, 4, width=32), st.lists(st.booleans(), max_size=5)), max_size=6)


@given(ROWS, st.sampled_from([np.float32, np.float64]))
def test_the_oracle(oracle, same_bits, rows, dtype):
    x = np.array([v for v, _ in rows], dtype)
    masks = [[int(m) for m in mask] for _, mask in rows]
    expected = oracle("ops/expand.py", "expand")(x, masks)
    ragged = rm.Ragged.from_lists(masks, dtype="int64")
    got = expand(x, mask=ragged)
    assert isinstance(got, rm.Ragged)
    same_bits(got.values, np.array([v for row in expected for v in row], dtype))
    padded = ragged.to_padded(5).astype(bool)
    same_bits(expand(x, mask=padded), got.to_padded(5))
    same_bits(expand(x, mask=padded, lengths=ragged.lengths), got.to_padded(5))
    full = expand(x, lengths=ragged.lengths)
    same_bits(full.values, np.repeat(x, ragged.lengths))
    same_bits(expand(x, lengths=ragged.lengths, width=5), full.to_padded(5))
    out = np.full((len(x), 5), 7, dtype)
    assert expand(x, lengths=ragged.lengths, out=out) is out
    same_bits(out, full.to_padded(5))


def test_kinds():
    torch = pytest.importorskip("torch")
    got = expand(torch.tensor([1.0, 2.0], dtype=torch.bfloat16), lengths=np.array([1, 2]))
    assert got.values.dtype == torch.float32
    assert got.values.tolist() == [1.0, 2.0, 2.0]
    assert expand([1, 2], mask=torch.tensor([[1, 0], [1, 1]])).dtype == np.float64


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: expand([1.0]), ValueError, r"expand\(\): 'lengths' or 'mask' is needed"),
        (lambda: expand([1.0], lengths=[1, 2]), ValueError, r"'x' must have length 2 \(= the number of rows\), got 1"),
        (
            lambda: expand([1.0], lengths=[3], width=2),
            ValueError,
            r"'lengths' must be between 0 and 2 \(= the columns\)",
        ),
        (lambda: expand([1.0], mask=[[1, 0]], width=2), ValueError, "'width' goes with 'lengths' alone"),
        (lambda: expand([1.0], lengths=[-1]), ValueError, "'lengths' must be not negative, got -1 at index 0"),
        (lambda: expand([[1.0]], lengths=[1]), TypeError, "'x' must be 1-D"),
        (lambda: expand([1.0], lengths=[2], out=np.zeros(3)), ValueError, r"'out' must have shape \(2,\), got \(3,\)"),
        (lambda: expand([1.0], lengths=[2], width=1.5), TypeError, "'width' must be an integer"),
        (
            lambda: expand([1.0], lengths=[2], out=np.zeros((1, 2), "f4")),
            TypeError,
            "'out' must be of the kind and dtype",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()

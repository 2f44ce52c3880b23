"""Forest primitives read arrays of any layout, change none, and refuse what is no array of numbers."""

from __future__ import annotations

import numpy as np
import pytest

from rollmath import Forest, ops

#: Three mixed trees, as the caller numbers them; 5 rollouts.
FOREST = Forest.from_parents([2, 4, -1, 2, -1, 3, 0, 3, -1])
#: (name, name of the argument, its length, call).
CALLS = [
    ("up", "leaf_values", 5, lambda x: ops.up(FOREST, x, how="leaf_mean")),
    ("up", "weights", 9, lambda x: ops.up(FOREST, np.arange(5.0), how="mean_of_children", weights=x)),
    ("up", "leaf_values", 5, lambda x: ops.up(FOREST, x, how="leaf_logmeanexp", beta=0.5)),
    ("leaf_stat", "leaf_values", 5, lambda x: ops.leaf_stat(FOREST, x, how="std")),
    ("leaf_stat", "leaf_values", 5, lambda x: ops.leaf_stat(FOREST, x, how="quantile", q=0.3)),
    ("leaf_to_node_weights", "weights", 5, lambda x: ops.leaf_to_node_weights(FOREST, x, np.ones(5)).positive),
    ("leaf_to_node_weights", "advantages", 5, lambda x: ops.leaf_to_node_weights(FOREST, np.ones(5), x).positive),
    ("down", "x", 9, lambda x: ops.down(FOREST, x, how="mean")),
    ("parent", "x", 9, lambda x: ops.parent(FOREST, x)),
    ("root", "x", 9, lambda x: ops.root(FOREST, x)),
]
calls = pytest.mark.parametrize(
    ("who", "name", "n", "call"), CALLS, ids=[f"{k}-{c[0]}-{c[1]}" for k, c in enumerate(CALLS)]
)


@calls
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_layouts(same_bits, who, name, n, call, dtype):
    x = np.linspace(0, 1, n).astype(dtype)
    expected = call(x.copy())
    locked = x.copy()
    locked.setflags(write=False)
    unaligned = np.frombuffer(b"-" + x.tobytes(), dtype=dtype, offset=1)
    layouts = [np.repeat(x, 2)[::2], x[::-1].copy()[::-1], np.stack([x, x], axis=1)[:, 0], locked, unaligned]
    for y in [*layouts, x.astype(x.dtype.newbyteorder(">"))]:
        same_bits(call(y), expected)
        assert y.tolist() == x.tolist()


@calls
def test_kinds(who, name, n, call):
    torch = pytest.importorskip("torch")
    x = np.arange(n) % 3
    expected = call(x.astype(float))
    for y in (x, x.tolist(), x.astype(np.uint8), torch.from_numpy(x), torch.from_numpy(x.astype(float))):
        assert np.asarray(call(y)).tolist() == pytest.approx(expected.tolist(), rel=1e-6, nan_ok=True)
    with pytest.raises(ValueError, match=rf"^{who}\(\): '{name}' requires grad, but no gradient .*; call .detach\(\)"):
        call(torch.ones(n, requires_grad=True))


@calls
@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (lambda n: np.ones(n + 1), ValueError, r"must have length {n} \(= forest.n_(nodes|leaves)\), got {m}"),
        (lambda n: np.ones((n, 1)), TypeError, "must be 1-D, got a 2-D float64 array"),
        (lambda _: 1.0, TypeError, "must be 1-D, got a 0-D float64 array"),
        (lambda n: ["a"] * n, TypeError, "must hold floats, ints or bools, got <U1"),
        (lambda n: np.ones(n, complex), TypeError, "must hold floats, ints or bools, got complex128"),
        (lambda n: [None] * n, TypeError, "must be an array of numbers, got an object of type list that NumPy cannot"),
        (np.ma.ones, TypeError, "is a masked array, whose mask would be lost"),
    ],
)
def test_bad_values(who, name, n, call, bad, error, message):
    with pytest.raises(error, match=rf"^{who}\(\): '{name}' " + message.format(n=n, m=n + 1)):
        call(bad(n))

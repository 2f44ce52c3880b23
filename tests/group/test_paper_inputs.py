"""What every method of one number a row has in common: wrong rows are named, odd but right ones just work."""

from __future__ import annotations

import numpy as np
import pytest

import rollmath as rm

g = rm.group
LENGTHS, YES = [3, 4, 5], [1, 1, 1]

#: Name, what it calls its numbers, a call on them and ids, and how it names its number of rows.
CALLS = [
    ("a_star_po", "rewards", g.a_star_po, "groups"),
    ("adora", "rewards", lambda x, i, **k: g.adora(x, i, LENGTHS[: len(i)], **k), "groups"),
    ("aspo", "advantages", lambda x, i, **k: g.aspo(x, i, LENGTHS[: len(i)], [9] * len(i), correct=YES, **k), "groups"),
    ("bundle_scores", "rewards", lambda x, i, **k: g.bundle_scores(x, i, [0] * len(i), **k).paper, "groups"),
    ("copo", "rewards", lambda x, i, **k: g.copo(x, i, ["x"] * len(i), **k).advantages, "groups"),
    ("empg", "advantages", lambda x, i, **k: g.empg(x, LENGTHS[: len(i)], i, **k), "trajectory"),
    ("opmd", "rewards", g.opmd, "groups"),
    ("riskpo", "rewards", lambda x, i, **k: g.riskpo(x, i, [0] * len(i), **k), "groups"),
    ("single_stream", "rewards", lambda x, i, **k: g.single_stream(x, i, g.BetaBaseline(), **k).advantages, "prompts"),
    ("soft_value", "rewards", g.soft_value, "groups"),
]
functions = pytest.mark.parametrize(("who", "name", "call", "rows"), CALLS, ids=[c[0] for c in CALLS])
IDS = ["p", "p", "q"]


@functions
@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        ([1.0, 2.0], ValueError, r"'{name}' must have length 3 \(= len\({rows}\)\), got 2"),
        ([[1.0, 2.0, 3.0]], TypeError, r"'{name}' must be 1-D, got a 2-D float64 array of shape \(1, 3\)"),
        (["a", "b", "c"], TypeError, r"'{name}' must hold floats, ints or bools, got <U1"),
        ([1.0, None, 2.0], TypeError, r"'{name}' must be an array of numbers, got an object of type list"),
        (
            np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0]),
            TypeError,
            r"'{name}' is a masked array, whose mask would be lo",
        ),
    ],
    ids=range(5),
)
def test_bad_values(who, name, call, rows, x, error, message):
    with pytest.raises(error, match=rf"^{who}\(\): " + message.format(name=name, rows=rows)):
        call(x, IDS)


@functions
@pytest.mark.parametrize(
    ("valid", "error", "message"),
    [
        ([1, 0], ValueError, r"'valid' must have length 3 \(= len\({rows}\)\), got 2"),
        ([1.0, 0.0, 1.0], TypeError, r"'valid' must be bool or integer \(nonzero = True\), got float64"),
    ],
)
def test_bad_masks(who, name, call, rows, valid, error, message):
    with pytest.raises(error, match=rf"^{who}\(\): {message.format(rows=rows)}"):
        call([1.0, 0.0, 1.0], IDS, valid=valid)


@functions
def test_tensors(who, name, call, rows):
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match=rf"^{who}\(\): '{name}' requires grad, but no gradient .*; call .detach\(\)"):
        call(torch.ones(3, requires_grad=True), IDS)
    x = torch.tensor([1.0, 0.0, 1.0], dtype=torch.bfloat16)
    out = call(x, IDS)
    np.testing.assert_array_equal(np.asarray(out), np.asarray(call(np.array([1.0, 0.0, 1.0], np.float32), IDS)))


@functions
def test_inputs_are_not_changed_and_may_be_read_only(who, name, call, rows):
    x = np.array([1.0, 0.0, 1.0])
    x.setflags(write=False)
    valid = np.array([1, 1, 0], dtype=np.uint8)
    valid.setflags(write=False)
    a, b = call(x, IDS, valid=valid), call(x.astype(">f8"), rm.Groups(IDS), valid=valid.view(bool))
    np.testing.assert_array_equal(a, b)


@functions
def test_a_mask_byte_of_two_is_true(who, name, call, rows):
    two = np.array([2, 0, 2], dtype=np.uint8).view(bool)
    x = [1.0, 0.0, 1.0]
    np.testing.assert_array_equal(call(x, IDS, valid=two), call(x, IDS, valid=[1, 0, 1]))

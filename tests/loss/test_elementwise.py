"""What the functions of one number a token share: kinds, shapes, dtypes, and how they refuse."""

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402

from rollmath import Ragged  # noqa: E402
from rollmath.loss import (  # noqa: E402
    _elementwise,
    chord_phi,
    distillation_reward,
    entropy_mask,
    low_probability_weight,
    off_policy_shaping,
)

#: Name of the function, of its first column, of its second if there is one, and the call.
CALLS = [
    ("chord_phi", "logprobs", None, lambda x, _: chord_phi(x)),
    ("off_policy_shaping", "logprobs", None, lambda x, _: off_policy_shaping(x).derivative),
    ("entropy_mask", "entropy", None, lambda x, _: entropy_mask(x, -1.0)),
    ("distillation_reward", "theta", "teacher", lambda x, y: distillation_reward(x, y, coef=0.5)),
    ("low_probability_weight", "advantages", "logprobs", lambda x, y: low_probability_weight(x, y, alpha=0.5)),
]
functions = pytest.mark.parametrize(("who", "first", "second", "call"), CALLS, ids=[c[0] for c in CALLS])
pairs = pytest.mark.parametrize(("who", "first", "second", "call"), [c for c in CALLS if c[2]])
X, Y = np.array([-0.5, -3.0, -1.25, 0.0, -8.0, -0.75]), np.array([-1.0, -0.5, -2.0, -0.25, -1.5, 0.0])

#: How the six numbers are passed, and what they come back as.
KINDS = {
    "float64": (lambda x: x, np.float64),
    "float32": (lambda x: x.astype(np.float32), np.float32),
    "float16": (lambda x: x.astype(np.float16), np.float32),
    "big-endian": (lambda x: x.astype(">f4"), np.float32),
    "strided": (lambda x: np.repeat(x, 2)[::2], np.float64),
    "list": (lambda x: x.tolist(), np.float64),
    "padded": (lambda x: x.reshape(2, 3), np.float64),
    "torch float64": (torch.tensor, torch.float64),
    "torch float32": (lambda x: torch.tensor(x, dtype=torch.float32), torch.float32),
    "torch bfloat16": (lambda x: torch.tensor(x, dtype=torch.bfloat16), torch.float32),
    "torch float16": (lambda x: torch.tensor(x, dtype=torch.float16), torch.float32),
    "torch padded": (lambda x: torch.tensor(x).reshape(3, 2).T, torch.float64),
    "requires grad": (lambda x: torch.tensor(x, requires_grad=True), torch.float64),
}


@functions
@pytest.mark.parametrize("kind", KINDS)
def test_same_kind_in_same_kind_out(who, first, second, call, kind, tolerance):
    make, dtype = KINDS[kind]
    x, y = make(X), make(Y)
    out = call(x, y)
    # bfloat16 and float16 hold these numbers exactly.
    expected = call(np.asarray(X), np.asarray(Y))
    if kind == "torch padded":
        expected = expected.reshape(3, 2).T
    boolean = {np: np.bool_, torch: torch.bool}[torch if isinstance(out, torch.Tensor) else np]
    assert out.dtype == (boolean if who == "entropy_mask" else dtype)
    assert isinstance(out, torch.Tensor) == isinstance(x, torch.Tensor)
    if isinstance(out, torch.Tensor):
        assert not out.requires_grad
    assert tuple(out.shape) == tuple(np.shape(x) if isinstance(x, (list, np.ndarray)) else x.shape)
    limits = tolerance("float64" if dtype in {np.float64, torch.float64} else "float32")
    np.testing.assert_allclose(np.asarray(out), expected.reshape(tuple(out.shape)), **limits)


@functions
def test_ragged_in_ragged_out(who, first, second, call):
    offsets = [0, 2, 2, 6]
    out = call(Ragged(X, offsets), Ragged(Y, offsets))
    assert isinstance(out, Ragged)
    assert out.offsets.tolist() == offsets
    np.testing.assert_array_equal(out.values, call(X, Y))
    tensors = call(Ragged(torch.tensor(X), offsets), Ragged(Y, offsets))
    np.testing.assert_array_equal(tensors.values.numpy(), call(X, Y))


@functions
def test_no_input_is_changed_and_empty_ones_are_fine(who, first, second, call):
    x, y = X.copy(), Y.copy()
    out = call(x, y)
    assert not np.shares_memory(out, x)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)
    x.setflags(write=False)
    call(x, y)
    assert call([], []).shape == (0,)
    assert call(torch.empty(0, 4), torch.empty(0, 4)).shape == (0, 4)
    assert call([0, -1], [0, -1]).shape == (2,)


BAD = [
    (0.5, TypeError, r"{} must be one number a token, \[tokens\] or \[B, T\], got a 0-D float64 array"),
    (np.ones((1, 1, 1)), TypeError, r"{} must be one number a token, .*, got a 3-D float64 array"),
    (torch.ones(1, 1, 1), TypeError, r"{} must be one number a token, .*, got a 3-D float32 array"),
    (["a"], TypeError, r"{} must hold floats, ints or bools, got <U1"),
    (np.ones(1, dtype=complex), TypeError, r"{} must hold floats, ints or bools, got complex128"),
    (
        torch.ones(1, dtype=torch.complex64),
        TypeError,
        r"{} must be a dense tensor of real numbers, got torch.complex64",
    ),
    (
        torch.ones(1).to_sparse(),
        TypeError,
        r"{} must be a dense tensor of real numbers, got torch.float32, torch.sparse",
    ),
    (torch.ones(1, device="meta"), ValueError, r"{} is on the meta device, which holds no numbers"),
    (None, TypeError, r"{} must be an array of numbers, got an object of type NoneType"),
    (np.ma.array([1.0], mask=[1]), TypeError, r"{} is a masked array"),
]


@functions
@pytest.mark.parametrize(("x", "error", "message"), BAD, ids=range(len(BAD)))
def test_bad_columns(who, first, second, call, x, error, message):
    with pytest.raises(error, match=rf"^{who}\(\): " + message.format(f"'{first}'")):
        call(x, [0.0])
    if second:
        with pytest.raises(error, match=rf"^{who}\(\): " + message.format(f"'{second}'")):
            call([0.0], x)


@pairs
def test_nothing_broadcasts(who, first, second, call):
    for x, y in [(X, Y[:5]), (X.reshape(2, 3), Y), (X.reshape(2, 3), Y.reshape(2, 3)[:1]), (X, Y[:1])]:
        with pytest.raises(ValueError, match=rf"^{who}\(\): '{second}' must have shape .* \(= {first}.shape\), got"):
            call(x, y)
    with pytest.raises(ValueError, match=rf"^{who}\(\): '{second}' must have the offsets of '{first}'"):
        call(Ragged(X, [0, 2, 6]), Ragged(Y, [0, 3, 6]))


@pairs
def test_the_first_column_decides_the_kind(who, first, second, call, tolerance):
    out = call(torch.tensor(X, dtype=torch.float32), Y)
    assert out.dtype == torch.float32
    np.testing.assert_allclose(out, call(X, Y), **tolerance("float32"))
    out = call(X, torch.tensor(Y, requires_grad=True))
    assert isinstance(out, np.ndarray)
    np.testing.assert_array_equal(out, call(X, Y))


@pairs
def test_columns_on_two_devices(who, first, second, call, monkeypatch):
    # The one device besides the CPU that every machine has; it holds no numbers, which is said only for the first.
    monkeypatch.setattr(_elementwise, "_dense", lambda who, name, x: x)
    with pytest.raises(ValueError, match=rf"^{who}\(\): '{second}' must be on cpu \(= {first}.device\), got meta"):
        call(torch.ones(2), torch.ones(2, device="meta"))


@pytest.mark.gpu
@functions
def test_on_a_device(who, first, second, call):
    x, y = torch.tensor(X), torch.tensor(Y)
    out = call(x.cuda(), y.cuda())
    assert out.is_cuda
    np.testing.assert_allclose(out.cpu(), call(x, y), rtol=1e-14)
    if second:
        np.testing.assert_allclose(call(x.cuda(), Y).cpu(), call(x, y), rtol=1e-14)

"""Elementary functions against float64."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
triton = pytest.importorskip("triton")
import triton.language as tl  # noqa: E402

from rollmath.kernels import _elementary  # noqa: E402

# The interpreter computes in NumPy, which warns of infinities that are meant.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@triton.jit
def unary(x, y, n, NAME: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(x + at, mask=at < n, other=1.0)
    if NAME == "exp":
        v = _elementary.exp(v)
    if NAME == "expm1":
        v = _elementary.expm1(v)
    if NAME == "log":
        v = _elementary.log(v)
    if NAME == "log1p":
        v = _elementary.log1p(v)
    if NAME == "sigmoid":
        v = _elementary.sigmoid(v)
    if NAME == "tanh":
        v = _elementary.tanh(v)
    tl.store(y + at, v, mask=at < n)


def of(name, x, device):
    x = torch.as_tensor(x, dtype=torch.float32).to(device)
    y, n = torch.empty_like(x), len(x)
    unary[(triton.cdiv(n, 4096),)](x, y, n, NAME=name, BLOCK=4096, enable_fp_fusion=False)
    return y.cpu().numpy()


RNG = np.random.default_rng(0)
NEAR = np.concatenate([RNG.normal(0, scale, 3000) for scale in (1e-6, 1e-3, 0.1, 1, 5)])
POINTS = {
    "exp": np.concatenate([NEAR, np.linspace(-86.8, 88.7, 4000)]),
    "expm1": np.concatenate([NEAR, np.linspace(-25, 88.7, 4000)]),
    "log": np.concatenate([1 + NEAR[:9000], np.exp(np.linspace(-100, 88, 4000)), np.abs(NEAR)]),
    "log1p": np.concatenate([NEAR[:9000], np.abs(NEAR), np.exp(np.linspace(-80, 88, 4000))]),
    "sigmoid": np.concatenate([NEAR, np.linspace(-80, 80, 4000)]),
    "tanh": NEAR,
}


@pytest.mark.parametrize(
    ("name", "ulp"), [("exp", 2), ("expm1", 2), ("log", 2), ("log1p", 2), ("sigmoid", 3), ("tanh", 3)]
)
def test_close_to_float64(name, ulp, device):
    x = POINTS[name].astype(np.float32)
    exact = {
        "exp": np.exp,
        "expm1": np.expm1,
        "log": np.log,
        "log1p": np.log1p,
        "sigmoid": lambda v: 1 / (1 + np.exp(-v)),
        "tanh": np.tanh,
    }[name](x.astype(np.float64))
    got = of(name, x, device)
    spacing = np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)
    worst = (np.abs(got - exact) / spacing).max()
    assert worst <= ulp, (name, worst, x[(np.abs(got - exact) / spacing).argmax()])


@pytest.mark.parametrize(
    ("name", "x", "y"),
    [
        ("exp", [np.nan, np.inf, -np.inf, 0.0, 89.0, -87.5, 1e30, -1e30], [np.nan, np.inf, 0, 1, np.inf, 0, np.inf, 0]),
        ("expm1", [np.nan, np.inf, -np.inf, 0.0, 89.0, -100.0], [np.nan, np.inf, -1, 0, np.inf, -1]),
        ("log", [np.nan, np.inf, 0.0, -1.0, -np.inf, 1.0], [np.nan, np.inf, -np.inf, np.nan, np.nan, 0]),
        ("log1p", [np.nan, np.inf, -1.0, -2.0, 0.0], [np.nan, np.inf, -np.inf, np.nan, 0]),
        ("sigmoid", [np.nan, np.inf, -np.inf, 0.0, -200.0], [np.nan, 1, 0, 0.5, 0]),
        ("tanh", [np.nan, np.inf, -np.inf, 0.0], [np.nan, 1, -1, 0]),
    ],
)
def test_special_numbers(name, x, y, device):
    np.testing.assert_array_equal(of(name, x, device), np.array(y, np.float32))

"""The online step and its fold, tile by tile, and the soft cap."""

import pytest

torch = pytest.importorskip("torch")
triton = pytest.importorskip("triton")

import triton.language as tl  # noqa: E402

from rollmath.kernels._config import FUSION, launching  # noqa: E402
from rollmath.kernels._online import LOG2E, fold, guess, soft_capped, start, step  # noqa: E402


@triton.jit
def tiles(X, OUT, tiles, k, C: tl.constexpr, R: tl.constexpr, CENTRED: tl.constexpr):
    off = tl.arange(0, C)[:, None] * R + tl.arange(0, R)[None, :]
    m, c, l, w, s, v, t, at = start(C)
    h, ref = 0.0, 0.0
    if CENTRED:
        h, ref = guess(tl.load(X + off), k, True)
    for j in range(tiles):
        x = tl.load(X + j * (C * R) + off)
        m, c, l, w, s, v, t, at = step(
            m, c, l, w, s, v, t, at, x, tl.arange(0, C), None, k, h, ref, True, True, CENTRED, True, True
        )
    m, c, l, w, s, v, t = fold(m, c, l, w, s, v, t, h, ref, (tiles * (C * R)).to(tl.float32))
    tl.store(OUT + 0, c)
    tl.store(OUT + 1, l)
    tl.store(OUT + 2, w)
    tl.store(OUT + 3, s)
    tl.store(OUT + 4, v)
    tl.store(OUT + 5, t)


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("scale", [0.1, 3.0, 300.0])
@pytest.mark.parametrize("offset", [0.0, 5000.0])
def test_the_state_is_what_it_says(device, centred, scale, offset):
    torch.manual_seed(0)
    x = (torch.randn(5, 8 * 4) * scale + offset).to(device)
    x[1, 3:20] = -torch.inf if not centred else x[1, 3:20]
    out = torch.zeros(6, device=device)
    k = 0.9
    with launching(x.device):
        tiles[(1,)](x, out, 5, k, C=8, R=4, CENTRED=centred, num_warps=1, **FUSION)
    c, l, w, s, v, t = out.cpu().double()
    k = torch.tensor(k, dtype=torch.float32).double()
    assert c == (x.max().cpu() * k.float()).double()
    d = x.cpu().double().reshape(-1) * k - c
    e = torch.exp2(d)
    finite = d > -torch.inf
    mean = (e[finite] * d[finite]).sum() / e.sum()
    torch.testing.assert_close(l, e.sum(), rtol=5e-7, atol=0)
    torch.testing.assert_close(w, mean * e.sum(), rtol=1e-6, atol=2e-6)
    torch.testing.assert_close(s, (e * e).sum(), rtol=1e-6, atol=0)
    if centred:
        torch.testing.assert_close(v, (e[finite] * (d[finite] - mean) ** 2).sum(), rtol=3e-6, atol=1e-5)
        torch.testing.assert_close(t, d.sum(), rtol=1e-6, atol=1e-4)
    elif not finite.all():
        assert t == -torch.inf


def test_the_variance_of_a_flat_row_does_not_cancel(device):
    # One logit far above many equal ones: about the maximum, the moments would be thirty times the variance.
    x = torch.full((16, 32), -3.0, device=device)
    x[7, 7] = 0.0
    out = torch.zeros(6, device=device)
    with launching(x.device):
        tiles[(1,)](x, out, 16, LOG2E.value, C=8, R=4, CENTRED=True, num_warps=1, **FUSION)
    p = torch.softmax(x.cpu().double().reshape(-1), 0)
    h = -(p * p.log()).sum()
    var = (p * (p.log() + h) ** 2).sum()
    assert abs(out[4].item() / out[1].item() * 0.6931471805599453**2 - var) < 1e-6


@triton.jit
def capped(X, OUT, n, cap, inv_cap, B: tl.constexpr):
    i = tl.arange(0, B)
    x = tl.load(X + i, mask=i < n, other=0.0)
    tl.store(OUT + i, soft_capped(x, cap, inv_cap), mask=i < n)


@pytest.mark.parametrize("cap", [1.0, 30.0, 50.0])
def test_soft_cap(device, cap):
    x = torch.cat([torch.linspace(-4, 4, 4001) * cap, torch.logspace(-30, 30, 60), torch.tensor([0.0])]).to(device)
    out = torch.empty_like(x)
    with launching(x.device):
        capped[(1,)](x, out, len(x), cap, 1 / cap, B=4096, num_warps=4, **FUSION)
    exact = cap * torch.tanh(x.cpu().double() / cap)
    error = (out.cpu().double() - exact).abs()
    assert (error <= 4e-7 * exact.abs()).all()
    assert out.abs().max() <= cap
    odd = torch.tensor([torch.inf, -torch.inf, torch.nan], device=device)
    with launching(x.device):
        capped[(1,)](odd, out, 3, cap, 1 / cap, B=4, num_warps=1, **FUSION)
    assert out[0] == torch.inf
    assert out[1] == -torch.inf
    assert out[2].isnan()

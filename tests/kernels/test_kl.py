"""kernels/kl.py and its way through vocab.kl, against the torch path and float64."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from rollmath import vocab  # noqa: E402
from rollmath.kernels import kl as kernels  # noqa: E402

INF = torch.inf

BOTH = ("reverse", "forward")


def rows(n=3, width=77, dtype=torch.float32, seed=0, scale=3):
    x, ref = torch.randn(2, n, width, generator=torch.Generator().manual_seed(seed)) * scale
    return x.to(dtype), (x + ref / scale).to(dtype)


def run(device, x, ref, g, direction, temperature=1.0, block=64, lanes=8, **options):
    """Divergences and their gradient."""
    inverse = 1 / temperature if not isinstance(temperature, torch.Tensor) else (1 / temperature).float().to(device)
    x, ref, g = x.to(device), ref.to(device), g.to(device)
    same = {"inv_temperature": inverse, "reverse": direction == "reverse"}
    made = kernels.forward(x, ref, **same, lanes=lanes)
    dx = kernels.backward(x, ref, made, g, **same, block=block, **options)
    assert (dx.shape, dx.dtype) == (x.shape, x.dtype)
    return made["kl"].cpu(), dx.cpu()


def exact(x, ref, g, direction, temperature=1.0):
    wide = x.detach().double().requires_grad_()
    t = temperature.double() if isinstance(temperature, torch.Tensor) else temperature
    value = vocab.kl(wide, ref.double(), direction=direction, temperature=t, backend="torch")
    (dx,) = torch.autograd.grad(value, wide, g.double().view(value.shape))
    return value.detach().view(-1), dx


def close(made, expected, atol=1e-6):
    """A few 1e-7 of a divergence in float32, a rounding of a gradient in 16 bits."""
    value, dx = made
    torch.testing.assert_close(value.double(), expected[0], rtol=4e-7, atol=atol, equal_nan=True)
    eps = 2e-7 if dx.dtype == torch.float32 else torch.finfo(dx.dtype).eps / 2 * 1.001
    torch.testing.assert_close(dx.double(), expected[1], rtol=eps, atol=3 * atol, equal_nan=True)


@pytest.mark.parametrize("direction", BOTH)
@pytest.mark.parametrize(
    ("temperature", "dtype"),
    [
        (0.5, torch.float32),
        (torch.tensor([0.3, 1.0, 4.0]), torch.bfloat16),
        (1.0, torch.bfloat16),
        (1.0, torch.float16),
    ],
)
def test_against_float64(device, direction, temperature, dtype):
    x, ref = rows(dtype=dtype)
    g = torch.tensor([1.0, -0.3, 2.0])
    close(run(device, x, ref, g, direction, temperature), exact(x, ref, g, direction, temperature), 2e-6)


@pytest.mark.parametrize("direction", BOTH)
@pytest.mark.parametrize("width", [1, 5, 8, 17, 129])
def test_short_and_odd_rows(device, direction, width):
    x, ref = rows(2, width, torch.bfloat16)
    g = torch.ones(2)
    close(run(device, x, ref, g, direction), exact(x, ref, g, direction))


@pytest.mark.parametrize("direction", BOTH)
def test_offsets_cost_no_digits(device, direction):
    x, ref = ((y * 8).round() / 8 for y in rows(scale=2))
    g = torch.ones(3)
    expected = exact(x, ref, g, direction)
    close(run(device, x + 1000, ref - 500, g, direction), expected)
    for one, other in ((x, x), (x + 1000, x + 1000)):
        value, dx = run(device, one, other, g, direction)
        assert (value == 0).all()
        assert (dx == 0).all()


@pytest.mark.parametrize("direction", BOTH)
def test_impossible_tokens(device, direction):
    x, ref = rows(6, 90)
    for y in (x, ref):
        y[0, 3:80:7] = -INF
        y[1, :40] = -INF
        y[2, :89] = -INF
    # Possible in one of the two; in row 5 with a probability that is 0 in float32 anyway.
    x[3, 60], ref[4, 5] = -INF, -INF
    x[5, 60], ref[5, 60] = -400, -INF
    g = torch.ones(6)
    value, dx = run(device, x, ref, g, direction)
    infinite = [False] * 3 + ([False, True] if direction == "reverse" else [True, False])
    assert value.isinf().tolist() == [*infinite, False]
    twin = x.clone().requires_grad_()
    expected = vocab.kl(twin, ref, direction=direction, backend="torch")
    (gradient,) = torch.autograd.grad(expected.sum(), twin)
    torch.testing.assert_close(value, expected.detach(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(dx, gradient, rtol=1e-6, atol=3e-6, equal_nan=True)
    assert (dx[:3][x[:3] == -INF] == 0).all()


@pytest.mark.parametrize("direction", BOTH)
def test_a_probability_that_vanishes_later_does_not_count(device, direction):
    """The first tokens are likely until the last ones come: that the other row has them impossible changes nothing."""
    x = torch.full((2, 70), -500.0)
    x[:, 0], x[:, 65:] = -300, torch.arange(5.0)
    ref = x.clone()
    ref[:, 66] += 1
    other = ref if direction == "reverse" else x
    other[1, :64] = -INF
    value, _ = run(device, x, ref, torch.ones(2), direction)
    assert value.isfinite().all()
    torch.testing.assert_close(value[0], value[1], rtol=1e-6, atol=1e-7)
    other[1, 65] = -INF
    value, _ = run(device, x, ref, torch.ones(2), direction)
    assert value[1] == INF


@pytest.mark.parametrize("direction", BOTH)
@pytest.mark.parametrize("poison", [torch.nan, INF, -INF])
def test_no_distribution(device, direction, poison):
    x, ref = rows(4)
    x[1], ref[2] = poison, poison
    x[3, 5] = torch.nan
    value, dx = run(device, x, ref, torch.ones(4), direction)
    assert value[0].isfinite()
    assert value[1:].isnan().all()
    # No gradient flows into them: whatever they are, they get none.
    value, dx = run(device, x, ref, torch.tensor([1.0, 0, 0, 0]), direction)
    assert dx[0].isfinite().all()
    assert (dx[1:] == 0).all()


@pytest.mark.parametrize("direction", BOTH)
def test_rows_sum_to_zero(device, direction):
    x, ref = rows(3, 200)
    assert run(device, x, ref, torch.ones(3), direction, block=256, lanes=64)[1].double().sum(1).abs().max() < 3e-6


def test_huge_logits(device):
    x, ref = torch.tensor([[1e30, 0.0], [-1e30, 0.0]]), torch.zeros(2, 2)
    value, _ = run(device, x, ref, torch.ones(2), "reverse")
    torch.testing.assert_close(value, torch.full((2,), 2.0).log())


@pytest.mark.parametrize("direction", BOTH)
@pytest.mark.parametrize("width", [40, 45])
def test_strides_and_dtypes(device, direction, width):
    x, ref = rows(4, width, torch.bfloat16)
    g = torch.linspace(-1, 1, 4)
    expected = exact(x, ref, g, direction)
    padded = torch.full((4, width + 11), 9.0).bfloat16()
    padded[:, :width] = ref
    shifted = torch.full((4 * width + 3,), 9.0).bfloat16()
    shifted[3:] = x.flatten()
    shifted = shifted[3:].view(4, width)
    cut = torch.full((2, 3, width), 9.0).bfloat16()
    cut[:, :2] = x.view(2, 2, width)
    for a, b in (
        (shifted, ref),
        (x, padded[:, :width]),
        (x.t().contiguous().t(), ref),
        (cut[:, :2], ref.view(2, 2, width)),
        (shifted, ref.float()),
    ):
        value, dx = run(device, a, b, g, direction)
        close((value, dx.reshape(4, width)), expected, 2e-6)


@pytest.mark.parametrize("direction", BOTH)
def test_in_place_and_how_rows_are_dealt_out(device, direction):
    x, ref = rows(2, 133, torch.bfloat16)
    g = torch.tensor([0.5, -1.0])
    value, expected = run(device, x, ref, g, direction)
    for parts in (2, 3):
        assert torch.equal(run(device, x, ref, g, direction, parts=parts)[1], expected)
    alone = run(device, x[1:], ref[1:], g[1:], direction)
    assert torch.equal(alone[0], value[1:])
    assert torch.equal(alone[1], expected[1:])
    there = x.clone().to(device)
    assert torch.equal(run(device, there, ref, g, direction, out=there)[1], expected)


@pytest.mark.parametrize("direction", BOTH)
@pytest.mark.parametrize("temperature", [0.7, torch.tensor([0.5, 2.0])])
def test_public_function(device, direction, temperature):
    x, ref = (y.to(device).requires_grad_(i == 0) for i, y in enumerate(rows(2, 40, torch.bfloat16)))
    t = temperature.to(device) if isinstance(temperature, torch.Tensor) else temperature
    results = []
    for backend in ("triton", "torch"):
        x.grad = None
        value = vocab.kl(x, ref, direction=direction, temperature=t, backend=backend)
        # Expanded: every row gets the same 0.3.
        (0.3 * value).sum().backward()
        results.append((value.detach().cpu(), x.grad.cpu()))
    torch.testing.assert_close(*(value for value, _ in results), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(*(grad for _, grad in results), rtol=1 / 128, atol=1e-6)
    with pytest.raises(RuntimeError, match="vocab has no second derivative"):
        torch.autograd.grad(vocab.kl(x, ref, backend="triton").sum(), x, create_graph=True)


def test_nothing_to_do(device):
    for shape in ((0, 5), (2, 0, 5)):
        x = torch.zeros(shape, device=device, requires_grad=True)
        value = vocab.kl(x, x.detach(), backend="triton")
        assert value.shape == shape[:-1]
        value.sum().backward()
        assert x.grad.shape == shape


@pytest.mark.parametrize(
    ("dtypes", "options", "match"),
    [
        ((torch.float64, torch.float32), {}, "backend 'triton' takes logits of 16 or 32 bits, got float64"),
        ((torch.float32, torch.float64), {}, "backend 'triton' takes 'ref_logits' of 16 or 32 bits, got a 2-D float64"),
        ((torch.float32, torch.float32), {"top_k": 2}, "backend 'triton' computes the exact KL only, got top_k=2"),
    ],
)
def test_errors(device, dtypes, options, match):
    x, ref = (torch.zeros(2, 3, dtype=dtype, device=device) for dtype in dtypes)
    with pytest.raises(ValueError, match=rf"^kl\(\): {match}.*; say backend='torch'$"):
        vocab.kl(x, ref, backend="triton", **options)

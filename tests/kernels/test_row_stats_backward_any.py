"""Forward and backward kernels against the torch path in float64, for whatever hypothesis thinks of."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from rollmath.kernels.row_stats import forward  # noqa: E402
from rollmath.kernels.row_stats_backward import OUTPUTS, backward  # noqa: E402
from rollmath.vocab import _torch_rows as plain  # noqa: E402

# A run of the interpreter costs what a hundred runs of ordinary code cost.
FEW = max(12, settings.default.max_examples // 5)


@st.composite
def calls(draw):
    rows, width = draw(st.integers(1, 2)), draw(st.sampled_from([1, 2, 7, 8, 15, 33, 100, 130]))
    made = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    dtype = draw(st.sampled_from([torch.bfloat16, torch.float16, torch.float32]))
    x = torch.randn(rows, width, generator=made) * draw(st.sampled_from([0.01, 1, 4]))
    x = (x + draw(st.sampled_from([0, 0, 100, -1000]))).to(dtype)
    x[torch.rand(rows, width, generator=made) < draw(st.sampled_from([0, 0, 0.2, 0.9, 1]))] = -torch.inf
    if draw(st.booleans()):
        room = torch.zeros(rows, width + 5, dtype=dtype)
        room[:, 3 : 3 + width] = x
        x = room[:, 3 : 3 + width]
    tokens = lambda *shape: torch.randint(-1, width + 1, shape, generator=made)  # noqa: E731
    options = {
        "inv_temperature": draw(st.sampled_from([0.3, 1.0, torch.rand(rows, generator=made) + 0.5])),
        "softcap": draw(st.sampled_from([None, None, 5.0])),
        "mask": draw(st.sampled_from([None, torch.rand(rows, generator=made) < 0.5])),
        "ignore_index": draw(st.sampled_from([None, -1, 0])),
        "ids": tokens(rows, draw(st.sampled_from([1, 3, 20]))),
    }
    if draw(st.booleans()):
        sizes = torch.randint(0, width + 1, (rows,), generator=made)
        sets = [torch.randperm(width, generator=made)[:size] for size in sizes.tolist()]
        options["allowed"] = (torch.cat(sets), torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)]))
    names = draw(st.lists(st.sampled_from(OUTPUTS), min_size=1, unique=True))
    shapes = {name: (rows, options["ids"].shape[1]) if name == "gathered" else (rows,) for name in names}
    grads = {name: torch.randn(shape, generator=made) for name, shape in shapes.items()}
    for g in grads.values():
        g[torch.rand(rows, generator=made) < 0.2] = 0
    return x, tokens(rows), names, grads, options, draw(st.booleans())


def moved(value, device, dtype=None):
    """Tensors of numbers in ``dtype``."""
    if isinstance(value, dict):
        return {name: moved(x, device, dtype) for name, x in value.items()}
    if isinstance(value, tuple):
        return tuple(moved(x, device, dtype) for x in value)
    if isinstance(value, torch.Tensor):
        return value.to(device, dtype if value.is_floating_point() else None)
    return value


@settings(max_examples=FEW, suppress_health_check=list(HealthCheck))
@given(calls())
def test_any_call(device, call):
    x, labels, names, grads, options, in_place = call
    wide = moved(options, "cpu", torch.float64)
    saved = plain.forward(x.double(), labels, outputs=names, **wide)
    expected = plain.backward(x.double(), labels, saved, moved(grads, "cpu", torch.float64), **wide)
    here, labels, options = x.to(device), labels.to(device), moved(options, device)
    kept = forward(here, labels, outputs=names, **options)
    out = here if in_place else None
    made = backward(here, labels, kept, moved(grads, device), **options, out=out, block=64).cpu()
    assert made.dtype == x.dtype
    assert torch.equal(made.isnan(), expected.isnan())
    error, size = (made.double() - expected).abs().nan_to_num(), expected.abs().nan_to_num()
    eps = torch.finfo(x.dtype).eps
    # One rounding, and what a row of gradients of size 1 is off in float32.
    assert (error <= eps / 2 * 1.001 * size + 4e-6 * max(1, float(options["ids"].shape[1]))).all()

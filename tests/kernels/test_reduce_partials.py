"""Sums and maxima of blocks, in a fixed order."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
triton = pytest.importorskip("triton")
import triton.language as tl  # noqa: E402

from rollmath.kernels import reduce_partials as module  # noqa: E402


@triton.jit
def of_blocks(x, out, blocks, SUMS: tl.constexpr, MAXIMA: tl.constexpr, A: tl.constexpr, B: tl.constexpr):
    sums, maxima = module.reduce_partials(x, blocks, SUMS, MAXIMA, A, B, 4)
    tl.store(out + tl.arange(0, A), sums)
    tl.store(out + A + tl.arange(0, B), maxima)


@triton.jit
def of_lanes(x, live, out, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(out, module.block_max(tl.load(x + at), tl.load(live + at) != 0))


def reduced(x, sums, device):
    maxima = len(x) - sums
    sizes = [1 << max(n - 1, 0).bit_length() for n in (sums, maxima)]
    out = torch.full((sum(sizes),), 7.0, dtype=torch.float64, device=device)
    given = torch.tensor(x, dtype=torch.float32).to(device)
    of_blocks[(1,)](given, out, given.shape[1], sums, maxima, *sizes, enable_fp_fusion=False)
    found = out.cpu().numpy()
    return found[:sums], found[sizes[0] :][:maxima]


@pytest.mark.parametrize(("sums", "maxima"), [(1, 1), (3, 2), (5, 1)])
@pytest.mark.parametrize("blocks", [1, 4, 11])
def test_rows(sums, maxima, blocks, device):
    rng = np.random.default_rng(blocks)
    x = rng.standard_normal((sums + maxima, blocks)).astype(np.float32)
    x[0] *= np.float32(1e7)
    found = reduced(x, sums, device)
    np.testing.assert_allclose(found[0], x[:sums].astype(np.float64).sum(1), rtol=1e-14, atol=1e-8)
    np.testing.assert_array_equal(found[1], x[sums:].max(1))


def test_none_and_nan(device):
    low = -np.inf
    x = np.array([[1, 2, 3, 4, 5], [1, np.nan, 0, 0, 0], [low] * 5, [low, 3, low, 4, 2], [1, 2, np.nan, 9, 0]])
    sums, maxima = reduced(x, 2, device)
    np.testing.assert_array_equal(sums, [15, np.nan])
    np.testing.assert_array_equal(maxima, [0, 4, np.nan])


@pytest.mark.parametrize(
    ("x", "live", "largest"),
    [
        ([1, 5, 3, -2], [1, 0, 1, 1], 3),
        ([1, np.nan, 3, 2], [1, 0, 1, 1], 3),
        ([1, np.nan, 3, 2], [1, 1, 1, 1], np.nan),
        ([1, 2, 3, 4], [0, 0, 0, 0], -np.inf),
        ([np.inf, 2, 3, 4], [1, 1, 1, 1], np.inf),
    ],
)
def test_a_block(x, live, largest, device):
    out = torch.empty(1, device=device)
    given = torch.tensor(x, dtype=torch.float32).to(device)
    of_lanes[(1,)](given, torch.tensor(live, dtype=torch.uint8).to(device), out, BLOCK=4)
    np.testing.assert_array_equal(out.cpu().numpy(), np.float32(largest))


@triton.jit
def of_a_long_segment(x, out, n, BLOCK: tl.constexpr):
    total, lost = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
    for start in range(0, n, BLOCK):
        total, lost = module.add(total, lost, tl.load(x + start + tl.arange(0, BLOCK)))
    tl.store(out, module.lane_sum(total, lost))


@pytest.mark.parametrize(
    "x",
    [
        np.full(1600, 0.1),
        np.random.default_rng(0).standard_normal(1600),
        np.resize([1e6, 1e-3, -1e6, 1e-3], 1600),
        np.resize([1.0, np.inf, 2.0], 1600),
        np.resize([np.inf, 1.0, -np.inf], 1600),
        np.resize([1.0, np.nan], 1600),
    ],
    ids=["same", "normal", "cancelling", "inf", "inf - inf", "nan"],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_long_segment(x, device):
    """A lane that adds thousands of numbers loses no more than one that adds two."""
    x = x.astype(np.float32)
    out = torch.empty(1, device=device)
    of_a_long_segment[(1,)](torch.tensor(x).to(device), out, len(x), BLOCK=2, enable_fp_fusion=False)
    exact, size = x.astype(np.float64).sum(), np.abs(x.astype(np.float64)).sum()
    np.testing.assert_allclose(out.item(), exact, rtol=0, atol=1.5e-7 * size if np.isfinite(size) else 0)

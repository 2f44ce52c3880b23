"""kernels/_round.py: stores are rounded as torch rounds, interpreted and compiled."""

import pytest

torch = pytest.importorskip("torch")
triton = pytest.importorskip("triton")

import triton.language as tl  # noqa: E402

from rollmath.kernels._round import INTERPRETED, to_dtype  # noqa: E402


@triton.jit
def _copy(source, out, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(source + at, mask=at < n, other=0.0)
    tl.store(out + at, to_dtype(x, out.dtype.element_ty), mask=at < n)


def hard_cases():
    """Ties, carries, subnormals, the largest numbers, infinities, NaN and noise."""
    ties = torch.arange(0x3F80, 0x3F90, dtype=torch.int32)[:, None] * 65536 + torch.tensor([0x7FFF, 0x8000, 0x8001])
    extremes = torch.tensor([0x7F7F7FFF, 0x7F7F8000, 0x7F7FFFFF, 0x00800000, 0x007FFFFF, 0x00018000, 1, 0x7F800000])
    bits = torch.cat([ties.flatten(), extremes.to(torch.int32), torch.tensor([0x7FC00000, 0x7FFFFFFF])])
    noise = torch.randn(300, generator=torch.Generator().manual_seed(0)) * 10.0 ** torch.arange(300).remainder(70).sub(
        35
    )
    x = torch.cat([bits.to(torch.int32).view(torch.float32), noise])
    return torch.cat([x, -x])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_rounds_as_torch_does(device, dtype):
    x = hard_cases().to(device)
    out = torch.empty_like(x, dtype=dtype)
    _copy[(1,)](x, out, x.numel(), BLOCK=1024, enable_fp_fusion=False)
    assert torch.equal(out.isnan(), x.isnan())
    known = ~x.isnan()
    assert torch.equal(out[known].view(torch.int16), x.to(dtype)[known].view(torch.int16))


def test_rounds_halves_as_torch_does(device):
    x = hard_cases()
    x = x[x.abs() < 65504].to(device)
    out = torch.empty_like(x, dtype=torch.float16)
    _copy[(1,)](x, out, x.numel(), BLOCK=1024, enable_fp_fusion=False)
    assert torch.equal(out.view(torch.int16), x.half().view(torch.int16))


def test_knows_the_interpreter(device):
    assert INTERPRETED.value == (device == "cpu")

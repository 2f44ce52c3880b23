"""Where rows begin: offsets in 64 bits, and alignment that the compiler sees."""

import pytest

torch = pytest.importorskip("torch")
triton = pytest.importorskip("triton")

import triton.language as tl  # noqa: E402

from rollmath.kernels._config import FUSION, launching  # noqa: E402
from rollmath.kernels._rows import next_aligned, row_offset  # noqa: E402


@triton.jit(do_not_specialize=["start", "inner", "outer_stride", "inner_stride"])
def offsets(OUT, rows, start, inner, outer_stride, inner_stride, R: tl.constexpr):
    for i in range(rows):
        at = row_offset(tl.program_id(0) + i, start, inner, outer_stride, inner_stride)
        tl.store(OUT + 2 * i, at)
        tl.store(OUT + 2 * i + 1, next_aligned(at, R))


def computed(device, rows, start, inner, outer_stride, inner_stride):
    out = torch.zeros(rows, 2, dtype=torch.int64, device=device)
    with launching(out.device):
        offsets[(1,)](out, rows, start, inner, outer_stride, inner_stride, R=8, **FUSION)
    at, aligned = out.cpu().unbind(1)
    assert torch.equal(aligned, (at + 7) // 8 * 8)
    return at.tolist()


def test_offsets_beyond_32_bits(device):
    stride = 2**31 - 8
    assert computed(device, 6, 0, 3, 3 * stride, stride) == [i * stride for i in range(6)]
    assert computed(device, 6, 0, 1, 8 * 10**11, 0) == [i * 8 * 10**11 for i in range(6)]
    # 151,936 columns: row 14,135 is the first beyond 2^31.
    assert computed(device, 3, 0, 10**6, 0, 151936 * 7000) == [0, 151936 * 7000, 151936 * 14000]


def test_offset_of_an_unaligned_start(device):
    assert computed(device, 3, 5, 2, 100, 33) == [5, 38, 105]

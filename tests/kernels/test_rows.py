"""Where rows begin: pieces of any strides, alignment, and offsets in 64 bits."""

import pytest

torch = pytest.importorskip("torch")
triton = pytest.importorskip("triton")

import triton.language as tl  # noqa: E402

from rollmath.kernels._config import FUSION, launching  # noqa: E402
from rollmath.kernels._rows import ALIGNED, PEELED, STRIDED, row_offset, rows_of  # noqa: E402


@triton.jit(do_not_specialize=["start", "inner", "outer_stride", "inner_stride"])
def offsets(OUT, rows, start, inner, outer_stride, inner_stride, LAYOUT: tl.constexpr, R: tl.constexpr):
    for i in range(rows):
        tl.store(OUT + i, row_offset(tl.program_id(0) + i, start, inner, outer_stride, inner_stride, LAYOUT, R))


def computed(device, rows, start, inner, outer_stride, inner_stride, layout, vector=8):
    out = torch.zeros(rows, dtype=torch.int64, device=device)
    with launching(out.device):
        offsets[(1,)](out, rows, start, inner, outer_stride, inner_stride, LAYOUT=layout, R=vector, **FUSION)
    return out.tolist()


@pytest.mark.parametrize("layout", [ALIGNED.value, PEELED.value, STRIDED.value])
def test_offsets_beyond_32_bits(device, layout):
    stride = 2**31 - 8
    assert computed(device, 6, 0, 3, 3 * stride, stride, layout) == [i * stride for i in range(6)]
    assert computed(device, 6, 0, 1, 8 * 10**11, 0, layout) == [i * 8 * 10**11 for i in range(6)]
    # 151,936 columns: row 14,135 is the first beyond 2^31.
    wide = computed(device, 3, 0, 10**6, 0, 151936 * 7000, layout)
    assert wide == [0, 151936 * 7000, 151936 * 14000]


def test_offset_of_an_unaligned_start(device):
    assert computed(device, 3, 5, 2, 100, 33, PEELED.value) == [5, 38, 105]


def place(piece, row):
    return piece.start + row // piece.inner * piece.outer_stride + row % piece.inner * piece.inner_stride


def test_pieces_cover_all_rows():
    x = torch.arange(6 * 5 * 4 * 40, dtype=torch.float32).reshape(6, 5, 4, 40)
    for view, pieces in (
        (x, 1),
        (x[:, :, :, :33], 1),
        (x[:, :-1], 1),
        (x[:, :, :-1], 1),
        (x[:, :-1, :-1], 6),
        (x.transpose(0, 1), 5),
        (x[2].transpose(0, 1), 1),
        (x.permute(2, 1, 0, 3), 4),
        (x[:, 1:2, 1:3, 1:], 1),
        (x[3, 2, 1], 1),
        (x[..., ::2], 1),
        (x[..., :1], 1),
    ):
        flat = view.reshape(-1, view.shape[-1])
        rows = list(rows_of(view))
        assert len(rows) == pieces
        assert [p.first_row for p in rows] == [sum(q.count for q in rows[:i]) for i in range(len(rows))]
        assert sum(p.count for p in rows) == len(flat)
        for piece in rows:
            memory = piece.base.as_strided((x.numel(),), (1,), 0)
            for i in range(piece.count):
                at = piece.base.storage_offset() + place(piece, i)
                assert memory[at] == flat[piece.first_row + i, 0]
                last = at + (view.shape[-1] - 1) * piece.column_stride
                assert memory[last] == flat[piece.first_row + i, -1]


def test_layouts():
    flat = torch.zeros(4096, dtype=torch.bfloat16)

    def layout(view):
        (piece,) = rows_of(view)
        return piece.layout

    assert layout(flat.view(64, 64)) == ALIGNED.value
    assert layout(flat.view(64, 64)[:, 8:40]) == ALIGNED.value
    assert layout(flat.view(64, 64)[:, 1:]) == PEELED.value
    assert layout(flat[:3900].view(100, 39)) == PEELED.value
    assert layout(flat[:39].view(1, 39)) == ALIGNED.value
    assert layout(flat.view(64, 64).t()) == STRIDED.value
    assert layout(flat.view(64, 64).float()[:, 4:]) == ALIGNED.value
    assert layout(flat.view(64, 64).float()[:, 2:]) == PEELED.value
    assert list(rows_of(flat.view(64, 64)[:0])) == []


def test_a_storage_that_begins_anywhere():
    # Memory of another library need not begin at a multiple of 16 bytes, and nothing before it may be named.
    numpy = pytest.importorskip("numpy")
    memory = numpy.zeros(101, dtype=numpy.float32)[1:]
    x = torch.from_numpy(memory).view(4, 25)
    (piece,) = rows_of(x)
    assert piece.layout == (STRIDED.value if x.data_ptr() % 16 else PEELED.value)

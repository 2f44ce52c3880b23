"""kernels/_slices.py: rows of several tensors at once."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from rollmath.kernels._rows import ALIGNED, PEELED, STRIDED  # noqa: E402
from rollmath.kernels._slices import like, slices  # noqa: E402


def tensors(dtype=torch.bfloat16):
    """Shapes ``[2, 3, 4, 40]`` of many strides."""
    wide = torch.arange(3 * 4 * 5 * 64).to(dtype).view(3, 4, 5, 64)
    return [
        torch.zeros(2, 3, 4, 40, dtype=dtype),
        wide[:2, :3, :4, :40],
        wide[1:, 1:, 1:, 3:43],
        wide[:2, :3, :4, 1:].narrow(3, 0, 40),
        wide[:2, :3, :4, :40].transpose(0, 1).contiguous().transpose(0, 1),
        torch.zeros(40, 2, 3, 4, dtype=dtype).movedim(0, 3),
        torch.zeros(1, 1, 1, 40, dtype=dtype).expand(2, 3, 4, 40),
    ]


def rows_of(view, piece):
    """The rows as a kernel would find them."""
    base = view.tensor.storage_offset()
    at = [base + view.start + i // piece.inner * view.outer + i % piece.inner * view.step for i in range(piece.rows)]
    return [view.tensor.as_strided((40,), (view.columns,), start) for start in at]


def test_every_row_comes_once_and_in_order():
    for x in tensors():
        for y in tensors():
            done = 0
            for piece in slices(x, y):
                assert piece.first == done
                for tensor, view in zip((x, y), piece.views, strict=True):
                    rows = tensor[:].reshape(-1, 40)[done : done + piece.rows]
                    assert torch.equal(torch.stack(rows_of(view, piece)), rows)
                done += piece.rows
            assert done == 24


@pytest.mark.parametrize(
    ("make", "layout", "launches"),
    [
        (lambda: torch.zeros(6, 64), ALIGNED, 1),
        (lambda: torch.zeros(2, 4, 64)[:, :-1], ALIGNED, 1),
        (lambda: torch.zeros(2, 3, 4, 64)[:, :2, :3], ALIGNED, 2),
        (lambda: torch.zeros(6, 64)[:, 4:40], ALIGNED, 1),
        (lambda: torch.zeros(1, 63), ALIGNED, 1),
        (lambda: torch.zeros(6, 64)[:, 2:], PEELED, 1),
        (lambda: torch.zeros(6, 63), PEELED, 1),
        (lambda: torch.zeros(2, 4, 63)[:, :-1], PEELED, 1),
        (lambda: torch.zeros(6, 63)[1:], PEELED, 1),
        (lambda: torch.zeros(64, 6).t(), STRIDED, 1),
        (lambda: torch.zeros(6, 64)[:, ::2], STRIDED, 1),
        (lambda: torch.zeros(1, 6, 1, 64), ALIGNED, 1),
        (lambda: torch.zeros(64), ALIGNED, 1),
    ],
)
def test_layouts(make, layout, launches):
    pieces = list(slices(make()))
    assert [piece.layout for piece in pieces] == [layout.value] * launches


def test_tensors_are_as_fast_together_as_the_slowest():
    aligned, peeled = torch.zeros(6, 63, dtype=torch.float16)[:, :56], torch.zeros(6, 56, dtype=torch.float16)
    (piece,) = slices(aligned, peeled)
    assert piece.layout == STRIDED.value
    (piece,) = slices(torch.zeros(6, 64), torch.zeros(6, 64, dtype=torch.bfloat16))
    assert piece.layout == ALIGNED.value
    (piece,) = slices(torch.zeros(6, 63), torch.zeros(6, 63, dtype=torch.bfloat16))
    assert piece.layout == STRIDED.value


def test_a_storage_that_begins_anywhere():
    # Memory of another library need not begin at a multiple of 16 bytes, and nothing before it may be named.
    numpy = pytest.importorskip("numpy")
    x = torch.from_numpy(numpy.zeros(101, dtype=numpy.float32)[1:]).view(4, 25)
    (piece,) = slices(x)
    assert piece.layout == (STRIDED.value if x.data_ptr() % 16 else PEELED.value)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_room_for_a_gradient(dtype):
    plain = torch.zeros(6, 63, dtype=dtype)
    for x in (plain, plain[:, :62].t(), torch.zeros(6, 72, dtype=dtype)[:, :64], torch.zeros(3, dtype=dtype)):
        assert like(x).is_contiguous()
    cut = torch.zeros(2, 4, 3, 63, dtype=dtype)
    for x in (plain[:, :62], plain[1:, 1:62], cut[:, :-1], torch.zeros(6, 72, dtype=dtype)[:, :61], cut[0, :, 1:]):
        out = like(x)
        assert out.shape == x.shape
        assert out.dtype == x.dtype
        assert all(piece.layout != STRIDED.value for piece in slices(x, out))
        # No two elements share a place, and little is wasted.
        size = out.untyped_storage().nbytes() // out.element_size()
        assert size <= out.numel() * 1.3 + 16
        places = sum(torch.arange(n).view(-1, *[1] * (out.dim() - 1 - i)) * s
                     for i, (n, s) in enumerate(zip(out.shape, out.stride(), strict=True)))  # fmt: skip
        assert places.unique().numel() == out.numel()


def test_rows_that_are_none():
    assert not list(slices(torch.zeros(0, 5)))
    assert not list(slices(torch.zeros(2, 0, 5), torch.zeros(2, 0, 5)))
    assert like(torch.zeros(2, 0)).shape == (2, 0)

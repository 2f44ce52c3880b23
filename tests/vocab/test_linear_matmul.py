"""Products that are rounded once, with a library that multiplies 16-bit matrices into float32 and without."""

import pytest

torch = pytest.importorskip("torch")

from rollmath import vocab  # noqa: E402
from rollmath.vocab import _linear_matmul  # noqa: E402

#: What the library can: products into float32, and adding them up.
LIBRARIES = [(False, False), (True, False), (True, True)]


@pytest.fixture(params=LIBRARIES, ids=["neither", "products", "sums too"])
def library(request, monkeypatch):
    """A CPU that takes ``out_dtype`` as a GPU does, and notes it."""
    seen = []
    plain, plain_sum = torch.mm, torch.addmm

    def mm(a, b, *, out_dtype=None, out=None):
        if out_dtype is None:
            return plain(a, b, out=out)
        assert a.dtype == b.dtype != out_dtype == out.dtype == torch.float32
        seen.append("mm")
        return out.copy_(plain(a.float(), b.float()))

    def addmm(x, a, b, *, out_dtype=None, out=None):
        if out_dtype is None:
            return plain_sum(x, a, b, out=out)
        assert a.dtype == b.dtype != out_dtype == x.dtype == torch.float32
        seen.append("addmm")
        return out.copy_(plain_sum(x, a.float(), b.float()))

    monkeypatch.setattr(torch, "mm", mm)
    monkeypatch.setattr(torch, "addmm", addmm)
    halves = {torch.float16, torch.bfloat16}
    monkeypatch.setattr(
        _linear_matmul, "_supported", lambda device, dtype: request.param if dtype in halves else (False, False)
    )
    return request.param, seen


@pytest.mark.parametrize("out", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("b", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("a", [torch.float32, torch.bfloat16])
def test_products_and_sums(library, a, b, out):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 64, generator=generator).to(a)
    y = torch.randn(64, 7, generator=generator).to(b)
    exact = x.double() @ y.double()
    # Rows further apart than they are long, as those of a chunk are.
    into = torch.zeros(5, 8, dtype=out)[:, :7]
    unit = torch.finfo(out).eps
    made = _linear_matmul.product(x, y, into)
    assert made.data_ptr() == into.data_ptr()
    torch.testing.assert_close(into.double(), exact, rtol=0.51 * unit, atol=1e-5)
    into.fill_(1)
    _linear_matmul.add_product(into, x, y)
    torch.testing.assert_close(into.double(), exact + 1, rtol=1.1 * unit, atol=2e-2 if unit > 1e-3 else 1e-5)


@pytest.mark.parametrize("logits_dtype", [None, "float32"])
@pytest.mark.parametrize("workspace", [1 << 20, 128 * 4 * 8])
def test_the_layer_is_the_same_with_any_library(library, logits_dtype, workspace):
    generator = torch.Generator().manual_seed(0)
    hidden, weight, bias = (
        torch.randn(shape, generator=generator).bfloat16().requires_grad_() for shape in ((40, 32), (600, 32), (600,))
    )
    labels = torch.randint(600, (40,), generator=generator)
    options = {"logits_dtype": logits_dtype, "workspace": workspace}
    stats = vocab.linear_row_stats(hidden, weight, labels, bias=bias, **options)
    (stats.logprob.sum() + stats.entropy.sum()).backward()
    exact = [x.detach().double().requires_grad_() for x in (hidden, weight, bias)]
    want = vocab.row_stats(exact[0] @ exact[1].T + exact[2], labels)
    (want.logprob.sum() + want.entropy.sum()).backward()
    atol = 5e-6 if logits_dtype else 0.1
    torch.testing.assert_close(stats.logprob.double(), want.logprob, rtol=0, atol=atol)
    for mine, other in zip((hidden, weight, bias), exact, strict=True):
        # Where gradients of float32 logits are rounded to 16 bits before they are multiplied, that is all there is.
        limit = 0.02 if logits_dtype is None else 3e-3
        assert (mine.grad.double() - other.grad).norm() < limit * other.grad.norm()
    products, sums = library[0]
    small = workspace < 1 << 20
    assert ("mm" in library[1]) == (products and (small or logits_dtype is not None))
    assert ("addmm" in library[1]) == (sums and small)


def test_a_cpu_has_no_such_products():
    assert not _linear_matmul.has_wide_products(torch.device("cpu"), torch.bfloat16)
    assert _linear_matmul.has_wide_products(torch.device("cpu"), torch.float32)

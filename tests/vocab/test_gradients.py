"""Gradients and memory of the vocabulary reductions."""

import pytest

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from rollmath import vocab  # noqa: E402

ALL = ("logprob", "entropy", "lse", "sum_p_squared")
SMOOTH = tuple(name for name in vocab.RowStats._fields if name != "argmax")


@pytest.mark.parametrize(
    ("outputs", "temperature"),
    [
        *(((name,), 0.7) for name in SMOOTH),
        *((SMOOTH, t) for t in (1.0, 0.7, "rows")),
        (ALL, 1.0),
        (("entropy", "sum_p_squared"), "rows"),
    ],
)
def test_gradcheck(outputs, temperature):
    torch.manual_seed(1)
    x = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    y, ids = torch.randint(6, (3,)), torch.randint(6, (3, 2))
    t = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64) if temperature == "rows" else temperature
    given = ids if "gathered" in outputs else None

    def reduce(x):
        stats = vocab.row_stats(x, y, outputs=outputs, temperature=t, ids=given)
        return tuple(s for s in stats if s is not None)

    assert torch.autograd.gradcheck(reduce, (x,))


@pytest.mark.parametrize(
    ("options", "width"),
    [
        ({"softcap": 1.5}, 6),
        ({"mask": torch.tensor([True, False, True])}, 6),
        ({"ignore_index": 2}, 6),
        ({"allowed": vocab.TokenSets.of_lists([[0, 5, 3], [1], [2, 4, 0, 1]])}, 6),
        ({"allowed": vocab.TokenSets.of_lists([[0, 5], [1, 2, 3], [2, 4]]), "softcap": 2.0, "temperature": 0.6}, 6),
        # Rows so long that those to skip are picked out.
        ({"mask": torch.tensor([True, False, True])}, 2100),
        ({"allowed": vocab.TokenSets.of_lists([[0, 2050], [1, 2, 3], [2, 4]]), "ignore_index": 2}, 2100),
    ],
)
def test_gradcheck_of_options(options, width):
    torch.manual_seed(5)
    x = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    y, ids = torch.tensor([0, 2, 4]), torch.tensor([[5, 0], [1, 1], [2, 4]])
    beyond = torch.linspace(-9, -3, width - 6, dtype=torch.float64).expand(3, -1)

    def reduce(x):
        stats = vocab.row_stats(torch.cat([x, beyond], 1), y, outputs=SMOOTH, ids=ids, **options)
        # An impossible token has a log-probability of -inf, which no difference can tell from another.
        return tuple(s.where(s.isfinite(), 0) for s in stats if s is not None)

    assert torch.autograd.gradcheck(reduce, (x,))


def test_gradcheck_of_a_slice():
    x = torch.randn(2, 4, 5, dtype=torch.float64, requires_grad=True)
    y = torch.randint(5, (2, 3))
    assert torch.autograd.gradcheck(lambda x: vocab.logprobs(x[:, :-1], y, temperature=0.7), (x,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradient_against_autograd_in_float64(dtype):
    torch.manual_seed(2)
    x = (torch.randn(16, 300) * 4).to(dtype).requires_grad_()
    y = torch.randint(300, (16,))
    g, h = torch.randn(16), torch.randn(16)
    stats = vocab.row_stats(x, y)
    (g * stats.logprob + h * stats.entropy).sum().backward()
    wide = x.detach().double().requires_grad_()
    logp = torch.log_softmax(wide, 1)
    (g * logp[torch.arange(16), y] - h * (logp.exp() * logp).sum(1)).sum().backward()
    assert x.grad.dtype == dtype
    # One rounding to the dtype of the logits, on top of the error of float32.
    bound = torch.finfo(dtype).eps * wide.grad.abs() + 2e-6
    assert ((x.grad.double() - wide.grad).abs() <= bound).all()


def test_gradients_of_a_row_sum_to_zero():
    x = torch.randn(8, 1000, requires_grad=True)
    stats = vocab.row_stats(x, torch.randint(1000, (8,)))
    (stats.logprob + 3 * stats.entropy).sum().backward()
    assert x.grad.sum(1).abs().max() < 1e-5


def test_minus_inf_gets_no_gradient():
    x = torch.randn(3, 5, dtype=torch.float64)
    x[:, 2] = -torch.inf
    x.requires_grad_()
    stats = vocab.row_stats(x, torch.tensor([0, 2, 4]), outputs=ALL)
    stats.logprob.sum().backward(retain_graph=True)
    p = torch.softmax(x.detach(), 1)
    assert (x.grad[:, 2] == 0).all()
    # The label of row 1 is impossible: the others get -p.
    assert torch.allclose(x.grad[1], -p[1])
    x.grad = None
    (stats.entropy + stats.lse + stats.sum_p_squared).sum().backward()
    assert torch.isfinite(x.grad).all()
    assert (x.grad[:, 2] == 0).all()


def test_a_large_gradient_meets_minus_inf():
    x = torch.tensor([[0.0, 1.0, -torch.inf]], requires_grad=True)
    (1e30 * vocab.row_stats(x, outputs=("entropy",)).entropy).backward()
    assert torch.isfinite(x.grad).all()
    assert x.grad[0, 2] == 0


@pytest.mark.parametrize("poison", [torch.nan, torch.inf, -torch.inf])
def test_rows_that_are_masked_out_cannot_poison(poison):
    x = torch.randn(3, 4)
    x[1] = poison
    x.requires_grad_()
    stats = vocab.row_stats(x, torch.tensor([0, 1, 2]), outputs=ALL)
    keep = torch.tensor([True, False, True])
    sum(torch.where(keep, s, 0).sum() for s in stats if s is not None).backward()
    assert (x.grad[1] == 0).all()
    assert torch.isfinite(x.grad).all()


def test_no_second_derivative():
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"vocab has no second derivative; .* without create_graph=True"):
        torch.autograd.grad(vocab.logprobs(x, torch.tensor([0, 1])).sum(), x, create_graph=True)


def test_unused_outputs_cost_no_gradient():
    x = torch.randn(2, 3, requires_grad=True)
    vocab.row_stats(x, torch.tensor([0, 1])).logprob.sum().backward()
    alone = x.grad.clone()
    x.grad = None
    vocab.logprobs(x, torch.tensor([0, 1])).sum().backward()
    assert torch.equal(alone, x.grad)


class _Largest(TorchDispatchMode):
    """Bytes of the largest tensor that any operation made."""

    def __init__(self, *known):
        super().__init__()
        self.known, self.nbytes = {x.untyped_storage().data_ptr() for x in known}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(x, torch.Tensor) and x.untyped_storage().data_ptr() not in self.known:
                self.nbytes = max(self.nbytes, x.untyped_storage().nbytes())
        return out


@pytest.mark.parametrize("cut", [False, True])
def test_no_copy_of_the_logits(monkeypatch, cut):
    monkeypatch.setattr("rollmath.vocab._chunks._CPU_BYTES", 16 << 10)
    x = torch.randn(3, 17, 500).bfloat16()
    logits = x[:, :-1] if cut else x
    y = torch.randint(500, logits.shape[:-1])
    t = torch.rand(logits.shape[:-1]) + 0.5
    with _Largest(x) as forward:
        vocab.row_stats(logits, y, outputs=ALL, temperature=t)
    assert forward.nbytes <= 16 << 10
    leaf = logits.detach().clone().requires_grad_()
    stats = vocab.row_stats(leaf, y, outputs=ALL, temperature=t)
    with _Largest(leaf) as backward:
        sum(s.sum() for s in stats if s is not None).backward()
    # The gradient itself, in bfloat16, and nothing of its size in float32.
    assert backward.nbytes == leaf.numel() * 2


class _Fresh(TorchDispatchMode):
    """Tensors of at least ``nbytes`` that operations made, kept so that no address is used twice."""

    def __init__(self, nbytes, *known):
        super().__init__()
        self.nbytes, self.known, self.made = nbytes, {x.untyped_storage().data_ptr() for x in known}, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, (tuple, list)) else [out]:
            if not isinstance(x, torch.Tensor) or x.untyped_storage().nbytes() < self.nbytes:
                continue
            if x.untyped_storage().data_ptr() not in self.known:
                self.known.add(x.untyped_storage().data_ptr())
                self.made.append(x)
        return out


@pytest.mark.parametrize(
    ("outputs", "dtype", "forward", "backward"),
    [
        (("logprob",), torch.float32, 1, 1),
        (("logprob",), torch.bfloat16, 1, 2),
        (ALL, torch.float32, 2, 2),
        (ALL, torch.bfloat16, 2, 3),
        (("var_logprob",), torch.float32, 2, 3),
    ],
)
def test_chunks_share_their_memory(monkeypatch, outputs, dtype, forward, backward):
    # 16 chunks; a fresh buffer for each costs more than the arithmetic. Backward also makes the gradient.
    width = 512
    monkeypatch.setattr("rollmath.vocab._chunks._CPU_BYTES", 2 * 4 * width * 4)
    x = torch.randn(64, width).to(dtype).requires_grad_()
    y = torch.randint(width, (64,))
    with _Fresh(4 * width * 4, x) as made:
        stats = vocab.row_stats(x, y, outputs=outputs)
    assert len(made.made) == forward
    with _Fresh(4 * width * 4, x) as made:
        sum(s.sum() for s in stats if s is not None).backward()
    assert len(made.made) == backward

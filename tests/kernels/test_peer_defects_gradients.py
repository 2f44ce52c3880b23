"""What other kernels got wrong in the gradients of a row (the table is in docs/kernels.md)."""

import threading

import pytest

torch = pytest.importorskip("torch")

from rollmath import vocab  # noqa: E402

BF16, F32 = torch.bfloat16, torch.float32
WIDE = 9001


@pytest.fixture(params=["triton", "torch"])
def backend(request, device):
    return request.param


def logits_of(*shape, dtype=F32, seed=0, scale=3.0):
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale).to(dtype)


def loss_of(stats, weights):
    """A sum of what was asked for, with a weight for each row."""
    return sum((w * s).sum() for w, s in zip(weights, (stats.logprob, stats.entropy), strict=True))


def gradient(logits, labels, weights, device, **options):
    leaf = logits.to(device).detach().requires_grad_()
    options = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in options.items()}
    stats = vocab.row_stats(leaf, labels.to(device), **options)
    loss_of(stats, [w.to(device) for w in weights]).backward()
    return leaf.grad.cpu()


def exact(logits, labels, weights, temperature=1.0):
    """In float64, in closed form: autograd of p log p is NaN at p = 0."""
    t = torch.as_tensor(temperature).double().reshape(-1, 1)
    logp = torch.log_softmax(logits.double() / t, -1)
    p = logp.exp()
    plogp = torch.where(p > 0, p * logp, 0)
    entropy = -plogp.sum(-1, keepdim=True)
    of_logprob = torch.nn.functional.one_hot(labels, logits.shape[-1]) - p
    of_entropy = -(plogp + p * entropy)
    g, h = (w.double()[:, None] for w in weights)
    return (g * of_logprob + h * of_entropy) / t


def near(made, wanted, dtype=F32):
    # One rounding to the dtype of the logits, on top of the error of float32.
    bound = 0.51 * torch.finfo(dtype).eps * wanted.abs() + 2e-6
    assert made.dtype == dtype
    assert ((made.double() - wanted).abs() <= bound).all(), (made.double() - wanted).abs().max().item()


def weights_of(n, seed=9):
    made = torch.Generator().manual_seed(seed)
    return [torch.randn(n, generator=made) for _ in range(2)]


@pytest.mark.parametrize("dtype", [F32, BF16])
def test_entropy_has_a_gradient(backend, device, dtype):
    x, y, w = logits_of(4, 600, dtype=dtype), torch.arange(4), weights_of(4)
    t = torch.tensor([0.5, 1.0, 1.3, 2.0])
    near(gradient(x, y, w, device, temperature=t, backend=backend), exact(x, y, w, t), dtype)


def test_minus_inf_makes_no_nan_gradient(backend, device):
    # nan_to_num on p log p, or where(), mends the value and leaves NaN in the gradient.
    x = logits_of(4, WIDE)
    x[0, torch.rand(WIDE, generator=torch.Generator().manual_seed(1)) < 0.5] = -torch.inf
    x[1, :8200] = -torch.inf
    x[2, 1:] = -torch.inf
    x[:3, 0] = 0.0
    y, w = torch.zeros(4, dtype=torch.int64), weights_of(4)
    made = gradient(x, y, w, device, backend=backend)
    assert made.isfinite().all()
    assert (made[x == -torch.inf] == 0).all()
    near(made, exact(x, y, w))


def test_gradients_of_a_row_add_up_to_zero(backend, device):
    # An entropy kept in 16 bits moves all of the row: the sum is then 3e-2.
    x, y, w = logits_of(3, WIDE, dtype=BF16, scale=0.5).float(), torch.arange(3), weights_of(3)
    made = gradient(x, y, w, device, backend=backend)
    assert made.double().sum(-1).abs().max() < 2e-6


def test_small_probabilities_keep_their_gradient(backend, device):
    # A filter that skips blocks of small probabilities would lose all of these.
    x = logits_of(2, WIDE, scale=0.1)
    x[:, 17] = 12.0
    y, w = torch.tensor([17, 0]), [torch.zeros(2), torch.ones(2)]
    made, wanted = gradient(x, y, w, device, backend=backend).double(), exact(x, y, w)
    assert (wanted.abs() < 1e-3).float().mean() > 0.99
    assert ((made - wanted).abs() <= 1e-4 * wanted.abs() + 1e-12).all()


@pytest.mark.parametrize("dtype", [F32, BF16])
def test_in_place_has_the_same_bits(backend, device, dtype):
    # The label's own logit may be overwritten before it is read, or its gradient lost.
    x, w = logits_of(3, WIDE, dtype=dtype), weights_of(3)
    y = torch.tensor([0, 4097, WIDE - 1])
    wanted = gradient(x, y, w, device, backend=backend)
    leaf = x.to(device).requires_grad_()
    logits = leaf * 1  # a tensor that nobody else needs
    seen = []
    logits.register_hook(lambda g: seen.append(g.data_ptr()))
    stats = vocab.row_stats(logits, y.to(device), inplace_backward=True, backend=backend)
    address = logits.data_ptr()
    loss_of(stats, [v.to(device) for v in w]).backward()
    assert seen == [address]
    assert torch.equal(leaf.grad.cpu(), wanted)


def test_rows_without_a_gradient_are_exactly_zero(backend, device):
    x, y = logits_of(4, 500), torch.tensor([1, -100, 3, 4])
    x[2] = torch.nan
    w = [torch.tensor([1.0, 1.0, 0.0, 1.0]), torch.tensor([0.5, 0.0, 0.0, 0.0])]
    mask = torch.tensor([True, True, True, False])
    leaf = x.to(device).requires_grad_()
    options = {"ignore_index": -100, "mask": mask.to(device), "backend": backend}
    stats = vocab.row_stats(leaf, y.to(device), **options)
    keep = [torch.where(v != 0, s.cpu(), 0) for v, s in zip(w, stats[:2], strict=True)]
    sum((v * s).sum() for v, s in zip(w, keep, strict=True)).backward()
    made = leaf.grad.cpu()
    assert (made[1:] == 0).all()
    near(made[:1], exact(x[:1], y[:1], [v[:1] for v in w]))


@pytest.mark.parametrize("view", ["padded vocabulary", "cut sequence", "transposed"])
def test_gradients_of_views(backend, device, view):
    # A backward that takes the width for the stride writes into the rows of others.
    made = {
        "padded vocabulary": lambda: logits_of(2, 3, 530)[..., :517],
        "cut sequence": lambda: logits_of(2, 4, 517)[:, :-1],
        "transposed": lambda: logits_of(517, 3, 2).permute(2, 1, 0),
    }[view]
    base = made()
    whole = base._base if base._base is not None else base
    leaf = whole.detach().to(device).requires_grad_()
    logits = leaf.as_strided(base.shape, base.stride(), base.storage_offset())
    y, w = torch.arange(6).reshape(2, 3), weights_of(6)
    stats = vocab.row_stats(logits, y.to(device), backend=backend)
    loss_of(stats, [v.reshape(2, 3).to(device) for v in w]).backward()
    wanted = torch.zeros(whole.shape, dtype=torch.float64)
    part = exact(base.reshape(6, 517), y.reshape(-1), w).reshape(2, 3, 517)
    wanted.as_strided(base.shape, base.stride(), base.storage_offset()).copy_(part)
    near(leaf.grad.cpu(), wanted)


def test_only_logits_and_a_few_numbers_are_kept(backend, device):
    # Others keep the softmax in float32 (4 to 8 bytes an element) or make a one-hot of int64.
    x = logits_of(4, 8192, dtype=BF16).to(device).requires_grad_()
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        vocab.row_stats(x, torch.arange(4, device=device), backend=backend)
    kept.pop(x.untyped_storage().data_ptr(), None)
    assert sum(kept.values()) <= 4 * 64


def test_nothing_is_kept_without_a_gradient(backend, device):
    x, y = logits_of(2, 100).to(device), torch.tensor([1, 2], device=device)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        made = vocab.row_stats(x, y, backend=backend)
        with torch.no_grad():
            vocab.row_stats(x.requires_grad_(), y, backend=backend)
    assert not kept
    assert made.logprob.grad_fn is None


def test_backward_in_another_thread(backend, device):
    # Where Triton keeps an allocator per thread, kernels that need one fail in the thread of autograd.
    x, y, w = logits_of(3, 700), torch.arange(3), weights_of(3)
    leaf = x.to(device).requires_grad_()
    loss = loss_of(vocab.row_stats(leaf, y.to(device), backend=backend), [v.to(device) for v in w])
    thread = threading.Thread(target=loss.backward)
    thread.start()
    thread.join()
    near(leaf.grad.cpu(), exact(x, y, w))


def test_one_number_flows_back_to_all_rows(backend, device):
    # The gradient of a sum is one number with stride 0.
    x, y = logits_of(5, 300), torch.arange(5)
    leaf = x.to(device).requires_grad_()
    vocab.row_stats(leaf, y.to(device), outputs=("logprob",), backend=backend).logprob.sum().backward()
    near(leaf.grad.cpu(), exact(x, y, [torch.ones(5), torch.zeros(5)]))


def test_upstream_gradients_with_strides(backend, device):
    x, y, w = logits_of(4, 300), torch.arange(4), weights_of(4)
    leaf = x.to(device).requires_grad_()
    stats = vocab.row_stats(leaf, y.to(device), backend=backend)
    strided = [torch.stack([v, torch.full((4,), torch.nan)], 1).to(device)[:, 0] for v in w]
    torch.autograd.backward([stats.logprob, stats.entropy], strided)
    near(leaf.grad.cpu(), exact(x, y, w))

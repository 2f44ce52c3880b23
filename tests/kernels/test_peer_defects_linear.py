"""What fused output layers got wrong, asked of ours (the table is in docs/kernels.md)."""

import pytest

torch = pytest.importorskip("torch")

from rollmath import vocab  # noqa: E402

BF16, F32 = torch.bfloat16, torch.float32


@pytest.fixture(params=["triton", "torch"])
def backend(request, device):
    return request.param


def layer(rows, width, tokens, dtype=F32, seed=0, scale=0.3):
    made = torch.Generator().manual_seed(seed)
    hidden = (torch.randn(rows, width, generator=made) * scale).to(dtype)
    weight = (torch.randn(tokens, width, generator=made) * scale).to(dtype)
    return hidden, weight, torch.randint(tokens, (rows,), generator=made)


def gradients(hidden, weight, labels, device, weights, **options):
    h, w = (x.to(device).detach().requires_grad_() for x in (hidden, weight))
    stats = vocab.linear_row_stats(h, w, labels.to(device), **options)
    g, e = (x.to(device) for x in weights)
    ((g * stats.logprob).sum() + (e * stats.entropy).sum()).backward()
    values = [stats.logprob.detach().cpu(), stats.entropy.detach().cpu()]
    return values, h.grad.cpu(), w.grad.cpu()


def exact(hidden, weight, labels, weights, temperature=1.0):
    h, w = (x.detach().double().clone().requires_grad_() for x in (hidden, weight))
    logp = torch.log_softmax(h @ w.T / torch.as_tensor(temperature).double().reshape(-1, 1), -1)
    logprob, entropy = logp.gather(-1, labels[:, None])[:, 0], -(logp.exp() * logp).sum(-1)
    ((weights[0].double() * logprob).sum() + (weights[1].double() * entropy).sum()).backward()
    return [logprob.detach(), entropy.detach()], h.grad, w.grad


def weights_of(rows):
    made = torch.Generator().manual_seed(5)
    return torch.randn(rows, generator=made), torch.randn(rows, generator=made)


@pytest.mark.parametrize(("width", "tokens"), [(1, 33), (7, 100), (129, 301)])
def test_any_hidden_size_and_vocabulary(backend, device, width, tokens):
    hidden, weight, labels = layer(5, width, tokens)
    t = torch.tensor([0.5, 1.0, 1.0, 2.0, 3.0])
    options = {"temperature": t.to(device), "backend": backend, "logits_dtype": "float32"}
    made = gradients(hidden, weight, labels, device, weights_of(5), **options)
    wanted = exact(hidden, weight, labels, weights_of(5), t)
    for a, b in zip([*made[0], *made[1:]], [*wanted[0], *wanted[1:]], strict=True):
        assert a.dtype == F32
        torch.testing.assert_close(a.double(), b, rtol=1e-4 if device == "cuda" else 1e-5, atol=1e-5)


def test_gradients_of_chunks_are_added_in_float32(device):
    # 200 rows in chunks of a few, each of which adds a little: sums in bfloat16 stop growing.
    hidden, weight, labels = layer(200, 16, 64, dtype=BF16)
    weights = torch.ones(200), torch.zeros(200)
    options = {"workspace": 4096, "backend": "torch", "logits_dtype": "float32"}
    made = gradients(hidden, weight, labels, device, weights, **options)
    wanted = exact(hidden, weight, labels, weights)
    for a, b in zip(made[1:], wanted[1:], strict=True):
        assert a.dtype == BF16
        # The gradient of logits is rounded to bfloat16 once, and each result once.
        assert ((a.double() - b).norm() / b.norm()).item() < 4e-3


def test_logits_may_keep_their_digits(backend, device):
    # Logits near 10 that are rounded to bfloat16 move a log-probability by up to 0.03.
    hidden, weight, labels = layer(6, 64, 200, dtype=BF16, scale=1.0)
    arguments = hidden.to(device), weight.to(device), labels.to(device)
    made = vocab.linear_row_stats(*arguments, logits_dtype="float32", backend=backend)
    (logprob, entropy), _, _ = exact(hidden, weight, labels, weights_of(6))
    assert (made.logprob.cpu().double() - logprob).abs().max() < 1e-5
    assert (made.entropy.cpu().double() - entropy).abs().max() < 1e-5


def test_ignored_rows_of_a_layer_are_written(backend, device):
    hidden, weight, labels = layer(4, 8, 40)
    labels[1] = -100
    before = torch.are_deterministic_algorithms_enabled()
    torch._C._set_deterministic_algorithms(True, warn_only=True)
    try:
        h = hidden.to(device).requires_grad_()
        options = {"ignore_index": -100, "outputs": ("logprob",), "backend": backend}
        made = vocab.linear_row_stats(h, weight.to(device), labels.to(device), **options).logprob
        made.sum().backward()
    finally:
        torch._C._set_deterministic_algorithms(before)
    assert made[1] == 0
    assert made.isfinite().all()
    assert (h.grad[1] == 0).all()
    assert h.grad.isfinite().all()


def test_a_frozen_weight_gets_no_gradient(backend, device):
    hidden, weight, labels = layer(3, 8, 40)
    h, w = hidden.to(device).requires_grad_(), weight.to(device)
    vocab.linear_row_stats(h, w, labels.to(device), backend=backend).logprob.sum().backward()
    wanted = exact(hidden, weight, labels, (torch.ones(3), torch.zeros(3)))[1]
    torch.testing.assert_close(h.grad.cpu().double(), wanted, rtol=1e-5, atol=1e-5)
    assert w.grad is None

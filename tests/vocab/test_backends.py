"""Triton kernels and plain torch give the same numbers, through the public functions."""

import pytest

torch = pytest.importorskip("torch")

from rollmath import vocab  # noqa: E402

ALL = vocab.RowStats._fields


def example(rows=3, width=37, seed=0, dtype=torch.float32):
    torch.manual_seed(seed)
    x = torch.randn(rows, width) * 3
    x[0, ::5] = -torch.inf
    return x.to(dtype), torch.randint(width, (rows,)), torch.randint(width, (rows, 3))


def both(x, y, outputs=ALL, **options):
    """The statistics and the gradients of a loss on all of them, of each backend."""
    found = []
    for backend in ("torch", "triton"):
        leaf = x.detach().clone().requires_grad_()
        logits = leaf * 1 if options.get("inplace_backward") else leaf
        stats = vocab.row_stats(logits, y, outputs=outputs, backend=backend, **options)
        weights = torch.linspace(0.5, 1.5, logits.shape[:-1].numel()).view(logits.shape[:-1]).to(x.device)
        loss = 0
        for name, s in stats._asdict().items():
            if s is not None and name != "argmax":
                w = weights if s.shape == weights.shape else weights[..., None]
                loss = loss + (s * w).where(s.isfinite(), 0).sum()
        loss.backward()
        found.append((stats, leaf.grad))
    return found


def check(found, dtype):
    (a, ga), (b, gb) = found
    for name in ALL:
        x, y = getattr(a, name), getattr(b, name)
        assert (x is None) == (y is None)
        if name != "argmax" and x is not None:
            torch.testing.assert_close(y, x, rtol=2e-6, atol=2e-6, equal_nan=True, msg=lambda m, n=name: f"{n}: {m}")
        elif x is not None:
            known = a.entropy.isfinite()
            assert torch.equal(x[known], y[known])
    rtol = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 8e-3}[dtype]
    torch.testing.assert_close(gb, ga, rtol=rtol, atol=4e-6)
    assert ga.dtype == gb.dtype == dtype


OPTIONS = {
    "plain": {},
    "temperature": {"temperature": 0.7},
    "temperatures": {"temperature": torch.tensor([0.5, 1.0, 2.5])},
    "softcap": {"softcap": 5.0},
    "mask": {"mask": torch.tensor([True, False, True])},
    "ignored": {"ignore_index": 4},
    "sets": {"allowed": vocab.TokenSets.of_lists([[1, 2, 30, 7], list(range(37)), []])},
    "sets of some": {"allowed": vocab.TokenSets.of_lists([[5], [36, 0], [3, 4, 6]]), "softcap": 4.0},
    "in place": {"inplace_backward": True},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_option(device, options):
    x, y, ids = (t.to(device) for t in example())
    if "ignore_index" in options:
        y = y.index_fill(0, torch.tensor([1], device=device), 4)
    here = {name: o.to(device) if hasattr(o, "to") else o for name, o in options.items()}
    check(both(x, y, ids=ids, **here), x.dtype)


@pytest.mark.parametrize("outputs", [("logprob",), ("logprob", "entropy"), ("var_logprob",), ("p_max", "mean_logprob")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_outputs_and_dtypes(device, outputs, dtype):
    x, y, _ = (t.to(device) for t in example(dtype=dtype, width=19, rows=2))
    check(both(x, y, outputs=outputs), dtype)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_bfloat16_logits_cost_less_than_a_millionth(device, temperature):
    torch.manual_seed(0)
    x = (torch.randn(2, 3000) * 3).bfloat16()
    labels = x.argmax(1)
    stats = vocab.row_stats(x.to(device), labels.to(device), temperature=temperature, backend="triton")
    logp = torch.log_softmax(x.double() / temperature, dim=1)
    assert (stats.logprob.cpu() - logp.amax(1)).abs().max() < 1e-6
    assert (stats.entropy.cpu() + (logp.exp() * logp).sum(1)).abs().max() < 1e-6


def test_views(device):
    x, _, _ = example(rows=12, width=9)
    x = x.to(device).view(2, 6, 9)
    y = torch.randint(8, (2, 5), device=device)
    # Rows of a padded vocabulary that are not aligned, and without the last position.
    a, b = (vocab.row_stats(x[:, :-1, 1:], y, backend=backend) for backend in ("torch", "triton"))
    torch.testing.assert_close(b.logprob, a.logprob)
    torch.testing.assert_close(b.entropy, a.entropy)


def test_bad_rows_are_nan_in_both(device):
    x = torch.zeros(4, 6)
    x[0, 1], x[1, 2], x[2] = torch.nan, torch.inf, -torch.inf
    x, y = x.to(device), torch.tensor([0, 0, 0, 9], device=device)
    a, b = (vocab.row_stats(x, y, outputs=ALL[:-1], backend=k, check=False) for k in ("torch", "triton"))
    for name in set(ALL[:-1]) - {"argmax"}:
        torch.testing.assert_close(getattr(b, name), getattr(a, name), equal_nan=True)
    assert b.logprob.isnan().all()


def test_no_rows(device):
    x = torch.zeros(0, 5, device=device, requires_grad=True)
    stats = vocab.row_stats(x, torch.zeros(0, dtype=torch.int64, device=device), backend="triton")
    (stats.logprob.sum() + stats.entropy.sum()).backward()
    assert stats.entropy.shape == (0,)
    assert x.grad.shape == (0, 5)


def test_the_kernels_do_not_mind_what_a_user_does_to_the_result(device):
    x, y, _ = (t.to(device) for t in example())
    x = x[1:].clone().requires_grad_()
    lp = vocab.logprobs(x, y[1:], backend="triton")
    lp *= 2
    lp.sum().backward()
    expected = x.detach().clone().requires_grad_()
    (2 * vocab.logprobs(expected, y[1:], backend="torch")).sum().backward()
    torch.testing.assert_close(x.grad, expected.grad)


def test_through_the_operator(device):
    x, y, _ = (t.to(device) for t in example())
    rows = (y, None, None, None, None, None)
    found = []
    for backend in ("torch", "triton"):
        leaf = x.clone().requires_grad_()
        made = torch.ops.rollmath.row_stats(leaf, *rows, ["logprob", "entropy"], 2.0, None, None, backend, True, "f")
        (made[2] + made[3]).sum().backward()
        found.append((*(m.detach() for m in made[2:]), leaf.grad))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-6)


def test_what_triton_refuses(device, monkeypatch):
    x, y, _ = example()
    with pytest.raises(ValueError, match=r"backend 'triton' takes logits of 16 or 32 bits, got float64; say backend="):
        vocab.logprobs(x.double().to(device), y.to(device), backend="triton")
    assert vocab.logprobs(x.double().to(device), y.to(device)).dtype == torch.float64
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with pytest.raises(ValueError, match=r"backend 'triton' needs logits on a GPU, got cpu; .*TRITON_INTERPRET=1"):
        vocab.logprobs(x, y, backend="triton")
    monkeypatch.setattr("rollmath.vocab._backend._has_triton", lambda: False)
    with pytest.raises(ValueError, match="backend 'triton' needs the package triton, which is not installed"):
        vocab.logprobs(x, y, backend="triton")
    assert torch.isfinite(vocab.logprobs(x[1:], y[1:])).all()


def test_auto_is_torch_on_a_cpu():
    x, y, _ = example()
    a, b = (vocab.row_stats(x, y, backend=backend) for backend in ("auto", "torch"))
    assert torch.equal(a.entropy, b.entropy)


def test_a_device_checks_its_values_if_asked(device):
    x, y, _ = (t.to(device) for t in example())
    with pytest.raises(ValueError, match="'labels' must be in"):
        vocab.logprobs(x, y + 37, check=True)
    assert vocab.logprobs(x, y + 37, check=False).isnan().all()

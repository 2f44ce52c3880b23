"""Losses on a GPU: the numbers of the CPU, and no wait for the device."""

import pytest

torch = pytest.importorskip("torch")

from loss_objectives import exported, made  # noqa: E402

from rollmath import LogProbs, Ragged  # noqa: E402
from rollmath.loss import KL, EntropyBonus, Gate, ImportanceWeight, Normalizer, policy_loss, sequence_scores  # noqa: E402

pytestmark = pytest.mark.gpu

#: Those of two passes copy to the host by design; NFT takes labels minus rates, not any advantages.
OBJECTIVES = sorted(exported("separable", "sequence").keys() - {"NFT"})


def step(b, objective, device, form):
    """Loss, gradients and metrics of a batch whose tensors are moved to a device, padded or packed."""

    def moved(x):
        x = x.detach()
        if form == "padded":
            x = Ragged(x, b.rows.offsets).to_padded(6, fill=float("nan"))
        return x.to(device)

    theta, entropy = moved(b.theta).requires_grad_(), moved(b.entropy).requires_grad_()
    logprobs = LogProbs(theta, moved(b.prox), moved(b.behaviour), moved(b.ref))
    out = policy_loss(
        logprobs,
        torch.tensor(b.advantages).to(device),
        b.rows,
        objective,
        normalizer=Normalizer.local(b.rows),
        aggregation="seq_mean_token_mean",
        level="rollout",
        correction=(ImportanceWeight(2.0), Gate("k3", 5.0, level="row")),
        kl=KL(0.1),
        entropy=EntropyBonus(entropy, 0.01),
    )
    out.loss.backward()
    return out, theta.grad, entropy.grad


@pytest.mark.parametrize("form", ["packed", "padded"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_numbers_of_the_cpu(make_batch, name, form):
    objective = made(name)
    for seed in (5, 6, 7):
        b = make_batch(seed, 7)
        here, there = (step(b, objective, device, form) for device in ("cpu", "cuda"))
        assert there[0].loss.is_cuda
        for x, y in zip(here[1:], there[1:], strict=True):
            torch.testing.assert_close(y.cpu(), x, rtol=1e-10, atol=1e-13)
        torch.testing.assert_close(there[0].metrics.values_tensor.cpu(), here[0].metrics.values_tensor)


@pytest.mark.parametrize("form", ["packed", "padded"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_nothing_waits(make_batch, name, form):
    """The first call loads kernels, which may wait."""
    objective, b = made(name), make_batch(6, 7)
    step(b, objective, "cuda", form)
    moved = b.theta.detach().cuda().requires_grad_()
    logprobs = LogProbs(moved, *(x.cuda() for x in (b.prox, b.behaviour, b.ref)))
    advantages, normalizer = torch.tensor(b.advantages).cuda(), Normalizer.local(b.rows)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        out = policy_loss(logprobs, advantages, b.rows, objective, normalizer=normalizer, level="rollout", kl=KL(0.1))
        out.loss.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert moved.grad.isfinite().all()


def of_kernels(make_batch, objective):
    """A call in float32 with all that it reads on the device, and theta."""
    b = make_batch(6, 7, dtype=torch.float32)
    theta, entropy = (x.detach().cuda().requires_grad_() for x in (b.theta, b.entropy))
    logprobs = LogProbs(theta, *(x.cuda() for x in (b.prox, b.behaviour, b.ref)))
    advantages, normalizer = torch.tensor(b.advantages).cuda(), Normalizer.local(b.rows)
    bonus = EntropyBonus(entropy, 0.01)

    def call():
        found = policy_loss(
            logprobs, advantages, b.rows, objective, normalizer=normalizer, level="rollout", kl=KL(0.1), entropy=bonus
        )
        return found.loss, *torch.autograd.grad(found.loss, [theta, entropy]), found.metrics.values_tensor

    return call, theta


@pytest.mark.parametrize("name", sorted(exported("separable", "sequence").keys() - {"NFT"}))
def test_kernels_wait_for_nothing(make_batch, name):
    call, _ = of_kernels(make_batch, made(name))
    first = call()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        second = call()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


@pytest.mark.parametrize("name", ["PPO", "GSPO"])
def test_kernels_in_a_graph(make_batch, name):
    call, theta = of_kernels(make_batch, made(name))
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = call()
    with torch.no_grad():
        theta.mul_(1.25)
    graph.replay()
    replayed = [x.clone() for x in captured]
    assert all(torch.equal(x, y) for x, y in zip(replayed, call(), strict=True))


def test_scores(make_batch):
    b = make_batch(6, 7)
    here, there = (
        sequence_scores(LogProbs(b.theta.detach().to(device), ref=b.ref.to(device)), b.rows, against="ref")
        for device in ("cpu", "cuda")
    )
    torch.testing.assert_close(there.cpu(), here)

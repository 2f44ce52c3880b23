"""Policy losses, forward and backward: PPO with dual clip, a k3 term, an entropy bonus and the metrics."""

import warnings

import pytest

import rollmath as rm
from bench import loss_inputs, machine
from bench.loss_inputs import CLIP, DUAL, ENTROPY, KL
from bench.measure import cases
from bench.peers import verl_losses

CORES = [machine.CORES]


def size(quick, fill):
    return (64, 128, fill) if quick else (8192, 4096, fill)


def ours(data, *, pack, compiled=False):
    """``(loss, gradient of log-probabilities, gradient of entropies)``."""
    rows = rm.Rows(range(len(data.lengths)), data.lengths)
    form = (lambda x: loss_inputs.packed(data, x)) if pack else (lambda x: x)
    theta, prox, ref, entropy = (form(x) for x in (data.theta, data.prox, data.ref, data.entropy))
    objective, kl = rm.loss.PPO(clip=CLIP, dual_clip=DUAL), rm.loss.KL(KL)
    normalizer = rm.loss.Normalizer.local(rows)

    def call():
        leaf, h = theta.detach().requires_grad_(), entropy.detach().requires_grad_()
        out = rm.loss.policy_loss(
            rm.LogProbs(leaf, prox=prox, ref=ref), data.advantages, rows, objective,
            normalizer=normalizer, kl=kl, entropy=rm.loss.EntropyBonus(h, ENTROPY), compiled=compiled,
        )  # fmt: skip
        out.loss.backward()
        return out.loss.detach(), leaf.grad, h.grad

    return call


def plain(data, *, pack, compiled):
    """What a trainer writes with torch alone, without metrics."""
    import torch

    form = (lambda x: loss_inputs.packed(data, x)) if pack else (lambda x: x)
    theta, prox, ref, entropy = (form(x) for x in (data.theta, data.prox, data.ref, data.entropy))
    advantages = form(data.advantages[:, None].expand(data.mask.shape))
    mask, tokens = (1.0 if pack else data.mask.float()), int(data.mask.sum())

    def loss(leaf, h):
        rho, d = (leaf - prox).exp(), ref - leaf
        clipped = torch.maximum(-advantages * rho, -advantages * rho.clamp(1 - CLIP[0], 1 + CLIP[1]))
        dual = torch.where(advantages < 0, torch.minimum(clipped, -advantages * DUAL), clipped)
        return ((dual + KL * (d.exp() - d - 1) - ENTROPY * h) * mask).sum() / tokens

    run = torch.compile(loss) if compiled else loss

    def call():
        leaf, h = theta.detach().requires_grad_(), entropy.detach().requires_grad_()
        value = run(leaf, h)
        value.backward()
        return value.detach(), leaf.grad, h.grad

    return call


def make(provider, data, *, pack):
    name, _, rest = provider.partition(" ")
    if name == "verl":
        return verl_losses.ppo(data, compiled=rest == "compiled")
    return (ours if name == "rollmath" else plain)(data, pack=pack, compiled=rest == "compiled")


def run(measure, quick, op, provider, threads, *, fill, pack):
    data = loss_inputs.batch(*size(quick, fill))
    tokens = int(data.mask.sum())
    form = (lambda x: loss_inputs.packed(data, x)) if pack else (lambda x: x)
    value, *gradients = loss_inputs.expected(*size(quick, fill))
    shape = f"{data.mask.shape[0]} x {data.mask.shape[1]} at {fill:.0%} fill"

    def view(got):
        back = form if provider.startswith("verl") else (lambda x: x)
        return got[0], *(back(g) * tokens for g in got[1:])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler
        call = make(provider, data, pack=pack)
        measure(
            op, provider, call, shape=shape, dtype="float32", expected=(value, *(form(g) for g in gradients)),
            view=view, rtol=2e-4, threads=threads,
        )  # fmt: skip
        measure.peak(f"{op}_peak", provider, call, shape=shape, dtype="float32", threads=threads)


@cases(rollmath=CORES, rollmath_compiled=CORES, verl=CORES, verl_compiled=CORES, torch=CORES, torch_compiled=CORES)
def test_ppo_padded(measure, quick, provider, threads):
    pytest.importorskip("torch")
    run(measure, quick, "ppo_padded", provider, threads, fill=1, pack=False)


@cases(rollmath=CORES, rollmath_compiled=CORES, verl=CORES, torch=CORES, torch_compiled=CORES)
def test_ppo_packed(measure, quick, provider, threads):
    """verl gets the same tokens padded, the only form that it takes."""
    pytest.importorskip("torch")
    run(measure, quick, "ppo_packed", provider, threads, fill=0.3, pack=True)


@pytest.mark.parametrize("provider", ["rollmath", "verl", "torch"])
def test_ppo_launches(measure, provider):
    """Operations of torch that would each launch a kernel on a GPU, in the form that a GPU gets."""
    pytest.importorskip("torch")
    from rollmath.loss import _engine, _policy_loss

    data = loss_inputs.batch(64, 128, 1)
    call = make(provider, data, pack=False)
    counter = launches()
    pieces, _policy_loss.evaluate = _policy_loss.evaluate, _engine.at_once
    try:
        with counter:
            call()
    finally:
        _policy_loss.evaluate = pieces
    measure.count("ppo_launches", provider, counter.count, shape="64 x 128 at 100% fill")


def launches():
    """Counts operations that compute or move something; views and allocations are none."""
    from torch.utils._python_dispatch import TorchDispatchMode

    views = {"view", "_unsafe_view", "expand", "slice", "select", "unsqueeze", "squeeze", "t", "transpose", "permute",
             "as_strided", "detach", "alias", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided",
             "_local_scalar_dense", "lift_fresh", "reshape"}  # fmt: skip

    class Counter(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.count += function._schema.name.split("::")[1] not in views
            return function(*args, **(kwargs or {}))

    return Counter()

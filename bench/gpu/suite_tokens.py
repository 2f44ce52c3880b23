"""What has one number a token: the policy loss and GAE."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import rollmath as rm
from bench.gpu import clock
from bench.gpu.run import Run, worst

CLIP, DUAL, KL, ENTROPY = (0.2, 0.28), 3.0, 0.001, 0.01


def columns(rows: int, width: int, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    prox = torch.rand(rows, width, generator=generator).mul_(-3)
    made = {
        "prox": prox,
        "theta": prox + 0.2 * torch.randn(rows, width, generator=generator),
        "ref": prox + 0.2 * torch.randn(rows, width, generator=generator),
        "entropy": torch.rand(rows, width, generator=generator),
        "advantages": torch.randn(rows, generator=generator),
    }
    return {name: x.to(clock.device()) for name, x in made.items()}


def loss_call(data: dict[str, torch.Tensor], rows: rm.Rows, *, wide: bool = False, backward: bool = True) -> Any:
    """PPO with dual clip, a KL term and an entropy bonus; the loss and both gradients."""
    if wide:
        data = {name: x.double() for name, x in data.items()}
    objective, kl = rm.loss.PPO(clip=CLIP, dual_clip=DUAL), rm.loss.KL(KL)
    normalizer = rm.loss.Normalizer.local(rows)
    theta, entropy = data["theta"].clone().requires_grad_(), data["entropy"].clone().requires_grad_()

    def call() -> Any:
        logprobs = rm.LogProbs(theta, prox=data["prox"], ref=data["ref"])
        bonus = rm.loss.EntropyBonus(entropy, ENTROPY)
        out = rm.loss.policy_loss(
            logprobs, data["advantages"], rows, objective, normalizer=normalizer, level="row", kl=kl, entropy=bonus
        )
        found = torch.autograd.grad(out.loss, [theta, entropy]) if backward else ()
        return out.loss.detach(), *found

    return call


def plain_loss(data: dict[str, torch.Tensor], *, compiled: bool) -> Any:
    """What a trainer writes with torch alone, without metrics."""
    theta, entropy = data["theta"].clone().requires_grad_(), data["entropy"].clone().requires_grad_()
    a = data["advantages"][:, None]

    def loss(leaf: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        rho, d = (leaf - data["prox"]).exp(), data["ref"] - leaf
        clipped = torch.maximum(-a * rho, -a * rho.clamp(1 - CLIP[0], 1 + CLIP[1]))
        dual = torch.where(a < 0, torch.minimum(clipped, -a * DUAL), clipped)
        return (dual + KL * (d.exp() - d - 1) - ENTROPY * h).mean()

    run = torch.compile(loss) if compiled else loss

    def call() -> Any:
        value = run(theta, entropy)
        return value.detach(), *torch.autograd.grad(value, [theta, entropy])

    return call


def loss_suite(run: Run) -> None:
    """One million tokens: forward alone in a CUDA graph, and forward with backward as a trainer calls it."""
    n, width = (6, 16) if run.smoke else (1024, 1024)
    rows = rm.Rows(range(n), np.full(n, width))
    # Together larger than the cache: 6 sets of 21 MB and their gradients.
    sets = [columns(n, width, seed) for seed in range(1 if run.smoke else 16)]
    expected = loss_call(sets[0], rows, wide=True)()

    def error(got: Any) -> float:
        scale = n * width
        return max(
            worst(got[0], expected[0]),
            *(worst(g * scale, e * scale) for g, e in zip(got[1:], expected[1:], strict=True)),
        )

    # theta, prox, ref, entropy in; two derivatives out.
    floor = run.floor(moved=n * width * 4 * 6)
    every = {"rollmath": loss_call, "torch": lambda d, _: plain_loss(d, compiled=False)}
    if not run.smoke:
        every["torch compiled"] = lambda d, _: plain_loss(d, compiled=True)
    for name, make in every.items():
        calls = [make(d, rows) for d in sets]
        shape = f"{n * width} tokens"
        run.attempt(
            "policy loss, forward and backward", name, calls[0],
            shape=shape, dtype="float32", error=error, limit=1e-4, floor=floor,
        )  # fmt: skip
        run.attempt(
            "policy loss, forward and backward, in a graph", name, calls[0],
            shape=shape, dtype="float32", error=error, limit=1e-4, floor=floor, graph=calls,
        )  # fmt: skip
        run.keep("policy loss, host time", name, shape=shape, dtype="float32", p50_ms=round(clock.host(calls[0]), 5))
    forward = [loss_call(d, rows, backward=False) for d in sets]
    run.attempt(
        "policy loss, forward, in a graph", "rollmath", forward[0],
        shape=f"{n * width} tokens", dtype="float32", error=lambda got: worst(got[0], expected[0]), limit=1e-5,
        floor=floor, graph=forward,
    )  # fmt: skip


def gae_plain(rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, gamma: float, lam: float) -> Any:
    """The loop over time that trainers run, gaps carried over."""
    following, last, out = torch.zeros_like(values[:, 0]), torch.zeros_like(values[:, 0]), torch.empty_like(values)
    for t in reversed(range(values.shape[1])):
        delta = rewards[:, t] + gamma * following - values[:, t]
        now = delta + gamma * lam * last
        following = torch.where(mask[:, t], values[:, t], following)
        last = torch.where(mask[:, t], now, last)
        out[:, t] = torch.where(mask[:, t], last, 0)
    return out, torch.where(mask, out + values, 0)


def gae_suite(run: Run) -> None:
    """256 rows of 32,768 tokens, a fifth of them tool output."""
    n, width = (3, 40) if run.smoke else (256, 32768)
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(n, width, generator=generator) < 0.8
    mask[:, -1] = True
    values = torch.randn(n, width, generator=generator)
    rewards = torch.zeros(n, width)
    rewards[:, -1] = torch.randn(n, generator=generator)
    wide = gae_plain(rewards.double(), values.double(), mask, 0.99, 0.95)
    on = [x.to(clock.device()) for x in (rewards, values, mask)]
    expected = [x.to(clock.device()) for x in wide]

    def ours() -> Any:
        return rm.temporal.gae(on[0], on[1], mask=on[2], gamma=0.99, lam=0.95)

    # Rewards and values in, a byte of mask, two results out.
    floor = run.floor(moved=n * width * 17)
    shape = f"{n} x {width}"

    def error(got: Any) -> float:
        return max(worst(a, b) for a, b in zip(got, expected, strict=True))

    run.attempt("GAE with gaps", "rollmath", ours, shape=shape, dtype="float32", error=error, limit=1e-4, floor=floor)
    run.attempt(
        "GAE with gaps, in a graph", "rollmath", ours,
        shape=shape, dtype="float32", error=error, limit=1e-4, floor=floor, graph=[ours],
    )  # fmt: skip
    short = 2048 if not run.smoke else width
    cut = [x[:, :short].contiguous() for x in on]
    run.keep(
        "GAE with gaps, loop over time", "torch", shape=f"{n} x {short}", dtype="float32",
        p50_ms=round(clock.timed(lambda: gae_plain(*cut, 0.99, 0.95), milliseconds=200).p50, 5),
    )  # fmt: skip

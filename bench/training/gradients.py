"""Gradients of whole batches: how noisy those of an arm are, and where they point on average."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.training.arms import COUNT, Arm, Pool, Scene, flat, named
from bench.training.model import CharTransformer
from bench.training.sample import Sample
from bench.training.tasks import Item, Task
from bench.training.update import Settings, evaluate_logprobs, loss_of, parts, signal_tokens
from rollmath.demo.clock import Clock

# The gradient of the expected reward, without bias: each rollout against the others of its prompt, a sum over tokens,
# a mean over rollouts, no division by a spread or a length.
REFERENCE = Arm("reference", "policy gradient", named("rloo"), flat())
POOL = 1024  # prompts of a run
ROWS = 128  # rollouts that are run at once; their gradients add up


class Fresh(Pool):
    """Prompts that never come again, so that batches are independent."""

    def __init__(self, stream: Iterator[Item]) -> None:
        super().__init__([], 0)
        self.stream = stream

    def take(self, count: int) -> list[int]:
        self.items += itertools.islice(self.stream, count)
        self.at += count
        return list(range(self.at - count, self.at))


def opened(sampler: CharTransformer, task: Task, arm: Arm, seed: int) -> Scene:
    """What the arm draws from; arms of equal seeds meet the same stream of prompts.

    Prompts are new in every batch. An arm that remembers prompts has the pool of a run instead, and goes through it
    once first; its batches then share prompts and memory, and their spread is that around the gradient of this pool.
    """
    stream = task.stream(seed)
    pool = Pool(list(itertools.islice(stream, POOL)), seed)
    scene = Scene(sampler, task, pool, torch.Generator().manual_seed(seed))
    arm.draw(scene)
    remembers = bool(scene.memory.keys() - {COUNT})
    if not remembers:
        scene.pool = Fresh(stream)
    while remembers and pool.at < POOL:
        scene.step += 1
        arm.draw(scene)
    return scene


@dataclass
class Gradients:
    """Gradients of independent batches, float32 ``[B, P]``, and facts of these batches, one number each."""

    vectors: Tensor
    sampled: list[int] = field(default_factory=list)
    rollouts: list[int] = field(default_factory=list)
    signal: list[int] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


def collect(
    model: CharTransformer, task: Task, arm: Arm, *, seed: int, batches: int = 0, tokens: int = 0,
    sampler: CharTransformer | None = None,
) -> Gradients:  # fmt: skip
    """Gradients of at least so many batches, and at least so many sampled tokens.

    ``sampler``: the policy that samples, where it is another one (a stale one).
    """
    scene, clock, found, rows = opened(sampler or model, task, arm, seed), Clock(), Gradients(torch.empty(0)), []
    while len(rows) < batches or sum(found.sampled) < tokens:
        with clock("sampling"):
            sample = arm.draw(scene)
        scene.step += 1
        with clock("gradient"):
            vector, signal = gradient(model, task, arm, sample)
        rows.append(vector)
        found.sampled.append(sample.sampled)
        found.rollouts.append(len(sample))
        found.signal.append(signal)
    found.vectors, found.seconds = torch.stack(rows), dict(clock.seconds)
    return found


def gradient(model: CharTransformer, task: Task, arm: Arm, sample: Sample) -> tuple[Tensor, int]:
    """The direction that one step on the whole batch would go, float32 ``[P]``, and its tokens with a signal."""
    recipe = arm.recipe(task)
    # Packed or not is the same gradient; packed is faster.
    settings = Settings(**{**arm.settings, "minibatches": 1, "packed": True})
    prox = evaluate_logprobs(model, sample) if settings.fresh_prox else sample.logprobs
    model.zero_grad(set_to_none=True)
    signal = 0
    for part, active in parts(recipe, sample, settings):
        signal += signal_tokens(part, sample)
        members = np.asarray(part.rows.rollouts.ids)
        for some in np.array_split(active, -(-len(active) // ROWS)) if len(active) else ():
            loss_of(model, recipe, sample, part, members, some, settings, prox, Clock())[0].loss.backward()
    found = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    vector = -torch.cat([x.flatten() for x in found])
    model.zero_grad(set_to_none=True)
    return vector, signal


def inner(x: Tensor, block: int = 1 << 16) -> NDArray[np.float64]:
    """Inner products of all pairs of rows, summed in float64."""
    out = torch.zeros(len(x), len(x), dtype=torch.float64)
    for piece in x.split(block, 1):
        wide = piece.double()
        out += wide @ wide.T
    return out.numpy()


def moments(products: NDArray[np.float64]) -> tuple[float, float]:
    """Unbiased estimates of ``|E g|^2`` and ``tr Cov(g)`` from the inner products ``[B, B]`` of independent batches."""
    n, squares = len(products), float(np.trace(products))
    square_of_mean = (float(products.sum()) - squares) / (n * (n - 1))
    return square_of_mean, squares / n - square_of_mean


def figures(own: NDArray[np.float64], reference: NDArray[np.float64], across: NDArray[np.float64]) -> dict[str, float]:
    """The numbers that :func:`compare` reports, from inner products; NaN where noise hides the mean."""
    square, spread = moments(own)
    length = _root(moments(reference)[0])
    return {
        "noise_to_signal": spread / square if square > 0 else math.nan,
        "cosine": float(across.mean()) / (_root(square) * length),
        # The reference is independent of the batch, so its noise only makes it longer: its true length is taken.
        "cosine_batch": float((across.mean(1) / np.sqrt(np.maximum(np.diag(own), 1e-300))).mean()) / length,
    }


def compare(own: Tensor, reference: Tensor) -> dict[str, float]:
    """How the gradients of an arm ``[B, P]`` lie to those of the reference ``[H, P]``, with standard errors.

    - ``noise_to_signal``: ``tr Cov(g) / |E g|^2`` of one batch, a ratio of unbiased estimates.
    - ``cosine``: of the two mean gradients without their noise: products of a batch with itself are left out, which is
      the mean over all ways to split the batches in halves. Below 1 is a bias of the arm's weights. It may come out
      above 1 by chance.
    - ``cosine_batch``: expected cosine of the gradient of one batch with the policy gradient: bias and noise.

    Standard errors are those of the jackknife, over the batches of the arm and of the reference (``_se``).
    """
    for name, x in (("own", own), ("reference", reference)):
        if len(x) < 3:
            msg = f"compare(): {name!r} must have at least 3 batches, got {len(x)}"
            raise ValueError(msg)
    b, h = len(own), len(reference)
    gram = inner(torch.cat([own, reference]))

    def of(mine: NDArray[np.int64], theirs: NDArray[np.int64]) -> dict[str, float]:
        theirs = theirs + b
        return figures(gram[np.ix_(mine, mine)], gram[np.ix_(theirs, theirs)], gram[np.ix_(mine, theirs)])

    out = of(np.arange(b), np.arange(h))
    without_mine = [of(np.delete(np.arange(b), i), np.arange(h)) for i in range(b)]
    without_theirs = [of(np.arange(b), np.delete(np.arange(h), i)) for i in range(h)]
    for name in list(out):
        variance = sum(_jackknife([x[name] for x in left]) for left in (without_mine, without_theirs))
        out[f"{name}_se"] = math.sqrt(variance)
    return out


def _jackknife(values: list[float]) -> float:
    n = len(values)
    return float(np.var(values)) * (n - 1)


def _root(x: float) -> float:
    return math.sqrt(x) if x > 0 else math.nan

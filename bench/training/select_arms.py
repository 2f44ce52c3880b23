"""Arms that choose: which groups and rollouts train, what they are compared with, and how many each prompt gets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import rollmath as rm
from bench.training.arms import PROMPTS, SIZE, Arm, Draw, Scene, add, flat, named
from bench.training.sample import Sample, sample_flat
from rollmath.recipes import Advantage, Filter

WIDE, KEPT = 16, 4  # PODS: a group, and what of it trains
BLEND = 0.8  # of strata and group: the paper's number is not known to us
SHARE = 0.2  # of the tokens, by |A| H: that of the 80/20 rule; D3S goes from few to all


def with_spread(sample: Sample) -> NDArray[np.int64]:
    """The groups whose rewards differ."""
    return np.unique(sample.group[rm.select.nonzero_spread(sample.rewards, sample.group).indices])


def only(sample: Sample, groups: NDArray[np.int64]) -> Sample:
    """Some groups, numbered anew; all tokens still count as sampled."""
    rows = np.flatnonzero(np.isin(sample.group, groups))
    columns = {name: getattr(sample, name)[rows] for name in ("prompts", "tokens", "logprobs", "entropy", "lengths")}
    return replace(
        sample, **columns, rewards=sample.rewards[rows], group=np.searchsorted(groups, sample.group[rows]),
        items=[sample.items[g] for g in groups],
    )  # fmt: skip


def join(samples: Sequence[Sample]) -> Sample:
    """Flat samples, one after another."""
    before = np.cumsum([0, *(len(s.items) for s in samples)])
    tensors = {
        name: torch.cat([getattr(s, name) for s in samples]) for name in ("prompts", "tokens", "logprobs", "entropy")
    }
    return Sample(
        **tensors,
        group=np.concatenate([s.group + n for s, n in zip(samples, before, strict=False)]),
        lengths=np.concatenate([s.lengths for s in samples]),
        rewards=np.concatenate([s.rewards for s in samples]),
        sampled=sum(s.sampled for s in samples),
        items=[item for s in samples for item in s.items],
    )


def refilled(prompts: int = PROMPTS, size: int = SIZE, rounds: int = 4) -> Draw:
    """DAPO's dynamic sampling: more prompts, until so many groups have a spread or the rounds are over.

    A later round has as many prompts as should give the groups that lack, by the share that had a spread so far, and at
    most as many as the first: whole rounds would throw more groups away. If no group has a spread, the first stay.
    """

    def draw(scene: Scene) -> Sample:
        samples, found, seen = [], 0, 0
        while len(samples) < rounds and found < prompts:
            share = found / seen if found else 1.0
            count = prompts if not seen else min(prompts, math.ceil((prompts - found) / share))
            samples.append(flat(size, count)(scene))
            found, seen = found + len(with_spread(samples[-1])), seen + count
        sample = join(samples)
        groups = with_spread(sample) if found else np.arange(prompts)
        return only(sample, groups[:prompts])

    return draw


def by_steps(scene: Scene) -> Sample:
    """Strata: how many steps a response has ended."""
    sample = flat()(scene)
    return replace(sample, columns={"strata": (sample.tokens == scene.task.step_token).sum(1).numpy()})


def drawn_by_seed(draw: Draw) -> Draw:
    """With a seed for a filter that draws."""

    def seeded(scene: Scene) -> Sample:
        sample = draw(scene)
        seed = int(torch.randint(2**31, (1,), generator=scene.generator))
        return replace(sample, columns={"seed": seed})

    return seeded


def with_entropy(scene: Scene) -> Sample:
    """With the entropy before each token, of the policy that sampled."""
    sample = flat()(scene)
    entropy = sample.entropy.double().numpy()
    return replace(sample, columns={"entropy": rm.Ragged.from_padded(entropy, lengths=sample.lengths)})


def d3s_token_advantages(
    rewards: Any, groups: rm.Groups, *, rows: rm.Rows, entropy: rm.Ragged, share: float = SHARE
) -> rm.Ragged:
    """GRPO's advantages at the tokens of the largest ``|A| H`` of the step, 0 at the others, which count in means."""
    of_rows = rm.group.grpo(rewards, groups)[rows.rollouts.index]
    chosen = rm.select.d3s_tokens(of_rows, entropy, share=share, scope="all")
    return rm.Ragged(np.repeat(of_rows, rows.lengths) * chosen.mask.values, rows.offsets)


def random_token_advantages(rewards: Any, groups: rm.Groups, *, rows: rm.Rows, seed: int, share: float = SHARE) -> Any:
    """GRPO's advantages at tokens that are chosen by chance, 0 at the others: what |A| H is to be compared with."""
    values = np.repeat(rm.group.grpo(rewards, groups)[rows.rollouts.index], rows.lengths)
    chosen = np.random.default_rng(seed).random(len(values)) < share
    return rm.Ragged(values * chosen, rows.offsets)


def knapsacked(
    prompts: int = PROMPTS, budget: int = PROMPTS * SIZE, low: int = 2, high: int = 32, prior: float = 2.0
) -> Draw:
    """Knapsack RL: more rollouts where success and failure are both likely, by what a prompt did when it came last.

    Rates are drawn to the mean over the prompts that have been seen, as by ``prior`` rollouts with that rate; a prompt
    that is new has that mean. So in the first pass over the pool all prompts get the same.
    """

    def draw(scene: Scene) -> Sample:
        memory, pool = scene.memory, scene.pool
        for name in ("rollouts", "rewards"):
            memory.setdefault(name, torch.zeros(len(pool.items), dtype=torch.float64))
        seen = memory["rollouts"] > 0
        mean = float((memory["rewards"][seen] / memory["rollouts"][seen]).mean()) if bool(seen.any()) else 0.5
        numbers = pool.take(prompts)
        rates = (memory["rewards"][numbers] + prior * mean) / (memory["rollouts"][numbers] + prior)
        counts = rm.select.knapsack(rates.numpy(), budget=budget, low=low, high=high).counts
        items = [pool.items[i] for i in numbers]
        sample = sample_flat(scene.model, scene.task, items, counts.tolist(), scene.generator)
        memory["rollouts"][numbers] = torch.from_numpy(counts).double()
        memory["rewards"][numbers] = torch.from_numpy(np.bincount(sample.group, sample.rewards, prompts))
        return sample

    return draw


def coins(scene: Scene) -> Sample:
    """Rewards by the toss of a coin."""
    sample = flat()(scene)
    tossed = torch.randint(2, (len(sample),), generator=scene.generator)
    return replace(sample, rewards=tossed.double().numpy())


_wide = flat(WIDE, PROMPTS * SIZE // WIDE)
_quarter = PROMPTS * SIZE * KEPT // WIDE

add(
    Arm("dapo", "DAPO, groups without spread are replaced", named("dapo"), refilled()),
    Arm("dapo_no_refill", "DAPO, groups without spread are dropped", named("dapo"), flat()),
    Arm(
        "stratified",
        "Stratified GRPO, strata by number of steps",
        named("stratified_grpo", advantage=Advantage("group.stratified", options={"blend": BLEND})),
        by_steps,
    ),
    Arm(
        "quantile",
        "GRPO with a quantile as baseline (QAE)",
        named("grpo", advantage=Advantage("group.quantile_baseline")),
        flat(),
    ),
    Arm("grpo_16", "GRPO, 32 groups of 16", named("grpo"), _wide),
    Arm("pods", "PODS, 4 of 16 by variance", named("grpo", filter=Filter("max_variance", {"keep": KEPT})), _wide),
    *(
        Arm(
            name,
            f"4 of 16 by chance, normalised {when}",
            named("grpo", filter=Filter("random", {"keep": KEPT}, statistics=when)),
            drawn_by_seed(_wide),
        )
        for name, when in (("random_4of16", "after"), ("random_4of16_before", "before"))
    ),
    Arm(
        "d3s",
        "D3S, a quarter of the rollouts by their advantages",
        named("grpo", filter=Filter("max_variance", {"keep": _quarter, "per": "batch"}, on="advantages")),
        _wide,
    ),
    Arm(
        "d3s_tokens",
        "D3S, a fifth of the tokens by |A| H",
        named("grpo", advantage=Advantage(d3s_token_advantages)),
        with_entropy,
    ),
    Arm(
        "random_tokens",
        "A fifth of the tokens by chance",
        named("grpo", advantage=Advantage(random_token_advantages)),
        drawn_by_seed(flat()),
    ),
    Arm("knapsack", "GRPO, rollouts by Knapsack RL", named("grpo"), knapsacked()),
    Arm("coin", "GRPO, rewards by the toss of a coin", named("grpo"), coins),
)

"""Selection: which rollouts, tokens and prompts to train on."""

from functools import lru_cache

import numpy as np
import torch

import rollmath as rm
from bench import selection_alternatives as others
from bench.machine import THREADS
from bench.measure import cases

select = rm.select
OF, KEEP = 64, 16


@lru_cache(maxsize=2)
def matrix(groups):
    return np.random.default_rng(0).normal(size=(groups, OF))


def mask_of(chosen):
    return np.asarray(chosen.mask if hasattr(chosen, "mask") else chosen).ravel()


@cases(rollmath=THREADS, numpy_batched=1)
def test_max_variance(measure, quick, provider, threads):
    x = matrix(256 if quick else 15_625)
    groups, flat = rm.Groups(np.repeat(np.arange(len(x)), OF)), x.ravel()
    call = {
        "rollmath": lambda: select.max_variance(flat, groups, keep=KEEP),
        "numpy batched": lambda: others.max_variance_batched(x, KEEP),
    }[provider]
    measure(
        "max_variance", provider, call, shape=f"{x.size} rollouts in groups of {OF}, keep {KEEP}", dtype="float64",
        expected=others.max_variance_batched(x, KEEP).ravel(), view=mask_of, threads=threads,
    )  # fmt: skip


@cases(rollmath=1, numpy_batched=1, torch_splits=1)
def test_max_variance_sample(measure, quick, provider, threads):
    x = matrix(16 if quick else 128)
    groups, flat = rm.Groups(np.repeat(np.arange(len(x)), OF)), x.ravel()
    call = {
        "rollmath": lambda: select.max_variance(flat, groups, keep=KEEP),
        "numpy batched": lambda: others.max_variance_batched(x, KEEP),
        "torch splits": lambda: others.max_variance_splits(x, KEEP),
    }[provider]
    measure(
        "max_variance_sample", provider, call, shape=f"{x.size} rollouts in groups of {OF}, keep {KEEP}",
        dtype="float64", expected=others.max_variance_batched(x, KEEP).ravel(), view=mask_of, threads=threads,
    )  # fmt: skip


@cases(rollmath=1, numba_program=1)
def test_knapsack(measure, quick, provider, threads):
    prompts, budget, high = (32, 256, 32) if quick else (512, 8192, 128)
    rates = np.random.default_rng(0).random(prompts)
    table = others.value(np.arange(2, high + 1)[None, :], rates[:, None])
    table -= table[:, :1]
    spare = budget - 2 * prompts

    def worth(got):
        counts = np.asarray(got.counts if hasattr(got, "counts") else got)
        return np.array([counts.sum(), others.value(counts, rates).sum()])

    call = {
        "rollmath": lambda: select.knapsack(rates, budget=budget, low=2, high=high),
        "numba program": lambda: others.knapsack_program(table, spare) + 2,
    }[provider]
    measure(
        "knapsack", provider, call, shape=f"{prompts} prompts, {budget} rollouts, 2 to {high} each", dtype="float64",
        expected=worth(others.knapsack_program(table, spare) + 2), view=worth, rtol=1e-12, threads=threads,
    )  # fmt: skip


@lru_cache(maxsize=1)
def tokens(n):
    rng = np.random.default_rng(0)
    # Entropies of language models: most tokens nearly certain, a few open.
    return rng.normal(size=n).astype(np.float32), (rng.exponential(size=n) ** 2).astype(np.float32)


@cases(rollmath=THREADS, torch_topk=THREADS, numpy_partition=1, numba_radix=THREADS)
def test_d3s_tokens(measure, quick, provider, threads):
    n = 1 << (16 if quick else 24)
    advantages, entropy = tokens(n)
    k = n // 5
    a, h = torch.from_numpy(advantages), torch.from_numpy(entropy)
    call = {
        "rollmath": lambda: select.d3s_tokens(advantages, entropy, share=0.2, scope="all"),
        "torch topk": lambda: others.tokens_torch(a, h, k),
        "numpy partition": lambda: others.tokens_partition(advantages, entropy, k),
        "numba radix": lambda: others.tokens_radix(advantages, entropy, k),
    }[provider]
    measure(
        "d3s_tokens", provider, call, shape=f"{n} tokens, top 20 %", dtype="float32",
        expected=others.tokens_partition(advantages, entropy, k), view=mask_of, threads=threads,
    )  # fmt: skip


@cases(rollmath=1, numpy_races=1)
def test_prompt_sampler(measure, quick, provider, threads):
    n = 10_000 if quick else 1_000_000
    successes, trials = np.tile([0, 1, 2, 3], 256), np.full(1024, 4)
    steps = iter(range(10**9))
    if provider == "rollmath":
        sampler = select.PromptSampler(np.arange(n), priority="learnability")

        def call():
            drawn = sampler.draw(1024, seed=next(steps)).positions
            sampler.update(drawn, successes, trials)
            return len(np.unique(drawn))
    else:
        made = others.NumpySampler(n)

        def call():
            drawn = made.draw(1024)
            made.update(drawn, successes, trials)
            return len(np.unique(drawn))

    measure(
        "prompt_sampler", provider, call, shape=f"draw and update 1024 of {n} prompts", dtype="float64",
        expected=np.array(1024), threads=threads,
    )  # fmt: skip

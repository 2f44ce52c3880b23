"""Group methods from rewards and explicit ids to one number a rollout, and GDPO to tokens."""

import numpy as np
import pytest

import rollmath as rm
from bench import alternatives, matrix_methods
from bench.machine import THREADS
from bench.measure import cases
from bench.peers import verl_estimators

group = rm.group
OURS = {
    "dr_grpo": lambda d: group.dr_grpo(d.rewards, d.ids),
    "rloo": lambda d: group.rloo(d.rewards, d.ids),
    "opo": lambda d: group.opo(d.rewards, d.ids, d.lengths),
    "gpg": lambda d: group.gpg(d.rewards, d.ids, correction="nonzero_reward"),
    "maxrl": lambda d: group.maxrl(d.rewards, d.ids),
    "lite_ppo": lambda d: group.lite_ppo(d.rewards, d.ids),
    "passk": lambda d: group.passk(d.rewards, d.ids),
    "quantile_baseline": lambda d: group.quantile_baseline(d.rewards, d.ids),
    "reinforce_pp_baseline": lambda d: group.reinforce_pp_baseline(d.rewards, d.ids, lengths=d.lengths),
}
#: verl's name, and whether it needs token rows as long as the responses. ``grpo_passk`` can be told not to divide.
PEERS = {"rloo": ("rloo", False), "opo": ("opo", True), "gpg": ("gpg", False), "passk": ("grpo_passk", False)}


@cases(rollmath=1, verl=1, numpy_unique=1)
@pytest.mark.parametrize("name", OURS)
def test_scalars(measure, quick, provider, threads, name):
    data = matrix_methods.batch(128 if quick else 1024)
    if provider == "verl" and name not in PEERS:
        pytest.skip("verl has it over tokens only, or not at all")
    if provider == "numpy unique" and name != "rloo":
        pytest.skip("one method speaks for the others")
    call = {
        "rollmath": lambda: lambda: OURS[name](data),
        "verl": lambda: verl_estimators.scalars(
            PEERS[name][0], data.rewards, data.ids, data.lengths if PEERS[name][1] else None,
            norm_adv_by_std_in_grpo=False,
        ),
        "numpy unique": lambda: lambda: alternatives.rloo_unique(data.rewards, data.ids),
    }[provider]()  # fmt: skip
    measure(
        f"scalars_{name}", provider, call, shape=f"{len(data.ids)} rollouts, groups of 8, shuffled, UUID strings",
        dtype="float64", expected=matrix_methods.expected(name, data), rtol=1e-4 if provider == "verl" else 1e-9,
        threads=threads,
    )  # fmt: skip


@cases(rollmath=1, rollmath_tokens_reused=THREADS, verl_tokens=THREADS)
def test_gdpo(measure, quick, provider, threads):
    width = 256 if quick else 4096
    data = matrix_methods.batch(128 if quick else 1024, 8, width)
    scalars = matrix_methods.expected("gdpo", data)
    out = np.zeros((len(data.ids), width), np.float32)
    weights = np.ones(3)

    def ours():
        return group.gdpo(data.channels, data.ids, weights=weights, lengths=data.lengths)

    call = {
        "rollmath": lambda: ours,
        "rollmath tokens reused": lambda: (
            lambda: rm.ops.expand(ours().astype(np.float32), lengths=data.lengths, out=out)
        ),
        "verl tokens": lambda: verl_estimators.gdpo(data.channels, data.ids, data.lengths, width),
    }[provider]()
    tokens = "tokens" in provider
    mask = np.arange(width) < data.lengths[:, None]
    measure(
        "gdpo_tokens" if tokens else "gdpo", provider, call,
        shape=f"{len(data.ids)} rollouts x 3 rewards" + (f" x {width} tokens at {mask.mean():.0%}" if tokens else ""),
        dtype="float32" if tokens else "float64", expected=scalars[:, None] * mask if tokens else scalars,
        rtol=1e-4 if tokens else 1e-9, threads=threads, output="reused" if "reused" in provider else "fresh",
    )  # fmt: skip

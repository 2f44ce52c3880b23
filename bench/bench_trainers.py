"""A trainer's own step with ours inside: verl's ``compute_advantage`` on a DataProto, dense tensors and all."""

import numpy as np
import pytest

import rollmath as rm
from bench import token_inputs
from bench.bench_temporal import shape_of, size
from bench.machine import THREADS
from bench.measure import cases
from bench.peers import verl_batches

#: float32 sums over thousands of tokens, one after the other, are that far from float64 in verl.
RTOL = {"rollmath": 1e-6, "verl": 1e-4}


def columns(name, quick):
    rows, width = size(quick)[:2]
    if name == "gdpo":
        # Multiples of 1/4 add up exactly: no residue of rounding where a group has no spread.
        table = np.random.default_rng(3).integers(0, 5, (3, rows)) / 4
        return dict(zip(verl_batches.CHANNELS, table.astype(np.float32), strict=True))
    if name == "optimal_token_baseline":
        logprobs, squares = token_inputs.energies(rows, width)
        return {"old_log_probs": logprobs, "sum_pi_squared": squares}
    return {}


def expected(name, data, given, quick):
    mask = data.mask
    if name == "gae":
        return token_inputs.whitened(token_inputs.advantages(*size(quick))[0], mask)
    if name == "optimal_token_baseline":
        return token_inputs.optimal_token_baseline(data, given["old_log_probs"], given["sum_pi_squared"])
    if name == "grpo":
        return rm.group.grpo(data.outcomes, data.ids, convention=rm.conventions.VERL)[:, None] * mask
    total = sum(rm.group.grpo(x.astype(float), data.ids, convention=rm.conventions.VERL) for x in given.values())
    return token_inputs.whitened(total[:, None] * mask, mask)


@cases(rollmath=THREADS, verl=THREADS)
@pytest.mark.parametrize("name", ["gae", "gdpo", "optimal_token_baseline", "grpo"])
def test_verl_compute_advantage(measure, quick, provider, threads, name):
    module = verl_batches.trainer()
    from rollmath.adapters import verl as adapter

    data = token_inputs.tokens(*size(quick))
    given = columns(name, quick)
    call = verl_batches.advantages(module, verl_batches.batch(data, **given), name)
    if provider == "rollmath":
        adapter.register(replace=name)
    try:
        # verl leaves numbers where the mask is 0.
        measure(
            f"verl_{name}", provider, call, shape=shape_of(data), dtype="float32",
            expected=expected(name, data, given, quick), view=lambda x: np.where(data.mask, x[0], 0.0),
            rtol=RTOL[provider], threads=threads,
        )  # fmt: skip
    finally:
        adapter.unregister()

"""Scans over token rows: GAE, discounted returns, whitening, the optimal token baseline."""

import numpy as np
import pytest

import rollmath as rm
from bench import scan_alternatives, token_inputs
from bench.bench_groups import needs_numba
from bench.machine import THREADS
from bench.measure import cases
from bench.peers import verl_estimators
from bench.token_inputs import GAMMA, LAM

WHITEN = rm.conventions.Whiten()


def size(quick):
    return (256, 256, 0.3) if quick else (8192, 4096, 0.3)


def shape_of(data):
    return f"{data.mask.shape[0]} x {data.mask.shape[1]} at {data.mask.mean():.0%} fill"


def packed(data, x):
    return rm.Ragged.from_padded(x, lengths=data.lengths)


@cases(
    rollmath_mask_reused=THREADS, rollmath_mask_drop_reused=THREADS, rollmath_lengths_reused=THREADS,
    rollmath_mask_fresh=THREADS, numba_reused=THREADS, torch_columns=THREADS,
)  # fmt: skip
def test_gae(measure, quick, provider, threads):
    needs_numba(provider)
    data = token_inputs.tokens(*size(quick))
    r, v, mask = data.rewards, data.values, data.mask
    out = (np.zeros_like(v), np.zeros_like(v))

    def torch_columns():
        torch = pytest.importorskip("torch")
        arrays = [torch.from_numpy(np.ascontiguousarray(x.T)) for x in (r, v, mask.astype(np.float32))]
        return lambda: scan_alternatives.gae_columns(*arrays, GAMMA, LAM)

    call = {
        "rollmath mask reused": lambda: lambda: rm.temporal.gae(r, v, gamma=GAMMA, lam=LAM, mask=mask, out=out),
        # Rewards where the mask is 0 are not looked for, as in the loop of numba.
        "rollmath mask drop reused": lambda: (
            lambda: rm.temporal.gae(r, v, gamma=GAMMA, lam=LAM, mask=mask, reward_on_gap="drop", out=out)
        ),
        "rollmath lengths reused": lambda: (
            lambda: rm.temporal.gae(r, v, gamma=GAMMA, lam=LAM, lengths=data.lengths, out=out)
        ),
        "rollmath mask fresh": lambda: lambda: rm.temporal.gae(r, v, gamma=GAMMA, lam=LAM, mask=mask),
        "numba reused": lambda: lambda: scan_alternatives.gae_numba(r, v, mask, GAMMA, LAM, *out),
        "torch columns": torch_columns,
    }[provider]()
    view = (lambda x: tuple(a.T for a in x)) if provider == "torch columns" else tuple
    measure(
        "gae", provider, call, shape=shape_of(data), dtype="float32", expected=token_inputs.advantages(*size(quick)),
        view=view, rtol=1e-4, threads=threads, output="reused" if "reused" in provider else "fresh",
    )  # fmt: skip


@cases(rollmath_reused=THREADS, verl=THREADS, numba_reused=THREADS)
def test_gae_whiten(measure, quick, provider, threads):
    needs_numba(provider)
    data = token_inputs.tokens(*size(quick))
    r, v, mask = data.rewards, data.values, data.mask
    out = (np.zeros_like(v), np.zeros_like(v))
    count = int(mask.sum())

    def numba():
        scan_alternatives.gae_numba(r, v, mask, GAMMA, LAM, *out)
        return scan_alternatives.whiten_numba(out[0], mask, count)

    call = {
        "rollmath reused": lambda: (
            lambda: rm.temporal.gae(r, v, gamma=GAMMA, lam=LAM, mask=mask, whiten=WHITEN, out=out).advantages
        ),
        "verl": lambda: verl_estimators.gae(r, v, mask, GAMMA, LAM),
        "numba reused": lambda: numba,
    }[provider]()
    expected = token_inputs.whitened(token_inputs.advantages(*size(quick))[0], mask)
    # verl leaves numbers where the mask is 0.
    measure(
        "gae_whiten", provider, call, shape=shape_of(data), dtype="float32", expected=expected,
        view=lambda x: np.where(mask, x, 0.0), rtol=1e-4, threads=threads,
        output="reused" if "reused" in provider else "fresh",
    )  # fmt: skip


@cases(rollmath_reused=THREADS, rollmath_fresh=THREADS, numba_reused=THREADS)
def test_gae_packed(measure, quick, provider, threads):
    needs_numba(provider)
    data = token_inputs.tokens(*size(quick))
    r, v = packed(data, data.rewards), packed(data, data.values)
    out = (np.zeros_like(v.values), np.zeros_like(v.values))
    call = {
        "rollmath reused": lambda: lambda: (rm.temporal.gae(r, v, gamma=GAMMA, lam=LAM, out=out), out)[1],
        "rollmath fresh": lambda: lambda: tuple(x.values for x in rm.temporal.gae(r, v, gamma=GAMMA, lam=LAM)),
        "numba reused": lambda: (
            lambda: scan_alternatives.gae_packed_numba(r.values, v.values, data.offsets, GAMMA, LAM, *out)
        ),
    }[provider]()
    expected = tuple(x[data.mask] for x in token_inputs.advantages(*size(quick)))
    measure(
        "gae_packed", provider, call, shape=shape_of(data), dtype="float32", expected=expected, rtol=1e-4,
        threads=threads, output="reused" if "reused" in provider else "fresh",
    )  # fmt: skip


@cases(rollmath_reused=THREADS, verl=THREADS, numba_reused=THREADS)
def test_reinforce_pp(measure, quick, provider, threads):
    needs_numba(provider)
    data = token_inputs.tokens(*size(quick))
    r, mask, gamma = data.rewards, data.mask, 0.999
    out, count = np.zeros_like(r), int(mask.sum())

    def numba():
        scan_alternatives.returns_numba(r, mask, gamma, out)
        return scan_alternatives.whiten_numba(out, mask, count)

    call = {
        "rollmath reused": lambda: lambda: rm.group.reinforce_pp(r, gamma=gamma, mask=mask, out=out),
        "verl": lambda: verl_estimators.reinforce_pp(r, mask, gamma),
        "numba reused": lambda: numba,
    }[provider]()
    steps = data.lengths[:, None] - 1 - np.arange(mask.shape[1])
    returns = data.outcomes[:, None] * gamma ** np.where(mask, steps, 0)
    measure(
        "reinforce_pp", provider, call, shape=shape_of(data), dtype="float32",
        expected=token_inputs.whitened(returns, mask), view=lambda x: np.where(mask, x, 0.0), rtol=1e-4,
        threads=threads, output="reused" if "reused" in provider else "fresh",
    )  # fmt: skip


@cases(
    rollmath_reused=THREADS, rollmath_outcomes_reused=THREADS, verl=THREADS, verl_multi_turn=THREADS,
    numba_outcomes_reused=THREADS,
)  # fmt: skip
def test_optimal_token_baseline(measure, quick, provider, threads):
    needs_numba(provider)
    data = token_inputs.tokens(*size(quick))
    logprobs, squares = token_inputs.energies(*size(quick)[:2])
    r, mask, out = data.rewards, data.mask, np.zeros_like(data.rewards)
    ours, groups = rm.group.optimal_token_baseline, rm.Groups(data.ids)
    call = {
        "rollmath reused": lambda: lambda: ours(r, data.ids, logprobs, squares, mask=mask, out=out),
        "rollmath outcomes reused": lambda: (
            lambda: ours(data.outcomes, data.ids, logprobs, squares, lengths=data.lengths, out=out)
        ),
        "numba outcomes reused": lambda: (
            lambda: scan_alternatives.optimal_baseline_numba(
                data.outcomes, data.lengths, groups.order, groups.offsets, logprobs, squares, out
            )
        ),
        "verl": lambda: verl_estimators.optimal_token_baseline(r, mask, data.ids, logprobs, squares),
        "verl multi turn": lambda: verl_estimators.optimal_token_baseline(
            r, mask, data.ids, logprobs, squares, multi_turn=True
        ),
    }[provider]()
    measure(
        "optimal_token_baseline", provider, call, shape=shape_of(data), dtype="float32",
        expected=token_inputs.optimal_token_baseline(data, logprobs, squares), rtol=1e-3, threads=threads,
        output="reused" if "reused" in provider else "fresh",
    )  # fmt: skip

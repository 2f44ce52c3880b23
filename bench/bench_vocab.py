"""Log-probability and entropy of logits on a CPU."""

import warnings
from functools import lru_cache

import numpy as np
import pytest

import rollmath as rm
from bench import machine
from bench.measure import cases

CORES = [machine.CORES]
ALONE = "torch log probability alone"


@lru_cache(maxsize=1)
def logits(rows, vocab):
    import torch

    generator = torch.Generator().manual_seed(0)
    x = torch.empty(rows, vocab)
    for row in x:
        row.copy_(torch.randn(vocab, generator=generator).mul_(3))
    y = torch.randint(vocab, (rows,), generator=generator)
    expected = np.empty((2, rows))
    for i in range(rows):
        log_p = torch.log_softmax(x[i].double(), 0)
        expected[:, i] = log_p[y[i]], -(log_p.exp() * log_p).sum()
    return x, y, expected


def make(provider, x, y):
    """``(log-probability, entropy or None)``."""
    import torch

    name = provider.split()[0]
    if name == "rollmath":

        def call():
            stats = rm.vocab.row_stats(x, y)
            return stats.logprob, stats.entropy
    elif name == "torch":

        def call():
            return torch.log_softmax(x, -1).gather(1, y[:, None])[:, 0], None
    elif name == "verl":
        functions = pytest.importorskip("verl.utils.torch_functional", reason="verl is not installed")

        def call():
            return functions.logprobs_from_logits(x, y), functions.entropy_from_logits(x)
    else:
        pytest.importorskip("trl", reason="trl is not installed")
        from trl.trainer.utils import selective_log_softmax_and_entropy

        def call():
            return selective_log_softmax_and_entropy(x[None], y[None])

    return call


@cases(rollmath=CORES, torch_log_probability_alone=CORES, verl=CORES, trl=CORES)
def test_row_stats(measure, quick, provider, threads):
    """What torch is timed on is one output of the two."""
    torch = pytest.importorskip("torch")
    x, y, (log_p, entropy) = logits(*((32, 1000) if quick else (2048, 151936)))
    shape = f"{len(x)} x {x.shape[1]}"
    outputs = 1 if provider == ALONE else 2
    # The entropy of verl 0.9.1, a difference of two large numbers, is off by 4e-4 here.
    tolerance = 1e-3 if provider == "verl" else 2e-5

    def view(got):
        return tuple(part.reshape(-1) for part in got[:outputs])

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the peers, at import
        call = make(provider, x, y)
        measure(
            "row_stats", provider, call, shape=shape, dtype="float32", expected=(log_p, entropy)[:outputs], view=view,
            rtol=tolerance, threads=threads,
        )  # fmt: skip
        measure.peak("row_stats_peak", provider, call, shape=shape, dtype="float32", threads=threads)

"""From nodes to tokens: each rollout's tokens get the values of the nodes on its path."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import rollmath as rm
from bench import inputs
from bench.alternatives import njit, numba
from bench.machine import THREADS, pieces
from bench.measure import cases


@njit(parallel=True)
def _fill(x, paths, firsts, lengths, offsets, out):
    """One value a node of each path, over its tokens."""
    for rollout in numba.prange(len(offsets) - 1):
        at = offsets[rollout]
        for k in range(firsts[rollout], firsts[rollout + 1]):
            end = at + lengths[paths[k]]
            out[at:end] = x[paths[k]]
            at = end


def paths_of(parents, leaves, depth):
    """Nodes from below the root down to each leaf, all paths one after another; every leaf lies equally deep."""
    steps = [leaves]
    for _ in range(depth - 1):
        steps.append(parents[steps[-1]])
    return np.stack(steps[::-1], axis=1).ravel()


@cases(probe_write=THREADS, rollmath=THREADS, rollmath_fresh=THREADS, numpy_repeat=1, numba=THREADS)
def test_tokens(measure, quick, provider, threads):
    """A forest keeps from the first call on where its tokens go, and the others are given the list of paths."""
    if provider == "numba" and numba is None:
        pytest.skip("numba is not installed")
    trees = inputs.trees(12 if quick else 1200, (6, 6, 6))
    parents, rng = trees.parents, np.random.default_rng(0)
    lengths = np.where(parents < 0, 0, rng.integers(1, 256, len(parents)))
    x = rng.random(len(parents), dtype=np.float32)
    forest = rm.Forest.from_parents(parents, lengths=lengths)
    paths = paths_of(parents, forest.leaves, 3)
    expected = np.repeat(x[paths], lengths[paths])
    firsts, out = np.arange(len(forest.leaves) + 1) * 3, np.empty_like(expected)
    offsets = np.concatenate([[0], np.cumsum(lengths[paths].reshape(-1, 3).sum(1))])
    pool, parts = ThreadPoolExecutor(threads), pieces(out, threads)
    call = {
        "probe write": lambda: list(pool.map(lambda part: part.fill(1), parts)),
        "rollmath": lambda: forest.expand(x, per="rollout", out=out).values,
        "rollmath fresh": lambda: forest.expand(x, per="rollout").values,
        "numpy repeat": lambda: np.repeat(x[paths], lengths[paths]),
        "numba": lambda: (_fill(x, paths, firsts, lengths, offsets, out), out)[1],
    }[provider]
    measure(
        "tree_tokens", provider, call, shape=f"{len(expected)} tokens of {forest.n_leaves} rollouts, {len(x)} nodes",
        dtype="float32", expected=None if "probe" in provider else expected, threads=threads,
        output="fresh" if provider in {"rollmath fresh", "numpy repeat"} else "reused",
    )  # fmt: skip
    pool.shutdown()

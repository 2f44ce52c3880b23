"""Projections onto an order: Tree-OPO's staged advantages, and isotonic regression on a chain."""

import numpy as np
import pytest

import rollmath as rm
from bench import alternatives, inputs
from bench.machine import THREADS
from bench.measure import cases
from bench.peers import optimizers

#: Groups that a general optimiser is given.
SAMPLE = 200


def staged(measure, data, op, provider, threads, form, groups):
    expected = data.soft if form == "soft" else data.hard
    forest = rm.Forest.from_parents(data.parents)

    def ours():
        return rm.tree.staged_advantage(forest, data.node, data.rewards, groups=data.ids, form=form).advantages

    call = ours if provider == "rollmath" else optimizers.slsqp(data, hard=form == "hard")
    measure(
        op, provider, call, shape=f"{groups} shuffled groups of 8, a triplet binding in each", dtype="float64",
        expected=expected, rtol=1e-9 if provider == "rollmath" else 1e-4, threads=threads,
    )  # fmt: skip


@cases(rollmath=THREADS)
@pytest.mark.parametrize("form", ["soft", "hard"])
def test_staged(measure, quick, provider, threads, form):
    groups = 1000 if quick else 100_000
    staged(measure, inputs.prefix_groups(groups), f"staged_{form}", provider, threads, form, groups)


@cases(rollmath=1, scipy_slsqp=1)
@pytest.mark.parametrize("form", ["soft", "hard"])
def test_staged_beside_an_optimiser(measure, quick, provider, threads, form):
    """A few groups, because of the optimiser; it is given the relations, which rollmath finds in its time."""
    groups = 20 if quick else SAMPLE
    staged(measure, inputs.prefix_groups(groups), f"staged_{form}_sample", provider, threads, form, groups)


@cases(rollmath=1, numba_stack=1, scipy_isotonic=1)
def test_isotonic(measure, quick, provider, threads):
    size = 10_000 if quick else 1_000_000
    data = inputs.pools(size)
    edges = np.arange(size - 1), np.arange(1, size)
    if provider == "numba stack" and alternatives.numba is None:
        pytest.skip("numba is not installed")
    call = {
        "rollmath": lambda: rm.ops.order_project(data.x, edges).values,
        "numba stack": lambda: alternatives.isotonic_numba(data.x),
        "scipy isotonic": lambda: optimizers.isotonic(data.x),
    }[provider]
    measure(
        "isotonic_chain", provider, call, shape=f"one chain of {size} rows",
        dtype="float64", expected=data.pooled, rtol=1e-9, threads=threads,
    )  # fmt: skip

"""Groups: GRPO from rewards and explicit ids to one advantage a rollout."""

import numpy as np

import rollmath as rm
from bench import alternatives, inputs
from bench.machine import THREADS
from bench.measure import cases
from bench.peers import verl_trainer


def needs_numba(provider: str) -> None:
    import pytest

    if "numba" in provider and alternatives.numba is None:
        pytest.skip("numba is not installed")


@cases(rollmath=1, rollmath_Groups_given=1, python_dict_bincount=1, numpy_unique=1, verl=1, verl_vectorized=1)
def test_grpo_uuid(measure, quick, provider, threads):
    groups = 128 if quick else 1024
    data = inputs.rollouts(groups, 8, "uuid")
    given = rm.Groups(data.ids)
    call = {
        "rollmath": lambda: lambda: rm.group.grpo(data.rewards, data.ids),
        "rollmath Groups given": lambda: lambda: rm.group.grpo(data.rewards, given),
        "python dict bincount": lambda: lambda: alternatives.grpo_dict(data.rewards, data.ids),
        "numpy unique": lambda: lambda: alternatives.grpo_unique(data.rewards, data.ids),
        "verl": lambda: verl_trainer.grpo(data.rewards, data.ids),
        "verl vectorized": lambda: verl_trainer.grpo(data.rewards, data.ids, vectorized=True),
    }[provider]()
    shape = f"{8 * groups} rollouts, groups of 8, shuffled, UUID strings"
    # verl's vectorised form converts to float32.
    tolerance = 1e-3 if provider == "verl vectorized" else 1e-9
    measure(
        "grpo_uuid", provider, call, shape=shape, dtype="float64", expected=data.advantages, rtol=tolerance,
        threads=threads,
    )  # fmt: skip


@cases(rollmath=THREADS, rollmath_Groups_given=THREADS, numpy_bincount=1, numpy_unique=1, numba=1)
def test_grpo_ints(measure, quick, provider, threads):
    needs_numba(provider)
    groups = 1250 if quick else 125_000
    data = inputs.rollouts(groups, 8, "int")
    given = rm.Groups(data.ids)
    call = {
        "rollmath": lambda: rm.group.grpo(data.rewards, data.ids),
        "rollmath Groups given": lambda: rm.group.grpo(data.rewards, given),
        # These two are told that the ids are dense, which rollmath finds out.
        "numpy bincount": lambda: alternatives.grpo_bincount(data.rewards, data.ids),
        "numba": lambda: alternatives.grpo_numba(data.rewards, data.ids, groups, 1e-6),
        "numpy unique": lambda: alternatives.grpo_unique(data.rewards, data.ids),
    }[provider]
    measure(
        "grpo_ints", provider, call, shape=f"{8 * groups} rollouts, groups of 8, shuffled, int ids", dtype="float64",
        expected=np.asarray(data.advantages), rtol=1e-9, threads=threads,
    )  # fmt: skip

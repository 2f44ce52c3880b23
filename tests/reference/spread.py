"""Rollouts for the tests of several processes, and how they are spread over ranks."""

import uuid

import numpy as np
import torch

#: As many rollouts as the batches here have.
N = 61


def rollouts(seed, n=N):
    """Rewards with ties, groups of many sizes, and what else methods ask of a rollout."""
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, max(n // 6, 1), n)
    rewards = np.where(rng.random(n) < 0.5, rng.integers(0, 2, n), rng.random(n) * 10.0 ** rng.integers(-3, 3, n))
    rewards[groups == 1] = 0.5
    return {
        "rewards": rewards,
        "binary": (rng.random(n) < 0.5).astype(float),
        "channels": rng.random((n, 3)),
        "groups": groups,
        "strata": rng.integers(0, 3, n),
        "bundles": groups % 3,
        "valid": rng.random(n) < 0.8,
        "lengths": rng.integers(1, 50, n),
        "budgets": rng.choice([512, 1024, 2048], n),
        "answers": rng.choice(["x", "y", "z"], n).tolist(),
        "positive": rng.random(n) + 0.1,
    }


class Name(str):
    """A string with a class of its own."""

    def __str__(self):
        return "a name"


IDS = {
    "str": lambda g: [f"prompt-{i}" for i in g],
    "bytes": lambda g: [b"%d" % i for i in g],
    "int list": lambda g: [int(i) for i in g],
    "huge int": lambda g: [int(i) + 2**70 for i in g],
    "numpy": lambda g: np.asarray(g, np.int32),
    "torch": lambda g: torch.as_tensor(np.asarray(g, np.int64)),
    "numpy strings": lambda g: np.array([f"p{i}" for i in g], dtype="U8"),
    "numpy scalars": lambda g: list(np.asarray(g, np.int64)),
    "uuid": lambda g: [uuid.UUID(int=int(i) + 1) for i in g],
    "tuple": lambda g: [("p", int(i)) for i in g],
    "subclass": lambda g: [Name(f"prompt-{i}") for i in g],
}

KINDS = {
    "float64": lambda x: np.asarray(x, np.float64),
    "float32": lambda x: np.asarray(x, np.float32),
    "float16": lambda x: np.asarray(x, np.float16),
    "big-endian": lambda x: np.asarray(x, ">f8"),
    "list": lambda x: np.asarray(x).tolist(),
    "torch float64": lambda x: torch.as_tensor(np.asarray(x, np.float64)),
    "torch float32": lambda x: torch.as_tensor(np.asarray(x, np.float32)),
    "torch bfloat16": lambda x: torch.as_tensor(np.asarray(x, np.float64)).bfloat16(),
    "int": lambda x: np.asarray(x, np.float64).astype(np.int64),
    "torch int": lambda x: torch.as_tensor(np.asarray(x, np.float64).astype(np.int64)),
}


def spreads(seed, world, n=N):
    """Which rollouts each rank has, in which order: in turn unevenly, with empty ranks, all on one, in any order."""
    rng = np.random.default_rng([seed, world])
    cuts = np.sort(rng.integers(0, n + 1, world - 1))
    uneven = np.split(np.arange(n), cuts)
    no_first = [np.arange(0), *np.array_split(np.arange(n), world - 1)]
    one = [np.arange(n) if rank == world - 1 else np.arange(0) for rank in range(world)]
    rank_of = rng.integers(0, world, n)
    anyhow = [rng.permutation(np.flatnonzero(rank_of == rank)) for rank in range(world)]
    return {"uneven": uneven, "empty first": no_first, "all on the last": one, "any order": anyhow}


def take(x, rows):
    """Some rows of an array, a list or a Groups."""
    return [x[i] for i in rows] if isinstance(x, list) else x[rows] if isinstance(x, np.ndarray) else x[list(rows)]


def difference(got, expected):
    """Empty if two arrays have the same kind, dtype, shape and bits; else what differs."""
    for what, of in (("type", type), ("dtype", lambda x: x.dtype), ("shape", lambda x: tuple(x.shape))):
        if of(got) != of(expected):
            return f"{what} {of(got)} is not {of(expected)}"
    got, expected = np.asarray(got), np.asarray(expected)
    return "" if got.tobytes() == expected.tobytes() else f"{np.sum(got != expected)} values differ"

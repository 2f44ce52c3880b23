"""The replay buffer: a draw of at most 32 entries of each key, which leave it."""

import copy

import numpy as np

import rollmath as rm
from bench import replay_alternatives
from bench.measure import cases

KEYS, PER_KEY = 16, 32


def filled(provider, of):
    """A full buffer; its entries are numbered, and have their key by turns."""
    n = KEYS * of
    keys = [f"question {i % KEYS}" for i in range(n)]
    if provider == "rollmath":
        buffer = rm.select.ReplayBuffer(max_age=8, per_key=PER_KEY)
        for start in range(0, n, n // 4):  # as in four iterations
            part = range(start, min(start + n // 4, n))
            buffer.add([keys[i] for i in part], np.array(part), iteration=0)
        return buffer
    made = replay_alternatives.ByEquality if provider == "python dicts" else replay_alternatives.ByPlace
    return made(replay_alternatives.edges(keys), max_age=8, per_key=PER_KEY)


def kept(result):
    """What draws at random agree in: how many of each key were drawn, that no entry came twice, and what is left."""
    positions, left = result
    return np.bincount(np.unique(positions) % KEYS, minlength=KEYS), len(positions), left


@cases(rollmath=1, python_dicts=1, python_places=1)
def test_draw(measure, quick, provider, threads):
    of = 64 if quick else 1032
    buffer = filled(provider, of)

    def call():
        own = copy.copy(buffer)  # a draw takes entries out
        if provider == "rollmath":
            return own.draw(iteration=1, seed=0).positions, len(own)
        return own.draw(1, 0), len(own.edges)

    measure(
        "replay_draw", provider, call, shape=f"{KEYS * PER_KEY} of {KEYS * of} entries, {KEYS} keys", dtype="int64",
        expected=(np.full(KEYS, PER_KEY), KEYS * PER_KEY, KEYS * (of - PER_KEY)), view=kept, threads=threads,
    )  # fmt: skip

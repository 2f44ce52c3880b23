"""Near-equal states: texts of 400 characters to canonical ids, with planted pairs that every rule finds.

Two extremes: a bound from counts of characters rules out nearly all pairs, or nearly none.
"""

import rollmath as rm
from bench import inputs, near_alternatives
from bench.machine import THREADS
from bench.measure import cases


def ids(measure, op, kind, provider, threads, tasks, of, rounds=None):
    data = inputs.near_texts(tasks, of, kind)

    def ours():
        return rm.graph.canonical_states(data.texts, data.tasks, threshold=near_alternatives.THRESHOLD).index

    call = {
        "rollmath": ours,
        "rapidfuzz": lambda: near_alternatives.rapidfuzz(data, threads),
        "python difflib": lambda: near_alternatives.difflib(data),
    }[provider]
    measure(
        op, provider, call, shape=f"{tasks} tasks of {of} {kind} texts of 400 characters", dtype="str",
        expected=data.clusters, threads=threads, rounds=rounds,
    )  # fmt: skip


@cases(rollmath=THREADS)
def test_unrelated(measure, quick, provider, threads):
    ids(measure, "near_unrelated", "unrelated", provider, threads, *((4, 40) if quick else (512, 240)), rounds=3)


@cases(rollmath=THREADS, rapidfuzz=THREADS[-1])
def test_templated(measure, quick, provider, threads):
    """A sixteenth of the tasks: time is linear in them."""
    ids(measure, "near_templated", "templated", provider, threads, *((4, 40) if quick else (32, 240)), rounds=3)


@cases(rollmath=1, rapidfuzz=1, python_difflib=1)
def test_unrelated_sample(measure, quick, provider, threads):
    rounds = 1 if provider == "python difflib" else None
    ids(measure, "near_unrelated_sample", "unrelated", provider, threads, 1, 20 if quick else 60, rounds)


@cases(rollmath=1, rapidfuzz=1, python_difflib=1)
def test_templated_sample(measure, quick, provider, threads):
    rounds = 1 if provider == "python difflib" else None
    ids(measure, "near_templated_sample", "templated", provider, threads, 1, 20 if quick else 60, rounds)

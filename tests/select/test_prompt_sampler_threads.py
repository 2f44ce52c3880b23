"""A prompt sampler in several threads, after a fork, under a callable that uses it, and its compiled class."""

from __future__ import annotations

import contextlib
import os
import pickle
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollmath import _core
from rollmath.select import PromptSampler


def test_several_threads_at_once(same_bits, fresh_nodes):
    sampler = PromptSampler(range(500), priority="learnability", explore=0.1)
    errors, rounds = [], 60

    def work(number):
        rng = np.random.default_rng(number)
        try:
            for k in range(rounds):
                drawn = sampler.draw(16, seed=1000 * number + k)
                assert len(set(drawn.positions.tolist())) == 16
                sampler.update(drawn.prompts, rng.integers(0, 2, 16), np.ones(16))
                if number == 0 and k % 10 == 0:
                    sampler.add([500 + k])
                    pickle.loads(pickle.dumps(sampler))
                if number == 1 and k % 10 == 5:
                    sampler.refresh()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert not any(thread.is_alive() for thread in threads)
    assert sampler.visits.sum() == 4 * rounds * 16
    assert (sampler.alpha + sampler.beta).sum() == 2 * len(sampler) + 4 * rounds * 16
    same_bits(sampler._tree.nodes(), fresh_nodes(sampler))


def test_a_callable_may_look_at_the_sampler_but_not_write_to_it(same_bits, fresh_nodes):
    made = []

    def priority(stats):
        assert not any(column.flags.writeable for column in stats)
        # What it was asked for is not yet in the sampler.
        return np.ones(len(stats.positions)) + (made[0].visits[stats.positions] if made else 0)

    made.append(PromptSampler(range(3), priority=priority))
    for expected in ([1.0, 1.0, 1.0], [2.0, 1.0, 1.0]):
        made[0].update([0], [1])
        assert made[0].priority.tolist() == expected
    made[0].refresh()
    assert made[0].priority.tolist() == [3.0, 1.0, 1.0]
    same_bits(made[0]._tree.nodes(), fresh_nodes(made[0]))


@pytest.mark.parametrize("change", ["add", "refresh", "load_state_dict"])
def test_a_callable_that_changes_its_sampler(same_bits, fresh_nodes, change):
    """What the update was about to write to would be there no more."""
    todo = []

    def priority(stats):
        if todo:
            todo.pop()()
        return np.ones(len(stats.positions))

    sampler = PromptSampler(["a", "b"], priority=priority)
    args = {"add": [["c"]], "refresh": [], "load_state_dict": [sampler.state_dict()]}[change]
    todo.append(lambda: getattr(sampler, change)(*args))
    if change == "refresh":
        sampler.update(["a"], [1])
        assert sampler.visits.tolist() == [1, 0]
    else:
        with pytest.raises(RuntimeError, match=r"PromptSampler.update\(\): 'priority' must not change its sampler"):
            sampler.update(["a"], [1])
        assert sampler.visits.sum() == 0
    sampler.update(["b"], [1])
    same_bits(sampler._tree.nodes(), fresh_nodes(sampler))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_amid_draws_of_other_threads(script):
    code = """
import os, threading, warnings
import numpy as np
from rollmath.select import PromptSampler
warnings.simplefilter("ignore")
sampler, stop = PromptSampler(range(20_000)), threading.Event()
expected = sampler.draw(5, seed=0).positions.tolist()
def work(number):
    k = 0
    while not stop.is_set():
        k += 1
        sampler.draw(512, seed=k)
        sampler.update(range(number, 20_000, 97), np.ones(len(range(number, 20_000, 97))))
threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
for thread in threads: thread.start()
codes = []
for _ in range(20):
    pid = os.fork()
    if pid == 0:
        good = sampler.draw(5, seed=0).positions.tolist() == expected
        sampler.update([3], [1])
        good = good and (sampler.alpha + sampler.beta == 2 + sampler.visits).all()
        os._exit(0 if good else 1)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
stop.set()
for thread in threads: thread.join()
assert codes == [0] * 20, codes
assert sampler.draw(5, seed=0).positions.tolist() == expected
"""
    script(code)


# The compiled class, called as the Python layer never would: an exception, and never a panic.

NUMBERS = st.sampled_from([0.0, -0.0, 1.0, 0.5, -1.0, 5e-324, 1e288, 1e300, np.nan, np.inf])
ARRAYS = st.one_of(
    st.lists(NUMBERS, max_size=5).map(lambda x: np.array(x, np.float64)),
    st.lists(st.integers(-2, 6), max_size=5).flatmap(
        lambda x: st.sampled_from(["i8", "u1", "f8", "O"]).map(lambda dtype: np.array(x).astype(dtype))
    ),
    st.sampled_from([None, 1.0, "x", np.zeros((2, 2)), np.zeros(4)[::2]]),
)


@given(st.data(), st.lists(st.sampled_from([0.0, 0.0, 1.0, 2.5]), max_size=5))
def test_no_call_panics(data, weights):
    draw, n = data.draw, len(weights)

    def survives(call):
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            call()

    survives(lambda: _core.Sampler("f", draw(ARRAYS), draw(ARRAYS), draw(st.floats())))
    sampler = _core.Sampler("f", np.array(weights), np.ones(n, np.uint8), draw(st.sampled_from([0.0, 0.5, 1.0])))
    survives(lambda: sampler.set("f", draw(ARRAYS), draw(ARRAYS), draw(ARRAYS)))
    before = sampler.nodes()
    many = st.lists(st.floats(), max_size=5)
    u = draw(many)
    survives(
        lambda: sampler.draw(
            "f",
            np.array(u, np.float64),
            np.array(draw(many) or u, np.float64),
            draw(st.booleans()),
            np.array(draw(st.lists(st.integers(-1, 9), max_size=4)), np.int64),
        )
    )
    survives(lambda: sampler.draw("f", draw(ARRAYS), draw(ARRAYS), True, draw(ARRAYS)))
    assert sampler.nodes().tobytes() == before.tobytes()
    assert len(sampler) == n

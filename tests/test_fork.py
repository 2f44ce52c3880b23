"""A process that forks after, or during, a parallel call goes on to give the same bits; nothing hangs."""

from __future__ import annotations

import os

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")

SETUP = """
import os, sys, threading, time, warnings
import multiprocessing as mp
import numpy as np
import rollmath as rm
warnings.simplefilter("ignore")  # newer Pythons warn of forks beside threads, which is the point here
rm.set_num_threads(2)
x = np.random.default_rng(0).normal(size=200_000)
ids = np.arange(200_000) // 8
def bits():
    return rm.group.grpo(x, ids).tobytes()
def in_child(f):
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if f() else 1)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(2)
    return pid
def succeeded(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
expected = bits()  # parallel: the pool exists from here on
"""


def test_fork_after_a_parallel_call(script):
    script(SETUP + "assert succeeded(in_child(lambda: bits() == expected)); assert bits() == expected")


def test_fork_after_keys_of_steps(script):
    code = """
texts = [f"{i % 50:05d}" * 9 for i in range(100_000)]
def numbers():
    steps = rm.Steps(np.arange(100_000) // 8, texts, groups=np.arange(100_000) // 50_000)
    return steps.state_index.tobytes() + steps.merge(history=3).groups.index.tobytes()
expected = numbers()
assert succeeded(in_child(lambda: numbers() == expected)); assert numbers() == expected
"""
    script(SETUP + code)


def test_fork_of_a_fork(script):
    code = """
def grandchild():
    return bits() == expected
def child():
    good = bits() == expected and succeeded(in_child(grandchild))
    return good and bits() == expected and succeeded(in_child(lambda: succeeded(in_child(grandchild))))
assert succeeded(in_child(child))
assert bits() == expected
"""
    script(SETUP + code)


def test_a_child_may_choose_its_own_number_of_threads(script):
    code = """
def child():
    same = True
    for n in (3, 1, 2, 3):
        rm.set_num_threads(n)
        same &= bits() == expected
    return same
assert succeeded(in_child(child))
assert rm.num_threads() == 2
"""
    script(SETUP + code)


def test_fork_while_other_threads_compute(script):
    code = """
stop = threading.Event()
calls = [0] * 3
def work(k):
    while not stop.is_set():
        assert bits() == expected
        calls[k] += 1
workers = [threading.Thread(target=work, args=(k,)) for k in range(3)]
for w in workers: w.start()
while min(calls) == 0: time.sleep(0.01)
try:
    pids = [in_child(lambda: bits() == expected) for _ in range(12)]
    assert all([succeeded(pid) for pid in pids])
finally:
    stop.set()
    for w in workers: w.join()
"""
    script(SETUP + code)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_pools(script, method):
    code = """
def main():
    with mp.get_context(METHOD).Pool(2) as pool:
        for out in pool.starmap(rm.group.grpo, [(x, ids)] * 4):
            assert out.tobytes() == expected
        groups = rm.Groups(ids)
        assert pool.apply(rm.group.grpo, (x, groups)).tobytes() == expected
main()
"""
    script(SETUP + code.replace("METHOD", repr(method)))


def test_the_parent_ends_cleanly_with_a_living_child(script):
    code = """
read, write = os.pipe()
pid = os.fork()
if pid == 0:
    os.write(write, b"1" if bits() == expected else b"0")
    sys.exit(0)  # runs the interpreter's own clean-up, with an inherited pool in memory
assert os.read(read, 1) == b"1"
assert succeeded(pid)
"""
    script(SETUP + code)

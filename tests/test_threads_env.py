"""How many threads, who says so, and that none starts before there is work for it."""

from __future__ import annotations

import os
import sys

import pytest

SHOW = """
import warnings
warnings.simplefilter("always")
import rollmath as rm
print(rm.num_threads(), rm.num_threads())
"""


def count(script, **env):
    out, err = script(SHOW, **env)
    first, second = map(int, out.split())
    assert first == second
    return first, err


def test_precedence(script):
    names = ["ROLLMATH_NUM_THREADS", "RAYON_NUM_THREADS", "OMP_NUM_THREADS", "LOCAL_WORLD_SIZE"]
    values = dict(zip(names, ["3", "5", "7", "1"], strict=True))
    assert count(script, **values) == (3, "")
    del values["ROLLMATH_NUM_THREADS"]
    assert count(script, **values) == (5, "")
    del values["RAYON_NUM_THREADS"]
    assert count(script, **values) == (7, "")


def test_set_num_threads_wins(script):
    code = "import rollmath as rm\nfor n in (2, 4): rm.set_num_threads(n); print(rm.num_threads())"
    assert script(code, ROLLMATH_NUM_THREADS="3") == ("2\n4\n", "")


def test_cores_are_shared_by_the_ranks_of_a_node(script):
    cores, _ = count(script)
    assert 1 <= cores <= (os.cpu_count() or 1)
    assert count(script, LOCAL_WORLD_SIZE="2") == (max(cores // 2, 1), "")
    assert count(script, LOCAL_WORLD_SIZE="100000") == (1, "")
    for odd in ("0", "many", ""):
        assert count(script, LOCAL_WORLD_SIZE=odd)[0] == cores


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("ROLLMATH_NUM_THREADS", value) for value in ("abc", "-3", "0", "2.5", "99999999999999999999999")],
        ("RAYON_NUM_THREADS", "abc"),
        ("OMP_NUM_THREADS", "abc"),
    ],
)
def test_bad_values_warn_once_and_name_the_variable(script, name, value):
    fallback = "OMP_NUM_THREADS" if name != "OMP_NUM_THREADS" else "LOCAL_WORLD_SIZE"
    n, err = count(script, **{name: value, fallback: "1"})
    assert err.count(f"RuntimeWarning: {name}={value} is not a positive number of threads; ignoring it") == 1
    if fallback == "OMP_NUM_THREADS":
        assert n == 1


def test_absurd_lists_and_empty_values(script):
    n, err = count(script, ROLLMATH_NUM_THREADS="100000")
    assert (n, "ROLLMATH_NUM_THREADS=100000 is more than 512 threads; using 512" in err) == (512, True)
    assert count(script, OMP_NUM_THREADS="4,3,2") == (4, "")
    assert count(script, ROLLMATH_NUM_THREADS="", RAYON_NUM_THREADS=" 6 ") == (6, "")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads in /proc")
def test_threads_start_with_the_first_large_call_only(script):
    code = """
import os
import numpy as np
threads = lambda: len(os.listdir("/proc/self/task"))
counts = [threads()]
import rollmath as rm
counts.append(threads())
rm.group.grpo([1.0, 0.0], [0, 0]), rm.Ragged.from_lists([[1]]).to_padded(), rm.num_threads()
counts.append(threads())
x, ids = np.zeros(200_000), np.arange(200_000)
rm.group.grpo(x, ids)
counts.append(threads())
for _ in range(3): rm.group.grpo(x, ids)
counts.append(threads())
rm.set_num_threads(1)
rm.group.grpo(x, ids)
rm.set_num_threads(2)
rm.group.grpo(x, ids)
counts.append(threads())
print(*[c - counts[0] for c in counts])
"""
    assert script(code, ROLLMATH_NUM_THREADS="2", OMP_NUM_THREADS="1")[0].split() == ["0", "0", "0", "2", "2", "2"]

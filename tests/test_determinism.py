"""The same bits for any number of threads, any order of rows, and any number of callers at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import rollmath as rm
from rollmath import ops

#: Well over the size from which calls run in parallel (65,536 elements).
N = 200_000


@pytest.fixture
def threads():
    before = rm.num_threads()
    yield rm.set_num_threads
    rm.set_num_threads(before)


def batch(dtype, seed=0, skew=False):
    rng = np.random.default_rng(seed)
    # With skew one group has half of the rows; some rewards are equal, some groups have one row.
    ids = np.where(rng.random(N) < 0.5, -1, rng.integers(0, N // 6, N)) if skew else rng.integers(0, N // 6, N)
    x = np.where(rng.random(N) < 0.3, 1.0, rng.normal(size=N) * 10.0 ** rng.integers(-6, 6, N))
    return x.astype(dtype), ids, rng.random(N) < 0.9


CALLS = {
    "grpo": lambda x, g, v: rm.group.grpo(x, g, valid=v),
    "grpo_loo": lambda x, g, v: rm.group.grpo(x, g, valid=v, leave_one_out=True),
    "rloo": lambda x, g, v: rm.group.rloo(x, g, valid=v),
    "batch_std": lambda x, g, v: ops.normalize(x, g, valid=v, scale="batch_residual_std"),
    "quantile": lambda x, g, v: ops.gather(ops.segment_quantile(x, g, 0.3, valid=v), g),
    "logmeanexp": lambda x, g, v: ops.gather(ops.segment_logmeanexp(x / 1e6, g, 2.0, valid=v), g),
    "weighted_mean": lambda x, g, v: ops.gather(ops.segment_weighted_mean(x, g, np.abs(x), valid=v), g),
    "broadcast": lambda x, g, v: ops.segment_broadcast(x, g, valid=v),
    "broadcast_weighted": lambda x, g, v: ops.segment_broadcast(x, g, how="sum", weights=np.abs(x), valid=v),
    "loo_mean": lambda x, g, v: ops.loo_mean(x, g, valid=v),
    "std": lambda x, g, v: ops.gather(ops.segment_std(x, g, valid=v), g),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("skew", [False, True])
@pytest.mark.parametrize("name", CALLS)
def test_threads_and_order_change_no_bit(same_bits, threads, name, dtype, skew):
    x, ids, valid = batch(dtype, skew=skew)
    threads(1)
    expected = CALLS[name](x, rm.Groups(ids), valid)
    for n in (2, 3, 4):
        threads(n)
        same_bits(CALLS[name](x, rm.Groups(ids), valid), expected)
    turn = np.random.default_rng(1).permutation(N)
    same_bits(CALLS[name](x[turn], rm.Groups(ids[turn]), valid[turn]), expected[turn])


def test_part_of_the_batch_gives_the_same_bits(same_bits, threads):
    threads(2)
    x, ids, valid = batch(np.float64)
    expected = rm.group.grpo(x, ids, valid=valid)
    for part in (ids % 3 == 0, ids % 3 == 1, ids < 50):  # below and above the parallel size
        same_bits(rm.group.grpo(x[part], ids[part], valid=valid[part]), expected[part])


@pytest.mark.parametrize("size", [1000, N])
def test_eight_callers_at_once(same_bits, threads, size):
    threads(2)
    batches = [tuple(column[:size] for column in batch(np.float64, seed)) for seed in range(4)]
    expected = [rm.group.grpo(x, ids, valid=valid) for x, ids, valid in batches]

    def work(k):
        x, ids, valid = batches[k % 4]
        rows = rm.Ragged.from_lengths(x, np.full(size // 4, 4))
        assert np.array_equal(rows.to_padded(), x.reshape(-1, 4))
        return rm.group.grpo(x, ids, valid=valid)

    with ThreadPoolExecutor(8) as pool:
        for k, got in enumerate(pool.map(work, range(24))):
            same_bits(got, expected[k % 4])


def test_callers_may_share_a_noun_and_its_arrays(same_bits):
    x, ids, valid = batch(np.float32)
    groups = rm.Groups(ids)
    expected = rm.group.grpo(x, groups, valid=valid)
    with ThreadPoolExecutor(8) as pool:
        for got in pool.map(lambda _: (groups.counts, rm.group.grpo(x, groups, valid=valid))[1], range(16)):
            same_bits(got, expected)


def ticks_during(call):
    """How often another thread gets to run; it tries every half millisecond."""
    ticks, stop = [0], threading.Event()

    def tick():
        while not stop.is_set():
            ticks[0] += 1
            stop.wait(0.0005)

    other = threading.Thread(target=tick)
    other.start()
    try:
        before = ticks[0]
        call()
        return ticks[0] - before
    finally:
        stop.set()
        other.join()


@pytest.mark.parametrize("n", [1, 2])
def test_the_interpreter_runs_on_during_a_call(threads, n):
    threads(n)
    x, groups = np.random.default_rng(0).normal(size=3_000_000), rm.Groups(np.zeros(3_000_000, dtype=np.int64))
    # A call that keeps the interpreter leaves the other thread at most a switch at its start and one at its end.
    assert ticks_during(lambda: ops.segment_quantile(x, groups, 0.5)) > 5


def test_eight_callers_may_share_a_list_of_texts_that_one_of_them_changes(threads):
    threads(2)
    texts = [f"{i % 50:05d}" * 9 for i in range(100_000)]
    task = np.arange(100_000) // 240
    expected = rm.Steps(np.arange(100_000), texts, groups=task).state_index
    shared, stop = list(texts), threading.Event()

    def change():
        while not stop.is_set():
            # Equal texts, but new objects: the old ones are freed unless the callers hold them.
            shared[:] = [text[:9] + text[9:] for text in texts]

    other = threading.Thread(target=change)
    other.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            for steps in pool.map(lambda _: rm.Steps(np.arange(100_000), shared, groups=task), range(16)):
                assert np.array_equal(steps.state_index, expected)
    finally:
        stop.set()
        other.join()


def test_the_interpreter_runs_on_while_keys_are_hashed(threads):
    threads(1)
    texts, rows = np.zeros((200, 1_000_000), np.uint8), np.arange(200)
    assert ticks_during(lambda: rm.Steps(rows, texts, groups=0 * rows)) > 5

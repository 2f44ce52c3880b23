"""Step graphs: keys of texts, GiGPO, SALT and HGPO of 122,880 steps, and the values of a graph."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

import rollmath as rm
from bench import step_alternatives as ways
from bench import step_inputs as inputs
from bench.machine import THREADS
from bench.measure import cases
from bench.peers import trinity_steps
from rollmath._step_keys import number_keys

TASKS = 512


def table(x, *, actions):
    """From ids, texts and rewards to the table: what is timed begins with these."""
    return rm.Steps(x.trajectory, x.states, x.actions if actions else None, groups=x.task)


def run(measure, op, provider, threads, call, x, expected):
    measure(
        op, provider, call, shape=x.shape, dtype="float64", expected=expected, rtol=1e-9, threads=threads, setup=x.renew
    )


@cases(rollmath=THREADS, rollmath_string_ids=THREADS, numpy_and_a_dict=1, python_loops=1)
def test_gigpo(measure, quick, provider, threads):
    x = inputs.planted(16 if quick else TASKS)
    trajectory, task = (
        [f"trajectory-{t:032d}" for t in x.trajectory.tolist()],
        [f"task-{t:032d}" for t in x.task.tolist()],
    )
    call = {
        "rollmath": lambda: rm.graph.gigpo(table(x, actions=False), x.rewards),
        "rollmath string ids": lambda: rm.graph.gigpo(rm.Steps(trajectory, x.states, groups=task), x.rewards),
        "numpy and a dict": lambda: ways.gigpo_numpy(x),
        "python loops": lambda: ways.gigpo_loops(x),
    }[provider]
    run(measure, "gigpo", provider, threads, call, x, inputs.gigpo(x))


@cases(rollmath=1, python_loops=1, trinity=1)
def test_gigpo_sample(measure, quick, provider, threads):
    x = inputs.planted(8 if quick else 107)
    if provider == "trinity":
        call = trinity_steps.gigpo(x)
    else:
        call = {
            "rollmath": lambda: rm.graph.gigpo(table(x, actions=False), x.rewards),
            "python loops": lambda: ways.gigpo_loops(x),
        }[provider]
    # Trinity computes in float32, and divides by 1 + 1e-6.
    measure(
        "gigpo_sample", provider, call, shape=x.shape, dtype="float64", expected=inputs.gigpo(x),
        rtol=1e-5 if provider == "trinity" else 1e-9, threads=threads, setup=x.renew,
    )  # fmt: skip


@cases(rollmath=THREADS, numpy_and_a_dict=1)
def test_salt(measure, quick, provider, threads):
    x = inputs.planted(16 if quick else TASKS)
    advantages = inputs.advantages(x)
    call = {
        "rollmath": lambda: rm.graph.salt(table(x, actions=True), advantages),
        "numpy and a dict": lambda: ways.salt_numpy(x, advantages),
    }[provider]
    run(measure, "salt", provider, threads, call, x, inputs.salt(x))


@cases(rollmath=THREADS, python_loops=1)
def test_hgpo(measure, quick, provider, threads):
    x = inputs.planted(16 if quick else TASKS)
    call = {
        "rollmath": lambda: rm.graph.hgpo(
            table(x, actions=False), x.rewards, history=2, gamma=inputs.GAMMA, scale="none"
        ),
        "python loops": lambda: ways.hgpo_loops(x, 2),
    }[provider]
    run(measure, "hgpo", provider, threads, call, x, inputs.hgpo(x, 2))


@cases(probe_read=THREADS, rollmath=THREADS, rollmath_table=THREADS, python_dict=1)
def test_keys(measure, quick, provider, threads):
    x = inputs.planted(1 if quick else 2084, 2000)
    size = sum(map(len, x.states))
    words, pool = np.ones(size // 8, np.uint64), ThreadPoolExecutor(threads)
    parts, tasks = np.array_split(words, threads), rm.Groups(x.task)
    call = {
        "probe read": lambda: list(pool.map(np.max, parts)),
        "rollmath": lambda: number_keys("Steps", tasks, {"state": x.states})[0]["state"],
        "rollmath table": lambda: table(x, actions=False).state_index,
        "python dict": lambda: ways.numbered(zip(x.task.tolist(), x.states, strict=True), len(x.states)),
    }[provider]
    # Numbers in the order of first appearance.
    first, index = np.unique(x.state_number, return_index=True, return_inverse=True)[1:]
    measure(
        "keys", provider, call, shape=f"{len(x.states)} texts, {size / 1e9:.2f} GB", dtype="str", threads=threads,
        setup=None if provider == "probe read" else x.renew,
        expected=None if provider == "probe read" else np.argsort(np.argsort(first))[index],
    )  # fmt: skip


@cases(rollmath=1, scipy_dijkstra=1, networkx_1000_sweeps=1)
def test_graph_values(measure, quick, provider, threads):
    x = inputs.walks(60 if quick else 400)
    source, target, number = ways.transitions(x.states)
    reward = np.zeros(int(number.max()) + 1)
    np.maximum.at(reward, number[np.cumsum([len(s) for s in x.states]) - 1], x.rewards)
    call = {
        "rollmath": lambda: graph_values(x, reward, number),
        "scipy dijkstra": lambda: ways.values_scipy(source, target, reward),
        "networkx 1000 sweeps": lambda: ways.values_networkx(source, target, reward, 50 if quick else 1000),
    }[provider]()
    measure(
        "graph_values", provider, call, shape=f"{len(reward)} states, {len(source)} transitions", dtype="float64",
        expected=inputs.best_values(source, target, reward), rtol=1e-12, threads=threads,
    )  # fmt: skip


def graph_values(x, reward, number):
    """Values of the states by their number; the graph is given."""
    graph = rm.Steps.from_episodes(x.states, groups=np.zeros(len(x.states), int)).graph(action=False)
    node = np.zeros(len(reward), np.int64)
    node[number] = graph.node_of_row
    sinks = np.full(graph.n_nodes, np.nan)
    sinks[node[reward > 0]] = 1.0
    return lambda: rm.ops.graph_backup(graph, sinks, how="max", gamma=inputs.GAMMA)[node]

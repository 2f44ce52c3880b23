"""The prompt sampler: a dict of prompts that does the same, the distribution of draws, checkpoints, threads, forks."""

from __future__ import annotations

import contextlib
import copy
import itertools
import os
import pickle
import threading
import uuid

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm
from rollmath import _core
from rollmath.select import PromptSampler, PromptStats

NAMES = list("abcdefg")
OPTIONS = st.fixed_dictionaries(
    {
        "priority": st.sampled_from(["uniform", "learnability", "failure", "nearest"]),
        "decay": st.sampled_from([1.0, 0.5, 0.0]),
        "explore": st.sampled_from([0.0, 0.0, 0.25, 1.0]),
        "least": st.sampled_from([0.0, 0.0, 0.2]),
        "prior": st.sampled_from([(1.0, 1.0), (0.5, 2.0)]),
    }
)
ROWS = st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 4), st.sampled_from([1.0, 0.75, 4.0])), max_size=9)
ROUNDS = st.lists(
    st.tuples(
        ROWS,
        st.lists(st.sampled_from(NAMES), max_size=3),
        st.sampled_from(["", "", "retire", "enable", "add", "pickle", "state", "copy", "refresh"]),
        st.integers(1, 9),
        st.integers(0, 2**70),
        st.booleans(),
    ),
    max_size=8,
)

#: 0.999 quantiles of chi-square, by degrees of freedom.
CHI_SQUARE = {3: 16.27, 4: 18.47, 5: 20.52, 11: 31.26}


def fresh_nodes(sampler):
    """The tree of a sampler that never knew anything but these priorities."""
    n = len(sampler)
    return _core.Sampler("f", np.array(sampler.priority), np.ones(n, np.uint8), 0.0).nodes()


@given(OPTIONS, ROUNDS)
def test_a_dict_of_prompts(oracle, same_bits, options, rounds):
    if options["priority"] == "nearest":
        options = {**options, "target": 0.25, "width": 0.125, "kernel": "triangular"}
    ours, plain = PromptSampler(NAMES, **options), oracle("select/prompt_sampler.py", "PromptSampler")(NAMES, **options)
    for number, (rows, some, what, n, seed, replace) in enumerate(rounds):
        prompts = [name for name, *_ in rows]
        successes, trials = [k / 4 * t for _, k, t in rows], [t for *_, t in rows]
        ours.update(prompts, successes, trials)
        plain.update(prompts, successes, trials)
        if what in ("retire", "enable"):
            getattr(ours, what)(some)
            for name in some:
                plain.known[name]["out"] = what == "retire"
        elif what == "add":
            ours.add([f"new {number}"])
            plain.add([f"new {number}"])
        elif what == "pickle":
            ours = pickle.loads(pickle.dumps(ours))
        elif what == "copy":
            ours = copy.deepcopy(ours)
        elif what == "state":
            state, ours = ours.state_dict(), PromptSampler(NAMES, **options)
            ours.load_state_dict(state)
        elif what == "refresh":
            ours.refresh()
        known = plain.known.values()
        assert ours.prompts == tuple(plain.known)
        assert ours.visits.tolist() == [x["visits"] for x in known]
        assert ours.last_step.tolist() == [x["last"] for x in known]
        assert ours.retired.tolist() == [x["out"] for x in known]
        assert_allclose(ours.mean, [x["alpha"] / (x["alpha"] + x["beta"]) for x in known], rtol=1e-12)
        assert_allclose(ours.priority, [0.0 if x["out"] else x["weight"] for x in known], rtol=1e-9, atol=1e-12)
        same_bits(ours._tree.nodes(), fresh_nodes(ours))
        drawn, chances = plain.draw(n, seed=seed, replace=replace, exclude=some)
        if not drawn:
            with pytest.raises(ValueError, match="'prompts' must have one that is"):
                ours.draw(n, seed=seed, replace=replace, exclude=some)
            continue
        got = ours.draw(n, seed=seed, replace=replace, exclude=some, short="keep")
        assert list(got.prompts) == drawn
        assert_allclose(got.probability, chances, rtol=1e-12)
        assert [ours.prompts[i] for i in got.positions] == drawn
        same_bits(ours._tree.nodes(), fresh_nodes(ours))


def test_by_hand():
    sampler = PromptSampler(["p", "q", "r"], priority="failure", prior=(1.0, 3.0))
    assert (sampler.mean[0], sampler.priority[0]) == (0.25, 0.75)
    assert repr(sampler) == "PromptSampler(3 prompts, 0 seen, 0 retired, priority='failure')"
    # Eight rollouts as eight rows, or as one.
    sampler.update(["p"] * 4 + ["q"], [1, 0, 1, 1, 2], [1, 1, 1, 1, 4], step=5)
    assert sampler.alpha.tolist() == [4.0, 3.0, 1.0]
    assert sampler.beta.tolist() == [4.0, 5.0, 3.0]
    assert sampler.visits.tolist() == [1, 1, 0]
    assert sampler.last_step.tolist() == [5, 5, -1]
    sampler.update(["r"], [0.25])
    assert (sampler.alpha[2], sampler.beta[2], sampler.last_step[2]) == (1.25, 3.75, 6)
    sampler.retire(["p"])
    assert sampler.priority.tolist() == [0.0, 0.625, 0.75]
    sampler.update(["p"], [4], [4])
    assert repr(sampler) == "PromptSampler(3 prompts, 3 seen, 1 retired, priority='failure')"
    assert set(sampler.draw(2, seed=0).prompts) == {"q", "r"}
    sampler.enable(["p"])
    assert sampler.priority[0] == 4 / 12
    assert len(sampler) == 3


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({"priority": "uniform"}, [1.0, 1.0, 1.0], id="uniform"),
        pytest.param({"priority": "learnability"}, [0.1875, 0.25, 0.0], id="learnability"),
        pytest.param({"priority": "failure"}, [0.75, 0.5, 0.0], id="failure"),
        pytest.param({"priority": "nearest"}, [np.exp(-1.0), 1.0, np.exp(-2.0)], id="nearest"),
        pytest.param(
            {"priority": "nearest", "target": 0.25, "width": 0.5, "kernel": "triangular"}, [1.0, 0.5, 0.0], id="kernel"
        ),
        pytest.param({"priority": "learnability", "least": 0.2}, [0.2, 0.25, 0.2], id="least"),
        pytest.param({"priority": lambda s: s.visits + s.positions / 8}, [1.0, 1.125, 1.25], id="callable"),
    ],
)
def test_priorities(vectors, options, expected):
    vas = vectors("flat")["vas"]
    sampler = PromptSampler(range(3), decay=0.0, **options)
    sampler.update([2, 0, 1], np.array(vas["p"])[[2, 0, 1]])
    assert sampler.mean.tolist() == vas["p"]
    assert_allclose(sampler.priority, expected, rtol=1e-15)
    if options == {"priority": "learnability"}:
        assert sampler.priority.tolist() == vas["learnability"]


def test_priorities_of_prompts_that_nearly_always_succeed():
    """1 - p in float64 has no digit left of these."""
    sampler = PromptSampler(range(2), priority="failure")
    product = PromptSampler(range(2), priority="learnability")
    for s in (sampler, product):
        s.update([0, 1], [1e17, 3e13], [1e17, 3e13])
    assert_allclose(sampler.priority, [1 / (1e17 + 2), 1 / (3e13 + 2)], rtol=1e-15)
    assert_allclose(product.priority, [1e-17, 1 / 3e13], rtol=1e-12)
    near = PromptSampler(range(2), priority="nearest", target=0.5, width=5e-324)
    near.update([0], [1])
    assert near.priority.tolist() == [0.0, 1.0]


def test_a_callable_is_asked_for_what_changed():
    asked = []

    def stale(stats: PromptStats):
        asked.append(stats.positions.tolist())
        return np.float32(1.0) + stats.visits + (stats.mean > 0.7)

    sampler = PromptSampler(["p", "q", "r"], priority=stale)
    sampler.update(["r", "p"], [1, 0], [1, 1])
    sampler.add(["s"])
    assert asked == [[0, 1, 2], [2, 0], [3]]
    assert sampler.priority.tolist() == [2.0, 1.0, 2.0, 1.0]
    sampler.set_priorities(["q"], [7])
    assert sampler.priority.tolist() == [2.0, 7.0, 2.0, 1.0]
    sampler.refresh()
    assert asked[-1] == [0, 1, 2, 3]
    assert sampler.priority.tolist() == [2.0, 1.0, 2.0, 1.0]
    assert "priority=stale" in repr(sampler)


def test_the_posterior_is_that_of_the_single_stream(same_bits):
    rng = np.random.default_rng(0)
    sampler = PromptSampler(range(5), prior=(0.5, 0.5), decay=0.9)
    state = rm.group.BetaBaseline(range(5), [0.5] * 5, [0.5] * 5, rho=(0.9, 0.9))
    for _ in range(6):
        prompts, rewards = rng.integers(0, 5, 12), rng.random(12)
        sampler.update(prompts, rewards)
        state = state.update(rewards, prompts)
        same_bits(sampler.alpha, state.alpha)
        same_bits(sampler.beta, state.beta)
        turn = rng.permutation(12)
        other = copy.deepcopy(sampler)
        sampler.update(prompts, rewards)
        other.update(prompts[turn], rewards[turn])
        state = state.update(rewards, prompts)
        same_bits(sampler.alpha, other.alpha)


# What others compute.


def test_pools_by_difficulty_as_a_callable():
    """prime-rl, commit 559b447: weights by the mean of the last group, in pools of inclusive thresholds; unseen 1."""
    pools, thresholds = np.array([0.5, 2.0, 0.25]), np.array([0.0, 0.75])  # hard, normal, easy
    sampler = PromptSampler(
        NAMES[:5],
        decay=0.0,
        priority=lambda s: np.where(s.visits == 0, 1.0, pools[np.searchsorted(thresholds, s.mean)]),
    )
    groups = [("a", [1, 1]), ("b", [0, 0]), ("c", [1, 0, 1, 0]), ("d", [1, 1, 1, 0]), ("a", [0, 1]), ("b", [1, 1])]
    for prompt, rewards in groups:
        sampler.update([prompt] * len(rewards), rewards)
    assert sampler.priority.tolist() == [2.0, 0.25, 2.0, 2.0, 1.0]


def test_near_a_target_as_in_bots():
    """Trinity 0.6.0, DifficultyBasedSelector: target_reward 0.8, tau 0.5; counts not observed are predicted."""
    alpha = [5.0, 1.887271695869644, 3.0, 2.2727264132247034]
    beta = [5.0, 1.712728304130356, 7.000000000000001, 1.3272735867752967]
    sampler = PromptSampler(range(4), priority="nearest", target=0.8, width=0.5)
    sampler.update([0, 2], [4, 2], [8, 8])
    assert_allclose([sampler.alpha[[0, 2]], sampler.beta[[0, 2]]], [[5.0, 3.0], [5.0, 7.0]], rtol=1e-15)
    sampler.load_state_dict({**sampler.state_dict(), "alpha": alpha, "beta": beta})
    sampler.refresh()
    expected = [0.24873524759452703, 0.26109213262863595, 0.1667322226182495, 0.3234403971585875]
    assert_allclose(sampler.priority / sampler.priority.sum(), expected, rtol=1e-14)
    drawn = sampler.draw(4, seed=0)
    assert_allclose(drawn.probability, np.array(expected)[drawn.positions], rtol=1e-14)


# The distribution.


def chi_square(counts, chances):
    expected = np.array(chances) * sum(counts)
    return float(((np.array(counts) - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("explore", [0.0, 0.3])
def test_draws_with_replacement_have_the_distribution(explore):
    weights = np.array([0.5, 0.0, 3.0, 1.0, 1e-9, 5.5])
    sampler = PromptSampler(range(6), explore=explore)
    sampler.set_priorities(range(6), weights)
    chances = (1 - explore) * weights / weights.sum() + explore / 6
    drawn = sampler.draw(100_000, seed=1, replace=True)
    assert_allclose(drawn.probability, chances[drawn.positions], rtol=1e-14)
    counts = np.bincount(drawn.positions, minlength=6)
    often = chances > 1e-6
    assert chi_square(counts[often], chances[often]) < CHI_SQUARE[often.sum() - 1]
    assert explore or counts[~often].tolist() == [0, 0]


@pytest.mark.parametrize("explore", [0.0, 0.5])
def test_draws_without_replacement_have_the_distribution(explore):
    weights = [1.0, 2.0, 3.0, 6.0]
    sampler = PromptSampler(range(4), explore=explore)
    sampler.set_priorities(range(4), weights)

    def chance(i, left):
        return (1 - explore) * weights[i] / sum(weights[j] for j in left) + explore / len(left)

    pairs = list(itertools.permutations(range(4), 2))
    chances = [chance(i, range(4)) * chance(j, {0, 1, 2, 3} - {i}) for i, j in pairs]
    counts = dict.fromkeys(pairs, 0)
    for seed in range(8000):
        counts[tuple(sampler.draw(2, seed=seed).positions.tolist())] += 1
    assert chi_square(list(counts.values()), chances) < CHI_SQUARE[11]


def test_half_of_many():
    sampler = PromptSampler(range(1000))
    sampler.set_priorities(range(1000), np.arange(1000))
    drawn = sampler.draw(999, seed=3)
    assert sorted(drawn.positions.tolist()) == list(range(1, 1000))
    assert drawn.positions[:100].mean() > 600
    # The first draws of a longer call, and the same in every process.
    assert drawn.positions[:5].tolist() == sampler.draw(5, seed=3).positions.tolist() == [767, 233, 552, 503, 283]


def test_the_smallest_weights_have_their_shares():
    """A product of subnormal numbers keeps few bits, or none."""
    sampler = PromptSampler(range(3))
    sampler.set_priorities(range(3), [5e-324, 0.0, 5e-324])
    counts = np.bincount(sampler.draw(4000, seed=0, replace=True).positions, minlength=3)
    assert chi_square(counts[[0, 2]], [0.5, 0.5]) < 10.83


@pytest.mark.parametrize("explore", [0.0, 0.25])
def test_how_prompts_came_changes_no_draw(explore):
    """Two ranks with the same prompts in the same order, and the same updates, draw the same."""
    names = [f"prompt {i}" for i in range(300)]
    one, other = (PromptSampler(names[:k], priority="failure", explore=explore) for k in (300, 7))
    other.add(names[7:200])
    other.add(names[200:])
    rows = np.random.default_rng(0).integers(0, 300, 900)
    for order in (rows, rows[::-1]):
        (one if order is rows else other).update([names[i] for i in order], order % 7 / 6)
    for seed in range(20):
        assert one.draw(50, seed=seed).prompts == other.draw(50, seed=seed).prompts


def test_added_prompts_of_no_weight_change_no_draw():
    few, many = PromptSampler(range(100), priority="failure"), PromptSampler(range(100), priority="failure")
    for sampler in (few, many):
        sampler.update(range(100), np.arange(100) / 100)
    many.add(range(100, 1000))
    many.retire(range(100, 1000))
    for seed in range(20):
        assert few.draw(30, seed=seed).positions.tolist() == many.draw(30, seed=seed).positions.tolist()


def test_weights_of_zero_are_never_drawn():
    sampler = PromptSampler(range(70))
    sampler.set_priorities(range(70), np.where(np.arange(70) % 3 == 1, 10.0 ** np.arange(-300, 50, 5), 0.0))
    can = {i for i in range(70) if i % 3 == 1}
    for seed in range(50):
        assert set(sampler.draw(50, seed=seed, replace=True).positions.tolist()) <= can
        assert set(sampler.draw(len(can), seed=seed).positions.tolist()) == can


def test_exclude_and_short():
    sampler = PromptSampler(["a", "b", "c"], explore=0.5)
    sampler.retire(["c"])
    assert sampler.draw(1, seed=0, exclude=["a", "a"]).prompts == ("b",)
    assert sampler.draw(1, seed=0, exclude=[0], by="position").prompts == ("b",)
    assert set(sampler.draw(5, seed=0, short="keep").prompts) == {"a", "b"}
    assert len(sampler.draw(5, seed=0, replace=True).positions) == 5
    sampler.set_priorities(["a", "b"], [0.0, 0.0])
    drawn = sampler.draw(2, seed=0)
    assert (set(drawn.prompts), drawn.probability.tolist()) == ({"a", "b"}, [0.5, 0.5])


# Ids.


@pytest.mark.parametrize(
    "ids",
    [
        pytest.param(["a", "b", "c"], id="strings"),
        pytest.param([b"a", b"b", b"c"], id="bytes"),
        pytest.param([7, -3, 5], id="ints"),
        pytest.param([2**70, 3, -(2**70)], id="large"),
        pytest.param([uuid.UUID(int=i) for i in (3, 1, 2)], id="uuids"),
        pytest.param([(1, "a"), (0, "b"), (1, "b")], id="tuples"),
        pytest.param(np.array([9, 4, 6], np.uint8), id="bytes-array"),
        pytest.param(np.array(["x", "y", "z"]), id="text-array"),
        pytest.param(range(10, 4, -2), id="range"),
        pytest.param(range(2**70, 2**70 + 3), id="far-range"),
        pytest.param(rm.Groups(["u", "v", "w"]), id="groups"),
    ],
)
def test_ids_of_every_type(ids):
    sampler = PromptSampler(ids)
    listed = list(ids.ids) if isinstance(ids, rm.Groups) else [x.item() if hasattr(x, "item") else x for x in ids]
    assert list(sampler.prompts) == listed
    sampler.update([listed[1], listed[2], listed[1]], [1, 0, 1])
    sampler.update([1], [1], by="position")
    assert sampler.visits.tolist() == [0, 2, 1]
    assert list(sampler.draw(3, seed=0).prompts) == [listed[i] for i in sampler.draw(3, seed=0).positions]
    other = PromptSampler(ids)
    other.load_state_dict(pickle.loads(pickle.dumps(sampler.state_dict())))
    assert list(other.prompts) == listed
    assert other.alpha.tolist() == sampler.alpha.tolist()
    with pytest.raises(ValueError, match="must all be different"):
        sampler.add([listed[0]])


def test_torch_and_arrays_of_the_caller():
    torch = pytest.importorskip("torch")
    ids = torch.tensor([5, 3, 4])
    sampler = PromptSampler(ids)
    ids[:] = 0
    sampler.update(
        torch.tensor([3, 4]), torch.tensor([1, 0.5], dtype=torch.bfloat16), torch.tensor([2, 1], dtype=torch.int32)
    )
    assert sampler.prompts.tolist() == [5, 3, 4]
    assert sampler.alpha.tolist() == [1.0, 2.0, 1.5]
    for name in ("prompts", "alpha", "beta", "mean", "visits", "last_step", "priority", "retired"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(sampler, name)[0] = 0
    before = sampler.alpha
    sampler.update([5], [1])
    assert before.tolist() == [1.0, 2.0, 1.5]
    state = sampler.state_dict()
    state["alpha"][:] = 9
    state["prompts"][:] = 9
    assert sampler.alpha.max() == 2.0
    assert sampler.prompts.tolist() == [5, 3, 4]


def test_no_prompts_yet():
    sampler = PromptSampler([])
    assert len(sampler) == 0
    sampler.update([], [])
    with pytest.raises(
        ValueError, match=r"'prompts' must have one that is of a positive priority .*, got none among 0"
    ):
        sampler.draw(1, seed=0)
    sampler.add(["a", "b"])
    assert set(sampler.draw(2, seed=0).prompts) == {"a", "b"}
    other = PromptSampler([])
    other.load_state_dict(sampler.state_dict())
    assert other.prompts == ("a", "b")


# Several threads, and forks.


def test_several_threads_at_once(same_bits):
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


def test_a_callable_may_look_at_the_sampler_but_not_write_to_it(same_bits):
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
def test_a_callable_that_changes_its_sampler(same_bits, change):
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


# Checkpoints and wrong calls.


def test_a_restored_sampler_goes_on_as_the_other_would_have():
    one = PromptSampler(["a", "b", "c", "d"], priority="nearest", explore=0.2, decay=0.9)
    one.update(["a", "b", "c"], [1, 0, 3], [4, 4, 4], step=7)
    one.retire(["b"])
    one.set_priorities(["c"], [5.0])
    other = PromptSampler(["a", "b"], priority="nearest", explore=0.2, decay=0.9)
    other.load_state_dict(one.state_dict())
    for sampler in (one, other):
        sampler.update(["a"], [1])
    assert one.last_step.tolist() == other.last_step.tolist() == [8, 7, 7, -1]
    for seed in range(20):
        assert one.draw(3, seed=seed).prompts == other.draw(3, seed=seed).prompts


def test_a_state_goes_on_with_other_options():
    one = PromptSampler(["a", "b"])
    one.update(["a", "b"], [1, 0], [4, 4])
    state = pickle.loads(pickle.dumps(one.state_dict()))
    state["options"] = {**state["options"], "priority": "failure", "prior": (1.0, 1.0)}
    other = PromptSampler(["a", "b"], priority="failure")
    other.load_state_dict(state)
    other.refresh()
    assert_allclose(other.priority, [4 / 6, 5 / 6], rtol=1e-15)


def bad_states():
    def change(**values):
        return lambda state: {**state, **values}

    cases = [
        ("none", lambda s: None, TypeError, r"'state' must be what state_dict\(\) returned, got an object"),
        ("version", change(version=2), ValueError, r"'state' must be of version 1, got version 2"),
        ("version-type", change(version="1"), ValueError, r"'state' must be of version 1, got version '1'"),
        (
            "no-version",
            lambda s: {k: x for k, x in s.items() if k != "version"},
            ValueError,
            r"'state' must have alpha, beta, .*, version, .*, got options",
        ),
        ("more", change(more=1), ValueError, r"'state' must have alpha, .*, got .*more"),
        ("options", change(options={}), ValueError, r"'options' must be a mapping of priority, .*, got \{\}"),
        (
            "priority",
            lambda s: {**s, "options": {**s["options"], "priority": "failure"}},
            ValueError,
            r"'state' must have been saved with priority='uniform', as set here, got priority='failure'",
        ),
        (
            "prior",
            lambda s: {**s, "options": {**s["options"], "prior": [1.0, 2.0]}},
            ValueError,
            r"with prior=\[1.0, 1.0\], as set here, got prior=\[1.0, 2.0\]",
        ),
        ("fewer", change(prompts=["a"]), ValueError, r"'state' must have the 2 prompts known here, got 1"),
        (
            "others",
            change(prompts=["a", "x"]),
            ValueError,
            r"must have the same prompts in the same order, 'b' at position 1 as here, got 'x'",
        ),
        ("other-type", change(prompts=[1, 2]), ValueError, r"in the same order, 'a' at position 0 as here, got 1"),
        ("twice", change(prompts=["a", "a"]), ValueError, r"'prompts' must all be different, got 'a' twice"),
        ("length", change(alpha=[1.0]), ValueError, r"'alpha' must have length 2 \(= len\(prompts\)\), got 1"),
        (
            "negative",
            change(beta=[1.0, -1.0]),
            ValueError,
            r"'beta' must be finite and not negative, got -1.0 at index 1",
        ),
        (
            "nan",
            change(priority=[np.nan, 1.0]),
            ValueError,
            r"'priority' must be between 0 and 1e\+288, got nan at index 0",
        ),
        (
            "too-large",
            change(priority=[1.0, 1e300]),
            ValueError,
            r"'priority' must be .* 1e\+288, got 1e\+300 at index 1",
        ),
        ("overflow", change(alpha=[1e308] * 2, beta=[1e308] * 2), ValueError, r"'alpha \+ beta' must be finite"),
        ("zero", change(alpha=[0.0, 1.0], beta=[0.0, 1.0]), ValueError, r"'alpha \+ beta' must be finite and positive"),
        ("visits", change(visits=[0, -1]), ValueError, r"'visits' must be at least 0, got -1 at index 1"),
        ("floats", change(visits=[0.0, 1.0]), TypeError, r"'visits' must hold integers"),
        ("last", change(last_step=[-2, 0]), ValueError, r"'last_step' must be at least -1, got -2 at index 0"),
        (
            "retired",
            change(retired=[0, 1]),
            ValueError,
            r"'retired' must have 2 bools \(= len\(prompts\)\), got a 1-D int64",
        ),
        (
            "retired-length",
            change(retired=[True]),
            ValueError,
            r"'retired' must have 2 bools .* got a 1-D bool array of 1",
        ),
        (
            "never",
            change(last_step=[-1, -1]),
            ValueError,
            r"'last_step' must be -1 where 'visits' is 0, and nowhere else, got -1 at index 0",
        ),
        ("step", change(step=0.5), TypeError, r"'step' must be a whole number"),
        ("step-behind", change(step=-1), ValueError, r"'step' must be at least 0, got -1"),
    ]
    return [pytest.param(*case[1:], id=case[0]) for case in cases]


@pytest.mark.parametrize(("change", "error", "message"), bad_states())
def test_a_state_that_does_not_fit(change, error, message):
    sampler = PromptSampler(["a", "b"])
    sampler.update(["a"], [1])
    before = sampler.state_dict()
    with pytest.raises(error, match=rf"^PromptSampler.load_state_dict\(\): .*{message}"):
        sampler.load_state_dict(change(before))
    after = sampler.state_dict()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def wrong_calls():
    def of(method, *given_, **options):
        return lambda s: getattr(s, method)(*given_, **options)

    def new(*given_, **options):
        return lambda s: PromptSampler(*given_, **options)

    none = "got none among 3"
    cases = [
        (new(["a", "a"]), ValueError, r"PromptSampler\(\): 'prompts' must all be different, got 'a' twice"),
        (new([4, 3, 4]), ValueError, r"PromptSampler\(\): 'prompts' must all be different, got 4 twice"),
        (new([1, "a"]), TypeError, r"PromptSampler\(\): 'prompts' must be of one type"),
        (new([0.5]), TypeError, r"PromptSampler\(\): 'prompts' must be strings, ints, UUIDs or tuples"),
        (new("abc"), TypeError, r"PromptSampler\(\): 'prompts' must be a sequence"),
        (new(["a"], priority="best"), ValueError, r"'priority' must be one of 'uniform', .*, got 'best'"),
        (
            new(["a"], priority="nearest", kernel="x"),
            ValueError,
            r"'kernel' must be one of 'exponential', 'triangular'",
        ),
        (new(["a"], priority="nearest", target=2), ValueError, r"'target' must be between 0 and 1, got 2"),
        (new(["a"], priority="nearest", width=0), ValueError, r"'width' must be finite and positive, got 0"),
        (
            new(["a"], width=1.0),
            ValueError,
            r"'width' must be left out unless priority='nearest', got priority='uniform'",
        ),
        (new(["a"], prior=1.0), TypeError, r"'prior' must be two numbers, got 1.0"),
        (new(["a"], prior=(0.0, 1.0)), ValueError, r"'prior' must be above 0 and at most 1e\+288, got 0.0"),
        (new(["a"], prior=(1.0, 1e300)), ValueError, r"'prior' must be above 0 and at most 1e\+288, got 1e\+300"),
        (new(["a"], decay=1.5), ValueError, r"'decay' must be between 0 and 1, got 1.5"),
        (new(["a"], explore=-0.5), ValueError, r"'explore' must be between 0 and 1, got -0.5"),
        (new(["a"], least=-1), ValueError, r"'least' must be between 0 and 1e\+288, got -1"),
        (
            new(["a"], priority=lambda s: [1.0, 2.0]),
            ValueError,
            r"PromptSampler\(\): 'priority' must have length 1 \(= the prompts it was called with\), got 2",
        ),
        (
            new(["a"], priority=lambda s: -s.alpha),
            ValueError,
            r"'priority' must be between 0 .*, got -1 for the prompt 'a'",
        ),
        (
            new(["a"], priority=lambda s: s.alpha * np.inf),
            ValueError,
            r"'priority' must be .*, got inf for the prompt 'a'",
        ),
        (of("draw", 0, seed=0), ValueError, r"PromptSampler.draw\(\): 'n' must be at least 1, got 0"),
        (of("draw", 1.0, seed=0), TypeError, r"PromptSampler.draw\(\): 'n' must be a whole number"),
        (of("draw", 1, seed=-1), ValueError, r"PromptSampler.draw\(\): 'seed' must be at least 0, got -1"),
        (of("draw", 1, seed=0.5), TypeError, r"PromptSampler.draw\(\): 'seed' must be a whole number"),
        (of("draw", 1, seed=0, replace=1), TypeError, r"'replace' must be True or False, got 1"),
        (of("draw", 1, seed=0, short="drop"), ValueError, r"'short' must be one of 'raise', 'keep', got 'drop'"),
        (
            of("draw", 4, seed=0),
            ValueError,
            r"draw\(\): 'n' must be at most the prompts that can be drawn, 3, got 4; pass short='keep' for fewer",
        ),
        (
            of("draw", 1, seed=0, exclude=["a", "b", "c"]),
            ValueError,
            rf"'prompts' must have one .*not excluded, {none}",
        ),
        (
            of("draw", 1, seed=0, exclude=["x"]),
            ValueError,
            r"'exclude' must be known, got 'x' at index 0; add\(\) it first",
        ),
        (
            of("draw", 1, seed=0, exclude=[1]),
            TypeError,
            r"'exclude' must have ids of the type of those known, str, got int",
        ),
        (
            of("draw", 1, seed=0, exclude=[3], by="position"),
            ValueError,
            r"'exclude' must be positions below 3, got 3 at",
        ),
        (
            of("draw", 1, seed=0, exclude=["a"], by="name"),
            ValueError,
            r"'by' must be one of 'id', 'position', got 'name'",
        ),
        (
            of("update", ["x"], [1]),
            ValueError,
            r"PromptSampler.update\(\): 'prompts' must be known, got 'x' at index 0",
        ),
        (
            of("update", [0], [1]),
            TypeError,
            r"update\(\): 'prompts' must have ids of the type of those known, str, got int",
        ),
        (of("update", [-1], [1], by="position"), ValueError, r"'prompts' must be positions below 3, got -1 at index 0"),
        (of("update", [0.5], [1], by="position"), TypeError, r"'prompts' must hold integers, got float64"),
        (of("update", ["a"], [1, 0]), ValueError, r"'successes' must have length 1 \(= len\(prompts\)\), got 2"),
        (of("update", ["a"], [1], [1, 1]), ValueError, r"'trials' must have length 1 \(= len\(prompts\)\), got 2"),
        (
            of("update", ["a", "b"], [1, 3], [1, 2]),
            ValueError,
            r"'successes' must be from 0 to the trials, 2, got 3 at index 1, of the prompt 'b'",
        ),
        (of("update", ["a"], [-0.5]), ValueError, r"'successes' must be from 0 to the trials, 1, got -0.5 at index 0"),
        (of("update", ["a"], [np.nan]), ValueError, r"'successes' must be from 0 to the trials, 1, got nan at index 0"),
        (
            of("update", ["a"], [0], [0]),
            ValueError,
            r"'trials' must be finite and positive where rows are valid, got 0",
        ),
        (
            of("update", ["a"], [0], [np.inf]),
            ValueError,
            r"'trials' must be finite and positive .*, got inf at index 0",
        ),
        (
            of("update", ["a", "a"], [0, 0], [1.7e308, 1.7e308]),
            ValueError,
            r"'trials' must add up to something finite, got more for the prompt 'a'",
        ),
        (of("update", ["a"], [1], step=-1), ValueError, r"update\(\): 'step' must be at least 0, got -1"),
        (of("update", ["a"], [1], step=2**63), ValueError, r"update\(\): 'step' must be at most 9223372036854775807"),
        (
            of("set_priorities", ["a"], [-1]),
            ValueError,
            r"set_priorities\(\): 'values' must be .*, got -1 for the prompt 'a'",
        ),
        (
            of("set_priorities", ["a"], [np.nan]),
            ValueError,
            r"'values' must be between 0 .*, got nan for the prompt 'a'",
        ),
        (
            of("set_priorities", ["a", "b", "a"], [1, 1, 2]),
            ValueError,
            r"'prompts' must all be different, got 'a' twice",
        ),
        (of("set_priorities", ["a"], []), ValueError, r"'values' must have length 1 \(= len\(prompts\)\), got 0"),
        (of("retire", ["x"]), ValueError, r"PromptSampler.retire\(\): 'prompts' must be known, got 'x'"),
        (of("enable", ["x"]), ValueError, r"PromptSampler.enable\(\): 'prompts' must be known, got 'x'"),
        (of("add", ["d", "a"]), ValueError, r"PromptSampler.add\(\): 'prompts' must all be different, got 'a' twice"),
        (of("add", [1]), TypeError, r"add\(\): 'prompts' must have ids of the type of those known, str, got int"),
    ]
    return [pytest.param(*case, id=str(i)) for i, case in enumerate(cases)]


@pytest.mark.parametrize(("call", "error", "message"), wrong_calls())
def test_wrong_calls_change_nothing(same_bits, call, error, message):
    sampler = PromptSampler(["a", "b", "c"])
    with pytest.raises(error, match=message):
        call(sampler)
    assert len(sampler) == 3
    assert (sampler.visits.sum(), sampler.alpha.tolist(), sampler.priority.tolist()) == (0, [1.0] * 3, [1.0] * 3)
    same_bits(sampler._tree.nodes(), fresh_nodes(sampler))


def test_all_priorities_are_zero():
    sampler = PromptSampler(["a", "b"], priority="failure", decay=0.0)
    sampler.update(["a", "b"], [1, 1])
    with pytest.raises(
        ValueError,
        match=r"draw\(\): 'prompts' must have one that is of a positive priority and not excluded, got none among 2",
    ):
        sampler.draw(1, seed=0, short="keep")
    bored = PromptSampler(["a"], explore=0.5)
    bored.retire(["a"])
    with pytest.raises(
        ValueError, match=r"'prompts' must have one that is not retired and not excluded, got none among 1"
    ):
        bored.draw(1, seed=0)


def test_a_callable_that_fails_later_changes_nothing():
    sampler = PromptSampler(["a", "b"], priority=lambda s: 1.0 - 2.0 * s.visits)
    for call in (lambda: sampler.update(["b"], [1]), lambda: sampler.update(["a", "b"], [1, 0])):
        with pytest.raises(
            ValueError, match=r"PromptSampler.update\(\): 'priority' must be between 0 .*, got -1 for the"
        ):
            call()
    assert sampler.visits.tolist() == [0, 0]
    assert sampler.priority.tolist() == [1.0, 1.0]

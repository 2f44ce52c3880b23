"""The prompt sampler: a dict of prompts that does the same, the distribution of draws, checkpoints, threads, forks."""

from __future__ import annotations

import copy
import pickle
import uuid

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm
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


@given(OPTIONS, ROUNDS)
def test_a_dict_of_prompts(oracle, same_bits, fresh_nodes, options, rounds):
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

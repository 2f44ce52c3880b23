"""States of a prompt sampler that are saved and restored, and calls that change nothing."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose

from rollmath.select import PromptSampler


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
def test_wrong_calls_change_nothing(same_bits, fresh_nodes, call, error, message):
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

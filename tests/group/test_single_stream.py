"""Single-stream advantages and the baseline that they carry along."""

from __future__ import annotations

import json
import math
import pickle
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm
from rollmath.conventions import Whiten

single_stream, BetaBaseline = rm.group.single_stream, rm.group.BetaBaseline

REWARDS = st.one_of(st.sampled_from([0.0, 1.0]), st.integers(0, 64).map(lambda k: k / 64))
ROWS = st.lists(
    st.tuples(REWARDS, st.integers(0, 5), st.integers(0, 64).map(lambda k: k / 256), st.booleans()), max_size=20
)
STATES = st.dictionaries(
    st.integers(0, 5), st.tuples(st.integers(1, 64), st.integers(1, 64)).map(lambda t: (t[0] / 8, t[1] / 8))
)
SETTINGS = st.sampled_from([{}, {"prior": (1.0, 2.0), "rho": (0.5, 0.5)}, {"rho": (0.1, 1.0), "half_drift": 0.5}])


def unzip(rows, dtype=np.float64):
    r, ids, drift, valid = zip(*rows, strict=True) if rows else ((),) * 4
    return np.array(r, dtype=dtype), np.array(ids, dtype=np.int64), np.array(drift), np.array(valid, dtype=bool)


def make(state, **settings):
    alpha, beta = zip(*state.values(), strict=True) if state else ((), ())
    return BetaBaseline(list(state), alpha, beta, **settings)


def as_dict(state):
    return dict(zip(state.prompts, zip(state.alpha.tolist(), state.beta.tolist(), strict=True), strict=True))


def test_by_hand():
    """Value 3/4; a success after a drift of one half-life: 0.5 is clipped to 0.875."""
    state = BetaBaseline(["p"], [3.0], [1.0])
    got = single_stream([1.0], ["p"], state, drift=[0.06], whiten=None)
    assert got.advantages.tolist() == [0.25]
    assert as_dict(got.state) == {"p": (0.875 * 3 + 1, 0.875)}
    # No drift: 1 is clipped to 0.96. The prior of a new prompt has value 1/2.
    got = single_stream([1.0, 0.0], ["p", "q"], state, whiten=None)
    assert got.advantages.tolist() == [0.25, -0.5]
    assert_allclose([*as_dict(got.state)["p"], *as_dict(got.state)["q"]], [3.88, 0.96, 0.48, 1.48])
    assert as_dict(state) == {"p": (3.0, 1.0)}


@given(ROWS, STATES, SETTINGS, st.booleans(), st.booleans(), st.booleans(), st.sampled_from(["f4", "f8"]))
def test_the_oracle(oracle, tolerance, rows, state, settings, masked, drifting, whitened, dtype):
    r, ids, drift, valid = unzip(rows, dtype)
    options = {"valid": valid if masked else None, "drift": drift if drifting else None}
    expected, counts = oracle("group/single_stream.py", "single_stream")(
        r.astype(float), ids.tolist(), state, whiten=(1, 1e-8) if whitened else None, **options, **settings
    )
    how = {} if whitened else {"whiten": None}
    got = single_stream(r, ids, make(state, **settings), **options, **how)
    assert got.advantages.dtype == r.dtype
    assert_allclose(got.advantages, expected, **tolerance(r.dtype))
    after = as_dict(got.state)
    assert after.keys() == counts.keys()
    assert_allclose([after[i] for i in counts], list(counts.values()), **tolerance("float64"))


@given(ROWS, STATES, st.randoms(use_true_random=False), st.sampled_from([np.float32, np.float64]))
def test_permuting_rows_changes_no_bit(same_bits, rows, state, random, dtype):
    r, ids, drift, valid = unzip(rows)
    r, drift = r.astype(dtype) * dtype(0.1), drift * 0.1
    turn = np.arange(len(r))
    random.shuffle(turn)
    base = single_stream(r, ids, make(state), drift=drift, valid=valid)
    got = single_stream(r[turn], ids[turn], make(state), drift=drift[turn], valid=valid[turn])
    same_bits(got.advantages, base.advantages[turn])
    # New prompts come in the order of the rows; what is known of each is the same to the last bit.
    assert (got.state == base.state, hash(got.state)) == (True, hash(base.state))
    assert as_dict(got.state) == as_dict(base.state)


@given(ROWS, STATES)
def test_the_update_is_an_adaptive_moving_average(tolerance, rows, state):
    """For one rollout a prompt: v + (r - v) / (rho N + 1), with N = alpha + beta."""
    r, ids, *_ = unzip(rows)
    first = np.sort(np.unique(ids, return_index=True)[1]) if len(ids) else ids
    r, ids, before = r[first], ids[first], make(state)
    after = before.update(r, ids)
    n = np.array([sum(as_dict(before).get(i, before.prior)) for i in ids.tolist()])
    v = before.value(ids)
    assert_allclose(after.value(ids), v + (r - v) / (0.96 * n + 1), **tolerance("float64"))
    assert ((after.value(ids) >= 0) & (after.value(ids) <= 1)).all()


def test_all_rollouts_of_a_prompt_see_the_value_before_the_batch():
    got = single_stream([1.0, 0.0, 1.0], ["p"] * 3, BetaBaseline(), whiten=None)
    assert got.advantages.tolist() == [0.5, -0.5, 0.5]
    # The official code keeps the last of them alone: alpha 0.48 + 1.
    assert as_dict(got.state) == {"p": (0.96 * 0.5 + 2, 0.96 * 0.5 + 1)}


def test_whitening_is_that_of_the_official_code():
    state = BetaBaseline(["p", "q"], [3.0, 1.0], [1.0, 1.0])
    a = np.array([1.0, 0.0, 0.0]) - [0.75, 0.5, 0.5]
    got = single_stream([1.0, 0.0, 0.0], ["p", "q", "r"], state)
    assert_allclose(got.advantages, (a - a.mean()) / (a.std(ddof=1) + 1e-8), rtol=1e-14)
    assert single_stream([1.0, 1.0], ["x", "y"], state).advantages.tolist() == [0.0, 0.0]
    assert single_stream([1.0], ["x"], state).advantages.tolist() == [0.0]
    population = single_stream([1.0, 0.0, 0.0], ["p", "q", "r"], state, whiten=Whiten(ddof=0)).advantages
    assert_allclose(population.std(), 1.0)


def test_from_rewards_is_the_official_start():
    """N = 1 / (1 - 0.875) = 8 pseudo-counts, (s + 1/2) / (n + 1) of them successes."""
    state = BetaBaseline.from_rewards([1, 1, 0, 1, 0], list("ppppq"))
    assert as_dict(state) == {"p": (8 * 3.5 / 5, 8 * 1.5 / 5), "q": (8 * 0.5 / 2, 8 * 1.5 / 2)}
    assert_allclose(state.value(["q", "p", "z"]), [0.25, 0.7, 0.5])


def test_state_is_a_value(same_bits):
    state = BetaBaseline(prior=(1.0, 3.0), rho=(0.5, 0.9), half_drift=0.1).update(
        [1.0, 0.3], ["p", "q"], drift=[0, 0.1]
    )
    for copy in (
        pickle.loads(pickle.dumps(state)),
        BetaBaseline.from_dict(json.loads(json.dumps(state.to_dict()))),
    ):
        assert (copy == state, hash(copy), repr(copy)) == (True, hash(state), "BetaBaseline(2 prompts)")
        same_bits(copy.alpha, state.alpha)
        assert (copy.prior, copy.rho, copy.half_drift) == (state.prior, state.rho, state.half_drift)
    with pytest.raises(AttributeError, match="immutable"):
        state.rho = (0, 1)
    with pytest.raises(ValueError, match="read-only"):
        state.alpha[0] = 1
    assert state != BetaBaseline()
    assert len(state) == 2
    given = np.array([1.0])
    kept = BetaBaseline([7], given, [1.0])
    given[0] = 5.0
    assert kept.alpha.tolist() == [1.0]


def test_a_state_that_forgets_everything_is_a_value_too():
    """With rho = 0 a prompt that always succeeded has no count of failures."""
    state = BetaBaseline(rho=(0.0, 0.0)).update([1.0, 1.0, 0.0], ["p", "p", "q"])
    assert (state.alpha.tolist(), state.beta.tolist()) == ([2.0, 0.0], [0.0, 1.0])
    assert state.value(["p", "q"]).tolist() == [1.0, 0.0]
    for again in (pickle.loads(pickle.dumps(state)), BetaBaseline.from_dict(json.loads(json.dumps(state.to_dict())))):
        assert again == state
        assert again.update([0.0], ["p"]) == state.update([0.0], ["p"])


def test_an_update_leaves_other_prompts_alone_and_invalid_rollouts_are_unseen(same_bits):
    state = BetaBaseline([1, 2, 3], [1.0, 2.0, 3.0], [3.0, 2.0, 1.0])
    after = state.update([1.0, math.nan, 1.0], [2, 3, 4], valid=[1, 0, 0])
    same_bits(after.alpha[[0, 2]], state.alpha[[0, 2]])
    assert after.prompts == (1, 2, 3)
    got = single_stream([1.0, math.nan], [2, 9], state, valid=[1, 0], whiten=None)
    assert got.advantages.tolist() == [0.5, 0.0]
    empty = single_stream([], [], state)
    assert (empty.advantages.tolist(), empty.state == state) == ([], True)


def test_ids_of_any_kind(same_bits):
    torch = pytest.importorskip("torch")
    state = BetaBaseline(np.array([4, 5]), [3.0, 1.0], [1.0, 1.0])
    out = single_stream(torch.tensor([1.0, 0.0]), torch.tensor([4, 6]), state, whiten=None)
    assert (type(out.advantages), out.advantages.dtype) == (torch.Tensor, torch.float32)
    assert out.advantages.tolist() == [0.25, -0.5]
    assert out.state.prompts == (4, 5, 6)
    assert BetaBaseline([("a", 1)], [3.0], [1.0]).value([("a", 1), ("a", 2)]).tolist() == [0.75, 0.5]
    assert state.value(rm.Groups([5, 4])).tolist() == [0.5, 0.75]
    wide = np.arange(8.0).reshape(4, 2) / 8
    got = single_stream(wide[:, 1], [1, 2, 3, 4], BetaBaseline())
    same_bits(got.advantages, single_stream(wide[:, 1].copy(), [1, 2, 3, 4], BetaBaseline()).advantages)


def test_a_hundred_thousand_prompts_are_no_loop():
    names = [f"prompt-{i:x}" for i in range(100_000)]
    state = BetaBaseline(names, np.ones(100_000), np.ones(100_000))
    batch, r = names[::100], np.ones(1000)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        state = single_stream(r, batch, state).state
        seconds.append(time.perf_counter() - start)
    # A few milliseconds; a busy machine has plenty of time.
    assert min(seconds) < 0.1


EMPTY = BetaBaseline()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: single_stream([1.0], ["p"], {}), TypeError, "'state' must be a BetaBaseline, got dict"),
        (
            lambda: single_stream([1.0], ["p"], EMPTY, whiten=True),
            TypeError,
            "'whiten' must be a Whiten or None, got Tr",
        ),
        (
            lambda: single_stream([2.0], ["p"], EMPTY),
            ValueError,
            r"'rewards' must be in \[0, 1\] where row",
        ),
        (
            lambda: single_stream([math.nan], ["p"], EMPTY),
            ValueError,
            r"single_stream\(\): 'rewards' must be in \[0, 1\]",
        ),
        (
            lambda: single_stream([1.0], ["p", "q"], EMPTY),
            ValueError,
            r"'rewards' must have length 2 \(= len\(prompts\)\)",
        ),
        (
            lambda: single_stream([1.0], ["p"], EMPTY, drift=[-1.0]),
            ValueError,
            r"single_stream\(\): 'drift' must be finite and not nega",
        ),
        (
            lambda: single_stream([1.0], ["p"], EMPTY, drift=[0, 1]),
            ValueError,
            r"'drift' must have length 1 \(= len\(prom",
        ),
        (
            lambda: single_stream([1.0], ["p"], EMPTY, valid=[1, 1]),
            ValueError,
            r"'valid' must have length 1 \(= len\(prom",
        ),
        (
            lambda: single_stream([1.0], [3], BetaBaseline(["p"], [1.0], [1.0])),
            TypeError,
            r"single_stream\(\): 'prompts' must have ids of the type of those known, str, got int",
        ),
        (
            lambda: BetaBaseline(["p", "p"], [1, 1], [1, 1]),
            ValueError,
            r"BetaBaseline\(\): 'prompts' must all be differen",
        ),
        (
            lambda: BetaBaseline(["p"], [1, 1], [1]),
            ValueError,
            r"'alpha' must have length 1 \(= len\(prompts\)\), got 2",
        ),
        (
            lambda: BetaBaseline(["p"], [1], [-1]),
            ValueError,
            "'beta' must be finite and not negative where rows are valid",
        ),
        (
            lambda: BetaBaseline(["p", "q"], [1, 0], [0, 0]),
            ValueError,
            r"BetaBaseline\(\): 'alpha' and 'beta' must not both be 0, but are for prompt 'q'",
        ),
        (lambda: BetaBaseline(prior=(0, 1)), ValueError, r"'prior' must be positive, got \(0, 1\)"),
        (lambda: BetaBaseline(prior=0.5), TypeError, "'prior' must be two numbers, got 0.5"),
        (
            lambda: BetaBaseline(rho=(0.9, 0.1)),
            ValueError,
            r"'rho' must be 0 <= smallest <= largest <= 1, got \(0.9, 0.1\)",
        ),
        (lambda: BetaBaseline(half_drift=0), ValueError, "'half_drift' must be finite and positive, got 0"),
        (
            lambda: BetaBaseline.from_rewards([1], ["p"], rho=(1, 1)),
            ValueError,
            "'rho' must have a smallest value below 1",
        ),
        (
            lambda: BetaBaseline.from_rewards([-1], ["p"]),
            ValueError,
            r"BetaBaseline.from_rewards\(\): 'rewards' must be in",
        ),
        (
            lambda: EMPTY.update([0.5], ["p"], drift=[math.nan]),
            ValueError,
            r"BetaBaseline.update\(\): 'drift' must be finite and not neg",
        ),
        (
            lambda: EMPTY.value([0.5]),
            TypeError,
            r"BetaBaseline.value\(\): 'prompts' must be strings, ints, UUIDs or tup",
        ),
        (
            lambda: BetaBaseline.from_dict({"alpha": []}),
            ValueError,
            "'state' must be a dict with the keys prompts, alpha,",
        ),
        (lambda: BetaBaseline.from_dict(5), ValueError, "'state' must be a dict with the keys"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()

"""OTC's reward."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

otc = rm.group.otc_reward
ROWS = st.lists(
    st.tuples(st.sampled_from([0.0, 1.0, 0.7]), st.integers(0, 3), st.integers(0, 6), st.booleans(), st.booleans()),
    max_size=24,
)


def unzip(rows):
    r, ids, calls, right, valid = zip(*rows, strict=True) if rows else ((),) * 5
    return (
        np.array(r, dtype=float),
        list(ids),
        np.array(calls, dtype=float),
        np.array(right, bool),
        np.array(valid, bool),
    )


def test_by_hand(vectors):
    v = vectors("flat")["otc"]
    m, n = np.array(v["mn"]).T
    ids = np.arange(len(m))
    assert_allclose(otc(np.ones(len(m)), ids, m, optimal=n, max_calls=4), v["r"], atol=1e-15)
    assert_allclose(otc(np.ones(3), [0, 0, 0], [0, 1, 4], max_calls=4, form="ppo"), v["ppo"], atol=1e-15)
    # Two correct rollouts of 2 and 4 calls: n = 2.
    assert_allclose(otc([1.0, 1, 0], [0, 0, 0], [2, 4, 0], max_calls=4), [1, 0.8660254037844386, 0])


@given(ROWS, st.booleans(), st.booleans(), st.sampled_from(["grpo", "ppo"]), st.sampled_from([1.0, 2.5]))
def test_the_oracle(oracle, tolerance, rows, masked, given_right, form, alpha):
    r, ids, calls, right, valid = unzip(rows)
    options = {"valid": valid if masked else None, "correct": right if given_right else None}
    options |= {"form": form, "alpha": alpha, "max_calls": 5}
    expected = oracle("group/reward_otc.py", "otc_reward")(r, ids, calls, **options)
    assert_allclose(otc(r, ids, calls, **options), expected, **tolerance("float64"))


@given(ROWS)
def test_the_oracle_with_a_kept_optimum(oracle, tolerance, rows):
    r, ids, calls, _, _ = unzip(rows)
    groups = rm.Groups(ids)
    kept = np.array([np.nan if i % 3 == 2 else i % 4 for i in range(groups.n_groups)], dtype=float)
    expected = oracle("group/reward_otc.py", "otc_reward")(r, ids, calls, optimal=kept[groups.index], max_calls=3)
    assert_allclose(otc(r, ids, calls, optimal=kept, max_calls=3), expected, **tolerance("float64"))
    assert_allclose(otc(r, ids, calls, optimal=kept[groups.index], max_calls=3), expected, **tolerance("float64"))


@given(ROWS)
def test_the_best_number_of_calls_costs_nothing(rows):
    r, ids, calls, _, _ = unzip(rows)
    groups = rm.Groups(ids)
    fewest = rm.ops.segment_min(calls, groups, valid=r > 0)[groups.index]
    out = otc(r, groups, calls, max_calls=7)
    at = (calls == fewest) | np.isnan(fewest)
    assert (out[at] == r[at]).all()
    assert (np.abs(out) <= np.abs(r)).all()


def test_nothing_correct_leaves_the_reward():
    assert otc([0.25, 0.5], [0, 0], [9, 3], max_calls=9, correct=[0, 0]).tolist() == [0.25, 0.5]


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: otc([1.0], ["a", "b"], [1], max_calls=1), ValueError, r"otc_reward\(\): 'rewards' must have length 2"),
        (lambda: otc([1.0], ["a"], [1, 2], max_calls=1), ValueError, "'calls' must have length 1"),
        (lambda: otc([np.nan], ["a"], [1], max_calls=1), ValueError, "'rewards' must be finite where rows are"),
        (lambda: otc([1.0], ["a"], [-1], max_calls=1), ValueError, "'calls' must be finite and not negative .* got -1"),
        (
            lambda: otc([1.0], ["a"], [1], max_calls=0),
            ValueError,
            "'max_calls' must be finite and positive, got 0",
        ),
        (lambda: otc([1.0], ["a"], [1], max_calls=True), TypeError, "'max_calls' must be a number, got True"),
        (lambda: otc([1.0], ["a"], [1], max_calls=1, alpha=np.nan), ValueError, "'alpha' must be finite, got nan"),
        (lambda: otc([1.0], ["a"], [1], max_calls=1, form="dpo"), ValueError, "'form' must be one of 'grpo', 'ppo'"),
        (lambda: otc([1.0], ["a"], [1], max_calls=1, optimal=[-1]), ValueError, "'optimal' must be finite and not neg"),
        (
            lambda: otc([1.0] * 3, [0, 0, 1], [1] * 3, max_calls=1, optimal=[1]),
            ValueError,
            r"'optimal' must have length 2 \(= n_groups\) or 3, got 1",
        ),
        (lambda: otc([1.0], ["a"], [1], max_calls=1, correct=[0.5]), TypeError, "'correct' must be bool or integer"),
        (lambda: otc([1.0], ["a"], [1], max_calls=1, correct=[1, 0]), ValueError, "'correct' must have length 1"),
        (lambda: otc([1.0], ["a"], [1], max_calls=1, valid=[0.5]), TypeError, "'valid' must be bool or integer"),
    ],
)
def test_errors(call, error, match):
    with pytest.raises(error, match=match):
        call()

"""REBEL, CoPG, GVPO."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch")

import rollmath as rm  # noqa: E402
from rollmath.loss import copg, gvpo, rebel  # noqa: E402

ROWS = st.lists(st.tuples(st.floats(-4, 4), st.floats(-2, 2), st.integers(0, 3), st.booleans()), max_size=20)


def unzip(rows):
    s, r, ids, valid = zip(*rows, strict=True) if rows else ((),) * 4
    return np.array(s, dtype=float), np.array(r, dtype=float), list(ids), np.array(valid, dtype=bool)


def close(out, expected, **tolerance):
    for got, wanted in zip(out, expected, strict=True):
        assert_allclose(got, wanted, **tolerance)


def test_by_hand(vectors):
    v = vectors("flat")
    b, c = v["rebel"], v["copg"]
    out = rebel([b["dlogratio"], 0.0], [b["dr"], 0.0], [0, 0], eta=b["eta"])
    assert_allclose(out.loss, b["loss"], rtol=1e-14)
    out = copg([0.0] * 3, c["R_beta"], [0] * 3, beta=0.25)
    assert_allclose(out.loss, c["loss"], rtol=1e-14)
    assert_allclose(np.array(out.coefficient) / -0.25, c["grad_coef"], rtol=1e-13)


def test_official_code(vectors):
    v = vectors("group_losses")["gvpo"]
    x = v["inputs"]
    s = np.array(x["lengths"]) * np.subtract(x["logp"], x["old"])
    out = gvpo(s, x["rewards"], x["groups"], beta=x["beta"], divisor=1)
    assert_allclose(out.loss, v["loss"], rtol=1e-13)
    assert_allclose(np.array(out.coefficient) * x["lengths"], v["gradient"], rtol=1e-12)


CALLS = [
    (rebel, "rebel", {"eta": 0.5}),
    (rebel, "rebel", {"eta": 3.0, "target": "log_ratio"}),
    (copg, "copg", {"beta": 0.3}),
    (gvpo, "gvpo", {"beta": 0.3}),
    (gvpo, "gvpo", {"beta": 0.3, "ddof": 0}),
]


@given(ROWS, st.sampled_from(CALLS), st.booleans(), st.sampled_from([None, 7]))
def test_the_oracle(oracle, tolerance, rows, call, masked, divisor):
    s, r, ids, valid = unzip(rows)
    function, name, options = call
    options = {**options, "divisor": divisor, "valid": valid if masked else None}
    expected = oracle("loss/pairwise.py", name)(s, r, ids, **options)
    close(function(s, r, ids, **options), expected, **tolerance("float64"))


@given(ROWS, st.sampled_from(CALLS), st.integers(-8, 8))
def test_a_shift_of_scores_or_rewards_changes_nothing(rows, call, shift):
    s, r, ids, _ = unzip(rows)
    function, _, options = call
    base = function(s, r, ids, **options)
    close(function(s + shift, r, ids, **options), base, rtol=1e-11, atol=1e-11)
    close(function(s, r - shift, ids, **options), base, rtol=1e-11, atol=1e-11)
    assert (abs(rm.ops.segment_sum(base.coefficient, ids)) < 1e-11).all()


@given(ROWS)
def test_the_targets_of_rebel_differ_by_eta_squared(rows):
    s, r, ids, _ = unzip(rows)
    a, b = (rebel(s, r, ids, eta=2.0, target=t) for t in ("reward", "log_ratio"))
    close([4 * x for x in a], b, rtol=1e-12, atol=1e-14)


@given(ROWS)
def test_copg_is_rloo_of_the_regularised_reward(rows):
    s, r, ids, _ = unzip(rows)
    rloo = rm.group.rloo(r - 0.3 * s, ids)
    assert_allclose(copg(s, r, ids, beta=0.3, divisor=1).coefficient, -2 * 0.3 * rloo, rtol=1e-11, atol=1e-11)


@given(ROWS)
def test_copg_is_gvpo_but_for_a_factor(rows):
    s, r, ids, _ = unzip(rows)
    a, b = copg(s, r, ids, beta=0.3), gvpo(s, r, ids, beta=0.3)
    assert_allclose(a.per_group, 2 * rm.Groups(ids).counts * b.per_group, rtol=1e-10, atol=1e-12)


def test_a_solution_costs_nothing():
    s = [10.0, -5.0, 2.5]
    out = gvpo(s, [1.0, -0.5, 0.25], [0] * 3, beta=0.1)
    assert_allclose(out.loss, 0, atol=1e-30)
    assert not np.array(copg([2.0] * 3, [1.0] * 3, [0] * 3, beta=0.1).coefficient).any()


def test_lone_responses_are_not_counted():
    for function, _, options in CALLS:
        pair = function([1.0, 2.0], [0.0, 1.5], ["a", "a"], **options)
        more = function([1.0, 2.0, 7.0], [0.0, 1.5, 1.0], ["a", "a", "b"], **options)
        assert float(more.loss) == float(pair.loss)
        assert more.coefficient.tolist() == [*pair.coefficient.tolist(), 0.0]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda *a: rebel(*a, eta=0), ValueError, r"rebel\(\): 'eta' must be finite and positive, got 0"),
        (
            lambda *a: rebel(*a, target="r"),
            ValueError,
            r"rebel\(\): 'target' must be one of 'reward', 'log_ratio', got",
        ),
        (lambda *a: copg(*a, beta=-1), ValueError, r"copg\(\): 'beta' must be finite and positive, got -1"),
        (lambda *a: gvpo(*a, beta=0), ValueError, r"gvpo\(\): 'beta' must be finite and positive, got 0"),
        (lambda *a: gvpo(*a, ddof=2), ValueError, r"gvpo\(\): 'ddof' must be a whole number from 0 to 1, got 2"),
        (lambda *a: gvpo(*a, ddof=1.0), TypeError, r"gvpo\(\): 'ddof' must be a whole number"),
        (
            lambda s, r, g: gvpo(s, [np.inf, 0], g),
            ValueError,
            r"'rewards' must be finite where rows are valid, got inf",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call([1.0, 2.0], [1.0, 0.0], [0, 0])

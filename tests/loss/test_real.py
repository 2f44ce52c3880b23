"""REAL."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch")

from rollmath.loss import real  # noqa: E402

ROWS = st.lists(st.tuples(st.floats(-4, 4), st.booleans(), st.integers(0, 3), st.booleans()), max_size=20)


def unzip(rows):
    s, correct, ids, valid = zip(*rows, strict=True) if rows else ((),) * 4
    return np.array(s, dtype=float), list(correct), list(ids), np.array(valid, dtype=bool)


def test_by_hand(vectors):
    v = vectors("flat")["real"]
    out = real(v["s"], v["y"], [0] * 4, tau=v["tau"])
    assert_allclose(out.loss, v["loss"], rtol=1e-14)
    assert_allclose(out.coefficient, v["dloss_ds"], rtol=1e-13)


@pytest.mark.parametrize(("name", "one_sided"), [("real", "keep"), ("real", "drop"), ("real_drop", "drop")])
def test_official_code(vectors, name, one_sided):
    v = vectors("group_losses")[name]
    x = v["inputs"]
    out = real(np.subtract(x["logp"], x["old"]), np.array(x["rewards"]) == 1, x["groups"], one_sided=one_sided)
    assert_allclose(out.loss, v["loss"], rtol=1e-13)
    assert_allclose(out.coefficient, v["gradient"], rtol=1e-12)


@given(
    ROWS, st.sampled_from([0.1, 0.5, 3.0]), st.sampled_from(["keep", "drop"]), st.booleans(), st.sampled_from([None, 7])
)
def test_the_oracle(oracle, tolerance, rows, tau, one_sided, masked, divisor):
    s, correct, ids, valid = unzip(rows)
    options = {"tau": tau, "one_sided": one_sided, "divisor": divisor, "valid": valid if masked else None}
    out = real(s, correct, ids, **options)
    for got, expected in zip(out, oracle("loss/real.py", "real")(s, correct, ids, **options), strict=True):
        assert_allclose(got, expected, **tolerance("float64"))


@given(ROWS, st.sampled_from([0.1, 0.5, 3.0]))
def test_no_class_of_a_group_pulls_more_than_one_over_tau(rows, tau):
    s, correct, ids, _ = unzip(rows)
    pull = np.array(real(s, correct, ids, tau=tau, divisor=1).coefficient)
    for group in set(ids):
        for label in (True, False):
            mine = [i for i in range(len(ids)) if ids[i] == group and correct[i] == label]
            assert abs(pull[mine].sum()) <= 1 / tau * (1 + 1e-12)
            assert (pull[mine] <= 0).all() if label else (pull[mine] >= 0).all()


def test_one_sided_groups_learn_unless_dropped():
    out = real([0.2, -0.1, 0.3], [1, 1, 0], ["a", "a", "b"])
    assert (np.array(out.coefficient) != 0).all()
    assert not np.array(real([0.2, -0.1, 0.3], [1, 1, 0], ["a", "a", "b"], one_sided="drop").coefficient).any()


def test_swapping_the_classes_swaps_the_signs():
    s, correct = np.array([0.4, -0.3, 0.1]), np.array([True, False, True])
    a, b = real(s, correct, [0, 0, 0]), real(-s, ~correct, [0, 0, 0])
    assert a.loss == b.loss
    assert_allclose(a.coefficient, -b.coefficient)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tau": 0}, ValueError, r"real\(\): 'tau' must be finite and positive, got 0"),
        ({"tau": "1"}, TypeError, r"real\(\): 'tau' must be a number, got an object of type str"),
        ({"one_sided": "no"}, ValueError, r"real\(\): 'one_sided' must be one of 'keep', 'drop', got 'no'"),
    ],
)
def test_errors(options, error, message):
    with pytest.raises(error, match=message):
        real([1.0, 2.0], [1, 0], [0, 0], **options)

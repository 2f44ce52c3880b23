"""PQM."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch")

from rollmath.loss import process_q  # noqa: E402

ROWS = st.lists(st.tuples(st.floats(-6, 6), st.booleans(), st.integers(0, 3), st.booleans()), max_size=24)


def unzip(rows):
    q, correct, ids, valid = zip(*rows, strict=True) if rows else ((),) * 4
    return np.array(q, dtype=float), list(correct), list(ids), np.array(valid, dtype=bool)


def test_by_hand():
    """One correct step of value 0, one wrong of value -zeta: log 3 for the step, log 2 for the state before it."""
    out = process_q([0.0, -4.0], [1, 0], ["a", "a"])
    assert_allclose(out.loss, (np.log(3) + np.log(2)) / 2, rtol=1e-15)
    assert_allclose(out.coefficient, [(1 / 3 - 1) / 2, (1 / 3 + 1 / 2) / 2], rtol=1e-14)
    out = process_q([0.0, -4.0], [1, 0], ["a", "a"], anchor=False)
    assert_allclose(out.loss, np.log(3), rtol=1e-15)


def test_official_code(vectors):
    """It adds 1e-5 to each denominator."""
    v = vectors("group_losses")["process_q"]
    x = v["inputs"]
    out = process_q(x["q_values"], x["labels"], x["responses"], zeta=x["zeta"])
    assert_allclose(out.loss, v["loss"], rtol=1e-5)
    assert_allclose(out.coefficient, v["gradient"], atol=1e-5)


def test_the_items_of_a_response(vectors):
    """Three items of a short response, whose mean the official code gives, with its 1e-5 in each denominator."""
    v = vectors("structured")["pqm"]
    out = process_q(v["Q"], v["labels"], ["a"] * 3, zeta=v["zeta"])
    assert_allclose(out.loss, v["loss"], rtol=1e-5)
    wrong = np.exp(v["Q"][2] + v["zeta"])
    items = np.log([(np.e + 1 + wrong) / np.e, (np.e**2 + 1 + np.e + wrong) / np.e**2, 1 + wrong])
    assert_allclose(items, [2.169846, 1.440190, 3.048588], atol=2e-6)
    assert_allclose(out.loss, items.mean(), rtol=1e-14)


@given(ROWS, st.sampled_from([0.0, 4.0]), st.booleans(), st.booleans(), st.sampled_from([None, 7]))
def test_the_oracle(oracle, tolerance, rows, zeta, anchor, masked, divisor):
    q, correct, ids, valid = unzip(rows)
    options = {"zeta": zeta, "anchor": anchor, "divisor": divisor, "valid": valid if masked else None}
    expected = oracle("loss/process_q.py", "process_q")(q, correct, ids, **options)
    for got, wanted in zip(process_q(q, correct, ids, **options), expected, strict=True):
        assert_allclose(got, wanted, **tolerance("float64"))


@given(ROWS, st.randoms(use_true_random=False))
def test_rows_in_another_order_with_their_steps(same_bits, rows, random):
    q, correct, ids, valid = unzip(rows)
    base = process_q(q, correct, ids, valid=valid)
    turn = np.arange(len(q))
    random.shuffle(turn)
    pick = lambda x: [x[i] for i in turn]  # noqa: E731
    out = process_q(q[turn], pick(correct), pick(ids), step=turn, valid=valid[turn])
    same_bits(out.coefficient, np.array(base.coefficient)[turn])
    same_bits(out.loss, base.loss)


def test_long_responses_and_early_steps_far_below_later_ones(oracle):
    q = np.linspace(-2000.0, 2000.0, 300)
    correct = np.arange(300) % 7 != 3
    out = process_q(q, correct, [0] * 300)
    expected = oracle("loss/process_q.py", "process_q")(q, correct, [0] * 300)
    for got, wanted in zip(out, expected, strict=True):
        assert_allclose(got, wanted, rtol=1e-10, atol=1e-10)


def test_degenerate_responses():
    assert float(process_q([], [], []).loss) == 0.0
    # All wrong: the state before the first step is the only item.
    out = process_q([1.0, 2.0], [0, 0], [0, 0], zeta=0)
    assert_allclose(out.loss, np.log(1 + np.exp(1) + np.exp(2)), rtol=1e-15)
    out = process_q([1.0, 2.0], [0, 0], [0, 0], anchor=False)
    assert (float(out.loss), out.coefficient.tolist()) == (0.0, [0.0, 0.0])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: process_q([1.0], [1], [0, 1]),
            ValueError,
            r"'q_values' must have length 2 \(= len\(responses\)\), got",
        ),
        (lambda: process_q([np.inf], [1], [0]), ValueError, r"'q_values' must be finite where rows are valid, got inf"),
        (lambda: process_q([1.0], [1], [0.5]), TypeError, r"process_q\(\): 'responses' must be strings, ints"),
        (lambda: process_q([1.0], [1], [0], zeta=np.inf), ValueError, r"process_q\(\): 'zeta' must be finite, got inf"),
        (lambda: process_q([1.0], [1], [0], anchor=1), TypeError, r"'anchor' must be True or False, got 1"),
        (
            lambda: process_q([1.0] * 3, [1, 0, 1], [0, 1, 0], step=[2, 2, 2]),
            ValueError,
            r"process_q\(\): 'step' must differ within a response, but rows 0 and 2 have the same",
        ),
        (
            lambda: process_q(torch.ones(1, requires_grad=True), [1], [0]),
            ValueError,
            r"process_q\(\): 'q_values' requires grad, but the gradient is in 'coefficient' of the result",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()

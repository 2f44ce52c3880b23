"""A*-PO and TBRM."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch")

import rollmath as rm  # noqa: E402
from rollmath.loss import a_star_po, tbrm  # noqa: E402

NUMBER = st.floats(-4, 4)
ROWS = st.lists(st.tuples(NUMBER, NUMBER, NUMBER, NUMBER, st.integers(0, 3), st.booleans()), max_size=16)


def unzip(rows):
    *columns, ids, valid = zip(*rows, strict=True) if rows else ((),) * 6
    return [np.array(c, dtype=float) for c in columns], list(ids), np.array(valid, dtype=bool)


def close(out, expected, **tolerance):
    for got, wanted in zip(out, expected, strict=True):
        assert_allclose(got, wanted, **tolerance)


def test_by_hand(vectors):
    v = vectors("flat")
    a, t = v["apo_vstar"], v["tbrm"]
    value = rm.group.soft_value(a["r"], [0] * 8, beta=a["beta1"])
    gap = np.array([value[0] - r for r in a["r"]])
    out = a_star_po([0.0] * 8, a["r"], value, [0] * 8)
    assert_allclose(out.loss, (gap**2).mean(), rtol=1e-14)
    out = a_star_po([np.log(1.2)], [1.0], [a["V"]], [0])
    assert_allclose(out.loss, a["loss"], rtol=1e-14)
    first = np.log(np.exp(t["logits1"]).sum())
    assert_allclose(first, t["V1"], rtol=1e-14)
    logp = t["logits1"][t["a1"]] - first + t["later_logp"]
    out = tbrm([logp], [first], [t["r"]], [t["ref_logp_total"]], [0], beta=t["beta"])
    assert_allclose(out.coefficient, [2 * t["resid"]], rtol=1e-14)
    assert_allclose(out.loss, t["resid"] ** 2, rtol=1e-14)


def test_official_code(vectors):
    v = vectors("group_losses")["a_star_po"]
    x = v["inputs"]
    s = np.array(x["lengths"]) * np.subtract(x["logp"], x["ref"])
    out = a_star_po(s, x["rewards"], x["values"], x["groups"], beta2=x["beta2"])
    assert_allclose(out.loss, v["loss"], rtol=1e-13)
    assert_allclose(np.array(out.coefficient) * x["lengths"], v["gradient"], rtol=1e-12)


@given(ROWS, st.booleans(), st.booleans(), st.sampled_from([None, 7]))
def test_the_oracle(oracle, tolerance, rows, masked, by_group, divisor):
    (s, r, v, ref), ids, valid = unzip(rows)
    options = {"divisor": divisor, "valid": valid if masked else None}
    values = v[: len(set(ids))] if by_group else v
    expected = oracle("loss/regression.py", "a_star_po")(s, r, values, ids, beta2=0.3, **options)
    close(a_star_po(s, r, values, ids, beta2=0.3, **options), expected, **tolerance("float64"))
    expected = oracle("loss/regression.py", "tbrm")(s, v, r, ref, ids, beta=0.3, **options)
    close(tbrm(s, v, r, ref, ids, beta=0.3, **options), expected, **tolerance("float64"))


def test_tbrm_trains_the_value_of_the_prompt_as_the_score():
    """The derivative through the logits themselves, of which V and the first log-probability are functions."""
    logits = torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64, requires_grad=True)
    later = torch.tensor(-1.5, dtype=torch.float64, requires_grad=True)
    residual = logits[0] + later - 1.0 / 0.5 + 2.1
    wanted = torch.autograd.grad(residual**2, (logits, later))
    first = torch.logsumexp(logits, 0)
    s = logits[0] - first + later
    out = tbrm(s.detach()[None], first.detach()[None], [1.0], [-2.1], ["p"], beta=0.5)
    got = torch.autograd.grad((out.coefficient * (s + first)).sum(), (logits, later))
    for a, b in zip(got, wanted, strict=True):
        assert_allclose(a, b, rtol=1e-13, atol=1e-13)


def test_values_of_rows_left_out_are_not_looked_at():
    out = a_star_po([1.0, 2.0], [1.0, np.nan], [0.5, np.nan], ["a", "b"], valid=[1, 0])
    assert out.coefficient.tolist()[1] == 0.0
    assert out.per_group.tolist()[1] == 0.0


S, R, G = [1.0, 2.0, 0.0], [1.0, 0.0, 1.0], [0] * 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: a_star_po(S, R, [0.0] * 2, G),
            r"a_star_po\(\): 'values' must have length 3 \(= len\(groups\)\) or 1 \(= n_groups\), got 2",
        ),
        (lambda: a_star_po(S, R, [np.nan], G), r"a_star_po\(\): 'values' must be finite where rows are valid"),
        (lambda: a_star_po(S, [np.nan] * 3, [0.0], G), r"a_star_po\(\): 'rewards' must be finite where rows are valid"),
        (lambda: a_star_po(S, R, [0.0], G, beta2=0), r"a_star_po\(\): 'beta2' must be finite and positive, got 0"),
        (lambda: tbrm(S, R, S, R, G, beta=0), r"tbrm\(\): 'beta' must be finite and positive, got 0"),
        (lambda: tbrm(S, [1.0], S, R, G, beta=1), r"tbrm\(\): 'first_lse' must have length 3 \(= len\(groups\)\)"),
        (lambda: tbrm(S, R, [1.0], R, G, beta=1), r"tbrm\(\): 'rewards' must have length 3 \(= len\(groups\)\)"),
        (lambda: tbrm(S, R, S, [1.0], G, beta=1), r"tbrm\(\): 'ref' must have length 3 \(= len\(groups\)\)"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()

"""DisCO, its trust region, and DRPO."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch")

from rollmath.loss import disco, disco_constraint, drpo  # noqa: E402

ROWS = st.lists(
    st.tuples(st.floats(-4, 4), st.booleans(), st.integers(0, 3), st.booleans(), st.integers(0, 100)), max_size=20
)
TAUS = st.sampled_from([0.1, 1.0, 10.0, math.inf])
UNPAIRED = st.sampled_from(["count", "skip"])


def unzip(rows):
    s, correct, ids, valid, lengths = zip(*rows, strict=True) if rows else ((),) * 5
    return np.array(s, dtype=float), list(correct), list(ids), np.array(valid, dtype=bool), list(lengths)


def close(out, expected, **tolerance):
    for got, wanted in zip(out, expected, strict=True):
        assert_allclose(got, wanted, **tolerance)


def test_by_hand(vectors):
    v = vectors("flat")
    d, c, w = v["disco"], v["disco_constraint"], v["drpo"]
    out = disco(d["s"], d["y"], [0] * 4, tau=d["tau"])
    assert_allclose(out.loss, -d["objective"], rtol=1e-13)
    assert_allclose(out.coefficient, [-x for x in d["dobj_ds"]], rtol=1e-14)
    lengths = [100 * x for x in w["len_ratio"]] + [50, 50]
    out = drpo(d["s"], d["y"], lengths, [0] * 4, max_length=100, lam=w["lam"], tau=d["tau"])
    assert_allclose(out.loss, -w["objective"], rtol=1e-13)
    assert_allclose(-out.coefficient[:2], w["w"], rtol=1e-13)
    for form, value in (("product", c["term"]), ("squared", c["paper_sq"])):
        got = disco_constraint([c["kl"]], [5], delta=c["delta"], beta=c["beta"], form=form)
        close(got, (value, [c["coef"]], c["kl"]), rtol=1e-13)


def test_official_code(vectors):
    def read(name):
        v = vectors("group_losses")[name]
        x = v["inputs"]
        return v, x, np.array(x.get("rewards", 0)) == 1

    v, x, right = read("disco")  # its loss shows another number
    assert_allclose(disco(x["logp"], right, x["groups"], tau=x["tau"]).coefficient, v["gradient"], rtol=1e-12)
    v, x, right = read("discob")
    out = disco(x["logp"], right, x["groups"], tau=math.inf)
    assert_allclose(out.coefficient, v["gradient"], rtol=1e-12)
    assert_allclose(out.loss, v["loss"], rtol=1e-13)
    v, x, right = read("drpo")
    out = drpo(x["logp"], right, x["lengths"], x["groups"], max_length=x["max_length"], lam=x["lam"], tau=x["tau"])
    assert_allclose(out.coefficient, v["gradient"], rtol=1e-12)
    v, x, _ = read("disco_constraint")
    out = disco_constraint(np.subtract(x["old"], x["logp"]), x["lengths"], form="product")
    assert_allclose(out.loss, v["loss"], rtol=1e-12)
    assert_allclose(-out.coefficient, v["gradient"], rtol=1e-12)


@given(ROWS, TAUS, UNPAIRED, st.booleans(), st.sampled_from([None, 7]))
def test_the_oracle(oracle, tolerance, rows, tau, unpaired, masked, divisor):
    s, correct, ids, valid, lengths = unzip(rows)
    options = {"tau": tau, "unpaired": unpaired, "divisor": divisor, "valid": valid if masked else None}
    expected = oracle("loss/disco.py", "disco")(s, correct, ids, **options)
    close(disco(s, correct, ids, **options), expected, **tolerance("float64"))
    options |= {"max_length": 100, "lam": 0.3}
    expected = oracle("loss/disco.py", "drpo")(s, correct, lengths, ids, **options)
    close(drpo(s, correct, lengths, ids, **options), expected, **tolerance("float64"))


@given(ROWS, st.sampled_from(["squared", "product"]), st.booleans(), st.sampled_from([0.0, 0.1]))
def test_the_oracle_of_the_trust_region(oracle, tolerance, rows, form, masked, delta):
    s, _, _, valid, lengths = unzip(rows)
    options = {"delta": delta, "form": form, "valid": valid if masked else None}
    lengths = [n + 1 for n in lengths]
    expected = oracle("loss/disco.py", "disco_constraint")(s, lengths, **options)
    close(disco_constraint(s, lengths, **options), expected, rtol=1e-11, atol=1e-10)


@given(ROWS, TAUS, st.integers(-8, 8))
def test_shifts(rows, tau, shift):
    s, correct, ids, _, _ = unzip(rows)
    a, b = disco(s, correct, ids, tau=tau), disco(s + shift, correct, ids, tau=tau)
    close(a, b, rtol=1e-11, atol=1e-11)
    assert abs(np.array(a.coefficient).sum()) < 1e-12


def test_drpo_without_care_for_length_is_disco():
    s, y, g = [-0.5, -0.8, -0.6, -1.2], [1, 1, 0, 0], [0] * 4
    close(drpo(s, y, [1, 9, 5, 5], g, max_length=9, lam=math.inf), disco(s, y, g), rtol=1e-15)


def test_temperatures_reach_their_limits():
    s, y, g = [-0.5, -0.8, -0.6, -1.2], [1, 1, 0, 0], [0] * 4
    close(disco(s, y, g, tau=1e9), disco(s, y, g, tau=math.inf), rtol=1e-8)
    assert_allclose(disco(s, y, g, tau=1e-9).coefficient, [-0.5, -0.5, 1.0, 0.0], atol=1e-15)


def test_groups_without_a_pair_count_or_not():
    s, y, g = [0.5, 0.1, 0.2], [1, 0, 1], ["a", "a", "b"]
    assert_allclose(disco(s, y, g).loss * 2, disco(s, y, g, unpaired="skip").loss)
    assert disco(s[2:], y[2:], g[2:], unpaired="skip").loss == 0
    assert disco(s, y, g).per_group.tolist()[1] == 0


def test_the_trust_region_costs_nothing_inside():
    out = disco_constraint([0.1, -0.1], [3, 3])
    assert (float(out.loss), out.coefficient.tolist(), float(out.kl)) == (0.0, [0.0, 0.0], 0.0)
    out = disco_constraint([], [])
    assert (float(out.loss), out.coefficient.tolist(), float(out.kl)) == (0.0, [], 0.0)


@given(ROWS.filter(bool))
def test_the_derivative_of_the_trust_region(rows):
    s, _, _, _, lengths = unzip(rows)
    x, n = torch.tensor(s, requires_grad=True), torch.tensor(lengths, dtype=torch.float64) + 1
    loss = 500 * ((n * x).sum() / n.sum() - 0.1).clamp(min=0) ** 2
    (grad,) = torch.autograd.grad(loss, x)
    out = disco_constraint(x.detach(), n, delta=0.1)
    assert_allclose(out.coefficient, grad, rtol=1e-9, atol=1e-9)
    assert_allclose(out.loss, loss.detach(), rtol=1e-9, atol=1e-9)


S, Y, G = [0.5, 0.1], [1, 0], [0, 0]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: disco(S, Y, G, tau=0), ValueError, r"disco\(\): 'tau' must be at least 1e-300 \(math.inf .*, got 0"),
        (lambda: disco(S, Y, G, tau=math.nan), ValueError, r"disco\(\): 'tau' must be at least .*, got nan"),
        (lambda: disco(S, Y, G, tau=True), TypeError, r"disco\(\): 'tau' must be a number, got True"),
        (lambda: disco(S, Y, G, tau="1"), TypeError, r"disco\(\): 'tau' must be a number, got an object of type str"),
        (
            lambda: disco(S, Y, G, unpaired=1),
            ValueError,
            r"disco\(\): 'unpaired' must be one of 'count', 'skip', got 1",
        ),
        (lambda: drpo(S, Y, S, G, max_length=0), ValueError, r"drpo\(\): 'max_length' must be finite and positive"),
        (lambda: drpo(S, Y, S, G, max_length=1, lam=0), ValueError, r"drpo\(\): 'lam' must be at least 1e-300"),
        (
            lambda: drpo(S, Y, [1, 7], G, max_length=5),
            ValueError,
            r"drpo\(\): 'lengths' must be at most 5 \(= max_length\), got 7 at index 1",
        ),
        (
            lambda: drpo(S, Y, [1, -7], G, max_length=5),
            ValueError,
            r"drpo\(\): 'lengths' must be finite and not negative where rows are valid, got -7 at index 1",
        ),
        (lambda: disco_constraint(S, [1]), ValueError, r"'lengths' must have length 2 \(= len\(kl\)\), got 1"),
        (lambda: disco_constraint(S, [0, 0]), ValueError, r"'lengths' must not all be 0 where rows are valid"),
        (lambda: disco_constraint(S, None), TypeError, r"disco_constraint\(\): 'lengths' must be an array of numbers"),
        (lambda: disco_constraint([math.nan], [1]), ValueError, r"'kl' must be finite where rows are valid, got nan"),
        (lambda: disco_constraint(S, S, delta=-1), ValueError, r"'delta' must be finite and not negative, got -1"),
        (lambda: disco_constraint(S, S, beta=-1), ValueError, r"'beta' must be finite and not negative, got -1"),
        (lambda: disco_constraint(S, S, form="a"), ValueError, r"'form' must be one of 'squared', 'product', got 'a'"),
        (
            lambda: disco_constraint(torch.ones(1, requires_grad=True), [1]),
            ValueError,
            r"disco_constraint\(\): 'kl' requires grad, but the gradient is in 'coefficient' of the result",
        ),
        (
            lambda: disco_constraint(torch.tensor([1e30]), [1]),
            ValueError,
            r"disco_constraint\(\): the loss and its derivatives must fit float32, got 5e\+62; scale the inputs",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_kinds():
    out = disco_constraint(torch.tensor([0.5, 1.0]), torch.tensor([1, 2]), valid=torch.tensor([True, False]))
    assert [x.dtype for x in out] == [torch.float32] * 3
    assert out.coefficient[1] == 0


def test_a_temperature_far_below_the_scores():
    with np.errstate(all="raise"):
        out = disco(np.array([1.0, -1e38, -1.0, -2e38]), [1, 0, 1, 0], ["a", "a", "b", "b"], tau=1e-300)
    assert out.coefficient.tolist() == [-0.5, 0.5, -0.5, 0.5]

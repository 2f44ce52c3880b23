"""TOPR."""

import math

import pytest

torch = pytest.importorskip("torch")

from rollmath.loss import CISPO, TOPR, Reinforce, Tokens  # noqa: E402

RHO = torch.tensor([0.1, 0.1, 1.0, 1.0, 5.0, 5.0], dtype=torch.float64)
A = torch.tensor([2.0, -2.0, 1.0, -1.0, 3.0, -3.0], dtype=torch.float64)


def evaluate(objective, rho=RHO, a=A):
    return objective.token_loss(Tokens.of(rho.log(), a, prox=torch.zeros_like(rho)))


def test_by_hand():
    out = evaluate(TOPR())
    assert out.gradient.tolist() == pytest.approx([-2.0, 0.2, -1.0, 1.0, -3.0, 3.0])
    torch.testing.assert_close(out.loss, out.gradient * RHO.log())
    assert out.counts == {"truncated": 1}


def test_bounds_and_the_weight_of_positive_examples():
    objective = TOPR(positive=(0.5, 2.0), negative=(0.2, math.inf), positive_weight=0.5)
    out = evaluate(objective)
    assert out.gradient.tolist() == pytest.approx([-0.5, 0.4, -0.5, 1.0, -3.0, 15.0])
    assert out.counts == {"truncated": 1}


def test_relatives():
    same = TOPR(positive=(1, 1), negative=(1, 1))
    assert torch.equal(evaluate(same).gradient, evaluate(Reinforce()).gradient)
    truncated = TOPR(positive=(0, 1), negative=(0, 1))
    torch.testing.assert_close(evaluate(truncated).gradient, evaluate(CISPO(cap=1.0)).gradient)
    assert (evaluate(TOPR(positive_weight=0)).gradient[A > 0] == 0).all()


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (
            {"positive": (1.0, 0.5)},
            ValueError,
            r"'positive' must be \(low, high\) with 0 <= low <= high, got \(1.0, 0.5\)",
        ),
        ({"negative": (-1, 1)}, ValueError, r"'negative' must be \(low, high\) with 0 <= low <= high"),
        ({"negative": (math.inf, math.inf)}, ValueError, r"'negative' must be \(low, high\)"),
        ({"negative": 1.0}, ValueError, r"'negative' must be \(low, high\) with 0 <= low <= high, got 1.0"),
        ({"negative": "no"}, TypeError, "'negative' must be a number, got an object of type str"),
        ({"negative": ("a", 1)}, TypeError, r"'negative' must hold numbers, got \('a', 1\)"),
        ({"negative": (0, 1, 2)}, ValueError, "'negative' must be one number or"),
        ({"positive_weight": -1}, ValueError, "'positive_weight' must be finite and not negative, got -1"),
        ({"positive_weight": None}, TypeError, "'positive_weight' must be a number"),
    ],
)
def test_options(arguments, error, match):
    with pytest.raises(error, match=rf"TOPR\(\): {match}"):
        TOPR(**arguments)

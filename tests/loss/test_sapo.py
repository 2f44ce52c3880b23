"""SAPO."""

import math

import pytest

torch = pytest.importorskip("torch")

from rollmath.loss import SAPO, Tokens  # noqa: E402


def evaluate(objective, rho, a):
    theta = torch.tensor(rho, dtype=torch.float64).log()
    return objective.token_loss(Tokens.of(theta, torch.tensor(a, dtype=torch.float64), prox=torch.zeros_like(theta)))


def test_hand_checked_vectors(vectors):
    data = vectors("flat")["token_losses"]
    out = evaluate(SAPO(), data["rho"], data["A"])
    assert out.loss.tolist() == pytest.approx([loss for loss, _ in data["sapo"]], abs=1e-12)
    assert out.gradient.tolist() == pytest.approx([slope for _, slope in data["sapo"]], abs=1e-12)


@pytest.mark.parametrize("tau", [0.1, 1.0, 7.0])
def test_on_policy_the_gradient_is_that_of_reinforce(tau):
    out = evaluate(SAPO(tau_pos=tau, tau_neg=tau), [1.0, 1.0], [2.0, -3.0])
    assert out.gradient.tolist() == pytest.approx([-2.0, 3.0])
    assert out.loss.tolist() == pytest.approx([-4 / tau, 6 / tau])


def test_the_temperature_of_the_sign():
    out = evaluate(SAPO(tau_pos=1.0, tau_neg=2.0), [1.5, 1.5], [1.0, -1.0])
    s, t = 1 / (1 + math.exp(-0.5)), 1 / (1 + math.exp(-1.0))
    assert out.gradient.tolist() == pytest.approx([-4 * s * (1 - s) * 1.5, 4 * t * (1 - t) * 1.5])


def test_a_large_ratio_keeps_its_small_gradient_in_float32():
    theta, prox = torch.tensor([math.log(30.0)]), torch.zeros(1)
    out = SAPO().token_loss(Tokens.of(theta, torch.ones(1), prox=prox))
    assert out.gradient.item() == pytest.approx(-4 * 30 * math.exp(-29), rel=1e-4)


def test_beyond_the_bound_of_the_log_ratio_there_is_no_gradient():
    out = evaluate(SAPO(max_log_ratio=1.0), [2.0, 3.0, 0.4, 0.3], [1.0] * 4)
    assert (out.gradient != 0).tolist() == [True, False, True, False]
    assert out.loss[1].item() == pytest.approx(-4 / (1 + math.exp(1 - math.e)))


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"tau_pos": 0}, ValueError, "'tau_pos' must be finite and positive, got 0"),
        ({"tau_neg": math.nan}, ValueError, "'tau_neg' must be finite and positive, got nan"),
        ({"tau_neg": None}, TypeError, "'tau_neg' must be a number, got an object of type NoneType"),
        ({"tau_pos": True}, TypeError, "'tau_pos' must be a number, got True"),
        ({"max_log_ratio": 0.0}, ValueError, "'max_log_ratio' must be finite and positive, got 0.0"),
    ],
)
def test_options(arguments, error, match):
    with pytest.raises(error, match=rf"SAPO\(\): {match}"):
        SAPO(**arguments)

"""Simple Policy Optimization."""

import math

import pytest

torch = pytest.importorskip("torch")

from rollmath.loss import SimplePO, Tokens  # noqa: E402


def evaluate(objective, rho, a):
    theta = torch.tensor(rho, dtype=torch.float64).log()
    return objective.token_loss(Tokens.of(theta, torch.tensor(a, dtype=torch.float64), prox=torch.zeros_like(theta)))


def test_hand_checked_vectors(vectors):
    data = vectors("flat")["token_losses"]
    out = evaluate(SimplePO(), data["rho"], data["A"])
    assert out.loss.tolist() == pytest.approx([loss for loss, _ in data["spo"]], abs=1e-12)
    assert out.gradient.tolist() == pytest.approx([slope for _, slope in data["spo"]], abs=1e-12)


def test_hand_checked_objective_and_its_derivative_by_the_ratio(vectors):
    data = vectors("flat")["spo"]
    out = evaluate(SimplePO(eps=0.2), data["ratio"], data["A"])
    assert (-out.loss).tolist() == pytest.approx(data["obj"], abs=1e-12)
    by_ratio = -out.gradient / torch.tensor(data["ratio"], dtype=torch.float64)
    assert by_ratio.tolist() == pytest.approx(data["dobj"], abs=1e-12)


def test_the_optimum_is_where_the_clip_of_ppo_begins():
    out = evaluate(SimplePO(eps=0.25), [1.25, 0.75], [2.0, -3.0])
    assert out.gradient.tolist() == pytest.approx([0.0, 0.0], abs=1e-12)
    past = evaluate(SimplePO(eps=0.25), [1.3, 1.2, 0.7, 0.8, 5.0], [1.0, 1.0, -1.0, -1.0, 0.0])
    assert past.gradient.sign().tolist() == [1.0, -1.0, -1.0, 1.0, 0.0]
    assert past.counts == {"overshoot": 2}


def test_on_policy_the_gradient_is_that_of_reinforce():
    assert evaluate(SimplePO(), [1.0, 1.0], [2.0, -3.0]).gradient.tolist() == [-2.0, 3.0]


def test_the_bound_of_the_log_ratio_bounds_the_loss():
    out = evaluate(SimplePO(max_log_ratio=1.0), [math.exp(9.0), 2.0], [-1.0, -1.0])
    assert out.loss[0].item() == pytest.approx(math.e + (math.e - 1) ** 2 / 0.4)
    assert out.gradient.tolist() == [0.0, pytest.approx(2 * (1 + 1 / 0.2))]


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"eps": 0}, ValueError, "'eps' must be finite and positive, got 0"),
        ({"eps": "x"}, TypeError, "'eps' must be a number, got an object of type str"),
        ({"max_log_ratio": math.inf}, ValueError, "'max_log_ratio' must be finite and positive, got inf"),
    ],
)
def test_options(arguments, error, match):
    with pytest.raises(error, match=rf"SimplePO\(\): {match}"):
        SimplePO(**arguments)

"""loss.distillation_reward, and what k1 and k2 do as rewards and as losses."""

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from rollmath.loss import distillation_reward  # noqa: E402

TOKENS = st.lists(st.tuples(st.floats(-50, 0), st.floats(-50, 0)), max_size=20)


@given(TOKENS, st.sampled_from([0.0, 0.005, 1.0, 3.0]))
def test_the_oracle(oracle, tolerance, tokens, coef):
    theta, teacher = np.array(tokens, dtype=float).reshape(-1, 2).T
    expected = oracle("loss/distillation.py", "distillation_reward")(theta, teacher, coef=coef)
    np.testing.assert_allclose(distillation_reward(theta, teacher, coef=coef), expected, **tolerance("float64"))


def test_by_hand():
    assert distillation_reward([-1.0, -2.0, 0.0], [-1.5, -1.0, 0.0], coef=2.0).tolist() == [-1.0, 2.0, 0.0]
    assert distillation_reward([-1.0], [-np.inf], coef=1.0).tolist() == [-np.inf]
    assert np.isnan(distillation_reward([-np.inf], [-np.inf], coef=1.0)).all()


@pytest.fixture
def softmax():
    """Logits of a 5-way softmax, and another teacher."""
    rng = np.random.default_rng(5)
    logits = torch.tensor(rng.normal(size=5), requires_grad=True)
    teacher = torch.log_softmax(torch.tensor(rng.normal(size=5)), 0)
    return logits, teacher


def expected_gradient(logits, per_token):
    """``E_{a ~ p} grad per_token(log p)_a``: the expectation is over samples, so that p itself is a constant."""
    logp = torch.log_softmax(logits, 0)
    (gradient,) = torch.autograd.grad((logp.exp().detach() * per_token(logp)).sum(), logits)
    return gradient


def reverse_kl_gradient(logits, teacher):
    logp = torch.log_softmax(logits, 0)
    (gradient,) = torch.autograd.grad((logp.exp() * (logp - teacher)).sum(), logits)
    return gradient


def test_k1_as_a_loss_learns_nothing(softmax):
    logits, teacher = softmax
    exact = reverse_kl_gradient(logits, teacher)
    assert exact.abs().max() > 0.05
    k1 = expected_gradient(logits, lambda logp: logp - teacher)
    np.testing.assert_allclose(k1, 0.0, atol=1e-15)
    # Sample by sample too, the teacher is not in it.
    one, other = (torch.autograd.grad((torch.log_softmax(logits, 0) - t)[2], logits)[0] for t in (teacher, -teacher))
    assert torch.equal(one, other)


def test_k2_as_a_loss_has_the_gradient_of_the_reverse_kl(softmax):
    logits, teacher = softmax
    k2 = expected_gradient(logits, lambda logp: 0.5 * (logp - teacher) ** 2)
    np.testing.assert_allclose(k2, reverse_kl_gradient(logits, teacher), atol=1e-15)


def test_k1_as_a_reward_has_the_gradient_of_the_reverse_kl(softmax):
    logits, teacher = softmax
    reward = distillation_reward(torch.log_softmax(logits, 0), teacher, coef=0.3)
    assert not reward.requires_grad
    policy_gradient = expected_gradient(logits, lambda logp: -reward * logp)
    np.testing.assert_allclose(policy_gradient, 0.3 * reverse_kl_gradient(logits, teacher), atol=1e-15)


@pytest.mark.parametrize(
    ("coef", "error", "match"),
    [
        (-0.1, ValueError, r"distillation_reward\(\): 'coef' must be finite and not negative, got -0.1"),
        (np.inf, ValueError, "'coef' must be finite and not negative, got inf"),
        (None, TypeError, "'coef' must be a number, got an object of type NoneType"),
    ],
)
def test_errors(coef, error, match):
    with pytest.raises(error, match=match):
        distillation_reward([0.0], [0.0], coef=coef)


def test_a_reward_that_is_turned_off_is_zero():
    out = distillation_reward([-1.0, -2.0, -3.0], [-0.5, -np.inf, np.nan], coef=0.0)
    assert out[:2].tolist() == [0.0, 0.0]
    assert np.isnan(out[2])

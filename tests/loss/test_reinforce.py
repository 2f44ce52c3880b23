"""REINFORCE."""

import math

import pytest

torch = pytest.importorskip("torch")

from rollmath.loss import CISPO, Reinforce, Tokens  # noqa: E402


def test_by_hand():
    out = Reinforce().token_loss(Tokens.of(torch.tensor([-1.0, -2.0, -3.0]), torch.tensor([2.0, -0.5, 0.0])))
    assert out.loss.tolist() == [2.0, -1.0, 0.0]
    assert out.gradient.tolist() == [-2.0, 0.5, 0.0]
    assert out.counts == {}


def test_is_cispo_without_bounds_on_policy():
    theta, a = -torch.rand(50), torch.randn(50)
    weighted = CISPO(clip=(1, math.inf))
    out, other = Reinforce().token_loss(Tokens.of(theta, a)), weighted.token_loss(Tokens.of(theta, a))
    assert torch.equal(out.loss, other.loss)
    assert torch.equal(out.gradient, other.gradient)
    prox = theta + 0.3
    expected = -a * (theta - prox).exp()
    torch.testing.assert_close(weighted.token_loss(Tokens.of(theta, a, prox=prox)).gradient, expected)


def test_a_weight_a_token():
    tokens = Tokens.of(torch.tensor([-1.0, -2.0]), torch.tensor([1.0, 1.0]), weight=torch.tensor([0.5, 2.0]))
    out = Reinforce().token_loss(tokens)
    assert out.loss.tolist() == [1.0, 2.0]
    assert out.gradient.tolist() == [-0.5, -2.0]

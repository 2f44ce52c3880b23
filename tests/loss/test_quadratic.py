"""Quadratic penalty, and OPMD."""

import math

import pytest

torch = pytest.importorskip("torch")

from rollmath.loss import OPMD, Quadratic, Reinforce, Tokens  # noqa: E402

THETA = torch.tensor([-1.0, -2.0, -0.5], dtype=torch.float64)
PROX = torch.tensor([-3.0, -2.0, -0.25], dtype=torch.float64)
A = torch.tensor([1.0, -1.0, 0.0], dtype=torch.float64)


def test_by_hand():
    out = Quadratic(0.5).token_loss(Tokens.of(THETA, A, prox=PROX))
    assert out.loss.tolist() == [1 + 0.25 * 4, -2.0, 0.25 * 0.0625]
    assert out.gradient.tolist() == [-1 + 0.5 * 2, 1.0, 0.5 * -0.25]


def test_on_policy_it_is_reinforce():
    out, plain = Quadratic(3.0).token_loss(Tokens.of(THETA, A)), Reinforce().token_loss(Tokens.of(THETA, A))
    assert torch.equal(out.loss, plain.loss)
    assert torch.equal(out.gradient, plain.gradient)


def test_the_stationary_point_is_the_tilted_policy():
    """log pi = log prox + A / beta, where the gradient is 0."""
    out = Quadratic(0.5).token_loss(Tokens.of(PROX + A / 0.5, A, prox=PROX))
    assert out.gradient.tolist() == pytest.approx([0.0] * 3, abs=1e-15)


def test_opmd_is_a_shorter_step():
    tokens = Tokens.of(THETA, A, prox=PROX)
    out, plain = OPMD(tau=3.0).token_loss(tokens), Reinforce().token_loss(tokens)
    assert torch.equal(out.loss, plain.loss / 4)
    assert torch.equal(out.gradient, plain.gradient / 4)
    assert torch.equal(OPMD(tau=0).token_loss(tokens).gradient, plain.gradient)
    assert OPMD() == OPMD(tau=1)


@pytest.mark.parametrize(
    ("kind", "value", "error", "match"),
    [
        (Quadratic, 0.0, ValueError, "'beta' must be finite and positive, got 0.0"),
        (Quadratic, math.inf, ValueError, "'beta' must be finite and positive, got inf"),
        (Quadratic, "0.1", TypeError, "'beta' must be a number, got an object of type str"),
        (OPMD, -1, ValueError, "'tau' must be finite and not negative, got -1"),
        (OPMD, None, TypeError, "'tau' must be a number, got an object of type NoneType"),
    ],
)
def test_options(kind, value, error, match):
    with pytest.raises(error, match=rf"{kind.__name__}\(\): {match}"):
        kind(value)

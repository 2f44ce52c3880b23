"""The clip around the latest policy."""

import math

import pytest

torch = pytest.importorskip("torch")

from rollmath.loss import PPO, ShiftedClip, Tokens  # noqa: E402


def evaluate(objective, ratio, center, a):
    theta, prox = (torch.tensor(x, dtype=torch.float64).log() for x in (ratio, center))
    advantages = torch.tensor(a, dtype=torch.float64)
    return objective.token_loss(Tokens.of(theta, advantages, prox=prox, behaviour=torch.zeros_like(theta)))


def test_hand_checked_vectors(vectors):
    data = vectors("flat")["shifted_clip"]
    out = evaluate(ShiftedClip(data["eps"]), data["ratio"], data["center"], data["A"])
    assert (-out.loss).tolist() == pytest.approx(data["obj"], abs=1e-12)


def test_the_gradient_and_the_counts():
    out = evaluate(
        ShiftedClip(0.2), [1.4, 1.6, 1.0, 1.0, 0.6, 1.4], [1.3, 1.3, 1.3, 1.3, 0.9, 1.3], [1, 1, 1, -1, -1, 0]
    )
    assert out.gradient.tolist() == pytest.approx([-1.4, 0.0, -1.0, 0.0, 0.0, 0.0])
    assert out.counts == {"clip_high": 1, "clip_low": 2}


def test_around_the_sampler_it_is_ppo():
    theta, prox, a = -torch.rand(99).double() * 3, -torch.rand(99).double() * 3, torch.randn(99).double()
    out = ShiftedClip(0.2).token_loss(Tokens.of(theta, a, prox=prox, behaviour=prox))
    plain = PPO(clip=0.2).token_loss(Tokens.of(theta, a, prox=prox))
    torch.testing.assert_close(out.loss, plain.loss, rtol=1e-14, atol=0)
    torch.testing.assert_close(out.gradient, plain.gradient, rtol=1e-14, atol=0)
    assert {k: x.item() for k, x in out.counts.items()} == {k: plain.counts[k].item() for k in out.counts}


def test_without_prox_nothing_is_clipped():
    theta, behaviour, a = -torch.rand(20) * 3, -torch.rand(20) * 3, torch.randn(20)
    out = ShiftedClip(0.01).token_loss(Tokens.of(theta, a, behaviour=behaviour))
    torch.testing.assert_close(out.gradient, -a * (theta - behaviour).exp())
    assert out.counts == {"clip_high": 0, "clip_low": 0}


def test_a_region_that_reaches_0():
    out = evaluate(ShiftedClip(0.5), [1e-6], [0.3], [-1.0])
    assert out.gradient.item() == pytest.approx(1e-6)


def test_no_behaviour():
    with pytest.raises(
        ValueError, match=r"ShiftedClip\(\): 'logprobs' must have 'behaviour', the policy that sampled: LogProbs\(theta"
    ):
        ShiftedClip().token_loss(Tokens.of(torch.zeros(1), torch.ones(1)))


@pytest.mark.parametrize(
    ("eps", "error", "match"),
    [
        (0, ValueError, "'eps' must be finite and positive, got 0"),
        (math.inf, ValueError, "'eps' must be finite and positive, got inf"),
        ((0.2, 0.2), TypeError, "'eps' must be a number, got an object of type tuple"),
    ],
)
def test_options(eps, error, match):
    with pytest.raises(error, match=rf"ShiftedClip\(\): {match}"):
        ShiftedClip(eps)

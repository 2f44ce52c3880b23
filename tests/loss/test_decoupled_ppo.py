"""Decoupled PPO."""

import math
from dataclasses import dataclass

import pytest

torch = pytest.importorskip("torch")

import rollmath as rm  # noqa: E402
from rollmath.loss import PPO, DecoupledPPO, Normalizer, Tokens, policy_loss  # noqa: E402


def tokens(weight, rho, a):
    weight, rho, a = (torch.tensor(x, dtype=torch.float64) for x in (weight, rho, a))
    return Tokens.of(rho.log(), a, prox=torch.zeros_like(rho), behaviour=-weight.log())


def test_by_hand():
    batch = tokens([0.5, 2.0, 4.0, 4.0], [1.1, 1.5, 1.1, 1.1], [1.0, -1.0, 1.0, 0.0])
    plain = DecoupledPPO().token_loss(batch)
    assert plain.loss.tolist() == pytest.approx([-0.55, 3.0, -4.4, 0.0])
    assert plain.gradient.tolist() == pytest.approx([-0.55, 3.0, -4.4, 0.0])
    assert "over_cap" not in plain.counts
    masked = DecoupledPPO(cap=3.0).token_loss(batch)
    assert masked.gradient.tolist() == pytest.approx([-0.55, 3.0, 0.0, 0.0])
    assert masked.counts["over_cap"] == 2
    truncated = DecoupledPPO(cap=3.0, outside="truncate").token_loss(batch)
    assert truncated.gradient.tolist() == pytest.approx([-0.55, 3.0, -3.3, 0.0])


def test_the_clips_are_those_of_ppo():
    batch = tokens([2.0, 2.0, 2.0, 8.0], [1.5, 0.5, 9.0, 1.5], [1.0, -1.0, -1.0, 1.0])
    out = DecoupledPPO(clip=(0.2, 0.3), dual_clip=3.0, cap=5.0).token_loss(batch)
    assert out.loss.tolist() == pytest.approx([-2.6, 1.6, 6.0, 0.0])
    assert out.gradient.tolist() == [0.0] * 4
    # A token that is masked is not counted as clipped.
    assert out.counts == {"clip_high": 1, "clip_low": 1, "dual_clip": 1, "over_cap": 1}


def test_on_a_fresh_batch_it_is_ppo():
    theta, prox, a = -torch.rand(99) * 3, -torch.rand(99) * 3, torch.randn(99)
    batch = Tokens.of(theta, a, prox=prox, behaviour=prox)
    out, plain = DecoupledPPO(clip=0.1, dual_clip=2.0).token_loss(batch), PPO(clip=0.1, dual_clip=2.0).token_loss(batch)
    assert torch.equal(out.loss, plain.loss)
    assert torch.equal(out.gradient, plain.gradient)
    assert out.counts == plain.counts


@dataclass(frozen=True)
class Weigh:
    """What a correction of the mismatch does."""

    cap: float
    outside: str
    coupled: bool = False

    def weigh(self, tokens):
        w = (tokens.prox - tokens.behaviour).exp()
        return (w.clamp(max=self.cap) if self.outside == "truncate" else torch.where(w > self.cap, 0, w)), {}


@pytest.mark.parametrize("outside", ["zero", "truncate"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_correction_beside_ppo_does_the_same(outside, dtype):
    generator = torch.Generator().manual_seed(3)
    theta, prox, behaviour = (-3 * torch.rand(60, generator=generator, dtype=dtype) for _ in range(3))
    rows = rm.Rows(["a", "b", "c"], [10, 30, 20])
    results = []
    for objective, correction in (
        (DecoupledPPO(clip=(0.2, 0.28), dual_clip=3.0, cap=1.5, outside=outside), None),
        (PPO(clip=(0.2, 0.28), dual_clip=3.0), Weigh(1.5, outside)),
    ):
        leaf = theta.clone().requires_grad_()
        logprobs = rm.LogProbs(leaf, prox=prox, behaviour=behaviour)
        out = policy_loss(
            logprobs,
            [1.0, -0.5, -2.0],
            rows,
            objective,
            normalizer=Normalizer.local(rows),
            correction=correction,
            aggregation="seq_mean_token_mean",
        )
        out.loss.backward()
        results.append((out.loss.detach(), leaf.grad))
    tolerance = {"rtol": 1e-5, "atol": 1e-7} if dtype == torch.float32 else {"rtol": 1e-13, "atol": 1e-16}
    for mine, composed in zip(*results, strict=True):
        torch.testing.assert_close(mine, composed, **tolerance)


def test_a_masked_token_with_a_loss_beyond_float32():
    batch = Tokens.of(
        torch.tensor([0.0]), torch.tensor([-100.0]), prox=torch.tensor([-200.0]), behaviour=torch.tensor([-400.0])
    )
    out = DecoupledPPO(cap=5.0).token_loss(batch)
    assert out.loss.item() == 0
    assert out.gradient.item() == 0


def test_no_behaviour():
    with pytest.raises(
        ValueError, match=r"DecoupledPPO\(\): 'logprobs' must have 'behaviour', the policy that sampled"
    ):
        DecoupledPPO().token_loss(Tokens.of(torch.zeros(1), torch.ones(1)))


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"clip": -0.1}, ValueError, r"'clip' must be \(lo, hi\) with lo in \[0, 1\]"),
        ({"dual_clip": 1.0}, ValueError, "'dual_clip' must be finite and above 1, got 1.0"),
        ({"cap": 0.0}, ValueError, "'cap' must be finite and positive, got 0.0"),
        ({"cap": math.inf}, ValueError, "'cap' must be finite and positive, got inf"),
        ({"outside": "clamp"}, ValueError, "'outside' must be one of 'zero', 'truncate', got 'clamp'"),
        ({"clip": None}, TypeError, "'clip' must hold numbers, got None"),
    ],
)
def test_options(arguments, error, match):
    with pytest.raises(error, match=rf"DecoupledPPO\(\): {match}"):
        DecoupledPPO(**arguments)

"""Objectives of a user as kernels, operation by operation."""

from dataclasses import dataclass

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from fused_losses import a_step, assert_same, called, reason  # noqa: E402

from rollmath.loss import Objective, TokenLoss  # noqa: E402

# The interpreter computes in NumPy, which warns of infinities that are meant.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@dataclass(frozen=True)
class Own(Objective):
    """An objective of a user."""

    power: float = 0.5
    kind: str = ""

    def token_loss(self, tokens):
        a, theta = tokens.advantages, tokens.theta
        slope = -a * torch.sigmoid(theta).pow(2) / torch.sqrt(1 + theta * theta)
        if self.kind == "all":
            x = torch.where(a > 0, theta.tanh(), torch.log1p(-theta)) + torch.nan_to_num(theta.log(), nan=2.0).rsqrt()
            x = x + theta.isnan().float() + (~(a > 0) & (theta < -1)).float() + theta.masked_fill(a > 0, 0.25).relu()
            x += torch.addcdiv(a, theta, 3 - theta, value=self.power) * torch.full_like(a, self.power).isinf()
            x = x + torch.lerp(a, theta, a.abs()) + (2 + a).reciprocal()
            slope = slope + torch.log(1 + x.abs()) + torch.zeros_like(a).add_(x.clamp(-1, 1).exp(), alpha=0.125)
            slope = slope * ((a > 0) + (theta < -0.5)).float() * (theta.mul(8).int() - 3).float().add(0.5)
            slope = slope * torch.tensor(2.5).sum()
        if self.kind == "sorted":
            slope = slope.sort().values
        if self.kind == "read" and bool((slope > 0).any()):
            slope = -slope
        if self.kind == "mean":
            slope = slope - slope.sum() / tokens.trained
        if self.kind == "length":
            slope = slope / len(tokens)
        if self.kind == "random":
            slope = slope * torch.rand_like(slope)
        if self.kind == "double":
            slope = slope.double().exp().float()
        if self.kind == "bits":
            slope = slope * (theta.view(torch.int32) & 1)
        if self.kind == "shifted":
            slope = torch.cat([slope[1:], slope[:1]])
        spread = tokens.total(slope) / tokens.trained
        if self.kind == "cut":
            spread = tokens.total(10 * slope).long().double()
        return TokenLoss(slope * theta, tokens.weighted(slope), {"spread": spread, "size": slope.abs().max()})


class Loose(Objective):
    def token_loss(self, tokens):
        return Own().token_loss(tokens)


def test_an_objective_of_your_own(kernels, device):
    step = a_step()
    for objective in (Own(), Own(kind="all")):
        assert_same(called(step, objective, device), called(step, objective), atol=2e-6)


@pytest.mark.parametrize(
    ("objective", "why"),
    [
        (Own(kind="sorted"), "aten.sort.default has no form in the kernel"),
        (Own(kind="read"), "no form in the kernel"),
        (Own(kind="mean"), "depends on sums over all"),
        (Own(kind="length"), "it depends on the number of positions"),
        (Own(kind="random"), "aten.rand_like.default has no form"),
        (Own(kind="double"), "float64 has no form in the kernel"),
        (Own(kind="shifted"), "has no form in the kernel"),
        (Own(kind="bits"), "bits are read as another type"),
        (Own(kind="cut"), "a single number is cut to a whole one"),
        pytest.param(Loose(), "Loose is no frozen dataclass", id="Loose"),
        (Own(power=torch.ones(())), "Tensor is no frozen dataclass"),
    ],
    ids=str,
)
def test_what_has_no_kernel_has_the_plain_arithmetic(device, objective, why):
    assert why in reason(a_step(), objective, device)

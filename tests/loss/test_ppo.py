"""The PPO objective, a token at a time."""

import math
from fractions import Fraction

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from rollmath.loss import PPO, Objective  # noqa: E402


def one(objective, theta, prox, advantage, dtype=torch.float64):
    out = objective.token_loss(*(torch.tensor([x], dtype=dtype) for x in (theta, prox, advantage)))
    return out.loss.item(), out.coefficient.item()


@pytest.mark.parametrize(("name", "objective"), [("ppo", PPO(0.2)), ("dual", PPO(clip=(0.2, 0.2), dual_clip=3.0))])
def test_hand_checked_vectors(vectors, name, objective):
    data = vectors("flat")["token_losses"]
    for rho, a, expected in zip(data["rho"], data["A"], data[name], strict=True):
        assert one(objective, math.log(rho), 0.0, a) == pytest.approx(expected, abs=1e-12)


logp = st.floats(-8, 0)
options = st.fixed_dictionaries(
    {
        "clip": st.tuples(st.floats(0, 1), st.floats(0, 3)),
        "dual_clip": st.none() | st.floats(1.1, 5),
        "max_log_ratio": st.none() | st.floats(0.1, 20),
    }
)


@settings(max_examples=200, deadline=None)
@given(logp, logp, st.floats(-3, 3), options)
def test_agrees_with_the_oracle(oracle, theta, prox, advantage, options):
    expected = oracle("loss/ppo.py", "PPO")(theta, prox, advantage, **options)
    loss, slope = one(PPO(**options), theta, prox, advantage)
    assert loss == pytest.approx(expected[0], rel=1e-12, abs=1e-300)
    rho = math.exp(theta - prox)
    kinks = [1 - options["clip"][0], 1 + options["clip"][1], options["dual_clip"] or 0]
    clamp = options["max_log_ratio"]
    if all(abs(rho - k) > 1e-9 for k in kinks) and (clamp is None or abs(abs(theta - prox) - clamp) > 1e-9):
        assert slope == pytest.approx(expected[1], rel=1e-12, abs=1e-300)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(logp, logp, st.floats(-3, 3)), min_size=1, max_size=9), options)
def test_closed_form_is_the_gradient_of_plain_operations(tokens, options):
    theta, prox, a = torch.tensor(tokens, dtype=torch.float64).T
    theta = theta.clone().requires_grad_()
    lo, hi = options["clip"]
    delta = theta - prox
    if options["max_log_ratio"] is not None:
        delta = delta.clamp(-options["max_log_ratio"], options["max_log_ratio"])
    rho = delta.exp()
    plain = torch.maximum(-a * rho, -a * rho.clamp(1 - lo, 1 + hi))
    if options["dual_clip"] is not None:
        plain = torch.where(a < 0, torch.minimum(plain, -a * options["dual_clip"]), plain)
    (gradient,) = torch.autograd.grad(plain.sum(), theta)
    out = PPO(**options).token_loss(theta, prox, a)
    torch.testing.assert_close(out.loss, plain.detach(), rtol=1e-12, atol=1e-14)
    ratio = rho.detach()
    smooth = torch.ones_like(ratio, dtype=torch.bool)
    for kink in (1 - lo, 1 + hi, options["dual_clip"]):
        smooth &= (ratio - kink).abs() > 1e-9 if kink is not None else smooth
    torch.testing.assert_close(out.coefficient[smooth], gradient[smooth], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("rho", "a", "slope"), [(1.25, 1.0, -1.25), (0.75, -1.0, 0.75), (2.0, -1.0, 2.0)])
def test_exactly_on_a_boundary_the_gradient_is_the_unclipped_one(rho, a, slope):
    # clamp and max of torch agree with it at the two clips.
    objective = PPO(clip=0.25, dual_clip=2.0)
    out = objective.token_loss(*(torch.tensor([x], dtype=torch.float64) for x in (math.log(rho), 0.0, a)))
    if out.ratio.item() == rho:
        assert out.coefficient.item() == pytest.approx(slope)
        assert not out.clipped.item()
        assert not out.dual_clipped.item()
    assert one(PPO(clip=0.0), -1.0, -1.0, 1.0) == (-1.0, -1.0)


def test_huge_ratios():
    theta, prox = 0.0, -200.0
    assert one(PPO(), theta, prox, 1.0, torch.float32) == pytest.approx((-1.2, 0.0))
    assert one(PPO(), theta, prox, -1.0, torch.float32) == (math.inf, math.inf)
    assert one(PPO(), theta, prox, 0.0, torch.float32) == (0, 0)
    assert one(PPO(dual_clip=3.0), theta, prox, -1.0, torch.float32) == (3.0, 0.0)
    loss, slope = one(PPO(max_log_ratio=20), theta, prox, -1.0)
    assert (loss, slope) == (pytest.approx(math.exp(20)), 0)
    assert one(PPO(), -math.inf, -1.0, 1.0) == (0, 0)


def test_nan_stays_nan():
    for objective in (PPO(), PPO(dual_clip=3, max_log_ratio=20)):
        loss, slope = one(objective, math.nan, 0.0, 1.0)
        assert math.isnan(loss)
        assert math.isnan(slope)


def test_no_upper_clip():
    assert one(PPO(clip=(1.0, math.inf)), math.log(50), 0.0, 1.0) == pytest.approx((-50, -50))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_narrow_inputs_give_float32(dtype):
    x = torch.zeros(3, dtype=dtype)
    out = PPO().token_loss(x, x, torch.ones(3, dtype=torch.float64))
    assert out.loss.dtype == out.coefficient.dtype == torch.float32


def test_a_value():
    assert PPO(0.2) == PPO(clip=(0.2, 0.2)) == PPO(clip=[0.2, 0.2])
    assert hash(PPO(0.2)) == hash(PPO((0.2, 0.2)))
    assert PPO(clip=(0.2, 0.28)).bounds == (0.2, 0.28)
    assert isinstance(PPO(), Objective)


def test_any_real_number():
    made = PPO(clip=np.float32(0.25), dual_clip=np.int64(3), max_log_ratio=Fraction(20))
    assert made == PPO(clip=0.25, dual_clip=3.0, max_log_ratio=20.0)
    assert all(type(x) is float for x in (*made.clip, made.dual_clip, made.max_log_ratio))
    assert PPO(clip=(np.float16(0.5), np.float64(0.25))).clip == (0.5, 0.25)


def test_a_dual_clip_below_the_upper_clip():
    objective = PPO(clip=(0.2, 0.5), dual_clip=1.2)
    assert one(objective, math.log(1.3), 0.0, 1.0) == pytest.approx((-1.3, -1.3))
    assert one(objective, math.log(1.3), 0.0, -1.0) == (pytest.approx(1.2), 0)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"clip": (0.2, 0.2, 0.2)}, ValueError, r"'clip' must be one number or \(lo, hi\)"),
        ({"clip": -0.1}, ValueError, r"'clip' must be \(lo, hi\) with lo in \[0, 1\]"),
        ({"clip": (1.5, 0.2)}, ValueError, "'clip' must be"),
        ({"clip": (0.2, math.nan)}, ValueError, "'clip' must be"),
        ({"clip": "0.2"}, TypeError, "'clip' must hold numbers, got '0.2'"),
        ({"clip": True}, TypeError, "'clip' must hold numbers"),
        ({"clip": np.bool_(True)}, TypeError, "'clip' must hold numbers"),
        ({"clip": (0.2, 10**400)}, ValueError, "'clip' must fit a float"),
        ({"clip": torch.tensor(0.2)}, TypeError, "'clip' must hold numbers"),
        ({"dual_clip": 1.0}, ValueError, "'dual_clip' must be over 1 and finite, got 1.0"),
        ({"dual_clip": math.nan}, ValueError, "'dual_clip' must be over 1"),
        ({"dual_clip": "3"}, TypeError, "'dual_clip' must hold numbers"),
        ({"max_log_ratio": 0}, ValueError, "'max_log_ratio' must be positive and finite, got 0"),
    ],
)
def test_options(arguments, error, match):
    with pytest.raises(error, match=match):
        PPO(**arguments)


def test_token_loss_arguments():
    x = torch.zeros(3)
    with pytest.raises(ValueError, match=r"'advantages' must have shape \(3,\) \(= theta.shape\), got \(2,\)"):
        PPO().token_loss(x, x, torch.zeros(2))
    with pytest.raises(TypeError, match="'prox' must be a float tensor, got an object of type list"):
        PPO().token_loss(x, [0.0] * 3, x)
    with pytest.raises(TypeError, match="'advantages' must be a float tensor, got a 1-D int64 array"):
        PPO().token_loss(x, x, torch.zeros(3, dtype=torch.int64))

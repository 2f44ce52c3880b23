"""The PPO objective, a token at a time."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import assume, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from rollmath.loss import PPO, Objective, Tokens  # noqa: E402

HUGE = torch.finfo(torch.float32).max


def evaluate(objective, theta, prox, advantages, weight=1.0, dtype=torch.float64):
    theta, prox, advantages = (torch.tensor(x, dtype=dtype) for x in (theta, prox, advantages))
    return objective.token_loss(Tokens.of(theta, advantages, prox=prox, weight=weight))


def one(objective, theta, prox, advantage, dtype=torch.float64):
    out = evaluate(objective, [theta], [prox], [advantage], dtype=dtype)
    return out.loss.item(), out.gradient.item()


def counts(out):
    return {name: int(x) for name, x in out.counts.items()}


@pytest.mark.parametrize(("name", "objective"), [("ppo", PPO(0.2)), ("dual", PPO(clip=(0.2, 0.2), dual_clip=3.0))])
def test_hand_checked_vectors(vectors, name, objective):
    data = vectors("flat")["token_losses"]
    for rho, a, expected in zip(data["rho"], data["A"], data[name], strict=True):
        assert one(objective, math.log(rho), 0.0, a) == pytest.approx(expected, abs=1e-12)


logp = st.floats(-8, 0)
cap = st.floats(1.1, 5)
options = st.fixed_dictionaries(
    {"clip": st.tuples(st.floats(0, 1), st.floats(0, 3)), "max_log_ratio": st.none() | st.floats(0.1, 20)}
).flatmap(
    lambda made: st.sampled_from(["", "dual_clip", "delta"]).flatmap(
        lambda name: cap.map(lambda c: made | ({name: c} if name else {}))
    )
)
tokens = st.lists(st.tuples(logp, logp, st.floats(-3, 3)), min_size=1, max_size=9)


def away_from_kinks(theta, prox, options):
    lo, hi = options["clip"]
    log_ratio = torch.tensor(theta, dtype=torch.float64) - torch.tensor(prox, dtype=torch.float64)
    smooth = torch.ones_like(log_ratio, dtype=torch.bool)
    for kink in (1 - lo, 1 + hi, options.get("dual_clip"), options.get("delta")):
        if kink is not None:
            smooth &= (log_ratio.exp() - kink).abs() > 1e-9
    if options["max_log_ratio"] is not None:
        smooth &= (log_ratio.abs() - options["max_log_ratio"]).abs() > 1e-9
    return smooth


@settings(max_examples=200, deadline=None)
@given(tokens, options, st.floats(-2, 2))
def test_agrees_with_the_oracle(oracle, drawn, options, weight):
    theta, prox, a = (list(x) for x in zip(*drawn, strict=True))
    losses, gradients = oracle("loss/ppo.py", "PPO")([theta], [prox], [a], [[weight] * len(a)], **options)
    out = evaluate(PPO(**options), theta, prox, a, weight)
    np.testing.assert_allclose(out.loss, losses[0], rtol=1e-12, atol=1e-300)
    smooth = away_from_kinks(theta, prox, options).numpy()
    np.testing.assert_allclose(out.gradient[smooth], np.array(gradients[0])[smooth], rtol=1e-12, atol=1e-300)


@settings(max_examples=100, deadline=None)
@given(tokens, options)
def test_closed_form_is_the_gradient_of_plain_operations(drawn, options):
    theta, prox, a = torch.tensor(drawn, dtype=torch.float64).T
    theta = theta.clone().requires_grad_()
    lo, hi = options["clip"]
    log_ratio = theta - prox
    if options["max_log_ratio"] is not None:
        log_ratio = log_ratio.clamp(-options["max_log_ratio"], options["max_log_ratio"])
    rho = log_ratio.exp()
    raw = rho if "delta" not in options else rho.clamp(max=options["delta"])
    plain = torch.maximum(-a * raw, -a * rho.clamp(1 - lo, 1 + hi))
    if "dual_clip" in options:
        plain = torch.where(a < 0, torch.minimum(plain, -a * options["dual_clip"]), plain)
    (gradient,) = torch.autograd.grad(plain.sum(), theta)
    out = PPO(**options).token_loss(Tokens.of(theta, a, prox=prox))
    torch.testing.assert_close(out.loss, plain.detach(), rtol=1e-12, atol=1e-14)
    smooth = away_from_kinks(theta.tolist(), prox.tolist(), options)
    torch.testing.assert_close(out.gradient[smooth], gradient[smooth], rtol=1e-12, atol=1e-14)


@settings(max_examples=60, deadline=None)
@given(tokens, options)
def test_counts_are_of_what_has_no_gradient(drawn, options):
    theta, prox, a = (list(x) for x in zip(*drawn, strict=True))
    assume(all(x == 0 or abs(x) > 1e-200 for x in a))  # so that no gradient underflows
    options = options | {"max_log_ratio": None}
    out = evaluate(PPO(**options), theta, prox, a)
    smooth = away_from_kinks(theta, prox, options)
    if bool(smooth.all()):
        stopped = int(((out.gradient == 0) & (torch.tensor(a, dtype=torch.float64) != 0)).sum())
        assert sum(counts(out).values()) == stopped
    assert min(counts(out).values()) >= 0


def test_counts():
    rho = [1.3, 1.0, 0.7, 0.7, 4.0, 1.3]
    out = evaluate(PPO(dual_clip=3.0), [math.log(x) for x in rho], [0.0] * 6, [1.0, 1.0, 1.0, -1.0, -1.0, 0.0])
    assert counts(out) == {"clip_high": 1, "clip_low": 1, "dual_clip": 1}


def test_weights_of_each_token():
    theta, prox, a = [-1.0, -2.0, -0.5], [-1.1, -1.0, -0.5], [1.0, -1.0, 2.0]
    weight = torch.tensor([0.5, 0.0, -2.0], dtype=torch.float64)
    plain, weighted = (evaluate(PPO(), theta, prox, a, w) for w in (1.0, weight))
    assert torch.equal(plain.loss, weighted.loss)
    torch.testing.assert_close(weighted.gradient, plain.gradient * weight)


@pytest.mark.parametrize(("rho", "a", "slope"), [(1.25, 1.0, -1.25), (0.75, -1.0, 0.75), (2.0, -1.0, 2.0)])
def test_exactly_on_a_boundary_the_gradient_is_the_unclipped_one(rho, a, slope):
    # clamp and max of torch agree with it at the two clips. The logarithm is the one whose exp is rho to the bit.
    near = math.log(rho)
    theta = torch.tensor([near, math.nextafter(near, 9), math.nextafter(near, -9)], dtype=torch.float64)
    exact = theta[theta.exp() == rho]
    assert len(exact)
    for objective in (PPO(clip=0.25, dual_clip=2.0), PPO(clip=0.25, delta=2.0)):
        out = evaluate(objective, [exact[0].item()], [0.0], [a])
        assert out.gradient.item() == pytest.approx(slope)
        assert set(counts(out).values()) == {0}
    assert one(PPO(clip=0.0), -1.0, -1.0, 1.0) == (-1.0, -1.0)


def test_huge_ratios():
    theta, prox = 0.0, -200.0
    assert one(PPO(), theta, prox, 1.0, torch.float32) == pytest.approx((-1.2, 0.0))
    # The largest finite number, so that a weight or an advantage of 0 gives 0.
    assert one(PPO(), theta, prox, -1.0, torch.float32) == (HUGE, HUGE)
    assert one(PPO(), theta, prox, 0.0, torch.float32) == (0, 0)
    assert one(PPO(dual_clip=3.0), theta, prox, -1.0, torch.float32) == (3.0, 0.0)
    assert one(PPO(delta=3.0), theta, prox, -1.0, torch.float32) == (3.0, 0.0)
    loss, slope = one(PPO(max_log_ratio=20), theta, prox, -1.0)
    assert (loss, slope) == (pytest.approx(math.exp(20)), 0)
    assert one(PPO(), -math.inf, -1.0, 1.0) == (0, 0)


@pytest.mark.parametrize("objective", [PPO(), PPO(dual_clip=3.0), PPO(delta=2.0), PPO(max_log_ratio=20.0)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("a", [-1.5, -0.5, 0.0, 2.0])
@pytest.mark.parametrize("log_ratio", [-math.inf, -1e4, -800.0, 800.0, 1e4, math.inf])
def test_extreme_log_ratios_give_no_nan(oracle, objective, dtype, a, log_ratio):
    options = {name: getattr(objective, name) for name in ("clip", "dual_clip", "delta", "max_log_ratio")}
    largest = torch.finfo(dtype).max
    expected = oracle("loss/ppo.py", "PPO")([[log_ratio]], [[0.0]], [[a]], [[0.5]], **options, largest=largest)
    out = evaluate(objective, [log_ratio], [0.0], [a], 0.5, dtype)
    loss, gradient = expected[0][0][0], expected[1][0][0]
    assert out.loss.item() == pytest.approx(loss if abs(loss) <= largest else math.inf, rel=1e-6)
    # a * rho may overflow before the weight, which is small in practice, is applied.
    assert out.gradient.item() == pytest.approx(gradient if abs(gradient) < largest / 2 else out.gradient.item())
    assert not math.isnan(out.gradient.item())


def test_nan_stays_nan():
    for objective in (PPO(), PPO(dual_clip=3, max_log_ratio=20), PPO(delta=2.0)):
        for theta, a in [(math.nan, 1.0), (math.nan, -1.0), (math.nan, 0.0), (0.0, math.nan)]:
            loss, slope = one(objective, theta, 0.0, a)
            assert math.isnan(loss)
            assert math.isnan(slope)


def test_no_upper_clip():
    assert one(PPO(clip=(1.0, math.inf)), math.log(50), 0.0, 1.0) == pytest.approx((-50, -50))


def test_delta_caps_what_is_not_clipped():
    assert one(PPO(delta=1.5), math.log(1.4), 0.0, -1.0) == pytest.approx((1.4, 1.4))
    assert one(PPO(delta=1.5), math.log(4), 0.0, -1.0) == pytest.approx((1.5, 0))
    # Below 1 + hi, it binds from above for A > 0, and from 1 + hi on the clipped ratio does for A < 0.
    low = PPO(clip=(0.2, 0.5), delta=1.25)
    assert one(low, math.log(1.4), 0.0, 1.0) == pytest.approx((-1.25, 0))
    assert one(low, math.log(1.4), 0.0, -1.0) == pytest.approx((1.4, 1.4))
    assert one(low, math.log(1.6), 0.0, -1.0) == pytest.approx((1.5, 0))


def test_a_dual_clip_below_the_upper_clip():
    objective = PPO(clip=(0.2, 0.5), dual_clip=1.2)
    assert one(objective, math.log(1.3), 0.0, 1.0) == pytest.approx((-1.3, -1.3))
    assert one(objective, math.log(1.3), 0.0, -1.0) == (pytest.approx(1.2), 0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_narrow_inputs_give_float32(dtype):
    out = evaluate(PPO(), [0.0] * 3, [0.0] * 3, [1.0] * 3, dtype=dtype)
    assert out.loss.dtype == out.gradient.dtype == torch.float32


def test_tokens_are_not_written_to():
    theta, prox, a = (torch.tensor(x) for x in ([0.0, -1.0], [-1.0, -0.5], [1.0, -1.0]))
    made = Tokens.of(theta, a, prox=prox, weight=torch.tensor([1.0, 2.0]))
    before = [x.clone() for x in (made.theta, made.prox, made.advantages, made.weight, made.ratio, made.log_ratio)]
    PPO(max_log_ratio=0.2).token_loss(made)
    after = [made.theta, made.prox, made.advantages, made.weight, made.ratio, made.log_ratio]
    assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))


def test_a_value():
    assert PPO(0.2) == PPO(clip=(0.2, 0.2)) == PPO(clip=[0.2, 0.2])
    assert hash(PPO(0.2)) == hash(PPO((0.2, 0.2)))
    assert PPO(clip=(0.2, 0.28)).bounds == (0.2, 0.28)
    assert isinstance(PPO(), Objective)
    assert PPO().coupling == "separable"


def test_any_real_number():
    made = PPO(clip=np.float32(0.25), dual_clip=np.int64(3), max_log_ratio=np.float16(20))
    assert made == PPO(clip=0.25, dual_clip=3.0, max_log_ratio=20.0)
    assert all(type(x) is float for x in (*made.clip, made.dual_clip, made.max_log_ratio))
    assert PPO(clip=(np.float16(0.5), np.float64(0.25))).clip == (0.5, 0.25)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"clip": (0.2, 0.2, 0.2)}, ValueError, r"'clip' must be one number or \(lo, hi\), got \(0.2, 0.2, 0.2\)"),
        ({"clip": -0.1}, ValueError, r"'clip' must be \(lo, hi\) with lo in \[0, 1\]"),
        ({"clip": (1.5, 0.2)}, ValueError, "'clip' must be"),
        ({"clip": (0.2, math.nan)}, ValueError, "'clip' must be finite, got nan"),
        ({"clip": (0.2, -math.inf)}, ValueError, "'clip' must be finite, got -inf"),
        ({"clip": "0.2"}, TypeError, "'clip' must hold numbers, got '0.2'"),
        ({"clip": True}, TypeError, "'clip' must hold numbers, got True"),
        ({"clip": np.bool_(True)}, TypeError, "'clip' must hold numbers"),
        ({"clip": (0.2, 10**400)}, ValueError, "'clip' must fit float64"),
        ({"clip": torch.tensor(0.2)}, TypeError, "'clip' must hold numbers"),
        ({"dual_clip": 1.0}, ValueError, "'dual_clip' must be finite and above 1, got 1.0"),
        ({"dual_clip": math.nan}, ValueError, "'dual_clip' must be finite and above 1"),
        ({"dual_clip": "3"}, TypeError, "'dual_clip' must be a number"),
        ({"delta": 1}, ValueError, "'delta' must be finite and above 1, got 1"),
        ({"delta": 2.0, "dual_clip": 3.0}, ValueError, "'dual_clip' and 'delta' are two rules for the same thing"),
        ({"max_log_ratio": 0}, ValueError, "'max_log_ratio' must be finite and positive, got 0"),
        ({"max_log_ratio": math.inf}, ValueError, "'max_log_ratio' must be finite and positive, got inf"),
    ],
)
def test_options(arguments, error, match):
    with pytest.raises(error, match=rf"PPO\(\): {match}"):
        PPO(**arguments)

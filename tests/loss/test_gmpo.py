"""GMPO: the geometric mean of clipped token ratios."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from loss_steps import FORMS, Step, form  # noqa: E402

from rollmath import LogProbs  # noqa: E402
from rollmath.loss import GMPO, Tokens  # noqa: E402

seeds = st.integers(0, 10**6)
clips = st.sampled_from([(0.4, 0.4), (0.1, 0.3), (0.0, math.inf)])


def one(log_ratio, a, log_clip=0.4, dtype=torch.float64):
    log_ratio, a = (torch.tensor(x, dtype=dtype) for x in (log_ratio, a))
    return GMPO(log_clip).token_loss(Tokens.of(log_ratio, a, prox=torch.zeros_like(a)))


def test_the_hand_checked_vector(vectors):
    data = vectors("flat")["gmpo"]
    out = one(data["logratio"], [data["A"]] * 3, data["clip_log"])
    np.testing.assert_allclose(out.loss, [-data["A"] * data["ratio"]] * 3, rtol=1e-12)
    np.testing.assert_allclose(out.gradient, [0, -data["ratio"], -data["ratio"]], rtol=1e-12)


@given(seeds, st.sampled_from(["rollout", "row"]), clips, st.booleans(), st.booleans())
def test_agrees_with_the_oracle(oracle, tolerance, seed, unit, log_clip, padded, per_token):
    step = Step(seed, per_token=per_token)
    weights = step.weights("token_mean").repeat(step.rows.lengths)
    columns = step.lists(unit, step.theta, step.prox, step.advantages, weights)
    losses, gradients = oracle("loss/gmpo.py", "GMPO")(*columns, log_clip)
    expected = sum(w * x for ws, xs in zip(columns[3], losses, strict=True) for w, x in zip(ws, xs, strict=True))
    for kind in FORMS:
        with form(kind):
            out, gradient = step.loss(GMPO(log_clip, unit=unit), step.logprobs(padded=padded))
        np.testing.assert_allclose(out.loss.item(), expected, **tolerance("float64"))
        np.testing.assert_allclose(gradient, step.packed(unit, gradients), **tolerance("float64"))


@given(seeds, clips)
def test_closed_form_is_the_gradient_of_plain_operations(seed, log_clip):
    step = Step(seed)
    lo, hi = log_clip
    weights = torch.tensor(np.random.default_rng(seed).random(len(step.theta)))
    for at in step.units("row"):
        if len(at) == 0:
            continue
        theta = torch.tensor(step.theta[at], requires_grad=True)
        a, prox = torch.tensor(step.advantages[at]), torch.tensor(step.prox[at])
        x, sign = theta - prox, a.sign()
        kept = sign * torch.minimum(sign * x, sign * x.clamp(-lo, hi))
        plain = -a.mean() * kept.mean().exp()
        (expected,) = torch.autograd.grad((weights[at] * plain).sum(), theta)
        out = GMPO(log_clip).token_loss(Tokens.of(theta, a, prox=prox, weight=weights[at]))
        torch.testing.assert_close(out.loss, plain.detach().expand(len(at)), rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(out.gradient, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", FORMS)
def test_finite_differences(kind):
    step = Step(7)
    given = step.logprobs(poison=0.0)
    with form(kind):
        assert torch.autograd.gradcheck(
            lambda theta: step.evaluate(GMPO((0.2, 0.3)), LogProbs(theta, given.prox)).loss,
            (given.theta,),
            eps=1e-7,
            atol=1e-6,
        )


def test_the_mean_over_sequences_is_the_loss_of_the_paper():
    step = Step(2, per_token=False)
    out, _ = step.loss(GMPO(), step.logprobs(), "rollout_mean_token_mean")
    losses = []
    for at in step.units("rollout"):
        if len(at):
            a, x = step.advantages[at][0], step.theta[at] - step.prox[at]
            kept = np.minimum(x, 0.4) if a > 0 else np.maximum(x, -0.4)
            losses.append(-a * np.exp(kept.mean()))
    assert out.loss.item() == pytest.approx(np.mean(losses), rel=1e-12)


def test_counts_signs_and_boundaries():
    out = one([0.5, -0.5, 0.5, -0.5, 9.0], [1.0, 1.0, -1.0, -1.0, 0.0])
    assert {name: x.item() for name, x in out.counts.items()} == {"clip_high": 1, "clip_low": 1}
    # Exactly on the boundary a token is not bounded.
    assert one([0.5], [1.0], 0.5).gradient.item() == -math.exp(0.5)
    assert one([0.5], [1.0], 0.25).gradient.item() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("log_ratio", [1e4, -1e4, math.inf, -math.inf])
@pytest.mark.parametrize("a", [2.0, -2.0, 0.0])
def test_extreme_ratios(dtype, log_ratio, a):
    for clip in (0.4, math.inf):
        out = one([log_ratio, 0.1], [a, a], clip, dtype)
        assert not out.loss.isnan().any()
        assert not out.gradient.isnan().any()
    if a * log_ratio > 0:
        assert one([log_ratio, 0.1], [a, a], 0.4, dtype).gradient[0] == 0


def test_nan_stays_nan():
    out = one([math.nan, 0.1], [1.0, 1.0])
    assert out.loss.isnan().all()
    assert out.gradient.isnan().all()


def test_a_value():
    assert GMPO(0.4) == GMPO(log_clip=(0.4, 0.4)) == GMPO()
    assert GMPO((0.1, 0.2)).bounds == (0.1, 0.2)
    assert repr(GMPO()) == "GMPO(log_clip=(0.4, 0.4), unit='rollout')"


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"log_clip": -0.1}, ValueError, r"GMPO\(\): 'log_clip' must be \(lo, hi\) of at least 0 each, got -0.1"),
        (
            {"log_clip": (1, 2, 3)},
            ValueError,
            r"GMPO\(\): 'log_clip' must be one number or \(lo, hi\), got \(1, 2, 3\)",
        ),
        ({"log_clip": math.nan}, ValueError, r"GMPO\(\): 'log_clip' must be finite"),
        ({"log_clip": "x"}, TypeError, r"GMPO\(\): 'log_clip' must hold numbers, got 'x'"),
        ({"unit": "turn"}, ValueError, r"GMPO\(\): 'unit' must be one of 'rollout', 'row', got 'turn'"),
    ],
)
def test_options(arguments, error, match):
    with pytest.raises(error, match=match):
        GMPO(**arguments)

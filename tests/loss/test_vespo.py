"""VESPO: a soft weight of the sequence ratio."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from loss_steps import FORMS, Step, form  # noqa: E402

from rollmath.loss import VESPO, Tokens  # noqa: E402

seeds = st.integers(0, 10**6)
options = st.fixed_dictionaries(
    {
        "k_pos": st.floats(0, 4),
        "lambda_pos": st.floats(0.1, 4),
        "k_neg": st.floats(0, 4),
        "lambda_neg": st.floats(0.1, 4),
    }
)


def one(log_ratio, a, theta=None, **options):
    log_ratio, a = (torch.tensor(x, dtype=torch.float64) for x in (log_ratio, a))
    theta = torch.full_like(a, -1.0) if theta is None else torch.tensor(theta, dtype=torch.float64)
    return VESPO(**options).token_loss(Tokens.of(theta, a, prox=theta - log_ratio))


@given(seeds, st.sampled_from(["rollout", "row"]), options, st.sampled_from([None, "free", 1.1]), st.booleans())
def test_agrees_with_the_oracle(oracle, tolerance, seed, unit, options, mismatch, padded):
    step = Step(seed)
    weights = step.weights("token_mean").repeat(step.rows.lengths)
    columns = step.lists(unit, step.theta, step.prox, step.advantages, weights)
    (behaviour,) = step.lists(unit, step.behaviour)
    cap = mismatch if mismatch != "free" else None
    losses, gradients = oracle("loss/vespo.py", "VESPO")(
        *columns, behaviour=None if mismatch is None else behaviour, cap=cap, **options
    )
    expected = sum(w * x for ws, xs in zip(columns[3], losses, strict=True) for w, x in zip(ws, xs, strict=True))
    objective = VESPO(unit=unit, behaviour=mismatch is not None, behaviour_cap=cap, **options)
    for kind in FORMS:
        with form(kind):
            out, gradient = step.loss(objective, step.logprobs(padded=padded))
        np.testing.assert_allclose(out.loss.item(), expected, **tolerance("float64"))
        np.testing.assert_allclose(gradient, step.packed(unit, gradients), **tolerance("float64"))


@given(seeds)
def test_closed_form_is_the_gradient_of_plain_operations(seed):
    step = Step(seed)
    weights = torch.tensor(np.random.default_rng(seed).random(len(step.theta)))
    for at in step.units("row"):
        if len(at) == 0:
            continue
        theta = torch.tensor(step.theta[at], requires_grad=True)
        a, prox = torch.tensor(step.advantages[at]), torch.tensor(step.prox[at])
        w = (theta - prox).sum().exp().detach()
        phi = torch.where(a >= 0, math.exp(3) * w**2 * (-3 * w).exp(), math.exp(2) * w**3 * (-2 * w).exp())
        plain = -phi * a * theta
        (expected,) = torch.autograd.grad((weights[at] * plain).sum(), theta)
        out = VESPO().token_loss(Tokens.of(theta, a, prox=prox, weight=weights[at]))
        torch.testing.assert_close(out.loss, plain.detach(), rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(out.gradient, expected, rtol=1e-12, atol=1e-14)


def test_the_weight_is_one_on_policy_and_largest_at_k_over_lambda():
    assert one([0.0, 0.0], [1.0, -2.0]).gradient.tolist() == [-1.0, 2.0]
    assert one([0.5, -0.5], [1.0, -2.0]).counts["phi"].item() == pytest.approx(2)
    at = [one([math.log(w)], [1.0], k_pos=1.0, lambda_pos=2.0).counts["phi"].item() for w in (0.45, 0.5, 0.55)]
    assert at[1] == max(at)


def test_the_sum_is_not_a_mean():
    four, single = one([0.1] * 4, [1.0] * 4).counts["phi"], one([0.4], [1.0]).counts["phi"]
    assert four.item() == pytest.approx(4 * single.item(), rel=1e-12)


def test_the_derivative_is_linear_in_the_loss():
    # phi is a constant: a change of theta with prox moving along changes the loss by the derivative.
    step = Step(4)
    step.prox = step.theta + 0.1
    out, gradient = step.loss(VESPO(), step.logprobs())
    moved = step.theta + 0.25
    step.theta, step.prox = moved, moved + 0.1
    after, _ = step.loss(VESPO(), step.logprobs())
    assert after.loss.item() - out.loss.item() == pytest.approx(0.25 * gradient.sum(), rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("log_ratio", [1e4, -1e4, math.inf, -math.inf])
@pytest.mark.parametrize("a", [1.0, -1.0, 0.0])
def test_extreme_ratios(dtype, log_ratio, a):
    prox = torch.tensor([-log_ratio, 0.0], dtype=dtype)
    tokens = Tokens.of(torch.zeros(2, dtype=dtype), torch.full((2,), a, dtype=dtype), prox=prox)
    out = VESPO(lambda_pos=500.0, k_pos=0.0).token_loss(tokens)
    assert out.loss.isfinite().all()
    assert out.gradient.isfinite().all()


def test_an_impossible_token_without_advantage():
    assert one([0.0], [0.0], theta=[-math.inf]).loss.isnan().all()  # its ratio is NaN
    tokens = Tokens.of(torch.tensor([-math.inf]), torch.tensor([0.0]), prox=torch.tensor([-1.0]))
    assert VESPO().token_loss(tokens).loss.item() == 0


def test_nan_stays_nan():
    out = one([math.nan, 0.1], [1.0, 1.0])
    assert out.loss.isnan().all()
    assert out.gradient.isnan().all()


def test_the_sampler_is_needed():
    with pytest.raises(ValueError, match=r"VESPO\(\): 'logprobs' must have 'behaviour', the policy that sampled"):
        VESPO(behaviour=True).token_loss(Tokens.of(torch.zeros(2), torch.zeros(2)))


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"k_pos": -1}, ValueError, r"VESPO\(\): 'k_pos' must be finite and not negative, got -1"),
        ({"k_neg": "x"}, TypeError, r"VESPO\(\): 'k_neg' must be a number"),
        ({"lambda_pos": 0}, ValueError, r"VESPO\(\): 'lambda_pos' must be finite and positive, got 0"),
        ({"lambda_neg": math.inf}, ValueError, r"VESPO\(\): 'lambda_neg' must be finite and positive, got inf"),
        ({"unit": "turn"}, ValueError, r"VESPO\(\): 'unit' must be one of 'rollout', 'row', got 'turn'"),
        ({"behaviour": 1}, TypeError, r"VESPO\(\): 'behaviour' must be True or False, got 1"),
        ({"behaviour_cap": 0}, ValueError, r"VESPO\(\): 'behaviour_cap' must be finite and positive, got 0"),
    ],
)
def test_options(arguments, error, match):
    with pytest.raises(error, match=match):
        VESPO(**arguments)

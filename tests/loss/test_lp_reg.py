"""Lp-Reg: low-probability tokens are kept near a proxy."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from loss_steps import FORMS, Step, form  # noqa: E402

from rollmath import LogProbs  # noqa: E402
from rollmath.loss import PPO, LpReg, Tokens  # noqa: E402

seeds = st.integers(0, 10**6)
options = st.fixed_dictionaries(
    {
        "clip": st.sampled_from([(0.2, 0.28), (1.0, 9.0)]),
        "share": st.sampled_from([0.0, 0.3, 0.6, 1.0]),
        "of": st.sampled_from(["negative", "all"]),
        "coef": st.sampled_from([0.0, 0.7]),
        "max_kl": st.sampled_from([None, 0.3]),
    }
)


def one(theta, proxy, a=-1.0, selected=1.0, prox=None, **options):
    columns = {"ref": proxy, "selected": selected, "prox": theta if prox is None else prox}
    columns = {name: torch.tensor([x], dtype=torch.float64) for name, x in columns.items()}
    tokens = Tokens.of(*(torch.tensor([x], dtype=torch.float64) for x in (theta, a)), **columns)
    return LpReg(**options).token_loss(tokens)


def test_the_hand_checked_vector(vectors):
    data = vectors("flat")["lpreg"]
    out = one(data["logp"], data["logq"], a=-1.0)
    assert out.loss.item() == pytest.approx(1 + data["k3"], rel=1e-12)
    d = data["logq"] - data["logp"]
    assert out.gradient.item() == pytest.approx(1 + 1 - math.exp(d), rel=1e-12)
    p, proxy = np.array(data["p"]), np.array(data["proxy"])
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(np.log(proxy)[data["tok"]], data["logq"], rtol=1e-12)
        # A token that the proxy leaves out is not regularised.
        filtered = one(math.log(p[-1]), np.log(proxy)[-1])
    assert filtered.loss.item() == 1
    assert filtered.counts["lp_reg"] == 0


@given(seeds, options, st.booleans(), st.integers(1, 3))
def test_agrees_with_the_oracle(oracle, tolerance, seed, options, padded, parts):
    step = Step(seed)
    step.ref[::5] = -np.inf
    weights = step.weights("seq_mean_token_mean").repeat(step.rows.lengths)
    columns = step.lists("row", step.theta, step.prox, step.advantages, weights, step.ref)
    losses, gradients, chosen = oracle("loss/lp_reg.py", "LpReg")(*columns, *step.keys(), **options)
    objective = step.prepared(LpReg(**options), step.logprobs(), parts)
    assert len(objective.selection) == len(chosen)
    expected = sum(w * x for ws, xs in zip(columns[3], losses, strict=True) for w, x in zip(ws, xs, strict=True))
    for kind in FORMS:
        with form(kind):
            out, gradient = step.loss(objective, step.logprobs(padded=padded), "seq_mean_token_mean")
        np.testing.assert_allclose(out.loss.item(), expected, **tolerance("float64"))
        np.testing.assert_allclose(gradient, step.packed("row", gradients), **tolerance("float64"))


@given(seeds, st.sampled_from([None, 0.3]))
def test_closed_form_is_the_gradient_of_plain_operations(seed, max_kl):
    rng = np.random.default_rng(seed)
    theta = torch.tensor(rng.standard_normal(9), requires_grad=True)
    a, prox, proxy, weight = (torch.tensor(rng.standard_normal(9)) for _ in range(4))
    chosen = (a < 0).double()
    x, d = theta - prox, proxy - theta
    k3 = d.exp() - d - 1
    k3 = k3 if max_kl is None else k3.clamp(max=max_kl)
    ppo = torch.maximum(-a * x.exp(), -a * x.exp().clamp(0.8, 1.2))
    plain = torch.where((chosen > 0) & (d > 0), -a * x.exp() + 0.5 * k3, ppo)
    (expected,) = torch.autograd.grad((weight * plain).sum(), theta)
    tokens = Tokens.of(theta, a, prox=prox, ref=proxy, weight=weight, selected=chosen)
    out = LpReg(coef=0.5, max_kl=max_kl).token_loss(tokens)
    torch.testing.assert_close(out.loss, plain.detach(), rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(out.gradient, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("kind", FORMS)
def test_finite_differences(kind):
    step = Step(8)
    given = step.logprobs(poison=0.0)
    prepared = step.prepared(LpReg(share=0.8), given)
    assert len(prepared.selection) > 1
    with form(kind):
        assert torch.autograd.gradcheck(
            lambda theta: step.evaluate(prepared, LogProbs(theta, given.prox, ref=given.ref)).loss,
            (given.theta,),
            eps=1e-7,
            atol=1e-6,
        )


@given(seeds, options, st.integers(1, 4), st.data())
def test_any_split_in_any_order_gives_the_same_bits(same_bits, seed, options, parts, data):
    step = Step(seed)
    order = data.draw(st.permutations(range(parts)))
    whole = step.prepared(LpReg(**options), step.logprobs())
    split = step.prepared(LpReg(**options), step.logprobs(), parts, order)
    assert whole == split
    same_bits(*(step.loss(prepared, step.logprobs())[1] for prepared in (whole, split)))


def test_the_two_meanings_of_the_fraction():
    step = Step(21, n_rows=40)
    negative = (step.of_tokens(step.advantages) < 0).sum()
    of_negative = step.prepared(LpReg(share=0.5), step.logprobs()).selection
    of_all = step.prepared(LpReg(share=0.5, of="all"), step.logprobs()).selection
    assert len(of_negative) == int(0.5 * negative)
    lowest = np.sort(step.of_tokens(step.theta))[: step.normalizer.tokens // 2].max()
    assert len(of_all) == ((step.of_tokens(step.advantages) < 0) & (step.of_tokens(step.theta) <= lowest)).sum()


def test_the_ratio_of_a_regularised_token_is_not_clipped():
    free, clipped = one(-2.0, -1.0, prox=0.0, coef=0.0), one(-2.0, -3.0, prox=0.0, coef=0.0)
    assert free.loss.item() == pytest.approx(math.exp(-2))
    assert free.gradient.item() == pytest.approx(math.exp(-2))
    assert clipped.loss.item() == pytest.approx(0.8)
    assert clipped.gradient.item() == 0
    assert [x.counts["clip_low"].item() for x in (free, clipped)] == [0, 1]
    assert [x.counts["lp_reg"].item() for x in (free, clipped)] == [1, 0]


@given(seeds)
def test_without_a_choice_it_is_ppo(seed):
    step = Step(seed)
    reg = step.prepared(LpReg(share=0.0), step.logprobs())
    (a, x), (b, y) = step.loss(reg, step.logprobs()), step.loss(PPO(), step.logprobs())
    assert a.loss.item() == pytest.approx(b.loss.item(), rel=1e-13, abs=1e-300)
    np.testing.assert_allclose(x, y, rtol=1e-13)
    for name in ("clip_high", "clip_low"):
        assert a.metrics[name] == b.metrics[name]


@pytest.mark.parametrize("log_ratio", [1e4, -1e4, -math.inf])
@pytest.mark.parametrize("a", [2.0, -2.0, 0.0])
@pytest.mark.parametrize("selected", [0.0, 1.0])
@pytest.mark.parametrize("proxy", [-1.0, -math.inf, 1e4])
def test_extreme_ratios(log_ratio, a, selected, proxy):
    for max_kl in (None, 10.0):
        out = one(log_ratio, proxy, a, selected, prox=0.0, max_kl=max_kl)
        assert not out.loss.isnan().any()
        assert not out.gradient.isnan().any()


def test_nan_stays_nan():
    for theta, proxy in ((math.nan, -1.0), (-1.0, math.nan)):
        out = one(theta, proxy, prox=-1.0)
        assert out.loss.isnan().all()
        assert out.gradient.isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_penalty_does_not_fall_far_out(dtype):
    theta = torch.tensor([-2.0, -20.0, -200.0, -1e4, -1e30, -math.inf], dtype=dtype)
    given = theta, torch.full_like(theta, -1.0)
    policies = {"prox": torch.zeros_like(theta), "ref": torch.zeros_like(theta), "selected": torch.ones_like(theta)}
    out = LpReg().token_loss(Tokens.of(*given, **policies))
    assert (out.loss.diff() >= 0).all()
    assert (out.gradient.diff() <= 0).all()
    capped = LpReg(max_kl=10.0).token_loss(Tokens.of(*given, **policies))
    assert capped.loss[1:].tolist() == pytest.approx([10.0] * 5)
    assert (capped.gradient[2:].abs() < 1e-30).all()


def test_the_proxy_is_needed():
    with pytest.raises(
        ValueError, match=r"LpReg\(\): 'logprobs' must have 'ref', the log-probabilities under the proxy"
    ):
        LpReg().token_loss(Tokens.of(torch.zeros(2), torch.zeros(2), selected=torch.zeros(2)))


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"clip": (2, 0)}, ValueError, r"LpReg\(\): 'clip' must be \(lo, hi\) with lo in \[0, 1\]"),
        ({"share": 2}, ValueError, r"LpReg\(\): 'share' must be between 0 and 1, got 2"),
        ({"of": "positive"}, ValueError, r"LpReg\(\): 'of' must be one of 'negative', 'all', got 'positive'"),
        ({"coef": -1}, ValueError, r"LpReg\(\): 'coef' must be finite and not negative, got -1"),
        ({"max_kl": 0}, ValueError, r"LpReg\(\): 'max_kl' must be finite and positive, got 0"),
        ({"max_kl": "x"}, TypeError, r"LpReg\(\): 'max_kl' must be a number"),
    ],
)
def test_options(arguments, error, match):
    with pytest.raises(error, match=match):
        LpReg(**arguments)


def test_a_small_penalty_keeps_its_digits():
    theta = torch.full((3,), -1.0)
    ref = theta + torch.tensor([1e-5, 1e-3, 0.05])
    tokens = Tokens.of(theta, torch.full_like(theta, -1.0), ref=ref, selected=torch.ones_like(theta))
    d = (ref - theta).double()
    # -A rho is 1, beside which the penalty would vanish.
    penalty = (LpReg(coef=1e6).token_loss(tokens).loss - 1) / 1e6
    assert penalty.tolist() == pytest.approx((torch.expm1(d) - d).tolist(), rel=1e-5, abs=2e-13)

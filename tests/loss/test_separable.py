"""What holds for every objective whose loss of a token depends on that token alone."""

import math
from dataclasses import dataclass, field

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

import rollmath as rm  # noqa: E402
from rollmath.loss import (  # noqa: E402
    CISPO,
    DPPO,
    NFT,
    OPMD,
    SAPO,
    TOPR,
    DecoupledPPO,
    Normalizer,
    Quadratic,
    Reinforce,
    ShiftedClip,
    SimplePO,
    Tokens,
    policy_loss,
)
from rollmath.loss._engine import at_once, in_pieces  # noqa: E402

positive = st.floats(0.05, 4)
maybe = st.none() | positive
log_bound = st.none() | st.floats(0.1, 5)
two = st.tuples(st.floats(0, 1), st.floats(0, 3))


def clamped(theta, prox, most):
    delta = theta - prox
    return (delta if most is None else delta.clamp(-most, most)).exp()


def ppo(rho, a, clip, dual_clip):
    lo, hi = clip
    plain = torch.maximum(-a * rho, -a * rho.clamp(1 - lo, 1 + hi))
    return plain if dual_clip is None else torch.where(a < 0, torch.minimum(plain, -a * dual_clip), plain)


# Independent formulas in plain operations, for autograd: of theta, prox, behaviour, advantages and options.


def cispo(t, p, b, a, clip=None, cap=None, max_log_ratio=None):
    low, high = (0.0, cap) if clip is None else (1 - clip[0], 1 + clip[1])
    return -clamped(t, p, max_log_ratio).detach().clamp(low, high) * a * t


def sapo(t, p, b, a, tau_pos=1.0, tau_neg=1.05, max_log_ratio=None):
    tau = torch.where(a > 0, a.new_tensor(tau_pos), a.new_tensor(tau_neg))
    return -a * 4 / tau * torch.sigmoid(tau * (clamped(t, p, max_log_ratio) - 1))


def simple_po(t, p, b, a, eps=0.2, max_log_ratio=None):
    rho = clamped(t, p, max_log_ratio)
    return a.abs() * (rho - 1).square() / (2 * eps) - a * rho


def dppo(t, p, b, a, divergence="tv", bounds=(0.2, 0.2), cap=20.0, eps=1e-8):
    (lo, hi), new, old = bounds, t.exp(), p.exp()
    if divergence == "tv":
        good, bad = new - old <= hi, new - old >= -lo
    else:
        kl = old * (p - t) + (1 - old) * torch.log((1 - old + eps) / (1 - new + eps))
        good, bad = (kl <= hi) | (new <= old), (kl <= lo) | (new >= old)
    ratio = (t - p).exp().clamp(max=cap or math.inf)
    return -a * (ratio * torch.where(a > 0, good, bad)).detach() * t


def topr(t, p, b, a, positive=(1.0, 1.0), negative=(0.0, 1.0), positive_weight=1.0):
    rho = (t - p).exp()
    return -a * torch.where(a > 0, positive_weight * rho.clamp(*positive), rho.clamp(*negative)).detach() * t


def nft(t, p, b, a, prompt_weight="dr_grpo", eps=1.0, negative_weight=1.0, min_rate=0.02, max_log_ratio=None):
    rate = torch.where(a > 0, 1 - a, -a).clamp(min_rate, 1 - min_rate)
    w = {"dr_grpo": 1 - rate, "grpo": ((1 - rate) / rate).sqrt(), "uniform": torch.ones_like(a)}[prompt_weight]
    rho = (t - p).clamp(max=math.inf if max_log_ratio is None else max_log_ratio).exp()
    implied = (1 - rate * rho) / (1 - rate)
    through = implied + (implied.clamp(min=eps) - implied).detach()
    loss = torch.where(a > 0, -rho.log(), -through.log() * negative_weight) * w
    return torch.where(a == 0, 0.0, loss)


def shifted_clip(t, p, b, a, eps=0.2):
    rho, center = (t - b).exp(), (p - b).exp()
    return torch.maximum(-a * rho, -a * torch.clamp(rho, (center - eps).clamp(min=0), center + eps))


def decoupled(t, p, b, a, clip=(0.2, 0.2), dual_clip=None, cap=None, outside="zero"):
    w = (p - b).exp()
    if cap is not None:
        w = w.clamp(max=cap) if outside == "truncate" else torch.where(w > cap, 0.0, w)
    return w * ppo((t - p).exp(), a, clip, dual_clip)


@dataclass
class Case:
    kind: type
    module: str
    options: st.SearchStrategy
    plain: object
    example: dict = field(default_factory=dict)
    behaviour: bool = False

    def __repr__(self):
        return self.kind.__name__


def options(**strategies):
    return st.fixed_dictionaries({}, optional=strategies)


ordered = st.tuples(st.floats(0, 1.5), st.floats(0, 1.5)).map(lambda x: (x[0], x[0] + x[1]))
CASES = [
    Case(Reinforce, "reinforce", st.just({}), lambda t, p, b, a: -a * t),
    Case(OPMD, "quadratic", options(tau=st.floats(0, 3)), lambda t, p, b, a, tau=1.0: -a * t / (1 + tau)),
    Case(
        Quadratic,
        "quadratic",
        st.fixed_dictionaries({"beta": positive}),
        lambda t, p, b, a, beta: -a * t + beta / 2 * (t - p).square(),
        {"beta": 0.1},
    ),
    Case(
        CISPO,
        "cispo",
        st.fixed_dictionaries({"clip": two}, optional={"max_log_ratio": log_bound})
        | st.fixed_dictionaries({"cap": positive}, optional={"max_log_ratio": log_bound}),
        cispo,
        {"clip": (0.2, 0.28)},
    ),
    Case(SAPO, "sapo", options(tau_pos=positive, tau_neg=positive, max_log_ratio=log_bound), sapo),
    Case(SimplePO, "simple_po", options(eps=st.floats(0.05, 1), max_log_ratio=log_bound), simple_po),
    Case(
        DPPO,
        "dppo",
        options(
            divergence=st.sampled_from(["tv", "kl"]), bounds=st.tuples(st.floats(0, 0.5), st.floats(0, 0.5))
        ).flatmap(lambda x: maybe.map(lambda cap: x | {"cap": cap})),
        dppo,
    ),
    Case(TOPR, "topr", options(positive=ordered, negative=ordered, positive_weight=st.floats(0, 2)), topr),
    Case(
        NFT,
        "nft",
        options(
            prompt_weight=st.sampled_from(["dr_grpo", "grpo", "uniform"]),
            eps=st.floats(0.05, 2),
            negative_weight=st.floats(0, 2),
            min_rate=st.floats(0.001, 0.5),
            max_log_ratio=log_bound,
        ),
        nft,
    ),
    Case(ShiftedClip, "shifted_clip", options(eps=st.floats(0.05, 1)), shifted_clip, behaviour=True),
    Case(
        DecoupledPPO,
        "decoupled_ppo",
        options(
            clip=two, dual_clip=st.none() | st.floats(1.1, 5), cap=maybe, outside=st.sampled_from(["zero", "truncate"])
        ),
        decoupled,
        behaviour=True,
    ),
]
every = pytest.mark.parametrize("case", CASES, ids=repr)
logp = st.floats(-8, -1e-3)
token = st.tuples(logp, logp, logp, st.floats(-1, 1) | st.sampled_from([-1.0, -0.25, 0.0, 0.75, 1.0]), st.floats(0, 2))


def columns(tokens, dtype=torch.float64):
    return torch.tensor(tokens, dtype=dtype).reshape(-1, 5).T.contiguous().unbind()


def evaluate(objective, theta, prox, behaviour, advantages, weight=1.0):
    return objective.token_loss(Tokens.of(theta, advantages, weight=weight, prox=prox, behaviour=behaviour))


def expected(oracle, case, chosen, theta, prox, behaviour, advantages, weight):
    if case.behaviour:
        chosen = chosen | {"behaviour": [behaviour.tolist()]}
    rows = [[x.tolist()] for x in (theta, prox, advantages, weight)]
    losses, gradients = oracle(f"loss/{case.module}.py", case.kind.__name__)(*rows, **chosen)
    return torch.tensor(losses[0], dtype=torch.float64), torch.tensor(gradients[0], dtype=torch.float64)


def smooth(oracle, case, chosen, theta, *rest):
    """Where there is no kink or jump nearby: the derivative a little to both sides is about the same."""
    near = [expected(oracle, case, chosen, theta + h, *rest)[1] for h in (-1e-7, 1e-7)]
    return (near[0] - near[1]).abs() <= 1e-4 * (1e-3 + near[0].abs())


@every
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_agrees_with_the_oracle(oracle, case, data):
    chosen = data.draw(case.options)
    theta, prox, behaviour, a, weight = columns(data.draw(st.lists(token, min_size=1, max_size=8)))
    out = evaluate(case.kind(**chosen), theta, prox, behaviour, a, weight)
    loss, gradient = expected(oracle, case, chosen, theta, prox, behaviour, a, weight)
    keep = smooth(oracle, case, chosen, theta, prox, behaviour, a, weight)
    torch.testing.assert_close(out.loss[keep], loss[keep], rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(out.gradient[keep], gradient[keep], rtol=1e-9, atol=1e-11)


@every
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_the_closed_form_is_the_gradient_of_plain_operations(oracle, case, data):
    chosen = data.draw(case.options)
    theta, prox, behaviour, a, weight = columns(data.draw(st.lists(token, min_size=1, max_size=8)))
    out = evaluate(case.kind(**chosen), theta, prox, behaviour, a, weight)

    def by_autograd(x):
        leaf = x.clone().requires_grad_()
        plain = case.plain(leaf, prox, behaviour, a, **chosen)
        return plain.detach(), torch.autograd.grad((weight * plain).sum(), leaf)[0]

    plain, gradient = by_autograd(theta)
    keep = smooth(oracle, case, chosen, theta, prox, behaviour, a, weight)
    # On a bound autograd has half of a derivative that is the same on both sides, and the oracle has all of it.
    beside = (by_autograd(theta - 1e-7)[1] + by_autograd(theta + 1e-7)[1]) / 2
    keep &= (gradient - beside).abs() <= 1e-4 * (1e-3 + gradient.abs())
    torch.testing.assert_close(out.loss[keep], plain[keep], rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(out.gradient[keep], gradient[keep], rtol=1e-9, atol=1e-11)


@pytest.fixture
def batch():
    """Padded rows with gaps, of three rollouts, one row without a trained token; NaN behind the mask."""
    rng = np.random.default_rng(5)
    lengths = np.array([4, 6, 3, 5])
    inside = np.arange(6) < lengths[:, None]
    mask = inside & (rng.random(inside.shape) < 0.8)
    mask[2] = False
    rows = rm.Rows(["a", "b", "a", "c"], lengths, mask=mask[inside])
    make = lambda: torch.from_numpy(np.where(mask, -rng.gamma(1.0, 1.0, mask.shape) - 0.01, np.nan))  # noqa: E731
    theta, prox, behaviour = make(), make(), make()
    return rows, theta, {"prox": prox, "behaviour": behaviour}, rng.uniform(-1, 1, 3), torch.from_numpy(mask)


def loss_of(batch, objective, theta, **more):
    rows, _, policies, advantages, _ = batch
    return policy_loss(
        rm.LogProbs(theta, **policies), advantages, rows, objective, normalizer=Normalizer.local(rows), **more
    )


#: All factors of their loss are differentiated, so that it has its own derivative.
WHOLE = [c for c in CASES if c.kind not in {CISPO, DPPO, TOPR, NFT}]


@pytest.mark.parametrize("case", WHOLE, ids=repr)
def test_finite_differences_through_policy_loss(case, batch):
    _, theta, _, _, mask = batch
    objective = case.kind(**case.example)

    def call(trained):
        full = torch.full(mask.shape, math.nan, dtype=torch.float64).masked_scatter(mask, trained)
        return loss_of(batch, objective, full, aggregation="seq_mean_token_mean").loss

    assert torch.autograd.gradcheck(call, theta[mask].requires_grad_(), eps=1e-6, atol=1e-7)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pieces_and_everything_at_once_are_the_same(case, batch, dtype, monkeypatch):
    rows, theta, policies, advantages, mask = batch
    narrow = (rows, None, {k: x.to(dtype) for k, x in policies.items()}, advantages, mask)
    results = []
    for engine in (in_pieces, at_once):
        monkeypatch.setattr("rollmath.loss._policy_loss.evaluate", engine)
        leaf = theta.to(dtype).requires_grad_()
        out = loss_of(narrow, case.kind(**case.example), leaf, aggregation="rollout_mean_token_mean")
        out.loss.backward()
        assert (leaf.grad[~mask] == 0).all()
        results.append((out.loss.detach(), leaf.grad, out.metrics.to_dict()))
    torch.testing.assert_close(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1])
    assert results[0][2] == pytest.approx(results[1][2], rel=1e-5)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("a", [-0.5, 0.0, 0.5])
def test_extreme_ratios(case, dtype, a):
    extremes = [-1e4, -90.0, -1e-30, 0.0]
    grid = torch.tensor([(t, p, b, a, 1.0) for t in extremes for p in extremes for b in extremes])
    theta, prox, behaviour, advantages, _ = columns(grid.tolist(), dtype)
    out = evaluate(case.kind(**case.example), theta, prox, behaviour, advantages)
    assert not out.loss.isnan().any()
    assert not out.gradient.isnan().any()
    if a == 0 and case.kind is not Quadratic:
        assert (out.loss == 0).all()
        assert (out.gradient == 0).all()


@every
@pytest.mark.parametrize("a", [-0.5, 0.0, 0.5])
def test_a_probability_of_zero(case, a):
    """theta of -inf is what a model gives to a token that it masks; only a policy that is nowhere is not a number."""
    x = torch.tensor([-math.inf]), torch.tensor([-1.0]), torch.tensor([-2.0]), torch.tensor([a])
    out = evaluate(case.kind(**case.example), *x)
    if case.kind is not Quadratic:
        assert not out.loss.isnan().any()
        assert not out.gradient.isnan().any()


@every
@pytest.mark.parametrize("a", [-0.5, 0.0, 0.5])
def test_nan_stays_nan(case, a):
    nan, number = torch.tensor([math.nan]), torch.tensor([-1.0])
    for broken in range(1 if case.kind in {Reinforce, OPMD} else 3 if case.behaviour else 2):
        out = evaluate(
            case.kind(**case.example), *(nan if k == broken else number for k in range(3)), torch.tensor([a])
        )
        assert out.loss.isnan().all()
        assert out.gradient.isnan().all()


@every
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_float32_is_near_float64(oracle, case, data):
    chosen = data.draw(case.options)
    tokens = columns(data.draw(st.lists(token, min_size=1, max_size=8)), torch.float32)
    wide = [x.double() for x in tokens]
    out, exact = evaluate(case.kind(**chosen), *tokens), evaluate(case.kind(**chosen), *wide)
    assert out.loss.dtype == out.gradient.dtype == torch.float32
    # A token so near a kink that float32 falls on its other side has another derivative.
    keep = (
        smooth(oracle, case, chosen, *wide)
        & smooth(oracle, case, chosen, wide[0] + 1e-5, *wide[1:])
        & smooth(oracle, case, chosen, wide[0] - 1e-5, *wide[1:])
    )
    scale = 1 + exact.gradient.abs()
    torch.testing.assert_close(
        out.gradient.double()[keep] / scale[keep], exact.gradient[keep] / scale[keep], rtol=0, atol=2e-4
    )


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_log_probabilities_are_computed_in_float32(case, dtype):
    x = torch.tensor([-1.0, -2.0], dtype=dtype)
    out = evaluate(case.kind(**case.example), x, x - 0.5, x + 0.25, torch.tensor([0.5, -0.5], dtype=torch.float64))
    wide = evaluate(case.kind(**case.example), x.float(), x.float() - 0.5, x.float() + 0.25, torch.tensor([0.5, -0.5]))
    assert out.loss.dtype == out.gradient.dtype == torch.float32
    torch.testing.assert_close(out.loss, wide.loss)


@every
def test_inputs_are_not_changed(case):
    tokens = columns([(-1.0, -2.0, -1.5, 0.5, 1.0), (-0.5, -0.25, -3.0, -0.5, 2.0)])
    before = [x.clone() for x in tokens]
    seen = Tokens.of(tokens[0], tokens[3], weight=tokens[4], prox=tokens[1], behaviour=tokens[2])
    ratio, log_ratio = seen.ratio.clone(), seen.log_ratio.clone()
    case.kind(**case.example).token_loss(seen)
    assert all(torch.equal(x, y) for x, y in zip(before, tokens, strict=True))
    assert torch.equal(seen.ratio, ratio)
    assert torch.equal(seen.log_ratio, log_ratio)
    assert torch.equal(seen.advantages, tokens[3])


@every
def test_no_token_at_all(case):
    none = torch.zeros(0)
    out = evaluate(case.kind(**case.example), none, none, none, none)
    assert out.loss.shape == out.gradient.shape == (0,)
    assert all(x == 0 for x in out.counts.values())


@every
def test_is_a_value(case):
    objective = case.kind(**case.example)
    assert objective == case.kind(**case.example)
    assert hash(objective) == hash(case.kind(**case.example))
    assert objective.coupling == "separable"


@pytest.mark.parametrize("case", [c for c in CASES if c.behaviour], ids=repr)
def test_the_policy_that_sampled_is_needed(case, batch):
    rows, theta, policies, advantages, _ = batch
    only = (rows, theta, {"prox": policies["prox"]}, advantages, None)
    with pytest.raises(ValueError, match=rf"{case.kind.__name__}\(\): 'logprobs' must have 'behaviour'"):
        loss_of(only, case.kind(), theta)


def test_on_a_bound_the_derivative_is_whole():
    """``1 - lo = rho = 1`` and ``A > 0``: autograd of the plain formula has half of it."""
    theta = torch.tensor([-1.0], dtype=torch.float64)
    out = evaluate(DecoupledPPO(clip=(0.0, 1.0)), theta, theta, theta, torch.ones(1, dtype=torch.float64))
    assert out.gradient.tolist() == [-1.0]

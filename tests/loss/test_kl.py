"""KL terms: values, gradients, bounds, importance, constants."""

import math
from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from rollmath import LogProbs, Ragged, Rows  # noqa: E402
from rollmath.loss import KL, PPO, Normalizer, Tokens, kl_estimate, policy_loss  # noqa: E402
from rollmath.loss._engine import at_once, in_pieces  # noqa: E402

FORMS = {"in pieces": in_pieces, "at once": at_once}


@pytest.fixture(params=FORMS)
def form(request, monkeypatch):
    monkeypatch.setattr("rollmath.loss._policy_loss.evaluate", FORMS[request.param])
    return request.param


def batch(seed, n_rows=6, spread=1.0):
    """Rows with gaps, empty rows and rollouts of several rows."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 5, n_rows)
    total = int(lengths.sum())
    rows = Rows(rng.integers(0, 4, n_rows), lengths, mask=rng.random(total) < 0.7)
    theta = torch.tensor(-3 * rng.random(total), requires_grad=True)
    others = theta.detach() + spread * torch.tensor(rng.standard_normal((3, total)))
    return rows, theta, dict(zip(("prox", "behaviour", "ref"), others, strict=True))


def loss_of(theta, others, rows, term, aggregation="token_mean"):
    zeros = np.zeros(rows.n_rollouts)
    norm = Normalizer.local(rows)
    lp = LogProbs(theta, **others)
    return policy_loss(lp, zeros, rows, PPO(), normalizer=norm, kl=term, aggregation=aggregation, level="rollout")


def terms():
    """Options of a term that is allowed."""
    return st.fixed_dictionaries(
        {
            "kind": st.sampled_from(["k1", "k2", "k3", "abs"]),
            "gradient": st.sampled_from(["own", "k2"]),
            "importance": st.sampled_from([None, "detached", "ratio"]),
            "max_log_ratio": st.sampled_from([None, 0.5, 20.0]),
            "max_value": st.sampled_from([None, 0.3, 10.0]),
        }
    ).filter(lambda o: o["kind"] != "k1" or o["gradient"] == "k2" or o["importance"] == "ratio")


@pytest.mark.parametrize("aggregation", ["token_mean", "seq_mean_token_mean", "rollout_mean_token_sum"])
@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), terms())
def test_agrees_with_the_oracle(oracle, form, aggregation, seed, options):
    from rollmath.loss import Aggregation

    rows, theta, others = batch(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rollmath.loss._policy_loss.evaluate", FORMS[form])
        out = loss_of(theta, others, rows, KL(0.1, **options), aggregation)
    norm = Normalizer.local(rows)
    per_row = Aggregation.named(aggregation).weights(rows, norm)
    weights = np.repeat(per_row, rows.lengths) * rows.mask
    lists = [Ragged(x, rows.offsets).to_lists() for x in (theta.detach().numpy(), others["ref"].numpy())]
    lists += [Ragged(x, rows.offsets).to_lists() for x in (others["prox"].numpy(), weights)]
    losses, gradient, values = oracle("loss/kl.py", "KL")(*lists, 0.1, **options)
    flat = [np.array([x for row in part for x in row]) for part in (losses, gradient, values)]
    assert out.metrics["kl_loss"].item() == pytest.approx((weights * flat[0]).sum(), rel=1e-11, abs=1e-14)
    assert out.metrics["kl"].item() == pytest.approx(
        (rows.mask * flat[2]).sum() / max(norm.tokens, 1), rel=1e-11, abs=1e-13
    )
    np.testing.assert_allclose(torch.autograd.grad(out.loss, theta)[0], flat[1], rtol=1e-10, atol=1e-13)


def straight_through(options, theta, ref, prox):
    """The term in plain differentiable operations."""
    delta = theta - ref
    bounded = (
        delta if options["max_log_ratio"] is None else delta.clamp(-options["max_log_ratio"], options["max_log_ratio"])
    )
    value = {"k1": lambda d: d, "k2": lambda d: d * d / 2, "k3": lambda d: (-d).exp() + d - 1, "abs": torch.abs}[
        options["kind"]
    ](bounded)
    if options["max_value"] is not None:
        value = value.clamp(-options["max_value"], options["max_value"])
    if options["gradient"] == "k2":
        k2 = delta * delta / 2
        value = value.detach() + k2 - k2.detach()
    rho = (theta - prox).exp()
    return {None: value, "detached": rho.detach() * value, "ratio": rho * value}[options["importance"]]


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**6), terms())
def test_closed_form_is_the_gradient_of_plain_operations(seed, options):
    rng = np.random.default_rng(seed)
    theta, ref, prox = (torch.tensor(x) for x in rng.normal(size=(3, 9)))
    w = torch.tensor(rng.random(9))
    theta.requires_grad_()
    plain = straight_through(options, theta, ref, prox)
    (gradient,) = torch.autograd.grad((w * plain).sum() * 0.7, theta)
    out = KL(0.7, **options).token_loss(Tokens.of(theta, torch.zeros(9), ref=ref, prox=prox, weight=w))
    torch.testing.assert_close(out.loss, 0.7 * plain.detach(), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(out.gradient, gradient, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(out.counts["kl"], plain.detach().sum(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("options", [{}, {"kind": "k2"}, {"kind": "abs"}, {"kind": "k1", "importance": "ratio"},
                                     {"importance": "ratio"}, {"importance": "ratio", "max_value": 0.4}])  # fmt: skip
def test_finite_differences(form, options):
    rows, theta, others = batch(3)
    term = KL(0.3, **options)
    assert torch.autograd.gradcheck(lambda x: loss_of(x, others, rows, term).loss, (theta,), eps=1e-7, atol=1e-6)


def test_the_policy_that_it_is_against(form):
    rows, theta, others = batch(5)
    expected = {name: loss_of(theta, {"ref": x}, rows, KL(0.1)).loss for name, x in others.items()}
    for name, value in expected.items():
        made = loss_of(theta, {name: others[name]}, rows, KL(0.1, against=name))
        torch.testing.assert_close(made.metrics["kl_loss"], value.detach(), rtol=1e-13, atol=0)
    # Without prox, theta is its own: nothing to pay.
    assert loss_of(theta, {}, rows, KL(0.1, against="prox")).metrics["kl"] == 0


@pytest.mark.parametrize("kind", ["k2", "k3"])
def test_small_differences_keep_their_digits(kind):
    delta = np.array([1e-6, -1e-5, 1e-4, -1e-3, 1e-2, -0.1])
    exact = [
        float(d * d / 2 if kind == "k2" else sum((-d) ** n / math.factorial(n) for n in range(2, 15))) for d in delta
    ]
    np.testing.assert_allclose(kl_estimate(delta, np.zeros(6), kind=kind), exact, rtol=1e-9)
    narrow = delta.astype(np.float32)
    exact = [float(d * d / 2 if kind == "k2" else sum((-d) ** n / math.factorial(n) for n in range(2, 15)))
             for d in narrow.astype(float)]  # fmt: skip
    np.testing.assert_allclose(kl_estimate(narrow, np.zeros(6, np.float32), kind=kind), exact, rtol=1e-7)
    out = KL(1.0, kind=kind).token_loss(Tokens.of(torch.tensor(narrow), torch.zeros(6), ref=torch.zeros(6)))
    np.testing.assert_allclose(out.loss, exact, rtol=2e-7)


def softmax_gradients(kind, importance=None):
    """Expected gradient of the term over the five tokens of a softmax, and those of both divergences."""
    torch.manual_seed(0)
    logits, ref = torch.randn(5, dtype=torch.float64, requires_grad=True), torch.randn(5, dtype=torch.float64)
    log_p, log_q = torch.log_softmax(logits, 0), torch.log_softmax(ref, 0)
    gradient = "k2" if kind == "k1" and importance is None else "own"
    term = KL(1.0, kind=kind, importance=importance, gradient=gradient)
    out = term.token_loss(Tokens.of(log_p, torch.zeros(5), ref=log_q, weight=log_p.detach().exp()))
    (expected,) = torch.autograd.grad((log_p * out.gradient).sum(), logits, retain_graph=True)
    reverse = (log_p.exp() * (log_p - log_q)).sum()
    forward = (log_q.exp() * (log_q - log_p)).sum()
    exact = [torch.autograd.grad(x, logits, retain_graph=True)[0] for x in (reverse, forward)]
    return expected, exact, (out.counts["kl"], reverse.detach())


def test_which_gradient_is_that_of_the_divergence():
    for kind, importance, which in [
        ("k2", None, 0),
        ("k1", None, 0),
        ("k3", None, 1),
        ("k3", "ratio", 0),
        ("k1", "ratio", 0),
    ]:
        expected, exact, _ = softmax_gradients(kind, importance)
        torch.testing.assert_close(expected, exact[which], rtol=1e-12, atol=1e-14)
        assert not torch.allclose(expected, exact[1 - which], atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["k2", "k3", "abs", "k1"])
def test_extreme_ratios_are_finite(dtype, kind):
    theta = torch.tensor([-1e4, 0.0, -1.0, -torch.inf, 0.0], dtype=dtype)
    ref = torch.tensor([0.0, -1e4, -1.0, -1.0, -torch.inf], dtype=dtype)
    for importance in (None, "detached", "ratio"):
        term = KL(0.01, kind=kind, gradient="k2" if kind == "k1" else "own", importance=importance)
        prox = torch.tensor([0.0, -1e4, -1.0, -1.0, -1e4])
        out = term.token_loss(Tokens.of(theta, torch.zeros(5), ref=ref, prox=prox))
        assert not out.loss.isnan().any()
        assert not out.gradient.isnan().any()
        assert out.loss[2] == out.gradient[2] == 0
    for x in (theta, theta.numpy(), theta.tolist()):
        made = kl_estimate(x, ref if isinstance(x, torch.Tensor) else ref.numpy(), kind=kind)
        assert np.isfinite(np.asarray(made)).all()


@pytest.mark.parametrize("kind", ["k1", "k2", "k3", "abs"])
def test_nan_stays_nan(kind):
    theta, ref = torch.tensor([torch.nan, 0.0]), torch.tensor([0.0, torch.nan])
    for options in ({}, {"max_log_ratio": 20.0, "max_value": 10.0}, {"importance": "ratio"}):
        gradient = "k2" if kind == "k1" else "own"
        out = KL(0.1, kind=kind, gradient=gradient, **options).token_loss(Tokens.of(theta, torch.zeros(2), ref=ref))
        assert out.loss.isnan().all()
        assert out.gradient.isnan().all()
    assert kl_estimate(theta, ref, kind=kind).isnan().all()


def test_exactly_on_a_bound_the_gradient_flows():
    tokens = Tokens.of(torch.tensor([0.5, -0.5, 0.75]), torch.zeros(3), ref=torch.zeros(3))
    slope = KL(1.0, "k2", max_log_ratio=0.5).token_loss(tokens).gradient
    assert slope.tolist() == [0.5, -0.5, 0.0]
    assert KL(1.0, "abs", max_value=0.5).token_loss(tokens).gradient.tolist() == [1.0, -1.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_narrow_log_probabilities(form, dtype):
    rows, theta, others = batch(8, n_rows=40)
    narrow = {name: x.to(dtype) for name, x in others.items()}
    leaf = theta.detach().to(dtype).requires_grad_()
    wide = leaf.detach().double().requires_grad_()
    term = KL(0.1, importance="ratio")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made = loss_of(leaf, narrow, rows, term)
    exact = loss_of(wide, {name: x.double() for name, x in narrow.items()}, rows, term)
    assert made.loss.dtype == torch.float32
    assert made.loss.item() == pytest.approx(exact.loss.item(), rel=1e-6)
    made.loss.backward()
    exact.loss.backward()
    assert leaf.grad.dtype == dtype
    bound = torch.finfo(dtype).eps * wide.grad.abs() + 1e-8
    assert ((leaf.grad.double() - wide.grad).abs() <= bound).all()


def test_padded_and_packed_agree_and_nothing_is_read_behind_the_mask(form):
    rows, theta, others = batch(9)

    def pad(x):
        inside = torch.where(torch.tensor(rows.mask != 0), x.detach(), torch.nan)
        return Ragged(inside, rows.offsets).to_padded(9, fill=float("nan"))

    term = KL(0.1, importance="ratio")
    packed = loss_of(theta, others, rows, term)
    wide = pad(theta).requires_grad_()
    made = loss_of(wide, {name: pad(x) for name, x in others.items()}, rows, term)
    torch.testing.assert_close(made.loss, packed.loss, rtol=1e-14, atol=0)
    g = Ragged.from_padded(torch.autograd.grad(made.loss, wide)[0], lengths=rows.lengths).values
    torch.testing.assert_close(g, torch.autograd.grad(packed.loss, theta)[0], rtol=1e-13, atol=1e-16)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-30, 0), st.floats(-30, 0)), max_size=8),
    st.sampled_from(["k1", "k2", "k3", "abs"]),
    st.none() | st.floats(0.1, 20),
    st.none() | st.floats(0.1, 10),
)
def test_estimates_agree_with_the_oracle(oracle, pairs, kind, log_bound, bound):
    theta, ref = (list(x) for x in zip(*pairs, strict=True)) if pairs else ([], [])
    options = {"kind": kind, "max_log_ratio": log_bound, "max_value": bound}
    expected = oracle("loss/kl.py", "kl_estimate")(theta, ref, **options)
    estimate = partial(kl_estimate, **options)
    for made in (estimate(theta, ref), estimate(np.array(theta), np.array(ref))):
        assert made.dtype == np.float64
        np.testing.assert_allclose(made, expected, rtol=1e-12, atol=1e-13)
    wide = estimate(torch.tensor(theta, dtype=torch.float64), torch.tensor(ref, dtype=torch.float64))
    np.testing.assert_allclose(wide.numpy(), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("theta", "ref", "dtype"),
    [
        (np.float32, np.float32, np.float32),
        (np.float16, np.float32, np.float32),
        (np.float32, np.float64, np.float64),
        (np.int64, np.int64, np.float64),
        (torch.bfloat16, torch.bfloat16, torch.float32),
        (torch.float32, torch.float64, torch.float64),
        (torch.int64, torch.int64, torch.float32),
    ],
)
def test_kinds_of_estimates(theta, ref, dtype):
    def make(kind):
        return torch.zeros(2, 3).to(kind) if isinstance(kind, torch.dtype) else np.zeros((2, 3), kind)

    made = kl_estimate(make(theta), make(ref), kind="k3")
    assert type(made) is (torch.Tensor if isinstance(dtype, torch.dtype) else np.ndarray)
    assert made.dtype == dtype
    assert made.shape == (2, 3)


def test_a_value():
    assert KL(0.1) == KL(coef=0.1, kind="k3")
    assert hash(KL(0)) == hash(KL(0.0))
    assert KL(np.float32(0.5), max_value=10).max_value == 10.0


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"coef": -1.0}, ValueError, "'coef' must be finite and not negative, got -1.0"),
        ({"coef": "x"}, TypeError, "'coef' must be a number, got an object of type str"),
        ({"kind": "k4"}, ValueError, "'kind' must be one of 'k1', 'k2', 'k3', 'abs', got 'k4'"),
        ({"gradient": "k3"}, ValueError, "'gradient' must be one of 'own', 'k2', got 'k3'"),
        ({"against": "theta"}, ValueError, "'against' must be one of 'ref', 'prox', 'behaviour', got 'theta'"),
        ({"importance": True}, ValueError, "'importance' must be one of 'detached', 'ratio', got True"),
        ({"max_log_ratio": 0}, ValueError, "'max_log_ratio' must be finite and positive, got 0"),
        ({"max_value": math.inf}, ValueError, "'max_value' must be finite and positive, got inf"),
        ({"kind": "k1"}, ValueError, r"'kind' 'k1' has the gradient coef \* grad log p, which does not depend on the"),
        ({"kind": "k1", "importance": "detached"}, ValueError, r"or k1 as a reward \(kl_estimate\)"),
    ],
)
def test_options(options, error, match):
    with pytest.raises(error, match=match if match.startswith("or") else rf"KL\(\): {match}"):
        KL(**({"coef": 0.1} | options))


@pytest.mark.parametrize("against", ["ref", "behaviour"])
def test_a_missing_policy(form, against):
    rows, theta, _ = batch(1)
    match = rf"KL\(\): 'logprobs' must have '{against}', give LogProbs\(theta, {against}=...\)"
    with pytest.raises(ValueError, match=match):
        loss_of(theta, {}, rows, KL(0.1, against=against))


@pytest.mark.parametrize(
    ("theta", "ref", "options", "error", "match"),
    [
        ([0.0], [0.0], {"kind": "kl"}, ValueError, "'kind' must be one of 'k1', 'k2', 'k3', 'abs', got 'kl'"),
        ([0.0], [0.0, 1.0], {}, ValueError, r"'ref' must have shape \(1,\) \(= theta.shape\), got \(2,\)"),
        (
            torch.zeros(1),
            [0.0],
            {},
            TypeError,
            "'theta' and 'ref' must both be torch tensors or neither, got Tensor and",
        ),
        (
            torch.zeros(1),
            torch.zeros(1, device="meta"),
            {},
            ValueError,
            r"'ref' must be on cpu \(= theta.device\), got",
        ),
        (torch.zeros(1, requires_grad=True), torch.zeros(1), {}, ValueError, "'theta' requires grad, but no gradient"),
        (torch.zeros(1), torch.zeros(1).to_sparse(), {}, TypeError, "'ref' must be a dense tensor of real numbers"),
        (["a"], [0.0], {}, TypeError, "'theta' must hold floats, ints or bools, got <U1"),
        ([0.0], [0.0], {"max_value": 0}, ValueError, "'max_value' must be finite and positive, got 0"),
        ([0.0], [0.0], {"max_log_ratio": -1}, ValueError, "'max_log_ratio' must be finite and positive, got -1"),
    ],
)
def test_errors_of_estimates(theta, ref, options, error, match):
    with pytest.raises(error, match=rf"kl_estimate\(\): {match}"):
        kl_estimate(theta, ref, **({"kind": "k3"} | options))

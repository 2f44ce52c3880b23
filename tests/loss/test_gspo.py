"""GSPO and LUSPO: one ratio a sequence."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from loss_steps import FORMS, Step, form  # noqa: E402

from rollmath import LogProbs, Rows  # noqa: E402
from rollmath.loss import GSPO, LUSPO, PPO, Aggregation, Normalizer, Tokens, policy_loss  # noqa: E402

seeds = st.integers(0, 10**6)
options = st.fixed_dictionaries(
    {
        "clip": st.sampled_from([(0.1, 0.15), (1.0, math.inf), (3e-4, 4e-4)]),
        "gradient": st.sampled_from(["sequence", "token"]),
        "max_log_ratio": st.sampled_from([None, 0.1]),
    }
)


def tokens_of(theta, prox, a, rows=None, **more):
    columns = (torch.as_tensor(x, dtype=torch.float64) for x in (theta, a, prox))
    theta, a, prox = columns
    return Tokens.of(theta, a, prox=prox, rows=rows, **more)


@given(seeds, st.sampled_from(["GSPO", "LUSPO"]), st.sampled_from(["rollout", "row"]), options, st.booleans())
def test_agrees_with_the_oracle(oracle, tolerance, seed, name, unit, options, padded):
    step = Step(seed)
    objective = {"GSPO": GSPO, "LUSPO": LUSPO}[name](unit=unit, **options)
    per_row = step.weights("seq_mean_token_mean")
    columns = step.lists(unit, step.theta, step.prox, step.advantages, per_row.repeat(step.rows.lengths))
    losses, gradients = oracle("loss/gspo.py", name)(*columns, **options)
    expected = sum(w * x for ws, xs in zip(columns[3], losses, strict=True) for w, x in zip(ws, xs, strict=True))
    for kind in FORMS:
        with form(kind):
            out, gradient = step.loss(objective, step.logprobs(padded=padded), "seq_mean_token_mean")
        np.testing.assert_allclose(out.loss.item(), expected, **tolerance("float64"))
        np.testing.assert_allclose(gradient, step.packed(unit, gradients), **tolerance("float64"))


@given(seeds, st.sampled_from(["rollout", "row"]), options)
def test_closed_form_is_the_gradient_of_plain_operations(seed, unit, options):
    step = Step(seed)
    weights = torch.tensor(np.random.default_rng(seed).random(len(step.theta)))
    for at in step.units(unit):
        if len(at) == 0:
            continue
        theta = torch.tensor(step.theta[at], requires_grad=True)
        a, prox = torch.tensor(step.advantages[at]), torch.tensor(step.prox[at])
        mean = (theta - prox).mean()
        x = mean if options["gradient"] == "sequence" else theta - theta.detach() + mean.detach()
        s = (x if options["max_log_ratio"] is None else x.clamp(max=options["max_log_ratio"])).exp()
        lo, hi = options["clip"]
        plain = torch.maximum(-a * s, -a * s.clamp(1 - lo, 1 + hi))
        (expected,) = torch.autograd.grad((weights[at] * plain).sum(), theta)
        out = GSPO(unit="row", **options).token_loss(tokens_of(theta, prox, a, weight=weights[at]))
        torch.testing.assert_close(out.loss, plain.detach(), rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(out.gradient, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("objective", [GSPO(clip=(0.05, 0.08)), LUSPO(clip=(0.05, 0.08), unit="row")])
def test_finite_differences(objective, kind):
    step = Step(5)
    given = step.logprobs(poison=0.0)

    def loss(theta):
        return step.evaluate(objective, LogProbs(theta, given.prox)).loss

    with form(kind):
        assert torch.autograd.gradcheck(loss, (given.theta,), eps=1e-7, atol=1e-6)


@given(seeds, st.sampled_from(["rollout", "row"]))
def test_the_two_gradients_agree_where_weight_and_advantage_are_constant(seed, unit):
    step = Step(seed, per_token=False)
    name = f"{'seq' if unit == 'row' else 'rollout'}_mean_token_mean"
    (_, whole), (_, token) = (
        step.loss(GSPO(clip=0.1, unit=unit, gradient=kind), step.logprobs(), name) for kind in ("sequence", "token")
    )
    np.testing.assert_allclose(whole, token, rtol=1e-12, atol=1e-15)


def test_with_unequal_advantages_they_do_not():
    tokens = tokens_of([-1.0, -2.0], [-1.0, -2.0], [1.0, 3.0])
    assert GSPO().token_loss(tokens).gradient.tolist() == [-2.0, -2.0]
    assert GSPO(gradient="token").token_loss(tokens).gradient.tolist() == [-1.0, -3.0]


@given(seeds)
def test_luspo_is_gspo_summed_within_the_sequence(seed):
    step = Step(seed)
    a, x = step.loss(LUSPO(clip=0.1), step.logprobs(), "rollout_mean_token_mean")
    b, y = step.loss(GSPO(clip=0.1), step.logprobs(), "rollout_mean_token_sum")
    # A weight a rollout: the two are the same only if it is constant in it.
    np.testing.assert_allclose(a.loss.item(), b.loss.item(), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-15)
    a, x = step.loss(LUSPO(clip=0.1, unit="row"), step.logprobs(), Aggregation(unit="row", empty="include"))
    b, y = step.loss(
        GSPO(clip=0.1, unit="row"), step.logprobs(), Aggregation(unit="row", within="sum", empty="include")
    )
    np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-15)


@given(seeds)
def test_a_sequence_of_one_token_is_ppo(seed):
    rng = np.random.default_rng(seed)
    theta, prox, a = -rng.random(6), -rng.random(6), rng.standard_normal(6)
    tokens = tokens_of(theta, prox, a, Rows(list(range(6)), [1] * 6))
    for gradient in ("sequence", "token"):
        out, ppo = GSPO(clip=0.2, gradient=gradient).token_loss(tokens), PPO(0.2).token_loss(tokens)
        torch.testing.assert_close(out.loss, ppo.loss)
        torch.testing.assert_close(out.gradient, ppo.gradient)
        assert out.counts["clip_high"] == ppo.counts["clip_high"]


def test_the_geometric_mean_of_the_hand_checked_vector(vectors):
    data = vectors("flat")["gmpo"]
    tokens = tokens_of(data["logratio"], [0.0] * 3, [data["A"]] * 3)
    out = GSPO(clip=(1.0, math.inf)).token_loss(tokens)
    np.testing.assert_allclose(out.loss, [-data["gspo_ratio"]] * 3, rtol=1e-12)


@pytest.mark.parametrize("kind", FORMS)
def test_turn_ratios_of_the_hand_checked_vector(vectors, kind):
    data = vectors("flat")["turn_ratio"]
    # A gap between the two turns.
    rows = Rows(["a"], [6], mask=[1, 1, 0, 1, 1, 1])
    theta = torch.tensor(np.insert(data["logratio"], 2, np.nan), requires_grad=True)
    logprobs = LogProbs(theta, torch.zeros(6, dtype=torch.float64))
    objective = GSPO(clip=(1.0, math.inf), unit="turn", gradient="token")
    with form(kind):
        out = policy_loss(
            logprobs,
            [1.0],
            rows,
            objective,
            normalizer=Normalizer.local(rows),
            aggregation="token_sum",
            level="rollout",
        )
    (gradient,) = torch.autograd.grad(out.loss, theta)
    np.testing.assert_allclose(-gradient[[0, 1, 3, 4, 5]], data["ratio"], rtol=1e-12)
    np.testing.assert_allclose(out.loss.item(), -sum(data["ratio"]), rtol=1e-12)
    tokens = Tokens.of(
        torch.tensor(data["logratio"], dtype=torch.float64), torch.ones(5, dtype=torch.float64), rows=rows
    )
    means = tokens.reduce(tokens.theta, "turn", "mean")
    np.testing.assert_allclose(tokens.spread(means, "turn").exp(), data["ratio"], rtol=1e-12)


def test_counts_and_boundaries():
    tokens = tokens_of([0.3, 0.1, -0.2], [0.0, 0.0, 0.0], [1.0, -1.0, 0.0])
    out = GSPO(clip=(0.01, 0.01)).token_loss(tokens)
    assert {name: x.item() for name, x in out.counts.items()} == {"clip_high": 1, "clip_low": 0}
    # s = 1 is exactly on the boundary of a clip of 0.
    out = GSPO(clip=0.0).token_loss(tokens_of([0.0], [0.0], [1.0]))
    assert out.gradient.tolist() == [-1.0]


@pytest.mark.parametrize("kind", FORMS)
def test_a_nan_stays_in_its_sequence(kind):
    rows = Rows(["a", "a", "b"], [2, 2, 2], mask=[1, 1, 0, 1, 1, 0])
    theta = torch.tensor([-1.0, math.nan, math.nan, -1.0, -1.0, math.nan], requires_grad=True)
    prox = torch.full((6,), -1.5)
    with form(kind):
        out = policy_loss(LogProbs(theta, prox), [1.0, 1.0], rows, GSPO(clip=1.0), normalizer=Normalizer.local(rows))
    (gradient,) = torch.autograd.grad(out.loss, theta)
    assert math.isnan(out.loss.item())
    assert gradient.isnan().tolist() == [True, True, False, True, False, False]
    assert gradient[2] == gradient[5] == 0
    assert gradient[4] != 0


@pytest.mark.parametrize("log_ratio", [1e4, -1e4, math.inf, -math.inf])
@pytest.mark.parametrize("a", [1.0, -1.0, 0.0])
@pytest.mark.parametrize("gradient", ["sequence", "token"])
def test_extreme_ratios(log_ratio, a, gradient):
    for limit in (None, 10.0):
        objective = GSPO(gradient=gradient, max_log_ratio=limit)
        tokens = Tokens.of(torch.tensor([log_ratio, 0.0]), torch.tensor([a, a]), prox=torch.zeros(2))
        out = objective.token_loss(tokens)
        assert not out.loss.isnan().any()
        assert not out.gradient.isnan().any()


def test_verl_clamps_at_ten():
    tokens = tokens_of([12.0], [0.0], [-1.0])
    out = GSPO(max_log_ratio=10).token_loss(tokens)
    assert out.loss.item() == pytest.approx(math.exp(10))
    assert out.gradient.item() == 0


def test_float32_is_close_to_float64():
    step = Step(3, n_rows=200)
    wide, x = step.loss(GSPO(clip=0.1), step.logprobs())
    narrow, y = step.loss(GSPO(clip=0.1), step.logprobs(dtype=torch.float32))
    assert narrow.loss.dtype == torch.float32
    assert narrow.loss.item() == pytest.approx(wide.loss.item(), rel=1e-5, abs=1e-7)
    np.testing.assert_allclose(y, x, rtol=1e-4, atol=1e-8)


def test_a_value():
    assert LUSPO(clip=0.1) == LUSPO(clip=(0.1, 0.1))
    assert LUSPO() != GSPO()
    assert GSPO.coupling == LUSPO.coupling == "sequence"
    assert repr(GSPO()) == "GSPO(clip=(0.0003, 0.0004), unit='rollout', gradient='sequence', max_log_ratio=None)"


@pytest.mark.parametrize("kind", [GSPO, LUSPO])
@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"clip": (1.5, 0.2)}, ValueError, r"\(\): 'clip' must be \(lo, hi\) with lo in \[0, 1\]"),
        ({"clip": "x"}, TypeError, r"\(\): 'clip' must hold numbers, got 'x'"),
        ({"unit": "token"}, ValueError, r"\(\): 'unit' must be one of 'rollout', 'row', 'turn', got 'token'"),
        ({"gradient": "both"}, ValueError, r"\(\): 'gradient' must be one of 'sequence', 'token', got 'both'"),
        ({"max_log_ratio": 0}, ValueError, r"\(\): 'max_log_ratio' must be finite and positive, got 0"),
        ({"max_log_ratio": "x"}, TypeError, r"\(\): 'max_log_ratio' must be a number"),
    ],
)
def test_options(kind, arguments, error, match):
    with pytest.raises(error, match=kind.__name__ + match):
        kind(**arguments)


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("unit", ["rollout", "row", "turn"])
def test_rows_without_a_position(kind, unit):
    rows, theta = Rows(["a", "b"], [0, 0]), torch.zeros(2, 0, requires_grad=True)
    with form(kind):
        out = policy_loss(LogProbs(theta), [1.0, 1.0], rows, GSPO(unit=unit), normalizer=Normalizer.local(rows))
    assert out.loss.item() == 0
    assert torch.autograd.grad(out.loss, theta)[0].shape == (2, 0)

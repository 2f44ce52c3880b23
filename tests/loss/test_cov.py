"""Clip-Cov and KL-Cov: tokens chosen by covariance in the whole step."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from loss_steps import FORMS, Step, form  # noqa: E402

from rollmath import LogProbs, Rows  # noqa: E402
from rollmath.loss import PPO, ClipCov, KLCov, Tokens  # noqa: E402

seeds = st.integers(0, 10**6)
OBJECTIVES = {"ClipCov": ClipCov, "KLCov": KLCov}
clip_options = st.fixed_dictionaries(
    {
        "clip": st.sampled_from([(0.2, 0.28), (1.0, math.inf)]),
        "share": st.sampled_from([0.0, 0.1, 0.3, 1.0]),
        "bounds": st.sampled_from([(-0.5, 0.5), (0.1, math.inf), (-100.0, 100.0)]),
        "seed": st.integers(0, 3),
        "least": st.integers(0, 3),
    }
)
kl_options = st.fixed_dictionaries(
    {"share": st.sampled_from([0.0, 0.1, 0.3, 1.0]), "coef": st.sampled_from([0.0, 0.7]), "least": st.integers(0, 3)}
)
cases = st.tuples(st.just("ClipCov"), clip_options) | st.tuples(st.just("KLCov"), kl_options)


def marks_of(step, chosen):
    """The positions of chosen ``(row, number among the trained)`` as one number a position."""
    units = step.units("row")
    marks = np.zeros(len(step.theta))
    marks[[units[i][t] for i, t in chosen]] = 1
    return marks


@given(seeds, cases, st.booleans(), st.booleans())
def test_agrees_with_the_oracle(oracle, tolerance, seed, case, padded, constant):
    name, options = case
    step = Step(seed, per_token=seed % 2 == 0)
    if constant:
        step.advantages = np.full(len(step.theta), 0.5)  # exact means, so that the covariance is exactly 0
    weights = step.weights("seq_mean_token_mean").repeat(step.rows.lengths)
    columns = step.lists("row", step.theta, step.prox, step.advantages, weights)
    losses, gradients, chosen = oracle("loss/cov.py", name)(*columns, *step.keys(), **options)
    objective = step.prepared(OBJECTIVES[name](**options), step.logprobs(), parts=2)
    assert len(objective.selection) == len(chosen)
    assert marks_of(step, chosen).tolist() == marks(step, objective).tolist()
    expected = sum(w * x for ws, xs in zip(columns[3], losses, strict=True) for w, x in zip(ws, xs, strict=True))
    for kind in FORMS:
        with form(kind):
            out, gradient = step.loss(objective, step.logprobs(padded=padded), "seq_mean_token_mean")
        np.testing.assert_allclose(out.loss.item(), expected, **tolerance("float64"))
        np.testing.assert_allclose(gradient, step.packed("row", gradients), **tolerance("float64"))
        count = out.metrics["clip_cov" if name == "ClipCov" else "kl_cov"].item()
        assert count * step.normalizer.tokens == pytest.approx(len(chosen))


def marks(step, objective):
    """1.0 at the tokens that a prepared objective has chosen."""
    row, position = objective.selection.among("test", step.rows)
    out = np.zeros(len(step.theta))
    out[step.rows.offsets[row] + position] = 1
    return out


def test_the_hand_checked_vector(vectors):
    data = vectors("flat")["cov"]
    rows, a = Rows(["a", "b"], [3, 3]), np.array(data["A"])
    logprobs = LogProbs(torch.tensor(data["logp"], dtype=torch.float64))
    kl = KLCov(share=1 / 6)
    kl = kl.with_parts([kl.prepare(logprobs, a, rows)])
    row, position = kl.selection.among("test", rows)
    assert (3 * row + position).tolist() == [data["top1"]]
    clip = ClipCov(share=1.0)
    clip = clip.with_parts([clip.prepare(logprobs, a, rows)])
    row, position = clip.selection.among("test", rows)
    assert (3 * row + position).tolist() == data["in_1_5"]
    # The same threshold on either side of the numbers of the vector.
    for token, cov in enumerate(data["cov"]):
        for bounds, inside in (((cov - 1e-9, cov + 1e-9), True), ((cov + 1e-9, cov + 2e-9), False)):
            part = ClipCov(share=1.0, bounds=bounds).prepare(logprobs, a, rows)
            row, position = ClipCov(share=1.0, bounds=bounds).with_parts([part]).selection.among("test", rows)
            assert (token in (3 * row + position).tolist()) == inside


@given(seeds, cases, st.integers(1, 4), st.data())
def test_any_split_in_any_order_gives_the_same_bits(same_bits, seed, case, parts, data):
    name, options = case
    step = Step(seed)
    order = data.draw(st.permutations(range(parts)))
    objective = OBJECTIVES[name](**options)
    whole = step.prepared(objective, step.logprobs())
    split = step.prepared(objective, step.logprobs(), parts, order)
    assert whole == split
    assert hash(whole) == hash(split)
    (a, x), (b, y) = (step.loss(prepared, step.logprobs()) for prepared in (whole, split))
    same_bits(x, y)
    assert a.loss.item() == b.loss.item()


@pytest.mark.parametrize("objective", [ClipCov(share=0.2, bounds=(-9, 9)), KLCov(share=0.2)])
def test_micro_batches_add_up(objective):
    step = Step(12, n_rows=12)
    prepared = step.prepared(objective, step.logprobs(), parts=3)
    whole, gradient = step.loss(prepared, step.logprobs())
    total, found = 0.0, np.zeros_like(gradient)
    for part in range(3):
        picked = np.arange(part, 12, 3)
        some = Step(12, n_rows=12)
        at = np.concatenate([np.arange(*step.rows.offsets[[i, i + 1]]) for i in picked])
        some.rows = step.rows.take(picked)
        for column in ("theta", "prox", "behaviour", "ref", "advantages"):
            setattr(some, column, getattr(step, column)[at])
        out, found[at] = some.loss(prepared, some.logprobs())
        total += out.loss.item()
    assert total == pytest.approx(whole.loss.item(), rel=1e-12)
    np.testing.assert_allclose(found, gradient, rtol=1e-12, atol=1e-15)


def test_the_draw_is_random_and_follows_the_seed():
    step = Step(9, n_rows=60)
    n = step.normalizer.tokens
    drawn = {}
    for seed in range(30):
        objective = step.prepared(
            ClipCov(clip=(1.0, math.inf), share=0.25, bounds=(-99, 99), seed=seed), step.logprobs()
        )
        drawn[seed] = marks(step, objective)
        assert drawn[seed].sum() == int(0.25 * n)
    assert not np.array_equal(drawn[0], drawn[1])
    often = sum(drawn.values())[step.rows.mask != 0]
    # Each token is drawn in about a quarter of 30: no position or row is preferred.
    assert 3 < often.var() < 9  # binomial: 5.6
    assert often.max() < 20


def test_ties_give_exactly_as_many_as_asked_for():
    rows = Rows(list(range(10)), [10] * 10)
    logprobs = LogProbs(torch.full((100,), -1.0))
    objective = KLCov(share=0.07)
    made = objective.with_parts([objective.prepare(logprobs, np.ones(10), rows)])
    assert len(made.selection) == 7
    assert set(made.selection.among("test", rows)[0].tolist()) != {0}


def test_constant_advantages_have_no_covariance_whatever_their_rounding():
    step = Step(9, n_rows=60)
    made = []
    for a in (0.5, 0.1):
        step.advantages = np.full(len(step.theta), a)
        made.append(step.prepared(KLCov(share=0.2), step.logprobs()))
    assert made[0] == made[1]


@given(seeds, st.sampled_from([0.0, 0.7]))
def test_closed_forms_are_gradients_of_plain_operations(seed, coef):
    rng = np.random.default_rng(seed)
    a, prox, weight = (torch.tensor(rng.standard_normal(9)) for _ in range(3))
    chosen = torch.tensor(rng.integers(0, 2, 9).astype(float))
    theta = torch.tensor(rng.standard_normal(9), requires_grad=True)
    tokens = Tokens.of(theta, a, prox=prox, weight=weight, selected=chosen)
    x = theta - prox
    kl = -a * x.exp() + coef * chosen * x.abs()
    clip = (1 - chosen) * torch.maximum(-a * x.exp(), -a * x.exp().clamp(0.8, 1.28))
    for plain, objective in ((kl, KLCov(coef=coef)), (clip, ClipCov(clip=(0.2, 0.28)))):
        (expected,) = torch.autograd.grad((weight * plain).sum(), theta, retain_graph=True)
        out = objective.token_loss(tokens)
        torch.testing.assert_close(out.loss, plain.detach(), rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(out.gradient, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("objective", [ClipCov(share=0.2, bounds=(-9, 9)), KLCov(share=0.2)])
def test_finite_differences(objective, kind):
    step = Step(6)
    given = step.logprobs(poison=0.0)
    prepared = step.prepared(objective, given)
    with form(kind):
        assert torch.autograd.gradcheck(
            lambda theta: step.evaluate(prepared, LogProbs(theta, given.prox)).loss, (given.theta,), eps=1e-7, atol=1e-6
        )


def test_drawn_tokens_stay_in_the_denominator():
    rows = Rows(["a"], [4])
    logprobs = LogProbs(torch.tensor([-1.0, -2.0, -3.0, -4.0], requires_grad=True))
    tokens = Tokens.of(logprobs.theta, torch.ones(4), rows=rows, selected=torch.tensor([1.0, 0, 0, 0]))
    out = ClipCov().token_loss(tokens)
    assert out.loss.tolist() == [0, -1, -1, -1]
    assert out.gradient.tolist() == [0, -1, -1, -1]
    nothing = Tokens.of(logprobs.theta, torch.ones(4), rows=rows, selected=torch.zeros(4))
    assert torch.equal(ClipCov(0.2).token_loss(nothing).loss, PPO(0.2).token_loss(nothing).loss)


def test_the_penalty_has_no_derivative_on_policy():
    tokens = Tokens.of(torch.tensor([-1.0]), torch.tensor([2.0]), selected=torch.ones(1))
    assert KLCov(coef=5.0).token_loss(tokens).gradient.item() == -2


@pytest.mark.parametrize("log_ratio", [1e4, -1e4, math.inf, -math.inf])
@pytest.mark.parametrize("a", [2.0, -2.0, 0.0])
@pytest.mark.parametrize("selected", [0.0, 1.0])
def test_extreme_ratios(log_ratio, a, selected):
    for objective in (ClipCov(), KLCov()):
        tokens = Tokens.of(
            torch.tensor([log_ratio]), torch.tensor([a]), prox=torch.zeros(1), selected=torch.tensor([selected])
        )
        out = objective.token_loss(tokens)
        assert not out.loss.isnan().any()
        assert not out.gradient.isnan().any()


@pytest.mark.parametrize("selected", [0.0, 1.0])
def test_nan_stays_nan(selected):
    tokens = Tokens.of(torch.tensor([math.nan]), torch.ones(1), prox=torch.zeros(1), selected=torch.tensor([selected]))
    for objective in (ClipCov(), KLCov()):
        out = objective.token_loss(tokens)
        assert out.loss.isnan().all()
        assert out.gradient.isnan().all()


@pytest.mark.parametrize(
    ("kind", "arguments", "error", "match"),
    [
        (ClipCov, {"clip": -0.1}, ValueError, r"ClipCov\(\): 'clip' must be \(lo, hi\) with lo in \[0, 1\]"),
        (ClipCov, {"share": 1.5}, ValueError, r"ClipCov\(\): 'share' must be between 0 and 1, got 1.5"),
        (
            ClipCov,
            {"bounds": (5, 1)},
            ValueError,
            r"ClipCov\(\): 'bounds' must be \(lo, hi\) with lo < hi, got \(5, 1\)",
        ),
        (ClipCov, {"bounds": (1, 2, 3)}, ValueError, r"ClipCov\(\): 'bounds' must be one number or \(lo, hi\)"),
        (ClipCov, {"bounds": "x"}, TypeError, r"ClipCov\(\): 'bounds' must hold numbers, got 'x'"),
        (ClipCov, {"seed": -1}, ValueError, r"ClipCov\(\): 'seed' must be at least 0, got -1"),
        (ClipCov, {"least": 0.5}, TypeError, r"ClipCov\(\): 'least' must be a whole number"),
        (KLCov, {"share": -1}, ValueError, r"KLCov\(\): 'share' must be between 0 and 1, got -1"),
        (KLCov, {"coef": -1}, ValueError, r"KLCov\(\): 'coef' must be finite and not negative, got -1"),
        (KLCov, {"least": -1}, ValueError, r"KLCov\(\): 'least' must be at least 0, got -1"),
    ],
)
def test_options(kind, arguments, error, match):
    with pytest.raises(error, match=match):
        kind(**arguments)

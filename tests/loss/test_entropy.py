"""The entropy bonus of policy_loss: values, gradients, weights at all levels, what is read."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from rollmath import LogProbs, Ragged, Rows, vocab  # noqa: E402
from rollmath.loss import PPO, Aggregation, EntropyBonus, LossMetrics, Normalizer, policy_loss  # noqa: E402
from rollmath.loss._engine import at_once, in_pieces  # noqa: E402

FORMS = {"in pieces": in_pieces, "at once": at_once}


@pytest.fixture(params=FORMS)
def form(request, monkeypatch):
    monkeypatch.setattr("rollmath.loss._policy_loss.evaluate", FORMS[request.param])
    return request.param


def batch(seed, n_rows=6):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 5, n_rows)
    total = int(lengths.sum())
    rows = Rows(rng.integers(0, 4, n_rows), lengths, mask=rng.random(total) < 0.7)
    theta = torch.tensor(-3 * rng.random(total), requires_grad=True)
    entropy = torch.tensor(2 * rng.random(total), requires_grad=True)
    return rows, theta, entropy, rng


def call(theta, rows, bonus, aggregation="token_mean", normalizer=None, advantages=None, prox=None):
    return policy_loss(
        LogProbs(theta, prox=prox),
        np.zeros(rows.n_rollouts) if advantages is None else advantages,
        rows,
        PPO(),
        normalizer=Normalizer.local(rows) if normalizer is None else normalizer,
        aggregation=aggregation,
        entropy=bonus,
        level="rollout",
    )


@pytest.mark.parametrize("aggregation", ["token_mean", "seq_mean_token_mean", "rollout_mean_token_sum"])
@pytest.mark.parametrize("made", FORMS)
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(-1, 1), st.booleans())
def test_a_loop_over_tokens(made, aggregation, seed, coef, weighted):
    rows, theta, entropy, rng = batch(seed)
    weight = rng.random(len(theta)) if weighted else np.ones(len(theta))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rollmath.loss._policy_loss.evaluate", FORMS[made])
        # Padded, so that no other level has this shape.
        given_weight = Ragged(weight, rows.offsets).to_padded(5) if weighted else None
        out = call(theta, rows, EntropyBonus(entropy, coef, weight=given_weight), aggregation)
    per_row = Aggregation.named(aggregation).weights(rows, Normalizer.local(rows))
    loss, total, expected = 0.0, 0.0, np.zeros(len(theta))
    for i in range(rows.n_rows):
        for t in range(rows.offsets[i], rows.offsets[i + 1]):
            if rows.mask[t]:
                expected[t] = -coef * per_row[i] * weight[t]
                loss += expected[t] * entropy[t].item()
                total += entropy[t].item()
    assert out.metrics["entropy_loss"].item() == pytest.approx(loss, rel=1e-12, abs=1e-14)
    assert out.loss.item() == pytest.approx(loss, rel=1e-12, abs=1e-14)
    tokens = max(int(rows.trained.sum()), 1)
    assert out.metrics["entropy"].item() == pytest.approx(total / tokens, rel=1e-12, abs=1e-14)
    np.testing.assert_allclose(torch.autograd.grad(out.loss, entropy)[0], expected, rtol=1e-12, atol=1e-15)


def test_weights_of_all_levels(form):
    rows, theta, entropy, rng = batch(3)
    per_rollout = rng.random(rows.n_rollouts)
    per_row = per_rollout[rows.rollouts.index]
    tokens = rows.expand(per_rollout)
    made = []
    for weight in (
        per_rollout,
        per_row,
        torch.tensor(per_row),
        tokens,
        tokens.to_padded(8),
        torch.tensor(tokens.values),
    ):
        out = call(theta, rows, EntropyBonus(entropy, 0.1, weight=weight))
        made.append((out.loss.item(), torch.autograd.grad(out.loss, entropy)[0]))
    for loss, g in made:
        assert loss == made[0][0]
        assert torch.equal(g, made[0][1])
    # The metric is the entropy itself, without the weight.
    assert out.metrics["entropy"] == call(theta, rows, EntropyBonus(entropy, 0.1)).metrics["entropy"]


def test_the_tokens_of_highest_entropy(form):
    """A 0/1 weight: the bonus and its gradient are those of the tokens above a quantile, over all trained ones."""
    rows, theta, entropy, _ = batch(7, n_rows=20)
    inside = torch.tensor(rows.mask != 0)
    bound = torch.quantile(entropy.detach()[inside], 0.8)
    high = (entropy.detach() >= bound) & inside
    out = call(theta, rows, EntropyBonus(entropy, 0.5, weight=high))
    plain = -0.5 * (entropy * high).sum() / inside.sum()
    torch.testing.assert_close(out.loss, plain, rtol=1e-13, atol=0)
    made, expected = (torch.autograd.grad(x, entropy)[0] for x in (out.loss, plain))
    torch.testing.assert_close(made, expected, rtol=1e-13, atol=0)
    assert int((made != 0).sum()) == int(high.sum())


def test_finite_differences(form):
    rows, theta, entropy, rng = batch(5)
    a, prox = rng.standard_normal(rows.n_rollouts), theta.detach() + 0.05
    weight = np.tile(np.arange(5.0), (rows.n_rows, 1))

    def loss(x, h):
        return call(x, rows, EntropyBonus(h, 0.3, weight=weight), advantages=a, prox=prox).loss

    assert torch.autograd.gradcheck(loss, (theta, entropy), eps=1e-7, atol=1e-6)


def test_from_the_logits_of_a_model(form):
    """Log-probability and entropy of one pass over the logits, against autograd of plain operations."""
    torch.manual_seed(0)
    rows = Rows([0, 1], [3, 2], mask=[1, 1, 1, 0, 1])
    logits = torch.randn(5, 11, dtype=torch.float64, requires_grad=True)
    labels, a = torch.randint(11, (5,)), torch.tensor([1.0, -0.5], dtype=torch.float64)
    stats = vocab.row_stats(logits, labels)
    out = call(stats.logprob, rows, EntropyBonus(stats.entropy, 0.01), advantages=a)
    logp = torch.log_softmax(logits, 1)
    chosen, entropy = logp.gather(1, labels[:, None])[:, 0], -(logp.exp() * logp).sum(1)
    ratio = (chosen - chosen.detach()).exp()
    mask = torch.tensor(rows.mask)
    plain = ((-a[[0, 0, 0, 1, 1]] * ratio - 0.01 * entropy) * mask).sum() / mask.sum()
    torch.testing.assert_close(out.loss, plain, rtol=1e-13, atol=0)
    made, expected = (torch.autograd.grad(x, logits)[0] for x in (out.loss, plain))
    torch.testing.assert_close(made, expected, rtol=1e-12, atol=1e-15)


def test_padded_and_jagged_and_what_is_behind_the_mask(form):
    rows, theta, entropy, _ = batch(9)
    hidden = [torch.where(torch.tensor(rows.mask != 0), x.detach(), torch.nan) for x in (theta, entropy)]
    packed = call(theta, rows, EntropyBonus(entropy, 0.1))
    (g,) = torch.autograd.grad(packed.loss, entropy)
    wide = [Ragged(x, rows.offsets).to_padded(8, fill=float("nan")).requires_grad_() for x in hidden]
    made = call(wide[0], rows, EntropyBonus(wide[1], 0.1))
    torch.testing.assert_close(made.loss, packed.loss, rtol=1e-14, atol=0)
    flat = Ragged.from_padded(torch.autograd.grad(made.loss, wide[1])[0], lengths=rows.lengths).values
    torch.testing.assert_close(flat, g, rtol=1e-14, atol=0)
    leaf = hidden[1].clone().requires_grad_()
    jagged = torch.nested.nested_tensor_from_jagged(leaf, torch.tensor(rows.offsets))
    made = call(hidden[0].requires_grad_(), rows, EntropyBonus(jagged, 0.1))
    torch.testing.assert_close(made.loss, packed.loss, rtol=1e-14, atol=0)
    torch.testing.assert_close(torch.autograd.grad(made.loss, leaf)[0], g, rtol=1e-14, atol=0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.data())
def test_parts_add_up(seed, data):
    rows, theta, entropy, rng = batch(seed)
    weight = rng.random(rows.n_rows)
    norm = Normalizer.local(rows)

    def of(at, picked):
        part = rows.take(picked)
        per_token = Ragged(np.repeat(weight[picked], part.lengths), part.offsets)
        bonus = EntropyBonus(entropy[at], 0.2, weight=per_token.to_padded(5))
        return call(theta[at], part, bonus, "rollout_mean_token_mean", norm)

    whole = of(np.arange(len(theta)), np.arange(rows.n_rows))
    part_of = np.array(data.draw(st.lists(st.integers(0, 2), min_size=6, max_size=6)))
    parts = []
    for part in range(3):
        picked = np.flatnonzero(part_of == part)
        at = np.concatenate([np.arange(rows.offsets[i], rows.offsets[i + 1]) for i in picked] or [[]]).astype(np.int64)
        parts.append(of(at, picked))
    total = sum(part.loss for part in parts)
    torch.testing.assert_close(total, whole.loss, rtol=1e-12, atol=1e-14)
    made, expected = (torch.autograd.grad(x, entropy)[0] for x in (total, whole.loss))
    torch.testing.assert_close(made, expected, rtol=1e-13, atol=1e-16)
    merged = LossMetrics.merge([part.metrics for part in parts])
    torch.testing.assert_close(merged["entropy"], whole.metrics["entropy"], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_narrow_entropies(form, dtype):
    rows, theta, entropy, _ = batch(8, n_rows=30)
    leaf = entropy.detach().to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = call(theta.detach().to(dtype).requires_grad_(), rows, EntropyBonus(leaf, 0.1))
    assert out.loss.dtype == torch.float32
    exact = -0.1 * leaf.detach().double()[torch.tensor(rows.mask != 0)].mean()
    assert out.loss.item() == pytest.approx(exact.item(), rel=1e-6)
    (g,) = torch.autograd.grad(out.loss, leaf)
    assert g.dtype == dtype
    expected = torch.tensor(-0.1 * rows.mask / rows.trained.sum()).to(dtype)
    torch.testing.assert_close(g, expected, rtol=torch.finfo(dtype).eps, atol=0)


def test_a_nan_entropy_of_a_trained_token_is_seen(form):
    rows = Rows([0], [2])
    out = call(torch.zeros(2), rows, EntropyBonus(torch.tensor([torch.nan, 1.0]), 0.1))
    assert out.loss.isnan()


def test_it_says_what_it_is():
    assert (
        repr(EntropyBonus(torch.zeros(2, 3), 1, weight=[1.0, 0.0]))
        == "EntropyBonus(float32 [2, 3], coef=1.0, weighted)"
    )


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"values": np.zeros(3)}, TypeError, "'values' must be a float tensor, got a 1-D float64 array"),
        ({"values": torch.zeros(3, dtype=torch.int64)}, TypeError, "'values' must be a float tensor, got a 1-D int64"),
        ({"coef": float("nan")}, ValueError, "'coef' must be finite, got nan"),
        ({"coef": "0.1"}, TypeError, "'coef' must be a number, got an object of type str"),
    ],
)
def test_options(options, error, match):
    with pytest.raises(error, match=rf"EntropyBonus\(\): {match}"):
        EntropyBonus(**({"values": torch.zeros(3), "coef": 0.1} | options))


@pytest.mark.parametrize(
    ("bonus", "error", "match"),
    [
        (0.1, TypeError, "'entropy' must be an EntropyBonus, got an object of type float"),
        (
            EntropyBonus(torch.zeros(2), 0.1),
            ValueError,
            r"'entropy' must have values of shape \(3,\) on cpu, as theta, got",
        ),
        (
            EntropyBonus(torch.zeros(3), 0.1, weight=[1.0]),
            ValueError,
            r"'entropy.weight' must have shape \(2,\) \(= rollouts\), \(2,\) \(= rows\), \(3,\) \(= tokens\)",
        ),
        (
            EntropyBonus(torch.zeros(3), 0.1, weight=torch.ones(3, requires_grad=True)),
            ValueError,
            "'entropy.weight' requires grad, but it is a constant of the loss",
        ),
    ],
)
def test_calls(bonus, error, match):
    with pytest.raises(error, match=rf"policy_loss\(\): {match}"):
        call(torch.zeros(3), Rows([0, 1], [2, 1]), bonus)

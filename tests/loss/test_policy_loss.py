"""loss.policy_loss: values, gradients, what is read, trainers, wrong calls."""

import math
from dataclasses import dataclass

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from rollmath import LogProbs, Ragged, Rows  # noqa: E402
from rollmath.loss import (  # noqa: E402
    KL,
    PPO,
    Aggregation,
    EntropyBonus,
    LossMetrics,
    Normalizer,
    Objective,
    TokenLoss,
    policy_loss,
)

FORMS = ["in_pieces", "at_once"]

pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")


def gradient(loss, theta):
    return torch.autograd.grad(loss, theta)[0]


units = st.sampled_from(["token", "row", "rollout", "prompt", "batch"])
within = st.sampled_from(["mean", "sum"])


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), unit=units, within=within, dual=st.none() | st.just(1.5), bonus=st.booleans())
def test_agrees_with_the_oracle(oracle, make_batch, use_form, form, seed, unit, within, dual, bonus):
    b = make_batch(seed)
    rows, index = b.rows, b.rows.rollouts.index
    options = {"clip": (0.2, 0.28), "dual_clip": dual}
    aggregation = Aggregation(unit=unit, within=within, divisor=1.5)
    each = np.linspace(0.5, 1.5, len(b.theta))
    entropy = EntropyBonus(b.entropy, coef=0.1, weight=Ragged(each[::-1].copy(), rows.offsets)) if bonus else None
    with use_form(form):
        out = policy_loss(
            b.logprobs,
            b.advantages,
            rows,
            PPO(**options),
            normalizer=Normalizer.local(rows, prompts=b.prompts),
            aggregation=aggregation,
            level="rollout",
            weight=Ragged(each, rows.offsets),
            entropy=entropy,
        )

    per_row = oracle("loss/aggregate.py", "weights")(
        rows.trained.tolist(), index.tolist(), b.prompts[index].tolist(), unit=unit, within=within, divisor=1.5
    )
    loss, of_theta, of_entropy = oracle("loss/policy_loss.py", "policy_loss")(
        b.lists(b.theta),
        b.lists(b.prox),
        rows.expand(b.advantages).to_lists(),
        b.lists(np.ones(len(b.theta)) if rows.mask is None else rows.mask),
        [[w] * n for w, n in zip(per_row, rows.lengths, strict=True)],
        lambda *x: oracle("loss/ppo.py", "PPO")(*x, **options),
        weight=b.lists(each),
        entropy=b.lists(b.entropy) if bonus else None,
        coef=0.1,
        entropy_weight=b.lists(each[::-1].copy()),
    )
    assert out.loss.item() == pytest.approx(loss, rel=1e-12, abs=1e-14)
    found = torch.autograd.grad(out.loss, [b.theta, b.entropy] if bonus else [b.theta])
    for x, expected in zip(found, (of_theta, of_entropy), strict=False):
        np.testing.assert_allclose(x, np.array([x for row in expected for x in row]), rtol=1e-12, atol=1e-14)


def test_the_vector_of_aggregations(vectors):
    data = vectors("flat")["agg"]
    loss, mask = torch.tensor(data["loss"], dtype=torch.float64), np.array(data["mask"])
    rows = Rows([0, 1], mask.sum(1))

    class Given(Objective):
        def token_loss(self, tokens):
            return TokenLoss(tokens.theta, tokens.weighted(torch.ones_like(tokens.theta)))

    norm = Normalizer.local(rows)
    dr_const = Aggregation(unit="row", within="sum", divisor=loss.shape[1])
    for name in ("token_mean", "seq_mean_token_mean", "seq_mean_token_sum", "dr_const"):
        aggregation = dr_const if name == "dr_const" else name
        out = policy_loss(LogProbs(loss), [1.0, 1.0], rows, Given(), normalizer=norm, aggregation=aggregation)
        assert out.loss.item() == pytest.approx(data[name])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", ["packed", "padded"])
def test_gradcheck(make_batch, use_form, form, shape):
    b = make_batch(3)
    norm = Normalizer.local(b.rows).under(grad_reduce="mean", ranks=3)
    columns = [b.theta.detach(), b.prox, b.entropy.detach()]
    if shape == "padded":
        columns = [Ragged(x, b.rows.offsets).to_padded(6) for x in columns]
    theta, prox, entropy = columns

    def loss(x, h):
        bonus = EntropyBonus(h, coef=0.3)
        options = {"normalizer": norm, "level": "rollout", "entropy": bonus, "aggregation": "seq_mean_token_mean"}
        return 2 * policy_loss(LogProbs(x, prox), b.advantages, b.rows, PPO(dual_clip=3.0), **options).loss

    with use_form(form):
        assert torch.autograd.gradcheck(loss, (theta.requires_grad_(), entropy.requires_grad_()), eps=1e-7, atol=1e-6)


def test_packed_padded_and_jagged_agree(make_batch):
    b = make_batch(6)
    norm = Normalizer.local(b.rows)
    packed = policy_loss(LogProbs(b.theta, b.prox), b.advantages, b.rows, PPO(), normalizer=norm, level="rollout")
    expected = gradient(packed.loss, b.theta)
    wide, prox = (Ragged(x.detach(), b.rows.offsets).to_padded(9, fill=math.nan) for x in (b.theta, b.prox))
    wide.requires_grad_()
    for x in (wide, wide.T.contiguous().T):
        out = policy_loss(LogProbs(x, prox), b.advantages, b.rows, PPO(), normalizer=norm, level="rollout")
        assert torch.equal(out.loss, packed.loss)
        g = gradient(out.loss, wide)
        assert torch.equal(Ragged.from_padded(g, lengths=b.rows.lengths).values, expected)
        assert not g[:, 5:].any()
    jagged = torch.nested.as_nested_tensor(list(b.theta.detach().split(b.rows.lengths.tolist())), layout=torch.jagged)
    jagged.requires_grad_()
    out = policy_loss(LogProbs(jagged, b.prox), b.advantages, b.rows, PPO(), normalizer=norm, level="rollout")
    out.loss.backward()
    assert torch.equal(out.loss, packed.loss)
    assert torch.equal(jagged.grad.values(), expected)


def test_columns_that_are_not_contiguous(make_batch):
    b = make_batch(6)
    norm = Normalizer.local(b.rows)
    wide = torch.stack([b.theta.detach(), b.prox], 1).requires_grad_()
    out = policy_loss(LogProbs(wide[:, 0], b.prox), b.advantages, b.rows, PPO(), normalizer=norm, level="rollout")
    expected = policy_loss(b.logprobs, b.advantages, b.rows, PPO(), normalizer=norm, level="rollout")
    assert torch.equal(gradient(out.loss, wide)[:, 0], gradient(expected.loss, b.theta))


@pytest.mark.parametrize("form", FORMS)
def test_on_policy_ratio_is_one(use_form, form):
    rows = Rows([0, 1], [2, 3])
    theta = torch.randn(5, requires_grad=True)
    with use_form(form):
        out = policy_loss(LogProbs(theta), [1.0, -2.0], rows, PPO(), normalizer=Normalizer.local(rows))
    named = out.metrics.to_dict()
    assert named["ratio"] == named["ratio_max"] == named["signal"] == 1
    assert named["approx_kl"] == named["log_ratio"] == named["clip_high"] == named["clip_low"] == 0
    torch.testing.assert_close(gradient(out.loss, theta), torch.tensor([-1.0, -1, 2, 2, 2]) / 5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes(dtype):
    rows = Rows([0, 1], [2, 1])
    theta = torch.tensor([-1.0, -2.0, -3.0], dtype=dtype, requires_grad=True)
    entropy = torch.ones(3, dtype=dtype, requires_grad=True)
    out = policy_loss(
        LogProbs(theta, prox=theta.detach().float()),
        np.array([1.0, -1.0]),
        rows,
        PPO(),
        normalizer=Normalizer.local(rows),
        entropy=EntropyBonus(entropy, coef=0.1),
    )
    assert out.loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert all(x.dtype == torch.float64 and x.dim() == 0 for x in out.metrics.values())
    assert {x.dtype for x in torch.autograd.grad(out.loss, [theta, entropy])} == {dtype}


@pytest.mark.parametrize("form", FORMS)
def test_inputs_are_not_written_to(make_batch, use_form, form):
    @dataclass(frozen=True)
    class Sloppy(Objective):
        """Gives back what it was given."""

        def token_loss(self, tokens):
            return TokenLoss(tokens.advantages, tokens.advantages)

    b = make_batch(5)  # no gaps, so that nothing need be copied
    advantages = torch.linspace(-1, 1, len(b.theta), dtype=torch.float64)
    before = advantages.clone()
    norm = Normalizer.local(b.rows).under(grad_reduce="mean", ranks=8)
    with use_form(form):
        out = policy_loss(LogProbs(b.theta), advantages, b.rows, Sloppy(), normalizer=norm, level="token")
    torch.testing.assert_close(gradient(out.loss, b.theta), 8 * before)
    assert torch.equal(advantages, before)


def test_under_autocast_nothing_changes(make_batch):
    for dtype in (torch.float32, torch.float64):
        b = make_batch(8, 20, dtype=dtype)
        options = {"normalizer": Normalizer.local(b.rows), "entropy": EntropyBonus(b.entropy, coef=0.1)}
        plain = policy_loss(b.logprobs, b.advantages, b.rows, PPO(), **options)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            cast = policy_loss(b.logprobs, b.advantages, b.rows, PPO(), **options)
            inside = gradient(cast.loss, b.theta)
        assert torch.equal(plain.loss, cast.loss)
        assert torch.equal(plain.metrics.values_tensor, cast.metrics.values_tensor)
        assert torch.equal(gradient(plain.loss, b.theta), inside)


@pytest.mark.filterwarnings("default")
def test_compiled_callers(make_batch):
    """policy_loss is a graph break; around it the caller is compiled."""
    b = make_batch(8, 12)
    norm = Normalizer.local(b.rows)

    def step(x):
        logprobs = LogProbs(x * 1.5 - 0.1, b.prox)
        return policy_loss(logprobs, b.advantages, b.rows, PPO(), normalizer=norm, level="rollout").loss * 3

    compiled = torch.compile(step, backend="aot_eager")
    for _ in range(2):
        expected, found = step(b.theta), compiled(b.theta)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
        torch.testing.assert_close(gradient(found, b.theta), gradient(expected, b.theta), rtol=1e-12, atol=0)
    torch._dynamo.reset()


def test_no_grad():
    rows = Rows(["a"], [2])
    theta = torch.zeros(2, requires_grad=True)
    with torch.no_grad():
        out = policy_loss(LogProbs(theta), [1.0], rows, PPO(), normalizer=Normalizer.local(rows))
    assert not out.loss.requires_grad
    assert out.loss.item() == -1
    with torch.inference_mode():
        assert policy_loss(LogProbs(theta), [1.0], rows, PPO(), normalizer=Normalizer.local(rows)).loss.item() == -1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.data())
def test_any_split_by_rows_gives_the_same_gradient_and_metrics(make_batch, seed, data):
    """Of a separable objective; rollouts whose rows are in several parts are known by the normalizer."""
    b = make_batch(seed)
    rows, per_row = b.rows, b.advantages[b.rows.rollouts.index]
    norm = Normalizer.local(rows, prompts=b.prompts)
    aggregation = data.draw(
        st.sampled_from(["token_mean", "seq_mean_token_mean", "rollout_mean_token_mean", "token_sum"])
    )
    options = {"normalizer": norm, "level": "row", "aggregation": aggregation}
    whole = policy_loss(b.logprobs, per_row, rows, PPO(dual_clip=2.0), **options)
    part_of = np.array(data.draw(st.lists(st.integers(0, 2), min_size=6, max_size=6)))
    parts, total = [], torch.zeros_like(b.theta)
    for part in range(3):
        picked = np.flatnonzero(part_of == part)
        at = np.concatenate([np.arange(rows.offsets[i], rows.offsets[i + 1]) for i in picked] or [[]]).astype(np.int64)
        logprobs = LogProbs(b.theta[at], b.prox[at])
        out = policy_loss(logprobs, per_row[picked], rows.take(picked), PPO(dual_clip=2.0), **options)
        total += gradient(out.loss, b.theta)
        parts.append(out.metrics)
    torch.testing.assert_close(total, gradient(whole.loss, b.theta), rtol=1e-13, atol=1e-15)
    assert LossMetrics.merge(parts).to_dict() == pytest.approx(whole.metrics.to_dict(), rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("steps", [1, 4])
def test_gradient_accumulation(steps):
    """The trainer divides each loss by the number of micro-batches; the normalizer knows."""
    rows = Rows(["a", "b", "c"], [3, 1, 2])
    theta = torch.linspace(-2, 0, 6, dtype=torch.float64, requires_grad=True)
    a = np.array([1.0, -1.0, 0.5])
    norm = Normalizer.local(rows)
    expected = gradient(policy_loss(LogProbs(theta), a, rows, PPO(), normalizer=norm).loss, theta)
    under = norm.under(accumulation=steps)
    for row, at in enumerate(theta.split([3, 1, 2])):
        out = policy_loss(LogProbs(at), a[[row]], rows.take([row]), PPO(), normalizer=under)
        (out.loss / steps).backward()
    torch.testing.assert_close(theta.grad, expected)


def test_an_objective_of_ones_own(make_batch):
    @dataclass(frozen=True)
    class Reinforce(Objective):
        def token_loss(self, tokens):
            slope = -tokens.advantages
            return TokenLoss(loss=slope * tokens.theta, gradient=tokens.weighted(slope))

    b = make_batch(4)
    mask = 1 if b.rows.mask is None else b.rows.mask
    norm = Normalizer.local(b.rows)
    out = policy_loss(b.logprobs, b.advantages, b.rows, Reinforce(), normalizer=norm, level="rollout")
    expected = -b.rows.expand(b.advantages).values * mask / b.rows.trained.sum()
    np.testing.assert_allclose(gradient(out.loss, b.theta), expected)
    with pytest.raises(NotImplementedError, match=r"Objective must define token_loss\(self, tokens\)"):
        policy_loss(b.logprobs, b.advantages, b.rows, Objective(), normalizer=norm, level="rollout")


def test_backward_again_and_again():
    rows = Rows(["a", "b"], [2, 3])
    theta = torch.tensor([-1.0, -2.0, -1.0, -2.0, -3.0], requires_grad=True)
    out = policy_loss(LogProbs(theta), [1.0, 2.0], rows, PPO(), normalizer=Normalizer.local(rows))
    once = torch.tensor([-1.0, -1.0, -2.0, -2.0, -2.0]) / 5
    for n in range(1, 5):
        out.loss.backward(retain_graph=True)
        torch.testing.assert_close(theta.grad, n * once)
    theta.grad.zero_()  # as an optimiser or a clip would, in place
    out.loss.backward()
    torch.testing.assert_close(theta.grad, once)


def test_no_second_derivative(make_batch):
    b = make_batch(4)
    out = policy_loss(b.logprobs, b.advantages, b.rows, PPO(), normalizer=Normalizer.local(b.rows), level="rollout")
    with pytest.raises(RuntimeError, match=r"policy_loss\(\) has no second derivative"):
        torch.autograd.grad(out.loss, b.theta, create_graph=True)


ROWS = Rows(["a", "b", "a"], [3, 1, 2])
X = torch.zeros(6)


def call(logprobs=LogProbs(X), rows=ROWS, objective=PPO(), **options):  # noqa: B008
    return policy_loss(logprobs, [1.0, 2.0], rows, objective, **({"normalizer": Normalizer.local(ROWS)} | options))


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"logprobs": X}, TypeError, r"'logprobs' must be LogProbs\(theta=..., prox=...\), got a 1-D float32 array"),
        ({"rows": [3, 1, 2]}, TypeError, "'rows' must be Rows, got an object of type list"),
        ({"objective": PPO}, TypeError, r"'objective' must be an Objective, such as PPO\(\), got the class PPO"),
        ({"objective": "ppo"}, TypeError, "'objective' must be an Objective, .* got an object of type str"),
        ({"kl": 0.01}, TypeError, r"'kl' must be a KL term, such as KL\(0.01\), got an object of type float"),
        (
            {"correction": 2.0},
            TypeError,
            r"'correction' must be a Correction or a tuple of them \(objects with coupled and weigh\), got .* float",
        ),
        ({"entropy": X}, TypeError, "'entropy' must be an EntropyBonus, got a 1-D float32 array"),
        (
            {"entropy": EntropyBonus(X[:5], coef=0.1)},
            ValueError,
            r"'entropy' must have values of shape \(6,\) on cpu, as theta, got \(5,\) on cpu",
        ),
        (
            {"entropy": EntropyBonus(X.to("meta"), coef=0.1)},
            ValueError,
            r"'entropy' must have values of shape \(6,\) on cpu, as theta, got \(6,\) on meta",
        ),
        ({"aggregation": "mean"}, ValueError, "'aggregation' must be one of 'token_mean', 'token_sum', .*, got 'mean'"),
        ({"aggregation": 3}, TypeError, "'aggregation' must be a name or an Aggregation, got an object of type int"),
        ({"normalizer": 6}, TypeError, r"'normalizer' must be a Normalizer \(see Normalizer.local\), got"),
        (
            {"normalizer": Normalizer(tokens=5, rows=3, rollouts=2)},
            ValueError,
            "'normalizer' must count the whole step: normalizer.tokens is 5, but these rows alone have 6 trained",
        ),
        (
            {"normalizer": Normalizer.local(Rows(["a", "z"], [5, 9]))},
            ValueError,
            "'normalizer' must be that of the batch of these rows, but rollout 'b' is not in it",
        ),
        (
            {"logprobs": LogProbs(torch.zeros(5))},
            ValueError,
            r"'logprobs' must have shape \(6,\) \(= positions of rows\) or \(3, T\) with T of at least 3 .* got \(5,\)",
        ),
        ({"logprobs": LogProbs(torch.zeros(3, 2))}, ValueError, r"'logprobs' must have shape .* got \(3, 2\)"),
        ({"logprobs": LogProbs(torch.zeros(2, 9))}, ValueError, r"'logprobs' must have shape .* got \(2, 9\)"),
    ],
)
def test_errors(arguments, error, match):
    with pytest.raises(error, match=rf"policy_loss\(\): {match}"):
        call(**arguments)


@pytest.mark.parametrize(
    ("result", "error", "match"),
    [
        (3, TypeError, "must return a TokenLoss from its token_loss, got an object of type int"),
        (("loss", torch.ones(1)), ValueError, r"must give 'loss' of shape \(6,\) \(= trained tokens\), got \(1,\)"),
        (("gradient", 2.0), ValueError, r"must give 'gradient' of shape \(6,\) .*, got float"),
    ],
)
@pytest.mark.parametrize("name", ["objective", "kl"])
def test_what_an_objective_returns_does_not_broadcast(name, result, error, match):
    class Mine(Objective):
        def token_loss(self, tokens):
            right = PPO().token_loss(tokens)
            return right._replace(**dict([result])) if isinstance(result, tuple) else result

    with pytest.raises(error, match=rf"policy_loss\(\): '{name}' {match}"):
        call(**{name: Mine()})


@pytest.mark.parametrize(
    ("counts", "error", "match"),
    [
        ({"mine": 1.0}, TypeError, r"must give the count 'mine' as a 0-d tensor on cpu.*got an object of type float"),
        ({"mine": X}, TypeError, r"must give the count 'mine' as a 0-d tensor .* got a 1-D float32 array on cpu"),
        (3, TypeError, r"must give its counts as a mapping from names to 0-d tensors, got an object of type int"),
        ({"loss": X.sum()}, ValueError, r"must not name a count 'loss': the loss has a metric of this name already"),
        ({"kl_loss": X.sum()}, ValueError, "must not name a count 'kl_loss'"),
    ],
)
@pytest.mark.parametrize("name", ["objective", "kl"])
def test_counts_that_are_no_metrics(name, counts, error, match):
    class Mine(Objective):
        def token_loss(self, tokens):
            return PPO().token_loss(tokens)._replace(counts=counts)

    with pytest.raises(error, match=rf"policy_loss\(\): '{name}' {match}"):
        call(**{name: Mine()})


def test_two_terms_that_count_under_one_name():
    logprobs = LogProbs(X, prox=X - 0.5, ref=X + 0.25)
    metrics = call(logprobs, objective=KL(1.0, kind="k2"), kl=KL(0.1, kind="k2", against="prox")).metrics
    assert metrics["kl"] == pytest.approx(0.25**2 / 2)
    assert metrics["kl_2"] == pytest.approx(0.5**2 / 2)


@dataclass(frozen=True)
class MeanSquare(Objective):
    """Half the square of the mean log-probability of the rollout."""

    coupling = "sequence"

    def token_loss(self, tokens):
        mean = tokens.spread(tokens.reduce(tokens.theta, "rollout"), "rollout")
        return TokenLoss(mean * mean / 2, tokens.share(tokens.weighted(mean), "rollout"))


@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_kl_term_that_is_coupled_sees_whole_rollouts(make_batch, use_piece, size):
    b = make_batch(1, n_rows=9)
    given = {"normalizer": Normalizer.local(b.rows), "level": "rollout"}
    with use_piece(size):
        alone = policy_loss(b.logprobs, b.advantages, b.rows, MeanSquare(), **given)
        added = policy_loss(b.logprobs, 0 * b.advantages, b.rows, PPO(), kl=MeanSquare(), **given)
    torch.testing.assert_close(added.loss, alone.loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient(added.loss, b.theta), gradient(alone.loss, b.theta), rtol=1e-12, atol=1e-15)


def test_a_kl_term_that_is_coupled_is_not_compiled():
    with pytest.raises(ValueError, match=r"'compiled' takes objectives, KL terms and corrections that look at one tok"):
        call(kl=MeanSquare(), compiled=True)

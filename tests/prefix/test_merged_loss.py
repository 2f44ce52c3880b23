"""merged_loss: the hand vector, policy_loss of the gathered log-probabilities, and which objectives it may take."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loss_objectives import ALL, exported, made

torch = pytest.importorskip("torch")

from rollmath import Forest, LogProbs, Rows  # noqa: E402
from rollmath.loss import (  # noqa: E402
    GSPO,
    KL,
    PPO,
    ClipCov,
    Gate,
    ImportanceWeight,
    Normalizer,
    Objective,
    Quadratic,
    Staleness,
    TokenLoss,
    Tokens,
    policy_loss,
)
from rollmath.prefix import merged_loss, pack  # noqa: E402

SEPARABLE = sorted(exported("separable").keys() - {"KL"})
WAYS = [(name, way) for name, way in ALL if name in SEPARABLE]
HOMOGENEOUS = [(name, way) for name, way in WAYS if made(name).homogeneous]


def test_the_vector(vectors, oracle):
    given = vectors("structured")["clipped_merge"]
    batch = pack(Forest.from_sequences([9, 1, 9, 1, 9, 1], [0, 2, 4, 6], groups=[0] * 3, prompt_lengths=[1] * 3))
    rows = Rows(batch.rollouts, batch.lengths)
    theta = torch.tensor([-0.5], dtype=torch.float64, requires_grad=True)
    logprobs = LogProbs(theta, theta.detach() - np.log(given["ratio"]))
    objective = PPO(clip=given["clip"])
    out = merged_loss(
        logprobs, given["adv"], batch, rows, objective, normalizer=Normalizer.local(rows), aggregation="token_sum"
    )
    assert -out.loss.item() == pytest.approx(given["flat"], abs=1e-7)
    arguments = ([given["ratio"]], [[0, 1, 2]], given["adv"], [1, 1, 1], given["clip"])
    assert out.loss.item() == pytest.approx(oracle("prefix/merged_loss.py", "merged_loss")(*arguments), abs=1e-12)
    naive = oracle("prefix/merged_loss.py", "naive_loss")(*arguments)
    assert -naive == pytest.approx(given["naive"], abs=1e-7)


@pytest.mark.parametrize(("name", "way"), WAYS)
def test_which_objectives_are_homogeneous(name, way):
    """``L(c A) = c L(A)`` and its derivative, for both signs: exactly those that say so."""
    objective, rng = made(name, way), np.random.default_rng(0)
    columns = [torch.from_numpy(x) for x in rng.normal(size=(5, 2000))]
    a = columns[0].clamp(-1, 1)

    def at(scale):
        theta, prox, behaviour, ref = (-x.abs() - 0.01 for x in columns[1:])
        out = objective.token_loss(Tokens.of(theta, a * scale, prox=prox, behaviour=behaviour, ref=ref))
        return torch.stack([out.loss, out.gradient])

    whole = at(1.0)
    same = all(torch.allclose(at(c), whole * c, rtol=1e-12, atol=1e-300) for c in (0.5, 0.125, 0.3))
    assert objective.homogeneous == same


def setting(case, *, gaps, dtype=torch.float64):
    """Log-probabilities of targets and of rollouts, that agree; rows, advantages and a normalizer."""
    batch, rows = case.batch, case.rows(gaps=gaps)
    made = torch.from_numpy(case.rng.normal(scale=0.6, size=(3, batch.n_targets)))
    theta = (-3 * torch.from_numpy(case.rng.random(batch.n_targets))).to(dtype).requires_grad_()
    others = [(theta.detach() + x).to(dtype) for x in made]
    advantages = case.rng.normal(size=rows.n_rollouts)
    return batch, rows, theta, others, advantages, Normalizer.local(rows, prompts=case.groups)


def both(batch, rows, theta, others, advantages, normalizer, objective, **given):
    """(loss, gradient) merged and gathered."""
    out = merged_loss(LogProbs(theta, *others), advantages, batch, rows, objective, normalizer=normalizer, **given)
    wide = LogProbs(batch.gather(theta).values, *(batch.gather(x).values for x in others))
    expected = policy_loss(wide, advantages, rows, objective, normalizer=normalizer, **given)
    return [(x, torch.autograd.grad(x.loss, theta)[0]) for x in (out, expected)]


@given(
    st.integers(0, 2**32),
    st.sampled_from(HOMOGENEOUS),
    st.booleans(),
    st.sampled_from(["token_mean", "seq_mean_token_mean", "rollout_mean_token_sum", "prompt_mean_token_mean"]),
)
def test_it_is_the_gathered_loss(make_case, seed, chosen, gaps, aggregation):
    case = make_case(seed)
    given = {"aggregation": aggregation, "level": "rollout", "kl": KL(0.1, kind="k3") if seed % 3 else None}
    if seed % 2:
        given["correction"] = (ImportanceWeight(2.0), Gate("k3", 1.0, level="token", when="negative_advantage"))
    (out, g), (expected, wanted) = both(*setting(case, gaps=gaps), made(*chosen), **given)
    assert out.loss.item() == pytest.approx(expected.loss.item(), rel=1e-12, abs=1e-13)
    torch.testing.assert_close(g, wanted, rtol=1e-12, atol=1e-13)
    for name in out.metrics:
        assert out.metrics[name].item() == pytest.approx(expected.metrics[name].item(), rel=1e-12, abs=1e-13)


@given(st.integers(0, 2**32))
def test_the_oracle(oracle, make_case, seed):
    case = make_case(seed)
    batch, rows, theta, others, advantages, normalizer = setting(case, gaps=True)
    out = merged_loss(LogProbs(theta, others[0]), advantages, batch, rows, PPO(), normalizer=normalizer, level="row")
    trained = [[] for _ in range(batch.n_targets)]
    for r, row in enumerate(batch.gather(np.arange(batch.n_targets, dtype=float))):
        start = int(rows.offsets[r])
        for k, target in enumerate(row.tolist()):
            if rows.mask is None or rows.mask[start + k]:
                trained[int(target)].append(r)
    ratios = (theta.detach() - others[0]).exp().tolist()
    weights = [1 / max(normalizer.tokens, 1)] * rows.n_rows
    expected = oracle("prefix/merged_loss.py", "merged_loss")(ratios, trained, advantages.tolist(), weights, 0.2)
    assert out.loss.item() == pytest.approx(expected, rel=1e-11, abs=1e-13)


def test_values_of_every_level_and_dtype(make_case):
    case = make_case(4, prompts=True)
    batch, rows, theta, others, advantages, normalizer = setting(case, gaps=True)
    common = (batch, rows, theta, others)
    per_token = case.rng.normal(size=int(rows.offsets[-1]))
    for a, level in ((torch.tensor(advantages), "row"), (per_token, "token"), (rows.expand(advantages), None)):
        (out, g), (expected, wanted) = both(*common, a, normalizer, PPO(), level=level)
        assert out.loss.item() == pytest.approx(expected.loss.item(), rel=1e-12)
        torch.testing.assert_close(g, wanted, rtol=1e-12, atol=1e-14)
    narrow = setting(make_case(4, prompts=True), gaps=True, dtype=torch.float32)
    (out, g), (expected, wanted) = both(*narrow, PPO(), level="row")
    assert out.loss.dtype == g.dtype == torch.float32
    torch.testing.assert_close(g, wanted, rtol=1e-5, atol=1e-7)
    # The scale of the trainer.
    (out, g), (expected, wanted) = both(*common, advantages, normalizer.under(accumulation=4), PPO(), level="row")
    torch.testing.assert_close(g, wanted, rtol=1e-12, atol=1e-14)
    assert out.loss.item() == pytest.approx(expected.loss.item(), rel=1e-12)


def test_tokens_that_nobody_trains_are_not_read():
    batch = pack(Forest.from_sequences([9, 1, 2, 9, 1, 3], [0, 3, 6], groups=[0, 0], prompt_lengths=[1, 1]))
    rows = Rows([0, 1], batch.lengths, mask=[0, 1, 0, 0])
    theta = torch.tensor([torch.nan, -1.0, -torch.inf], requires_grad=True)
    out = merged_loss(LogProbs(theta), [1.0, -1.0], batch, rows, PPO(), normalizer=Normalizer.local(rows), level="row")
    out.loss.backward()
    assert (out.loss.item(), theta.grad.tolist()) == (-1.0, [0.0, -1.0, 0.0])
    nothing = Rows([0, 1], batch.lengths, mask=[0] * 4)
    out = merged_loss(
        LogProbs(theta), [1.0, -1.0], batch, nothing, PPO(), normalizer=Normalizer.local(nothing), level="row"
    )
    assert out.loss.item() == 0.0


def test_the_weights_of_nodes_and_of_copies(make_case):
    """Without gaps the sums are those of nodes, else those of copies; for a part of a forest too, and many pieces."""
    case = make_case(2, rollouts=40, n_groups=6, longest=30, prompts=True)
    batch = case.batch.take([3, 0, 4])
    rows = Rows(batch.rollouts, batch.lengths)
    normalizer, theta = Normalizer.local(rows), -torch.rand(batch.n_targets, dtype=torch.float64)
    a = case.rng.normal(size=rows.n_rows).round(0)
    given = {"normalizer": normalizer, "kl": KL(0.1), "aggregation": "seq_mean_token_mean"}
    others = [theta + 0.5 * torch.randn_like(theta) for _ in range(3)]

    def gradient(advantages, level):
        x = theta.clone().requires_grad_()
        out = merged_loss(LogProbs(x, *others), advantages, batch, rows, PPO(), level=level, **given)
        return out.loss.detach(), torch.autograd.grad(out.loss, x)[0]

    assert case.forest.n_nodes <= rows.offsets[-1]
    by_node, by_copy = gradient(a, "row"), gradient(rows.expand(a), "token")
    torch.testing.assert_close(by_node, by_copy, rtol=1e-12, atol=1e-14)
    assert by_node[1].count_nonzero() > len(theta) / 2


def test_what_is_not_a_number_is_seen(make_case):
    """Advantages of trained rows must be finite; a NaN log-probability shows even where no advantage does."""
    batch = pack(Forest.from_sequences([9, 1, 2, 9], [0, 3, 4], groups=[0, 0], prompt_lengths=[1, 1]))
    rows = Rows([0, 1], batch.lengths)
    given = {"normalizer": Normalizer.local(rows), "level": "row"}
    theta = torch.tensor([-1.0, torch.nan])
    out = merged_loss(LogProbs(theta), [0.0, torch.nan], batch, rows, PPO(), **given)  # the second row has no token
    assert out.loss.isnan()
    with pytest.raises(ValueError, match=r"merged_loss\(\): 'advantages' must be finite"):
        merged_loss(LogProbs(theta), [torch.nan, 0.0], batch, rows, PPO(), **given)


class Squared(Objective):
    """Not proportional to A, and does not say so."""

    def token_loss(self, tokens):
        return TokenLoss(tokens.advantages**2 * tokens.theta, tokens.weighted(tokens.advantages**2))


class Warped(PPO):
    """Another loss than PPO's; that one being homogeneous says nothing about it."""

    def token_loss(self, tokens):
        return super().token_loss(tokens.with_advantages(tokens.advantages**3))


WRONG = [
    ({"objective": GSPO()}, ValueError, r"'objective' must look at one token at a time, but GSPO is sequence-coupled"),
    ({"objective": ClipCov()}, ValueError, r"'objective' must look at .*, but ClipCov is batch-coupled; take policy_l"),
    (
        {"objective": Quadratic(0.5)},
        ValueError,
        r"'objective' must be proportional to the size of the advantage \(homogeneous\), but Quadratic is not; take",
    ),
    ({"objective": Squared()}, ValueError, r"'objective' must be proportional .*, but Squared is not"),
    ({"objective": Warped()}, ValueError, r"'objective' must be proportional .*, but Warped is not"),
    ({"objective": "ppo"}, TypeError, r"'objective' must be an Objective, such as PPO\(\), got an object of type str"),
    ({"kl": GSPO()}, ValueError, r"'kl' must look at one token at a time"),
    ({"kl": 0.1}, TypeError, r"'kl' must be a KL term"),
    ({"correction": Gate("k1", 1.0, level="row")}, ValueError, r"'correction' must look at one token at a time"),
    ({"correction": Staleness(3, 1)}, ValueError, r"'correction' must not look at versions, which differ between cop"),
    ({"rows": Rows([0, 1], [1, 2])}, ValueError, r"'rows' must have the offsets of the batch, one row a rollout; take"),
    ({"rows": None}, TypeError, r"'rows' must be Rows"),
    ({"batch": 3}, TypeError, r"'batch' must be a PrefixBatch \(see rollmath.prefix.pack\)"),
    (
        {"logprobs": LogProbs(torch.zeros(4))},
        ValueError,
        r"'logprobs' must have shape \(3,\) \(= n_targets\), got \(4,",
    ),
    ({"logprobs": torch.zeros(3)}, TypeError, r"'logprobs' must be LogProbs"),
    ({"advantages": [1.0, 2.0, 3.0]}, ValueError, r"'advantages' must have shape"),
    ({"advantages": [1.0, np.nan]}, ValueError, r"'advantages' must be finite"),
    ({"aggregation": "mean"}, ValueError, r"'aggregation' must be one of"),
]


@pytest.mark.parametrize(("changed", "error", "text"), WRONG, ids=range(len(WRONG)))
def test_wrong_calls(changed, error, text):
    batch = pack(Forest.from_sequences([9, 1, 2, 9, 1, 3], [0, 3, 6], groups=[0, 0], prompt_lengths=[1, 1]))
    rows = Rows([0, 1], batch.lengths)
    given = {
        "logprobs": LogProbs(torch.zeros(3)), "advantages": [1.0, -1.0], "batch": batch, "rows": rows,
        "objective": PPO(), "level": "row",
    } | changed  # fmt: skip
    positional = [given.pop(name) for name in ("logprobs", "advantages", "batch", "rows", "objective")]
    with pytest.raises(error, match=r"merged_loss\(\): " + text):
        merged_loss(*positional, normalizer=Normalizer.local(rows), **given)


def test_a_first_token_cannot_be_trained():
    batch = pack(Forest.from_sequences([1, 2, 1, 3], [0, 2, 4], groups=[0, 0]))
    text = r"merged_loss\(\): 'rows' must not train the first token of a rollout, which nothing predicts; mask it, or"
    for rows in (Rows([0, 1], batch.lengths), Rows([0, 1], batch.lengths, mask=[1, 1, 0, 1])):
        with pytest.raises(ValueError, match=text):
            merged_loss(
                LogProbs(torch.zeros(2)), [1.0, 1.0], batch, rows, PPO(), normalizer=Normalizer.local(rows), level="row"
            )

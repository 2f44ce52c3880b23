"""loss.policy_loss: values, gradients, what is read, splits."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from rollmath import LogProbs, Ragged, Rows  # noqa: E402
from rollmath.loss import PPO, Normalizer, policy_loss  # noqa: E402


def batch(seed, n_rows=5, dtype=torch.float64):
    """Rows with gaps and empty rows, and log-probabilities that are far apart."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 5, n_rows)
    total = int(lengths.sum())
    rows = Rows(rng.integers(0, 3, n_rows), lengths, mask=rng.random(total) < 0.7)
    theta = torch.tensor(-3 * rng.random(total), dtype=dtype, requires_grad=True)
    prox = torch.tensor(theta.detach().numpy() + 0.5 * rng.standard_normal(total), dtype=dtype)
    return rows, theta, prox, rng.standard_normal(rows.n_rollouts)


def gradient(loss, theta):
    return torch.autograd.grad(loss, theta)[0]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_agrees_with_the_oracle(oracle, seed, dual):
    rows, theta, prox, a = batch(seed)
    options = {"clip": (0.2, 0.28), "dual_clip": 1.5 if dual else None}
    norm = Normalizer.local(rows)
    out = policy_loss(LogProbs(theta, prox), a, rows, PPO(**options), normalizer=norm, level="rollout")
    lists = [Ragged(x, rows.offsets).to_lists() for x in (theta.detach().numpy(), prox.numpy(), rows.mask)]
    per_token = rows.expand(a).to_lists()
    loss, expected = oracle("loss/policy_loss.py", "policy_loss")(
        lists[0], lists[1], per_token, lists[2], norm.tokens, **options
    )
    assert out.loss.item() == pytest.approx(loss, rel=1e-12, abs=1e-14)
    flat = np.array([x for row in expected for x in row])
    np.testing.assert_allclose(gradient(out.loss, theta), flat, rtol=1e-12, atol=1e-14)


def test_gradcheck():
    rows, theta, prox, a = batch(3)
    norm = Normalizer.local(rows)

    def loss(x):
        out = policy_loss(LogProbs(x, prox), a, rows, PPO(dual_clip=3.0), normalizer=norm, level="rollout")
        return 2 * out.loss

    assert torch.autograd.gradcheck(loss, (theta,), eps=1e-7, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.data())
def test_any_split_by_rows_gives_the_same_gradient(seed, data):
    rows, theta, prox, a = batch(seed, n_rows=6)
    per_row = a[rows.rollouts.index]
    norm = Normalizer.local(rows)
    objective = PPO(dual_clip=2.0)
    whole = policy_loss(LogProbs(theta, prox), per_row, rows, objective, normalizer=norm, level="row")
    part_of = np.array(data.draw(st.lists(st.integers(0, 2), min_size=6, max_size=6)))
    parts, total = [], torch.zeros_like(theta)
    for part in range(3):
        picked = np.flatnonzero(part_of == part)
        at = np.concatenate([np.arange(rows.offsets[i], rows.offsets[i + 1]) for i in picked] or [[]]).astype(np.int64)
        sub = theta[at]
        out = policy_loss(
            LogProbs(sub, prox[at]), per_row[picked], rows.take(picked), objective, normalizer=norm, level="row"
        )
        total += gradient(out.loss, theta)
        parts.append(out)
    torch.testing.assert_close(total, gradient(whole.loss, theta), rtol=1e-13, atol=1e-15)
    for name in ("loss", "clip_fraction", "dual_clip_fraction", "approx_kl", "ratio_mean"):
        added = sum(getattr(out, name).item() for out in parts)
        assert added == pytest.approx(getattr(whole, name).item(), rel=1e-12, abs=1e-14)
    assert max(out.ratio_max for out in parts) == whole.ratio_max


def test_levels_agree():
    rows, theta, prox, a = batch(11)
    norm, lp = Normalizer.local(rows), LogProbs(theta, prox)
    per_row = a[rows.rollouts.index]
    tokens = rows.expand(a)
    padded = tokens.to_padded(7)
    same = [
        policy_loss(lp, x, rows, PPO(), normalizer=norm, level=level).loss
        for x, level in [
            (a, "rollout"),
            (a.tolist(), "rollout"),
            (per_row, "row"),
            (torch.tensor(per_row), "row"),
            (tokens, None),
            (tokens.values, "token"),
            (torch.tensor(tokens.values), "token"),
            (padded, None),
            (torch.tensor(padded), "token"),
        ]
    ]
    assert all(torch.equal(x, same[0]) for x in same)


def test_padded_and_packed_agree():
    rows, theta, prox, a = batch(5)
    norm = Normalizer.local(rows)
    packed = policy_loss(LogProbs(theta, prox), a, rows, PPO(), normalizer=norm)

    def pad(x):
        return Ragged(x.detach(), rows.offsets).to_padded(9, fill=float("nan"))

    wide = pad(theta).requires_grad_()
    out = policy_loss(LogProbs(wide, pad(prox)), a, rows, PPO(), normalizer=norm)
    assert torch.equal(out.loss, packed.loss)
    g = Ragged.from_padded(gradient(out.loss, wide), lengths=rows.lengths).values
    assert torch.equal(g, gradient(packed.loss, theta))


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
def test_gaps_and_padding_are_not_read(poison):
    rows = Rows(["a", "b"], [3, 1], mask=[1, 0, 1, 1])
    theta = torch.tensor([[-1.0, poison, -2.0], [-1.0, poison, poison]], requires_grad=True)
    prox = torch.tensor([[-1.5, poison, -2.0], [-1.0, poison, poison]])
    a = torch.tensor([[1.0, poison, 1.0], [-1.0, poison, poison]])
    out = policy_loss(LogProbs(theta, prox), a, rows, PPO(), normalizer=Normalizer.local(rows))
    g = gradient(out.loss, theta)
    assert all(torch.isfinite(x) for x in out)
    assert g[0, 1] == g[1, 1] == g[1, 2] == 0
    assert torch.isfinite(g).all()


def test_on_policy_ratio_is_one():
    rows = Rows([0, 1], [2, 3])
    theta = torch.randn(5, requires_grad=True)
    out = policy_loss(LogProbs(theta), [1.0, -2.0], rows, PPO(), normalizer=Normalizer.local(rows))
    assert out.ratio_mean == out.ratio_max == 1
    assert out.approx_kl == out.clip_fraction == 0
    torch.testing.assert_close(gradient(out.loss, theta), torch.tensor([-1.0, -1, 2, 2, 2]) / 5)


def test_metrics():
    rows = Rows([0, 1], [2, 1])
    rho = torch.tensor([1.3, 1.0, 4.0], dtype=torch.float64)
    lp = LogProbs(rho.log(), torch.zeros(3, dtype=torch.float64))
    out = policy_loss(lp, [1.0, -1.0], rows, PPO(dual_clip=3.0), normalizer=Normalizer.local(rows))
    assert out.clip_fraction.item() == pytest.approx(1 / 3)
    assert out.dual_clip_fraction.item() == pytest.approx(1 / 3)
    assert out.approx_kl.item() == pytest.approx((rho - 1 - rho.log()).mean().item())
    assert out.ratio_mean.item() == pytest.approx(2.1)
    assert out.ratio_max.item() == pytest.approx(4)
    assert not out.loss.requires_grad


@pytest.mark.parametrize("tokens", [0, 8])
def test_nothing_trained(tokens):
    rows = Rows(["a", "a"], [2, 0], mask=[0, 0])
    theta = torch.full((2,), float("nan"), requires_grad=True)
    norm = Normalizer(tokens=tokens, rows=0, rollouts=0)
    out = policy_loss(LogProbs(theta), [1.0], rows, PPO(), normalizer=norm)
    assert [x.item() for x in out] == [0] * 6
    assert gradient(out.loss, theta).tolist() == [0, 0]


def test_no_rows():
    theta = torch.zeros(0, requires_grad=True)
    rows = Rows([], [])
    out = policy_loss(LogProbs(theta), [], rows, PPO(), normalizer=Normalizer.local(rows))
    assert out.loss.item() == 0
    assert gradient(out.loss, theta).shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes(dtype):
    rows = Rows([0, 1], [2, 1])
    theta = torch.tensor([-1.0, -2.0, -3.0], dtype=dtype, requires_grad=True)
    out = policy_loss(LogProbs(theta), np.array([1.0, -1.0]), rows, PPO(), normalizer=Normalizer.local(rows))
    expected = torch.float64 if dtype == torch.float64 else torch.float32
    assert all(x.dtype == expected and x.dim() == 0 for x in out)
    assert gradient(out.loss, theta).dtype == dtype


def test_float32_is_close_to_float64():
    rows, theta, prox, a = batch(2, n_rows=400)
    norm = Normalizer.local(rows)
    wide = policy_loss(LogProbs(theta, prox), a, rows, PPO(), normalizer=norm)
    narrow = policy_loss(LogProbs(theta.float(), prox.float()), a, rows, PPO(), normalizer=norm)
    assert narrow.loss.item() == pytest.approx(wide.loss.item(), rel=1e-6, abs=1e-7)


def test_read_only_and_integer_advantages():
    rows = Rows([0, 1], [2, 1])
    a = np.array([1, -1])
    a.setflags(write=False)
    norm = Normalizer.local(rows)
    out = policy_loss(LogProbs(torch.zeros(3)), a, rows, PPO(), normalizer=norm)
    assert out.loss.item() == pytest.approx(-1 / 3)
    assert policy_loss(LogProbs(torch.zeros(3)), torch.tensor([1, -1]), rows, PPO(), normalizer=norm).loss == out.loss


def test_an_objective_of_ones_own():
    class Reinforce:
        def token_loss(self, theta, prox, advantages):
            out = PPO(clip=(1.0, float("inf"))).token_loss(theta, theta, advantages)
            return out._replace(loss=-advantages * theta, coefficient=-advantages)

    rows, theta, prox, a = batch(4)
    out = policy_loss(LogProbs(theta, prox), a, rows, Reinforce(), normalizer=Normalizer.local(rows))
    expected = -rows.expand(a).values * rows.mask / rows.trained.sum()
    np.testing.assert_allclose(gradient(out.loss, theta), expected)


def test_no_second_derivative():
    rows, theta, prox, a = batch(4)
    out = policy_loss(LogProbs(theta, prox), a, rows, PPO(), normalizer=Normalizer.local(rows))
    with pytest.raises(RuntimeError, match=r"policy_loss\(\) has no second derivative"):
        torch.autograd.grad(out.loss, theta, create_graph=True)

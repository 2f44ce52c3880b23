"""What other trainers' losses, scans and statistics got wrong, asked of ours (the table is in docs/kernels.md)."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import rollmath as rm  # noqa: E402
from rollmath.loss import KL, PPO, Normalizer, _fused, _policy_loss, policy_loss  # noqa: E402
from rollmath.loss._call import Result  # noqa: E402
from rollmath.ops import _device_rows  # noqa: E402

LENGTHS = [5, 1, 0, 130, 64]
#: The interpreter computes in NumPy, which warns where a GPU just gives infinity or NaN.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.fixture(params=["kernels", "host"])
def place(request, device, monkeypatch):
    """Where losses and scans are computed: by the kernels (in the interpreter without a GPU), or on the CPU."""
    if request.param == "host":
        return "cpu"

    def evaluate(call):
        found = _fused.fused(call)
        assert isinstance(found, Result), found
        return found

    if device == "cpu":
        monkeypatch.setattr(_policy_loss, "evaluate", evaluate)
        monkeypatch.setattr(_device_rows, "INTERPRET", True)
    return device


def on(place, function, *arrays, **options):
    """A function of NumPy arrays, by tensors at a place."""

    def there(x):
        return torch.from_numpy(np.ascontiguousarray(x) if 0 in x.strides else x).to(place)

    options = {k: there(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    made = function(*map(there, arrays), **options)
    return [x.cpu().numpy() for x in made] if isinstance(made, tuple) else made.cpu().numpy()


def tokens(seed, scale=1.0):
    return torch.randn(sum(LENGTHS), generator=torch.Generator().manual_seed(seed)) * scale


def loss_of(theta, mask=None, advantages=None, device="cpu", objective=None, **options):
    rows = rm.Rows([f"r{i}" for i in range(5)], LENGTHS, mask=None if mask is None else mask.tolist())
    leaf = theta.to(device).detach().requires_grad_()
    prox, ref = (tokens(7) * 0.1 - 1).to(device), (tokens(8) * 0.1 - 1).to(device)
    advantages = torch.linspace(-1, 2, 5) if advantages is None else advantages
    out = policy_loss(
        rm.LogProbs(leaf, prox=prox, ref=ref),
        advantages.to(device),
        rows,
        objective or PPO(clip=(0.2, 0.28)),
        normalizer=Normalizer.local(rows),
        kl=KL(0.1),
        **options,
    )
    out.loss.backward()
    return out.loss.detach().cpu(), leaf.grad.cpu()


@pytest.mark.parametrize("garbage", [torch.nan, torch.inf, -torch.inf, 1e30])
def test_masked_tokens_do_not_poison_a_loss(place, garbage):
    # The exponential of garbage times a mask of 0 is NaN.
    theta, mask = tokens(1, 0.1) - 1, torch.rand(sum(LENGTHS), generator=torch.Generator().manual_seed(2)) < 0.6
    loss, grad = loss_of(torch.where(mask, theta, garbage), mask, device=place)
    wanted, grad_wanted = loss_of(torch.where(mask, theta, -1.0), mask, device=place)
    assert torch.equal(loss, wanted)
    assert torch.equal(grad, grad_wanted)
    assert (grad[~mask] == 0).all()


def test_a_loss_has_the_same_bits_again(place):
    theta = tokens(3) * 0.1 - 1
    first = loss_of(theta, device=place)
    for _ in range(3):
        again = loss_of(theta, device=place)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_advantages_of_tokens_and_of_rollouts(place):
    theta, advantages = tokens(4) * 0.1 - 1, torch.linspace(-1, 2, 5)
    each = advantages.repeat_interleave(torch.tensor(LENGTHS))
    one = loss_of(theta, advantages=advantages, device=place, level="rollout")
    other = loss_of(theta, advantages=each, device=place, level="token")
    assert all(torch.allclose(a, b, rtol=1e-6, atol=1e-9) for a, b in zip(one, other, strict=True))


def test_nothing_trained_is_a_loss_of_zero(place):
    loss, grad = loss_of(tokens(5), torch.zeros(sum(LENGTHS), dtype=torch.bool), device=place)
    assert loss == 0
    assert (grad == 0).all()


@pytest.mark.parametrize("offset", [0.0, 1e4, -1e6])
def test_spread_does_not_cancel(offset, place):
    # E[x^2] - E[x]^2 of rewards near a million has no digit left.
    rewards = offset + np.array([0.0, 1.0, 0.0, 0.0, 2.0, 1.0])
    made = rm.group.grpo(rewards, list("aaabbb"))
    wanted = rm.group.grpo(rewards - offset, list("aaabbb"))
    np.testing.assert_allclose(made, wanted, rtol=1e-9)
    values = offset + np.random.default_rng(0).normal(size=(3, 50)).astype(np.float32)
    white = on(place, rm.temporal.whiten, values.astype(np.float64))
    wide = values.astype(np.float64)
    np.testing.assert_allclose(white, (wide - wide.mean()) / np.sqrt(wide.var(ddof=1)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("trained", [0, 1])
def test_statistics_of_no_token_or_one(place, trained):
    # Others branch on the count, which waits for the device, or divide by 0.
    mask = np.zeros((2, 4), dtype=bool)
    mask[0, :trained] = True
    made = on(place, rm.temporal.whiten, np.ones((2, 4), dtype=np.float32), mask=mask)
    assert np.isfinite(made).all()
    assert (made == 0).all()


def recursion(rewards, values, mask, gamma, lam):
    """GAE by its definition over the trained tokens, in float64."""
    out = np.zeros(rewards.shape)
    for row in range(len(rewards)):
        after = carry = 0.0
        for t in reversed(range(rewards.shape[1])):
            if mask[row, t]:
                carry = rewards[row, t] + gamma * after - values[row, t] + gamma * lam * carry
                after, out[row, t] = values[row, t], carry
    return out


def test_scans_of_views(place):
    rng = np.random.default_rng(1)
    wide = rng.normal(size=(2, 40, 6)).astype(np.float32)
    rewards, values, mask = wide[0].T, wide[1, ::2].T, rng.random((12, 20)) < 0.7
    rewards, mask = rewards[:, ::2], mask[::2]
    made = on(place, rm.temporal.gae, rewards * mask, values, gamma=0.99, lam=0.9, mask=mask)[0]
    np.testing.assert_allclose(made, recursion(rewards * mask, values, mask, 0.99, 0.9), atol=1e-5)


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 1.0), (0.999, 0.99), (1.0, 0.0)])
def test_long_rows_keep_their_tail(gamma, lam, place):
    # A geometric kernel that ends at 1e-7, or a decay of blocks, forgets the reward at the end.
    rng = np.random.default_rng(2)
    values, rewards = rng.normal(size=(1, 3000)).astype(np.float32), np.zeros((1, 3000), dtype=np.float32)
    rewards[0, -1] = 1000.0
    mask = rng.random((1, 3000)) < 0.8
    mask[0, -1] = True
    made = on(place, rm.temporal.gae, rewards, values, gamma=gamma, lam=lam, mask=mask)[0]
    wanted = recursion(rewards, values, mask, gamma, lam)
    np.testing.assert_allclose(made, wanted, rtol=2e-6, atol=2e-6 * np.abs(wanted).max())


def test_gaps_change_no_trained_token(place):
    rng = np.random.default_rng(3)
    values, rewards = rng.normal(size=(2, 1, 30)).astype(np.float32)
    kept = np.sort(rng.choice(50, 30, replace=False))
    wide = np.full((2, 1, 50), 9.0, dtype=np.float32)
    mask = np.zeros((1, 50), dtype=bool)
    wide[0, 0, kept], wide[1, 0, kept], mask[0, kept] = values[0], rewards[0], True
    wide[1][~mask] = 0
    options = {"gamma": 0.97, "lam": 0.9}
    whole = on(place, rm.temporal.gae, wide[1], wide[0], mask=mask, **options)[0]
    dense = on(place, rm.temporal.gae, rewards, values, **options)[0]
    np.testing.assert_allclose(whole[:, kept], dense, rtol=1e-6, atol=1e-7)

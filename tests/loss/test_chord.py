"""loss.chord_phi and loss.chord."""

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from rollmath.loss import chord, chord_phi  # noqa: E402

LOGPROBS = st.lists(st.floats(-60, 0.01), max_size=20)
LOSSES = st.floats(-100, 100)


def test_by_hand(vectors):
    v = vectors("flat")["chord"]
    np.testing.assert_allclose(chord_phi(np.log(v["p"])), v["phi"], rtol=1e-14)
    assert chord(2.0, 1.0, mu=0.25) == 1.75


@given(LOGPROBS)
def test_the_oracle(oracle, tolerance, logprobs):
    expected = oracle("loss/chord.py", "chord_phi")(logprobs)
    np.testing.assert_allclose(chord_phi(np.array(logprobs)), expected, **tolerance("float64"))


@given(LOSSES, LOSSES, st.floats(0, 1))
def test_the_oracle_of_the_loss(oracle, tolerance, rl, sft, mu):
    expected = oracle("loss/chord.py", "chord")(rl, sft, mu=mu)
    for call in (chord(rl, sft, mu=mu), chord(torch.tensor(rl, dtype=torch.float64), sft, mu=mu).item()):
        np.testing.assert_allclose(call, expected, **tolerance("float64"))


def test_phi_at_the_ends():
    phi = chord_phi(np.array([0.0, 1e-3, 5.0, -np.inf, -800.0, np.nan]))
    assert phi[:5].tolist() == [0.0] * 5
    assert np.isnan(phi[5])
    # p (1 - p) as floats has eight wrong digits here.
    assert chord_phi([-1e-9])[0] == pytest.approx(1e-9 * (1 - 1.5e-9), rel=1e-15)
    assert chord_phi(np.log([0.5])).max() <= 0.25


def test_phi_is_a_constant_of_the_supervised_loss():
    theta = torch.log(torch.tensor([0.5, 0.9], dtype=torch.float64)).requires_grad_()
    phi = chord_phi(theta)
    assert not phi.requires_grad
    (-phi * theta).sum().backward()
    np.testing.assert_allclose(theta.grad, [-0.25, -0.09], rtol=1e-14)


def test_the_loss_is_differentiable_in_both():
    rl, sft = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (1.5, -2.0))
    assert torch.autograd.gradcheck(lambda a, b: chord(a, b, mu=0.3), (rl, sft))
    out = chord(rl, sft, mu=0.3)
    gradients = torch.autograd.grad(out, (rl, sft))
    assert [g.item() for g in gradients] == [0.7, 0.3]
    (alone,) = torch.autograd.grad(chord(rl, 2.0, mu=0.25), rl)
    assert alone.item() == 0.75


@pytest.mark.parametrize(
    ("rl", "sft", "dtype"),
    [
        (torch.float32, torch.float32, torch.float32),
        (torch.bfloat16, torch.float16, torch.float32),
        (torch.float32, torch.float64, torch.float64),
        (torch.float32, None, torch.float32),
        (None, torch.bfloat16, torch.float32),
        (None, torch.float64, torch.float64),
    ],
)
def test_dtypes(rl, sft, dtype):
    a, b = (2.0 if d is None else torch.tensor(2.0, dtype=d) for d in (rl, sft))
    out = chord(a, b, mu=0.1)
    assert out.dtype == dtype
    assert out.item() == 2.0


def test_numbers_and_limits():
    out = chord(np.float32(2.0), 1, mu=1)
    assert (type(out), out) == (float, 1.0)
    assert chord(3.0, 7.0, mu=0) == 3.0
    assert np.isnan(chord(1.0, float("nan"), mu=0.0))


@given(st.integers(1, 6), st.floats(0, 1))
def test_it_adds_up_over_micro_batches(n, mu):
    rng = np.random.default_rng(n)
    rl, sft = rng.normal(size=(2, n))
    parts = sum(chord(a, b, mu=mu) for a, b in zip(rl, sft, strict=True))
    assert parts == pytest.approx(chord(rl.sum(), sft.sum(), mu=mu), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: chord(1.0, 1.0, mu=1.5), ValueError, r"chord\(\): 'mu' must be between 0 and 1, got 1.5"),
        (lambda: chord(1.0, 1.0, mu=float("nan")), ValueError, "'mu' must be between 0 and 1, got nan"),
        (lambda: chord(1.0, 1.0, mu=torch.tensor(0.5)), TypeError, "'mu' must be a number, got a 0-D float32 array"),
        (
            lambda: chord(torch.ones(2), 1.0, mu=0.5),
            TypeError,
            r"'rl_loss' must be a 0-d float tensor or a number, got",
        ),
        (lambda: chord(1.0, torch.tensor(1), mu=0.5), TypeError, "'sft_loss' must be a 0-d .*, got a 0-D int64 array"),
        (lambda: chord(True, 1.0, mu=0.5), TypeError, "'rl_loss' must be a 0-d float tensor or a number, got True"),
        (lambda: chord(1.0, [1.0], mu=0.5), TypeError, "'sft_loss' must be a number, got an object of type list"),
        (
            lambda: chord(torch.tensor(1.0), torch.tensor(1.0, device="meta"), mu=0.5),
            ValueError,
            r"'sft_loss' must be on cpu \(= rl_loss.device\), got meta",
        ),
    ],
)
def test_errors(call, error, match):
    with pytest.raises(error, match=match):
        call()

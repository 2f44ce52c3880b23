"""loss.hpt_gate and loss.off_policy_shaping."""

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from rollmath import Groups, ops  # noqa: E402
from rollmath.loss import hpt_gate, off_policy_shaping  # noqa: E402

ROWS = st.lists(st.tuples(st.booleans(), st.integers(0, 4), st.booleans()), max_size=24)


def test_by_hand(vectors):
    v = vectors("flat")["hpt"]
    # 8 rollouts a prompt, of which the vector has the share that is correct.
    correct = np.concatenate([np.arange(8) < 8 * p for p in v["P"]])
    ids = np.repeat(np.arange(len(v["P"])), 8)
    gate = hpt_gate(correct, ids, gamma=v["gamma"])
    assert np.stack(gate, axis=1).tolist() == v["alpha_beta"]


@given(ROWS, st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 1.0]), st.booleans(), st.sampled_from([(1.0, 1.0), (0.5, 0.3)]))
def test_the_oracle(oracle, rows, gamma, masked, weights):
    correct, ids, valid = (list(c) for c in zip(*rows, strict=True)) if rows else ([], [], [])
    options = {"gamma": gamma, "rl": weights[0], "sft": weights[1], "valid": valid if masked else None}
    gate = hpt_gate(np.array(correct, dtype=bool), ids, **options)
    expected = oracle("loss/hpt.py", "hpt_gate")(correct, ids, **options)
    assert list(zip(gate.alpha, gate.beta, strict=True)) == expected


@given(ROWS.filter(bool), st.randoms())
def test_the_order_of_rollouts_does_not_matter(rows, random):
    shuffled = random.sample(rows, len(rows))

    def by_prompt(rows):
        correct, ids, _ = zip(*rows, strict=True)
        groups = Groups(list(ids))
        return dict(zip(groups.ids, zip(*hpt_gate(list(correct), groups), strict=True), strict=True))

    assert by_prompt(rows) == by_prompt(shuffled)


def test_the_gate_includes_its_bound():
    # One correct of n: the share is the very float that the caller writes.
    for n in range(1, 60):
        correct, ids = np.arange(n) < 1, np.zeros(n, dtype=int)
        assert hpt_gate(correct, ids, gamma=1 / n).beta.tolist() == [1.0]
        assert hpt_gate(correct, ids, gamma=np.nextafter(1 / n, 0)).beta.tolist() == [0.0]
    assert hpt_gate([1, 1], [0, 0], gamma=1.0).alpha.tolist() == [0.0]


def test_weights_go_to_rollouts():
    groups = Groups(["p", "q", "p", "q"])
    gate = hpt_gate([0, 1, 0, 0], groups, sft=0.3)
    assert ops.gather(gate.alpha, groups).tolist() == [0.0, 1.0, 0.0, 1.0]
    assert ops.gather(gate.beta, groups).tolist() == [0.3, 0.0, 0.3, 0.0]


def test_kinds():
    gate = hpt_gate(torch.tensor([False, True]), torch.tensor([0, 1]))
    assert [x.dtype for x in gate] == [torch.float32] * 2
    assert gate.alpha.tolist() == [0.0, 1.0]
    gate = hpt_gate([0, 2], ["a", "b"])
    assert [x.dtype for x in gate] == [np.float64] * 2
    assert gate._fields == ("alpha", "beta")
    assert [x.tolist() for x in hpt_gate([], [])] == [[], []]


@given(st.lists(st.floats(-60, 0.1), max_size=20), st.sampled_from([0.1, 0.3, 1e-6, 5.0]))
def test_the_oracle_of_the_shaping(oracle, tolerance, logprobs, gamma):
    shaped = off_policy_shaping(np.array(logprobs), gamma=gamma)
    expected = np.array(oracle("loss/hpt.py", "off_policy_shaping")(logprobs, gamma=gamma)).reshape(-1, 2)
    np.testing.assert_allclose(np.stack(shaped, axis=1), expected, **tolerance("float64"))


def test_the_derivative_is_the_derivative():
    theta = torch.linspace(-12, 0, 40, dtype=torch.float64, requires_grad=True)
    shaped = off_policy_shaping(theta)
    assert not shaped.value.requires_grad
    p = theta.exp()
    (autograd,) = torch.autograd.grad((p / (p + 0.1)).sum(), theta)
    np.testing.assert_allclose(shaped.derivative, autograd, rtol=1e-12)
    h = 1e-6
    up, down = (off_policy_shaping(theta.detach() + s * h).value for s in (1, -1))
    np.testing.assert_allclose(shaped.derivative, (up - down) / (2 * h), rtol=1e-6, atol=1e-10)
    # The loss of the docstring: a constant weight on log p.
    advantages = torch.linspace(-1, 2, 40, dtype=torch.float64)
    (surrogate,) = torch.autograd.grad(-(advantages * shaped.derivative * theta).sum(), theta)
    p = theta.exp()
    (exact,) = torch.autograd.grad(-(advantages * p / (p + 0.1)).sum(), theta)
    np.testing.assert_allclose(surrogate, exact, rtol=1e-12)


def test_the_shaping_at_its_ends():
    shaped = off_policy_shaping(np.array([-np.inf, -1e4, np.log(0.1), 800.0, np.nan]))
    np.testing.assert_allclose(shaped.value, [0.0, 0.0, 0.5, 1.0, np.nan], rtol=1e-14)
    np.testing.assert_allclose(shaped.derivative, [0.0, 0.0, 0.25, 0.0, np.nan], rtol=1e-14, atol=1e-300)
    assert shaped.derivative[:4].max() == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: hpt_gate([1, 0], [0]), ValueError, r"hpt_gate\(\): 'correct' must have length 1 \(= len\(groups\)\)"),
        (lambda: hpt_gate([1.0], [0]), TypeError, r"hpt_gate\(\): 'correct' must be bool or integer .*, got float64"),
        (
            lambda: hpt_gate(None, [0]),
            TypeError,
            r"hpt_gate\(\): 'correct' must be bool or integer, one a row, got None",
        ),
        (lambda: hpt_gate([1], [0.5]), TypeError, r"hpt_gate\(\): 'groups' must be strings, ints, UUIDs or tuples"),
        (lambda: hpt_gate([1], [0], gamma=1.5), ValueError, "'gamma' must be between 0 and 1, got 1.5"),
        (lambda: hpt_gate([1], [0], rl=-1.0), ValueError, "'rl' must be finite and not negative, got -1.0"),
        (lambda: hpt_gate([1], [0], sft=np.inf), ValueError, "'sft' must be finite and not negative, got inf"),
        (lambda: hpt_gate([1], [0], valid=[1, 1]), ValueError, r"hpt_gate\(\): 'valid' must have length 1"),
        (lambda: off_policy_shaping([0.0], gamma=0.0), ValueError, "'gamma' must be finite and positive, got 0.0"),
        (
            lambda: off_policy_shaping([0.0], gamma="0.1"),
            TypeError,
            r"off_policy_shaping\(\): 'gamma' must be a number",
        ),
    ],
)
def test_errors(call, error, match):
    with pytest.raises(error, match=match):
        call()

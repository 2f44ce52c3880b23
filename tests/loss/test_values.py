"""Constants of a loss, such as advantages: their levels, kinds and dtypes, and wrong ones."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from rollmath import LogProbs, Ragged, Rows  # noqa: E402
from rollmath.loss import PPO, EntropyBonus, Normalizer, policy_loss  # noqa: E402

ROWS = Rows(["a", "b", "a"], [3, 1, 2])
X = torch.zeros(6)

pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")


def call(advantages=(1.0, 2.0), *, rows=ROWS, theta=None, **options):
    theta = torch.zeros(int(rows.offsets[-1])) if theta is None else theta
    advantages = list(advantages) if isinstance(advantages, tuple) else advantages
    return policy_loss(LogProbs(theta), advantages, rows, PPO(), normalizer=Normalizer.local(rows), **options)


def jagged(*rows):
    return torch.nested.as_nested_tensor([torch.tensor(row) for row in rows], layout=torch.jagged)


@pytest.mark.parametrize("seed", range(6))
def test_levels_agree(make_batch, seed):
    b = make_batch(seed, 7)
    per_row = b.advantages[b.rows.rollouts.index]
    tokens = b.rows.expand(b.advantages)
    padded = tokens.to_padded(7)
    mask = np.ones(len(tokens.values), bool) if b.rows.mask is None else b.rows.mask != 0
    starts = [
        t
        for start, stop in zip(b.rows.offsets[:-1], b.rows.offsets[1:], strict=True)
        for t in range(start, stop)
        if mask[t] and (t == start or not mask[t - 1])
    ]
    same = [
        (b.advantages, "rollout"),
        (b.advantages.tolist(), "rollout"),
        (per_row, "row"),
        (torch.tensor(per_row), "row"),
        (tokens.values[starts], "turn"),
        (torch.tensor(tokens.values[starts]), "turn"),
        (tokens, "token"),
        (tokens.values, "token"),
        (torch.tensor(tokens.values), "token"),
        (padded, None),
        (torch.tensor(padded), "token"),
        (torch.tensor(padded).T.contiguous().T, "token"),
    ]
    out = [
        policy_loss(b.logprobs, x, b.rows, PPO(), normalizer=Normalizer.local(b.rows), level=level).loss
        for x, level in same
    ]
    assert all(torch.equal(x, out[0]) for x in out)


def test_jagged():
    assert torch.equal(call(jagged([1.0, 2.0, 3.0], [4.0], [5.0, 6.0])).loss, call(np.arange(1.0, 7)).loss)


def test_one_a_turn():
    rows = Rows(["a", "b"], [5, 2], mask=[1, 0, 1, 1, 0, 0, 1])
    theta = torch.zeros(7, requires_grad=True)
    out = call([1.0, 2.0, 4.0], rows=rows, theta=theta, level="turn")
    out.loss.backward()
    torch.testing.assert_close(theta.grad, torch.tensor([-1.0, 0, -2, -2, 0, 0, -4]) / 4)
    with pytest.raises(ValueError, match=r"'advantages' must have shape \(3,\) \(= turns\), got \(2,\)"):
        call([1.0, 2.0], rows=rows, level="turn")
    # Turns are never guessed.
    with pytest.raises(ValueError, match=r"'advantages' must have shape \(2,\) \(= rollouts\), .* got \(3,\)"):
        call([1.0, 2.0, 4.0], rows=rows)


def test_levels_that_cannot_be_told_apart():
    rows = Rows(["a", "a", "b"], [2, 0, 1])  # three rows, three positions
    with pytest.raises(
        ValueError, match=r"of length 3 could be one a row or one a token; say level='row' or level='token'"
    ):
        call([1.0, 2.0, 3.0], rows=rows)
    assert call([1.0, 2.0, 3.0], rows=rows, level="row").loss.item() == pytest.approx(-5 / 3)
    assert call([1.0, 2.0, 3.0], rows=rows, level="token").loss.item() == pytest.approx(-2)


def test_levels_that_are_the_same_need_no_word():
    assert call([1.0, 2.0], rows=Rows([5, 6], [1, 1])).loss.item() == pytest.approx(-1.5)
    # One row a rollout: rollouts are numbered as the rows are.
    assert call([1.0, 2.0], rows=Rows([6, 5], [3, 1])).loss.item() == pytest.approx(-5 / 4)


def test_a_row_that_serves_two_rollouts():
    """Its tokens are in both, with advantages of their own: one number a rollout cannot say it, and the error does."""
    shared = Rows(["left"], [3])
    with pytest.raises(
        ValueError,
        match=r"'advantages' must have shape \(1,\) \(= rollouts\), .* got \(2,\); a row that serves several rollouts "
        r"takes one number a token, see Forest.expand",
    ):
        call([1.0, -1.0], rows=shared)
    assert call([0.0, 0.0, 1.0], rows=shared).loss.item() == pytest.approx(-1 / 3)


def test_weights_at_any_level():
    plain = call([2.0, 1.0], theta=X.clone().requires_grad_())
    for weight in ([0.5, 2.0], [0.5, 2.0, 0.5], np.array([0.5, 0.5, 0.5, 2.0, 0.5, 0.5])):
        out = call([4.0, 0.5], weight=weight)
        assert out.loss.item() == pytest.approx(plain.loss.item())


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_what_is_not_trained_is_not_read(poison):
    rows = Rows(["a", "b"], [2, 1], mask=[1, 1, 0])
    for x, level in [([1.0, poison], "rollout"), ([1.0, poison], "row"), ([1.0, 1.0, poison], "token")]:
        assert call(x, rows=rows, level=level).loss.item() == -1
    assert call([[1.0, 1.0, poison], [poison] * 3], rows=rows, level="token").loss.item() == -1


def test_finite_in_the_dtype_of_the_loss():
    wide = np.array([1e39, 1.0])
    for advantages in (wide, torch.from_numpy(wide), [1e39, 1.0]):
        with pytest.raises(
            ValueError, match=r"'advantages' must be finite in float32 where tokens are trained, got 1e\+39"
        ):
            call(advantages)
    assert call(wide, theta=X.double()).loss.item() == pytest.approx(-5e39 / 6)
    # Finite numbers whose sum is not.
    assert call(np.array([1e308, 1e308]), theta=X.double()).loss.item() == -float("inf")


@pytest.mark.parametrize("dtype", [">f4", ">f8", "g", "f2", "u8", "?"])
def test_any_numpy_dtype(dtype):
    assert call(np.array([0, 1], dtype=dtype)).loss.item() == pytest.approx(-1 / 6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.int32, torch.bool])
def test_any_torch_dtype(dtype):
    assert call(torch.tensor([0, 1], dtype=dtype)).loss.item() == pytest.approx(-1 / 6)


def test_read_only_and_not_contiguous():
    a = np.array([1.0, 9.0, -1.0])[::2]
    a.setflags(write=False)
    assert call(a).loss.item() == call([1.0, -1.0]).loss.item()
    assert call(torch.tensor([1.0, 9.0, -1.0])[::2]).loss.item() == call([1.0, -1.0]).loss.item()


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"level": "step"}, ValueError, "'level' must be one of 'rollout', 'row', 'turn', 'token', got 'step'"),
        (
            {"advantages": [1.0]},
            ValueError,
            r"'advantages' must have shape \(2,\) \(= rollouts\), \(3,\) \(= rows\), \(6,\) \(= tokens\) or \(3, T\)",
        ),
        (
            {"advantages": [1.0] * 3, "level": "rollout"},
            ValueError,
            r"'advantages' must have shape \(2,\) \(= rollouts\), got \(3,\); a row that serves several",
        ),
        (
            {"advantages": np.zeros((3, 3)), "level": "row"},
            ValueError,
            r"'advantages' must have shape \(3,\) \(= rows\)",
        ),
        ({"advantages": np.zeros((3, 2))}, ValueError, r"'advantages' must have shape \(6,\) .* got \(3, 2\)"),
        ({"advantages": np.zeros((2, 9))}, ValueError, r"'advantages' must have shape \(6,\) .* got \(2, 9\)"),
        ({"advantages": 1.0}, ValueError, r"'advantages' must have shape .* got \(\)"),
        (
            {"advantages": [1.0, float("nan")]},
            ValueError,
            "'advantages' must be finite in float32 where tokens are trained, got nan",
        ),
        (
            {"advantages": torch.ones(2, requires_grad=True)},
            ValueError,
            "'advantages' requires grad, but it is a const",
        ),
        ({"advantages": ["x", "y"]}, TypeError, "'advantages' must hold floats, ints or bools, got <U1"),
        ({"advantages": Ragged.from_lists([[1.0]] * 3)}, ValueError, "'advantages' as a Ragged must have the offsets"),
        (
            {"advantages": torch.ones(2, dtype=torch.complex64)},
            TypeError,
            "'advantages' must be a dense tensor of real numbers, got torch.complex64, torch.strided on cpu",
        ),
        ({"advantages": torch.ones(2, device="meta")}, TypeError, "'advantages' must be a dense .* on meta"),
        ({"advantages": torch.ones(2).to_sparse()}, TypeError, "'advantages' must be a dense .* torch.sparse_coo"),
        ({"weight": [1.0] * 4}, ValueError, r"'weight' must have shape \(2,\)"),
        ({"weight": [1.0, float("inf")]}, ValueError, "'weight' must be finite in float32"),
        (
            {"entropy": EntropyBonus(X, coef=0.1, weight=[1.0] * 4)},
            ValueError,
            r"'entropy.weight' must have shape \(2,\) \(= rollouts\)",
        ),
    ],
)
def test_errors(arguments, error, match):
    with pytest.raises(error, match=rf"policy_loss\(\): {match}"):
        call(**arguments)


def test_a_jagged_tensor_of_other_rows():
    other = ([1.0] * 2, [1.0] * 2, [1.0] * 2)
    match = "as a jagged tensor must have the offsets of the rows, got 2 positions in row 0, not 3"
    with pytest.raises(ValueError, match=rf"policy_loss\(\): 'advantages' {match}"):
        call(jagged(*other))
    with pytest.raises(ValueError, match=rf"policy_loss\(\): 'logprobs.theta' {match}"):
        call(theta=jagged(*other))
    logprobs = LogProbs(X, ref=jagged([1.0] * 3, [1.0] * 3))
    with pytest.raises(ValueError, match=r"'logprobs.ref' as a jagged tensor .*, got 2 rows, not 3"):
        policy_loss(logprobs, [1.0, 2.0], ROWS, PPO(), normalizer=Normalizer.local(ROWS))
    with pytest.raises(ValueError, match=rf"'entropy.values' {match}"):
        call(entropy=EntropyBonus(jagged(*other), coef=0.1))
    with pytest.raises(TypeError, match=r"EntropyBonus\(\): 'values' as a nested tensor must be jagged"):
        EntropyBonus(torch.nested.nested_tensor([[1.0]]), coef=0.1)
    with pytest.raises(TypeError, match=r"policy_loss\(\): 'advantages' as a nested tensor must be jagged"):
        call(torch.nested.nested_tensor([[1.0] * 3, [1.0], [1.0] * 2]))

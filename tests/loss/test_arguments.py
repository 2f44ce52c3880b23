"""LogProbs, Normalizer, and wrong calls of policy_loss."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from rollmath import LogProbs, Ragged, Rows  # noqa: E402
from rollmath.loss import PPO, Normalizer, policy_loss  # noqa: E402

ROWS = Rows(["a", "b", "a"], [3, 1, 2])
NORM = Normalizer.local(ROWS)
X = torch.zeros(6)


def call(logprobs=LogProbs(X), advantages=(1.0, 2.0), rows=ROWS, objective=PPO(), **options):  # noqa: B008
    return policy_loss(
        logprobs,
        list(advantages) if isinstance(advantages, tuple) else advantages,
        rows,
        objective,
        **({"normalizer": NORM} | options),
    )


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"logprobs": X}, TypeError, r"'logprobs' must be LogProbs\(theta=..., prox=...\), got a 1-D float32 array"),
        ({"rows": [3, 1, 2]}, TypeError, "'rows' must be Rows, got an object of type list"),
        (
            {"objective": PPO},
            TypeError,
            r"'objective' must be an object with a method token_loss, .* got the class PPO",
        ),
        ({"objective": "ppo"}, TypeError, "'objective' must be an object with a method token_loss"),
        ({"aggregation": "mean"}, ValueError, "'aggregation' must be one of 'token_mean', got 'mean'"),
        ({"level": "turn"}, ValueError, "'level' must be one of 'rollout', 'row', 'token', got 'turn'"),
        ({"normalizer": 6}, TypeError, r"'normalizer' must be a Normalizer \(see Normalizer.local\), got"),
        (
            {"normalizer": Normalizer(tokens=5, rows=3, rollouts=2)},
            ValueError,
            "normalizer.tokens is 5, but these rows alone have 6 trained tokens",
        ),
        (
            {"logprobs": LogProbs(torch.zeros(5))},
            ValueError,
            r"'logprobs' must have shape \(6,\) \(= positions of rows\) or \(3, T\) with T of at least 3 .* got \(5,\)",
        ),
        ({"logprobs": LogProbs(torch.zeros(3, 2))}, ValueError, r"'logprobs' must have shape .* got \(3, 2\)"),
        ({"logprobs": LogProbs(torch.zeros(2, 9))}, ValueError, r"'logprobs' must have shape .* got \(2, 9\)"),
        (
            {"advantages": [1.0]},
            ValueError,
            r"'advantages' must have shape \(2,\) \(= rollouts\), \(3,\) \(= rows\), \(6,\) \(= tokens\) or \(3, T\)",
        ),
        (
            {"advantages": [1.0] * 3, "level": "rollout"},
            ValueError,
            r"must have shape \(2,\) \(= rollouts\), got \(3,\)",
        ),
        ({"advantages": np.zeros((3, 2))}, ValueError, r"'advantages' must have shape \(6,\) .* got \(3, 2\)"),
        ({"advantages": 1.0}, ValueError, r"'advantages' must have shape .* got \(\)"),
        (
            {"advantages": [1.0, float("nan")]},
            ValueError,
            "'advantages' must be finite where tokens are trained, got nan",
        ),
        ({"advantages": torch.ones(2, requires_grad=True)}, ValueError, "'advantages' requires grad"),
        ({"advantages": ["x", "y"]}, TypeError, "'advantages' must hold floats, ints or bools, got <U1"),
        ({"advantages": Ragged.from_lists([[1.0]] * 3)}, ValueError, "'advantages' as a Ragged must have the offsets"),
    ],
)
def test_policy_loss(arguments, error, match):
    with pytest.raises(error, match=rf"policy_loss\(\): {match}" if match.startswith("'") else match):
        call(**arguments)


def test_levels_that_cannot_be_told_apart():
    rows = Rows(["a", "a", "b"], [2, 0, 1])  # three rows, three positions
    norm = Normalizer.local(rows)
    lp = LogProbs(X[:3])
    with pytest.raises(
        ValueError, match=r"of length 3 could be one a row or one a token; say level='row' or level='token'"
    ):
        call(lp, [1.0, 2.0, 3.0], rows, normalizer=norm)
    by_row = call(lp, [1.0, 2.0, 3.0], rows, normalizer=norm, level="row")
    by_token = call(lp, [1.0, 2.0, 3.0], rows, normalizer=norm, level="token")
    assert by_row.loss.item() == pytest.approx(-5 / 3)
    assert by_token.loss.item() == pytest.approx(-2)


def test_levels_that_are_the_same_need_no_word():
    rows = Rows([5, 6], [1, 1])
    assert call(LogProbs(X[:2]), [1.0, 2.0], rows, normalizer=Normalizer.local(rows)).loss.item() == pytest.approx(-1.5)
    # One row a rollout: rollouts are numbered as the rows are.
    rows = Rows([6, 5], [3, 1])
    assert call(LogProbs(X[:4]), [1.0, 2.0], rows, normalizer=Normalizer.local(rows)).loss.item() == pytest.approx(
        -5 / 4
    )


def test_a_nan_advantage_of_a_rollout_without_trained_tokens():
    rows = Rows(["a", "b"], [2, 1], mask=[1, 1, 0])
    assert call(LogProbs(X[:3]), [1.0, float("nan")], rows, normalizer=Normalizer.local(rows)).loss.item() == -1


def test_advantages_are_finite_in_the_dtype_of_the_loss():
    wide = np.array([1e39, 1.0])
    for advantages in (wide, torch.from_numpy(wide), [1e39, 1.0]):
        with pytest.raises(
            ValueError, match=r"'advantages' must be finite in float32 where tokens are trained, got 1e\+39"
        ):
            call(advantages=advantages)
    assert call(LogProbs(X.double()), wide).loss.item() == pytest.approx(-5e39 / 6)
    # Not read where nothing is trained.
    rows = Rows(["a", "b"], [2, 1], mask=[0, 0, 1])
    assert call(LogProbs(X[:3]), wide, rows, normalizer=Normalizer.local(rows)).loss.item() == -1


@pytest.mark.parametrize("dtype", [">f4", ">f8", "g", "f2", "u8", "?"])
def test_advantages_of_any_numpy_dtype(dtype):
    assert call(advantages=np.array([0, 1], dtype=dtype)).loss.item() == pytest.approx(-1 / 6)


def test_logprobs():
    lp = LogProbs(theta=X, prox=X + 1, ref=X)
    assert lp.proximal is lp.prox
    assert lp.shape == (6,)
    assert repr(lp) == "LogProbs(theta, prox, ref; float32 [6])"
    theta = torch.zeros(2, 3, requires_grad=True)
    alone = LogProbs(theta)
    assert not alone.proximal.requires_grad
    assert torch.equal(alone.proximal, theta)
    assert pickle.loads(pickle.dumps(lp)).shape == (6,)
    with pytest.raises(AttributeError):
        lp.theta = X


@pytest.mark.parametrize(
    ("policies", "error", "match"),
    [
        (
            {"theta": None},
            TypeError,
            r"'theta' must be a float tensor \[tokens\] or \[B, T\], got an object of type None",
        ),
        ({"theta": [0.0]}, TypeError, "'theta' must be a float tensor"),
        ({"theta": np.zeros(3)}, TypeError, "'theta' must be a float tensor .* got a 1-D float64 array"),
        ({"theta": torch.zeros(3, dtype=torch.int64)}, TypeError, "'theta' must be a float tensor"),
        ({"theta": torch.zeros(2, 2, 2)}, TypeError, "got a 3-D float32 array"),
        ({"theta": X, "prox": X[:5]}, ValueError, r"'prox' must have shape \(6,\) \(= theta.shape\), got \(5,\)"),
        ({"theta": X, "ref": X.clone().requires_grad_()}, ValueError, "'ref' requires grad, but only 'theta' is"),
        (
            {"theta": X, "behaviour": X.to("meta")},
            ValueError,
            r"'behaviour' must be on cpu \(= theta.device\), got meta",
        ),
    ],
)
def test_logprobs_errors(policies, error, match):
    with pytest.raises(error, match=rf"LogProbs\(\): .*{match}"):
        LogProbs(**policies)


def test_normalizer():
    rows = Rows(["a", "a", "b", "c"], [2, 1, 0, 2], mask=[1, 0, 1, 0, 0])
    norm = Normalizer.local(rows)
    assert norm == Normalizer(tokens=2, rows=2, rollouts=1)
    assert norm + norm == Normalizer.sum([norm, norm]) == Normalizer(tokens=4, rows=4, rollouts=2)
    assert Normalizer.sum([]) == Normalizer.local(Rows([], [])) == Normalizer(tokens=0, rows=0, rollouts=0)
    assert Normalizer(tokens=np.int64(3), rows=1, rollouts=1) == Normalizer(tokens=3, rows=1, rollouts=1)
    with pytest.raises(TypeError):
        norm + 3


@pytest.mark.parametrize(
    ("counts", "error", "match"),
    [
        ((1.0, 1, 1), TypeError, "'tokens' must be an int, got 1.0"),
        ((1, True, 1), TypeError, "'rows' must be an int, got True"),
        ((1, 2, 1), ValueError, "expected 0 <= rollouts <= rows <= tokens, got rollouts=1, rows=2, tokens=1"),
        ((-1, -1, -1), ValueError, "expected 0 <= rollouts"),
    ],
)
def test_normalizer_errors(counts, error, match):
    with pytest.raises(error, match=match):
        Normalizer(**dict(zip(("tokens", "rows", "rollouts"), counts, strict=True)))


def test_normalizer_sum_of_something_else():
    with pytest.raises(TypeError, match=r"Normalizer.sum\(\): 'parts\[1\]' must be a Normalizer, got .* type int"):
        Normalizer.sum([NORM, 1])
    with pytest.raises(TypeError, match=r"Normalizer.sum\(\): 'parts' must be an iterable of Normalizers, got"):
        Normalizer.sum(NORM)


def test_normalizer_local_of_something_else():
    with pytest.raises(TypeError, match=r"Normalizer.local\(\): 'rows' must be Rows, got an object of type list"):
        Normalizer.local([1])


def test_import_leaves_torch_alone():
    code = "import sys, rollmath; rollmath.LogProbs, rollmath.Rows; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("result", "error", "match"),
    [
        (3, TypeError, "must return a TokenLoss from its token_loss, got an object of type int"),
        (("loss", torch.ones(1)), ValueError, r"must give 'loss' of shape \(6,\) \(= trained tokens\), got \(1,\)"),
        (("coefficient", 2.0), ValueError, r"must give 'coefficient' of shape \(6,\) .*, got float"),
    ],
)
def test_what_an_objective_returns_does_not_broadcast(result, error, match):
    class Mine:
        def token_loss(self, theta, prox, advantages):
            right = PPO().token_loss(theta, prox, advantages)
            return right._replace(**dict([result])) if isinstance(result, tuple) else result

    with pytest.raises(error, match=rf"policy_loss\(\): 'objective' {match}"):
        call(objective=Mine())


@pytest.mark.parametrize(
    "advantages", [torch.ones(2, dtype=torch.complex64), torch.ones(2, device="meta"), torch.ones(2).to_sparse()]
)
def test_advantages_that_are_no_plain_tensor(advantages):
    with pytest.raises(TypeError, match=r"policy_loss\(\): 'advantages' must be a dense tensor of real numbers, got"):
        call(advantages=advantages)

"""LogProbs: the policies of a loss."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from rollmath import LogProbs  # noqa: E402

X = torch.zeros(6)

pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")


def jagged(*lengths):
    return torch.nested.as_nested_tensor([torch.arange(float(n)) for n in lengths], layout=torch.jagged)


def test_logprobs():
    lp = LogProbs(theta=X, prox=X + 1, ref=X)
    assert lp.proximal is lp.prox
    assert lp.shape == (6,)
    assert lp.jagged == {}
    assert repr(lp) == "LogProbs(theta, prox, ref; float32 [6])"
    theta = torch.zeros(2, 3, requires_grad=True)
    alone = LogProbs(theta)
    assert not alone.proximal.requires_grad
    assert torch.equal(alone.proximal, theta)
    assert pickle.loads(pickle.dumps(lp)).shape == (6,)
    with pytest.raises(AttributeError):
        lp.theta = X


def test_jagged_tensors_are_packed():
    lp = LogProbs(jagged(2, 0, 3), prox=torch.zeros(5))
    assert lp.shape == (5,)
    assert lp.theta.tolist() == [0, 1, 0, 1, 2]
    assert {name: x.tolist() for name, x in lp.jagged.items()} == {"theta": [0, 2, 2, 5]}
    assert list(pickle.loads(pickle.dumps(lp)).jagged) == ["theta"]


@pytest.mark.parametrize(
    "nested",
    [
        lambda: torch.nested.nested_tensor([[1.0], [2.0, 3.0]]),
        lambda: torch.nested.nested_tensor([[[1.0, 2.0]], [[3.0, 4.0]]], layout=torch.jagged),
        lambda: torch.nested.narrow(X.view(2, 3), 1, torch.tensor([0, 1]), torch.tensor([2, 2]), layout=torch.jagged),
    ],
    ids=["strided", "three axes", "holes"],
)
@pytest.mark.parametrize("name", ["theta", "ref"])
def test_other_nested_tensors(nested, name):
    with pytest.raises(
        TypeError, match=rf"LogProbs\(\): '{name}' as a nested tensor must be jagged \[rows, positions\]"
    ):
        LogProbs(**{"theta": X, name: nested()})


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
def test_errors(policies, error, match):
    with pytest.raises(error, match=rf"LogProbs\(\): .*{match}"):
        LogProbs(**policies)


def test_import_leaves_torch_alone():
    code = "import sys, rollmath; rollmath.LogProbs, rollmath.Rows; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

"""LossMetrics: names, merging, one tensor."""

import math
import pickle

import pytest

torch = pytest.importorskip("torch")

from rollmath import LogProbs, Rows  # noqa: E402
from rollmath.loss import PPO, EntropyBonus, LossMetrics, Normalizer, policy_loss  # noqa: E402

MADE = LossMetrics({"loss": torch.tensor(0.5), "ratio_max": torch.tensor(2.0)})


def test_a_mapping():
    assert list(MADE) == ["loss", "ratio_max"]
    assert len(MADE) == 2
    assert dict(MADE)["loss"].item() == 0.5
    assert "clip_high" not in MADE
    assert MADE.values_tensor.dtype == torch.float64
    assert repr(MADE) == "LossMetrics(loss, ratio_max)"
    assert pickle.loads(pickle.dumps(MADE)).to_dict() == {"loss": 0.5, "ratio_max": 2.0}
    with pytest.raises(KeyError, match="no metric 'clip'; there are loss, ratio_max"):
        MADE["clip"]


def test_merge():
    other = LossMetrics({"loss": torch.tensor(-1.5), "ratio_max": torch.tensor(1.0)})
    assert LossMetrics.merge([MADE, other]).to_dict() == {"loss": -1.0, "ratio_max": 2.0}
    assert LossMetrics.merge(iter([MADE])).to_dict() == MADE.to_dict()
    nothing = LossMetrics.merge([])
    assert nothing.to_dict() == {}
    assert nothing.values_tensor.dtype == torch.float64
    nan = LossMetrics({"loss": torch.tensor(math.nan), "ratio_max": torch.tensor(math.nan)})
    assert all(math.isnan(x) for x in LossMetrics.merge([MADE, nan]).to_dict().values())


def test_merge_errors():
    with pytest.raises(TypeError, match=r"LossMetrics.merge\(\): 'parts\[1\]' must be LossMetrics, got .* type dict"):
        LossMetrics.merge([MADE, {"loss": 1.0}])
    with pytest.raises(
        ValueError, match=r"'parts\[1\]' must have the metrics of parts\[0\], \['loss', 'ratio_max'\], got \['loss'\]"
    ):
        LossMetrics.merge([MADE, LossMetrics({"loss": torch.tensor(1.0)})])


def test_values_of_a_loss():
    rows = Rows([0, 1], [2, 1])
    rho = torch.tensor([1.3, 1.0, 4.0], dtype=torch.float64)
    lp = LogProbs(rho.log(), torch.zeros(3, dtype=torch.float64))
    entropy = EntropyBonus(torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64), coef=0.1)
    norm = Normalizer.local(rows).under(grad_reduce="mean", ranks=4)
    out = policy_loss(lp, [1.0, -1.0], rows, PPO(dual_clip=3.0), normalizer=norm, entropy=entropy)
    assert not out.loss.requires_grad
    policy = (-1.2 - 1 + 3) / 3
    expected = {
        "loss": policy - 0.3,
        "policy_loss": policy,
        "signal": 1 / 3,
        "clip_high": 1 / 3,
        "clip_low": 0,
        "dual_clip": 1 / 3,
        "log_ratio": rho.log().mean().item(),
        "approx_kl": (rho - 1 - rho.log()).mean().item(),
        "ratio": 2.1,
        "ratio_max": 4,
        "entropy": 3,
        "entropy_loss": -0.3,
    }
    assert out.metrics.to_dict() == pytest.approx(expected)
    terms, largest = ["loss", "policy_loss", "entropy_loss"], ["ratio_max"]
    means = [name for name in expected if name not in {*terms, *largest}]
    assert list(out.metrics) == [*terms, *means, *largest]
    # The metrics are of the batch; the loss is for backward.
    assert out.loss.item() == pytest.approx(4 * expected["loss"])

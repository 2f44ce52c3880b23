"""mismatch, mismatch_report and correction_weights: against the oracle, kinds, dtypes, arguments."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from mismatch_units import flat, inputs, random_batch  # noqa: E402

from rollmath import LogProbs, Rows  # noqa: E402
from rollmath.loss import (  # noqa: E402
    PPO,
    Gate,
    ImportanceWeight,
    LossMetrics,
    Normalizer,
    correction_weights,
    mismatch,
    mismatch_report,
    policy_loss,
)
from rollmath.loss._engine import at_once, in_pieces  # noqa: E402

FORMS = {"pieces": in_pieces, "at once": at_once}
WEIGHT = {"bounds": (0.5, 2.0), "outside": "zero", "missing": "one"}


@pytest.mark.parametrize("form", FORMS)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1e-3, 0.3, 2.0]), padded=st.booleans())
def test_agrees_with_the_oracle(oracle, form, seed, scale, padded):
    batch = random_batch(seed, scale=scale, nan=0.2)
    logprobs, rows = inputs(batch, padded=padded)
    weights = oracle("loss/mismatch_weight.py", "ImportanceWeight")(batch, **WEIGHT)[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rollmath.loss._mismatch_report.evaluate", FORMS[form])
        metrics = mismatch(logprobs, rows, correction=ImportanceWeight(**WEIGHT))
    found = metrics.to_dict()
    for name, x in oracle("loss/mismatch_report.py", "mismatch")(batch, weights).items():
        assert found[name] == pytest.approx(x, rel=1e-10, abs=1e-13), name
    if rows.trained.sum():
        expected = oracle("loss/mismatch_report.py", "mismatch_report")(batch, weights)
        report = mismatch_report(metrics)
        for name, x in expected.items():
            known = name != "log_ratio_abs_max" or expected["missing"] < 1
            assert not known or getattr(report, name) == pytest.approx(x, rel=1e-9, abs=1e-13, nan_ok=True), name


@given(seed=st.integers(0, 10**6))
def test_the_product_of_weights(oracle, seed):
    batch = random_batch(seed)
    logprobs, rows = inputs(batch)
    module = "loss/mismatch_report.py"
    tis = oracle("loss/mismatch_weight.py", "ImportanceWeight")(batch, (0.0, 2.0))[0]
    gate = oracle("loss/mismatch_gate.py", "Gate")(batch, "k3", (0.0, 0.4), level="row")[0]
    found = correction_weights(logprobs, rows, (ImportanceWeight(2.0), Gate("k3", 0.4, level="row")))
    np.testing.assert_allclose(found, flat(oracle(module, "correction_weights")(batch, [tis, gate])), rtol=1e-12)


def test_the_metrics_are_those_of_the_loss():
    logprobs, rows = inputs(random_batch(3, n_rows=8))
    norm = Normalizer.local(rows)
    correction = ImportanceWeight(level="row")
    alone = mismatch(logprobs, rows, correction=correction, normalizer=norm).to_dict()
    a = np.ones(rows.n_rollouts)
    out = policy_loss(logprobs, a, rows, PPO(), normalizer=norm, correction=correction, level="rollout")
    assert {name: out.metrics[name].item() for name in alone} == alone
    assert mismatch_report(out.metrics) == mismatch_report(mismatch(logprobs, rows, correction=correction))


def test_micro_batches_merge():
    logprobs, rows = inputs(random_batch(5, n_rows=8))
    norm = Normalizer.local(rows)
    whole = mismatch_report(mismatch(logprobs, rows, correction=ImportanceWeight()))
    parts = []
    for picked in (np.arange(3), np.arange(3, 8)):
        at = np.arange(rows.offsets[picked[0]], rows.offsets[picked[-1] + 1])
        some = LogProbs(logprobs.theta[at], logprobs.prox[at], logprobs.behaviour[at])
        parts.append(mismatch(some, rows.take(picked), correction=ImportanceWeight(), normalizer=norm))
    assert mismatch_report(LossMetrics.merge(parts)) == pytest.approx(whole, rel=1e-12)


def test_small_differences_are_not_lost():
    rows = Rows([0], [4])
    x = 1e-4 * torch.tensor([1.0, -1.0, 2.0, -2.0])
    report = mismatch_report(mismatch(LogProbs(x, behaviour=torch.zeros(4)), rows))
    exact = x.double()
    assert report.k3 == pytest.approx((exact.expm1() - exact).mean().item(), rel=1e-3)
    assert report.chi_square == pytest.approx((2 * exact).expm1().mean().item(), rel=1e-3)


def test_extreme_ratios():
    rows = Rows([0], [4])
    x = torch.tensor([1e4, -1e4, math.inf, -math.inf])
    for dtype in (torch.float32, torch.float64):
        metrics = mismatch(LogProbs(x.to(dtype), behaviour=torch.zeros(4, dtype=dtype)), rows)
        assert not any(math.isnan(one) for one in metrics.to_dict().values())
        assert not any(math.isnan(one) for one in mismatch_report(metrics))
    assert math.isnan(mismatch(LogProbs(x * 0, behaviour=torch.zeros(4)), rows).to_dict()["mismatch_k1"])


def test_undefined():
    rows = Rows([0], [2])
    nan = torch.full((2,), math.nan)
    report = mismatch_report(mismatch(LogProbs(torch.zeros(2), behaviour=nan), rows))
    assert report.missing == 1
    assert all(map(math.isnan, (report.k1, report.k3, report.chi_square, report.perplexity_ratio)))
    rejected = Gate("ratio", (2.0, 3.0))
    report = mismatch_report(mismatch(LogProbs(torch.zeros(2), behaviour=torch.zeros(2)), rows, correction=rejected))
    assert report.kept == report.weight == 0
    assert math.isnan(report.effective_sample_size)
    lp = LogProbs(torch.zeros(2))
    without = policy_loss(lp, [1.0], rows, PPO(), normalizer=Normalizer.local(rows), correction=())
    report = mismatch_report(without.metrics)
    assert report.effective_sample_size == report.weight == 1
    assert all(map(math.isnan, (report.k1, report.log_ratio_abs_max)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes(dtype):
    rows = Rows([0], [3], mask=[1, 0, 1])
    lp = LogProbs(torch.zeros(3, dtype=dtype, requires_grad=True), behaviour=torch.tensor([-0.5, 0, -3.0], dtype=dtype))
    weights = correction_weights(lp, rows, ImportanceWeight(2.0))
    assert weights.dtype == (dtype if dtype == torch.float64 else torch.float32)
    assert not weights.requires_grad
    assert weights.tolist() == pytest.approx([math.exp(0.5), 0, 2])


def test_shapes():
    rows = Rows([0, 1], [2, 1])
    padded = torch.tensor([[0.0, -1.0, 9.0], [-2.0, 9.0, 9.0]])
    weights = correction_weights(LogProbs(torch.zeros(2, 3), behaviour=padded), rows, ImportanceWeight(100.0))
    assert weights.shape == (2, 3)
    assert weights.flatten().tolist() == pytest.approx([1, math.e, 0, math.exp(2), 0, 0])
    lists = [torch.tensor([0.0, -1.0]), torch.tensor([-2.0])]
    jagged = torch.nested.nested_tensor(lists, layout=torch.jagged)
    packed = correction_weights(LogProbs(jagged * 0, behaviour=jagged), rows, ImportanceWeight(100.0))
    assert packed.tolist() == pytest.approx([1, math.e, math.exp(2)])


def test_arguments():
    rows = Rows([0], [2])
    lp = LogProbs(torch.zeros(2), behaviour=torch.zeros(2))
    with pytest.raises(ValueError, match=r"mismatch\(\): 'logprobs' must have 'behaviour'"):
        mismatch(LogProbs(torch.zeros(2)), rows)
    with pytest.raises(TypeError, match=r"mismatch\(\): 'logprobs' must be LogProbs"):
        mismatch(torch.zeros(2), rows)
    with pytest.raises(TypeError, match=r"mismatch\(\): 'rows' must be Rows"):
        mismatch(lp, [2])
    with pytest.raises(TypeError, match=r"mismatch\(\): 'normalizer' must be a Normalizer"):
        mismatch(lp, rows, normalizer=2)
    with pytest.raises(ValueError, match="'normalizer' must be that of the batch of these rows"):
        mismatch(lp, rows, normalizer=Normalizer.local(Rows([7], [2])))
    with pytest.raises(TypeError, match=r"mismatch\(\): 'correction' must be a Correction or a tuple of them"):
        mismatch(lp, rows, correction="tis")
    with pytest.raises(ValueError, match=r"correction_weights\(\): 'logprobs' must have shape \(3,\)"):
        correction_weights(lp, Rows([0], [3]), ImportanceWeight())
    with pytest.raises(TypeError, match=r"correction_weights\(\): 'correction' must be"):
        correction_weights(lp, rows, None)
    with pytest.raises(TypeError, match=r"correction_weights\(\): 'logprobs' must be LogProbs"):
        correction_weights(torch.zeros(2), rows, ImportanceWeight())
    with pytest.raises(TypeError, match=r"ImportanceWeight.prepare\(\): 'rows' must be Rows"):
        ImportanceWeight().prepare(lp, 2)
    with pytest.raises(ValueError, match=r"correction_weights\(\): 'advantages' must have shape"):
        correction_weights(lp, rows, ImportanceWeight(), advantages=[1.0, 2.0, 3.0])
    with pytest.raises(TypeError, match=r"mismatch_report\(\): 'metrics' must be LossMetrics"):
        mismatch_report({})
    plain = policy_loss(lp, [1.0], rows, PPO(), normalizer=Normalizer.local(rows)).metrics
    with pytest.raises(ValueError, match=r"mismatch_report\(\): 'metrics' must be those of a loss with a correction"):
        mismatch_report(plain)


def test_no_score_at_all_in_any_split():
    # 49 times 1/49 is a little less than 1.
    rows = Rows(range(49), [1] * 49)
    norm = Normalizer.local(rows)
    lp = LogProbs(torch.zeros(1), behaviour=torch.tensor([math.nan]))
    report = mismatch_report(LossMetrics.merge(mismatch(lp, rows.take([i]), normalizer=norm) for i in range(49)))
    assert report.missing < 1
    assert math.isnan(report.k1)
    assert math.isnan(report.perplexity_ratio)

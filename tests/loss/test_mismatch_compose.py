"""Several corrections at once, in policy_loss and alone; their metrics; splits."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from mismatch_units import flat, inputs, random_batch  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from rollmath import LogProbs, Ragged, Rows  # noqa: E402
from rollmath.loss import (  # noqa: E402
    PPO,
    Correction,
    Corrections,
    Gate,
    ImportanceWeight,
    LossMetrics,
    Normalizer,
    Staleness,
    correction_weights,
    policy_loss,
)
from rollmath.loss._engine import at_once, in_pieces  # noqa: E402

FORMS = {"pieces": in_pieces, "at once": at_once}
PARTS = (
    ImportanceWeight((0.2, 3.0)),
    Gate("ratio", (0.3, 4.0), level="row"),
    Gate("k3", 0.8, level="rollout", reduce="every", when="negative_advantage"),
    Staleness(9, 8, unknown="keep"),
)


def gradient(out, theta):
    return torch.autograd.grad(out.loss, theta)[0]


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_weights_multiply(oracle, form, seed):
    batch = random_batch(seed)
    logprobs, rows = inputs(batch)
    a = np.array([-1.0, 0.0, 1.0])[: rows.n_rollouts]
    options = {"advantages": a, "level": "rollout"}
    theta = logprobs.theta.clone().requires_grad_()
    given = LogProbs(theta, logprobs.prox, logprobs.behaviour)
    norm = Normalizer.local(rows)
    with pytest.MonkeyPatch.context() as patch:
        for module in ("_mismatch_report", "_policy_loss"):
            patch.setattr(f"rollmath.loss.{module}.evaluate", FORMS[form])
        alone = [correction_weights(logprobs, rows, part, **options) for part in PARTS]
        together = correction_weights(logprobs, rows, PARTS, **options)
        common = {"normalizer": norm, "level": "rollout"}
        out = policy_loss(given, a, rows, PPO(), correction=PARTS, **common)
        # The weights of a correction are constants of the policy term: those of weight=.
        same = policy_loss(given, a, rows, PPO(), weight=Ragged(together, rows.offsets).to_padded(6), **common)
    split = [np.split(w.numpy(), rows.offsets[1:-1]) for w in alone]
    expected = oracle("loss/mismatch_compose.py", "Corrections")(batch, split)
    np.testing.assert_allclose(together, flat(expected), rtol=1e-13)
    torch.testing.assert_close(out.loss, same.loss, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(gradient(out, theta), gradient(same, theta), rtol=1e-12, atol=1e-15)


def test_one_a_tuple_and_none():
    rows = Rows([0, 0], [2, 2], version=[1, 1, 1, 1])
    logprobs = LogProbs(-torch.rand(4), behaviour=-torch.rand(4))
    norm = Normalizer.local(rows)

    def loss(correction):
        return policy_loss(logprobs, [1.0], rows, PPO(), normalizer=norm, correction=correction)

    one = loss(ImportanceWeight())
    for same in ((ImportanceWeight(),), [ImportanceWeight()], Corrections((ImportanceWeight(),))):
        out = loss(same)
        assert out.loss == one.loss
        assert out.metrics.to_dict() == one.metrics.to_dict()
    nothing = loss(())
    assert nothing.loss == loss(None).loss
    assert nothing.metrics["mismatch_weight"] == 1
    assert not any(name.startswith("mismatch") for name in loss(None).metrics)


def test_names_that_come_again_are_numbered():
    rows = Rows([0], [2])
    logprobs = LogProbs(torch.zeros(2), behaviour=torch.tensor([0.0, -2.0]))
    gates = (Gate("ratio", 2.0), Gate("ratio", 9.0), Gate("ratio", (3.0, 10.0)))
    out = policy_loss(logprobs, [1.0], rows, PPO(), normalizer=Normalizer.local(rows), correction=gates)
    found = {name: x for name, x in out.metrics.to_dict().items() if name.startswith("gate")}
    assert found == {
        "gate_low": 0, "gate_high": 0.5, "gate_low_2": 0, "gate_high_2": 0, "gate_low_3": 0.5, "gate_high_3": 0,
    }  # fmt: skip


class Peak:
    """A correction of a user, with a maximum among its counts."""

    coupled = False

    def weigh(self, tokens):
        return torch.ones_like(tokens.theta), {"peak_max": tokens.largest(-tokens.theta)}


def test_numbered_maxima_are_still_merged_as_maxima():
    rows = Rows([0], [2])
    logprobs = LogProbs(torch.tensor([-1.0, -3.0]))
    out = policy_loss(logprobs, [1.0], rows, PPO(), normalizer=Normalizer.local(rows), correction=(Peak(), Peak()))
    assert out.metrics["peak_max"] == out.metrics["peak_2_max"] == 3
    assert isinstance(Peak(), Correction)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), data=st.data())
def test_any_split_that_keeps_rollouts_whole(seed, data):
    batch = random_batch(seed, n_rows=6)
    logprobs, rows = inputs(batch)
    a = np.array([-1.0, 0.5, 1.0])[rows.rollouts.index]
    norm = Normalizer.local(rows)
    theta = logprobs.theta.clone().requires_grad_()

    def loss(at, rows, a):
        given = LogProbs(theta[at], logprobs.prox[at], logprobs.behaviour[at])
        return policy_loss(given, a, rows, PPO(), normalizer=norm, correction=PARTS, level="row")

    whole = loss(np.arange(len(theta)), rows, a)
    split = data.draw(st.lists(st.integers(0, 2), min_size=3, max_size=3))
    parts = []
    for part in range(3):
        picked = np.array([i for i in range(6) if split[batch.rollout[i]] == part], np.int64)
        at = np.concatenate([np.arange(rows.offsets[i], rows.offsets[i + 1]) for i in picked] or [[]]).astype(np.int64)
        parts.append(loss(at, rows.take(picked), a[picked]))
    total = sum(gradient(out, theta) for out in parts)
    torch.testing.assert_close(total, gradient(whole, theta), rtol=1e-12, atol=1e-15)
    merged = LossMetrics.merge([out.metrics for out in parts]).to_dict()
    assert merged == pytest.approx(whole.metrics.to_dict(), rel=1e-11, abs=1e-13)


class NoWaiting(TorchDispatchMode):
    """Refuses to read a value, which on a device would wait for it."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not torch.ops.aten._local_scalar_dense.default
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("level", ["token", "turn", "row", "rollout"])
def test_nothing_is_read_back_from_the_device(level, monkeypatch):
    monkeypatch.setattr("rollmath.loss._policy_loss.evaluate", at_once)
    logprobs, rows = inputs(random_batch(4))
    parts = [ImportanceWeight(level=level, missing=missing) for missing in ("nan", "one", "zero")]
    parts += [Gate("k3", 0.1, level=level, reduce=how, when="negative_advantage") for how in ("mean", "every")]
    parts += [Staleness(9, 3, level=level)]
    norm = Normalizer.local(rows)
    a = torch.zeros(rows.n_rollouts)
    with NoWaiting():
        policy_loss(logprobs, a, rows, PPO(), normalizer=norm, correction=parts, level="rollout")


@pytest.mark.parametrize("form", FORMS)
def test_nothing_trained(form, monkeypatch):
    monkeypatch.setattr("rollmath.loss._policy_loss.evaluate", FORMS[form])
    for rows in (Rows([], [], version=[]), Rows([0], [2], mask=[0, 0], version=[1, 1])):
        nan = torch.full((int(rows.offsets[-1]),), math.nan)
        theta = nan.clone().requires_grad_()
        out = policy_loss(
            LogProbs(theta, nan, nan), np.zeros(rows.n_rollouts), rows, PPO(), normalizer=Normalizer.local(rows),
            correction=PARTS, level="rollout",
        )  # fmt: skip
        assert set(out.metrics.to_dict().values()) == {0}
        assert (gradient(out, theta) == 0).all()


class Broken:
    """A correction that would broadcast."""

    coupled = False

    def __init__(self, weight):
        self.weight = weight

    def weigh(self, tokens):
        return self.weight, {}


def test_arguments():
    rows = Rows([0], [2])
    logprobs = LogProbs(torch.zeros(2), behaviour=torch.zeros(2))

    def loss(correction):
        return policy_loss(logprobs, [1.0], rows, PPO(), normalizer=Normalizer.local(rows), correction=correction)

    for wrong in ("tis", 2.0, PPO()):
        with pytest.raises(TypeError, match=r"policy_loss\(\): 'correction' must be a Correction or a tuple of them"):
            loss(wrong)
    with pytest.raises(TypeError, match=r"'correction' must be .*, got the class ImportanceWeight"):
        loss(ImportanceWeight)
    with pytest.raises(TypeError, match=r"'correction\[1\]' must be a Correction, got an object of type NoneType"):
        loss((ImportanceWeight(), None))
    with pytest.raises(TypeError, match=r"Corrections\(\): 'parts' must be a tuple of corrections"):
        Corrections([ImportanceWeight()])
    with pytest.raises(TypeError, match=r"Corrections\(\): 'parts\[0\]' must be a Correction"):
        Corrections((1,))
    with pytest.raises(TypeError, match=r"'correction' must be .*\(objects with coupled and weigh\), got an object"):
        loss(PPO())
    for weight, got in ((torch.ones(()), r"\(\)"), (torch.ones(3), r"\(3,\)"), (1.0, "float")):
        match = rf"'parts\[0\]' must give weights of shape \(2,\) \(= trained tokens\), got {got}"
        with pytest.raises(ValueError, match=match):
            loss(Broken(weight))


@pytest.mark.parametrize(
    ("counts", "error", "match"),
    [
        ({"mine": 1.0}, TypeError, r"must give the count 'mine' as a 0-d tensor on cpu.*got an object of type float"),
        ({"mine": torch.ones(2)}, TypeError, r"must give the count 'mine' as a 0-d .* got a 1-D float32 array on cpu"),
        ([1.0], TypeError, r"must give its counts as a mapping from names to 0-d tensors, got an object of type list"),
        ({"ratio": torch.ones(())}, ValueError, r"must not name a count 'ratio': the loss has a metric of this name"),
    ],
)
def test_counts_that_are_no_metrics(counts, error, match):
    class Mine:
        coupled = False

        def weigh(self, tokens):
            return torch.ones_like(tokens.theta), counts

    rows = Rows([0], [2])
    with pytest.raises(error, match=rf"Corrections\(\): 'parts\[0\]' {match}"):
        policy_loss(LogProbs(torch.zeros(2)), [1.0], rows, PPO(), normalizer=Normalizer.local(rows), correction=Mine())

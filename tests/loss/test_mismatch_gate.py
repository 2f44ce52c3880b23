"""Gate: against the oracle, the direction of the ratio, extremes, missing scores, sequences of negative advantage."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from mismatch_units import flat, inputs, random_batch  # noqa: E402

from rollmath import LogProbs, Ragged, Rows  # noqa: E402
from rollmath.loss import (  # noqa: E402
    PPO,
    Correction,
    Gate,
    Normalizer,
    Tokens,
    correction_weights,
    mismatch,
    policy_loss,
)
from rollmath.loss._engine import at_once, in_pieces  # noqa: E402

FORMS = {"pieces": in_pieces, "at once": at_once}
BOUNDS = {
    "ratio": [(0.5, 2.0), (0.0, 1.3), (0.9, math.inf)],
    "k1": [(-0.7, 0.7), (-math.inf, 0.2), (0.1, math.inf)],
    "k2": [(-math.inf, 0.3), (0.01, 2.0)],
    "k3": [(-math.inf, 0.3), (0.01, 2.0)],
}
INVERSE = {"prox/behaviour": "behaviour/prox", "theta/behaviour": "behaviour/theta", "theta/prox": "prox/theta"}

gates = st.sampled_from(sorted(BOUNDS)).flatmap(
    lambda statistic: st.fixed_dictionaries(
        {
            "statistic": st.just(statistic),
            "bounds": st.sampled_from(BOUNDS[statistic]),
            "level": st.sampled_from(["token", "turn", "row", "rollout"]),
            "reduce": st.sampled_from(["mean", "sum", "every"]),
            "ratio": st.sampled_from([*INVERSE, *INVERSE.values()]),
            "when": st.sampled_from(["always", "negative_advantage"]),
            "missing": st.sampled_from(["nan", "one", "zero"]),
        }
    )
)


@pytest.mark.parametrize("form", FORMS)
@given(padded=st.booleans(), seed=st.integers(0, 10**6), scale=st.sampled_from([0.1, 1.0, 1e4]), options=gates)
def test_agrees_with_the_oracle(oracle, form, padded, seed, scale, options):
    batch = random_batch(seed, scale=scale, nan=0.1)
    logprobs, rows = inputs(batch, padded=padded)
    advantages = Ragged(flat(batch.advantages), rows.offsets)
    expected, counts = oracle("loss/mismatch_gate.py", "Gate")(batch, **options)
    given_advantages = {"advantages": advantages, "level": "token"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rollmath.loss._mismatch_report.evaluate", FORMS[form])
        weights = correction_weights(logprobs, rows, Gate(**options), **given_advantages)
        metrics = mismatch(logprobs, rows, correction=Gate(**options), **given_advantages).to_dict()
    if padded:
        weights = Ragged.from_padded(weights, lengths=rows.lengths).values
    np.testing.assert_array_equal(weights, flat(expected))
    n = max(int(rows.trained.sum()), 1)
    if not any(math.isnan(x) for x in flat(expected)):
        for name, count in counts.items():
            assert metrics[name] == pytest.approx(count / n), name


@given(seed=st.integers(0, 10**6), options=gates)
def test_the_inverse_ratio_has_the_inverse_bounds(seed, options):
    options |= {"ratio": "prox/behaviour", "statistic": "ratio", "bounds": (0.5, 3.0)}
    logprobs, rows = inputs(random_batch(seed))
    a = np.linspace(-1, 1, rows.n_rollouts)
    inverse = Gate(**options | {"ratio": "behaviour/prox", "bounds": (1 / 3.0, 1 / 0.5)})
    straight, inverted = (
        correction_weights(logprobs, rows, gate, advantages=a, level="rollout") for gate in (Gate(**options), inverse)
    )
    assert torch.equal(straight, inverted)
    # k1 is -log of the ratio, so the same again with the other sign and in nats.
    nats = Gate(**options | {"statistic": "k1", "bounds": (-math.log(3.0), math.log(2.0))})
    assert torch.equal(straight, correction_weights(logprobs, rows, nats, advantages=a, level="rollout"))


def keep(gate, log_ratio, dtype=torch.float32, advantages=None):
    x = torch.tensor(log_ratio, dtype=dtype)
    a = torch.ones_like(x) if advantages is None else torch.tensor(advantages, dtype=dtype)
    return gate.weigh(Tokens.of(x, a, behaviour=torch.zeros_like(x)))[0].tolist()


def test_reductions_by_hand():
    x = [0.0, math.log(4.0)]
    assert keep(Gate("ratio", (0.5, 3.0)), x) == [1, 0]
    assert keep(Gate("ratio", (0.5, 3.0), level="row"), x) == [1, 1]  # geometric mean 2
    assert keep(Gate("ratio", (0.5, 3.0), level="row", reduce="sum"), x) == [0, 0]  # product 4
    assert keep(Gate("ratio", (0.5, 3.0), level="row", reduce="every"), x) == [0, 0]
    assert keep(Gate("ratio", (0.5, 4.1), level="row", reduce="every"), x) == [1, 1]
    k3 = 3 - math.log(4.0)
    assert keep(Gate("k3", k3 / 2 + 1e-6, level="row"), x) == [1, 1]
    assert keep(Gate("k3", k3 / 2 - 1e-6, level="row"), x) == [0, 0]


def test_a_statistic_on_a_bound_is_inside():
    assert keep(Gate("ratio", (0.5, 2.0)), [math.log(0.5), math.log(2.0)], torch.float64) == [1, 1]
    assert keep(Gate("k1", (-0.5, 0.25)), [0.5, -0.25, math.nextafter(0.5, 1)], torch.float64) == [1, 1, 0]
    assert keep(Gate("k3", (0.0, 0.0)), [0.0, 1e-9]) == [1, 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("statistic", sorted(BOUNDS))
@pytest.mark.parametrize("reduce", ["mean", "sum", "every"])
def test_extreme_ratios_are_rejected_and_never_nan(dtype, statistic, reduce):
    for level in ("token", "row"):
        gate = Gate(statistic, (0.5, 2.0) if statistic == "ratio" else (-1.0, 1.0), level=level, reduce=reduce)
        for far in (1e4, -1e4, math.inf, -math.inf):
            assert keep(gate, [far], dtype) == [0]
            assert keep(gate, [far, 0.0], dtype) == ([0, 1] if level == "token" else [0, 0])
        if reduce == "every" or statistic in {"k2", "k3"}:
            assert keep(gate, [math.inf, -math.inf], dtype) == [0, 0]
    wide = Gate("k3", 1e300, level="row")
    assert keep(wide, [math.inf], dtype) == [1]


def test_negative_advantages_only():
    far = [5.0, 5.0, 0.0]
    gate = Gate("k2", 1.0, level="row", when="negative_advantage")
    assert keep(gate, far, advantages=[-1.0, 0.0, 2.0]) == [0, 1, 1]
    assert keep(gate, far, advantages=[-1.0, -1.0, -1.0]) == [0, 0, 0]
    assert gate.reads_advantages
    assert not Gate("k2", 1.0).reads_advantages
    logprobs = LogProbs(torch.zeros(1), behaviour=torch.zeros(1))
    for function in (correction_weights, lambda *x: mismatch(*x[:2], correction=x[2])):
        with pytest.raises(ValueError, match="'advantages' must be given for a correction that depends on them"):
            function(logprobs, Rows([0], [1]), gate)


def test_missing_scores():
    behaviour = torch.tensor([math.nan, -3.0])
    tokens = Tokens.of(torch.tensor([-1.0, -1.0]), -torch.ones(2), behaviour=behaviour)

    def weights(gate):
        return gate.weigh(tokens)[0].tolist()

    for when in ("always", "negative_advantage"):
        assert math.isnan(weights(Gate("k2", 1.0, when=when))[0])
        assert all(map(math.isnan, weights(Gate("k2", 9.0, when=when, level="row"))))
        assert all(map(math.isnan, weights(Gate("k2", 9.0, when=when, level="row", reduce="every"))))
    assert weights(Gate("k2", 1.0, missing="one")) == [1, 0]
    # The mean is over both: 2 / 2.
    assert weights(Gate("k2", 1.1, missing="one", level="row")) == [1, 1]
    assert weights(Gate("k2", 1.1, missing="zero", level="row")) == [0, 1]


def test_what_is_rejected_stays_in_the_denominator():
    rows = Rows([0, 1], [1, 1])
    logprobs = LogProbs(torch.zeros(2), behaviour=torch.tensor([0.0, -5.0]))
    norm = Normalizer.local(rows)
    out = policy_loss(logprobs, [1.0, 1.0], rows, PPO(), normalizer=norm, correction=Gate("ratio", 2.0))
    assert out.loss.item() == -0.5
    assert out.metrics["gate_high"].item() == out.metrics["mismatch_kept"].item() == 0.5
    assert out.metrics["gate_low"] == 0


def test_a_policy_is_missing():
    rows = Rows([0], [1])
    with pytest.raises(ValueError, match=r"Gate\(\): 'logprobs' must have 'behaviour'"):
        correction_weights(LogProbs(torch.zeros(1)), rows, Gate("k1", 1.0))
    assert correction_weights(LogProbs(torch.zeros(1)), rows, Gate("k1", 1.0, ratio="theta/prox")).tolist() == [1]


def test_a_value():
    assert Gate("k1", 0.5) == Gate("k1", (-math.inf, 0.5))
    assert Gate("ratio", 2) == Gate("ratio", (0.0, 2.0))
    assert isinstance(Gate("k1", 0.5), Correction)
    assert not Gate("k1", 0.5).coupled
    assert Gate("k1", 0.5, level="turn").coupled


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"statistic": "kl"}, ValueError, "'statistic'"),
        ({"bounds": (1.0, 0.5)}, ValueError, r"Gate\(\): 'bounds' must be \(lo, hi\) with lo <= hi, got \(1.0, 0.5\)"),
        ({"bounds": (1.0,)}, ValueError, r"'bounds' must be \(lo, hi\) or one number, the upper bound"),
        ({"bounds": (-0.5, 0.5), "statistic": "ratio"}, ValueError, "0 <= lo <= hi"),
        ({"bounds": None}, TypeError, "'bounds' must be a number"),
        ({"level": "group"}, ValueError, "'level'"),
        ({"reduce": "max"}, ValueError, "'reduce'"),
        ({"ratio": "behaviour/behaviour"}, ValueError, "'ratio'"),
        ({"when": "negative"}, ValueError, "'when'"),
        ({"missing": None}, ValueError, "'missing'"),
    ],
)
def test_options(arguments, error, match):
    with pytest.raises(error, match=match):
        Gate(**{"statistic": "k1", "bounds": 1.0} | arguments)

"""loss.AdaptiveEntropy and loss.AdaptiveKL."""

import dataclasses
import json
import pickle

import pytest

pytest.importorskip("torch")

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rollmath.loss import AdaptiveEntropy, AdaptiveKL

#: Around the target, on it, and far from it.
ENTROPIES = st.lists(st.one_of(st.sampled_from([0.2, 0.2000001, 0.0]), st.floats(0, 10)), max_size=40)
OPTIONS = [
    {"coef": 0.0, "target": 0.2, "delta": 0.005, "low": 0.0, "high": 1.0},
    {"coef": 0.03, "target": 0.2, "delta": 0.02, "low": 0.01, "high": 0.05},
    {"coef": 0.5, "target": 5.0, "delta": 0.0, "low": 0.5, "high": 0.5},
]
MEASURED = st.lists(st.tuples(st.floats(-2, 20), st.integers(0, 2000)), max_size=30)
KL = {"coef": 0.1, "target": 6.0, "horizon": 10000.0}


@given(ENTROPIES, st.sampled_from(OPTIONS))
def test_a_run_by_the_rules_of_trl(oracle, entropies, options):
    control, steps = AdaptiveEntropy(**options), []
    for entropy in entropies:
        applied = control.coefficient
        control = control.update(entropy)
        steps.append((applied, control.coef))
        assert options["low"] <= control.coef <= options["high"]
        assert control.last == entropy
    # The same additions in the same order: the same bits.
    assert steps == oracle("loss/controllers.py", "AdaptiveEntropy")(entropies, **options)


def test_entropy_by_hand():
    control = AdaptiveEntropy(coef=0.01, target=0.5, delta=0.004, high=0.016)
    assert control.coefficient == 0.0
    seen = []
    for entropy in (0.6, 0.5, 0.4, 0.3, 0.2, 0.51):
        control = control.update(entropy)
        seen.append((round(control.coef, 6), round(control.coefficient, 6)))
    assert seen == [(0.006, 0.0), (0.01, 0.01), (0.014, 0.014), (0.016, 0.016), (0.016, 0.016), (0.012, 0.0)]


def test_the_gate_may_close_while_the_coefficient_rises():
    """The bonus of a step was measured a step before: nothing is applied in the first one, and too much in the last."""
    control = AdaptiveEntropy(coef=0.1, target=1.0)
    assert control.update(0.5).coefficient == pytest.approx(0.105)
    assert control.update(0.5).update(1.5).coefficient == 0.0
    assert control.update(0.5).update(1.5).coef == pytest.approx(0.1)


@given(MEASURED)
def test_a_run_of_the_kl_controller(oracle, tolerance, measured):
    control, values = AdaptiveKL(**KL), []
    for kl, rollouts in measured:
        control = control.update(kl, rollouts=rollouts)
        values.append(control.coefficient)
    expected = oracle("loss/controllers.py", "AdaptiveKL")(measured, **KL)
    np.testing.assert_allclose(values, expected, **tolerance("float64"))


def test_kl_by_hand():
    control = AdaptiveKL(coef=1.0, target=2.0, horizon=10.0)
    assert control.update(2.0, rollouts=10).coef == 1.0
    assert control.update(2.2, rollouts=5).coef == pytest.approx(1.05)
    assert control.update(100.0, rollouts=5).coef == pytest.approx(1.1)
    assert control.update(-1.0, rollouts=5).coef == pytest.approx(0.9)
    assert control.update(9.0, rollouts=0).coef == 1.0
    assert control.update(0.0, rollouts=49).coef == pytest.approx(0.02)


@given(st.floats(0.5, 1.5), st.floats(1e-3, 10))
def test_kl_is_held_at_its_target(start, coef):
    """A policy whose KL falls as the coefficient rises ends at the target."""
    control = AdaptiveKL(coef=coef, target=1.0, horizon=10)
    for _ in range(600):
        control = control.update(start / control.coef, rollouts=5)
    assert start / control.coef == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("control", [AdaptiveEntropy(coef=0.1).update(0.15), AdaptiveKL(**KL).update(7.0, rollouts=64)])
def test_they_are_values(control):
    assert pickle.loads(pickle.dumps(control)) == control
    assert type(control)(**json.loads(json.dumps(dataclasses.asdict(control)))) == control
    assert hash(control) == hash(dataclasses.replace(control))
    with pytest.raises(dataclasses.FrozenInstanceError):
        control.coef = 1.0
    before = dataclasses.asdict(control)
    control.update(*([9.0]), **({"rollouts": 1} if isinstance(control, AdaptiveKL) else {}))
    assert dataclasses.asdict(control) == before


def test_numbers_become_floats():
    control = AdaptiveEntropy(coef=np.float32(0.5), target=1, high=np.int64(1))
    assert [type(x) for x in dataclasses.astuple(control)] == [float] * 5 + [type(None)]
    assert AdaptiveKL(1, 6, 10000) == AdaptiveKL(1.0, 6.0, 10000.0)
    json.dumps(dataclasses.asdict(AdaptiveEntropy()), allow_nan=False)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (
            lambda: AdaptiveEntropy(coef=2.0),
            ValueError,
            r"AdaptiveEntropy\(\): 'coef' must be between 0 and 1, got 2.0",
        ),
        (lambda: AdaptiveEntropy(coef=0.1, low=0.2), ValueError, "'coef' must be between 0.2 and 1, got 0.1"),
        (lambda: AdaptiveEntropy(low=0.5, high=0.2), ValueError, "'high' must be finite and at least 0.5, got 0.2"),
        (lambda: AdaptiveEntropy(low=float("-inf")), ValueError, "'low' must be finite, got -inf"),
        (lambda: AdaptiveEntropy(delta=-0.1), ValueError, "'delta' must be finite and not negative, got -0.1"),
        (lambda: AdaptiveEntropy(target=float("nan")), ValueError, "'target' must be finite, got nan"),
        (lambda: AdaptiveEntropy(last=float("inf")), ValueError, "'last' must be finite, got inf"),
        (lambda: AdaptiveEntropy(coef="0"), TypeError, "'coef' must be a number, got an object of type str"),
        (
            lambda: AdaptiveEntropy().update(float("nan")),
            ValueError,
            r"AdaptiveEntropy.update\(\): 'entropy' must be finite, got nan",
        ),
        (lambda: AdaptiveEntropy().update(None), TypeError, r"AdaptiveEntropy.update\(\): 'entropy' must be a number"),
        (lambda: AdaptiveKL(0.0, 6.0, 1e4), ValueError, r"AdaptiveKL\(\): 'coef' must be finite and positive, got 0.0"),
        (lambda: AdaptiveKL(0.1, -6.0, 1e4), ValueError, "'target' must be finite and positive, got -6.0"),
        (lambda: AdaptiveKL(0.1, 6.0, float("inf")), ValueError, "'horizon' must be finite and positive, got inf"),
        (lambda: AdaptiveKL(0.1, 6.0, True), TypeError, "'horizon' must be a number, got True"),
        (
            lambda: AdaptiveKL(**KL).update(float("inf"), rollouts=1),
            ValueError,
            r"AdaptiveKL.update\(\): 'kl' must be finite, got inf",
        ),
        (lambda: AdaptiveKL(**KL).update(1.0, rollouts=-1), ValueError, "'rollouts' must be at least 0, got -1"),
        (lambda: AdaptiveKL(**KL).update(1.0, rollouts=1.5), TypeError, "'rollouts' must be a whole number"),
        (
            lambda: AdaptiveKL(**KL).update(1.0, rollouts=50000),
            ValueError,
            r"AdaptiveKL.update\(\): 'rollouts' must be less than 5 horizons \(= 50000\), got 50000",
        ),
    ],
)
def test_errors(call, error, match):
    with pytest.raises(error, match=match):
        call()

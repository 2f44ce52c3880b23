"""loss.chord_mu and loss.remix_lambda."""

import pytest

pytest.importorskip("torch")

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rollmath.loss import chord_mu, remix_lambda

CHORD_MU = {"warmup": 0, "decay": 200, "peak": 0.9, "valley": 0.05}
WEIGHTS = st.floats(0, 1, width=32)


def test_by_hand(vectors):
    v = vectors("flat")["chord"]
    options = {"warmup": v["warm"], "decay": v["decay"], "peak": v["peak"], "valley": v["valley"]}
    assert [chord_mu(t, **options) for t in v["steps"]] == pytest.approx(v["mu"], abs=1e-15)
    v = vectors("flat")["remix_lambda"]
    assert [remix_lambda(t) for t in v["t"]] == pytest.approx(v["lam"], abs=1e-15)


@given(st.integers(0, 500), st.integers(0, 200), st.integers(0, 200), WEIGHTS, WEIGHTS)
def test_the_oracle(oracle, tolerance, t, warmup, decay, peak, valley):
    options = {"warmup": warmup, "decay": decay, "peak": peak, "valley": valley}
    expected = oracle("loss/schedules.py", "chord_mu")(t, **options)
    np.testing.assert_allclose(chord_mu(t, **options), expected, **tolerance("float64"))


@given(st.integers(0, 500), st.integers(0, 100), st.integers(1, 50), st.floats(0, 1, width=32), WEIGHTS)
def test_the_oracle_of_remix(oracle, tolerance, t, start, every, drop, floor):
    options = {"start": start, "every": every, "drop": drop, "floor": floor}
    expected = oracle("loss/schedules.py", "remix_lambda")(t, **options)
    np.testing.assert_allclose(remix_lambda(t, **options), expected, **tolerance("float64"))


@given(st.integers(0, 40), st.integers(1, 200), WEIGHTS, WEIGHTS)
def test_chord_mu_is_continuous_and_meets_its_ends(warmup, decay, peak, valley):
    options = {"warmup": warmup, "decay": decay, "peak": peak, "valley": valley}
    mu = np.array([chord_mu(t, **options) for t in range(warmup + decay + 3)])
    assert mu[warmup] == peak
    assert (mu[warmup + decay :] == valley).all()
    assert mu[0] == (0 if warmup else peak)
    assert (mu >= min(0 if warmup else peak, valley)).all()
    assert (mu <= max(peak, valley)).all()
    # No step is larger than the steepest place of the line or of the cosine.
    steepest = max(peak / warmup if warmup else 0, abs(peak - valley) * np.pi / 2 / decay)
    assert (np.abs(np.diff(mu)) <= steepest + 1e-12).all()


def test_the_published_settings():
    mu = [chord_mu(t, **CHORD_MU) for t in range(300)]
    assert mu[0] == 0.9
    assert mu[100] == pytest.approx(0.475)
    assert set(mu[200:]) == {0.05}
    assert (np.diff(mu) <= 0).all()
    assert {chord_mu(t, warmup=0, decay=0, peak=0.1, valley=0.1) for t in range(300)} == {0.1}
    # Without a decay the peak is never reached.
    assert [chord_mu(t, warmup=2, decay=0, peak=1.0, valley=0.25) for t in range(4)] == [0.0, 0.5, 0.25, 0.25]
    assert chord_mu(np.int64(3), **CHORD_MU) == chord_mu(3, **CHORD_MU)


@given(st.integers(0, 30), st.integers(1, 20), st.floats(0, 1, width=32), WEIGHTS)
def test_remix_lambda_never_rises(start, every, drop, floor):
    lam = np.array([remix_lambda(t, start=start, every=every, drop=drop, floor=floor) for t in range(120)])
    assert (lam[: start + 1] == 1).all()
    assert (np.diff(lam) <= 0).all()
    assert (lam >= floor).all()
    assert all(len(set(lam[s : s + every])) == 1 for s in range(start + 1, 120 - every, every))


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: chord_mu(1.5, **CHORD_MU), TypeError, r"chord_mu\(\): 'step' must be a whole number, got an object"),
        (lambda: chord_mu(True, **CHORD_MU), TypeError, "'step' must be a whole number"),
        (lambda: chord_mu(-1, **CHORD_MU), ValueError, r"chord_mu\(\): 'step' must be at least 0, got -1"),
        (lambda: chord_mu(0, **{**CHORD_MU, "warmup": -1}), ValueError, "'warmup' must be at least 0, got -1"),
        (lambda: chord_mu(0, **{**CHORD_MU, "decay": -1}), ValueError, "'decay' must be at least 0, got -1"),
        (lambda: chord_mu(0, **{**CHORD_MU, "decay": 2.0}), TypeError, "'decay' must be a whole number"),
        (lambda: chord_mu(0, **{**CHORD_MU, "peak": 1.5}), ValueError, "'peak' must be between 0 and 1, got 1.5"),
        (lambda: chord_mu(0, **{**CHORD_MU, "valley": -0.1}), ValueError, "'valley' must be between 0 and 1, got -0.1"),
        (lambda: chord_mu(0, **{**CHORD_MU, "peak": "1"}), TypeError, "'peak' must be a number, got an object of type"),
        (lambda: remix_lambda(-1), ValueError, r"remix_lambda\(\): 'step' must be at least 0, got -1"),
        (lambda: remix_lambda(0.0), TypeError, r"remix_lambda\(\): 'step' must be a whole number"),
        (lambda: remix_lambda(0, start=-1), ValueError, "'start' must be at least 0, got -1"),
        (lambda: remix_lambda(0, every=0), ValueError, "'every' must be at least 1, got 0"),
        (lambda: remix_lambda(0, drop=2.0), ValueError, "'drop' must be between 0 and 1, got 2.0"),
        (lambda: remix_lambda(0, floor=float("nan")), ValueError, "'floor' must be between 0 and 1, got nan"),
    ],
)
def test_errors(call, error, match):
    with pytest.raises(error, match=match):
        call()

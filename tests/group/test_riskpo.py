"""RiskPO: papers of bundles, tracked quantiles, mixed value-at-risk."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

riskpo, bundle_scores, QuantileTracker = rm.group.riskpo, rm.group.bundle_scores, rm.group.QuantileTracker

REWARDS = st.one_of(st.sampled_from([0.0, 1.0, 1.0]), st.integers(-128, 128).map(lambda k: k / 64))
#: Prompt 0 to 5, of which three each are a bundle.
ROWS = st.lists(st.tuples(REWARDS, st.integers(0, 5), st.booleans()), max_size=30)
OPTIONS = st.fixed_dictionaries(
    {
        "levels": st.sampled_from([(0.2, 0.9), (0.25, 0.5)]),
        "quantiles": st.sampled_from([None, (0.5, 2.5), (1.0, 1.0)]),
        "blend": st.sampled_from([1.0, 0.5, 0.0]),
        "weight": st.sampled_from([1.5, 0.0]),
        "natural_baseline": st.booleans(),
        "scale": st.sampled_from(["none", "std"]),
        "credit": st.sampled_from(["uniform", "score"]),
    }
)
RULES = st.sampled_from([{}, {"ddof": 0, "eps": 1e-3, "singleton": "raw", "zero_spread": "unscaled"}])


def unzip(rows, dtype=np.float64):
    r, ids, valid = zip(*rows, strict=True) if rows else ((),) * 3
    ids = np.array(ids, dtype=np.int64)
    return np.array(r, dtype=dtype), ids, ids % 2, np.array(valid, dtype=bool)


def test_by_hand(vectors):
    v = vectors("flat")["riskpo"]
    scores = v["bundle_scores"]
    args = (scores, [0] * 6, [0] * 6)
    assert_allclose(riskpo(*args, levels=(0.2, 0.8)), v["adv"], rtol=1e-14)
    assert_allclose(riskpo(*args, levels=(0.2, 0.8), natural_baseline=False), v["adv_no_shift"], rtol=1e-14)
    # The same quantiles from outside.
    assert_allclose(riskpo(*args, levels=(0.2, 0.8), quantiles=tuple(v["q"])), v["adv"], rtol=1e-14)


def test_the_tracker_by_hand(vectors):
    v = vectors("flat")["riskpo_qtrack"]
    tracker = QuantileTracker((v["alpha"],), (v["q0"],), lr=v["lr"])
    # A quarter of the values lies below 1.
    assert tracker.update([0.0, 1.0, 2.0, 3.0]).values == (v["q1"],)
    assert tracker.values == (v["q0"],)


@given(ROWS, OPTIONS, RULES, st.booleans(), st.booleans(), st.sampled_from(["f4", "f8"]))
def test_the_oracle(oracle, tolerance, rows, options, rules, masked, ordered, dtype):
    r, ids, bundles, valid = unzip(rows, dtype)
    more = {"valid": valid if masked else None, "order": -np.arange(len(r)) if ordered else None}
    args = (r.astype(float), ids.tolist(), bundles.tolist())
    expected = oracle("group/riskpo.py", "riskpo")(*args, **options, **more, **rules)
    got = riskpo(r, ids, bundles, **options, **more, **rules)
    assert got.dtype == r.dtype
    assert_allclose(got, expected, **tolerance(r.dtype))
    papers = bundle_scores(r, ids, bundles, **more)
    scores, bundle, paper = oracle("group/riskpo.py", "bundle_scores")(*args, **more)
    assert_allclose(papers.scores, scores, **tolerance(r.dtype))
    assert papers.bundle.tolist() == bundle.tolist()
    assert papers.paper.tolist() == paper.tolist()


@given(ROWS, OPTIONS, st.randoms(use_true_random=False), st.sampled_from([np.float32, np.float64]))
def test_with_order_permuting_rows_changes_no_bit(same_bits, rows, options, random, dtype):
    r, ids, bundles, valid = unzip(rows)
    r, order = r.astype(dtype) * dtype(0.1), np.arange(len(r))
    turn = np.arange(len(r))
    random.shuffle(turn)
    got = riskpo(r[turn], ids[turn], bundles[turn], order=order[turn], valid=valid[turn], **options)
    same_bits(got, riskpo(r, ids, bundles, valid=valid, **options)[turn])


@given(ROWS, OPTIONS)
def test_prompts_may_come_in_any_order_and_bundles_do_not_see_each_other(same_bits, rows, options):
    r, ids, bundles, _ = unzip(rows)
    whole = riskpo(r, ids, bundles, **options)
    by = np.argsort(ids, kind="stable")[::-1]
    by = np.concatenate([np.flatnonzero(ids == g) for g in dict.fromkeys(ids[by].tolist())] or [by])
    same_bits(riskpo(r[by], ids[by], bundles[by], **options), whole[by])
    for bundle in set(bundles.tolist()):
        mine = bundles == bundle
        same_bits(riskpo(r[mine], ids[mine], bundles[mine], **options), whole[mine])


@given(ROWS)
def test_the_natural_baseline_leaves_nothing_positive(tolerance, rows):
    r, ids, bundles, _ = unzip(rows)
    got = riskpo(r, ids, bundles)
    assert (got <= 1e-12).all()
    # Quantiles of the bundle itself grow with its scores.
    assert_allclose(riskpo(3 * r, ids, bundles), 3 * got, **tolerance("float64"))


def test_papers_are_the_jth_rollouts_of_each_prompt():
    got = bundle_scores([1, 2, 10, 20, 30, 100], list("ppqqqr"), ["x"] * 5 + ["y"])
    assert (got.scores.tolist(), got.bundle.tolist()) == ([11.0, 22.0, 100.0], [0, 0, 1])
    assert got.paper.tolist() == [0, 1, 0, 1, -1, 2]
    left_out = bundle_scores([1, 2, 10, 20, 30, 100], list("ppqqqr"), ["x"] * 5 + ["y"], valid=[0, 0, 1, 1, 1, 0])
    # A prompt without valid rollouts is no part of its bundle, and a bundle of such has no papers.
    assert (left_out.scores.tolist(), left_out.paper.tolist()) == ([10.0, 20.0, 30.0], [-1, -1, 0, 1, 2, -1])


def test_a_changed_tracker_changes_the_advantage():
    """In the official code the quantiles of a batch are stored after its advantage, and read by nobody."""
    args = ([0.0, 1.0, 1.0, 0.0], [0, 0, 1, 1], [0] * 4)
    tracker = QuantileTracker((0.2, 0.9), (0.5, 1.5))
    before = riskpo(*args, quantiles=tracker)
    seen = bundle_scores(*args)
    moved = tracker.update(seen.scores)
    assert_allclose(moved.values, (0.5 + 0.1 * 0.2, 1.5 + 0.1 * (0.9 - 1)))
    after = riskpo(*args, quantiles=moved)
    assert (after != before).all()
    assert (before == riskpo(*args, quantiles=(0.5, 1.5))).all()
    own = riskpo(*args)
    assert_allclose(riskpo(*args, quantiles=tracker, blend=0.0), own)
    assert not np.allclose(riskpo(*args, quantiles=tracker, blend=0.5), own)


def test_the_tracker_finds_the_quantiles():
    rng = np.random.default_rng(0)
    tracker = QuantileTracker((0.2, 0.9), (0.0, 0.0), lr=0.05)
    for _ in range(400):
        tracker = tracker.update(rng.random(64))
    assert_allclose(tracker.values, (0.2, 0.9), atol=0.03)


def test_the_tracker_is_a_value(same_bits):
    tracker = QuantileTracker((0.2, 0.9), (1.0, 1.005))
    assert pickle.loads(pickle.dumps(tracker)) == tracker
    assert hash(tracker) == hash(QuantileTracker([0.2, 0.9], [1, 1.005]))
    assert tracker.update([]) is tracker
    # All mass between the two would make them cross: they are put in order.
    assert tracker.update([1.002] * 4).values == pytest.approx((0.995, 1.02))
    with pytest.raises(AttributeError):
        tracker.lr = 1.0


def test_bundles_without_spread_and_of_one_paper():
    args = ([1.0, 1.0, 0.0, 0.0, 5.0], [0, 0, 1, 1, 2], [0, 0, 0, 0, 1])
    assert not riskpo(*args).any()  # own quantiles: every score is both of them
    tracked = {"quantiles": (2.0, 3.0), "scale": "std"}
    assert not riskpo(*args, **tracked).any()
    undivided = riskpo(*args, quantiles=(2.0, 3.0))
    assert_allclose(riskpo(*args, **tracked, zero_spread="unscaled", singleton="raw", eps=1e-9), undivided, rtol=1e-5)
    assert np.isnan(riskpo(*args, **tracked, zero_spread="nan")).tolist() == [True] * 4 + [False]
    for place in ("add", "max", "sqrt", "where_positive"):
        got = riskpo([0.0, 2.0], [0, 0], [0, 0], scale="std", eps_place=place, ddof=0)
        assert_allclose(got, riskpo([0.0, 2.0], [0, 0], [0, 0]), rtol=1e-5)


def test_kinds_and_layouts():
    torch = pytest.importorskip("torch")
    r, ids = torch.tensor([1.0, 0.0, 1.0, 1.0]), torch.tensor([5, 5, 6, 6])
    out = riskpo(r, ids, torch.tensor([1] * 4))
    assert (type(out), out.dtype) == (torch.Tensor, torch.float32)
    scores = bundle_scores(r, ids, torch.tensor([1] * 4))
    assert (type(scores.scores), scores.scores.dtype, type(scores.paper)) == (torch.Tensor, torch.float32, np.ndarray)
    wide = np.random.default_rng(0).normal(size=(6, 2))
    ids = [0, 0, 0, 1, 1, 1]
    assert (riskpo(wide[:, 1], ids, [0] * 6) == riskpo(wide[:, 1].copy(), ids, [0] * 6)).all()
    assert riskpo([], [], []).tolist() == []
    assert riskpo([math.nan, 1.0], [0, 0], [0, 0], valid=[0, 0]).tolist() == [0.0, 0.0]
    assert bundle_scores([], [], []).scores.tolist() == []


ONE = ([1.0], [0], [0])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: riskpo(*ONE, levels=(0.9, 0.2)), ValueError, r"riskpo\(\): 'levels' must be 0 < low < high < 1, got"),
        (lambda: riskpo(*ONE, levels=(0.0, 0.9)), ValueError, "'levels' must be 0 < low < high < 1"),
        (lambda: riskpo(*ONE, levels=0.5), TypeError, "'levels' must be two numbers, got 0.5"),
        (lambda: riskpo(*ONE, levels=(0.2, math.nan)), ValueError, "'levels' must be finite, got nan"),
        (lambda: riskpo(*ONE, quantiles=(2.0, 1.0)), ValueError, r"'quantiles' must not decrease, got \(2.0, 1.0\)"),
        (lambda: riskpo(*ONE, quantiles=(1.0,)), TypeError, "'quantiles' must be two numbers"),
        (
            lambda: riskpo(*ONE, quantiles=QuantileTracker((0.2, 0.8), (0.0, 1.0))),
            ValueError,
            r"'quantiles' must be of the levels \(0.2, 0.9\), got a tracker of \(0.2, 0.8\)",
        ),
        (lambda: riskpo(*ONE, blend=1.5), ValueError, "'blend' must be between 0 and 1, got 1.5"),
        (lambda: riskpo(*ONE, weight=-1), ValueError, "'weight' must be finite and not negative, got -1"),
        (lambda: riskpo(*ONE, natural_baseline=None), TypeError, "'natural_baseline' must be True or False, got None"),
        (lambda: riskpo(*ONE, scale="mean"), ValueError, "'scale' must be one of 'none', 'std', got 'mean'"),
        (lambda: riskpo(*ONE, credit="sum"), ValueError, "'credit' must be one of 'uniform', 'score', got 'sum'"),
        (lambda: riskpo(*ONE, nan="omit"), ValueError, "'nan' must be 'raise', since a sum needs all its rewards, got"),
        (
            lambda: riskpo(*ONE, scale="std", singleton="raise"),
            ValueError,
            "'bundles' has a bundle of one paper or with",
        ),
        (
            lambda: riskpo([1.0, 1.0], [0, 0], [0, 1]),
            ValueError,
            "'bundles' must be equal for all rollouts of a prompt, ",
        ),
        (
            lambda: riskpo([1.0], [0], [0, 1]),
            ValueError,
            r"'bundles' must have length 1 \(= the number of rows\), got 2",
        ),
        (
            lambda: riskpo([math.nan], [0], [0]),
            ValueError,
            "'rewards' must be finite where rows are valid, got nan at i",
        ),
        (lambda: riskpo(*ONE, order=[math.nan]), ValueError, "'order' must be finite where rows are valid"),
        (
            lambda: bundle_scores([1.0, 2.0], [0, 0], [0, 0], order=[3, 3]),
            ValueError,
            r"bundle_scores\(\): 'order' must differ within a prompt, but that of row 1 occurs twice",
        ),
        (
            lambda: QuantileTracker((0.9, 0.2), (0, 1)),
            ValueError,
            r"'levels' must increase strictly within \(0, 1\), go",
        ),
        (lambda: QuantileTracker((), ()), ValueError, "'levels' must increase strictly"),
        (lambda: QuantileTracker((0.2, 1.0), (0, 1)), ValueError, "'levels' must increase strictly"),
        (lambda: QuantileTracker((0.2,), (0, 1)), ValueError, "'values' must be one a level and not decrease"),
        (lambda: QuantileTracker((0.2, 0.3), (1, 0)), ValueError, "'values' must be one a level and not decrease"),
        (lambda: QuantileTracker((0.2,), (math.inf,)), ValueError, "'values' must be finite, got inf"),
        (lambda: QuantileTracker((0.2,), (0,), lr=-1), ValueError, "'lr' must be finite and not negative, got -1"),
        (
            lambda: QuantileTracker((0.2,), (0,)).update([math.nan]),
            ValueError,
            r"QuantileTracker.update\(\): 'x' must be finite where rows are valid, got nan at index 0",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()

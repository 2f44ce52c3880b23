"""Evaluation metrics: against all subsets, in exact fractions, and their laws."""

from __future__ import annotations

import math
from fractions import Fraction
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm
from rollmath._metrics_interval import t_quantile

metrics = rm.metrics
pass_at_k, best_at_k, worst_at_k, maj_at_k = (
    metrics.pass_at_k,
    metrics.best_at_k,
    metrics.worst_at_k,
    metrics.maj_at_k,
)
#: score, group, answer, valid
ROWS = st.lists(
    st.tuples(st.integers(-8, 8), st.integers(0, 2), st.sampled_from("xyz"), st.booleans()), min_size=1, max_size=12
)


def unzip(rows):
    scores, ids, answers, valid = zip(*rows, strict=True)
    return np.array(scores, dtype=float) / 4, list(ids), list(answers), np.array(valid, dtype=bool)


def options_of(rows, masked, replacement):
    return {"valid": unzip(rows)[3] if masked else None, "replacement": replacement}


@pytest.mark.parametrize("name", ["best_at_k", "worst_at_k"])
@given(ROWS, st.integers(1, 4), st.booleans(), st.booleans())
def test_every_draw_of_the_extremes(oracle, tolerance, name, rows, k, masked, replacement):
    scores, ids, _, _ = unzip(rows)
    options = options_of(rows, masked, replacement)
    expected = oracle("metrics.py", name)(scores, ids, k, **options)
    got = getattr(metrics, name)(scores, ids, k, short="skip", **options)
    assert_allclose(got.per_group, expected, **tolerance("float64"))


@given(ROWS, st.integers(1, 4), st.booleans(), st.booleans())
def test_every_draw_of_pass_at_k(oracle, tolerance, rows, k, masked, replacement):
    scores, ids, _, _ = unzip(rows)
    options = options_of(rows, masked, replacement)
    expected = oracle("metrics.py", "pass_at_k")(scores > 0, ids, k, **options)
    got = pass_at_k(scores > 0, ids, k, short="skip", **options)
    assert_allclose(got.per_group, expected, **tolerance("float64"))
    assert got.n_groups == np.count_nonzero(~np.isnan(expected))


@given(ROWS, st.integers(1, 4), st.booleans(), st.booleans(), st.sampled_from(["split", "zero"]))
def test_every_draw_of_the_vote(oracle, tolerance, rows, k, masked, replacement, ties):
    scores, ids, answers, _ = unzip(rows)
    options = options_of(rows, masked, replacement) | {"ties": ties}
    expected = oracle("metrics.py", "maj_at_k")(answers, scores, ids, k, **options)
    got = maj_at_k(answers, scores, ids, k, short="skip", **options)
    assert_allclose(got.per_group, expected, **tolerance("float64"))


def test_every_draw_of_larger_votes(oracle, tolerance):
    answers, scores = list("xxxxyyyzzw"), [1, 1, 0, 1, 0, 0, 0.5, 1, 1, 0]
    for k in range(1, 11):
        expected = oracle("metrics.py", "maj_at_k")(answers, scores, [0] * 10, k)
        assert_allclose(maj_at_k(answers, scores, [0] * 10, k).per_group, expected, **tolerance("float64"))
    expected = oracle("metrics.py", "maj_at_k")(answers[:7], scores[:7], [0] * 7, 6, replacement=True)
    got = maj_at_k(answers[:7], scores[:7], [0] * 7, 6, replacement=True)
    assert_allclose(got.per_group, expected, **tolerance("float64"))


def test_by_hand():
    e = pass_at_k([1, 0, 0, 0, 1, 1, 0, 0], ["a"] * 4 + ["b"] * 4, [1, 2, 4])
    assert_allclose(e.per_group, [[1 / 4, 1 / 2], [1 / 2, 5 / 6], [1, 1]])
    assert_allclose(e.value, [3 / 8, 2 / 3, 1])
    # The mean of 1/4 and 1/2 with one degree of freedom: t = tan(0.95 pi / 2), standard error 1/8.
    assert_allclose(e.high[0] - e.value[0], math.tan(0.95 * math.pi / 2) / 8)
    assert e.n_groups.tolist() == [2, 2, 2]
    # Two of three votes for the right answer; draws of two tie in two of three cases.
    assert maj_at_k(["x", "x", "y"], [1, 1, 0], [0] * 3, 2).value == pytest.approx(1 / 3 + 2 / 3 / 2)
    assert maj_at_k(["x", "x", "y"], [1, 1, 0], [0] * 3, 2, ties="zero").value == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("n", "c", "k"), [(100_000, 1, 1), (100_000, 10, 1000), (100_000, 300, 300), (100_000, 50_000, 3), (64, 3, 8)]
)
def test_pass_at_k_of_large_groups(n, c, k):
    correct = np.arange(n) < c
    exact = 1 - Fraction(math.comb(n - c, k), math.comb(n, k))
    got = Fraction(pass_at_k(correct, np.zeros(n, dtype=int), k).value)
    assert abs(got - exact) <= exact * Fraction(1, 10**12)
    best = Fraction(best_at_k(correct, np.zeros(n, dtype=int), k).value)
    assert abs(best - exact) <= Fraction(1, 10**11)


@pytest.mark.parametrize(("m", "n", "k"), [(40, 64, 64), (33, 64, 32), (150, 300, 25), (280, 300, 100)])
def test_the_vote_of_two_answers_is_a_hypergeometric_tail(m, n, k):
    ways = [math.comb(m, j) * math.comb(n - m, k - j) for j in range(k + 1)]
    exact = Fraction(2 * sum(ways[j] for j in range(k + 1) if 2 * j > k) + sum(ways[j] for j in [k // 2] if 2 * j == k))
    exact /= 2 * math.comb(n, k)
    answers = np.arange(n) < m
    got = maj_at_k(answers.astype(int), answers, np.zeros(n, dtype=int), k).value
    assert abs(Fraction(got) - exact) <= exact * Fraction(1, 10**12)


@given(ROWS, st.integers(1, 6))
def test_pass_at_k_is_the_best_of_zeros_and_ones(tolerance, rows, k):
    scores, ids, _, _ = unzip(rows)
    right = scores > 0
    for replacement in (False, True):
        options = {"short": "skip", "replacement": replacement}
        best = best_at_k(right, ids, k, **options).per_group
        assert_allclose(pass_at_k(right, ids, k, **options).per_group, best, **tolerance("float64"))


@given(ROWS, st.integers(1, 6))
def test_the_worst_is_the_best_upside_down(tolerance, rows, k):
    scores, ids, _, _ = unzip(rows)
    best = best_at_k(-scores, ids, k, short="skip").per_group
    assert_allclose(worst_at_k(scores, ids, k, short="skip").per_group, -best, **tolerance("float64"))


@given(ROWS, st.floats(-4, 4), st.sampled_from([0.5, 2.0]))
def test_shift_and_scale(tolerance, rows, shift, scale):
    scores, ids, answers, _ = unzip(rows)
    for metric in (best_at_k, worst_at_k, lambda x, *a, **o: maj_at_k(answers, x, *a, **o)):
        plain = metric(scores, ids, 2, short="skip").per_group
        moved = metric(scale * scores + shift, ids, 2, short="skip").per_group
        assert_allclose(moved, scale * plain + shift, **tolerance("float64"))


@given(ROWS)
def test_one_draw_is_the_mean_and_all_draws_are_the_extreme(tolerance, rows):
    scores, ids, answers, _ = unzip(rows)
    groups = rm.Groups(ids)
    mean = rm.ops.segment_mean(scores, groups)
    for metric in (best_at_k, worst_at_k, lambda x, *a, **o: maj_at_k(answers, x, *a, **o)):
        assert_allclose(metric(scores, groups, 1).per_group, mean, **tolerance("float64"))
    for group, size in enumerate(groups.counts.tolist()):
        alone = scores[groups.rows(group)]
        assert best_at_k(alone, [0] * size, size).value == alone.max()
        assert worst_at_k(alone, [0] * size, size).value == alone.min()


@given(ROWS, st.integers(1, 3))
def test_equal_scores_give_themselves(rows, k):
    _, ids, answers, _ = unzip(rows)
    same = np.full(len(ids), 0.1)
    for metric in (best_at_k, worst_at_k, lambda x, *a, **o: maj_at_k(answers, x, *a, **o)):
        for replacement in (False, True):
            got = metric(same, ids, k, short="skip", replacement=replacement).per_group
            assert (got[~np.isnan(got)] == 0.1).all()


@given(ROWS, st.integers(1, 3), st.randoms(use_true_random=False), st.booleans())
def test_permuting_samples_changes_no_bit(same_bits, rows, k, random, replacement):
    scores, ids, answers, valid = unzip(rows)
    ids, answers, scores = np.array(ids), np.array(answers), scores * 0.1
    order = np.arange(len(ids))
    random.shuffle(order)
    groups, turned = rm.Groups(ids), rm.Groups(ids[order])
    # Groups are numbered by first appearance.
    where = [turned.ids.index(name) for name in groups.ids]
    options = {"short": "skip", "replacement": replacement}
    for call in (
        lambda o, g: pass_at_k((scores > 0)[o], g, k, valid=valid[o], **options),
        lambda o, g: best_at_k(scores[o], g, k, valid=valid[o], **options),
        lambda o, g: worst_at_k(scores[o], g, k, valid=valid[o], **options),
        lambda o, g: maj_at_k(answers[o].tolist(), scores[o], g, k, valid=valid[o], **options),
        lambda o, g: maj_at_k(answers[o].tolist(), scores[o], g, k, valid=valid[o], ties="zero", **options),
    ):
        a, b = call(np.arange(len(ids)), groups), call(order, turned)
        same_bits(b.per_group[where], a.per_group)
        same_bits(np.array(b[:3]), np.array(a[:3]))


def test_groups_of_many_sizes_are_worked_on_apart(tolerance):
    rng = np.random.default_rng(0)
    ids = np.repeat(np.arange(150), rng.integers(3, 7, 150))
    answers, scores = rng.integers(0, 3, len(ids)), rng.random(len(ids))
    together = maj_at_k(answers, scores, ids, [1, 3])
    for group in range(0, 150, 7):
        alone = maj_at_k(answers[ids == group], scores[ids == group], [0] * (ids == group).sum(), [1, 3])
        assert (alone.per_group[:, 0] == together.per_group[:, group]).all()


@pytest.mark.parametrize("metric", [pass_at_k, best_at_k, worst_at_k])
def test_short_groups(metric):
    x, ids = [1, 0, 1, 1], ["a", "a", "b", "b"]
    valid = [True, True, True, False]
    with pytest.raises(
        ValueError, match=r"every group must have at least k = 2 valid samples, but 'b' has 1; short='skip'"
    ):
        metric(x, ids, 2, valid=valid)
    skipped = metric(x, ids, 2, valid=valid, short="skip")
    assert (skipped.n_groups, math.isnan(skipped.per_group[1]), math.isnan(skipped.low)) == (1, True, True)
    assert skipped.value == skipped.per_group[0]
    assert math.isnan(metric(x, ids, 2, valid=valid, short="nan").value)
    with pytest.raises(ValueError, match="every group must have a valid sample, but 'b' has 0"):
        metric(x, ids, 2, valid=[1, 1, 0, 0], replacement=True)
    nothing = metric([], [], [1, 2])
    assert np.isnan(nothing.value).all()
    assert nothing.per_group.shape == (2, 0)


def test_the_quantiles_of_t():
    # Closed forms: one degree of freedom is Cauchy, two are algebraic; and printed tables.
    for level in (0.5, 0.9, 0.95, 0.99):
        assert t_quantile(level, 1) == pytest.approx(math.tan(level * math.pi / 2), rel=1e-11)
        assert t_quantile(level, 2) == pytest.approx(level * math.sqrt(2 / (1 - level**2)), rel=1e-11)
        assert t_quantile(level, 10**7) == pytest.approx(NormalDist().inv_cdf((1 + level) / 2), rel=1e-6)
    assert [round(t_quantile(0.95, df), 3) for df in (5, 29, 100, 101, 1000)] == [2.571, 2.045, 1.984, 1.984, 1.962]


def test_the_interval_covers_the_mean_over_prompts():
    rng = np.random.default_rng(7)
    ids, hits = np.repeat(np.arange(12), 8), 0
    for _ in range(400):
        skill = rng.beta(2, 2, 12)
        e = pass_at_k(rng.random(96) < np.repeat(skill, 8), ids, 1)
        hits += e.low <= 0.5 <= e.high
    # A binomial of 400 draws at 0.95 has a standard deviation of 0.011.
    assert 0.91 < hits / 400 < 0.98


def test_the_normal_interval_is_narrower():
    x, ids = [1, 0, 1, 1, 0, 0], [0, 0, 1, 1, 2, 2]
    t, normal = pass_at_k(x, ids, 1), pass_at_k(x, ids, 1, interval="normal")
    assert normal.high - normal.low < t.high - t.low
    assert t.value == normal.value == 0.5
    wide = pass_at_k(x, ids, 1, level=0.99)
    assert wide.low < t.low


def test_tensors_strides_and_one_k_in_a_list(same_bits):
    torch = pytest.importorskip("torch")
    scores, ids = np.array([0.5, 1, 0, 2], dtype=np.float32), np.array([0, 0, 1, 1])
    for metric in (best_at_k, worst_at_k, lambda x, g, k: maj_at_k(torch.tensor([1, 1, 2, 3]), x, g, k)):
        one = metric(scores, ids, 2)
        assert isinstance(one, metrics.Estimate)
        assert isinstance(one.value, float)
        same_bits(metric(torch.from_numpy(scores), torch.from_numpy(ids), 2).per_group, one.per_group)
        same_bits(metric(np.repeat(scores, 2)[::2], ids, [2]).per_group[0], one.per_group)
        assert one.per_group.dtype == np.float64


def test_k_as_an_array(same_bits):
    x, ids = [1, 0, 1, 1], [0, 0, 1, 1]
    for k in (np.array(2), np.int64(2), np.array([2], dtype=np.uint8)[0]):
        one = pass_at_k(x, ids, k)
        assert isinstance(one.value, float)
        same_bits(one.per_group, pass_at_k(x, ids, 2).per_group)
    assert pass_at_k(x, ids, np.array([1, 2])).value.tolist() == pass_at_k(x, ids, [1, 2]).value.tolist()


@pytest.mark.parametrize("replacement", [False, True])
def test_scores_past_the_largest_difference(replacement):
    """1e308 - -1e308 is more than float64 has; the expectation is not."""
    big = np.array([1e308, -1e308, 1e308, 0.0])
    for metric in (best_at_k, worst_at_k):
        got = metric(big, [0, 0, 1, 1], [1, 2], replacement=replacement)
        small = metric(big / 1e308, [0, 0, 1, 1], [1, 2], replacement=replacement)
        assert_allclose(got.per_group, small.per_group * 1e308, rtol=1e-12)
        assert_allclose(got.value, small.value * 1e308, rtol=1e-12)
    # The interval of numbers that are far apart, of which the squares are more than float64 has.
    x = np.array([1.0, -1.0, 2.0, 0.5, 1.5, 0.0])
    got, small = best_at_k(x * 1e200, range(6), 1), best_at_k(x, range(6), 1)
    assert_allclose([got.low, got.high], [small.low * 1e200, small.high * 1e200], rtol=1e-12)
    assert best_at_k([np.finfo(float).max] * 2, [0, 0], 2).value == np.finfo(float).max


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: pass_at_k([1], [0, 1], 1), ValueError, r"pass_at_k\(\): 'correct' must have length 2"),
        (lambda: pass_at_k([0.5], [0], 1), ValueError, "'correct' must be 0 or 1 where samples are valid, got 0.5"),
        (lambda: pass_at_k([np.nan], [0], 1), ValueError, "'correct' must be finite where samples are valid, got nan"),
        (lambda: pass_at_k(["x"], [0], 1), TypeError, "'correct' must hold floats, ints or bools"),
        (lambda: pass_at_k([1], [0], 0), ValueError, "'k' must be at least 1, got 0"),
        (lambda: pass_at_k([1], [0], []), ValueError, "'k' must be at least 1, got an empty sequence"),
        (lambda: pass_at_k([1], [0], 1.0), TypeError, "'k' must be a whole number or a sequence of them, got .* float"),
        (lambda: pass_at_k([1], [0], [1, True]), TypeError, "'k' must be a whole number .* bool"),
        (lambda: pass_at_k([1], [0], np.array(1.0)), TypeError, "'k' must be a whole number or a sequence of them"),
        (lambda: pass_at_k([1], [0], np.array([[1]])), TypeError, "'k' must be a whole number or a sequence of them"),
        (lambda: pass_at_k([1], [0], np.array(True)), TypeError, "'k' must be a whole number or a sequence of them"),
        (lambda: pass_at_k([1], [0], "12"), TypeError, "'k' must be a whole number .* str"),
        (lambda: pass_at_k([1], [0], 1, short="drop"), ValueError, "'short' must be one of 'raise', 'skip', 'nan'"),
        (lambda: pass_at_k([1], [0], 1, interval="z"), ValueError, "'interval' must be one of 't', 'normal', got 'z'"),
        (lambda: pass_at_k([1], [0], 1, level=95), ValueError, "'level' must be a number between 0 and 1, got 95"),
        (lambda: pass_at_k([1], [0], 1, level=np.nan), ValueError, "'level' must be a number between 0 and 1, got nan"),
        (lambda: pass_at_k([1], [0], 1, replacement=1), TypeError, "'replacement' must be True or False, got 1"),
        (lambda: pass_at_k([1], [0], 1, valid=[0.5]), TypeError, "'valid' must be bool or integer"),
        (lambda: best_at_k([np.inf], [0], 1), ValueError, r"best_at_k\(\): 'scores' must be finite"),
        (lambda: worst_at_k([np.nan], [0], 1), ValueError, r"worst_at_k\(\): 'scores' must be finite"),
        (lambda: worst_at_k([1.0], [0], 2), ValueError, r"worst_at_k\(\): every group must have at least k = 2"),
        (lambda: maj_at_k(["x"], [1, 0], [0], 1), ValueError, r"maj_at_k\(\): 'scores' must have length 1"),
        (lambda: maj_at_k(["x"], [1, 0], [0, 0], 1), ValueError, r"maj_at_k\(\): 'answers' must have length 2"),
        (lambda: maj_at_k([None], [1], [0], 1), TypeError, "'answers' must be strings, ints, UUIDs or tuples"),
        (lambda: maj_at_k(["x"], [1], [0], 1, ties="first"), ValueError, "'ties' must be one of 'split', 'zero'"),
    ],
)
def test_errors(call, error, match):
    with pytest.raises(error, match=match):
        call()

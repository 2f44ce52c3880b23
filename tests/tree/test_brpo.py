"""tree.brpo and brpo_summary: numbers of the official code, the oracle, and the laws of the formula."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath.tree import brpo, brpo_summary

SEEDS = st.integers(0, 2**32)
BASELINES = ["both", "past", "group", "none"]


def draw(seed):
    """Scores ``[N, S, A]``, probabilities, group ids in any order (some alone), and where each chain ended."""
    rng = np.random.default_rng(seed)
    n, s, a = rng.integers(1, 9), rng.integers(1, 6), rng.integers(1, 4)
    scores = rng.choice([0.0, 1.0] if seed % 2 else rng.normal(size=4), (n, s, a))
    p = rng.random(s) * rng.integers(0, 2, s) + (np.arange(s) == s - 1)
    return scores, p, rng.integers(0, 3, n).tolist(), rng.integers(0, s, n)


def test_the_vector_of_the_official_code(vectors):
    v = vectors("structured")["brpo"]
    assert brpo(v["c"], v["P"], [0, 0]).round(7).tolist() == v["A"]
    # Not divided by their sum, and as [B, G, S] with the groups written out.
    both = np.array([v["c"], v["c"]])
    got = brpo(both.reshape(-1, 4), [1, 1, 1, 1], np.repeat([0, 1], 2)).reshape(2, 2, 4)
    assert got.round(7).tolist() == [v["A"], v["A"]]
    none = brpo(v["c"], v["P"], [0, 0], baseline="none")
    assert none.tolist() == [[0.4375, 0.4375, 0.375, 0.25], [0.25, 0.25, 0.25, 0.125]]
    group = none - brpo(v["c"], v["P"], [0, 0], baseline="group")
    assert group.tolist() == [[0.34375, 0.34375, 0.3125, 0.1875]] * 2
    past = none - brpo(v["c"], v["P"], [0, 0], baseline="past")
    assert past.round(6).tolist() == [[0.0, 0.0, 0.083333, 0.089286], [0.0, 0.0, 0.0, 0.071429]]


@given(SEEDS, st.sampled_from(BASELINES), st.sampled_from([2.0, 1.0, 0.5]), st.sampled_from(["f4", "f8"]))
def test_against_the_oracle(oracle, tolerance, seed, baseline, discount, dtype):
    scores, p, groups, _ = draw(seed)
    scores = scores.astype(dtype)
    got = brpo(scores, p, groups, baseline=baseline, discount=discount)
    expected = oracle("tree/brpo.py", "brpo")(scores.tolist(), p.tolist(), groups, baseline, discount)
    assert got.dtype == np.dtype(dtype)
    np.testing.assert_allclose(got, expected, **tolerance(got.dtype))


@given(SEEDS, st.booleans(), st.booleans(), st.sampled_from(["f4", "f8"]))
def test_summaries_against_the_oracle(oracle, tolerance, seed, given_, last_only, dtype):
    scores, _, groups, ended = draw(seed)
    scores = scores.astype(dtype)
    got = brpo_summary(scores, groups, finished=ended if given_ else None, last_only=last_only)
    at = ended if given_ else np.full(len(groups), scores.shape[1] - 1)
    expected = oracle("tree/brpo.py", "brpo_summary")(scores.tolist(), groups, at.tolist(), last_only)
    assert got.dtype == np.dtype(dtype)
    np.testing.assert_allclose(got, expected, **tolerance(got.dtype))


@given(SEEDS, st.sampled_from(BASELINES))
def test_laws(same_bits, seed, baseline):
    scores, p, groups, ended = draw(seed)
    got = brpo(scores, p, groups, baseline=baseline)
    same_bits(brpo(scores * 4, p, groups, baseline=baseline), got * 4)
    turn = np.random.default_rng(seed).permutation(len(groups))
    names = [f"q{groups[i]}" for i in turn]
    same_bits(brpo(scores[turn], p, names, baseline=baseline), got[turn])
    # Summaries in any order; a probability counts relative to the others.
    same_bits(brpo(scores[:, :, ::-1], p, groups, baseline=baseline), got)
    np.testing.assert_allclose(brpo(scores, p * 7, groups, baseline=baseline), got, atol=1e-14)
    # The mean of the group is a baseline that leaves nothing over; a group of one has none.
    relative = brpo(scores, p, groups, baseline="group")
    alone = rm.Groups(groups).counts[rm.Groups(groups).index] == 1
    for s in range(relative.shape[1]):
        total = rm.ops.segment_sum(np.where(alone, 0, relative[:, s]), groups)
        np.testing.assert_allclose(total, 0, atol=1e-12)
    same_bits(relative[alone], brpo(scores, p, groups, baseline="none")[alone])
    # The first budget has no past.
    first = brpo(scores, p, groups, baseline="both")[:, 0]
    np.testing.assert_allclose(first, relative[:, 0], atol=1e-14)
    # Summaries of the same thinking sum to 0.
    if scores.shape[2] > 1:
        np.testing.assert_allclose(brpo_summary(scores, groups).sum(axis=2), 0, atol=1e-12)
        pooled = brpo_summary(scores, groups, finished=ended)
        for n, f in enumerate(ended):
            assert pooled[n, f:].sum() == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(brpo_summary(scores + 3, groups), brpo_summary(scores, groups), atol=1e-11)


def test_all_rewards_equal_and_one_budget():
    scores = np.full((3, 2, 7), 0.1)
    assert not brpo_summary(scores, [0, 0, 0], finished=[0, 1, 1]).any()
    assert not brpo_summary(scores[:, :, :1], [0, 0, 0]).any()
    assert not brpo(np.full((7, 1), 0.1), [1.0], [0] * 7).any()
    # With one budget it is GRPO without its division.
    rewards = np.array([1.0, 0.0, 0.0, 0.5])
    flat = rm.group.grpo(rewards, [0] * 4, scale="none")
    assert np.array_equal(brpo(rewards[:, None], [3.0], [0] * 4)[:, 0], flat)


def test_many_budgets_do_not_overflow():
    got = brpo(np.ones((1, 3000)), np.ones(3000), ["q"], baseline="past")
    assert np.isfinite(got).all()
    np.testing.assert_allclose(got[0, 1:], 0, atol=1e-12)


def test_thinking_tokens():
    # Budgets of 2 and 4 tokens; the second chain of thought ended after 2.
    advantages = brpo([[0.0, 1.0], [1.0, 1.0]], [0.5, 0.5], [0, 0])
    cuts = rm.ops.cut_by_length(2, lengths=[4, 2])
    got = rm.ops.expand_segments(advantages, cuts, lengths=[4, 2])
    (a, b), (c, _) = advantages.tolist()
    assert got.to_lists() == [[a, a, b, b], [c, c]]


def test_kinds():
    torch = pytest.importorskip("torch")
    got = brpo(torch.tensor([[0, 1], [1, 1]]), torch.tensor([0.5, 0.5]), torch.tensor([0, 0]))
    assert (got.dtype, tuple(got.shape)) == (torch.float32, (2, 2))
    assert brpo(torch.ones((1, 2, 3), dtype=torch.bfloat16), [1, 1], [0]).dtype == torch.float32
    assert brpo_summary(torch.ones((1, 2, 3), dtype=torch.float64), [0]).dtype == torch.float64
    assert brpo([[0, 1]], [1, 1], [0]).dtype == np.float64
    assert brpo(np.zeros((0, 2)), [1, 1], []).shape == (0, 2)
    assert brpo_summary(np.zeros((0, 2, 3)), []).shape == (0, 2, 3)
    turned = np.asfortranarray(np.arange(12.0).reshape(2, 3, 2))
    assert np.array_equal(brpo_summary(turned, [0, 0]), brpo_summary(turned.copy("C"), [0, 0]))
    for call in (
        lambda x: brpo(x, [1.0], [0]),
        lambda x: brpo([[1.0]], x[0], [0]),
        lambda x: brpo_summary(x[None], [0]),
    ):
        with pytest.raises(ValueError, match=r"'\w+' requires grad"):
            call(torch.zeros((1, 1), requires_grad=True))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: brpo([1.0], [1.0], [0]), TypeError, r"brpo\(\): 'scores' must be \[N, S\] or \[N, S, A\], chains of"),
        (lambda: brpo([[[[1.0]]]], [1.0], [0]), TypeError, r"'scores' must be \[N, S\] or .*, got a 4-D float64 array"),
        (lambda: brpo([[1.0], [1.0, 2.0]], [1.0], [0]), TypeError, "'scores' must be an array of numbers"),
        (lambda: brpo([["a"]], [1.0], [0]), TypeError, "'scores' must hold floats, ints or bools"),
        (lambda: brpo(np.zeros((2, 0)), [], [0, 0]), ValueError, "'scores' must have a budget and a summary at least"),
        (lambda: brpo([[1.0, np.nan]], [1, 1], [0]), ValueError, r"'scores' must be finite, got nan at index \(0, 1\)"),
        (
            lambda: brpo([[1.0, 2.0]], [1.0], [0]),
            ValueError,
            r"'budget_probabilities' must have length 2 \(= the budgets of scores\), got 1",
        ),
        (
            lambda: brpo([[1.0, 2.0]], [1.0, -1.0], [0]),
            ValueError,
            "'budget_probabilities' must be finite and not negative, got -1.0 at index 1",
        ),
        (lambda: brpo([[1.0]], [0.0], [0]), ValueError, "'budget_probabilities' must not all be 0"),
        (
            lambda: brpo([[1.0]], [1.0], [0, 0]),
            ValueError,
            r"'groups' must have length 1 \(= the number of rows\), got 2",
        ),
        (
            lambda: brpo([[1.0]], [1.0], [0], baseline="v1only"),
            ValueError,
            "'baseline' must be one of 'both', 'past', 'group', 'none', got 'v1only'",
        ),
        (
            lambda: brpo([[1.0]], [1.0], [0], discount=0.0),
            ValueError,
            "'discount' must be finite and positive, got 0.0",
        ),
        (lambda: brpo_summary([[1.0]], [0]), TypeError, r"brpo_summary\(\): 'scores' must be \[N, S, A\], chains of"),
        (lambda: brpo_summary(np.zeros((1, 2, 0)), [0]), ValueError, "'scores' must have a budget and a summary"),
        (
            lambda: brpo_summary([[[1.0, np.inf]]], [0]),
            ValueError,
            r"'scores' must be finite, got inf at index \(0, 0, 1\)",
        ),
        (
            lambda: brpo_summary([[[1.0, 0.0]]], [0], finished=[1]),
            ValueError,
            r"'finished' must be between 0 and 0 \(= S - 1\), got 1 at index 0",
        ),
        (lambda: brpo_summary([[[1.0, 0.0]]], [0], finished=[0, 0]), ValueError, r"'finished' must have length 1"),
        (lambda: brpo_summary([[[1.0, 0.0]]], [0], finished=[0.0]), TypeError, "'finished' must hold integers"),
        (lambda: brpo_summary([[[1.0, 0.0]]], [0], last_only=1), TypeError, "'last_only' must be True or False, got 1"),
        (lambda: brpo_summary([[[1.0]]], [0, 1]), ValueError, r"'groups' must have length 1"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()

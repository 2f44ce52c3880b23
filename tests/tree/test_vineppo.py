"""tree.vineppo: numbers of the official code, the oracle, and the laws of the formula."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Ragged
from rollmath.ops import cut_by_delimiter, expand_segments
from rollmath.tree import spo_chain, vineppo

SEEDS = st.integers(0, 2**32)
NAN = float("nan")


def draw(seed):
    """Values that are missing at the ends of some rows, and a reward a step; rows may be empty."""
    rng = np.random.default_rng(seed)
    values, rewards = [], []
    for n in rng.integers(0, 8, rng.integers(1, 10)):
        v = rng.normal(size=n)
        v[n - rng.integers(0, n + 1) if rng.random() < 0.5 else n :] = np.nan
        values.append(v.tolist())
        rewards.append(rng.choice([0.0, 1.0, -0.5], n).tolist())
    return Ragged.from_lists(values, dtype="float64"), Ragged.from_lists(rewards, dtype="float64")


def test_the_vector_of_the_official_code(vectors):
    v = vectors("structured")["vineppo"]
    assert vineppo([v["V"]], [v["r"]]).round(9).tolist() == [v["adv"]]
    assert vineppo([v["V"]], [v["r"][-1]]).round(9).tolist() == [v["adv"]]
    # The last value missing: 1, the reward that is left.
    assert vineppo([[0.4, 0.6, NAN]], [v["r"]]).round(9).tolist() == [[0.2, 0.4, 0.0]]
    assert vineppo([[NAN, NAN]], [[0.5, 1.0]]).tolist() == [[0.0, 0.0]]


@given(SEEDS, st.sampled_from([1.0, 0.9, 0.0]), st.sampled_from(["f4", "f8"]))
def test_against_the_oracle(oracle, tolerance, same_bits, seed, gamma, dtype):
    values, rewards = draw(seed)
    values = values.with_values(values.values.astype(dtype))
    rewards = rewards.with_values(rewards.values.astype(dtype))
    got = vineppo(values, rewards, gamma=gamma)
    expected = oracle("tree/vineppo.py", "vineppo")(values.to_lists(), rewards.to_lists(), gamma)
    assert got.values.dtype == np.dtype(dtype)
    np.testing.assert_allclose(got.values, [x for row in expected for x in row], **tolerance(got.values.dtype))
    assert not got.values[np.isnan(values.values)].any()
    other = vineppo(values.to_padded(9, fill=7), rewards.to_padded(9, fill=NAN), gamma=gamma, lengths=values.lengths)
    same_bits(other, got.to_padded(9))
    # One reward a trajectory is that of its last step.
    steps = values.lengths > 0
    one = np.where(steps, 0.75, 0.0)
    at_end = np.zeros(len(values.values), dtype)
    at_end[values.offsets[1:][steps] - 1] = 0.75
    same_bits(vineppo(values, one, gamma=gamma).values, vineppo(values, values.with_values(at_end), gamma=gamma).values)


@given(SEEDS)
def test_laws(same_bits, seed):
    values, rewards = draw(seed)
    got = vineppo(values, rewards)
    for i in range(len(values)):
        if len(values[i]) and not np.isnan(values[i][0]):
            assert got[i].sum() == pytest.approx(rewards[i].sum() - values[i][0], abs=1e-12)
    same_bits(
        vineppo(values.with_values(values.values * 4), rewards.with_values(rewards.values * 4)).values, got.values * 4
    )
    # A reward moved between values moves nothing else: shift all values of a row and its last reward.
    known = ~np.isnan(values.values)
    if known.all():
        ends = np.zeros(len(known))
        ends[values.offsets[1:][values.lengths > 0] - 1] = 2.0
        moved = vineppo(values.with_values(values.values + 2), rewards.with_values(rewards.values + ends))
        np.testing.assert_allclose(moved.values, got.values, atol=1e-12)


@given(SEEDS)
def test_with_all_values_it_is_a_chain_whose_prompt_is_cut_at(seed):
    rng = np.random.default_rng(seed)
    tokens = [rng.integers(0, 3, rng.integers(1, 12)).tolist() for _ in range(4)]
    rows = Ragged.from_lists(tokens)
    starts = cut_by_delimiter(rows, 0, include_prompt=True)
    values = starts.with_values(rng.random(len(starts.values)))
    scores = rng.random(4)
    chain = spo_chain(rows.with_values(np.zeros(len(rows.values))), starts, values, scores, threshold=None)
    steps = vineppo(values, scores)
    vine = expand_segments(steps, cut_by_delimiter(rows, 0), lengths=rows.lengths)
    np.testing.assert_allclose(vine.values, chain.values, atol=1e-12)
    numbered = rm.ops.segment_of(cut_by_delimiter(rows, 0), mask=rows.with_values(np.ones_like(rows.values)))
    assert np.array_equal(rm.temporal.expand_turns(steps, numbered).values, vine.values)


def test_kinds():
    torch = pytest.importorskip("torch")
    got = vineppo(torch.tensor([[0.5, 0.25]], dtype=torch.bfloat16), torch.tensor([1]))
    assert (got.dtype, got.tolist()) == (torch.float32, [[-0.25, 0.75]])
    assert vineppo(torch.tensor([[0.5]]), torch.tensor([[1.0]], dtype=torch.float64)).dtype == torch.float64
    assert vineppo([[1, 0]], [1]).dtype == np.float64
    assert len(vineppo(Ragged.from_lists([], dtype="float64"), [])) == 0
    assert vineppo(np.zeros((2, 0)), [0.0, 0.0]).shape == (2, 0)
    for call in (lambda x: vineppo(x, [1.0]), lambda x: vineppo([[1.0]], x), lambda x: vineppo([[1.0]], x[0])):
        with pytest.raises(ValueError, match=r"vineppo\(\): '\w+' requires grad"):
            call(torch.zeros((1, 1), requires_grad=True))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: vineppo([[0.5, NAN, 0.5]], [1.0]),
            ValueError,
            r"'values' may be missing at the end of a row only, got NaN at row 0, position 1, and a value after it",
        ),
        (
            lambda: vineppo(Ragged.from_lists([[0.5], [NAN, 0.5]]), [1.0, 1.0]),
            ValueError,
            "got NaN at row 1, position 0, and a value after it",
        ),
        (
            lambda: vineppo([[0.5, -np.inf]], [1.0]),
            ValueError,
            "'values' must be finite, or NaN where they are missing, got -inf at row 0, position 1",
        ),
        (lambda: vineppo([[0.5]], [NAN]), ValueError, "'rewards' must be finite, got nan at row 0"),
        (lambda: vineppo([[0.5, 0.5]], [[0.0, NAN]]), ValueError, "'rewards' must be finite .*row 0, position 1"),
        (
            lambda: vineppo(Ragged.from_lists([[0.5], []]), [1.0, 1.0]),
            ValueError,
            "'rewards' must be 0 where there are no steps, got 1.0 at row 1",
        ),
        (lambda: vineppo([[0.5]], [1.0], gamma=1.5), ValueError, "'gamma' must be"),
        (lambda: vineppo([[0.5]], [1.0], gamma=None), TypeError, "'gamma' must be a number"),
        (lambda: vineppo([[0.5]], [1.0, 2.0]), ValueError, r"'rewards' must have length 1 \(= the number of rows\)"),
        (lambda: vineppo([[0.5]], [[1.0, 2.0]]), ValueError, r"'rewards' must have shape \(1, 1\)"),
        (lambda: vineppo([0.5], [1.0]), TypeError, r"'values' must be a Ragged or a padded 2-D array"),
        (lambda: vineppo([[0.5]], [1.0], lengths=[2]), ValueError, "'lengths' must be between 0 and 1"),
        (lambda: vineppo([["a"]], [1.0]), TypeError, "'values' must hold floats, ints or bools"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=rf"^vineppo\(\): .*{message}"):
        call()

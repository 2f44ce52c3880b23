"""tree.spo_chain and what goes with it: numbers of the official code, the oracle, and the laws of the formula."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Ragged
from rollmath.ops import cut_by_count, cut_by_probability, loo_mean, segment_of, whiten
from rollmath.tree import probability_mask, probe_values, spo_chain

SEEDS = st.integers(0, 2**32)


def draw(seed, stride=1, prompt=False):
    """Random rows: log-probabilities, masks, cuts, values of the cuts, scores; ragged, with gaps, some empty."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 15, rng.integers(1, 8))
    rows = Ragged.from_lengths(np.log(rng.choice([0.1, 0.5, 0.9, 0.95, 1.0], lengths.sum())), lengths)
    mask = rows.with_values((rng.random(lengths.sum()) < rng.choice([0.5, 1.0])).astype(np.int64))
    cuts = cut_by_probability(rows, stride=stride, mask=mask, include_prompt=prompt)
    values = cuts.with_values(rng.choice([0.0, 0.25, 1 / 3, 1.0], len(cuts.values)))
    return rows, mask, cuts, values, rng.choice([0.0, 1.0, -0.5], len(lengths))


def test_the_vectors_of_the_official_code(vectors):
    v = vectors("structured")["spo_chain"]
    logprobs, score = np.log([v["p"]]), [v["score"]]
    for case in (v, v["stride2"]):
        cuts = cut_by_probability(logprobs, stride=2 if case is not v else 1)
        assert cuts.to_lists() == [case["cuts"]]
        got = spo_chain(logprobs, cuts, case["values"], score)
        assert got.round(9).tolist() == [case["adv"]]
    raw = spo_chain(logprobs, Ragged.from_lists([v["cuts"]]), v["values"], score, threshold=None)
    assert raw.round(9).tolist() == [[0.1, 0.1, 0.1, -0.25, -0.25, -0.25, 0.5, 0.5, 0.25, 0.25]]
    # The first token confident: nobody has estimated the prompt.
    confident = logprobs.copy()
    confident[0, 0] = np.log(0.99)
    cuts = cut_by_probability(confident)
    assert cuts.to_lists() == [[2, 5, 7]]
    got = spo_chain(confident, cuts, v["values"][1:], score, threshold=None)
    assert got.round(9).tolist() == [[0.0, 0.0, 0.0, -0.25, -0.25, -0.25, 0.5, 0.5, 0.25, 0.25]]


def test_mask_and_whitening_of_the_official_code(vectors):
    v = vectors("structured")["spo_chain"]
    logprobs = np.log([v["p"]])
    mask = probability_mask(logprobs)
    assert np.flatnonzero(mask).tolist() == [0, 3, 6, 8]
    advantages = spo_chain(logprobs, Ragged.from_lists([v["cuts"]]), v["values"], [v["score"]])
    assert advantages[0, 5] == -0.25
    whitened = whiten(advantages, mask=mask)
    assert whitened[mask].round(6).tolist() == [-0.159448, -1.275586, 1.116137, 0.318896]
    assert not whitened[~mask].any()


@given(SEEDS, st.integers(1, 3), st.booleans(), st.sampled_from([0.9, 0.5, 1.0, None]), st.sampled_from(["f4", "f8"]))
def test_against_the_oracle(oracle, tolerance, same_bits, seed, stride, prompt, threshold, dtype):
    rows, mask, cuts, values, scores = draw(seed, stride, prompt)
    values = values.with_values(values.values.astype(dtype))
    got = spo_chain(rows, cuts, values, scores, threshold=threshold, mask=mask)
    f = oracle("tree/spo_chain.py", "spo_chain")
    expected = f(rows.to_lists(), mask.to_lists(), cuts.to_lists(), values.to_lists(), scores, threshold)
    assert got.values.dtype == np.dtype(dtype)
    np.testing.assert_allclose(got.values, [x for row in expected for x in row], **tolerance(got.values.dtype))
    # Padded rows, with garbage where nobody looks.
    x = rows.with_values(np.where(mask.values, rows.values, np.nan)).to_padded(15, fill=5)
    other = spo_chain(x, cuts, values.values, scores, threshold=threshold, mask=mask.to_padded(15))
    same_bits(other, got.to_padded(15))
    other = spo_chain(
        x, cuts, values, scores, threshold=threshold, mask=mask.to_padded(15, fill=1), lengths=rows.lengths
    )
    same_bits(other, got.to_padded(15))
    expected = oracle("tree/spo_chain.py", "probability_mask")(rows.to_lists(), mask.to_lists(), 0.9)
    assert probability_mask(rows, mask=mask).to_lists() == expected
    padded = Ragged.from_lists([[int(m) for m in row] for row in expected], dtype="int64").to_padded(15) != 0
    assert np.array_equal(probability_mask(x, mask=mask.to_padded(15)), padded)


@given(SEEDS, st.integers(1, 3))
def test_segments_telescope(seed, stride):
    rows, mask, cuts, values, scores = draw(seed, stride)
    got = spo_chain(rows, cuts, values, scores, threshold=None, mask=mask)
    number = segment_of(cuts, mask=mask)
    for i in range(len(rows)):
        advantage = [got[i][number[i] == j][0] for j in range(len(cuts[i]) + 1) if (number[i] == j).any()]
        if len(cuts[i]):
            assert sum(advantage) == pytest.approx(scores[i] - values[i][0], abs=1e-12)
        else:
            assert not any(advantage)


@given(SEEDS)
def test_shift_scale_and_order_of_rows(same_bits, seed):
    rows, mask, cuts, values, scores = draw(seed)
    got = spo_chain(rows, cuts, values, scores, mask=mask)
    moved = spo_chain(rows, cuts, values.values + 3, scores + 3, mask=mask)
    np.testing.assert_allclose(moved.values, got.values, atol=1e-12)
    same_bits(spo_chain(rows, cuts, values.values * 4, scores * 4, mask=mask).values, got.values * 4)

    def turned(ragged):
        back = ragged.to_lists()[::-1]
        return Ragged.from_lists(back, dtype=ragged.values.dtype.name)

    other = spo_chain(turned(rows), turned(cuts), turned(values), scores[::-1], mask=turned(mask))
    same_bits(other.values, turned(got).values)


@given(SEEDS)
def test_the_value_of_the_prompt(oracle, seed):
    rows, mask, cuts, values, scores = draw(seed)
    f = oracle("tree/spo_chain.py", "spo_chain")
    groups = [i % 2 for i in range(len(scores))]
    means = [np.mean(scores[i % 2 :: 2]) for i in range(len(scores))]
    for options, prompts in (
        ({"first_segment": "group_mean", "groups": groups}, means),
        ({"first_segment": "group_mean", "groups": rm.Groups(groups)}, means),
        ({"first_segment": "value", "prompt_values": means}, means),
    ):
        got = spo_chain(rows, cuts, values, scores, mask=mask, **options)
        expected = f(rows.to_lists(), mask.to_lists(), cuts.to_lists(), values.to_lists(), scores, 0.9, prompts)
        np.testing.assert_allclose(got.values, [x for row in expected for x in row], atol=1e-12)


def test_choices_for_the_first_segment():
    logprobs = np.log([[0.95, 0.8, 0.8], [0.8, 0.8, 0.95]])
    cuts = cut_by_probability(logprobs)
    assert cuts.to_lists() == [[0, 1], [-1, 0]]
    values, scores = [0.5, 0.75, 0.25, 0.5], [1.0, 0.0]

    def first(**options):
        return spo_chain(logprobs, cuts, values, scores, threshold=None, **options)[:, 0].tolist()

    # The second row has a value of its prompt, and needs no other.
    assert first() == [0.0, 0.25]
    assert first(first_segment="value", prompt_values=[0.125, 9.0]) == [0.375, 0.25]
    assert first(first_segment="group_mean", groups=["q", "q"]) == [0.0, 0.25]
    assert first(first_segment="value", prompt_values=loo_mean(scores, ["q", "q"])) == [0.5, 0.25]
    # With the prompt among the cuts there is nothing to choose.
    cuts = cut_by_probability(logprobs, include_prompt=True)
    assert cuts.to_lists() == [[-1, 0, 1], [-1, 0]]
    got = spo_chain(logprobs, cuts, [0.125, *values], scores, threshold=None)
    assert got[:, 0].tolist() == [0.375, 0.25]


def test_a_fixed_number_of_segments():
    # The naive chain: four segments, no mask by probability.
    logprobs = rm.Ragged.from_lists([[-0.01] * 8, [-0.01] * 3], dtype="float64")
    cuts = cut_by_count(4, lengths=logprobs.lengths)
    assert cuts.to_lists() == [[1, 3, 5], [0, 1]]
    got = spo_chain(logprobs, cuts, [0.5, 0.25, 0.75, 0.5, 0.25], [1.0, 0.0], threshold=None)
    assert got.to_lists() == [[0.0, 0.0, -0.25, -0.25, 0.5, 0.5, 0.25, 0.25], [0.0, -0.25, -0.25]]
    assert not spo_chain(logprobs, cuts, [0.5, 0.25, 0.75, 0.5, 0.25], [1.0, 0.0]).values.any()


def test_kinds():
    torch = pytest.importorskip("torch")
    logprobs = torch.tensor([[-0.5, -0.01, -1.0]])
    cuts = cut_by_probability(logprobs)
    values = cuts.with_values(probe_values(torch.tensor([[1, 0], [1, 1]])))
    assert (values.values.dtype, values.to_lists()) == (torch.float32, [[0.5, 1.0]])
    got = spo_chain(logprobs, cuts, values, torch.tensor([0.0]))
    assert (got.dtype, got.tolist()) == (torch.float32, [[0.5, 0.0, -1.0]])
    assert probability_mask(logprobs).dtype == torch.bool
    assert probability_mask(logprobs.bfloat16()).tolist() == [[True, False, True]]
    assert spo_chain(logprobs, cuts, values.values.double(), [0.0]).dtype == torch.float64
    assert spo_chain(logprobs, cuts, values.values.bfloat16(), [0.0]).dtype == torch.float32
    assert spo_chain(logprobs.numpy(), cuts, [1, 0], [0]).dtype == np.float64
    got = spo_chain(Ragged(logprobs[0], [0, 3]), cuts, values, [0.0])
    assert (got.values.dtype, got.to_lists()) == (torch.float32, [[0.5, 0.0, -1.0]])
    for call in (
        lambda x: spo_chain(x, cuts, values, [0.0]),
        lambda x: spo_chain(logprobs, cuts, x[0, :2], [0.0]),
        lambda x: spo_chain(logprobs, cuts, values, x[:, 0]),
        probability_mask,
    ):
        with pytest.raises(ValueError, match="requires grad, but no gradient flows through this function"):
            call(logprobs.clone().requires_grad_())


def test_no_rows():
    empty = Ragged.from_lists([], dtype="float64")
    assert len(spo_chain(empty, Ragged.from_lists([]), [], [])) == 0
    assert len(spo_chain(empty, Ragged.from_lists([]), [], [], first_segment="group_mean", groups=[])) == 0
    assert spo_chain(np.zeros((2, 0)), Ragged.from_lists([[], []]), [], [1.0, 2.0]).shape == (2, 0)


LOGPROBS, CUTS = np.log([[0.5, 0.95, 0.5]]), Ragged.from_lists([[-1, 1]])


def chain(logprobs=LOGPROBS, cuts=CUTS, values=(0.5, 0.25), scores=(1.0,), **options):
    return spo_chain(logprobs, cuts, values, scores, **options)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: chain(cuts=[[-1]]), TypeError, r"spo_chain\(\): 'cuts' must be a Ragged of positions"),
        (
            lambda: chain(cuts=Ragged.from_lists([[-1, 2]])),
            ValueError,
            "'cuts' must be before the last trained token, 2",
        ),
        (lambda: chain(cuts=Ragged.from_lists([[1, -1]])), ValueError, "'cuts' must be ascending in each row, got -1"),
        (
            lambda: chain(cuts=Ragged.from_lists([[], []])),
            ValueError,
            r"'cuts' must have 1 rows \(= those of 'logprobs'\), got 2",
        ),
        (
            lambda: chain(mask=[[1, 0, 0]]),
            ValueError,
            "'cuts' must be before the last trained token, 0 in row 0, got 1",
        ),
        (lambda: chain(values=[0.5]), ValueError, r"'values' must have length 2 \(= the number of cuts\), got 1"),
        (
            lambda: chain(values=Ragged.from_lists([[0.5], [0.5]])),
            ValueError,
            "'values' must have the offsets of 'cuts', got Ragged",
        ),
        (lambda: chain(values=[0.5, np.nan]), ValueError, "'values' must be finite, got nan at row 0, cut 1"),
        (lambda: chain(values=["a", "b"]), TypeError, "'values' must hold floats, ints or bools"),
        (lambda: chain(scores=[1.0, 2.0]), ValueError, r"'scores' must have length 1 \(= the number of rows\), got 2"),
        (lambda: chain(scores=[np.inf]), ValueError, "'scores' must be finite, got inf at row 0"),
        (lambda: chain(scores=[[1.0]]), TypeError, "'scores' must be 1-D"),
        (lambda: chain(np.exp(LOGPROBS), threshold=None), ValueError, "'logprobs' must be at most 0 and not NaN"),
        (lambda: chain(np.exp(LOGPROBS)), ValueError, "'logprobs' must be at most 0 and not NaN, got 0.5 at row 0"),
        (lambda: chain(threshold=2.0), ValueError, "'threshold' must be between 0 and 1, got 2.0"),
        (lambda: chain(threshold="0.9"), TypeError, "'threshold' must be a number"),
        (
            lambda: chain(first_segment="estimate"),
            ValueError,
            "'first_segment' must be one of 'zero', 'value', 'group_mean', got 'estimate'",
        ),
        (
            lambda: chain(first_segment="value"),
            ValueError,
            "'prompt_values' is needed for first_segment='value'",
        ),
        (lambda: chain(first_segment="group_mean"), ValueError, "'groups' is needed for first_segment='group_mean'"),
        (lambda: chain(prompt_values=[1.0]), ValueError, "'prompt_values' has no say where first_segment='zero'"),
        (lambda: chain(groups=["a"]), ValueError, "'groups' has no say where first_segment='zero'"),
        (
            lambda: chain(first_segment="value", prompt_values=[np.nan]),
            ValueError,
            "'prompt_values' must be finite, got nan at row 0",
        ),
        (
            lambda: chain(first_segment="group_mean", groups=["a", "b"]),
            ValueError,
            r"'groups' must have length 1 \(= the number of rows\), got 2",
        ),
        (lambda: probability_mask([[0.5]]), ValueError, r"probability_mask\(\): 'logprobs' must be at most 0"),
        (
            lambda: probability_mask([[-0.5]], threshold=-0.1),
            ValueError,
            "'threshold' must be between 0 and 1, got -0.1",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()

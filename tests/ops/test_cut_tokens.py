"""Cut points by what tokens are: the official example, the oracle over ragged rows, and what has to be refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath.ops import cut_by_delimiter, cut_by_probability, cut_by_surprisal

SEEDS = st.integers(0, 2**32)
P = [0.5, 0.95, 0.99, 0.6, 0.97, 0.9, 0.2, 0.95, 0.8, 0.99]


def draw(seed, values):
    """Rows of random values and masks, as lists; with ties, empty rows and rows without trained tokens."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 12, rng.integers(1, 8))
    rows = [rng.choice(values, n).tolist() for n in lengths]
    share = rng.choice([0.0, 0.3, 0.7, 1.0], len(rows))
    return rows, [(rng.random(n) < q).tolist() for n, q in zip(lengths, share, strict=True)], rng


def in_every_form(function, rows, masks, *arguments, dtype, **options):
    """The cuts of the packed rows, which padded rows have too; what lies in gaps and padding is not looked at."""
    ragged = rm.Ragged.from_lists(rows, dtype=dtype)
    marks = rm.Ragged.from_lists([[int(m) for m in row] for row in masks], dtype="int64")
    values = ragged.values.copy()
    if dtype != "int64":
        values[marks.values == 0] = np.nan
    got = function(ragged.with_values(values), *arguments, mask=marks, **options)
    padded = ragged.with_values(values).to_padded(fill=3 if dtype == "int64" else np.nan)
    for extra in ({"lengths": ragged.lengths}, {}):
        other = function(padded, *arguments, mask=marks.to_padded(), **extra, **options)
        assert other.to_lists() == got.to_lists()
    # Without a mask every token counts.
    full = function(ragged, *arguments, **options)
    again = function(ragged.to_padded(fill=3), *arguments, lengths=ragged.lengths, **options)
    assert again.to_lists() == full.to_lists()
    assert (got.values.dtype, full.values.dtype) == (np.int64, np.int64)
    return got.to_lists(), full.to_lists()


@given(SEEDS, st.sampled_from([0.0, 0.5, 0.9, 1.0]), st.integers(1, 4), st.booleans(), st.sampled_from(["f4", "f8"]))
def test_probability_against_the_oracle(oracle, seed, threshold, stride, prompt, dtype):
    rows, masks, _ = draw(seed, [-np.inf, -3.0, -0.5, -0.01, 0.0])
    options = {"threshold": threshold, "stride": stride, "include_prompt": prompt}
    dtype = np.dtype(dtype).name
    got, full = in_every_form(cut_by_probability, rows, masks, dtype=dtype, **options)
    f = oracle("ops/cut_tokens.py", "cut_by_probability")
    assert got == f(rows, masks, threshold, stride, prompt)
    assert full == f(rows, [[1] * len(row) for row in rows], threshold, stride, prompt)


@given(SEEDS, st.booleans(), st.booleans())
def test_surprisal_against_the_oracle(oracle, seed, prompt, one_for_all):
    rows, masks, rng = draw(seed, [-np.inf, -3.0, -0.5, -0.01, 0.0])
    counts = np.full(len(rows), rng.integers(1, 5)) if one_for_all else rng.integers(1, 14, len(rows))
    count = int(counts[0]) if one_for_all else counts
    got, full = in_every_form(cut_by_surprisal, rows, masks, count, dtype="float64", include_prompt=prompt)
    f = oracle("ops/cut_tokens.py", "cut_by_surprisal")
    assert got == f(rows, masks, counts, prompt)
    assert full == f(rows, [[1] * len(row) for row in rows], counts, prompt)


@given(SEEDS, st.sampled_from(["f4", "f8"]), st.booleans())
def test_surprisal_of_long_rows(oracle, seed, dtype, masked):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 900, 4)
    x = rm.Ragged.from_lengths(-rng.choice([rng.random(), 1.0, 7.0, 50.0], lengths.sum()).astype(dtype), lengths)
    mask = x.with_values((rng.random(lengths.sum()) < (0.4 if masked else 1.0)).astype(np.int64))
    counts = rng.choice([1, 2, 5, 14, 100, 2000], 4)
    got = cut_by_surprisal(x, counts, mask=mask if masked else None).to_lists()
    assert got == oracle("ops/cut_tokens.py", "cut_by_surprisal")(x.to_lists(), mask.to_lists(), counts, False)


@given(SEEDS, st.booleans(), st.sets(st.integers(0, 5), max_size=3))
def test_delimiters_against_the_oracle(oracle, seed, prompt, delimiters):
    rows, masks, _ = draw(seed, [0, 1, 2, 3, 9])
    got, full = in_every_form(cut_by_delimiter, rows, masks, delimiters, dtype="int64", include_prompt=prompt)
    f = oracle("ops/cut_tokens.py", "cut_by_delimiter")
    assert got == f(rows, masks, delimiters, prompt)
    assert full == f(rows, [[1] * len(row) for row in rows], delimiters, prompt)


def test_the_example_of_the_official_code(vectors):
    v = vectors("structured")["spo_chain"]
    logprobs = np.log([v["p"]])
    assert cut_by_probability(logprobs).to_lists() == [v["cuts"]]
    assert cut_by_probability(logprobs, stride=2).to_lists() == [v["stride2"]["cuts"]]
    # Its first token is confident: the prompt is cut at if it is asked for, and no other cut moves.
    assert cut_by_probability(logprobs[:, 1:]).to_lists() == [[1, 4, 6]]
    assert cut_by_probability(logprobs[:, 1:], include_prompt=True).to_lists() == [[-1, 1, 4, 6]]
    assert cut_by_probability(logprobs[:, 1:], stride=2, include_prompt=True).to_lists() == [[-1, 1, 6]]
    assert cut_by_probability(logprobs, stride=10**30).to_lists() == [[-1]]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_probability_that_equals_the_threshold_is_not_below_it(dtype):
    for threshold in (0.9, 0.99, 0.3, 1 / 3):
        logprob = np.log(np.array([[threshold]], dtype))
        assert cut_by_probability(logprob, threshold=threshold).to_lists() == [[]]
        below = np.nextafter(logprob, dtype(-9))
        assert cut_by_probability(below, threshold=threshold).to_lists() == [[-1]]


def test_residues_of_rounding_above_zero_count_as_zero():
    assert cut_by_probability([[1e-6, -1.0]]).to_lists() == [[0]]
    # Equal to a log-probability of 0, so the first of both comes first.
    assert cut_by_surprisal([[1e-6, 0.0]], 1).to_lists() == [[-1]]


def test_ties_go_to_the_first():
    assert cut_by_surprisal([[-1.0, -2.0, -2.0, -2.0]], 2).to_lists() == [[0, 1]]
    assert cut_by_surprisal([[-np.inf, 0.0, -np.inf]], 1).to_lists() == [[-1]]
    assert cut_by_surprisal([[-1.0, -2.0]], 2**70).to_lists() == [[-1, 0]]


def test_forms_of_delimiters_and_counts():
    rows = [[5, 1, 5, 2, 5]]
    for delimiters in ([1, 2], {1, 2}, (1, 2), np.array([1, 2]), frozenset({1, 2}), {1: "a", 2: "b"}.keys()):
        assert cut_by_delimiter(rows, delimiters).to_lists() == [[1, 3]]
    for delimiter in (5, np.int32(5), np.array(5)):
        assert cut_by_delimiter(rows, delimiter).to_lists() == [[0, 2]]
    assert cut_by_delimiter(rows, []).to_lists() == [[]]
    for count in (1, np.int64(1), np.array(1), [1], np.array([1], np.int32)):
        assert cut_by_surprisal([[-1.0, -2.0]], count).to_lists() == [[0]]


def test_no_rows():
    empty = rm.Ragged.from_lists([], dtype="float64")
    for cuts in (
        cut_by_probability(empty, include_prompt=True),
        cut_by_surprisal(empty, 2),
        cut_by_delimiter(rm.Ragged.from_lists([]), 1),
        cut_by_probability(np.zeros((0, 4))),
    ):
        assert (len(cuts), len(cuts.values)) == (0, 0)
    assert cut_by_probability(np.zeros((2, 0)), include_prompt=True).to_lists() == [[], []]


def test_torch():
    torch = pytest.importorskip("torch")
    logprobs = torch.tensor([P]).log()
    for x in (logprobs, logprobs.double(), logprobs.bfloat16()):
        got = cut_by_probability(x, lengths=torch.tensor([5]))
        assert (got.values.dtype, got.to_lists()) == (torch.int64, [[-1, 2]])
    assert cut_by_surprisal(logprobs, torch.tensor(1)).values.dtype == torch.int64
    got = cut_by_delimiter(torch.tensor([[1, 2, 1, 3]]), torch.tensor([1]))
    assert (got.values.dtype, got.to_lists()) == (torch.int64, [[0, 2]])
    assert cut_by_delimiter(torch.tensor([[1, 2, 1, 3]]), torch.tensor(2)).to_lists() == [[1]]
    with pytest.raises(ValueError, match=r"cut_by_probability\(\): 'logprobs' requires grad"):
        cut_by_probability(torch.zeros(1, 2, requires_grad=True))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: cut_by_probability([[-1.0, np.nan]]),
            ValueError,
            r"cut_by_probability\(\): 'logprobs' must be at most 0 and not NaN, got NaN at row 0, position 1$",
        ),
        (
            lambda: cut_by_probability(rm.Ragged.from_lists([[], [-0.1, 0.9]])),
            ValueError,
            r"'logprobs' must be at most 0 and not NaN, got 0.9 at row 1, position 1; of probabilities take",
        ),
        (
            lambda: cut_by_surprisal([[-1.0, 0.3]], 1),
            ValueError,
            r"cut_by_surprisal\(\): 'logprobs' must be at most 0 and not NaN, got 0.3 at row 0, position 1",
        ),
        (
            lambda: cut_by_probability([[0.0]], threshold=1.1),
            ValueError,
            "'threshold' must be between 0 and 1, got 1.1",
        ),
        (lambda: cut_by_probability([[0.0]], threshold=np.nan), ValueError, "'threshold' must be between 0 and 1"),
        (lambda: cut_by_probability([[0.0]], stride=0), ValueError, "'stride' must be at least 1, got 0"),
        (lambda: cut_by_probability([[0.0]], stride=1.0), TypeError, "'stride' must be a whole number"),
        (
            lambda: cut_by_probability([[0.0]], include_prompt=1),
            TypeError,
            "'include_prompt' must be True or False, got 1",
        ),
        (lambda: cut_by_probability([0.0]), TypeError, r"'logprobs' must be a Ragged or a padded 2-D array \[B, T\]"),
        (lambda: cut_by_probability([[0.0]], mask=[[1, 0]]), ValueError, r"'mask' must have shape \(1, 1\)"),
        (lambda: cut_by_probability([[0.0]], lengths=[2]), ValueError, "'lengths' must be between 0 and 1"),
        (lambda: cut_by_probability([["a"]]), TypeError, "'logprobs' must hold floats, ints or bools"),
        (lambda: cut_by_surprisal([[0.0]], 0), ValueError, r"cut_by_surprisal\(\): 'count' must be at least 1, got 0"),
        (lambda: cut_by_surprisal([[0.0]], [1, 1]), ValueError, r"'count' must have length 1 \(= the number of rows\)"),
        (lambda: cut_by_surprisal([[0.0], [0.0]], [1, 0]), ValueError, "'count' must be at least 1, got 0 at row 1"),
        (lambda: cut_by_surprisal([[0.0]], 1.5), TypeError, "'count' must be a whole number"),
        (lambda: cut_by_surprisal([[0.0]], None), TypeError, "'count' must be a whole number"),
        (lambda: cut_by_delimiter([[1.0]], 1), TypeError, r"cut_by_delimiter\(\): 'tokens' must hold integers"),
        (lambda: cut_by_delimiter([[1]], "a"), TypeError, "'delimiters' must be"),
        (lambda: cut_by_delimiter([[1]], 1.0), TypeError, "'delimiters' must be a whole number"),
        (
            lambda: cut_by_delimiter([[1]], -1),
            ValueError,
            r"cut_by_delimiter\(\): 'delimiters' must be at least 0, got -1",
        ),
        (lambda: cut_by_delimiter([[1]], [3, -2]), ValueError, "'delimiters' must be at least 0, got -2"),
        (lambda: cut_by_delimiter([[1]], {1.5}), TypeError, "'delimiters' must hold integers, got float64"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()

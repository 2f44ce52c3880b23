"""The optimal token baseline."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

otb = rm.group.optimal_token_baseline
TOKEN = st.tuples(
    st.integers(-16, 16).map(lambda k: k / 8),  # reward
    st.integers(-24, 0).map(lambda k: k / 8),  # logprob
    st.integers(0, 8).map(lambda k: k / 8),  # sum of squares
    st.integers(1, 8).map(lambda k: k / 4),  # importance
    st.booleans(),  # trained
)
ROWS = st.lists(st.tuples(st.lists(TOKEN, max_size=6), st.integers(0, 2)), max_size=8)
OPTIONS = st.fixed_dictionaries(
    {
        "align": st.sampled_from(["trained", "position"]),
        "zero_tail": st.booleans(),
        "singleton": st.sampled_from(["zero", "raw"]),
        "eps": st.sampled_from([1e-8, 0.5]),
    }
)


def split(rows):
    columns = [[[token[k] for token in row] for row, _ in rows] for k in range(5)]
    rewards, logprobs, squares, rho, masks = columns
    masks = [[int(m) for m in row] for row in masks]
    rewards = [[r * m for r, m in zip(*pair, strict=True)] for pair in zip(rewards, masks, strict=True)]
    return rewards, logprobs, squares, rho, masks, [g for _, g in rows]


def ragged(rows, dtype="float64"):
    return rm.Ragged.from_lists(rows, dtype=dtype)


def padded(rows, width=6):
    return ragged(rows).to_padded(width)


@given(ROWS, OPTIONS, st.booleans())
def test_the_oracle(oracle, tolerance, rows, options, weighted):
    rewards, logprobs, squares, rho, masks, ids = split(rows)
    reference = oracle("group/optimal_token_baseline.py", "optimal_token_baseline")
    expected = reference(rewards, ids, logprobs, squares, masks, weights=rho if weighted else None, **options)
    got = otb(
        ragged(rewards),
        ids,
        ragged(logprobs),
        ragged(squares),
        is_weights=ragged(rho) if weighted else None,
        mask=ragged(masks, "int64"),
        **options,
    )
    # Weights may add up to anything near 0, and eps is small.
    assert_allclose(got.values, [x for row in expected for x in row], rtol=1e-7, atol=1e-9)


@given(ROWS, OPTIONS)
def test_padded_is_packed(same_bits, rows, options):
    rewards, logprobs, squares, _, masks, ids = split(rows)
    packed = otb(ragged(rewards), ids, ragged(logprobs), ragged(squares), mask=ragged(masks, "int64"), **options)
    arrays = [padded(x) for x in (rewards, logprobs, squares)]
    wide = otb(arrays[0], ids, arrays[1], arrays[2], mask=padded(masks).astype(int), **options)
    same_bits(wide, packed.to_padded(6))
    lengths = [len(row) for row in rewards]
    wide = otb(arrays[0], ids, *arrays[1:], mask=padded(masks).astype(bool), lengths=lengths, **options)
    same_bits(wide, packed.to_padded(6))


@given(ROWS, OPTIONS, st.randoms(use_true_random=False), st.sampled_from(["float32", "float64"]))
def test_permuting_rows_changes_no_bit(same_bits, rows, options, random, dtype):
    rewards, logprobs, squares, _, masks, ids = split(rows)
    scaled = [[[0.1 * x for x in row] for row in column] for column in (rewards, logprobs, squares)]
    turn = list(range(len(rows)))
    random.shuffle(turn)

    def run(order):
        r, p, s = (ragged([column[i] for i in order], dtype) for column in scaled)
        return otb(r, [ids[i] for i in order], p, s, mask=ragged([masks[i] for i in order], "int64"), **options)

    straight, turned = run(range(len(rows))), run(turn)
    for i, j in enumerate(turn):
        same_bits(turned[i], straight[j])


@given(ROWS, st.booleans())
def test_gaps_change_nothing_by_trained_tokens(same_bits, rows, zero_tail):
    rewards, logprobs, squares, _, masks, ids = split(rows)

    def keep(column):
        return ragged([[x for x, m in zip(*pair, strict=True) if m] for pair in zip(column, masks, strict=True)])

    without = otb(keep(rewards), ids, keep(logprobs), keep(squares), zero_tail=zero_tail)
    gapped = otb(
        ragged(rewards), ids, ragged(logprobs), ragged(squares), mask=ragged(masks, "int64"), zero_tail=zero_tail
    )
    same_bits(gapped.values[np.array([m for row in masks for m in row], dtype=bool)], without.values)


def test_vectors(vectors):
    v = vectors("flat")["otb"]
    lengths = [3, 3, 2]  # the third row has ended where its return is 0

    def rows(key):
        return [row[:n] for row, n in zip(v[key], lengths, strict=True)]

    # A token of probability 0 has the weight 1 + sum of squares.
    squares = ragged([np.diff(row, prepend=0.0) - 1 for row in rows("W")])
    rewards = [-np.diff(row, append=0.0) for row in rows("G")]
    got = otb(ragged(rewards), [0] * 3, squares.with_values(np.full(8, -800.0)), squares)
    assert_allclose(got.values, np.concatenate(rows("adv")), atol=1e-15)
    w = vectors("flat")["otb_w"]
    one = otb(
        [1.0, 0.0],
        [0, 0],
        np.array([[np.log(w["pi"])], [-800.0]]),
        np.array([[w["sum_p2"]], [0.0]]),
        eps=0.0,
    )
    assert_allclose(one[0], 1 - w["w"] / (w["w"] + 1.0))


def test_by_hand():
    logprobs = ragged([[np.log(0.5)] * 3, [np.log(0.5)] * 2])
    squares = logprobs.with_values(np.full(5, 0.25))
    got = otb([1.0, 0.0], [0, 0], logprobs, squares, eps=0.0)
    assert got.to_lists() == [[0.5, 0.5, 1.0], [-0.5, -0.5]]
    tail = otb([1.0, 0.0], [0, 0], logprobs, squares, eps=0.0, zero_tail=False)
    assert tail.to_lists() == [[0.5, 0.5, 0.0], [-0.5, -0.5]]


def test_equal_returns_give_exactly_zero():
    rng = np.random.default_rng(0)
    logprobs = ragged([rng.uniform(-3, -0.1, n).tolist() for n in (5, 5, 5, 5)])
    squares = logprobs.with_values(rng.random(20))
    for reward in (0.95, 1000.1, 0.7):
        assert not otb(np.full(4, reward, np.float32), [0] * 4, logprobs, squares).values.any()


def test_rows_that_do_not_take_part():
    logprobs, squares = np.full((3, 2), -0.7), np.full((3, 2), 0.5)
    got = otb([1.0, 0.0, np.nan], [0, 0, 0], logprobs, squares, valid=[1, 1, 0])
    assert_allclose(got, otb([1.0, 0.0, 9.0], [0, 0, 1], logprobs, squares) * [[1], [1], [0]])


BASE = (np.zeros((2, 3)), [0, 0], np.full((2, 3), -0.7), np.full((2, 3), 0.5))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: otb(*BASE, align="left"), ValueError, "'align' must be one of 'trained', 'position', got 'left'"),
        (lambda: otb(*BASE, singleton="nan"), ValueError, "'singleton' must be one of 'zero', 'raw', got 'nan'"),
        (lambda: otb(*BASE, eps=-1.0), ValueError, "'eps' must be finite and not negative, got -1.0"),
        (lambda: otb(*BASE, eps=True), TypeError, r"optimal_token_baseline\(\): 'eps' must be a number, got True"),
        (lambda: otb(*BASE, zero_tail="no"), TypeError, "'zero_tail' must be True or False, got 'no'"),
        (lambda: otb(BASE[0], [0], *BASE[2:]), ValueError, "'groups' must have length 2"),
        (lambda: otb(np.zeros((2, 2)), *BASE[1:]), ValueError, r"'rewards' must have shape \(2, 3\)"),
        (lambda: otb(*BASE[:3], np.zeros((2, 2))), ValueError, r"'sum_pi_squared' must have shape \(2, 3\)"),
        (lambda: otb(*BASE[:3], ragged([[0.5] * 3] * 2)), TypeError, "'sum_pi_squared' must be a padded array"),
        (lambda: otb([0.0, np.inf], *BASE[1:]), ValueError, "'rewards' must be finite, got inf at row 1"),
        (lambda: otb(*BASE[:2], BASE[2] * np.nan, BASE[3]), ValueError, "'logprobs' must be finite at trained tokens"),
        (lambda: otb(*BASE, is_weights=BASE[2] * np.inf), ValueError, "'is_weights' must be finite at trained tokens"),
        (lambda: otb([1.0, 0.0], *BASE[1:], mask=[[0, 0, 0], [1, 1, 1]]), ValueError, "'rewards' has 1 for row 0"),
        (
            lambda: otb(np.ones((2, 3)), *BASE[1:], mask=[[1, 0, 1]] * 2),
            ValueError,
            "'rewards' has 1 at row 0, position 1",
        ),
        (lambda: otb(*BASE, valid=[1]), ValueError, "'valid' must have length 2"),
        (lambda: otb(*BASE, out=np.zeros((2, 3), np.float32)), TypeError, "'out' must be of the kind and dtype"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_numbers_past_float64_are_an_error():
    with pytest.raises(ValueError, match="small enough for sums in float64, but are not in row 0"):
        otb([1.0, 0.0], [0, 0], np.full((2, 1), 800.0), np.ones((2, 1)))


def test_torch():
    torch = pytest.importorskip("torch")
    logprobs = torch.full((2, 3), -0.7, dtype=torch.bfloat16)
    squares = torch.full((2, 3), 0.5)
    out = torch.empty(2, 3)
    got = otb(torch.tensor([1.0, 0.0]), torch.tensor([4, 4]), logprobs, squares, out=out)
    assert got is out
    assert_allclose(got[:, 0].numpy(), [0.5, -0.5], atol=1e-6)


def many_gaps(lengths, rewards):
    """Rows of one trained token or more, whose last position is a gap with a reward."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    mask = np.ones(offsets[-1], int)
    mask[offsets[1:] - 1] = 0
    rows = rm.Ragged(rewards, offsets)
    return rows, mask, rows.with_values(np.full(offsets[-1], -0.7)), rows.with_values(np.full(offsets[-1], 0.5))


@pytest.mark.parametrize("rule", ["drop", "previous"])
@pytest.mark.parametrize("seed", range(20))
def test_many_rows_that_differ_in_gaps_alone(same_bits, rule, seed):
    """Rows are put in an order of their own; that order must be one, however alike they are."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 6, 60)
    rewards = np.full(lengths.sum(), 0.1)
    ends = np.cumsum(lengths) - 1
    rewards[ends] = rng.integers(0, 3, 60) / 10
    rows, mask, logprobs, squares = many_gaps(lengths, rewards)
    straight = otb(rows, [0] * 60, logprobs, squares, mask=mask, reward_on_gap=rule)
    turn = rng.permutation(60)
    rows, mask, logprobs, squares = many_gaps(lengths[turn], np.concatenate([rows[i] for i in turn]))
    turned = otb(rows, [0] * 60, logprobs, squares, mask=mask, reward_on_gap=rule)
    for i, j in enumerate(turn):
        same_bits(turned[i], straight[j])


@pytest.mark.parametrize("seed", range(20))
def test_rows_that_differ_in_where_their_gaps_are(same_bits, seed):
    rng = np.random.default_rng(seed)
    marks = np.array([[1, 0, 1], [1, 1, 0], [1, 0, 1], [1, 1, 0], [1, 1, 1]])
    rewards, half = np.full((5, 3), 0.1), np.full((5, 3), 0.5)
    turn = rng.permutation(5)
    straight = otb(rewards, [0] * 5, -half, half, mask=marks, reward_on_gap="previous")
    same_bits(otb(rewards, [0] * 5, -half, half, mask=marks[turn], reward_on_gap="previous"), straight[turn])


def test_weights_of_nothing():
    ones, zeros = np.ones((2, 1)), np.zeros((2, 1))
    # Probability 1: the weight is 1 - 2 + 1 = 0, and with eps 0 nothing is left to divide by.
    assert otb([1.0, 0.0], [0, 0], zeros, ones, eps=0.0).tolist() == [[1.0], [0.0]]

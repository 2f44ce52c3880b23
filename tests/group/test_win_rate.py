"""Win rates from pairwise comparisons."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

win_rate = rm.group.win_rate

IDS = [0, 0, 1, 0, 1, 2, 1, 0]
PAIRS = [(i, j) for i in range(8) for j in range(8) if IDS[i] == IDS[j]]
COMPARISONS = st.lists(st.tuples(st.sampled_from(PAIRS), st.integers(0, 64).map(lambda k: k / 64)), max_size=40)
VALID = st.lists(st.booleans(), min_size=8, max_size=8)


def unzip(comparisons, dtype=np.float64):
    i = np.array([c[0][0] for c in comparisons], dtype=np.int64)
    j = np.array([c[0][1] for c in comparisons], dtype=np.int64)
    return i, j, np.array([c[1] for c in comparisons], dtype=dtype)


def test_by_hand():
    """A table of three: each row without its diagonal, (0.9 + 0.4) / 2 and so on."""
    table = np.array([[0.5, 0.9, 0.4], [0.1, 0.5, 0.2], [0.6, 0.8, 0.5]])
    i, j = np.indices((3, 3)).reshape(2, -1)
    full = win_rate(i, j, table.ravel(), ["p"] * 3, symmetric=False)
    assert_allclose(full, [0.65, 0.15, 0.7])
    upper = i < j
    assert_allclose(win_rate(i[upper], j[upper], table.ravel()[upper], ["p"] * 3), full)


@given(
    COMPARISONS, VALID, st.booleans(), st.booleans(), st.sampled_from(["nan", "half"]), st.sampled_from(["f4", "f8"])
)
def test_the_oracle(oracle, tolerance, comparisons, valid, masked, symmetric, missing, dtype):
    args = unzip(comparisons, dtype)
    options = {"symmetric": symmetric, "missing": missing, "valid": valid if masked else None}
    got = win_rate(*args, IDS, **options)
    assert got.dtype == args[2].dtype
    assert_allclose(got, oracle("group/win_rate.py", "win_rate")(*args, IDS, **options), **tolerance(got.dtype))


@given(COMPARISONS, st.randoms(use_true_random=False), st.sampled_from([np.float32, np.float64]))
def test_permuting_comparisons_or_rows_changes_no_bit(same_bits, comparisons, random, dtype):
    i, j, p = unzip(comparisons)
    p = (p * 0.1).astype(dtype)
    base = win_rate(i, j, p, IDS)
    turn = np.arange(len(p))
    random.shuffle(turn)
    same_bits(win_rate(i[turn], j[turn], p[turn], IDS), base)
    turn = np.arange(8)
    random.shuffle(turn)
    place = np.argsort(turn)  # row turn[k] becomes row k
    same_bits(win_rate(place[i], place[j], p, np.array(IDS)[turn]), base[turn])


@given(COMPARISONS)
def test_laws(tolerance, comparisons):
    i, j, p = unzip(comparisons)
    rates = win_rate(i, j, p, IDS)
    assert ((rates >= 0) & (rates <= 1) | np.isnan(rates)).all()
    assert_allclose(win_rate(j, i, 1 - p, IDS), rates, **tolerance("float64"))
    assert_allclose(win_rate(*(np.tile(x, 2) for x in (i, j, p)), IDS), rates, **tolerance("float64"))
    assert_allclose(win_rate(i, j, 1 - p, IDS), 1 - rates, **tolerance("float64"))


def test_all_pairs_of_a_prompt_make_a_mean_of_one_half():
    i, j = np.triu_indices(5, 1)
    assert_allclose(win_rate(i, j, np.random.default_rng(0).random(10), [0] * 5).mean(), 0.5)


def test_an_opponent_counts_once_however_often_it_was_met():
    assert win_rate([0, 0, 1, 0], [1, 1, 0, 2], [1.0, 1.0, 0.0, 0.0], [0] * 3).tolist() == [0.5, 0.0, 1.0]


def test_rows_without_comparisons():
    assert np.isnan(win_rate([], [], [], ["p", "q"])).tolist() == [True, True]
    assert win_rate([], [], [], ["p", "q"], missing="half").tolist() == [0.5, 0.5]
    assert win_rate([0], [0], [1.0], ["p", "q"], missing="half", valid=[1, 0]).tolist() == [0.5, 0.0]
    assert win_rate([], [], [], []).tolist() == []
    got = rm.group.grpo(win_rate([0], [1], [1], ["p", "p", "q"]), ["p", "p", "q"], nan="omit")
    assert got.round(3).tolist() == [0.707, -0.707, 0.0]


def test_comparisons_with_rollouts_that_take_no_part_are_not_checked():
    """Nor are those of a rollout with itself; but row numbers are."""
    nan, ids, valid = math.nan, ["p", "p", "q"], [1, 1, 0]
    got = win_rate([0, 0, 2, 1], [1, 2, 1, 1], [1.0, nan, 7.0, nan], ids, valid=valid)
    assert got.tolist() == [1.0, 0.0, 0.0]
    with pytest.raises(ValueError, match=r"win_rate\(\): 'second' must be between 0 and 2"):
        win_rate([0, 0], [1, 3], [1.0, nan], ids, valid=valid)


def test_kinds_and_layouts():
    torch = pytest.importorskip("torch")
    out = win_rate(torch.tensor([0]), torch.tensor([1]), torch.tensor([0.75]), ["p", "p"])
    assert (type(out), out.dtype, out.tolist()) == (torch.Tensor, torch.float32, [0.75, 0.25])
    pairs = np.array([[0, 1], [1, 2], [0, 2]])
    p = np.random.default_rng(0).random((3, 2))
    args = (pairs[:, 0].copy(), pairs[:, 1].copy(), p[:, 1].copy())
    assert (win_rate(pairs[:, 0], pairs[:, 1], p[:, 1], [0] * 3) == win_rate(*args, [0] * 3)).all()


TWO = ["p", "p"]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: win_rate([0], [2], [1.0], TWO),
            ValueError,
            r"'second' must be between 0 and 1 \(= len\(groups\) - 1\)",
        ),
        (lambda: win_rate([-1], [1], [1.0], TWO), ValueError, r"win_rate\(\): 'first' must be .*, got -1 at index 0"),
        (lambda: win_rate([0.0], [1], [1.0], TWO), TypeError, "'first' must hold integers, got float64"),
        (
            lambda: win_rate([0], [1, 1], [1.0], TWO),
            ValueError,
            r"'second' must have length 1 \(= len\(probabilities\)\)",
        ),
        (
            lambda: win_rate([0], [1], [1.5], TWO),
            ValueError,
            r"'probabilities' must be in \[0, 1\] where r",
        ),
        (
            lambda: win_rate([0], [1], [math.nan], TWO),
            ValueError,
            r"'probabilities' must be in \[0, 1\] .*, got nan at in",
        ),
        (lambda: win_rate([0], [1], [1], ["p", "q"]), ValueError, r"win_rate\(\): .* comparison 0 is of rows 0 and 1"),
        (lambda: win_rate([0], [1], [1], TWO, symmetric=1), TypeError, "'symmetric' must be True or False, got 1"),
        (
            lambda: win_rate([0], [1], [1], TWO, missing=0),
            ValueError,
            "'missing' must be one of 'nan', 'half', 'raise'",
        ),
        (lambda: win_rate([0], [1], [1], [*TWO, "q"], missing="raise"), ValueError, "but row 2 has none; choose missi"),
        (
            lambda: win_rate([0], [1], [1], TWO, valid=[1]),
            ValueError,
            r"'valid' must have length 2 \(= len\(groups\)\)",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()

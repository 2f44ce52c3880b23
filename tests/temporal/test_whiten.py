"""Whitening over tokens and the moments it is made of: against the oracles, and their laws."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

whiten, moments = rm.temporal.whiten, rm.ops.moments
Moments, Whiten = rm.ops.Moments, rm.conventions.Whiten

DTYPES = [np.float64, np.float32]
HOW = st.builds(
    Whiten,
    shift_mean=st.booleans(),
    scale=st.booleans(),
    ddof=st.sampled_from([0, 1]),
    eps=st.sampled_from([1e-8, 1e-4, 0.1]),
    eps_place=st.sampled_from(["sqrt", "add", "max", "where_positive"]),
)


def fields(how):
    return {name: getattr(how, name) for name in ("shift_mean", "scale", "ddof", "eps", "eps_place")}


def parts(m):
    return [getattr(m, name) for name in ("weights", "means", "squares", "low", "high")]


def test_by_hand():
    """Tokens 1, 3 and 8 with mean 4 and variance (9 + 1 + 16) / 2 = 13; the 7 is a gap."""
    x, mask = rm.Ragged.from_lists([[1.0, 7.0, 3.0], [8.0]]), [1, 0, 1, 1]
    got = whiten(x, how=Whiten(eps=0.0), mask=mask)
    assert_allclose(got.values, np.array([-3, 0, -1, 4]) / math.sqrt(13), atol=1e-15)
    assert_allclose(whiten(x, how=Whiten(eps=3.0), mask=mask).values, [-0.75, 0, -0.25, 1], atol=1e-15)
    assert_allclose(whiten(x, how=Whiten(eps=3.0, shift_mean=False), mask=mask).values, [3.25, 0, 3.75, 5], atol=1e-15)
    assert whiten(x, how=Whiten(scale=False), mask=mask).values.tolist() == [-3, 0, -1, 4]
    m = moments(x, mask=mask)
    assert (m.count, m.mean, m.var(), m.var(ddof=0)) == (3.0, 4.0, 13.0, 26 / 3)


@given(data=st.data(), dtype=st.sampled_from(DTYPES), how=HOW)
def test_the_oracle(oracle, tolerance, tokens, flat, form, data, dtype, how):
    batch = data.draw(tokens()).rounded(dtype)
    options = {"valid": data.draw(st.sampled_from([None, batch.truncated]))}
    if data.draw(st.booleans()):
        options["weights"] = [abs(w) for w in batch.bootstrap]
    (x,), rows = batch.hand(form, "values", dtype=dtype)
    got = batch.read(form, whiten(x, how=how, **rows, **options))
    expected = oracle("temporal/whiten.py", "whiten")(batch["values"], batch.mask, **fields(how), **options)
    assert got.dtype == dtype
    assert_allclose(got, flat(expected), **tolerance(np.dtype(dtype).name))


@given(data=st.data())
def test_moments_are_those_of_the_oracle(oracle, tolerance, tokens, form, data):
    batch = data.draw(tokens())
    options = {"valid": data.draw(st.sampled_from([None, batch.truncated]))}
    if data.draw(st.booleans()):
        options["weights"] = [abs(w) for w in batch.bootstrap]
    (x,), rows = batch.hand(form, "values")
    m = moments(x, **rows, **options)
    for ddof in (0, 1):
        expected = oracle("temporal/whiten.py", "moments")(batch["values"], batch.mask, ddof=ddof, **options)
        assert_allclose([m.count, m.mean, m.var(ddof=ddof)], expected, **tolerance("float64"))
    assert len(m) == len(batch.mask)


@given(data=st.data(), dtype=st.sampled_from(DTYPES), how=HOW)
def test_every_form_gives_the_same_bits(same_bits, tokens, form, data, dtype, how):
    batch = data.draw(tokens())
    results = []
    for each in ("ragged", form):
        (x,), rows = batch.hand(each, "values", dtype=dtype)
        results.append(batch.read(each, whiten(x, how=how, **rows)))
    same_bits(*results)


@given(data=st.data(), garbage=st.sampled_from([0.0, 1e30, np.nan, -np.inf]), how=HOW)
def test_inserting_gaps_changes_no_bit(same_bits, tokens, data, garbage, how):
    batch = data.draw(tokens())
    keep = batch.flat_mask
    (x,), rows = batch.hand("ragged", "values")
    x.values[~keep] = garbage
    short = rm.Ragged.from_lengths(x.values[keep], [sum(m) for m in batch.mask])
    got = whiten(x, how=how, **rows).values
    same_bits(got[keep], whiten(short, how=how).values)
    assert not got[~keep].any()


@given(
    data=st.data(),
    random=st.randoms(use_true_random=False),
    dtype=st.sampled_from(DTYPES),
    how=HOW,
    ranks=st.integers(1, 4),
)
def test_neither_order_nor_ranks_change_a_bit(same_bits, tokens, data, random, dtype, how, ranks):
    """Rows in another order and on several ranks, which exchange their moments in any order."""
    batch = data.draw(tokens())
    (x,), rows = batch.hand("ragged", "values", dtype=dtype)
    whole = whiten(x, how=how, **rows)
    order = list(range(len(batch.mask)))
    random.shuffle(order)
    shares = [order[i::ranks] for i in range(ranks)]
    given_to = [batch.picked(share).hand("ragged", "values", dtype=dtype) for share in shares]
    there = [moments(*arrays, **how) for arrays, how in given_to]
    random.shuffle(there)
    merged = Moments.merge(pickle.loads(pickle.dumps(there)))
    for share, (arrays, keep) in zip(shares, given_to, strict=True):
        got = whiten(*arrays, how=how, moments=merged, **keep)
        same_bits(got.values, np.concatenate([whole[i] for i in share] or [whole.values[:0]]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_number_of_threads_changes_no_bit(same_bits, threads, big, dtype):
    b = big(dtype=dtype)
    results = []
    for n in (1, 2, 5):
        threads(n)
        results.append((whiten(b["values"], mask=b["mask"]).values, *parts(moments(b["values"], mask=b["mask"]))))
    for other in results[1:]:
        for ours, theirs in zip(other, results[0], strict=True):
            same_bits(ours, theirs)


def test_it_is_white(big):
    b = big()
    x = whiten(b["values"], mask=b["mask"]).values[b["mask"]]
    assert abs(x.mean()) < 1e-12
    assert_allclose(x.std(ddof=1), 1, rtol=1e-7)


@given(data=st.data(), shift=st.integers(-64, 64), scale=st.sampled_from([0.5, 2.0]), ddof=st.sampled_from([0, 1]))
def test_shift_and_scale_have_no_say_without_eps(tokens, data, shift, scale, ddof):
    batch = data.draw(tokens())
    how = Whiten(ddof=ddof, eps=0.0, eps_place="where_positive")
    (x,), rows = batch.hand("ragged", "values")
    moved = x.with_values(scale * x.values + shift)
    # The shift is rounded into the values before anything is computed, and what it takes is divided by their spread.
    assert_allclose(whiten(moved, how=how, **rows).values, whiten(x, how=how, **rows).values, atol=1e-10)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [0.1, 1000.1, -3.3e-7])
@pytest.mark.parametrize("how", [Whiten(), Whiten(eps=0.0), Whiten(eps=1e-30, eps_place="add"), Whiten(ddof=0)])
def test_equal_values_get_exactly_zero(dtype, value, how):
    x = rm.Ragged.from_lengths(np.full(300, value, dtype), [7, 0, 200, 93])
    assert not whiten(x, how=how).values.any()
    back = whiten(x, how=Whiten(shift_mean=False))
    assert (back.values == dtype(value)).all()
    m = moments(x)
    assert (m.constant, m.mean, m.var()) == (True, float(dtype(value)), 0.0)


def test_few_values():
    one = rm.Ragged.from_lists([[2.5], []])
    assert whiten(one).values.tolist() == [0.0]
    assert whiten(one, how=Whiten(shift_mean=False)).values.tolist() == [2.5]
    none = rm.Ragged.from_lists([[2.5, 1.0]])
    assert whiten(none, mask=[0, 0]).values.tolist() == [0.0, 0.0]
    assert math.isnan(moments(none, mask=[0, 0]).mean)
    assert len(whiten(rm.Ragged.from_lists([], dtype=np.float64))) == 0
    # Weights of less than one value in all leave no variance: the scale stays as it is.
    assert whiten(rm.Ragged.from_lists([[1.0], [2.0]]), weights=[0.25, 0.25]).values.tolist() == [-0.5, 0.5]


@given(data=st.data(), how=HOW)
def test_one_number_a_row_with_its_tokens_for_weights(same_bits, tokens, data, how):
    """REINFORCE++ baselines are whitened over tokens without being expanded to tokens."""
    batch = data.draw(tokens())
    x = np.array(batch.bootstrap)
    token_level = rm.Ragged.from_lengths(np.repeat(x, batch.lengths), batch.lengths)
    for ours, theirs in zip(parts(moments(x, weights=batch.lengths)), parts(moments(token_level)), strict=True):
        keep = batch.lengths > 0
        same_bits(ours[keep], theirs[keep])
    rows = whiten(x, how=how, weights=batch.lengths)
    same_bits(np.repeat(rows, batch.lengths) + 0.0, whiten(token_level, how=how).values + 0.0)


@given(data=st.data(), dtype=st.sampled_from(DTYPES), how=HOW)
def test_one_number_a_row_is_the_oracle(oracle, tolerance, tokens, data, dtype, how):
    batch = data.draw(tokens())
    x = np.array(batch.bootstrap, dtype=dtype)
    options = {"valid": data.draw(st.sampled_from([None, batch.truncated]))}
    got = whiten(x, how=how, **options)
    lists = [[float(v)] for v in x]
    expected = oracle("temporal/whiten.py", "whiten")(lists, **fields(how), **options)
    assert got.dtype == dtype
    assert_allclose(got, [row[0] for row in expected], **tolerance(np.dtype(dtype).name))


def test_tensors_and_arrays_that_are_not_contiguous(same_bits):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(5, 9)).astype(np.float32)
    lengths = [9, 0, 3, 1, 9]
    expected = whiten(x, lengths=lengths)
    for other in (np.asfortranarray(x), torch.from_numpy(x), torch.from_numpy(np.asfortranarray(x))):
        got = whiten(other, lengths=lengths)
        assert type(got) is type(other)
        same_bits(np.asarray(got), expected)
    short = torch.from_numpy(x).to(torch.bfloat16)
    got = whiten(short, lengths=torch.tensor(lengths))
    assert got.dtype == torch.float32
    same_bits(got.numpy(), whiten(short.float().numpy(), lengths=lengths))
    assert whiten(np.array([[1, 2, 6]])).dtype == np.float64


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: whiten(x, how=1e-8), TypeError, "whiten.*'how' must be a Whiten"),
        (lambda x: whiten(x, moments=(0.0, 1.0)), TypeError, "whiten.*'moments' must be a Moments"),
        (lambda x: whiten(x, weights=[1.0]), ValueError, "whiten.*'weights' must have length 2"),
        (
            lambda x: whiten(x, weights=[1.0, -1.0]),
            ValueError,
            "whiten.*'weights' must be finite and not negative, got -1",
        ),
        (lambda x: whiten(x, valid=[1]), ValueError, "whiten.*'valid' must have length 2"),
        (lambda x: whiten(x, mask=[1, 1]), ValueError, r"whiten.*'mask' must have shape \(3,\)"),
        (lambda x: whiten(x, mask=[1.0, 1.0, 1.0]), TypeError, "whiten.*'mask' must be bool or integer"),
        (lambda x: whiten(x, lengths=[2, 1]), ValueError, "whiten.*'lengths' goes with padded arrays"),
        (lambda _: whiten([1.0, 2.0], mask=[1, 1]), ValueError, "whiten.*'mask' goes with token rows"),
        (lambda _: whiten([1.0, 2.0], lengths=[1, 1]), ValueError, "whiten.*'lengths' goes with token rows"),
        (lambda _: moments([1.0, 2.0], mask=[1, 1]), ValueError, "moments.*'mask' goes with token rows"),
        (
            lambda x: moments(x, weights=[math.nan, 1.0]),
            ValueError,
            "moments.*'weights' must be finite and not negative",
        ),
        (lambda x: Moments.merge([moments(x)]).var(ddof=-1), ValueError, "Moments.var.*'ddof' must be a whole number"),
        (
            lambda _: Moments([1.0], [1.0, 2.0], [0.0], [1.0], [1.0]),
            ValueError,
            r"Moments\(\): 'means' must have length 1",
        ),
    ],
)
def test_wrong_calls(call, error, message):
    with pytest.raises(error, match=message):
        call(rm.Ragged.from_lists([[1.0, 2.0], [4.0]]))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_named(bad):
    x = rm.Ragged.from_lists([[1.0], [2.0, bad, 3.0]])
    for function in (whiten, moments):
        with pytest.raises(
            ValueError, match=r"'x' must be finite at trained tokens, got (NaN|-?inf) at row 1, position 1"
        ):
            function(x)
        function(x, mask=[1, 1, 0, 1])


def test_what_is_not_finite_is_looked_up_in_the_moments():
    """One number a row: a NaN on another rank makes all ranks NaN, instead of an error on those that have none."""
    parts = [np.array([1.0, np.nan]), np.array([2.0, 3.0])]
    merged = Moments.merge([moments(part) for part in parts])
    for part in parts:
        assert np.isnan(whiten(part, moments=merged)).all()
    huge = Moments.merge([moments(np.array([1e308, 1e308])), moments(np.array([-1e308]))])
    with pytest.raises(ValueError, match=r"'x' must be small enough for sums in float64"):
        whiten(parts[1], moments=huge)
    # Without weight it enters no statistic.
    found = whiten(np.array([np.nan, 1.0, 3.0]), weights=[0, 1, 1])
    assert found[1:].tolist() == whiten(np.array([1.0, 3.0])).tolist()

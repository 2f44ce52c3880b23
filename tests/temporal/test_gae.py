"""Generalised advantage estimation: by hand, against the oracle, and its laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

gae = rm.temporal.gae

UNIT = st.one_of(st.sampled_from([0.0, 0.5, 0.95, 1.0]), st.floats(0, 1))
DTYPES = [np.float64, np.float32]


def one(rewards, values, **options):
    """Advantages of a single row."""
    return gae(np.array([rewards], dtype=float), np.array([values], dtype=float), **options).advantages[0]


def test_a_response_that_was_cut(vectors):
    v = vectors("structured")["egae"]
    options = {"gamma": v["gamma"], "lam": v["lam"]}
    assert_allclose(one([0, 0, 0], v["V"], bootstrap="last", **options), v["truncated"], atol=1e-15)
    assert_allclose(one([0, 0, 1], v["V"], **options), v["finished_r1"], atol=1e-15)
    assert_allclose(one([0, 0, 0], v["V"], **options), [-0.214, -0.46, -0.4], atol=1e-15)
    got = one([0, 0, 0], v["V"], bootstrap="last", gamma=0.99, lam=0.9)
    assert_allclose(got, [0.09916, -0.107564, -0.004], atol=5e-7)
    v = vectors("flat")["egae"]
    assert_allclose(one([0, 0, 0], v["v"]), v["terminal"], atol=1e-15)
    assert_allclose(one([0, 0, 0], v["v"], bootstrap=[0.45]), v["boot_V"], atol=1e-15)
    assert_allclose(one([0, 0, 0], v["v"], bootstrap="last"), v["boot_last"], atol=1e-15)


def test_gaps_by_hand():
    """V = (.5, .4), a gap with value 9 between, reward 1 at the end; gamma = lam = .5."""
    call = {"gamma": 0.5, "lam": 0.5, "mask": np.array([[1, 0, 1]])}
    values = [0.5, 9.0, 0.4]
    # delta = (.5 * .4 - .5, 1 - .4) = (-.3, .6)
    assert_allclose(one([0, 0, 1], values, **call), [-0.3 + 0.25 * 0.6, 0, 0.6], atol=1e-15)
    # delta = (0 - .5, .5 * .4, .6)
    assert_allclose(one([0, 0, 1], values, gaps="state", **call), [-0.5 + 0.25 * (0.2 + 0.15), 0, 0.6], atol=1e-15)
    # delta = (.5 * 9 - .5, .5 * .4 - 9, .6)
    assert_allclose(one([0, 0, 1], values, gaps="ignore", **call), [4 + 0.25 * (-8.8 + 0.15), 0, 0.6], atol=1e-15)
    assert one([0, 1, 0], values, reward_on_gap="previous", **call).tolist() == one([1, 0, 0], values, **call).tolist()
    assert one([0, 1, 0], values, reward_on_gap="drop", **call).tolist() == one([0, 0, 0], values, **call).tolist()


def options_of(data, batch, form, gaps):
    """Keywords for ours and the oracle."""
    lams = st.one_of(UNIT, st.lists(UNIT, min_size=len(batch.mask), max_size=len(batch.mask)))
    options = {"gamma": data.draw(UNIT), "lam": data.draw(lams), "gaps": gaps}
    if data.draw(st.booleans()):
        options["lam_returns"] = data.draw(lams)
    # Without lengths the padding is part of a row: nothing ends behind it but zeros.
    if gaps == "carry" or form != "mask":
        options["bootstrap"] = data.draw(st.sampled_from(["zero", "last", batch.bootstrap]))
        options["truncated"] = data.draw(st.sampled_from([None, batch.truncated]))
    return options


@pytest.mark.parametrize("gaps", ["carry", "state", "ignore"])
@given(data=st.data(), dtype=st.sampled_from(DTYPES))
def test_the_oracle(oracle, tolerance, tokens, flat, form, gaps, dtype, data):
    batch = data.draw(tokens()).rounded(dtype)
    options = options_of(data, batch, form, gaps)
    arrays, how = batch.hand(form, "rewards", "values", dtype=dtype, fill=0.0 if gaps == "ignore" else np.nan)
    got = gae(*arrays, **how, **options)
    expected = oracle("temporal/gae.py", "gae")(batch["rewards"], batch["values"], batch.mask, **options)
    for ours, theirs in zip(got, expected, strict=True):
        numbers = batch.read(form, ours)
        assert numbers.dtype == dtype
        assert_allclose(numbers, flat(theirs), **tolerance(np.dtype(dtype).name))


@pytest.mark.parametrize("reward_on_gap", ["previous", "drop"])
@pytest.mark.parametrize("gaps", ["carry", "state", "ignore"])
@given(data=st.data())
def test_rewards_on_gaps(oracle, tolerance, tokens, flat, gaps, reward_on_gap, data):
    batch = data.draw(tokens(rewards_on_gaps=True))
    options = {"gamma": data.draw(UNIT), "lam": data.draw(UNIT), "gaps": gaps, "reward_on_gap": reward_on_gap}
    arrays, how = batch.hand("ragged", "rewards", "values")
    try:
        expected = oracle("temporal/gae.py", "gae")(batch["rewards"], batch["values"], batch.mask, **options)
    except ValueError:
        with pytest.raises(ValueError, match="no trained token"):
            gae(*arrays, **how, **options)
        return
    got = gae(*arrays, **how, **options)
    for ours, theirs in zip(got, expected, strict=True):
        assert_allclose(ours.values, flat(theirs), **tolerance("float64"))


@given(data=st.data())
def test_one_reward_a_row_is_given_at_its_last_trained_token(same_bits, tokens, form, data):
    batch = data.draw(tokens())
    ends = [max((t for t, kept in enumerate(m) if kept), default=None) for m in batch.mask]
    rewards = np.array([0.0 if end is None else reward for end, reward in zip(ends, batch.bootstrap, strict=True)])
    for row, end, reward in zip(batch["rewards"], ends, rewards, strict=True):
        row[:] = [float(reward) if t == end else 0.0 for t in range(len(row))]
    (at_tokens, values), how = batch.hand(form, "rewards", "values")
    for ours, theirs in zip(gae(rewards, values, **how), gae(at_tokens, values, **how), strict=True):
        same_bits(batch.read(form, ours), batch.read(form, theirs))


@given(data=st.data(), dtype=st.sampled_from(DTYPES))
def test_every_form_gives_the_same_bits(same_bits, tokens, form, data, dtype):
    batch = data.draw(tokens())
    options = options_of(data, batch, form, "carry")
    results = []
    for each in ("ragged", form):
        arrays, how = batch.hand(each, "rewards", "values", dtype=dtype)
        results.append([batch.read(each, x) for x in gae(*arrays, **how, **options)])
    for ours, theirs in zip(*results, strict=True):
        same_bits(ours, theirs)


@given(data=st.data(), garbage=st.sampled_from([0.0, 1e30, np.nan, -np.inf]))
def test_inserting_gaps_changes_no_bit(same_bits, tokens, data, garbage):
    batch = data.draw(tokens())
    options = options_of(data, batch, "ragged", "carry")
    keep = batch.flat_mask
    arrays, how = batch.hand("ragged", "rewards", "values")
    arrays[1].values[~keep] = garbage
    trained = [sum(m) for m in batch.mask]
    short = [rm.Ragged.from_lengths(x.values[keep], trained) for x in arrays]
    for ours, theirs in zip(gae(*arrays, **how, **options), gae(*short, **options), strict=True):
        same_bits(ours.values[keep], theirs.values)
        assert not ours.values[~keep].any()


@given(data=st.data(), random=st.randoms(use_true_random=False), dtype=st.sampled_from(DTYPES))
def test_permuting_rows_changes_no_bit(same_bits, tokens, data, random, dtype):
    batch = data.draw(tokens())
    order = list(range(len(batch.mask)))
    random.shuffle(order)
    whiten = data.draw(st.sampled_from([None, rm.conventions.Whiten(), rm.conventions.Whiten(ddof=0, eps_place="add")]))
    results = []
    for rows in (batch, batch.picked(order)):
        arrays, how = rows.hand("ragged", "rewards", "values", dtype=dtype)
        options = {"bootstrap": rows.bootstrap, "truncated": rows.truncated, "whiten": whiten}
        results.append(gae(*arrays, **how, **options, gamma=0.99, lam=0.9))
    for before, after in zip(*results, strict=True):
        same_bits(np.concatenate([before[i] for i in order] or [before.values]), after.values)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("whiten", [None, rm.conventions.Whiten()])
def test_the_number_of_threads_changes_no_bit(same_bits, threads, big, dtype, whiten):
    b = big(dtype=dtype)
    results = []
    for n in (1, 2, 5):
        threads(n)
        results.append(gae(b["rewards"], b["values"], mask=b["mask"], gamma=0.99, whiten=whiten))
    for other in results[1:]:
        same_bits(other.advantages.values, results[0].advantages.values)
        same_bits(other.returns.values, results[0].returns.values)


@given(data=st.data())
def test_lambda_1_telescopes_and_lambda_0_is_the_td_error(tolerance, tokens, data):
    batch = data.draw(tokens())
    (rewards, values), how = batch.hand("ragged", "rewards", "values")
    boot = {"bootstrap": batch.bootstrap, "truncated": batch.truncated}
    got = gae(rewards, values, gamma=0.9, lam=1.0, **how, **boot)
    returns = rm.temporal.discounted_returns(rewards, gamma=0.9, **how, **boot)
    assert_allclose(got.returns.values, returns.values, **tolerance("float64"))
    kept = batch.flat_mask
    assert_allclose(got.advantages.values[kept], (returns.values - values.values)[kept], **tolerance("float64"))
    td = gae(rewards, values, gamma=0.9, lam=0.0, **how, **boot).advantages
    for i, row in enumerate(td):
        m = np.array(batch.mask[i], dtype=bool)
        end = batch.bootstrap[i] if batch.truncated[i] else 0.0
        ahead = np.append(values[i][m][1:], end)[: m.sum()]
        assert_allclose(row[m], (rewards[i] + 0.0)[m] + 0.9 * ahead - values[i][m], **tolerance("float64"))


@given(data=st.data(), scale=st.sampled_from([2.0, 0.25, -1.0]))
def test_scaling_rewards_and_values_scales_both_results(same_bits, tokens, data, scale):
    batch = data.draw(tokens())
    (rewards, values), how = batch.hand("ragged", "rewards", "values")
    scaled = [x.with_values(x.values * scale) for x in (rewards, values)]
    for ours, theirs in zip(gae(*scaled, **how), gae(rewards, values, **how), strict=True):
        same_bits(ours.values + 0.0, theirs.values * scale + 0.0)


@given(data=st.data(), ddof=st.sampled_from([0, 1]), place=st.sampled_from(["sqrt", "add", "max"]))
def test_whitening_inside_is_whitening_afterwards(same_bits, tokens, form, data, ddof, place):
    batch = data.draw(tokens())
    how = rm.conventions.Whiten(ddof=ddof, eps_place=place, shift_mean=data.draw(st.booleans()))
    arrays, rows = batch.hand(form, "rewards", "values")
    plain, white = gae(*arrays, **rows), gae(*arrays, **rows, whiten=how)
    expected = rm.temporal.whiten(plain.advantages, how=how, **rows)
    same_bits(batch.read(form, white.advantages), batch.read(form, expected))
    same_bits(batch.read(form, white.returns), batch.read(form, plain.returns))


def test_the_length_adaptive_lambda_goes_in(tolerance):
    lengths = [3, 40, 400]
    rng = np.random.default_rng(0)
    rewards, values = (rm.Ragged.from_lengths(rng.normal(size=443), lengths) for _ in range(2))
    lam = rm.temporal.length_adaptive_lambda(lengths)
    got = gae(rewards, values, lam=lam, lam_returns=1.0)
    for i in range(3):
        alone = gae(rewards[i][None], values[i][None], lam=float(lam[i]))
        assert got.advantages[i].tolist() == alone.advantages[0].tolist()
    returns = rm.temporal.discounted_returns(rewards)
    assert_allclose(got.returns.values, returns.values, **tolerance("float64"))


def test_inputs_are_not_changed_and_need_not_be_contiguous(same_bits):
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(2, 6, 8))
    mask = rng.random((6, 8)) < 0.8
    rewards[~mask] = 0
    copies = rewards.copy(), values.copy(), mask.copy()
    expected = gae(rewards, values, mask=mask)
    wide = np.zeros((6, 16))
    wide[:, ::2] = values
    others = [
        gae(np.asfortranarray(rewards), wide[:, ::2], mask=np.asfortranarray(mask)),
        gae(rewards.astype(">f8"), values, mask=mask.astype(np.int64) * 7),
        gae(rewards[::-1].copy()[::-1], values, mask=mask),
    ]
    for got in others:
        for ours, theirs in zip(got, expected, strict=True):
            same_bits(ours, theirs)
    for before, after in zip(copies, (rewards, values, mask), strict=True):
        same_bits(before, after)


def test_tensors(same_bits):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(2, 5, 9)).astype(np.float32)
    lengths = np.array([9, 0, 3, 1, 9])
    t = [torch.from_numpy(x) for x in (rewards, values)]
    expected = gae(rewards, values, lengths=lengths)
    got = gae(*t, lengths=torch.from_numpy(lengths))
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.dtype == torch.float32
        same_bits(ours.numpy(), theirs)
    short = [x.to(torch.bfloat16) for x in t]
    wide = [x.float().numpy() for x in short]
    got = gae(*short, lengths=lengths)
    for ours, theirs in zip(got, gae(*wide, lengths=lengths), strict=True):
        assert ours.dtype == torch.float32
        same_bits(ours.numpy(), theirs)
    packed = [rm.Ragged.from_padded(x, lengths=lengths) for x in t]
    got = gae(*packed, mask=torch.ones(22, dtype=torch.bool))
    assert isinstance(got.advantages, rm.Ragged)
    assert isinstance(got.advantages.values, torch.Tensor)
    same_bits(got.advantages.values.numpy(), rm.Ragged.from_padded(expected.advantages, lengths=lengths).values)


def test_batches_without_anything():
    empty = rm.Ragged.from_lists([], dtype=np.float64)
    assert len(gae(empty, empty).advantages) == 0
    rows = rm.Ragged.from_lists([[], []], dtype=np.float64)
    assert gae(rows, rows, bootstrap="last").returns.to_lists() == [[], []]
    assert gae(np.zeros((0, 4)), np.zeros((0, 4))).advantages.shape == (0, 4)
    assert gae(np.zeros((3, 0)), np.zeros((3, 0))).returns.shape == (3, 0)
    masked = gae(np.zeros((2, 2)), np.ones((2, 2)), mask=np.zeros((2, 2), bool), whiten=rm.conventions.Whiten())
    assert [x.tolist() for x in masked] == [[[0, 0], [0, 0]]] * 2

"""What every method of the package promises, checked for all of them: order of rows, kinds, masks, messages."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm

g = rm.group


def passk_training(r, ids, extra, valid=None, **options):
    """With the largest k that these rows allow, on rounded rewards."""
    x = np.array(r.tolist())
    seen = ~np.isnan(x) & (True if valid is None or len(valid) != len(x) else np.asarray(valid) != 0)
    k = 1
    with contextlib.suppress(TypeError, ValueError):  # the method itself shall name what is wrong
        counts = rm.ops.segment_count(ids, valid=seen)
        k = int(min(counts[counts > 0], default=1))
    return g.passk_training(r.round(), ids, k, valid=valid, **options)


def two_channels(r, extra):
    second = np.asarray(extra % 3)
    if isinstance(r, np.ndarray):
        return np.stack([r, second.astype(r.dtype)], axis=1) if r.ndim == 1 else r
    import torch

    return torch.stack([r, torch.from_numpy(second).to(r.dtype)], dim=1)


#: Rewards, ids and a whole number from 1 to 9 a row, which serves as length, weight, stratum or baseline.
CALLS = {
    "bnpo": lambda r, ids, extra, **o: g.bnpo(r, ids, **o),
    "dr_grpo": lambda r, ids, extra, **o: g.dr_grpo(r, ids, **o),
    "gdpo": lambda r, ids, extra, **o: g.gdpo(two_channels(r, extra), ids, weights=[1.0, 0.3], **o),
    "gdpo token": lambda r, ids, extra, **o: g.gdpo(two_channels(r, extra), ids, whiten="token", lengths=extra, **o),
    "gpg": lambda r, ids, extra, **o: g.gpg(r, ids, **o),
    "gpg nonzero_reward": lambda r, ids, extra, **o: g.gpg(r, ids, correction="nonzero_reward", f_norm=0.3, **o),
    "lite_ppo": lambda r, ids, extra, **o: g.lite_ppo(r, ids, **o),
    "lite_ppo residuals": lambda r, ids, extra, **o: g.lite_ppo(r, ids, batch_std="residuals", **o),
    "mapo": lambda r, ids, extra, **o: g.mapo(r, ids, success=extra > 4, **o),
    "maxrl": lambda r, ids, extra, **o: g.maxrl(r, ids, **o),
    "opo": lambda r, ids, extra, **o: g.opo(r, ids, lengths=extra, **o),
    "optimal_baseline": lambda r, ids, extra, **o: g.optimal_baseline(r, ids, extra * 0.1, **o),
    "passk_training": passk_training,
    "passk": lambda r, ids, extra, **o: g.passk(r, ids, **o),
    "passk std": lambda r, ids, extra, **o: g.passk(r, ids, scale="std", **o),
    "quantile_baseline": lambda r, ids, extra, **o: g.quantile_baseline(r, ids, **o),
    "remax": lambda r, ids, extra, **o: g.remax(r, extra / 7, **o),
    "stratified": lambda r, ids, extra, **o: g.stratified(r, ids, strata=extra % 3, blend=0.3, **o),
    "stratified min_stratum": lambda r, ids, extra, **o: g.stratified(r, ids, strata=extra % 3, min_stratum=3, **o),
}
OF_THE_GROUP_ALONE = sorted(
    # passk_training has one k for all.
    set(CALLS)
    - {"bnpo", "gdpo", "gdpo token", "gpg", "gpg nonzero_reward", "lite_ppo", "lite_ppo residuals", "passk_training"}
)
method = pytest.mark.parametrize("name", sorted(CALLS))

#: In [0, 1], where every method is at home; tenths have means that round.
REWARDS = st.one_of(st.sampled_from([0.0, 1.0, 0.7, 0.1]), st.integers(0, 10).map(lambda k: k / 10))
ROWS = st.lists(st.tuples(REWARDS, st.integers(0, 4), st.booleans(), st.integers(1, 9)), max_size=24)


def unzip(rows, dtype=np.float64):
    r, ids, valid, extra = zip(*rows, strict=True) if rows else ((), (), (), ())
    return np.array(r, dtype), np.array(ids, np.int64), np.array(valid, bool), np.array(extra, np.int64)


def test_these_are_methods():
    assert {name.split()[0] for name in CALLS} <= set(g.__all__)


@method
@given(rows=ROWS, random=st.randoms(use_true_random=False), dtype=st.sampled_from([np.float32, np.float64]))
def test_permuting_rows_changes_no_bit(same_bits, name, rows, random, dtype):
    r, ids, valid, extra = unzip(rows, dtype)
    turn = np.arange(len(r))
    random.shuffle(turn)
    got = CALLS[name](r[turn], ids[turn], extra[turn], valid=valid[turn])
    same_bits(got, CALLS[name](r, ids, extra, valid=valid)[turn])
    assert got.dtype == dtype


@pytest.mark.parametrize("name", OF_THE_GROUP_ALONE)
@given(rows=ROWS)
def test_groups_do_not_see_each_other(same_bits, name, rows):
    r, ids, _, extra = unzip(rows)
    groups = rm.Groups(ids)
    together = CALLS[name](r, groups, extra)
    for members in map(groups.rows, range(groups.n_groups)):
        same_bits(CALLS[name](r[members], np.zeros(len(members), int), extra[members]), together[members])


@method
@given(rows=ROWS, dtype=st.sampled_from([np.float32, np.float64]))
def test_float32_is_float64_rounded_once(name, rows, dtype):
    r, ids, valid, extra = unzip(rows, np.float32)
    wide = CALLS[name](r.astype(np.float64), ids, extra, valid=valid)
    assert CALLS[name](r, ids, extra, valid=valid).tolist() == wide.astype(np.float32).tolist()


@method
@given(rows=ROWS)
def test_rows_that_take_no_part_might_as_well_be_missing(same_bits, name, rows):
    r, ids, valid, extra = unzip(rows)
    out = CALLS[name](np.where(valid, r, np.nan), ids, extra, valid=valid)
    assert not out[~valid].any()
    same_bits(out[valid], CALLS[name](r[valid], ids[valid], extra[valid]))
    assert not CALLS[name](r, ids, extra, valid=np.zeros(len(r), np.int64)).any()


@method
@given(rows=ROWS)
def test_a_missing_reward_is_left_out(same_bits, name, rows):
    r, ids, valid, extra = unzip(rows)
    if name.startswith("gdpo"):
        return  # a rollout has other rewards there; see test_gdpo.py
    holes = np.where(valid, r, np.nan)
    same_bits(CALLS[name](holes, ids, extra, nan="omit"), CALLS[name](r, ids, extra, valid=valid))


@method
def test_equal_rewards_are_exactly_zero(name):
    sizes = list(range(2, 40))
    ids = np.repeat(np.arange(len(sizes)), sizes)
    extra = 3 * (np.arange(len(ids)) % 3) + 1  # one stratum
    for value in (0.7, 0.1, 0.3):
        rewards = np.full(len(ids), value) if name != "remax" else extra / 7
        assert not CALLS[name](rewards, ids, extra).any()


@method
def test_kinds(same_bits, name):
    torch = pytest.importorskip("torch")
    r = np.array([1.0, 0.0, 0.5, 1.0, 0.25, 0.25])
    ids, extra = np.array([0, 1, 0, 1, 0, 1]), np.array([1, 2, 3, 4, 5, 9])
    for dtype, out in [("f8", "f8"), ("f4", "f4"), ("f2", "f4"), (">f8", "f8")]:
        assert CALLS[name](r.astype(dtype), ids, extra).dtype == np.dtype(out)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        got = CALLS[name](torch.tensor(r, dtype=dtype), torch.tensor(ids), extra)
        assert got.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        # These rewards are exact in bfloat16 too.
        same_bits(got.numpy(), CALLS[name](r.astype(str(got.dtype)[6:]), ids, extra))
    whole = np.array([1, 0, 0, 1, 0, 1])
    assert CALLS[name](whole, ids, extra).dtype == np.float64
    assert CALLS[name](torch.from_numpy(whole), ids, extra).dtype == torch.float32


@method
def test_inputs_stay_as_they_are_and_need_no_layout(same_bits, name):
    wide = (np.arange(24.0).reshape(4, 6) % 5) / 4
    ids, extra, valid = np.array([0, 1, 0, 1]), np.array([3, 4, 5, 6]), np.array([1, 1, 0, 1])
    before = wide.copy(), ids.copy(), extra.copy(), valid.copy()
    expected = CALLS[name](wide[:, 2].copy(), ids, extra, valid=valid)
    wide.setflags(write=False)
    for column in (wide[:, 2], np.asfortranarray(wide)[:, 2], wide[::-1, 2][::-1]):
        same_bits(CALLS[name](column, ids[::-1][::-1], extra, valid=valid), expected)
    for now, then in zip((wide, ids, extra, valid), before, strict=True):
        same_bits(now, then)


@method
def test_messages(name):
    call, who = CALLS[name], name.split()[0]
    ids, extra, good = [0, 0, 1, 1], np.array([1, 2, 3, 4]), np.array([1.0, 0.0, 1.0, 0.0])
    holes, infinite = good.copy(), good.copy()
    holes[2], infinite[3] = np.nan, np.inf
    with pytest.raises(
        ValueError, match=rf"^{who}\(\): 'rewards(\[:, 0\])?' must be finite, got (NaN|nan) at index 2; "
    ):
        call(holes, ids, extra)
    with pytest.raises(ValueError, match=rf"^{who}\(\): 'rewards(\[:, 0\])?' must .*, got inf at index 3"):
        call(infinite, ids, extra)
    with pytest.raises(ValueError, match=rf"^{who}\(\): 'rewards(\[:, 0\])?' must .*, got inf at index 3"):
        call(infinite, ids, extra, nan="omit")
    with pytest.raises(ValueError, match=rf"^{who}\(\): 'valid' must have length 4 .*, got 1"):
        call(good, ids, extra, valid=[True])
    with pytest.raises(TypeError, match=rf"^{who}\(\): 'valid' must be bool or integer"):
        call(good, ids, extra, valid=[1.0, 1.0, 1.0, 0.0])
    with pytest.raises(TypeError, match=rf"^{who}\(\) got an unexpected keyword argument 'epsilon'"):
        call(good, ids, extra, epsilon=1.0)
    with pytest.raises(ValueError, match=rf"^{who}\(\): 'convention': SPO has no convention for '{who}'"):
        call(good, ids, extra, convention=rm.conventions.SPO)
    if who != "remax":
        with pytest.raises(ValueError, match=rf"^{who}\(\): '(rewards|strata)' must have .*4"):
            call(good, [0, 0, 1], extra)
        with pytest.raises(TypeError, match=rf"^{who}\(\): 'groups' must be strings, ints, UUIDs or tuples, got float"):
            call(good, [0.5] * 4, extra)


@pytest.mark.parametrize("name", sorted(set(CALLS) - {"gdpo", "gdpo token"}))
def test_messages_about_one_column(name):
    torch = pytest.importorskip("torch")
    call, who = CALLS[name], name.split()[0]
    ids, extra = [0, 0, 1, 1], np.array([1, 2, 3, 4])
    with pytest.raises(TypeError, match=rf"^{who}\(\): 'rewards' must be 1-D, got a 2-D float64 array of shape"):
        call(np.ones((4, 1)), ids, extra)
    with pytest.raises(TypeError, match=rf"^{who}\(\): 'rewards' must hold floats, ints or bools, got complex128"):
        call(np.ones(4, complex), ids, extra)
    with pytest.raises(ValueError, match=rf"^{who}\(\): 'rewards' requires grad"):
        call(torch.ones(4, requires_grad=True), ids, extra)


@method
def test_nothing_in_nothing_out(name):
    nothing = np.zeros(0)
    out = CALLS[name](nothing, [], nothing.astype(int))
    assert (out.shape, out.dtype) == ((0,), np.float64)

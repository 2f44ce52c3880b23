"""What every method of the package promises, checked for all of them: order of rows, kinds, masks, messages."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Call:
    """A method as a function of rewards, ids and a whole number from 1 to 9 a row (length, weight, answer ...)."""

    run: Callable
    value: str = "rewards"  # what it calls the first
    groups: str | None = "groups"  # and the second; None: it has no groups
    valid: bool = True  # takes valid=
    rules: bool = True  # takes a convention
    alone: bool = True  # a group's numbers are its own affair
    zero: bool = True  # equal rewards in a group give exactly 0
    column: bool = False  # the third goes in as an array
    channels: bool = False  # the first has two columns


def plain(function, **traits):
    return Call(lambda r, ids, extra, **o: function(r, ids, **o), **traits)


def third(function, **traits):
    return Call(function, column=True, **traits)


def by_row(run, **traits):
    """A map of rewards that knows no groups."""
    return Call(run, groups=None, rules=False, alone=False, zero=False, **traits)


FIXED = {"rules": False, "zero": False}  # neither a convention nor a baseline
BATCH = {"alone": False}  # a statistic of the batch

CALLS = {
    "a_star_po": plain(g.a_star_po),
    "adora": third(g.adora),
    "aspo": Call(
        lambda r, ids, extra, **o: g.aspo(r, ids, extra * 1.0, extra, correct=extra > 3, **o),
        value="advantages",
        column=True,
        **FIXED,
    ),
    "bnpo": plain(g.bnpo, **BATCH),
    "copo": Call(lambda r, ids, extra, **o: g.copo(r, ids, extra % 3, **o).advantages, column=True, **BATCH),
    "dr_grpo": plain(g.dr_grpo),
    "gdpo": Call(
        lambda r, ids, extra, **o: g.gdpo(two_channels(r, extra), ids, weights=[1.0, 0.3], **o), channels=True, **BATCH
    ),
    "gdpo tokens": Call(
        lambda r, ids, extra, **o: g.gdpo(two_channels(r, extra), ids, lengths=extra, **o), channels=True, **BATCH
    ),
    "gpg": plain(g.gpg, **BATCH),
    "gpg nonzero_reward": Call(
        lambda r, ids, extra, **o: g.gpg(r, ids, correction="nonzero_reward", f_norm=0.3, **o), **BATCH
    ),
    "grpo": plain(g.grpo),
    "grpo leave_one_out": Call(lambda r, ids, extra, **o: g.grpo(r, ids, leave_one_out=True, **o)),
    "hbpo": Call(lambda r, ids, extra, **o: g.hbpo(r, ids, extra, max_length=9, **o), column=True, zero=False),
    "hbpo_reward": by_row(
        lambda r, ids, extra: g.hbpo_reward(r, extra, 9 - extra % 3, max_length=9), valid=False, column=True
    ),
    "kimi_length_reward": third(g.kimi_length_reward, **FIXED),
    "lite_ppo": plain(g.lite_ppo, **BATCH),
    "lite_ppo residuals": Call(lambda r, ids, extra, **o: g.lite_ppo(r, ids, batch_std="residuals", **o), **BATCH),
    "mapo": Call(lambda r, ids, extra, **o: g.mapo(r, ids, success=extra > 4, **o), column=True),
    "maxrl": plain(g.maxrl),
    "nsr": by_row(lambda r, ids, extra, **o: g.nsr(r, **o)),
    "opmd": plain(g.opmd),
    "opmd logmeanexp": Call(lambda r, ids, extra, **o: g.opmd(r, ids, baseline="logmeanexp", **o)),
    "opo": third(g.opo),
    "optimal_baseline": Call(lambda r, ids, extra, **o: g.optimal_baseline(r, ids, extra * 0.1, **o), column=True),
    "otc_reward": Call(lambda r, ids, extra, **o: g.otc_reward(r, ids, extra, max_calls=9, **o), column=True, **FIXED),
    "overlong_penalty": by_row(
        lambda r, ids, extra: g.overlong_penalty(r, max_length=1, buffer=0.6), value="lengths", valid=False
    ),
    "passk": plain(g.passk),
    "passk std": Call(lambda r, ids, extra, **o: g.passk(r, ids, scale="std", **o)),
    "passk_training": Call(passk_training, **BATCH),  # one k for all
    "psr": by_row(lambda r, ids, extra, **o: g.psr(r, **o)),
    "quantile_baseline": plain(g.quantile_baseline),
    "reinforce_pp_baseline": plain(g.reinforce_pp_baseline, **BATCH),
    "reinforce_pp_baseline tokens": Call(
        lambda r, ids, extra, **o: g.reinforce_pp_baseline(r, ids, lengths=extra, **o), column=True, **BATCH
    ),
    "remax": Call(lambda r, ids, extra, **o: g.remax(r, extra / 7, **o), groups=None, alone=False, zero=False),
    "rloo": plain(g.rloo),
    "single_stream": Call(
        lambda r, ids, extra, **o: g.single_stream(r, ids, g.BetaBaseline(), **o).advantages,
        groups="prompts",
        rules=False,
        **BATCH,
    ),
    "stratified": Call(lambda r, ids, extra, **o: g.stratified(r, ids, strata=extra % 3, blend=0.3, **o), column=True),
    "stratified min_stratum": Call(
        lambda r, ids, extra, **o: g.stratified(r, ids, strata=extra % 3, min_stratum=3, **o), column=True
    ),
    "tempsamp_anchor": Call(
        lambda r, ids, extra, **o: g.tempsamp_anchor(r, ids, extra > 6, **o), value="advantages", column=True, **FIXED
    ),
    "tempsamp_reward": by_row(lambda r, ids, extra: g.tempsamp_reward(r), valid=False),
    "w_reinforce": by_row(lambda r, ids, extra, **o: g.w_reinforce(r, **o)),
}

#: What does not take one number a rollout and give one back, and why.
EXCEPTIONS = {
    "bundle_scores": "gives one number a paper; the order of rows says which rollout is in which",
    "empg": "its rows are steps, in time order",
    "majority_reward": "has answers in place of rewards",
    "optimal_token_baseline": "token rows",
    "reinforce_pp": "token rows",
    "riskpo": "the order of rows says which rollout is in which paper",
    "soft_value": "gives one number a group",
    "stats": "gives several numbers a group",
    "vote_reward": "has answers in place of rewards",
    "win_rate": "its rows are comparisons",
}


def call(name, r, ids, extra, **options):
    """Without ``valid=`` where a method has none."""
    made = CALLS[name]
    if not made.valid:
        options.pop("valid", None)
    return made.run(r, ids, extra, **options)


def those(**traits):
    return pytest.mark.parametrize(
        "name", sorted(n for n, c in CALLS.items() if all(bool(getattr(c, t)) == want for t, want in traits.items()))
    )


method = those()

#: In [0, 1], where every method is at home; tenths have means that round.
REWARDS = st.one_of(st.sampled_from([0.0, 1.0, 0.7, 0.1]), st.integers(0, 10).map(lambda k: k / 10))
ROWS = st.lists(st.tuples(REWARDS, st.integers(0, 4), st.booleans(), st.integers(1, 9)), max_size=24)


def unzip(rows, dtype=np.float64):
    r, ids, valid, extra = zip(*rows, strict=True) if rows else ((), (), (), ())
    return np.array(r, dtype), np.array(ids, np.int64), np.array(valid, bool), np.array(extra, np.int64)


def test_every_method_is_here_or_has_a_reason():
    functions = {name for name in g.__all__ if not isinstance(getattr(g, name), type)}
    assert {name.split()[0] for name in CALLS} == functions - set(EXCEPTIONS)
    assert set(EXCEPTIONS) <= functions


def test_what_is_said_of_a_method_is_so():
    """The traits that its signature shows."""
    for name, c in CALLS.items():
        parameters = inspect.signature(getattr(g, name.split()[0])).parameters
        first, *others = parameters
        assert (first, others[0]) == (c.value, c.groups or others[0]), name
        assert ("valid" in parameters, "convention" in parameters) == (c.valid, c.rules), name


@method
@given(rows=ROWS, random=st.randoms(use_true_random=False), dtype=st.sampled_from([np.float32, np.float64]))
def test_permuting_rows_changes_no_bit(same_bits, name, rows, random, dtype):
    r, ids, valid, extra = unzip(rows, dtype)
    turn = np.arange(len(r))
    random.shuffle(turn)
    got = call(name, r[turn], ids[turn], extra[turn], valid=valid[turn])
    same_bits(got, call(name, r, ids, extra, valid=valid)[turn])
    assert got.dtype == dtype


@those(alone=True)
@given(rows=ROWS)
def test_groups_do_not_see_each_other(same_bits, name, rows):
    r, ids, _, extra = unzip(rows)
    groups = rm.Groups(ids)
    together = call(name, r, groups, extra)
    for members in map(groups.rows, range(groups.n_groups)):
        same_bits(call(name, r[members], np.zeros(len(members), int), extra[members]), together[members])


@method
@given(rows=ROWS, dtype=st.sampled_from([np.float32, np.float64]))
def test_float32_is_float64_rounded_once(name, rows, dtype):
    r, ids, valid, extra = unzip(rows, np.float32)
    wide = call(name, r.astype(np.float64), ids, extra, valid=valid)
    assert call(name, r, ids, extra, valid=valid).tolist() == wide.astype(np.float32).tolist()


@those(valid=True)
@given(rows=ROWS)
def test_rows_that_take_no_part_might_as_well_be_missing(same_bits, name, rows):
    r, ids, valid, extra = unzip(rows)
    out = call(name, np.where(valid, r, np.nan), ids, extra, valid=valid)
    assert not out[~valid].any()
    same_bits(out[valid], call(name, r[valid], ids[valid], extra[valid]))
    assert not call(name, r, ids, extra, valid=np.zeros(len(r), np.int64)).any()


@those(rules=True, channels=False)  # with channels a rollout has other rewards: see test_gdpo.py
@given(rows=ROWS)
def test_a_missing_reward_is_left_out(same_bits, name, rows):
    r, ids, valid, extra = unzip(rows)
    holes = np.where(valid, r, np.nan)
    same_bits(call(name, holes, ids, extra, nan="omit"), call(name, r, ids, extra, valid=valid))


@those(zero=True)
def test_equal_rewards_are_exactly_zero(name):
    sizes = list(range(2, 40))
    ids = np.repeat(np.arange(len(sizes)), sizes)
    extra = 3 * (np.arange(len(ids)) % 3) + 1  # one stratum
    for value in (0.7, 0.1, 0.3):
        assert not call(name, np.full(len(ids), value), ids, extra).any()


@method
def test_kinds(same_bits, name):
    torch = pytest.importorskip("torch")
    r = np.array([1.0, 0.0, 0.5, 1.0, 0.25, 0.25])
    ids, extra = np.array([0, 1, 0, 1, 0, 1]), np.array([1, 2, 3, 4, 5, 9])
    for dtype, out in [("f8", "f8"), ("f4", "f4"), ("f2", "f4"), (">f8", "f8")]:
        assert call(name, r.astype(dtype), ids, extra).dtype == np.dtype(out)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        got = call(name, torch.tensor(r, dtype=dtype), torch.tensor(ids), extra)
        assert got.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        # These rewards are exact in bfloat16 too.
        same_bits(got.numpy(), call(name, r.astype(str(got.dtype)[6:]), ids, extra))
    whole = np.array([1, 0, 0, 1, 0, 1])
    assert call(name, whole, ids, extra).dtype == np.float64
    assert call(name, torch.from_numpy(whole), ids, extra).dtype == torch.float32


@method
def test_inputs_stay_as_they_are_and_need_no_layout(same_bits, name):
    wide = (np.arange(24.0).reshape(4, 6) % 5) / 4
    ids, extra, valid = np.array([0, 1, 0, 1]), np.array([3, 4, 5, 6]), np.array([1, 1, 0, 1])
    before = wide.copy(), ids.copy(), extra.copy(), valid.copy()
    expected = call(name, wide[:, 2].copy(), ids, extra, valid=valid)
    wide.setflags(write=False)
    for column in (wide[:, 2], np.asfortranarray(wide)[:, 2], wide[::-1, 2][::-1]):
        same_bits(call(name, column, ids[::-1][::-1], extra, valid=valid), expected)
    for now, then in zip((wide, ids, extra, valid), before, strict=True):
        same_bits(now, then)


@method
def test_messages(name):
    made, who = CALLS[name], name.split()[0]
    ids, extra, good = [0, 0, 1, 1], np.array([1, 2, 3, 4]), np.array([1.0, 0.0, 1.0, 0.0])
    holes, infinite = good.copy(), good.copy()
    holes[2], infinite[3] = np.nan, np.inf
    value, hint = rf"^{who}\(\): '{made.value}(\[:, 0\])?'", "; " if made.rules else ""
    with pytest.raises(ValueError, match=rf"{value} must be .*, got (NaN|nan) at index 2{hint}"):
        call(name, holes, ids, extra)
    with pytest.raises(ValueError, match=rf"{value} must .*, got inf at index 3"):
        call(name, infinite, ids, extra)
    if made.rules:
        with pytest.raises(ValueError, match=rf"{value} must .*, got inf at index 3"):
            call(name, infinite, ids, extra, nan="omit")
        with pytest.raises(TypeError, match=rf"^{who}\(\) got an unexpected keyword argument 'epsilon'"):
            call(name, good, ids, extra, epsilon=1.0)
        with pytest.raises(ValueError, match=rf"^{who}\(\): 'convention': SPO has no convention for '{who}'"):
            call(name, good, ids, extra, convention=rm.conventions.SPO)
    if made.valid:
        with pytest.raises(ValueError, match=rf"^{who}\(\): 'valid' must have length 4 .*, got 1"):
            call(name, good, ids, extra, valid=[True])
        with pytest.raises(TypeError, match=rf"^{who}\(\): 'valid' must be bool or integer"):
            call(name, good, ids, extra, valid=[1.0, 1.0, 1.0, 0.0])
    if made.groups:
        with pytest.raises(ValueError, match=rf"^{who}\(\): '\w+' must have .*3 .*4"):
            call(name, good, [0, 0, 1], extra)
        types = "must be strings, ints, UUIDs or tuples, got float"
        with pytest.raises(TypeError, match=rf"^{who}\(\): '{made.groups}' {types}"):
            call(name, good, [0.5] * 4, extra)


@those(channels=False)
def test_messages_about_one_column(name):
    torch = pytest.importorskip("torch")
    made, who = CALLS[name], name.split()[0]
    ids, extra, value = [0, 0, 1, 1], np.array([1, 2, 3, 4]), rf"^{who}\(\): '{made.value}'"
    with pytest.raises(TypeError, match=rf"{value} must be 1-D, got a 2-D float64 array of shape"):
        call(name, np.ones((4, 1)), ids, extra)
    with pytest.raises(TypeError, match=rf"{value} must hold floats, ints or bools, got complex128"):
        call(name, np.ones(4, complex), ids, extra)
    with pytest.raises(ValueError, match=rf"{value} requires grad"):
        call(name, torch.ones(4, requires_grad=True), ids, extra)
    if made.groups:
        with pytest.raises(
            ValueError, match=rf"^{who}\(\): '\w+' must have length 4 \(= len\({made.groups}\)\), got 3"
        ):
            call(name, np.ones(3), ids, np.array([1, 2, 3, 4]))


@those(column=True)
def test_messages_about_other_columns(name):
    who, ids, good = name.split()[0], [0, 0, 1, 1], np.array([1.0, 0.0, 1.0, 0.0])
    with pytest.raises(ValueError, match=rf"^{who}\(\): '\w+' must have length 4 \(= .+\), got 3"):
        call(name, good, ids, np.array([1, 2, 3]))
    with pytest.raises(TypeError, match=rf"^{who}\(\): '\w+' must be .*1-D"):
        call(name, good, ids, np.array([[1], [2], [3], [4]]))


@method
def test_nothing_in_nothing_out(name):
    nothing = np.zeros(0)
    out = call(name, nothing, [], nothing.astype(int))
    assert (out.shape, out.dtype) == ((0,), np.float64)

"""Filters of whole groups: by hand, against the definitions, laws, and what they refuse."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm

nonzero_spread, mean_band, pivot = rm.select.nonzero_spread, rm.select.mean_band, rm.select.pivot

REWARDS = st.one_of(st.sampled_from([0.0, 1.0, 0.7, -1.0]), st.integers(-64, 64).map(lambda k: k / 64))
ROWS = st.lists(st.tuples(REWARDS, st.integers(0, 4), st.booleans(), st.integers(0, 5)), max_size=24)
BANDS = st.sampled_from([(0.0, 1.0), (0.25, 0.75), (-math.inf, 0.5), (0.7, math.inf), (-1.0, -0.5)])
CALLS = [
    pytest.param(nonzero_spread, id="nonzero_spread"),
    pytest.param(lambda r, g, **kw: mean_band(r, g, low=0.0, high=1.0, **kw), id="mean_band"),
    pytest.param(lambda r, g, **kw: pivot(r, g, below=0.75, **kw), id="pivot"),
]


def unzip(rows, dtype=np.float64):
    r, ids, valid, gone = zip(*rows, strict=True) if rows else ((), (), (), ())
    return np.array(r, dtype), list(ids), np.array(valid, bool), np.array(gone) == 0


def agrees(chosen, expected, n):
    """Indices, mask and the counts of the report are those of the definition."""
    kept, why = expected
    assert chosen.indices.tolist() == kept
    assert chosen.indices.dtype == np.int64
    assert np.flatnonzero(chosen.mask).tolist() == kept
    assert chosen.mask.shape == (n,)
    assert chosen.mask.dtype == bool
    report = chosen.report
    assert [report.reasons[code - 1] for code in report.codes if code] == [why[i] for i in sorted(why)]
    assert {one.reason: one.rollouts for one in report.dropped} == {
        w: list(why.values()).count(w) for w in why.values()
    }
    assert report.kept_rollouts + report.dropped_rollouts == n


def test_by_hand():
    #     a: spread    b: none          c: of one  d: spread of 0.1
    r = [1.0, 0.0, 0.7, 0.7, 0.7, 5.0, 0.1, 0.2]
    ids = ["a", "a", "b", "b", "b", "c", "d", "d"]
    chosen = nonzero_spread(r, ids)
    assert chosen.indices.tolist() == [0, 1, 6, 7]
    assert [tuple(one) for one in chosen.report.dropped] == [
        ("no spread", 1, 3, ("b",), (3,)),
        ("group of one", 1, 1, ("c",), (1,)),
    ]
    assert (chosen.report.kept_groups, chosen.report.dropped_groups) == (2, 2)
    assert nonzero_spread(r, ids, tol=0.1).indices.tolist() == [0, 1]
    assert nonzero_spread(r, ids, tol=1.0).indices.tolist() == []
    # Of a group of two one takes part: it is alone.
    valid = [1, 0, 1, 1, 1, 1, 1, 1]
    assert nonzero_spread(r, ids, valid=valid).indices.tolist() == [6, 7]
    assert mean_band(r, ids, low=0.1, high=0.7).indices.tolist() == [0, 1, 6, 7]
    # Three rewards of 0.7 have the mean 0.7, which sum(r) / 3 misses.
    assert sum([0.7] * 3) / 3 < 0.7
    assert mean_band(r, ids, low=0.5, high=0.7, inclusive=True).indices.tolist() == [0, 1, 2, 3, 4]
    assert mean_band(r, ids, low=0.5, high=5.0).report.dropped[1] == ("mean too high", 1, 1, ("c",), (1,))


@given(ROWS, st.sampled_from([0.0, 0.3, 2.0]), st.booleans(), st.booleans(), st.sampled_from([np.float32, np.float64]))
def test_nonzero_spread_is_the_definition(oracle, rows, tol, masked, missing, dtype):
    r, ids, valid, gone = unzip(rows, dtype)
    r[gone & missing] = np.nan
    options = {"tol": tol, "valid": valid if masked else None, "nan": "omit" if missing else "raise"}
    agrees(
        nonzero_spread(r, ids, **options),
        oracle("select/group_filters.py", "nonzero_spread")(r, ids, **options),
        len(r),
    )


@given(ROWS, BANDS, st.booleans(), st.booleans(), st.booleans())
def test_mean_band_is_the_definition(oracle, rows, band, inclusive, masked, missing):
    r, ids, valid, gone = unzip(rows)
    r[gone & missing] = np.nan
    options = {"low": band[0], "high": band[1], "inclusive": inclusive}
    options |= {"valid": valid if masked else None, "nan": "omit" if missing else "raise"}
    agrees(mean_band(r, ids, **options), oracle("select/group_filters.py", "mean_band")(r, ids, **options), len(r))


@given(
    ROWS,
    st.sampled_from([0.0, 0.5, 0.7, math.inf]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([np.float32, np.float64]),
)
def test_pivot_is_the_definition(oracle, rows, below, masked, missing, dtype):
    r, ids, valid, gone = unzip(rows, dtype)
    r[gone & missing] = np.nan
    options = {"below": below, "valid": valid if masked else None, "nan": "omit" if missing else "raise"}
    agrees(pivot(r, ids, **options), oracle("select/group_filters.py", "pivot")(r, ids, **options), len(r))


def test_means_whose_sums_overflow():
    r, ids = [1.7e308, 1.7e308, 1.0, -1.7e308, -1.7e308, 0.5], list("aaabbb")
    assert mean_band(r, ids, low=1.1e308, high=1.2e308).indices.tolist() == [0, 1, 2]
    assert mean_band(r, ids, low=-math.inf, high=0.0).indices.tolist() == [3, 4, 5]
    assert pivot(r, ids, below=1.2e308).mask.all()
    assert pivot(r, ids, below=1.1e308).indices.tolist() == [3, 4, 5]


@given(ROWS, st.sampled_from([0.0, 0.5, 0.7]))
def test_pivots_are_what_two_filters_keep(rows, below):
    r, ids, _, _ = unzip(rows)
    both = nonzero_spread(r, ids).mask & mean_band(r, ids, low=-math.inf, high=below).mask
    assert pivot(r, ids, below=below).mask.tolist() == both.tolist()


@given(ROWS, st.randoms(use_true_random=False))
def test_permuting_rollouts_and_shifting_rewards(rows, random):
    r, ids, _, _ = unzip(rows)
    order = list(range(len(r)))
    random.shuffle(order)
    for (call,) in (param.values for param in CALLS):
        turned = call(r[order], [ids[i] for i in order]) if len(r) else call(r, ids)
        assert turned.mask.tolist() == call(r, ids).mask[order].tolist()
    assert nonzero_spread(r + 2.0, ids).mask.tolist() == nonzero_spread(r, ids).mask.tolist()


@given(ROWS)
def test_what_is_kept_has_a_signal_and_what_is_dropped_has_none(rows):
    r, ids, _, _ = unzip(rows)
    chosen, advantages = nonzero_spread(r, ids), rm.group.dr_grpo(r, ids)
    assert not advantages[~chosen.mask].any()
    signal = set(np.array(ids)[advantages != 0].tolist()) if ids else set()
    assert signal == {ids[i] for i in chosen.indices}


def test_empty_and_the_kinds_of_torch():
    assert nonzero_spread([], []).indices.tolist() == []
    assert str(mean_band([], [], low=0, high=1).report) == "mean_band kept 0 of 0 rollouts in 0 of 0 groups"
    torch = pytest.importorskip("torch")
    chosen = nonzero_spread(torch.tensor([1.0, 0.0, 1.0], dtype=torch.bfloat16), torch.tensor([3, 3, 4]))
    assert chosen.indices.equal(torch.tensor([0, 1]))
    assert chosen.mask.equal(torch.tensor([True, True, False]))


def test_a_spread_past_the_largest_number():
    assert nonzero_spread([-1e308, 1e308], [1, 1]).mask.all()


def test_the_report_prints_and_pickles():
    chosen = nonzero_spread([0.0] * 12 + [1.0, 0.0], [f"q{i // 2}" for i in range(14)])
    assert str(chosen.report) == (
        "nonzero_spread kept 2 of 14 rollouts in 1 of 7 groups\n"
        "  no spread  6 groups, 12 rollouts: 'q0' (2), 'q1' (2), 'q2' (2), 'q3' (2), and 2 more"
    )
    assert repr(chosen) == "Selection(2 of 14 rollouts by nonzero_spread)"
    assert repr(chosen.report) == "SelectionReport(nonzero_spread: 2 of 14 rollouts kept, 6 of 7 groups dropped)"
    back = pickle.loads(pickle.dumps(chosen))
    assert str(back.report) == str(chosen.report)
    assert back.mask.tolist() == chosen.mask.tolist()
    with pytest.raises(AttributeError, match="immutable"):
        chosen.report.method = "x"
    with pytest.raises(ValueError, match="read-only"):
        chosen.report.codes[0] = 1


@pytest.mark.parametrize("call", CALLS)
def test_messages_of_all(call):
    with pytest.raises(ValueError, match=r"\(\): 'rewards' must have length 2 \(= len\(groups\)\), got 1"):
        call([1.0], ["a", "a"])
    with pytest.raises(ValueError, match=r"\(\): 'rewards' must be finite where rows are valid, got nan at index 1"):
        call([1.0, math.nan], ["a", "a"])
    with pytest.raises(ValueError, match=r"\(\): 'rewards' must be finite where rows are valid, got inf at index 0"):
        call([math.inf, math.nan], ["a", "a"], nan="omit")
    with pytest.raises(ValueError, match=r"\(\): 'nan' must be one of 'raise', 'omit', got 'propagate'"):
        call([1.0], ["a"], nan="propagate")
    with pytest.raises(ValueError, match=r"\(\): 'valid' must have length 2 \(= len\(groups\)\), got 1"):
        call([1.0, 1.0], ["a", "a"], valid=[True])
    with pytest.raises(TypeError, match=r"\(\): 'rewards' must be 1-D"):
        call([[1.0]], ["a"])
    # What takes no part may be anything.
    assert call([math.nan, 1.0, 0.0], ["a", "a", "a"], valid=[0, 1, 1]).indices.tolist() == [1, 2]


def test_messages_of_options():
    with pytest.raises(ValueError, match=r"nonzero_spread\(\): 'tol' must be finite and not negative, got -1"):
        nonzero_spread([1.0], ["a"], tol=-1)
    with pytest.raises(ValueError, match=r"mean_band\(\): 'low' must be below 'high', got low=1.0 and high=1.0"):
        mean_band([1.0], ["a"], low=1.0, high=1.0)
    with pytest.raises(ValueError, match=r"mean_band\(\): 'low' must be at most 'high', got low=2 and high=1"):
        mean_band([1.0], ["a"], low=2, high=1, inclusive=True)
    with pytest.raises(ValueError, match=r"mean_band\(\): 'low' must be below 'high', got low=nan"):
        mean_band([1.0], ["a"], low=math.nan, high=1.0)
    with pytest.raises(TypeError, match=r"mean_band\(\): 'high' must be a number, got an object of type str"):
        mean_band([1.0], ["a"], low=0.0, high="1")
    with pytest.raises(ValueError, match=r"pivot\(\): 'below' must be a number, got nan"):
        pivot([1.0], ["a"], below=math.nan)
    with pytest.raises(TypeError, match=r"pivot\(\): 'below' must be a number, got an object of type str"):
        pivot([1.0], ["a"], below="1")
    with pytest.raises(TypeError, match=r"mean_band\(\): 'inclusive' must be True or False, got 1"):
        mean_band([1.0], ["a"], low=0.0, high=1.0, inclusive=1)

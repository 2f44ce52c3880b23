"""Groups in which all rollouts fail or all succeed: by hand, against the definition, laws, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm

all_fail, all_pass = rm.select.all_fail, rm.select.all_pass

REWARDS = st.one_of(st.sampled_from([0.0, 1.0, -1.0, 0.3, -0.0]), st.integers(-8, 8).map(lambda k: k / 8))
ROWS = st.lists(st.tuples(REWARDS, st.integers(0, 5), st.booleans(), st.integers(0, 5)), max_size=24)
BOTH = [pytest.param(all_fail, id="all_fail"), pytest.param(all_pass, id="all_pass")]


def unzip(rows, dtype=np.float64):
    r, ids, valid, gone = zip(*rows, strict=True) if rows else ((), (), (), ())
    return np.array(r, dtype), list(ids), np.array(valid, bool), np.array(gone) == 0


@pytest.mark.parametrize("call", BOTH)
@given(
    rows=ROWS,
    threshold=st.sampled_from([0.0, 0.5, -1.0, math.inf]),
    masked=st.booleans(),
    missing=st.booleans(),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_the_definition(oracle, call, rows, threshold, masked, missing, dtype):
    r, ids, valid, gone = unzip(rows, dtype)
    r[gone & missing] = np.nan
    options = {
        "threshold": threshold,
        "valid": valid if masked else None,
        "nan": "omit" if missing else "raise",
    }
    got = call(r, ids, **options)
    assert got.dtype == bool
    assert got.tolist() == oracle("select/group_outcomes.py", call.__name__)(r, ids, **options)


@given(ROWS, st.randoms(use_true_random=False))
def test_laws(rows, random):
    r, ids, valid, _ = unzip(rows)
    groups = rm.Groups(ids)
    fail, good = all_fail(r, groups, valid=valid), all_pass(r, groups, valid=valid)
    assert not (fail & good).any()
    # Either is a group without a signal; a scale above 0 changes nothing.
    binary = np.sign(np.maximum(r, 0.0))
    assert not rm.group.dr_grpo(binary, groups, valid=valid)[(fail | good)[groups.index]].any()
    assert all_fail(r * 4, groups, valid=valid).tolist() == fail.tolist()
    assert all_pass(r + 1, groups, threshold=1.0, valid=valid).tolist() == good.tolist()
    order = random.sample(range(len(r)), len(r))
    turned = rm.Groups([ids[i] for i in order])
    by_id = dict(zip(turned.ids, all_fail(r[order], turned, valid=valid[order]).tolist(), strict=True))
    assert [by_id[key] for key in groups.ids] == fail.tolist()


def test_by_hand():
    r, ids = [0, 0, 1, 0, 1, 1, 1, 0], list("aabbccde")
    assert all_fail(r, ids).tolist() == [True, False, False, False, True]
    assert all_pass(r, ids).tolist() == [False, False, True, True, False]
    # Partial credit succeeds at 0; a full score is asked for with a threshold just below it.
    assert all_pass([1.0, 0.3], [0, 0]).tolist() == [True]
    assert all_pass([1.0, 0.3], [0, 0], threshold=0.99).tolist() == [False]
    # The reward on the threshold is a failure.
    assert all_fail([0.5, 0.2], [0, 0], threshold=0.5).tolist() == [True]
    # A group of which nothing is known is neither.
    for call in (all_fail, all_pass):
        assert call([1.0, 0.0], [0, 1], valid=[0, 0]).tolist() == [False, False]
        assert call([math.nan], ["a"], nan="omit").tolist() == [False]
        assert call([], []).tolist() == []
    # To the rollouts of these groups.
    groups = rm.Groups(ids)
    assert all_fail(r, groups)[groups.index].tolist() == [True, True, *[False] * 5, True]


def test_a_penalty_on_length_hides_failures():
    raw, penalty = np.zeros(4), np.array([0.0, -0.2, 0.0, -0.4])
    assert all_fail(raw, [0] * 4).all()
    assert rm.select.nonzero_spread(raw + penalty, [0] * 4).mask.all()
    assert not all_fail(raw + 0.1, [0] * 4).any()


def test_the_kinds_of_torch():
    torch = pytest.importorskip("torch")
    got = all_fail(torch.tensor([0.0, 1.0, 0.0], dtype=torch.bfloat16), torch.tensor([7, 7, 3]))
    assert got.equal(torch.tensor([False, True]))
    assert all_pass(torch.tensor([True, True, False]), [0, 0, 1]).equal(torch.tensor([True, False]))


@pytest.mark.parametrize("call", BOTH)
def test_messages(call):
    who = rf"^{call.__name__}\(\): "
    for options, error, message in [
        ({"threshold": math.nan}, ValueError, "'threshold' must be a number, got nan"),
        ({"threshold": "0"}, TypeError, "'threshold' must be a number, got an object of type str"),
        ({"nan": "skip"}, ValueError, "'nan' must be one of 'raise', 'omit', got 'skip'"),
        ({"valid": [1]}, ValueError, r"'valid' must have length 2 \(= len\(groups\)\), got 1"),
    ]:
        with pytest.raises(error, match=who + message):
            call([1.0, 0.0], [0, 0], **options)
    with pytest.raises(ValueError, match=who + r"'rewards' must have length 2 \(= len\(groups\)\), got 1"):
        call([1.0], [0, 0])
    with pytest.raises(ValueError, match=who + "'rewards' must be finite where rows are valid, got nan at index 1"):
        call([1.0, math.nan], [0, 0])
    with pytest.raises(TypeError, match=who + "'rewards' must be 1-D"):
        call([[1.0]], [0])

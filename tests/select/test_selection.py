"""What a Selection does: advantages before and after it, pickling, and reports that a function of one's own makes."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import rollmath as rm
from rollmath.select import Selection, SelectionReport

ROWS = st.lists(st.tuples(st.integers(-2, 2), st.integers(0, 2), st.booleans(), st.booleans()), min_size=1, max_size=14)
REWARDS, GROUPS = [1.0, 0.0, 3.0, 5.0, 2.0, 2.0], list("aaaabb")


def centred(rewards, groups, rows):
    """Each reward less the mean of its group, of some rows by hand."""
    out = np.zeros(len(rewards))
    for i in rows:
        own = [rewards[j] for j in rows if groups[j] == groups[i]]
        # A group of one has no signal.
        out[i] = 0 if len(own) == 1 else rewards[i] - sum(own) / len(own)
    return out


@given(ROWS, st.integers(1, 3))
def test_advantages_are_those_of_what_took_part_or_of_what_was_kept(rows, keep):
    r, groups, valid, missing = (list(x) for x in zip(*rows, strict=True))
    r = [float("nan") if gone else float(x) for x, gone in zip(r, missing, strict=True)]
    chosen = rm.select.max_variance(r, groups, keep=keep, valid=valid, nan="omit")
    kept, there = chosen.indices.tolist(), [i for i in range(len(r)) if valid[i] and not missing[i]]
    after = chosen.advantages(rm.group.dr_grpo, r, groups)
    np.testing.assert_allclose(after, centred(r, groups, kept), atol=1e-12)
    assert_array_equal(after, chosen.advantages(rm.group.dr_grpo, r, groups, statistics="after", valid=valid))
    before = chosen.advantages(rm.group.dr_grpo, r, groups, statistics="before")
    np.testing.assert_allclose(before, np.where(chosen.mask, centred(r, groups, there), 0), atol=1e-12)
    assert not before[~chosen.mask].any()


def test_valid_overrules_what_took_part():
    chosen = rm.select.top(REWARDS, GROUPS, keep=2, valid=[1, 0, 1, 1, 1, 1])
    assert chosen.indices.tolist() == [2, 3, 4, 5]
    before = chosen.advantages(rm.group.dr_grpo, REWARDS, GROUPS, statistics="before")
    assert before.tolist() == [0, 0, 0, 2, 0, 0]
    everyone = chosen.advantages(rm.group.dr_grpo, REWARDS, GROUPS, statistics="before", valid=np.ones(6, bool))
    assert everyone.tolist() == [0, 0, 0.75, 2.75, 0, 0]
    # After it, what was dropped stays out whatever may take part.
    after = chosen.advantages(rm.group.dr_grpo, REWARDS, GROUPS, valid=np.ones(6, bool))
    assert after.tolist() == [0, 0, -1, 1, 0, 0]


def test_options_reach_the_method_and_nothing_is_written_to():
    chosen = rm.select.bottom([9, 3, 5, 1, 2, 2], GROUPS, keep=3)
    r, length = np.array(REWARDS), np.array([9, 3, 5, 1, 2, 2])
    r.setflags(write=False)
    ours = chosen.advantages(rm.group.grpo, r, rm.Groups(GROUPS), eps=1e-4, ddof=0)
    assert ours.tolist() == rm.group.grpo(r, GROUPS, valid=chosen.mask, eps=1e-4, ddof=0).tolist()
    assert chosen.advantages(lambda r, g, valid: r * valid, r, GROUPS).tolist() == [0, 0, 3, 5, 2, 2]
    kept = chosen.advantages(rm.group.opo, r, GROUPS, lengths=length)
    assert kept.tolist() == rm.group.opo(r, GROUPS, lengths=length, valid=chosen.mask).tolist()


def test_the_kind_of_the_advantages_is_that_of_the_method():
    chosen = rm.select.top(REWARDS, GROUPS, keep=2)
    expected = chosen.advantages(rm.group.dr_grpo, REWARDS, GROUPS)
    single = chosen.advantages(rm.group.dr_grpo, np.array(REWARDS, np.float32), GROUPS)
    assert (single.dtype, single.tolist()) == (np.float32, expected.tolist())
    torch = pytest.importorskip("torch")
    for dtype, out in [(torch.float64, torch.float64), (torch.bfloat16, torch.float32), (torch.int64, torch.float32)]:
        made = chosen.advantages(rm.group.dr_grpo, torch.tensor(REWARDS, dtype=dtype), GROUPS)
        assert (made.dtype, made.tolist()) == (out, expected.tolist())
    # Of tensors, though the advantages are arrays.
    chosen = rm.select.top(torch.tensor(REWARDS), torch.tensor([0, 0, 0, 0, 1, 1]), keep=2)
    assert chosen.advantages(rm.group.dr_grpo, REWARDS, GROUPS).tolist() == expected.tolist()


def test_messages_of_advantages():
    chosen = rm.select.top(REWARDS, GROUPS, keep=2)
    who = r"^Selection.advantages\(\): "
    for wrong, got in [(lambda r, g, valid: r[:2], "a 1-D float64 array"), (lambda r, g, valid: 0.0, "an object of")]:
        with pytest.raises(TypeError, match=who + f"'method' must return one number a rollout, 6 in all, got {got}"):
            chosen.advantages(wrong, np.array(REWARDS), GROUPS)
    with pytest.raises(ValueError, match=who + "'statistics' must be one of 'before', 'after', got 'both'"):
        chosen.advantages(rm.group.grpo, REWARDS, GROUPS, statistics="both")
    with pytest.raises(
        ValueError, match=who + r"'valid' must have length 6 \(= the rollouts of the selection\), got 1"
    ):
        chosen.advantages(rm.group.grpo, REWARDS, GROUPS, valid=[1])
    with pytest.raises(ValueError, match=who + "'statistics' must be 'before' or 'after', since nearest does not say"):
        rm.select.nearest(REWARDS, GROUPS, keep=1, target=1).advantages(rm.group.grpo, REWARDS, GROUPS)
    with pytest.raises(ValueError, match=r"^grpo\(\): 'rewards' must have length 6"):
        chosen.advantages(rm.group.grpo, [1.0], GROUPS)


@pytest.mark.parametrize("ids", [GROUPS, [("a", 1), ("a", 2)] * 3, np.arange(6) % 4], ids=["text", "tuples", "numbers"])
def test_copies_and_pickles(ids):
    chosen = rm.select.max_variance(REWARDS, ids, keep=1, valid=[1, 1, 1, 1, 1, 0])
    assert len(chosen.report.lost) < chosen.report.n_groups
    for back in (pickle.loads(pickle.dumps(chosen)), copy.copy(chosen), copy.deepcopy(chosen)):
        assert_array_equal(back.indices, chosen.indices)
        assert_array_equal(back.mask, chosen.mask)
        assert (str(back.report), repr(back), back.report.lost) == (
            str(chosen.report),
            repr(chosen),
            chosen.report.lost,
        )
        assert (back.report.statistics, back.report.unit) == ("after", "rollout")
        assert back.advantages(rm.group.dr_grpo, REWARDS, ids).tolist() == [0] * 6
        with pytest.raises(ValueError, match="read-only"):
            back.report.codes[0] = 1


def test_a_function_of_ones_own():
    def short(lengths, groups, *, most):
        over = np.asarray(lengths) > most
        return Selection(np.flatnonzero(~over), ~over, SelectionReport("short", ["too long"], over, groups))

    chosen = short([9, 3, 5, 1, 2, 2], GROUPS, most=2)
    assert str(chosen.report) == "short kept 3 of 6 rollouts in 2 of 2 groups\n  too long  1 group, 3 rollouts: 'a' (3)"
    # The codes are the caller's own.
    codes = np.array([0, 1, 2, 0, 0, 0])
    report = SelectionReport("mine", ["long", "short"], codes, GROUPS, statistics="before")
    codes[0] = 7
    assert (report.codes.dtype, report.codes.tolist()) == (np.int8, [0, 1, 2, 0, 0, 0])
    assert report.dropped == (("long", 1, 1, ("a",), (1,)), ("short", 1, 1, ("a",), (1,)))


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        pytest.param({"codes": [0, 2]}, ValueError, "'codes' must be 0 .* the 1 reasons, got 2 at index 1", id="high"),
        pytest.param({"codes": [-1, 0]}, ValueError, "'codes' must be 0 .* got -1 at index 0", id="low"),
        pytest.param({"codes": [256, 0]}, ValueError, "'codes' must be 0 .* got 256 at index 0", id="past int8"),
        pytest.param({"codes": [0.0, 1.0]}, TypeError, "'codes' must hold integers, got float64", id="floats"),
        pytest.param({"codes": [0]}, ValueError, r"'codes' must have length 2 \(= len\(groups\)\), got 1", id="length"),
        pytest.param({"codes": [[0, 1]]}, TypeError, "'codes' must be 1-D", id="rank"),
        pytest.param({"reasons": "no"}, ValueError, "'reasons' must be a list .* in words, got 'no'", id="one word"),
        pytest.param({"reasons": ["x"] * 128}, ValueError, "'reasons' .* at most 127 .* got 128 of them", id="many"),
        pytest.param({"unit": "token"}, ValueError, "'unit' must be one of 'rollout', 'prompt'", id="unit"),
        pytest.param({"statistics": "no"}, ValueError, "'statistics' must be one of 'before'", id="statistics"),
    ],
)
def test_messages_of_a_report(given, error, message):
    with pytest.raises(error, match=rf"^SelectionReport\(\): {message}"):
        SelectionReport(**{"method": "m", "reasons": ["no"], "codes": [0, 1], "groups": ["a", "b"], **given})

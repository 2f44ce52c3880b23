"""Why rollouts carry no signal: every reason, precedence, numbers against the plain loops, laws."""

from __future__ import annotations

import json
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm
from rollmath import audit

NAN, INF = math.nan, math.inf
Row = st.tuples(
    st.sampled_from([0.0, 0.5, 1.0, 1.0, 0.3, NAN, INF, -INF]),
    st.integers(0, 4),  # group
    st.integers(0, 5).map(bool),  # valid
    st.integers(0, 5).map(lambda x: x == 0),  # filtered
    st.integers(0, 3),  # tokens
    st.sampled_from([0.0, 1.0, -0.5, NAN, INF]),  # advantage
)


def columns(rows):
    if not rows:
        return [np.array([])] * 6
    r, g, v, f, n, a = zip(*rows, strict=True)
    return [np.array(r), np.array(g), np.array(v), np.array(f), np.array(n), np.array(a)]


@given(st.lists(Row, max_size=24), st.booleans(), st.booleans())
def test_reasons_match_the_loops(oracle, rows, known, given_bounds):
    r, ids, valid, filtered, tokens, adv = columns(rows)
    ids, lengths = ids.astype(int), tokens.astype(int) if known else None
    bounds = {"low": 0.0, "high": 1.0} if given_bounds else {}
    a = audit(r, ids, adv, valid=valid.astype(bool), filtered=filtered.astype(bool), lengths=lengths, **bounds)
    seen = r[valid.astype(bool) & np.isfinite(r)]
    low, high = (0.0, 1.0) if given_bounds else (-INF, INF) if len(set(seen)) < 2 else (seen.min(), seen.max())
    expected = oracle("audit.py", "reasons")(
        r.tolist(), ids.tolist(), adv, valid=valid, filtered=filtered, tokens=lengths, low=low, high=high
    )
    assert a.rows.tolist() == expected
    json.dumps(a.to_dict(), allow_nan=False)
    assert max(map(len, str(a).splitlines())) <= 96


@given(st.lists(Row, min_size=1, max_size=24))
def test_numbers_match_the_loops(oracle, rows):
    r, ids, valid, filtered, tokens, adv = columns(rows)
    adv = np.where(np.isfinite(adv), adv, 0.25)
    s = audit(r, ids, adv, valid=valid, filtered=filtered, lengths=tokens).summary
    trains = valid & ~filtered & (tokens > 0)
    for name, value in oracle("audit.py", "advantage_numbers")(adv, trains, tokens.tolist()).items():
        assert s[name] == (None if value is None else pytest.approx(value, rel=1e-12)), name
    used = np.flatnonzero(trains & np.isfinite(r)).tolist()
    mean, n = oracle("audit.py", "length_correlation")(r.tolist(), ids.tolist(), tokens.tolist(), used)
    assert s["length_reward_groups"] == n
    assert s["length_reward_correlation"] == (None if mean is None else pytest.approx(mean, abs=1e-9))


@given(st.lists(Row, min_size=1, max_size=24), st.randoms(use_true_random=False), st.booleans())
def test_permuting_rows_changes_nothing(same_bits, rows, random, computed):
    order = list(range(len(rows)))
    random.shuffle(order)

    def run(rows):
        r, ids, valid, filtered, tokens, adv = columns(rows)
        return audit(r, ids, None if computed else adv, valid=valid, filtered=filtered, lengths=tokens)

    one, other = run(rows), run([rows[i] for i in order])
    same_bits(other.codes, one.codes[order])
    same_bits(other.advantages, one.advantages[order])
    assert other.summary == one.summary
    by_ids = [[m for m in x.matches if m.grouping != "consecutive"] for x in (one, other)]
    assert by_ids[0] == by_ids[1]


#: One row a reason: reward, group, advantage, and what is different about it.
EVERY = [
    ("not valid", 1.0, "a", 0.5, {"valid": False}),
    ("filtered", 1.0, "a", 0.5, {"filtered": True}),
    ("NaN reward", NAN, "a", 0.5, {}),
    ("infinite reward", -INF, "a", 0.5, {}),
    ("no trained token", 1.0, "a", 0.5, {"lengths": 0}),
    ("group of one", 1.0, "b", 0.5, {}),
    ("zero spread: all at the bottom", 0.0, "c", 0.5, {}),
    ("zero spread: all at the bottom", 0.0, "c", 0.0, {}),
    ("zero spread: all at the top", 1.0, "d", 0.0, {}),
    ("zero spread: all at the top", 1.0, "d", 0.0, {}),
    ("zero spread: in between", 0.5, "e", 0.0, {}),
    ("zero spread: in between", 0.5, "e", 0.0, {}),
    ("non-finite advantage", 0.0, "a", NAN, {}),
    ("zero advantage", 0.0, "a", 0.0, {}),
    ("signal", 0.0, "a", -0.5, {}),
]


def every():
    """Arguments with one row or two a reason."""
    flags = {"valid": True, "filtered": False, "lengths": 3}
    options = {name: [row[4].get(name, default) for row in EVERY] for name, default in flags.items()}
    return [row[1] for row in EVERY], [row[2] for row in EVERY], [row[3] for row in EVERY], options


def test_every_reason():
    r, ids, adv, options = every()
    a = audit(r, ids, adv, **options)
    assert a.rows.tolist() == [row[0] for row in EVERY]
    # "zero spread" alone is for batches where nothing says where the reward is.
    assert set(a.rows) == set(rm.Audit.REASONS) - {"zero spread"}
    assert {row["reason"] for row in a.why} == set(a.rows) - {"not valid"}
    assert sum(row["rollouts"] for row in a.why) == len(r) - 1
    assert sum(row["share"] for row in a.why) == pytest.approx(1)
    assert a.groups["reason"].tolist() == ["signal", "group of one", *[f"zero spread: {x}" for x in (
        "all at the bottom", "all at the top", "in between")]]  # fmt: skip
    assert a.groups["signal"].tolist() == [1, 0, 0, 0, 0]


#: Each earlier reason, added to a row that has all the later ones.
LADDER = [
    ("zero advantage", {}),
    ("non-finite advantage", {"advantage": NAN}),
    ("zero spread: all at the bottom", {"others": 0.0}),
    ("group of one", {"others": NAN}),
    ("no trained token", {"lengths": 0}),
    ("infinite reward", {"reward": INF}),
    ("NaN reward", {"reward": NAN}),
    ("filtered", {"filtered": True}),
    ("not valid", {"valid": False}),
]


@pytest.mark.parametrize("step", range(len(LADDER)))
def test_precedence(step):
    row = {"reward": 0.0, "advantage": 0.0, "others": 1.0, "lengths": 1, "filtered": False, "valid": True}
    for _, change in LADDER[: step + 1]:
        row |= change
    a = audit(
        [row["reward"], row["others"]],
        ["a", "a"],
        [row["advantage"], 1.0],
        lengths=[row["lengths"], 1],
        filtered=[row["filtered"], False],
        valid=[row["valid"], True],
        low=0,
        high=1,
    )
    assert a.rows[0] == LADDER[step][0]


def test_one_reward_alone_is_neither_top_nor_bottom():
    assert set(audit([0.7] * 4, [0, 0, 1, 1]).rows) == {"zero spread"}
    assert set(audit([0.7] * 4, [0, 0, 1, 1], low=0).rows) == {"zero spread"}
    assert set(audit([0.7] * 4, [0, 0, 1, 1], low=0, high=1).rows) == {"zero spread: in between"}
    assert set(audit([0.7] * 4, [0, 0, 1, 1], low=0.7).rows) == {"zero spread: all at the bottom"}
    assert set(audit([0.7] * 4, [0, 0, 1, 1], high=0.7).rows) == {"zero spread: all at the top"}
    assert set(audit([-1.0] * 4, [0, 0, 1, 1], low=0).rows) == {"zero spread: all at the bottom"}
    assert audit([0.7] * 4, [0, 0, 1, 1], low=0.7).summary["high"] is None


def test_what_is_not_known_is_no_share_of_0():
    """A batch where all failed, or all was solved: its one reward is no bound, and nothing is said of bounds."""
    names = ("low", "high", "at_low", "at_high", "all_low_groups", "all_high_groups")
    for r in (0.0, 1.0):
        a = audit([r] * 4, [0, 0, 1, 1])
        assert [a.summary[name] for name in names] == [None] * 6
        assert a.groups["reason"].tolist() == ["zero spread"] * 2
        assert "at the" not in str(a)
    a = audit([0.0] * 4, [0, 0, 1, 1], low=0)
    assert [a.summary[name] for name in names] == [0, None, 1, None, 1, None]
    assert "100.0% all at the bottom" in str(a)
    assert "all at the top" not in str(a)


def test_what_is_not_valid_is_in_no_number():
    r, ids, lengths = [1.0, 0.0, 1.0, 1.0, 9.0, 9.0, 9.0], list("aabbabc"), [1, 2, 3, 4, 50, 60, 70]
    adv = [1.0, -1.0, 0.0, 0.0, 7.0, NAN, 7.0]
    valid = [1, 1, 1, 1, 0, 0, 0]
    options = {"truncated": [1, 0, 0, 0, 1, 1, 1], "valid": valid}
    a = audit(r, ids, adv, lengths=lengths, **options)
    b = audit(r[:4], ids[:4], adv[:4], lengths=lengths[:4], truncated=[1, 0, 0, 0])
    assert (a.summary["not_valid"], b.summary["not_valid"]) == (3, 0)
    assert {**a.summary, "not_valid": 0} == b.summary
    assert a.why == b.why
    assert a.findings == b.findings
    assert repr(a) == repr(b)
    assert a.rows.tolist() == [*b.rows.tolist(), *["not valid"] * 3]
    assert a.groups["rollouts"].tolist() == [2, 2, 0]
    lines = str(a).splitlines()
    assert lines.pop(2) == "not valid    3 rollouts, in none of the numbers here"
    assert lines == str(b).splitlines()
    a = audit(r, ids, adv, valid=[0] * 7)
    assert str(a) == "Audit of 0 rollouts in 0 groups\n\nnot valid    7 rollouts, in none of the numbers here"
    assert a.summary["effective_rollouts"] is None
    json.dumps(a.to_dict(), allow_nan=False)


def test_the_share_of_groups():
    s = audit([0, 0, 1, 1, 0, 1, 0.5, NAN], [0, 0, 1, 1, 2, 2, 3, 4]).summary
    assert (s["groups"], s["rewarded_groups"]) == (5, 4)
    assert (s["all_low_groups"], s["all_high_groups"], s["mixed_groups"]) == (0.25, 0.25, 0.25)
    assert (s["at_low"], s["at_high"]) == (3 / 7, 3 / 7)
    assert (s["effective_groups"], s["effective_rollouts"]) == (0.2, 0.25)


def test_computed_advantages_are_those_of_grpo(same_bits):
    r, ids = [1.0, 0.0, 0.5, 1.0, 0.0], [0, 0, 1, 1, 2]
    for convention in (rm.conventions.DEFAULT, rm.conventions.VERL, rm.conventions.TRL):
        a = audit(r, ids, convention=convention)
        same_bits(a.advantages, rm.group.grpo(r, ids, convention=convention))
        assert (a.matches, a.asked, a.given) == ((), None, False)
    a = audit(r, ids, convention=rm.conventions.NEMO_RL)
    same_bits(a.advantages, rm.group.grpo(r, ids, leave_one_out=True, convention=rm.conventions.NEMO_RL))
    same_bits(audit(r, ids, eps=0.5).advantages, rm.group.grpo(r, ids, eps=0.5))
    assert str(audit(r, ids, eps=0.5)).endswith("advantages computed here: grpo of the given convention\n" + "\n".join(
        str(audit(r, ids)).split("grpo of DEFAULT\n")[1:]))  # fmt: skip


def test_what_raises_in_training_is_left_out_of_an_audit():
    r, ids = [NAN, 1.0, 0.0, INF, 2.0, 2.0, 5.0], [0, 0, 0, 0, 1, 1, 2]
    strict = {"nan": "raise", "singleton": "raise", "zero_spread": "raise"}
    a = audit(r, ids, **strict)
    assert a.advantages[[0, 3, 4, 5, 6]].tolist() == [0] * 5
    assert_allclose(a.advantages[1:3], rm.group.grpo([1.0, 0.0], [0, 0]))
    assert audit([NAN, 1.0, 0.0], [0, 0, 0], nan="propagate").rows.tolist() == [
        "NaN reward",
        "non-finite advantage",
        "non-finite advantage",
    ]


def test_an_empty_batch():
    for a in (audit([], []), audit([], [], [], lengths=[]), audit([], [], rm.Ragged([], [0]))):
        assert (len(a.rows), len(a.groups["id"]), a.why, a.findings, a.matches) == (0, 0, [], (), ())
        assert str(a) == "Audit of 0 rollouts in 0 groups"
        assert repr(a) == "Audit(0 of 0 rollouts carry signal)"
        assert a.summary["effective_rollouts"] is None
        json.dumps(a.to_dict(), allow_nan=False)


@pytest.mark.parametrize("r", [[NAN, NAN], [INF, INF], [-INF, INF]])
def test_nothing_but_missing_rewards(r):
    a = audit(r, [0, 0], lengths=[2, 3])
    assert a.summary["signal_rollouts"] == 0
    assert a.summary["reward_mean"] is None
    assert a.advantages.tolist() == [0, 0]
    json.dumps(a.to_dict(), allow_nan=False)


def test_numbers_past_squares_do_not_raise():
    a = audit([1e200, -1e200, 1e308, -1e308], [0, 0, 1, 1], [1e308, -1e308, 1e308, NAN], lengths=[9, 9, 9, 9])
    assert a.summary["advantage_abs_sum"] is None
    assert str(a)
    json.dumps(a.to_dict(), allow_nan=False)


def test_an_audit_is_immutable_and_pickles():
    r, ids, adv, options = every()
    a = audit(r, ids, adv, **options)
    with pytest.raises(AttributeError, match="Audit is immutable"):
        a.codes = 1
    for array in (a.codes, a.advantages, *a.groups.values()):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    a.summary["rollouts"] = 0
    a.groups.clear()
    a.why[0]["ids"].clear()
    b = pickle.loads(pickle.dumps(a))
    assert b.to_dict() == a.to_dict()
    assert str(b) == str(a)
    assert a.summary["rollouts"] == len(r) - 1
    assert not b.codes.flags.writeable


def test_ids_of_every_kind_in_the_dict():
    import uuid

    key = uuid.UUID(int=5)
    for ids, text in ([(("p", 1), ("p", 1)), "('p', 1)"], [[key, key], str(key)], [["p", "p"], "p"], [[3, 3], 3]):
        assert audit([0, 1], list(ids)).to_dict()["groups"]["id"] == [text]


def test_torch_and_float32():
    torch = pytest.importorskip("torch")
    r, ids = torch.tensor([1.0, 0.0, 0.0, 1.0]), torch.tensor([7, 7, 8, 8])
    for adv in (None, rm.group.grpo(r, ids), rm.group.grpo(r, ids).to(torch.bfloat16)):
        a = audit(
            r, ids, adv, valid=torch.tensor([True] * 4), lengths=torch.tensor([1, 2, 3, 4]), truncated=[0, 1, 0, 0]
        )
        assert set(a.rows) == {"signal"}
        assert a.advantages.dtype == np.float64
        assert a.asked is None or a.asked.off == 0
    assert a.groups["id"].tolist() == [7, 8]
    assert a.summary["truncated_reward_mean"] == 0
    strided = np.array([[1.0, 9], [0, 9], [0, 9], [1, 9]], dtype=np.float32)[:, 0]
    assert audit(strided, [7, 7, 8, 8]).rows.tolist() == a.rows.tolist()


def test_truncated():
    s = audit([1, 0, 1, 0], [0, 0, 1, 1], truncated=[True, True, False, False]).summary
    names = ("truncated", "truncated_signal", "truncated_positive", "truncated_reward_mean", "finished_reward_mean")
    assert [s[name] for name in names] == [2, 2, 1, 0.5, 0.5]
    assert audit([1, 0], [0, 0]).summary["truncated"] is None

"""Findings: each of them, and nothing where nothing is wrong. Errors of the call."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

import rollmath as rm
from rollmath import audit

NAN = math.nan


def kinds(a):
    return [f.kind for f in a.findings]


def test_nothing_is_found_where_nothing_is_wrong():
    r, ids = [1.0, 0.0, 0.5, 1.0, 0.0, 0.0], ["a", "b", "a", "b", "a", "b"]
    assert audit(r, ids, rm.group.grpo(r, ids), lengths=[1, 2, 3, 4, 5, 6]).findings == ()
    assert "look at" not in str(audit(r, ids))


def test_each_value_finding():
    r = [1.0, 0.0, 1.0, 1.0, NAN, 0.5, 1.0, 0.0]
    ids = ["a", "a", "b", "b", "a", "c", "d", "d"]
    adv = [NAN, -1.0, 0.5, 0.0, 0.25, 0.5, -1.0, 1.0]
    found = {f.kind: f for f in audit(r, ids, adv).findings}
    assert found["non-finite advantage"].rows == (0,)
    assert found["no spread"].rows == (2,)
    assert found["lone reward"].rows == (5,)
    assert found["lone reward"].text == "1 advantage is not 0 (largest 0.5) in groups of one"
    assert found["advantage without reward"].rows == (4,)
    assert found["advantage without reward"].text == "1 advantage is not 0 without a finite reward"
    assert found["sign"].rows == (6, 7)
    assert found["sign"].text == "2 advantages with the sign against reward - group mean"


def test_rows_out_of_the_loss_are_not_looked_at():
    r, ids, adv = [1.0, 1.0, 0.5], ["b", "b", "c"], [0.5, NAN, 0.5]
    assert kinds(audit(r, ids, adv, lengths=[0, 0, 0])) == ["uneven groups"]
    assert kinds(audit(r, ids, adv, filtered=[1, 1, 1])) == ["uneven groups"]
    assert kinds(audit(r, ids, adv, valid=[0, 0, 0])) == []


def test_a_filter_that_removes_signal():
    """The lone success of a group, say, which a filter by nonzero standard deviation of the others drops."""
    a = audit([1.0, 0.0, 0.0, 0.0, 1.0, 1.0], ["a"] * 4 + ["b"] * 2, filtered=[1, 0, 0, 0, 1, 1])
    found = {f.kind: f for f in a.findings}
    assert found["filtered with spread"].rows == (0,)
    assert found["filtered with spread"].text == "1 filtered rollout of groups with spread"


def test_uneven_groups():
    (found,) = audit([0.0, 1, 0, 1, 0], ["a", "a", "b", "b", "c"]).findings
    assert (found.kind, found.rows) == ("uneven groups", (4,))
    assert found.text == "groups of 1 to 2: 1 of 3 do not have 2"
    # What is not valid has no size.
    assert audit([0.0, 1, 0, 1, 0], ["a", "a", "b", "b", "c"], valid=[1, 1, 1, 1, 0]).findings == ()
    (found,) = audit([0.0, 1, 0, 1, 0, 1, 9], list("aabbccc"), valid=[1, 1, 1, 0, 1, 1, 0]).findings
    assert (found.text, found.rows) == ("groups of 1 to 2: 1 of 3 do not have 2", (2,))


def test_positional_ids():
    (found,) = audit([0.0, 1, 0, 1], [0, 0, 1, 1]).findings
    assert (found.kind, found.rollouts, found.rows) == ("positional ids", 4, ())
    assert found.text == "ids are row // 2, as if made by position: right only in the order of generation"
    rest = audit([0.0, 1, 0, 1, 1], [0, 0, 1, 1, 2]).findings
    assert [f.kind for f in rest] == ["uneven groups", "positional ids"]
    assert rest[1].text.endswith("; the last group has 1")
    for ids in (["0", "0", "1", "1"], [0, 1, 0, 1], [1, 1, 0, 0], [0, 0, 0, 0], [0, 1, 2, 3], [4, 4, 5, 5]):
        assert "positional ids" not in kinds(audit([0.0, 1, 0, 1], ids))


def test_duplicate_rewards():
    r = np.random.default_rng(0).normal(size=24)
    ids = np.arange(24) % 6 + 10
    assert "duplicate rewards" not in kinds(audit(r, ids))
    r[13] = r[7]  # of one group
    r[14] = r[9]  # of two
    (found,) = audit(r, ids).findings
    assert (found.kind, found.rows) == ("duplicate rewards", (7, 13))
    r[r.argsort()[:6]] = r.min()  # many at the bottom is saturation, no copy
    assert found.rows == audit(r, ids).findings[0].rows


@pytest.mark.parametrize(
    ("args", "options", "error", "message"),
    [
        (([1.0], ["a", "a"]), {}, ValueError, r"'rewards' must have length 2 \(= len\(groups\)\), got 1"),
        ((["x"], ["a"]), {}, TypeError, "'rewards' must hold floats, ints or bools"),
        (([[1.0]], ["a"]), {}, TypeError, "'rewards' must be 1-D"),
        (([1.0], [0.5]), {}, TypeError, "'groups' must be"),
        (([1.0], ["a"], [1.0, 2.0]), {}, ValueError, r"'advantages' must have length 1 \(= len\(groups\)\), got 2"),
        (
            ([1.0], ["a"], np.ones((1, 3))),
            {},
            TypeError,
            r"'advantages' must be 1-D, one number a rollout, got .* pass Ragged.from_padded\(advantages, mask=mask\)",
        ),
        (([1.0], ["a"], [[1.0, 2.0]]), {}, TypeError, r"'advantages' must be 1-D.*Ragged.from_lists\(advantages\)"),
        (([1.0, None], ["a", "a"]), {}, TypeError, r"'rewards' must be numbers, got None; a missing reward is NaN"),
        (([1.0], ["a"]), {"valid": [1, 1]}, ValueError, r"'valid' must have length 1"),
        (([1.0], ["a"]), {"filtered": [0.5]}, TypeError, r"'filtered' must be bool or integer"),
        (([1.0], ["a"]), {"truncated": [1, 1]}, ValueError, r"'truncated' must have length 1"),
        (([1.0], ["a"]), {"low": NAN}, ValueError, "'low' must be finite, got nan"),
        (([1.0], ["a"]), {"high": math.inf}, ValueError, "'high' must be finite, got inf"),
        (([1.0], ["a"]), {"low": "0"}, TypeError, "'low' must be a number, got an object of type str"),
        (([1.0], ["a"]), {"low": 1, "high": 1}, ValueError, "'low' must be less than 'high', got 1.0 and 1.0"),
        (([1.0], ["a"]), {"tolerance": -1}, ValueError, "'tolerance' must be finite and not negative, got -1.0"),
        (([1.0], ["a"]), {"tolerance": NAN}, ValueError, "'tolerance' must be finite and not negative, got nan"),
        (([1.0], ["a"]), {"tolerance": "x"}, TypeError, "'tolerance' must be a number, got an object of type str"),
        (([1.0], ["a"]), {"convention": "verl"}, TypeError, "'convention' must be a Convention or a framework"),
        (
            ([1.0], ["a"]),
            {"convention": rm.conventions.SPO},
            ValueError,
            "'convention': SPO has no convention for 'grpo'",
        ),
        (([1.0], ["a"]), {"eps": -1}, ValueError, "'eps' must be finite and not negative"),
    ],
)
def test_bad_calls(args, options, error, message):
    with pytest.raises(error, match=r"audit\(\): " + message):
        audit(*args, **options)


def test_an_unknown_keyword_is_named():
    with pytest.raises(TypeError, match=r"audit\(\) got an unexpected keyword argument 'epsilon'; a convention has"):
        audit([1.0], ["a"], epsilon=1)


def test_grad_is_refused():
    torch = pytest.importorskip("torch")
    x = torch.ones(1, requires_grad=True)
    for args in ((x, ["a"]), ([1.0], ["a"], x)):
        with pytest.raises(ValueError, match=r"audit\(\): '(rewards|advantages)' requires grad"):
            audit(*args)


def test_inputs_are_not_changed():
    r, adv, n = np.array([1.0, 0.0, NAN]), np.array([0.5, NAN, 0.1]), np.array([1, 0, 2])
    before = [x.copy() for x in (r, adv, n)]
    audit(r, [0, 0, 0], adv, lengths=n, filtered=n)
    for x, y in zip((r, adv, n), before, strict=True):
        np.testing.assert_array_equal(x, y)


def test_the_page_has_every_reason_and_finding():
    page = (Path(__file__).parents[2] / "docs" / "audit.md").read_text()
    for reason in rm.Audit.REASONS:
        name = reason if reason.endswith("bottom") else reason.replace("zero spread:", "...")
        assert f"`{name}`" in page
    source = (Path(__file__).parents[2] / "python" / "rollmath" / "_audit_findings.py").read_text()
    kinds = {*re.findall(r'\badd\(\s*"([^"]+)"', source), *re.findall(r'Finding\("([^"]+)"', source)}
    assert len(kinds) == 11
    assert not [kind for kind in kinds if f"| `{kind}` |" not in page]

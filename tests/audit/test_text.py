"""The text of an audit, to the letter; the rich form says the same."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest

import rollmath as rm
from rollmath import audit

R = [1, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0.5, 0.5, 1, math.nan, 0, 1]
IDS = ["p1"] * 4 + ["p2"] * 4 + ["p3"] * 4 + ["p4"] * 2 + ["p5"] + ["p6"] * 3
LENGTHS = [100, 250, 300, 120, 90, 80, 70, 60, 512, 512, 400, 300, 9, 9, 40, 7, 60, 0]

COMPUTED = """\
Audit of 18 rollouts in 6 groups of 1 to 4

signal       5 of 18 rollouts (27.8%), 2 of 6 groups (33.3%), 830 of 2,919 tokens (28.4%)
rewards      mean 0.5294, std 0.4832, 3 values, 41.2% at the bottom (0), 47.1% at the top (1)
groups       33.3% have spread, 16.7% all at the bottom, 33.3% all at the top
advantages   mean -0.04159, std 0.4657, -0.866 to 0.866; 2 positive, 3 negative, 12 zero
             sum of |A| 4.171; effective sample size 4.971 of 17
length       mean 171.7 trained tokens; 110 where A > 0, 203.3 where A < 0
             correlation with the reward -0.97 (mean within 1 group)
             A > 0 has 41.5% of sum |A| by rollout, 26.9% by token
convention   advantages computed here: grpo of DEFAULT

why no signal                   rollouts  share  groups  tokens  groups that lose most
NaN reward                             1   5.6%       1    0.2%  p6
no trained token                       1   5.6%       1    0.0%  p6
group of one                           1   5.6%       1    1.4%  p5
zero spread: all at the bottom         4  22.2%       1   59.1%  p3
zero spread: all at the top            4  22.2%       1   10.3%  p2
zero spread: in between                2  11.1%       1    0.6%  p4

look at
- groups of 1 to 4: 3 of 6 do not have 4 (rows 12, 13, 14, 15, 16, ...)
"""

GIVEN = """\
Audit of 18 rollouts in 6 groups of 1 to 4

signal       5 of 18 rollouts (27.8%), 2 of 6 groups (33.3%), 830 of 2,919 tokens (28.4%)
rewards      mean 0.5294, std 0.4832, 3 values, 41.2% at the bottom (0), 47.1% at the top (1)
groups       33.3% have spread, 16.7% all at the bottom, 33.3% all at the top
advantages   mean 0.01723, std 0.53, -0.8659 to 1; 3 positive, 3 negative, 11 zero
             sum of |A| 5.171; effective sample size 5.942 of 17
length       mean 171.7 trained tokens; 86.67 where A > 0, 203.3 where A < 0
             correlation with the reward -0.97 (mean within 1 group)
             A > 0 has 52.8% of sum |A| by rollout, 30.8% by token
truncated    2 rollouts, 0 with signal, 0 with A > 0, mean reward 0 (others 0.6)
convention   all but 1 of 7 look like grpo of TRL: largest difference 1.7e-08
             not like grpo of VERL: 6 of 7 off, 2 of them NaN there

why no signal                   rollouts  share  groups  tokens  groups that lose most
NaN reward                             1   5.6%       1    0.2%  p6
no trained token                       1   5.6%       1    0.0%  p6
group of one                           1   5.6%       1    1.4%  p5
zero spread: all at the bottom         4  22.2%       1   59.1%  p3
zero spread: all at the top            4  22.2%       1   10.3%  p2
zero spread: in between                2  11.1%       1    0.6%  p4

look at
- 1 advantage is not 0 (largest 1) in groups of one (rows 14)
- 1 advantage differs from TRL grpo, which the others follow (rows 14)
- groups of 1 to 4: 3 of 6 do not have 4 (rows 12, 13, 14, 15, 16, ...)
"""


def given():
    adv = np.float32(rm.group.grpo(np.float32(R), IDS, convention=rm.conventions.TRL))
    adv[14] = 1  # a group of one
    truncated = np.array(LENGTHS) == 512
    return audit(R, IDS, adv, lengths=LENGTHS, convention=rm.conventions.VERL, truncated=truncated, high=1)


def test_the_text_of_computed_advantages():
    assert str(audit(R, IDS, lengths=LENGTHS)) + "\n" == COMPUTED


def test_the_text_of_given_advantages():
    assert str(given()) + "\n" == GIVEN


def test_repr_is_short():
    assert repr(audit(R, IDS)) == "Audit(6 of 18 rollouts carry signal, 1 finding)"
    assert repr(given()) == "Audit(5 of 18 rollouts carry signal, 3 findings)"
    assert repr(audit([1, 0], ["a", "a"])) == "Audit(2 of 2 rollouts carry signal)"


def test_long_ids_stay_on_their_line():
    ids = ["What is\n\n the sum of all " + "x" * 1000] * 2 + ["b"] * 2
    text = str(audit([1, 1, 0, 0], ids))
    assert "  Wha...xxxxxx" in text
    assert max(map(len, text.splitlines())) <= 96


def test_many_groups_are_cut_to_five():
    a = audit([0.0] * 40, [f"group {i // 4}" for i in range(40)])
    assert len(a.why[0]["ids"]) == 5
    assert a.why[0]["groups"] == 10
    assert ", ..." in str(a)


def test_ids_that_differ_at_their_end_are_told_apart():
    """UUIDs, paths, questions with a number: what is cut is their middle."""
    text = str(audit([0.0] * 4, ["a-long-run-0000-17", "a-long-run-0000-17", "a-long-run-0000-18", "exactly-12-c"]))
    assert "a-l...000-17" in text
    assert "exactly-12-c" in text


def test_a_mean_of_rounding_is_0():
    adv = np.array([1.0, -1.0, 0.5, -0.5])
    assert "advantages   mean 0, std" in str(audit([1, 0, 1, 0], [0, 0, 1, 1], adv + 1e-8))
    assert "advantages   mean 1e-05, std" in str(audit([1, 0, 1, 0], [0, 0, 1, 1], adv + 1e-5))
    small = 1e-9 * adv + 1e-10  # small, and not by rounding
    assert "advantages   mean 1e-10, std" in str(audit([1, 0, 1, 0], [0, 0, 1, 1], small))
    assert audit([1, 0, 1, 0], [0, 0, 1, 1], adv + 1e-8).summary["advantage_mean"] == pytest.approx(1e-8)


def test_the_groups_that_lose_most_come_first():
    a = audit([0.0] * 6, ["a", "a", "b", "b", "c", "c"], lengths=[1, 1, 9, 9, 5, 5])
    assert a.why[0]["ids"] == ["b", "c", "a"]


def test_rich_says_the_same():
    rich_console = pytest.importorskip("rich.console")
    console = rich_console.Console(width=200, record=True, file=io.StringIO())
    a = given()
    console.print(a)
    shown = " ".join(console.export_text().split())
    for line in str(a).splitlines():
        for cell in line.split("  "):
            assert " ".join(cell.split()) in shown
    ids = ["[bold]x[/bold]", "[/]"]
    console.print(audit([1, 1, 0, 0], [ids[0], ids[0], ids[1], ids[1]]).table())
    assert "[bo.../bold]" in console.export_text()


def test_without_rich_there_is_text(script):
    out, _ = script(
        "import sys, rollmath as rm\n"
        "sys.modules['rich'] = None\n"
        "a = rm.audit([1, 0], ['a', 'a'])\n"
        "print(a)\n"
        "try: a.table()\n"
        "except ModuleNotFoundError as error: print(error)\n"
    )
    assert out.startswith("Audit of 2 rollouts in 1 group of 2\n")
    last = "Audit.table() needs rich: install rollmath with its 'rich' extra, or print the audit itself"
    assert out.splitlines()[-1] == last

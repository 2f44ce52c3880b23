"""What a report of a selection prints: few groups and many, ids of all kinds, counts one below the other."""
# ruff: noqa: E501 - a report has long lines

import uuid

import numpy as np

import rollmath as rm
from rollmath.select import SelectionReport

TEXT = "Let $x$ be a number such that\n\\[x^2 = 2.\\] Find all of its decimals."


def report(ids, **dropped):
    """Of rollouts with these groups, the first of which are dropped, so many for each reason."""
    codes = np.zeros(len(ids), np.int8)
    reasons = [reason.replace("_", " ") for reason in dropped]
    for code, rows in enumerate(dropped.values(), start=1):
        codes[rows] = code
    return SelectionReport("chosen", reasons, codes, rm.Groups(ids))


def test_counts_stand_one_below_the_other():
    ids = [i // 8 for i in range(100)]
    text = str(report(ids, short=[0], no_spread=range(16, 32), worst_of_its_group=range(40, 45)))
    assert text == (
        "chosen kept 78 of 100 rollouts in 11 of 13 groups\n"
        "  short               1 group,   1 rollout: 0 (1)\n"
        "  no spread           2 groups, 16 rollouts: 2 (8), 3 (8)\n"
        "  worst of its group  1 group,   5 rollouts: 5 (5)\n"
        "  nothing is left of 2 groups: 2, 3"
    )


def test_long_ids_are_cut():
    ids = [TEXT, TEXT + "!", "short", "x" * 31, "y" * 40]
    assert str(report(np.repeat(ids, 2).tolist(), gone=range(4), rest=[4, 6, 8])) == (
        "chosen kept 3 of 10 rollouts in 3 of 5 groups\n"
        "  gone  2 groups, 4 rollouts: 'Let $x$ be a number such that \\...' (2), 'Let $x$ be a number such that \\...' (2)\n"
        f"  rest  3 groups, 3 rollouts: 'short' (1), '{'x' * 31}' (1), '{'y' * 31}...' (1)\n"
        "  nothing is left of 2 groups: 'Let $x$ be a number such that \\...', 'Let $x$ be a number such that \\...'"
    )
    # Their names are whole where one asks for them.
    assert report(ids, gone=[0]).lost == (TEXT,)


def test_a_line_stays_short():
    ids = [uuid.UUID(int=i) for i in range(3)]
    text = str(report(ids, gone=range(3)))
    assert (
        "3 rollouts: 00000000-0000-0000-0000-000000000000 (1), 00000000-0000-0000-0000-000000000001 (1), and 1" in text
    )
    ids = [("a prompt with a long name", i) for i in range(6)]
    line = str(report(ids, gone=range(5))).split("\n")[1]
    assert line.endswith(
        "5 rollouts: ('a prompt with a long name', 0) (1), ('a prompt with a long name', 1) (1), and 3 more"
    )
    ids = [("a prompt with a name that is longer", i) for i in range(2)]
    assert "('a prompt with a name that is l...) (1)" in str(report(ids, gone=[0]))
    assert "b'xxxx" in str(report([b"x" * 60], gone=[0]))


def test_what_all_groups_lose_is_a_range():
    ids = np.repeat(range(6), 4).tolist()
    every = [4 * i for i in range(6)]
    assert str(report(ids, over=every)).split("\n")[1] == "  over  6 groups, 6 rollouts: 1 of each"
    more = str(report(ids, over=[*every, 1, 2, 3]))
    assert more.split("\n")[1:] == [
        "  over  6 groups, 9 rollouts: 1 to 4 of each",
        "  nothing is left of 1 group: 0",
    ]
    # Lost groups are named, though all were lost whole.
    assert str(report(ids, over=range(24))).split("\n")[1:] == [
        "  over  6 groups, 24 rollouts: 4 of each",
        "  nothing is left of 6 groups: 0, 1, 2, 3, and 2 more",
    ]
    few = str(report([0, 0, 1, 1], over=[0, 2]))
    assert few.split("\n")[1] == "  over  2 groups, 2 rollouts: 0 (1), 1 (1)"


def test_prompts():
    made = SelectionReport(
        "drawn", ["not drawn"], np.array([1, 0, 1], np.int8), rm.Groups(["a", "b", "c"]), unit="prompt"
    )
    assert str(made) == "drawn kept 1 of 3 prompts\n  not drawn  2 prompts: 'a', 'c'"

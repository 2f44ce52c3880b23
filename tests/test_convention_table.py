"""``conventions.table()``, ``PAPER``, and the page that has the same table."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

import rollmath as rm
from rollmath import conventions
from rollmath._convention_table import ConventionTable
from rollmath.conventions import Convention, Framework, Whiten, frameworks, table

ROOT = Path(__file__).parents[1]


def row(framework, method="grpo"):
    made = ConventionTable(conventions.DEFAULT, {framework.name: framework}, method)
    return made.rows[-1]


def one(**fields):
    return row(Framework("X", {"grpo": Convention(**fields)}))


def test_the_page_has_this_table():
    page = (ROOT / "docs" / "conventions.md").read_text()
    hint = "paste rm.conventions.table().markdown() into docs/conventions.md"
    assert f"\n\n{table().markdown()}\n\n" in page, hint


def test_every_framework_and_method_is_there_once():
    got = [(r["convention"], r["method"]) for r in table().rows]
    assert got[0] == ("DEFAULT", "all")
    expected = [(name, method) for name, framework in frameworks().items() for method in framework.known]
    assert got[1:] == expected
    assert len(set(got)) == len(got) == len(table())
    assert {f"{r['convention']}" for r in table().rows} >= {"PAPER", "VERL", "TRL", "TRL_ASYNC", "SPO"}


def test_aliases_go_by_their_short_name():
    assert frameworks()["VERL"] is conventions.VERL_0_9
    assert not {"VERL_0_9", "TRL_1_16"} & set(frameworks())
    assert all(getattr(conventions, name) is framework for name, framework in frameworks().items())


def test_rows_are_plain_and_of_their_own():
    rows = table("grpo").rows
    assert {r["method"] for r in rows} == {"all", "grpo"}
    (verl,) = (r for r in rows if r["convention"] == "VERL")
    assert verl == {
        "convention": "VERL",
        "method": "grpo",
        "version": conventions.VERL.version,
        "denominator": "s + eps",
        "eps": "1e-6",
        "ddof": "1",
        "group of one": "x / (1 + eps)",
        "no spread": "0",
        "missing reward": "error",
        "options": verl["options"],
        "known from": "executed live",
    }
    rows[0]["eps"] = "2"
    assert table("grpo").rows[0]["eps"] == "1e-6"


@pytest.mark.parametrize(
    ("fields", "cells"),
    [
        ({"eps": 0.0}, {"denominator": "s", "eps": "0"}),
        ({"eps": 0.5}, {"eps": "0.5"}),
        ({"eps": 2.5e-7}, {"eps": "2.5e-7"}),
        ({"eps_place": "max", "singleton": "raw"}, {"denominator": "max(s, eps)", "group of one": "x"}),
        (
            {"eps_place": "sqrt", "singleton": "raw"},
            {"denominator": "sqrt(s^2 + eps)", "group of one": "x / sqrt(1 + eps)"},
        ),
        ({"eps_place": "where_positive", "singleton": "raw"}, {"group of one": "x / (1 + eps)"}),
        ({"eps": 0.0, "singleton": "raw"}, {"group of one": "x"}),
        ({"singleton": "abs"}, {"group of one": "x / (|x| + eps)"}),
        ({"singleton": "nan", "zero_spread": "nan"}, {"group of one": "NaN", "no spread": "NaN"}),
        ({"singleton": "raise", "zero_spread": "raise"}, {"group of one": "error", "no spread": "error"}),
        ({"zero_spread": "unscaled", "ddof": 0}, {"no spread": "x - center", "ddof": "0"}),
        ({"nan": "omit"}, {"missing reward": "left out, gets 0"}),
        ({"nan": "propagate"}, {"missing reward": "NaN for its group"}),
    ],
)
def test_cells(fields, cells):
    got = one(**fields)
    assert {name: got[name] for name in cells} == cells


@pytest.mark.parametrize("place", ["add", "max", "sqrt", "where_positive"])
@pytest.mark.parametrize("singleton", ["raw", "abs"])
def test_what_the_cell_of_a_group_of_one_says_is_what_comes_out(place, singleton):
    text = one(eps=0.25, eps_place=place, singleton=singleton)["group of one"]
    names = {"x": 3.0, "eps": 0.25, "sqrt": math.sqrt, "max": max}
    said = eval(text.replace("|x|", "abs(x)").replace("^2", "**2"), names)
    assert rm.group.grpo([3.0], [0], eps=0.25, eps_place=place, singleton=singleton)[0] == pytest.approx(said)


def test_methods_that_divide_by_nothing():
    got = row(Framework("X", {"rloo": Convention(singleton="raw", zero_spread="raise")}), "rloo")
    assert [got[name] for name in ("denominator", "eps", "ddof", "group of one", "no spread")] == [
        "-",
        "-",
        "-",
        "x",
        "0",
    ]
    assert row(Framework("X", {"rloo": Convention(singleton="abs")}), "rloo")["group of one"] == "x"


def test_a_method_that_divides_by_something_else():
    assert row(Framework("X", {"new": Convention()}), "new")["denominator"] == "d + eps"
    got = row(Framework("X", {"maxrl": Convention(eps=0.0)}), "maxrl")
    assert [got[name] for name in ("denominator", "eps", "ddof")] == ["mean", "0", "-"]


def test_options():
    options = {"gae": {"gaps": "carry", "gamma": 1.0, "whiten": Whiten(ddof=0, eps=1e-4)}}
    got = row(Framework("X", {}, version="x 1", known={"gae": "live"}, options=options), "gae")
    assert got["options"] == "gaps='carry', gamma=1, whiten=Whiten(ddof=0, eps=1e-4)"
    assert (got["denominator"], got["group of one"], got["known from"]) == ("-", "-", "executed live")


def test_it_prints():
    text = str(table("maxrl"))
    assert text == repr(table("maxrl"))
    text = str(table("rloo"))
    assert text == repr(table("rloo"))
    head, *body = text.splitlines()
    assert head.startswith("convention ")
    assert head.endswith("  known from")
    assert len(body) == len(table("rloo"))
    assert not any(line != line.rstrip() for line in body)


def test_an_unknown_method_lists_what_there_is():
    with pytest.raises(ValueError, match=r"table\(\): 'method' must be one that a framework has \(.*grpo.*\), got 'x'"):
        table("x")


def test_paper():
    r, ids = [1.0, 0.0, 0.0, 1.0, 7.0], [0, 0, 0, 0, 1]
    adv = rm.group.grpo(r, ids, convention=conventions.PAPER)
    assert adv.tolist() == pytest.approx([math.sqrt(0.75), -math.sqrt(0.75), -math.sqrt(0.75), math.sqrt(0.75), 0])
    assert {"grpo": "paper", "dr_grpo": "read", "rloo": "paper"}.items() <= conventions.PAPER.known.items()
    assert rm.group.rloo(r, ids, convention=conventions.PAPER)[4] == 0


@pytest.mark.parametrize("method", [None, *sorted({m for f in frameworks().values() for m in f.known})])
def test_it_fits_a_terminal(method):
    made = table(method)
    head, *body = str(made).splitlines()
    assert max(map(len, [head, *body])) <= 120
    assert len(body) == len(made)
    if "options" in head:
        assert head.split()[-1] == "options"
    # All of it is in the rows and in the page.
    for row in made.rows:
        assert "..." not in "".join(row.values())
        assert row["options"] in made.markdown()


def test_what_is_cut_is_marked():
    options = {"grpo": {"leave_one_out": True, "another_option_that_is_long": 0.125}}
    framework = Framework("X" * 40, {"grpo": Convention(eps_place="where_positive")}, version="x", options=options)
    made = ConventionTable(conventions.DEFAULT, {framework.name: framework}, "grpo")
    last = str(made).splitlines()[-1]
    assert "s + eps i..." in last
    assert last.endswith("  leav...")
    assert made.rows[-1]["options"] == "leave_one_out=True, another_option_that_is_long=0.125"


def test_keywords_alone_have_no_default_beside_them():
    made = table("gae")
    assert "DEFAULT" not in [row["convention"] for row in made.rows]
    assert len(made) == len(made.rows) > 3
    assert str(made).splitlines()[0].split() == ["convention", "method", "known", "options"]
    assert table("spo").rows[0]["convention"] == "DEFAULT"
    # Where one of them has a convention, there is something to compare.
    x, y = Framework("X", {"new": Convention()}), Framework("Y", {}, known={"new": "read"}, options={"new": {"a": 1}})
    assert len(ConventionTable(conventions.DEFAULT, {"X": x, "Y": y}, "new")) == 3

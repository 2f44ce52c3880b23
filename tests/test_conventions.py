"""Conventions: validation, frameworks, overrides."""

from __future__ import annotations

import dataclasses
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Convention, conventions

FRAMEWORKS = {name: f for name, f in vars(conventions).items() if isinstance(f, conventions.Framework)}

#: The table of what frameworks do: eps, where it goes, ddof, a group of one, no spread.
TABLE = {
    "VERL": (1e-6, "add", 1, "raw", "zero"),
    "TRL": (1e-4, "add", 1, "zero", "zero"),
    "TRL_ASYNC": (1e-8, "add", 0, "zero", "zero"),
    "OPENRLHF": (1e-9, "add", 1, "raise", "zero"),
    "SLIME": (1e-6, "add", 1, "nan", "zero"),
    "SKYRL": (1e-6, "add", 1, "raw", "zero"),
    "NEMO_RL": (1e-6, "where_positive", 1, "zero", "unscaled"),
    "ROLL": (1e-6, "add", 1, "zero", "zero"),
    "TRINITY": (1e-6, "add", 1, "raw", "zero"),
    "RLLM": (1e-6, "add", 0, "raw", "zero"),
    "OPEN_INSTRUCT": (1e-8, "add", 0, "zero", "zero"),
    "TORCHRL": (1e-6, "max", 1, "nan", "zero"),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_table_of_disagreement(name):
    c = FRAMEWORKS[name]["grpo"]
    assert (c.eps, c.eps_place, c.ddof, c.singleton, c.zero_spread) == TABLE[name]


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"eps_place": "inside"}, ValueError, "'eps_place' must be one of 'add', 'max', 'sqrt', 'where_positive', got"),
        ({"singleton": "drop"}, ValueError, "'singleton' must be one of 'zero', 'raw', 'abs', 'nan', 'raise', got"),
        ({"zero_spread": 0}, ValueError, "'zero_spread' must be one of 'zero', 'unscaled', 'nan', 'raise', got 0"),
        ({"nan": None}, ValueError, "'nan' must be one of 'raise', 'omit', 'propagate', got None"),
        ({"nan": ["omit"]}, ValueError, "'nan' must be one of 'raise', 'omit', 'propagate', got"),
        ({"ddof": -1}, ValueError, "'ddof' must be a whole number from 0 to 1, got -1"),
        ({"ddof": 2}, ValueError, "'ddof' must be a whole number from 0 to 1, got 2"),
        ({"ddof": 0.5}, TypeError, "'ddof' must be a whole number of at least 0, got 0.5"),
        ({"ddof": True}, TypeError, "'ddof' must be a whole number of at least 0, got True"),
        ({"ddof": "1"}, TypeError, "'ddof' must be a whole number of at least 0, got '1'"),
        ({"eps": -1e-9}, ValueError, "'eps' must be finite and not negative, got -1e-09"),
        ({"eps": math.nan}, ValueError, "'eps' must be finite and not negative, got nan"),
        ({"eps": math.inf}, ValueError, "'eps' must be finite and not negative, got inf"),
        ({"eps": "small"}, TypeError, "'eps' must be a number, got an object of type str"),
        ({"eps": None}, TypeError, "'eps' must be a number, got an object of type NoneType"),
    ],
)
def test_bad_fields(fields, error, message):
    with pytest.raises(error, match=r"Convention\(\): " + message):
        Convention(**fields)
    with pytest.raises(error, match=message):
        rm.group.grpo([1.0], [0], **fields)


def test_conventions_are_plain_values():
    c = Convention(ddof=np.int64(0), eps=np.float32(0.5))
    assert repr(c) == repr(Convention(ddof=0, eps=0.5))
    assert (type(c.ddof), type(c.eps)) == (int, float)
    assert {c, Convention(ddof=0, eps=0.5)} == {c}
    assert pickle.loads(pickle.dumps(c)) == c
    with pytest.raises(dataclasses.FrozenInstanceError):
        c.eps = 1.0
    assert Convention() == conventions.DEFAULT


MINE = conventions.Framework(
    "MINE",
    {"grpo": Convention(singleton="raw"), "rloo": Convention()},
    version="mine 1.0",
    known={"grpo": "live"},
    options={"gae": {"gaps": "state"}},
)


def test_frameworks_are_mappings():
    assert list(MINE) == ["grpo", "rloo"]
    assert (len(MINE), "grpo" in MINE, "salt" in MINE) == (2, True, False)
    assert MINE.get("salt") is None
    assert MINE.get("grpo") == MINE["grpo"]
    assert dict(MINE)["grpo"].singleton == "raw"
    assert repr(MINE) == "Framework('MINE': grpo, rloo)"
    for framework in [MINE, *FRAMEWORKS.values()]:
        again = pickle.loads(pickle.dumps(framework))
        assert again == framework
        assert {framework: 1}[again] == 1
        for field in ("name", "version", "known", "options"):
            assert getattr(again, field) == getattr(framework, field)


def test_frameworks_say_how_they_are_known():
    assert dict(MINE.known) == {"grpo": "live", "rloo": "read", "gae": "read"}
    assert MINE.options["gae"] == {"gaps": "state"}
    for framework in FRAMEWORKS.values():
        assert framework.version
        assert set(framework.known) == {*framework, *framework.options}


def test_whiten_is_checked():
    with pytest.raises(ValueError, match=r"Whiten\(\): 'eps_place' must be one of"):
        conventions.Whiten(eps_place="inside")
    with pytest.raises(ValueError, match=r"Whiten\(\): 'eps' must be finite and not negative, got -1.0"):
        conventions.Whiten(eps=-1.0)
    with pytest.raises(ValueError, match=r"Whiten\(\): 'ddof' must be a whole number from 0 to 1, got 2"):
        conventions.Whiten(ddof=2)
    places = {
        place: conventions.Whiten(eps=0.75, eps_place=place) for place in ("sqrt", "add", "max", "where_positive")
    }
    assert {p: w.divisor(0.5) for p, w in places.items()} == {
        "sqrt": 1,
        "add": 1.25,
        "max": 0.75,
        "where_positive": 1.25,
    }
    assert {p: w.divisor(0.0) for p, w in places.items()}["where_positive"] == 1
    assert conventions.Whiten(scale=False).divisor(0.5) == conventions.Whiten().divisor(math.nan) == 1


def test_an_unknown_method_lists_what_there_is():
    message = "MINE has no convention for 'salt'; it has: grpo, rloo. Pass a Convention instead"
    with pytest.raises(ValueError, match=message):
        MINE["salt"]
    with pytest.raises(ValueError, match=r"grpo\(\): 'convention': SPO has no convention for 'grpo'; it has: spo"):
        rm.group.grpo([1.0], [0], convention=conventions.SPO)


def test_what_is_no_convention():
    with pytest.raises(TypeError, match=r"grpo\(\): 'convention' must be a Convention or a framework .*, got 'verl'"):
        rm.group.grpo([1.0], [0], convention="verl")
    with pytest.raises(TypeError, match=r"grpo\(\) got an unexpected keyword argument 'epsilon'; a convention has"):
        rm.group.grpo([1.0], [0], epsilon=1e-4)


@given(st.sampled_from(sorted(FRAMEWORKS)), st.sampled_from([1e-3, 0.5]))
def test_a_keyword_overrides_one_field(name, eps):
    framework = FRAMEWORKS[name]
    if "grpo" not in framework:
        return
    r, ids = [1.0, 0.0, 0.0, 2.0], [0, 0, 0, 0]
    expected = rm.group.grpo(r, ids, convention=dataclasses.replace(framework["grpo"], eps=eps))
    assert rm.group.grpo(r, ids, convention=framework, eps=eps).tolist() == expected.tolist()


def test_nemo_rl_by_hand():
    # One success among four: its others have no spread, so it is not scaled; the others are.
    out = rm.group.grpo([1.0, 0, 0, 0], [0] * 4, leave_one_out=True, convention=conventions.NEMO_RL)
    assert out[0] == 1.0
    assert out[1] == pytest.approx(-(1 / 3) / (math.sqrt(1 / 3) + 1e-6))


def test_a_huge_integer_is_named():
    with pytest.raises(ValueError, match=r"Convention\(\): 'eps' must fit float64, got an integer of 1329 bits"):
        rm.Convention(eps=10**400)

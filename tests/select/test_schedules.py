"""Schedules: the published numbers, exact ends, and no step back."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm

linear, cosine = rm.select.linear_schedule, rm.select.cosine_schedule
BOTH = pytest.mark.parametrize("schedule", [linear, cosine], ids=["linear", "cosine"])
NUMBERS = st.one_of(st.floats(-1e6, 1e6), st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([0.1, 0.3]))


def test_the_vector(vectors):
    v = vectors("flat")["d3s_sched"]
    for name in ("N", "K"):
        got = [linear(p, start=v[name][0], end=v[name][-1]) for p in v["p"]]
        assert got == pytest.approx(v[name], rel=1e-15)


@BOTH
@given(st.floats(0, 1), st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_the_definition(oracle, schedule, progress, start, end):
    expected = oracle("select/schedules.py", schedule.__name__)(progress, start=start, end=end)
    got = schedule(progress, start=start, end=end)
    assert got == pytest.approx(expected, rel=1e-12, abs=1e-14 * (abs(start) + abs(end)))


@BOTH
@given(NUMBERS, NUMBERS, st.floats(0, 1), st.floats(0, 1))
def test_exact_ends_and_no_step_back(schedule, start, end, one, other):
    assert schedule(0, start=start, end=end) == start
    assert schedule(1, start=start, end=end) == end
    first, second = (schedule(p, start=start, end=end) for p in sorted([one, other]))
    assert (start <= first <= second <= end) if start <= end else (start >= first >= second >= end)
    assert schedule(one, start=start, end=start) == start


@BOTH
def test_messages(schedule):
    who = schedule.__name__
    for options, error, message in [
        ({"progress": 1.5}, ValueError, "'progress' must be between 0 and 1, got 1.5"),
        ({"progress": -0.1}, ValueError, "'progress' must be between 0 and 1, got -0.1"),
        ({"progress": math.nan}, ValueError, "'progress' must be between 0 and 1, got nan"),
        ({"start": math.inf}, ValueError, "'start' must be finite, got inf"),
        ({"end": "1"}, TypeError, "'end' must be a number, got an object of type str"),
        ({"progress": True}, TypeError, "'progress' must be a number, got True"),
    ]:
        with pytest.raises(error, match=rf"{who}\(\): {message}"):
            schedule(**({"progress": 0.5, "start": 0.0, "end": 1.0} | options))

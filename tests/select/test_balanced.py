"""As many above as below: by hand, against every choice there is, and beside max-variance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm

balanced, max_variance = rm.select.balanced, rm.select.max_variance

ROWS = st.lists(
    st.tuples(st.sampled_from([0.0, 1.0, 0.5, 0.25, -1.0]), st.integers(0, 2), st.integers(0, 5), st.integers(0, 2)),
    max_size=22,
)


def why_of(report):
    return {i: report.reasons[code - 1] for i, code in enumerate(report.codes.tolist()) if code}


@given(
    ROWS,
    st.integers(1, 8),
    st.sampled_from([0.5, 0.0, 3.0]),
    st.sampled_from(["preference", "extreme"]),
    st.sampled_from(["group", "batch"]),
    st.sampled_from(["keep", "drop"]),
    st.sampled_from(["", "valid", "nan"]),
    st.sampled_from(["", "uid", "seed", "ties", "all"]),
    st.sampled_from([np.float64, np.float32]),
)
def test_the_definition(oracle, rows, keep, threshold, order, per, short, missing, keys, dtype):
    r, ids, flag, ties = zip(*rows, strict=True) if rows else ((), (), (), ())
    r, flag, ids = np.array(r, dtype), np.array(flag, int), list(ids)
    options = {"keep": keep, "threshold": threshold, "order": order, "per": per, "short": short}
    if missing == "valid":
        options["valid"] = flag > 0
    elif missing == "nan":
        r[flag == 0] = np.nan
        options["nan"] = "omit"
    if keys in {"uid", "all"}:
        options["uid"] = [(i * 7) % 31 - 9 for i in range(len(r))]
    if keys in {"seed", "all"}:
        options["seed"] = 5
    if keys in {"ties", "all"}:
        options["ties"] = np.array(ties, float)
    chosen = balanced(r, ids, **options)
    kept, why = oracle("select/balanced.py", "balanced")(r, ids, **options)
    assert chosen.indices.tolist() == kept
    assert np.flatnonzero(chosen.mask).tolist() == kept
    assert why_of(chosen.report) == why
    assert set(chosen.report.lost) == set(ids) - {ids[i] for i in kept}


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2), st.integers(0, 2)), min_size=1), st.integers(1, 9))
def test_of_binary_rewards_it_is_max_variance(rows, keep):
    r, ids, ties = (list(x) for x in zip(*rows, strict=True))
    for options in ({}, {"ties": ties}, {"seed": 3}, {"per": "batch"}):
        ours, other = (f(r, ids, keep=keep, **options).mask.tolist() for f in (balanced, max_variance))
        assert ours == other


def kept_of(above, below, keep, **options):
    chosen = balanced([1] * above + [0] * below, [0] * (above + below), keep=keep, **options)
    return [int((chosen.indices < above).sum()), int((chosen.indices >= above).sum())]


def test_by_hand():
    assert kept_of(8, 8, 4) == [2, 2]
    assert kept_of(8, 8, 5) == [2, 3]
    assert kept_of(1, 8, 4) == [1, 3]
    assert kept_of(8, 1, 5) == [4, 1]
    assert kept_of(8, 0, 4) == [4, 0]
    assert kept_of(2, 1, 4) == [2, 1]
    assert kept_of(2, 2, 1) == [0, 1]
    r, ids = [0.1, 0.9, 0.5, 0.3, 0.7, 0.4], ["a"] * 6
    assert balanced(r, ids, keep=4).indices.tolist() == [0, 1, 2, 3]
    assert balanced(r, ids, keep=4, order="extreme").indices.tolist() == [0, 1, 3, 4]
    assert balanced(r, ids, keep=2, ties=[3, 2, 1, 3, 2, 1]).indices.tolist() == [2, 5]
    # About the mean of each group.
    mean = rm.group.dr_grpo([5.0, 1.0, 1.0, 1.0, 1.0, 3.0, 3.0, 3.0], [0] * 4 + [1] * 4)
    assert balanced(mean, [0] * 4 + [1] * 4, keep=2, threshold=0).indices.tolist() == [0, 1, 4, 5]
    assert str(balanced([1, 1, 1, 0], ["q"] * 4, keep=2).report) == (
        "balanced kept 2 of 4 rollouts in 1 of 1 group; statistics after\n"
        "  over the share of its side  1 group, 2 rollouts: 'q' (2)"
    )
    assert balanced([1, 0], [0, 0], keep=1, per="batch").report.statistics is None


def test_messages():
    with pytest.raises(ValueError, match=r"^balanced\(\): 'order' must be one of 'preference', 'extreme', got 'near'"):
        balanced([1.0], [0], keep=1, order="near")
    with pytest.raises(ValueError, match=r"^balanced\(\): 'threshold' must be finite, got nan"):
        balanced([1.0], [0], keep=1, threshold=math.nan)
    with pytest.raises(TypeError, match=r"^balanced\(\): 'threshold' must be a number, got an object of type str"):
        balanced([1.0], [0], keep=1, threshold="mean")

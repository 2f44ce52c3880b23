"""Top, bottom, nearest and random rollouts: by hand, against sorting in fractions, and how often each is drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath.select import bottom, nearest, random, top

VALUES = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 0.5, 0.1, 0.3, 0.7, -1.0]),
    st.floats(-2, 2),
    st.floats(allow_nan=False, allow_infinity=False),
)
ROWS = st.lists(st.tuples(VALUES, st.integers(0, 2), st.integers(0, 5), st.integers(0, 2)), max_size=20)
CALLS = {"top": top, "bottom": bottom, "nearest": nearest, "random": random}


def why_of(report):
    return {i: report.reasons[code - 1] for i, code in enumerate(report.codes.tolist()) if code}


@pytest.mark.parametrize("name", CALLS)
def test_the_definition(oracle, name):
    @given(
        ROWS,
        st.integers(1, 7),
        st.sampled_from(["group", "batch"]),
        st.sampled_from(["keep", "drop"]),
        st.sampled_from(["", "valid", "nan"]),
        st.sampled_from(["", "uid", "seed", "ties", "all"]),
        st.sampled_from([0.5, 0.1, -0.3, 1e308, 0.0]),
        st.sampled_from([np.float64, np.float32]),
    )
    def check(rows, keep, per, short, missing, keys, target, dtype):
        x, ids, flag, ties = zip(*rows, strict=True) if rows else ((), (), (), ())
        flag, ids = np.array(flag, int), list(ids)
        with np.errstate(over="ignore"):
            x = np.array(x, dtype)
        x = np.where(np.isfinite(x), x, 0).astype(dtype)
        options = {"keep": keep, "per": per, "short": short}
        if missing == "valid":
            options["valid"] = flag > 0
        elif missing == "nan" and name != "random":
            x[flag == 0] = np.nan
            options["nan"] = "omit"
        if keys in {"uid", "all"}:
            options["uid"] = [f"r{(i * 7) % 31:02d}" for i in range(len(x))]
        if keys in {"seed", "all"} or name == "random":
            options["seed"] = 5
        if keys in {"ties", "all"} and name != "random":
            options["ties"] = np.array(ties, float)
        if name == "nearest":
            options["target"] = target
        args = (ids,) if name == "random" else (x, ids)
        chosen = CALLS[name](*args, **options)
        kept, why = oracle("select/rank.py", name)(*args, **options)
        assert chosen.indices.tolist() == kept
        assert np.flatnonzero(chosen.mask).tolist() == kept
        assert why_of(chosen.report) == why
        assert set(chosen.report.lost) == set(ids) - {ids[i] for i in kept}

    check()


def test_by_hand(vectors):
    pcl = vectors("flat")["pcl"]
    prompts = [f"p{i}" for i in range(len(pcl["V"]))]
    chosen = nearest(pcl["V"], prompts, keep=pcl["m"], target=pcl["tau"], per="batch")
    assert chosen.indices.tolist() == pcl["idx"]
    assert chosen.report.statistics is None
    values, ids = [3, 1, 2, 3, 5, 4], ["a", "a", "a", "a", "b", "b"]
    assert top(values, ids, keep=2).indices.tolist() == [0, 3, 4, 5]
    assert bottom(values, ids, keep=1).indices.tolist() == [1, 5]
    assert top(values, ids, keep=2, per="batch").indices.tolist() == [4, 5]
    assert top(values, ids, keep=1, ties=[2, 0, 0, 1, 0, 0]).indices.tolist() == [3, 4]
    assert top(values, ids, keep=10**30).mask.all()
    assert (top(values, ids, keep=2).report.statistics, top(values, ids, keep=2, per="batch").report.statistics) == (
        "after",
        None,
    )
    # Advantages from the rollouts that were kept, as GFPO has them.
    lengths, rewards = [900, 300, 200, 500], np.array([1.0, 1.0, 0.0, 0.0])
    kept = bottom(lengths, [0] * 4, keep=2)
    assert kept.advantages(rm.group.dr_grpo, rewards, [0] * 4).tolist() == [0.0, 0.5, -0.5, 0.0]
    assert str(kept.report) == (
        "bottom kept 2 of 4 rollouts in 1 of 1 group; statistics after\n"
        "  not among the smallest  1 group, 2 rollouts: 0 (2)"
    )


def test_distances_without_rounding():
    # 1e16 - 1 and 1e16 are the same double, but not the same distance.
    assert nearest([0.0, 1.0], [0, 0], keep=1, target=1e16).indices.tolist() == [1]
    assert nearest([1.0, 0.0], [0, 0], keep=1, target=1e16).indices.tolist() == [0]
    assert nearest([1.0, -1.0], [0, 0], keep=1, target=0).indices.tolist() == [0]
    assert nearest([-1.0, 1.0], [0, 0], keep=1, target=0, ties=[1, 0]).indices.tolist() == [1]
    # Counts are as far as they look; doubles of tenths are not.
    assert nearest([3, 7], [0, 0], keep=1, target=5).indices.tolist() == [0]
    assert nearest([0.3, 0.7], [0, 0], keep=1, target=0.5).indices.tolist() == [1]
    assert nearest([-1.7e308, 1e308, 1.7e308], [0] * 3, keep=1, target=-1.7e308).indices.tolist() == [0]
    assert nearest([1.7e308, 1e308, 1.6e308], [0] * 3, keep=2, target=-1.7e308).indices.tolist() == [1, 2]

    # What is past float64 changes nothing for the smallest numbers, taking part or not.
    far = -1.7e308
    assert nearest([1.7e308, 1e-323, 5e-324], [0] * 3, keep=1, target=far).indices.tolist() == [2]
    assert nearest([math.inf, 1e-323, 5e-324], [0] * 3, keep=1, target=0, valid=[0, 1, 1]).indices.tolist() == [2]
    assert nearest([1.7e308, 1.6e308], [0] * 2, keep=1, target=far, ties=[0, 1]).indices.tolist() == [1]


def test_prompts(vectors):
    """One row an id, of the batch: these are prompts."""
    pcl = vectors("flat")["pcl"]
    prompts = [f"p{i}" for i in range(len(pcl["V"]))]
    rates = nearest(pcl["V"], prompts, keep=pcl["m"], target=pcl["tau"], per="batch", uid=prompts)
    assert rates.indices.tolist() == pcl["idx"]
    assert str(rates.report) == (
        f"nearest kept 2 of {len(prompts)} prompts\n  not among the nearest  3 prompts: 'p0', 'p2', 'p4'"
    )
    assert repr(rates.report) == f"SelectionReport(nearest: 2 of {len(prompts)} prompts kept)"
    for call in (top, bottom):
        assert call([1, 2], ["p", "q"], keep=1, per="batch").report.unit == "prompt"
        assert call([1, 2], ["p", "p"], keep=1, per="batch").report.unit == "rollout"
        assert call([1, 2], ["p", "q"], keep=1).report.unit == "rollout"
    assert random(prompts, keep=2, seed=0, per="batch", uid=prompts).report.unit == "prompt"
    assert random([], keep=2, seed=0, per="batch").report.unit == "rollout"


def test_the_same_numbers_everywhere():
    uid = [f"r{i}" for i in range(12)]
    assert random([0] * 12, keep=4, seed=7, uid=uid).indices.tolist() == [2, 4, 5, 9]
    assert random([0] * 12, keep=4, seed=2**70, uid=uid).indices.tolist() == [2, 8, 9, 10]
    assert random([0] * 12, keep=4, seed=7).indices.tolist() == [0, 2, 3, 11]


def test_every_rollout_is_drawn_as_often():
    counts = sum(random([0] * 5 + [1] * 2, keep=2, seed=s).mask.astype(int) for s in range(4000))
    assert counts.tolist() == pytest.approx([1600] * 5 + [4000] * 2, abs=160)  # five standard deviations
    pairs = [tuple(random([0] * 4, keep=2, seed=s).indices.tolist()) for s in range(3000)]
    assert [pairs.count(p) for p in sorted(set(pairs))] == pytest.approx([500] * 6, abs=105)
    # A larger draw of the same seed has the smaller one in it.
    for keep in range(1, 5):
        small, large = (random([0] * 5, keep=k, seed=3).mask for k in (keep, keep + 1))
        assert (large >= small).all()


def test_messages():
    with pytest.raises(ValueError, match=r"^nearest\(\): 'target' must be finite, got nan"):
        nearest([1.0], [0], keep=1, target=math.nan)
    with pytest.raises(TypeError, match=r"^nearest\(\): 'target' must be a number, got an object of type str"):
        nearest([1.0], [0], keep=1, target="0.5")
    with pytest.raises(TypeError, match=r"^random\(\): 'seed' must be a whole number, got an object of type NoneType"):
        random([0], keep=1, seed=None)
    for call in (top, bottom):
        with pytest.raises(ValueError, match=rf"^{call.__name__}\(\): 'values' must have length 2"):
            call([1.0], [0, 0], keep=1)

"""Max-variance subsets: vectors, every subset in fractions, ties, spreads of every size, the official code."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

max_variance = rm.select.max_variance

#: Rewards of every kind: whole, 0/1, halves, tenths, any, symmetric, all equal, far from 0, tiny, of all sizes.
KINDS = {
    "whole": st.integers(-9, 9).map(float),
    "binary": st.sampled_from([0.0, 1.0]),
    "halves": st.integers(-6, 6).map(lambda k: k / 2),
    "tenths": st.integers(-15, 15).map(lambda k: k / 10),
    "any": st.floats(-1, 1),
    "signs": st.sampled_from([-0.7, -0.3, -0.0, 0.0, 0.3, 0.7]),
    "constant": st.just(0.1),
    "far": st.floats(0, 1).map(lambda v: 1e6 + v),
    "near": st.integers(0, 9).map(lambda k: 1.0 + k * 2.0**-52),
    "tiny": st.floats(-1, 1).map(lambda v: v * 1e-8),
    "subnormal": st.integers(-5, 5).map(lambda k: k * 5e-324),
    "huge": st.sampled_from([-1.7e308, -1e308, 0.0, 1.0, 1e308, 1.7e308]),
    "all sizes": st.floats(allow_nan=False, allow_infinity=False),
}


def rows_of(kind):
    return st.lists(st.tuples(KINDS[kind], st.integers(0, 2), st.integers(0, 5), st.integers(0, 2)), max_size=22)


def unzip(rows, dtype=np.float64):
    r, ids, flag, ties = zip(*rows, strict=True) if rows else ((), (), (), ())
    return np.array(r, dtype), list(ids), np.array(flag, int), np.array(ties, float)


def why_of(report):
    return {i: report.reasons[code - 1] for i, code in enumerate(report.codes.tolist()) if code}


def variance(x):
    return np.asarray(x, np.float64).var()


def test_vectors(vectors):
    pods, d3s = vectors("flat")["pods"], vectors("flat")["d3s_sample"]
    chosen = max_variance(pods["r"], [0] * 8, keep=pods["m"])
    assert chosen.indices.tolist() == pods["idx"]
    assert chosen.report.statistics == "after"
    assert_allclose(variance(np.array(pods["r"])[chosen.indices]), pods["popvar"], rtol=1e-14)
    groups = np.repeat([0, 1, 2], 4)
    # Three advantages are equal, and one of them is kept: the vector has the last of these.
    chosen = max_variance(d3s["A"], groups, keep=d3s["N"], per="batch", ties=-np.arange(12))
    assert chosen.indices.tolist() == d3s["idx"]
    assert_allclose(variance(np.array(d3s["A"])[chosen.indices]), d3s["popvar"], rtol=1e-14)
    assert str(chosen.report) == (
        "max_variance kept 6 of 12 rollouts in 2 of 3 groups; statistics before\n"
        "  adds less variance  2 groups, 6 rollouts: 0 (2), 2 (4)\n"
        "  nothing is left of 1 group: 2"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_subset_in_fractions(oracle, kind):
    @given(
        rows_of(kind),
        st.integers(1, 9),
        st.sampled_from(["group", "batch"]),
        st.sampled_from(["keep", "drop"]),
        st.sampled_from(["", "valid", "nan"]),
        st.sampled_from(["", "uid", "seed", "ties", "all"]),
    )
    def check(rows, keep, per, short, missing, keys):
        r, ids, flag, ties = unzip(rows, np.float32 if kind in {"tenths", "any"} else np.float64)
        options = {"keep": keep, "per": per, "short": short}
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
            options["ties"] = ties
        chosen = max_variance(r, ids, **options)
        kept, why = oracle("select/max_variance.py", "max_variance")(r, ids, **options)
        assert chosen.indices.tolist() == kept
        assert np.flatnonzero(chosen.mask).tolist() == kept
        assert why_of(chosen.report) == why
        assert set(chosen.report.lost) == set(ids) - {ids[i] for i in kept}

    check()


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=60), st.data())
@example([0.25, 1.0, -1.0, 0.25, 0.25], None)
def test_laws(x, data):
    keep = 3 if data is None else data.draw(st.integers(1, len(x)))
    x = np.round(np.array(x), 6)
    groups = [0] * len(x)
    kept = max_variance(x, groups, keep=keep).mask
    best = variance(x[kept])
    order = np.sort(x)
    # No other split has more, and none that has as much has fewer from the top.
    others = [variance(np.concatenate([order[: keep - k], order[len(x) - k :]])) for k in range(keep + 1)]
    assert best >= max(others) * (1 - 1e-12)
    # Powers of two scale exactly, and whole shifts of whole numbers shift exactly.
    assert max_variance(x * 2.0**40, groups, keep=keep).mask.tolist() == kept.tolist()
    whole = np.round(x * 1000)
    same = max_variance(whole, groups, keep=keep).mask
    assert max_variance(whole + 1e9, groups, keep=keep).mask.tolist() == same.tolist()
    assert max_variance(np.append(x, 0.0), [*groups, 1], keep=keep).mask[:-1].tolist() == kept.tolist()


def test_of_equal_variance_the_fewest_of_the_largest():
    for r in ([0, 0, 0, 1, 1, 1], [0.1, 0.1, 0.1, 0.3, 0.3, 0.3], [-1e308] * 3 + [1e308] * 3):
        assert max_variance(r, [0] * 6, keep=3).indices.tolist() == [0, 1, 3]
    # Symmetric rewards whose sums doubles round; the spread of the others decides nothing.
    r = [-0.7, -0.1, 0.1, 0.7, 0.3, -0.3]
    assert max_variance(r, [0] * 6, keep=3).indices.tolist() == [0, 3, 5]
    assert max_variance([-v for v in r], [0] * 6, keep=3).indices.tolist() == [0, 3, 4]
    assert max_variance([3.0, 1.0, 2.0], ["a"] * 3, keep=1).indices.tolist() == [1]
    # The last bit of one reward decides between two splits: the larger variance is found, to that bit.
    up = math.nextafter(0.3, 1)
    assert max_variance([-0.7, 0.7, -0.3, up], [0] * 4, keep=3).indices.tolist() == [0, 1, 3]
    assert max_variance([-0.7, 0.7, -up, 0.3], [0] * 4, keep=3).indices.tolist() == [0, 1, 2]
    assert max_variance([-1e308, 1e308, -1e-308, 2e-308], [0] * 4, keep=3).indices.tolist() == [0, 1, 3]


def test_among_equal_rewards_preference_decides_at_both_ends():
    r, lengths = [1, 1, 1, 0, 0, 0, 1, 0], [9, 3, 5, 8, 2, 4, 1, 7]
    assert max_variance(r, [0] * 8, keep=4).indices.tolist() == [0, 1, 3, 4]
    assert max_variance(r, [0] * 8, keep=4, ties=lengths).indices.tolist() == [1, 4, 5, 6]
    assert max_variance(r, [0] * 8, keep=4, uid=range(8, 0, -1)).indices.tolist() == [2, 5, 6, 7]
    assert max_variance([0.1] * 8, [0] * 8, keep=2, ties=lengths).indices.tolist() == [4, 6]
    drawn = [max_variance(r, [0] * 8, keep=2, seed=s).indices.tolist() for s in range(200)]
    assert {i for one in drawn for i in one} == set(range(8))
    # Both ends reach into one class of equal rewards.
    assert max_variance([0, 9, 0, -9, 0], [0] * 5, keep=4, ties=[3, 0, 2, 0, 1]).indices.tolist() == [1, 2, 3, 4]


def test_the_official_code(vectors):
    """Of PODS, YixuanEvenXu/pods@187f43b: its list form is right, its vectorised form has less variance."""
    golden = vectors("selection")["pods"]
    for one in golden["groups"]:
        r, groups = np.array(one["rewards"]), np.zeros(8, int)
        chosen = max_variance(r, groups, keep=golden["keep"])
        assert chosen.indices.tolist() == one["list_form"]
        advantages = chosen.advantages(rm.group.grpo, r, groups, eps=1e-4)
        assert_allclose(advantages[chosen.indices], one["advantages"], atol=2e-6)
        assert variance(r[chosen.indices]) > 1.2 * variance(r[one["vectorised_form"]])


def test_a_large_batch_of_equal_groups():
    """No group of such a batch has less variance than the best split, for uniform and for 0/1 rewards."""
    rng = np.random.default_rng(0)
    for x, keep in ((rng.random((2000, 8)), 4), (rng.random((2000, 16)) < 0.3, 4), (rng.random((300, 64)), 16)):
        n = x.shape[1]
        kept = max_variance(x.ravel(), np.repeat(np.arange(len(x)), n), keep=keep).mask.reshape(x.shape)
        assert (kept.sum(1) == keep).all()
        order = np.sort(x, axis=1)
        splits = [np.hstack([order[:, : keep - k], order[:, n - k :]]).var(1) for k in range(keep + 1)]
        assert_allclose(x[kept].reshape(-1, keep).var(1), np.max(splits, axis=0), rtol=1e-12, atol=1e-15)


def test_messages():
    with pytest.raises(ValueError, match=r"^max_variance\(\): 'rewards' must be finite where rows are valid, got inf"):
        max_variance([math.inf, 1.0], [0, 0], keep=1)
    with pytest.raises(ValueError, match=r"^max_variance\(\): 'rewards' must have length 2"):
        max_variance([1.0], [0, 0], keep=1)

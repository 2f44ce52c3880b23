"""ops.order_project: hand-checked numbers, all active sets of small problems, and the laws of projections."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath.ops import ProjectionStatus, order_project

SEEDS = st.integers(0, 2**32)
NORMS = st.sampled_from(["free", "ball", "sphere"])
KINDS = st.sampled_from(["any", "chain", "up", "down", "two ways"])


def names(status):
    return [ProjectionStatus(s).name for s in status]


def draw_edges(rng, rows, kind, most):
    """Acyclic edges among ``rows``, whose random order is their order."""
    rows, n = rng.permutation(rows), len(rows)
    if n < 2:
        return []
    if kind == "chain":
        return [(rows[k], rows[k + 1]) for k in range(n - 1)][:most]
    if kind == "up":
        return [(rows[k], rows[rng.integers(k + 1, n)]) for k in range(n - 1)][:most]
    if kind == "down":
        return [(rows[rng.integers(0, k)], rows[k]) for k in range(1, n)][:most]
    picks = [sorted(rng.choice(n, 2, replace=False)) for _ in range(rng.integers(0, most + 1))]
    return [(rows[a], rows[b]) for a, b in picks]


def draw(seed, kind, groups=3, size=5, most=7):
    rng = np.random.default_rng(seed)
    ids = rng.permutation(np.repeat(np.arange(groups), rng.integers(1, size + 1, groups)))
    x = rng.choice([0.0, 1.0, 0.3], len(ids)) - 0.3 if seed % 3 == 0 else rng.normal(size=len(ids)).round(seed % 5)
    edges = []
    for g in range(groups):
        rows = np.flatnonzero(ids == g)
        some = draw_edges(rng, rows, kind, most)
        if kind == "two ways" and len(rows) > 3:
            some = draw_edges(rng, rows[:2], "up", most) + draw_edges(rng, rows[2:], "down", most)
        edges += some
    edges = [edges[k] for k in rng.permutation(len(edges))]
    margins = rng.choice([0.0, 0.01, 0.4, 1.0], len(edges)) if seed % 2 else np.zeros(len(edges))
    return x, [(int(i), int(j)) for i, j in edges], margins, ids


def test_hand_checked(vectors):
    v = vectors("structured")["tree_opo"]
    r = np.array(v["ex3"]["r"])
    got = order_project(r - r.mean(), v["ex3"]["order"], margin=v["ex3"]["delta"])
    np.testing.assert_allclose(got.values, v["ex3"]["a"], atol=1e-15)
    r = np.array(v["ex2"]["r"], dtype=float)
    soft = order_project(r - r.mean(), v["ex2"]["order"], margin=0.01, norm="ball")
    np.testing.assert_allclose(soft.values, v["ex2"]["soft"], atol=1e-15)
    hard = order_project(r - r.mean(), v["ex2"]["order"], margin=0.01, norm="sphere")
    np.testing.assert_allclose(hard.values, v["ex2"]["hard"], atol=1e-6)
    assert names(soft.status) == names(hard.status) == ["SOLVED"]


@given(SEEDS, KINDS, NORMS, st.sampled_from([np.float64, np.float32]))
def test_against_all_active_sets(oracle, tolerance, seed, kind, norm, dtype):
    x, edges, margins, ids = draw(seed, kind, groups=12)
    x = x.astype(dtype)
    radii = None
    if norm != "free" and seed % 7 > 3:
        radii = np.random.default_rng(seed).choice([0.2, 1.0, 5.0], len(set(ids)))
    got = order_project(x, edges, margin=margins, groups=ids, norm=norm, radius=radii)
    expected, status = oracle("ops/project.py", "order_project")(x, edges, margins, ids, norm, radii)
    assert got.values.dtype == dtype
    assert got.status.dtype == np.uint8
    if dtype == np.float32:
        # What is left of a centred float32 group is its own rounding; whether that counts is a matter of taste.
        tiny = [abs(x[ids == g].sum()) < 1e-6 for g in dict.fromkeys(ids)]
        keep = ~np.array(tiny)[rm.Groups(ids).index]
        np.testing.assert_allclose(got.values[keep], expected[keep], **tolerance("float32"))
        return
    assert names(got.status) == status
    np.testing.assert_allclose(got.values, expected, **tolerance("float64"))


@given(SEEDS, KINDS)
def test_projection_keeps_the_mean_and_the_order_and_comes_back(seed, kind):
    x, edges, margins, ids = draw(seed, kind, groups=4, size=30, most=60)
    once = order_project(x, edges, margin=margins, groups=ids)
    assert not once.status.any()
    np.testing.assert_allclose(rm.ops.segment_mean(once.values, ids), rm.ops.segment_mean(x, ids), atol=1e-14)
    for (i, j), m in zip(edges, margins, strict=True):
        assert once.values[j] - once.values[i] >= m - (1e-13 if m else 0)
    again = order_project(once.values, edges, margin=margins, groups=ids).values
    np.testing.assert_allclose(again, once.values, atol=1e-13)
    if not margins.any():
        assert np.array_equal(again, once.values)


@given(SEEDS, KINDS, NORMS)
def test_shift_scale_and_renumbering(same_bits, seed, kind, norm):
    x, edges, margins, ids = draw(seed, kind, groups=4, size=20, most=40)
    got = order_project(x, edges, margin=margins, groups=ids, norm=norm, radius=None if norm == "free" else 2.0)
    if norm == "free":
        shifted = order_project(x + 3.0, edges, margin=margins, groups=ids)
        np.testing.assert_allclose(shifted.values, got.values + 3.0, atol=1e-13)
    radius = None if norm == "free" else 8.0
    scaled = order_project(x * 4, edges, margin=margins * 4, groups=ids, norm=norm, radius=radius)
    same_bits(scaled.values, got.values * 4)
    to = np.random.default_rng(seed).permutation(len(x))
    y, names_ = np.empty_like(x), np.empty_like(ids)
    y[to], names_[to] = x, ids
    other = order_project(
        y, [(to[i], to[j]) for i, j in edges[::-1]], margin=margins[::-1], groups=names_, norm=norm,
        radius=None if norm == "free" else 2.0,
    )  # fmt: skip
    if norm == "free":
        same_bits(other.values[to], got.values)
    else:
        np.testing.assert_allclose(other.values[to], got.values, atol=1e-13)


@given(SEEDS, KINDS, NORMS)
def test_what_is_in_order_comes_back_unchanged(same_bits, seed, kind, norm):
    x, edges, margins, ids = draw(seed, kind)
    for _ in range(len(x)):
        for i, j in edges:
            x[j] = max(x[j], x[i] + 1.25)  # above every margin
    x += 1e-3 * (x == 0)
    lengths = np.sqrt(rm.ops.segment_sum(x**2, ids))
    radius = {"free": None, "ball": 1.5 * lengths, "sphere": lengths}[norm]
    got = order_project(x, edges, margin=margins, groups=ids, norm=norm, radius=radius)
    same_bits(got.values, x)
    assert not got.status.any()


@given(SEEDS, KINDS)
def test_the_facts_about_norms(seed, kind):
    """The length of P(t x) never falls with t; on a sphere the mean of the centred stays 0, and soft never binds."""
    x, edges, margins, _ = draw(seed, kind, groups=1)
    lengths = [np.linalg.norm(order_project(t * x, edges, margin=margins).values) for t in (0, 0.1, 0.5, 1, 2, 9, 99)]
    assert (np.diff(lengths) >= -1e-12).all()
    r = np.random.default_rng(seed).integers(0, 2, len(x)).astype(float)
    r0 = r - r.mean()
    assert r0 @ r0 <= len(r) / 4 + 1e-12
    ball, free = (order_project(r0, edges, norm=n).values for n in ("ball", "free"))
    np.testing.assert_allclose(ball, free, atol=1e-15)
    hard = order_project(r0, edges, norm="sphere")
    if names(hard.status) == ["SOLVED"]:
        assert np.linalg.norm(hard.values) == pytest.approx(np.sqrt(len(r)), rel=1e-14)
        assert hard.values.sum() == pytest.approx(0, abs=1e-12)
        free = np.asarray(free)
        np.testing.assert_allclose(hard.values, free * np.sqrt(len(r)) / np.linalg.norm(free), atol=1e-12)
    else:
        assert names(hard.status) == ["SATURATED"]
        assert not hard.values.any()


def test_every_status():
    def one(x, margin, norm, **radius):
        out = order_project(x, [(0, 1)], margin=margin, norm=norm, **radius)
        return out.values.tolist(), names(out.status)

    assert one([0.0, 0.0], 0.0, "sphere") == ([0.0, 0.0], ["SATURATED"])
    assert one([1.0, -1.0], 0.0, "sphere") == ([0.0, 0.0], ["SATURATED"])
    assert one([0.7, -0.7 + 1e-17], 0.0, "sphere") == ([0.0, 0.0], ["SATURATED"])
    assert one([1.0, -1.0], 0.5, "sphere") == ([-0.25, 0.25], ["SATURATED"])
    assert one([1.0, 0.0], 4.0, "ball") == ([-2.0, 2.0], ["INFEASIBLE"])
    assert one([0.0, 1.0], 4.0, "sphere", radius=1) == ([-2.0, 2.0], ["INFEASIBLE"])
    assert one([0.0, 0.0], 2.0, "sphere") == ([-1.0, 1.0], ["SOLVED"])
    assert [s.name for s in ProjectionStatus] == ["SOLVED", "SATURATED", "INFEASIBLE", "UNFINISHED"]


def test_a_saturated_float32_group_is_not_blown_up():
    r = np.array([0.9, 0.3, 0.1], dtype=np.float32)
    out = order_project(r - r.mean(), [(0, 1), (1, 2)], norm="sphere")
    assert names(out.status) == ["SATURATED"]
    assert not out.values.any()


def test_no_rows_no_edges_and_groups_of_one():
    assert [a.tolist() for a in order_project([], [])] == [[], []]
    assert order_project([2.0], []).values.tolist() == [2.0]
    assert order_project([2.0], [], norm="ball").values.tolist() == [1.0]
    assert order_project([-2.0, 0.0], [], groups=["a", "b"], norm="sphere").values.tolist() == [-1.0, 0.0]
    pairs = np.array([[0, 1]])
    for edges in (pairs, [(0, 1)], ([0], [1]), (np.array([0]), np.array([1])), pairs.astype("u1")):
        assert order_project([1, 0], edges).values.tolist() == [0.5, 0.5]
    assert order_project([1, 0], [(0, 1), (0, 1)], margin=[0.5, 1.0]).values.tolist() == [0.0, 1.0]
    assert order_project([1, 0], [(0, 1)], margin=np.array([1.0])).values.tolist() == [0.0, 1.0]
    assert order_project([1, 0], [(0, 1)], margin=np.float32(1)).values.tolist() == [0.0, 1.0]


def test_big_orders_are_fast():
    n = 1_000_000
    start = time.perf_counter()
    chain = np.arange(n)
    out = order_project(-chain.astype(float), (chain[:-1], chain[1:])).values
    assert (out == -(n - 1) / 2).all()
    # A star: the center takes in its neighbours, the greatest first, until its mean is above the others.
    x = chain % 1000 / 1000.0
    out = order_project(x, (chain[1:], np.zeros(n - 1, dtype=int))).values
    pooled = out == out[0]
    assert x[pooled].mean() == pytest.approx(out[0], abs=1e-12)
    assert (x[~pooled] < out[0]).all()
    assert (x[pooled][1:] > out[0]).all()
    assert time.perf_counter() - start < 60  # measured: 0.6 s; not quadratic


def test_torch_and_integers():
    torch = pytest.importorskip("torch")
    out = order_project(torch.tensor([1, 0]), torch.tensor([[0, 1]]))
    assert (out.values.dtype, out.status.dtype) == (torch.float32, torch.uint8)
    assert order_project(torch.tensor([1.0, 0.0], dtype=torch.bfloat16), [(0, 1)]).values.tolist() == [0.5, 0.5]
    with pytest.raises(ValueError, match=r"order_project\(\): 'x' requires grad"):
        order_project(torch.tensor([1.0, 0.0], requires_grad=True), [(0, 1)])


X = [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("edges", "keywords", "error", "message"),
    [
        ([(0, 4)], {}, ValueError, "'edges' must name rows from 0 to 3, got 4 in edge 0"),
        ([(0, 1), (-1, 2)], {}, ValueError, "'edges' must name rows from 0 to 3, got -1 in edge 1"),
        ([(0, 1), (2, 2)], {}, ValueError, "'edges' must join different rows, got row 2 with itself in edge 1"),
        (
            [(0, 1), (1, 2)], {"groups": ["a", "a", "b", "b"]}, ValueError,
            r"'edges' must stay within groups, got edge 1 from row 1 of group 0 to row 2 of group 1 \(in order of",
        ),
        (
            [(3, 1), (1, 2), (2, 3), (0, 1)], {}, ValueError,
            "'edges' must not go in a circle, got rows 1 -> 2 -> 3 -> 1; take one of its edges out",
        ),
        ([0, 1], {}, TypeError, r"'edges' must be \[n_edges, 2\] or a tuple of two arrays, got a 1-D int64 array of"),
        ([(0, 1, 2)], {}, TypeError, r"'edges' must be \[n_edges, 2\] or a tuple of two arrays, got a 2-D int64"),
        ([(0.0, 1.0)], {}, TypeError, "'edges' must hold integers, got float64"),
        (([0], [1, 2]), {}, ValueError, r"'edges' must have length 1 \(= len\(edges\[0\]\)\), got 2"),
        ([(0, 1)], {"margin": -0.1}, ValueError, "'margin' must be finite and not negative, got -0.1"),
        ([(0, 1)], {"margin": [np.nan]}, ValueError, "'margin' must be finite and not negative, got NaN at index 0"),
        ([(0, 1)], {"margin": [0.0, 0.0]}, ValueError, r"'margin' must have length 1 \(= the number of edges\), got 2"),
        ([(0, 1)], {"margin": "1"}, TypeError, "'margin' must be a number, got an object of type str"),
        ([(0, 1)], {"radius": 1.0}, ValueError, "'radius' needs norm='ball' or norm='sphere', got norm='free'"),
        ([(0, 1)], {"radius": 0.0, "norm": "ball"}, ValueError, "'radius' must be finite and positive, got 0"),
        ([(0, 1)], {"radius": [1, 2], "norm": "ball"}, ValueError, r"'radius' must have length 1 \(= n_groups\)"),
        ([(0, 1)], {"norm": "l1"}, ValueError, "'norm' must be one of 'free', 'ball', 'sphere', got 'l1'"),
        ([(0, 1)], {"groups": [0, 0]}, ValueError, r"'groups' must have length 4 \(= the number of rows\), got 2"),
    ],
)  # fmt: skip
def test_wrong_calls(edges, keywords, error, message):
    with pytest.raises(error, match=rf"^order_project\(\): {message}"):
        order_project(X, edges, **keywords)


def test_numbers_that_no_order_holds_for():
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match=rf"'x' must be finite, got {'NaN' if bad != bad else bad} at index 1; no"):
            order_project([0.0, bad], [(0, 1)])
    with pytest.raises(ValueError, match=r"'x' must be at most 1e140 in size, got .* at index 0"):
        order_project([1e200, 0.0], [(0, 1)])
    with pytest.raises(ValueError, match=r"got rows 0 -> 1 -> 2 -> 3 -> 4 -> 5 -> 6 -> 7 -> ... \(20 rows\) -> 0"):
        order_project(np.zeros(20), (np.arange(20), np.roll(np.arange(20), -1)))


def test_threads_change_no_bit(same_bits):
    rng = np.random.default_rng(0)
    x, base = rng.normal(size=80_000), np.arange(10_000)[:, None] * 8
    low = rng.integers(0, 7, (10_000, 6))
    high = low + 1 + (rng.random((10_000, 6)) * (7 - low)).astype(int)
    groups, edges = np.repeat(np.arange(10_000), 8), ((low + base).ravel(), (high + base).ravel())
    before, got = rm.num_threads(), []
    try:
        for n in (1, 2, 3):
            rm.set_num_threads(n)
            got.append(order_project(x, edges, groups=groups, margin=0.1, norm="sphere"))
    finally:
        rm.set_num_threads(before)
    for other in got[1:]:
        same_bits(other.values, got[0].values)
        same_bits(other.status, got[0].status)

"""The regularised policy: the vector, bisection with 100 digits, the ends, and what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollmath import Forest
from rollmath.ops import segment_sum
from rollmath.tree import regularized_policy

STAR = [-1, 0, 0, 0]
Q, N, P = [9.0, 0.5, 1.0, 0.0], [6, 3, 1, 2], [1.0, 0.5, 0.3, 0.2]
FAMILY = st.lists(
    st.tuples(
        st.one_of(st.sampled_from([0.0, 1.0, 0.5]), st.floats(-5, 5)),
        st.integers(0, 6),
        st.one_of(st.sampled_from([0.0, 1.0, 1e-9, 1e-30]), st.floats(1e-6, 1)),
    ),
    min_size=1,
    max_size=9,
)


def star(rows):
    """One family below a root, with at least one prior."""
    q, n, p = (list(x) for x in zip(*rows, strict=True))
    if not any(p):
        p[0] = 0.5
    return Forest.from_parents([-1] + [0] * len(rows)), [0.0, *q], [sum(n), *n], [1.0, *p]


def test_the_vector(vectors):
    v = vectors("structured")["puct"]
    got = regularized_policy(Forest.from_parents(STAR), [0, *v["Q"]], [0, *v["N"]], [0, *v["P"]], c=v["c"])
    assert got.round(6).tolist() == [0.0, *v["grill"]]
    # lam and alpha of the same example.
    lam = math.sqrt(6) / 9
    assert lam == pytest.approx(0.272166, abs=1e-6)
    assert lam * 0.3 / got[2] + 1.0 == pytest.approx(1.112047, abs=1e-6)


@given(FAMILY, st.sampled_from([0.0, 1e-12, 1e-3, 1.0, 50.0]), st.booleans())
def test_against_bisection_with_100_digits(oracle, rows, c, fixed):
    forest, q, n, p = star(rows)
    options = {"lam": c} if fixed else {"c": c}
    got = regularized_policy(forest, q, n, p, **options)
    expected = oracle("tree/regularized_policy.py", "regularized_policy")(forest.parents, q, n, p, **options)
    # Where a prior is tiny its share is what others leave, which float64 knows to its last digits only.
    np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-13)
    assert got[1:].sum() == pytest.approx(1.0, rel=1e-15)
    assert not got[np.array(p) == 0].any()


@given(st.tuples(st.integers(0, 2**32), st.integers(1, 60)), st.sampled_from([np.float64, np.float32]))
def test_forests(oracle, tolerance, same_bits, size, dtype):
    forest = Forest.from_parents(oracle("forest.py", "random_parents")(*size))
    rng = np.random.default_rng(size[0])
    q, n = rng.normal(size=forest.n_nodes).astype(dtype), rng.integers(0, 4, forest.n_nodes)
    p = rng.random(forest.n_nodes)
    got = regularized_policy(forest, q, n, p)
    assert got.dtype == dtype
    expected = oracle("tree/regularized_policy.py", "regularized_policy")(forest.parents, q, n, p)
    np.testing.assert_allclose(got, expected, **tolerance(dtype.__name__))
    sums = segment_sum(got.astype(np.float64), forest.siblings)
    inner = forest.parents[forest.siblings.first] >= 0
    np.testing.assert_allclose(sums, inner, atol=1e-15 if dtype == np.float64 else 1e-6)
    # Renumbering nodes changes no bit.
    to = rng.permutation(forest.n_nodes)
    turned = np.empty_like(to)
    turned[to] = np.where(forest.parents < 0, -1, to[forest.parents])
    columns = [np.empty_like(x) for x in (q, n, p)]
    for new, old in zip(columns, (q, n, p), strict=True):
        new[to] = old
    same_bits(regularized_policy(Forest.from_parents(turned), *columns)[to], got)


def test_laws():
    forest = Forest.from_parents(STAR)
    base = regularized_policy(forest, Q, N, P)
    # A shift of values changes nothing; scaling values and the temperature together neither.
    np.testing.assert_allclose(regularized_policy(forest, np.array(Q) + 4, N, P), base, rtol=1e-12)
    one, two = regularized_policy(forest, Q, N, P, lam=0.3), regularized_policy(forest, np.array(Q) * 2, N, P, lam=0.6)
    np.testing.assert_allclose(one, two, rtol=1e-14)
    # The policy solves pi = lam P / (alpha - Q) with one alpha.
    alpha = 0.3 * np.array(P[1:]) / one[1:] + np.array(Q[1:])
    np.testing.assert_allclose(alpha, alpha[0], rtol=1e-14)
    # And it is the best of its objective: moving any mass makes it worse.
    prior, value = np.array(P[1:]), np.array(Q[1:])

    def objective(pi):
        return pi @ value - 0.3 * (prior @ np.log(prior / pi))

    for step in ([1e-4, -1e-4, 0], [0, 1e-4, -1e-4], [-1e-4, 0, 1e-4]):
        assert objective(one[1:] + step) < objective(one[1:])


def test_the_ends():
    forest = Forest.from_parents(STAR)
    assert regularized_policy(forest, Q, [0] * 4, P).tolist() == [0.0, 0.5, 0.3, 0.2]
    np.testing.assert_allclose(regularized_policy(forest, Q, N, P, lam=1e12)[1:], P[1:], rtol=1e-11)
    assert regularized_policy(forest, Q, N, P, c=0.0).tolist() == [0.0, 0.0, 1.0, 0.0]
    got = regularized_policy(forest, [0, 1, 1, 0], N, P, lam=0.0)
    assert got.tolist() == pytest.approx([0.0, 0.625, 0.375, 0.0], rel=1e-15)
    tiny = regularized_policy(forest, Q, N, P, lam=1e-300)
    assert tiny.round(12).tolist() == [0.0, 0.0, 1.0, 0.0]
    # The best value has no prior: it gets nothing, and the others share.
    assert regularized_policy(forest, [0, 0, 99, 0], N, [1, 0.5, 0, 0.5]).tolist() == [0.0, 0.5, 0.0, 0.5]
    # Priors that are not normalised.
    np.testing.assert_allclose(
        regularized_policy(forest, Q, N, np.array(P) * 4, lam=0.1), regularized_policy(forest, Q, N, P, lam=0.4)
    )
    assert regularized_policy(Forest.from_parents([-1, 0, 1]), [0, 5, -5], [2, 1, 0], [0, 0.1, 1e-300]).tolist() == [
        0.0,
        1.0,
        1.0,
    ]
    assert regularized_policy(Forest.from_parents([-1]), [math.nan], [0], [math.nan]).tolist() == [0.0]
    assert regularized_policy(Forest.from_parents([]), [], [], []).shape == (0,)
    # A prior that all but vanishes: pi = 1e-150 by hand, which no float64 sum that is 1 can tell from 0.
    got = regularized_policy(forest, [0, 1, 0, 0], N, [1, 1e-300, 1.0, 0], lam=1.0)
    assert got.tolist() == pytest.approx([0.0, 0.0, 1.0, 0.0], abs=1e-15)
    huge = regularized_policy(forest, [0, 1e308, -1e308, 0], N, P)
    assert huge.tolist() == [0.0, 1.0, 0.0, 0.0]


def test_a_family_of_many():
    rng = np.random.default_rng(0)
    n = 100_000
    forest = Forest.from_parents([-1] + [0] * n)
    p = rng.random(n + 1) ** 20
    got = regularized_policy(forest, rng.normal(size=n + 1), rng.integers(0, 3, n + 1), p, lam=1e-4)
    assert got.sum() == pytest.approx(1.0, rel=1e-12)


def test_wrong_calls():
    torch = pytest.importorskip("torch")
    forest = Forest.from_parents(STAR)
    assert regularized_policy(forest, torch.tensor(Q), torch.tensor(N), torch.tensor(P)).dtype == torch.float32
    cases = [
        (lambda: regularized_policy(forest, Q, N, [1, 0, 0, 0]), "'priors' must not be 0 for all siblings, .* node 0"),
        (
            lambda: regularized_policy(forest, Q, N, [1, -1, 0, 0]),
            "'priors' must be finite and not negative, got -1 at",
        ),
        (lambda: regularized_policy(forest, [0, 0, math.nan, 0], N, P), "'values' must be finite, got nan at node 2"),
        (lambda: regularized_policy(forest, Q, [0, 1.5, 0, 0], P), "'visits' must be whole numbers of at least 0"),
        (lambda: regularized_policy(forest, Q[:2], N, P), r"'values' must have length 4 \(= forest.n_nodes\), got 2"),
        (lambda: regularized_policy(forest, Q, N, P, c=-1.0), "'c' must be finite and not negative, got -1.0"),
        (lambda: regularized_policy(forest, Q, N, P, lam=-1.0), "'lam' must be finite and not negative, got -1.0"),
        (lambda: regularized_policy(forest, torch.ones(4, requires_grad=True), N, P), "'values' requires grad"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=r"regularized_policy\(\): " + message):
            call()
    with pytest.raises(TypeError, match=r"regularized_policy\(\): 'forest' must be a rollmath.Forest"):
        regularized_policy(STAR, Q, N, P)

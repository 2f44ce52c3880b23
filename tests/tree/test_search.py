"""Search scores: textbook numbers, the oracles, their laws, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Forest
from rollmath.tree import frontier_score, puct, uct

SIZES = st.tuples(st.integers(0, 2**32), st.integers(1, 40))
STAR = [-1, 0, 0, 0]


def draw(oracle, size):
    """A random forest with values, priors and visits; a visited node has a visited parent."""
    forest = Forest.from_parents(oracle("forest.py", "random_parents")(*size))
    rng = np.random.default_rng(size[0])
    own = rng.integers(0, 3, forest.n_leaves)
    visits = rm.ops.up(forest, own.astype(float), how="sum").astype(np.int64)
    return forest, rng.normal(size=forest.n_nodes), visits, rng.random(forest.n_nodes)


def renumbered(forest, columns, size):
    to = np.random.default_rng(size[0]).permutation(forest.n_nodes)
    turned = np.empty_like(to)
    turned[to] = np.where(forest.parents < 0, -1, to[forest.parents])
    other = [np.empty_like(x) for x in columns]
    for new, old in zip(other, columns, strict=True):
        new[to] = old
    return Forest.from_parents(turned), other, to


def test_the_vector(vectors):
    v = vectors("structured")["puct"]
    n, q, p = ([6, *v["N"]], [0.5, *v["Q"]], [1.0, *v["P"]])
    forest = Forest.from_parents(STAR)
    for above in ("parent", "siblings"):
        assert uct(forest, q, n, c=v["c"], parent_visits=above).round(6).tolist() == [0.0, *v["uct"]]
        assert puct(forest, q, n, p, c=v["c"], parent_visits=above).round(6).tolist() == [0.0, *v["puct"]]


def test_the_frontier_by_hand():
    forest = Forest.from_parents([-1, 0, 0, 1, 2])
    got = frontier_score(forest, [0.0, 0.5, -0.5, 1.0, -1.0])
    depth = 0.01 * math.sqrt(2 / 64)
    expected = [0, 0.01 / 8, 0.01 / 8, 0.4 * math.tanh(0.5) + depth, depth - 0.4 * math.tanh(0.5)]
    np.testing.assert_allclose(got, expected, rtol=1e-15)


@given(SIZES, st.sampled_from(["ucb1", "tree_rl"]), st.sampled_from(["parent", "siblings"]), st.booleans())
def test_uct_against_the_oracle(oracle, tolerance, size, form, above, given_score):
    forest, values, visits, _ = draw(oracle, size)
    options = {"form": form, "parent_visits": above, "unvisited": 7.0 if given_score else None, "c": 0.7}
    expected = oracle("tree/search.py", "uct")(forest.parents, values, visits, **options)
    for dtype in (np.float64, np.float32):
        got = uct(forest, values.astype(dtype), visits, **options)
        assert got.dtype == dtype
        rounded = oracle("tree/search.py", "uct")(forest.parents, values.astype(dtype), visits, **options)
        np.testing.assert_allclose(got, rounded, **tolerance(dtype.__name__))
    np.testing.assert_allclose(uct(forest, values, visits, **options), expected, **tolerance("float64"))


@given(SIZES, st.sampled_from(["parent", "siblings"]), st.sampled_from([None, -1.0, 0.5]))
def test_puct_against_the_oracle(oracle, tolerance, size, above, first):
    forest, values, visits, priors = draw(oracle, size)
    options = {"parent_visits": above, "unvisited_value": first, "c": 1.25}
    got = puct(forest, values, visits, priors, **options)
    expected = oracle("tree/search.py", "puct")(forest.parents, values, visits, priors, **options)
    np.testing.assert_allclose(got, expected, **tolerance("float64"))


@given(SIZES, st.sampled_from([0.0, 0.3]))
def test_the_frontier_against_the_oracle(oracle, tolerance, size, weight):
    forest, values, _, entropies = draw(oracle, size)
    options = {"entropy_weight": weight, "entropies": entropies if weight else None, "max_depth": 9}
    got = frontier_score(forest, values, **options)
    expected = oracle("tree/search.py", "frontier_score")(forest.parents, values, forest.depth, **options)
    np.testing.assert_allclose(got, expected, **tolerance("float64"))


@given(SIZES)
def test_renumbering_changes_no_bit(oracle, same_bits, size):
    forest, *columns = draw(oracle, size)
    other, (values, visits, priors), to = renumbered(forest, columns, size)
    for above in ("parent", "siblings"):
        same_bits(uct(other, values, visits, parent_visits=above)[to], uct(forest, *columns[:2], parent_visits=above))
        same_bits(
            puct(other, values, visits, priors, parent_visits=above)[to], puct(forest, *columns, parent_visits=above)
        )
    same_bits(frontier_score(other, values)[to], frontier_score(forest, columns[0]))


@given(SIZES)
def test_laws(oracle, size):
    forest, values, visits, priors = draw(oracle, size)
    below = forest.parents >= 0
    seen = below & (visits > 0)
    # A shift of all values shifts all scores; without exploration the value is the score.
    np.testing.assert_allclose(uct(forest, values + 3, visits)[seen], uct(forest, values, visits)[seen] + 3, rtol=1e-12)
    assert np.array_equal(uct(forest, values, visits, c=0.0)[seen], values[seen])
    assert np.array_equal(puct(forest, values, visits, priors, c=0.0)[below], values[below])
    assert np.isposinf(uct(forest, values, visits)[below & (visits == 0)]).all()
    assert not uct(forest, values, visits)[~below].any()


def test_unvisited_nodes():
    forest, visits = Forest.from_parents(STAR), [1, 1, 0, 0]
    nan = math.nan
    assert uct(forest, [nan, 0.5, nan, nan], visits).tolist() == [0.0, 0.5, math.inf, math.inf]
    assert uct(forest, [nan, 0.5, nan, nan], visits, unvisited=9).tolist() == [0.0, 0.5, 9.0, 9.0]
    assert uct(forest, [nan, 0.5, nan, nan], visits, form="tree_rl", unvisited=9)[2] == 9.0
    got = uct(forest, [0.0] * 4, visits, form="tree_rl", c=1.0)[2]
    assert got == pytest.approx(0.5 + math.sqrt(math.log(2) / 1e-10), rel=1e-12)
    assert uct(forest, [0.0] * 4, [0] * 4, form="tree_rl").tolist() == pytest.approx([0, 0.5, 0.5, 0.5])
    got = puct(forest, [nan, 0.5, nan, nan], visits, [0, 0.5, 0.25, 0.25], unvisited_value=-1.0)
    assert got.tolist() == [0.0, 0.75, -0.75, -0.75]
    # Nothing was visited: values alone, and no error.
    assert puct(forest, [nan, 0.5, 0.0, 0.25], [0] * 4, [nan, 1.0, 0.0, 0.0]).tolist() == [0.0, 0.5, 0.0, 0.25]


def test_empty_forests_and_kinds():
    empty = Forest.from_parents([])
    assert [f.shape for f in (uct(empty, [], []), puct(empty, [], [], []), frontier_score(empty, []))] == [(0,)] * 3
    torch = pytest.importorskip("torch")
    forest = Forest.from_parents(STAR)
    got = uct(forest, torch.tensor([0, 1, 0, 0], dtype=torch.bfloat16), torch.tensor([3, 1, 1, 1]))
    assert got.dtype == torch.float32
    assert uct(forest, [0, 1, 0, 0], [3.0, 1.0, 1.0, 1.0]).dtype == np.float64
    with pytest.raises(ValueError, match=r"puct\(\): 'priors' requires grad"):
        puct(forest, [0.0] * 4, [1] * 4, torch.ones(4, requires_grad=True))


def test_wrong_calls():
    forest, q, n, p = Forest.from_parents(STAR), [0.0] * 4, [3, 1, 1, 1], [0.25] * 4
    cases = [
        (
            lambda: uct(forest, [0.0], n),
            ValueError,
            r"uct\(\): 'values' must have length 4 \(= forest.n_nodes\), got 1",
        ),
        (lambda: uct(forest, q, [1]), ValueError, r"uct\(\): 'visits' must have length 4 \(= forest.n_nodes\), got 1"),
        (
            lambda: uct(forest, q, [3, 1, -1, 1]),
            ValueError,
            r"'visits' must be whole numbers of at least 0, got -1 at index 2",
        ),
        (
            lambda: uct(forest, q, [3, 1, 0.5, 1]),
            ValueError,
            r"'visits' must be whole numbers of at least 0, got 0.5 at",
        ),
        (
            lambda: puct(forest, q, [0, 0, 1, 1], p),
            ValueError,
            r"puct\(\): 'visits' must include .*, but node 2 was visited, and node 0 above it was not; choose parent_v",
        ),
        (lambda: uct(forest, [0, 0, math.inf, 0], n), ValueError, r"'values' must be finite, got inf at node 2"),
        (lambda: uct(forest, q, n, c=-1), ValueError, r"uct\(\): 'c' must be finite and not negative, got -1"),
        (lambda: uct(forest, q, n, form="uct"), ValueError, r"'form' must be one of 'ucb1', 'tree_rl', got 'uct'"),
        (
            lambda: uct(forest, q, n, unvisited=math.nan),
            ValueError,
            r"uct\(\): 'unvisited' must be a number, got nan",
        ),
        (
            lambda: uct(forest, q, n, unvisited="inf"),
            TypeError,
            r"'unvisited' must be a number, got an object of type str",
        ),
        (
            lambda: uct(forest, q, n, parent_visits="sum"),
            ValueError,
            r"'parent_visits' must be one of 'parent', 'siblings', got 'sum'",
        ),
        (
            lambda: puct(forest, q, n, [0, 0.5, -0.1, 0]),
            ValueError,
            r"puct\(\): 'priors' must be finite and not negative, got -0.1 at node 2",
        ),
        (lambda: puct(forest, q, n, [1.0]), ValueError, r"puct\(\): 'priors' must have length 4"),
        (lambda: puct(forest, [0, math.nan, 0, 0], n, p), ValueError, r"'values' must be finite, got nan at node 1"),
        (
            lambda: puct(forest, q, n, p, unvisited_value=math.nan),
            ValueError,
            r"puct\(\): 'unvisited_value' must be finite, got nan",
        ),
        (
            lambda: frontier_score(forest, [math.nan, 0, 0, 0]),
            ValueError,
            r"frontier_score\(\): 'values' must be finite, got nan at node 0",
        ),
        (
            lambda: frontier_score(forest, q, entropy_weight=1.0),
            ValueError,
            r"frontier_score\(\): 'entropies' are missing with entropy_weight=1; give both or neither",
        ),
        (
            lambda: frontier_score(forest, q, entropies=q),
            ValueError,
            r"frontier_score\(\): 'entropies' count for nothing with entropy_weight=0; give both or neither",
        ),
        (
            lambda: frontier_score(forest, q, entropies=[0, 0, 0, math.nan], entropy_weight=1.0),
            ValueError,
            r"'entropies' must be finite, got nan at node 3",
        ),
        (lambda: frontier_score(forest, q, max_depth=0), ValueError, r"'max_depth' must be at least 1, got 0"),
        (
            lambda: frontier_score(forest, q, depth_weight=math.inf),
            ValueError,
            r"'depth_weight' must be finite, got inf",
        ),
        (
            lambda: uct([-1], q, n),
            TypeError,
            r"uct\(\): 'forest' must be a rollmath.Forest, got an object of type list",
        ),
        (lambda: puct(None, q, n, p), TypeError, r"puct\(\): 'forest' must be a rollmath.Forest"),
        (lambda: frontier_score(None, q), TypeError, r"frontier_score\(\): 'forest' must be a rollmath.Forest"),
    ]
    for call, error, message in cases:
        with pytest.raises(error, match=message):
            call()

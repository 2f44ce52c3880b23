"""Soft values and ER-PRM: the vectors, the oracles, and that they are one thing for 0/1 rewards."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Forest
from rollmath.tree import er_prm, soft_values

SIZES = st.tuples(st.integers(0, 2**32), st.integers(1, 40))
BETAS = st.sampled_from([0.0, 1e-3, 0.5, 2.0, 1e6, math.inf])


def draw(oracle, size):
    forest = Forest.from_parents(oracle("forest.py", "random_parents")(*size))
    rng = np.random.default_rng(size[0])
    values = [0.0, 1.0] if size[0] % 2 else rng.normal(size=5)
    return forest, rng.choice(values, forest.n_leaves)


def test_the_vectors(vectors):
    v = vectors("structured")
    f1 = v["F1"]
    forest = Forest.from_parents(f1["parent"])
    rewards = [f1["leaf_reward"][f1["names"][v]] for v in forest.leaves]
    assert soft_values(forest, rewards, over="children").round(6).tolist() == f1["lme_children_b05"]
    assert soft_values(forest, rewards).round(6).tolist() == f1["lme_leaves_b05"]
    # A*-PO's value of eight rewards, which is ER-PRM's of their success rate.
    one = v["vstar"]
    star = Forest.from_parents([-1] + [0] * 8)
    assert soft_values(star, one["r"], beta=one["beta"])[0].round(7) == one["V"]
    assert er_prm([0.25], c=1 / one["beta"])[0].round(7) == one["V"]
    assert er_prm([0.25, 0.25]).round(6).tolist() == [0.357374] * 2
    assert er_prm([0.25], c=0.1).round(6).tolist() == [0.25953]


@given(SIZES, BETAS, st.sampled_from(["leaves", "children"]), st.sampled_from([np.float64, np.float32]))
def test_against_the_oracle(oracle, tolerance, size, beta, over, dtype):
    forest, rewards = draw(oracle, size)
    rewards = rewards.astype(dtype)
    got = soft_values(forest, rewards, beta=beta, over=over)
    assert got.dtype == dtype
    expected = oracle("tree/soft_values.py", "soft_values")(
        forest.parents, forest.leaves, rewards, beta=beta, over=over
    )
    np.testing.assert_allclose(got, expected, **tolerance(dtype.__name__))


@given(st.lists(st.one_of(st.sampled_from([0.0, 1.0, 0.5]), st.floats(0, 1)), max_size=9), st.floats(-800, 800))
def test_er_prm_against_the_oracle(oracle, tolerance, p, c):
    got = er_prm(np.array(p, dtype=float), c=c)
    np.testing.assert_allclose(got, oracle("tree/soft_values.py", "er_prm")(p, c=c), **tolerance("float64"))


@pytest.mark.parametrize("c", [0.0, 1e-300, 1e-18, 1e-9, -1e-9, 0.3, 1.0, -1.0, 40.0, 700.0, 1e6, -1e6])
def test_er_prm_at_its_ends(oracle, c):
    p = [0.0, 1e-300, 1e-9, 0.25, 1 - 1e-9, 1.0]
    got = er_prm(p, c=c)
    if abs(c) <= 700:
        np.testing.assert_allclose(got, oracle("tree/soft_values.py", "er_prm")(p, c=c), rtol=1e-13, atol=1e-16)
    assert got[0] == 0.0
    assert got[-1] == 1.0
    assert (np.diff(got) >= 0).all()


@given(SIZES, st.sampled_from([0.1, 0.5, 3.0]))
def test_er_prm_is_the_soft_value_of_successes(oracle, size, beta):
    forest, _ = draw(oracle, size)
    correct = np.random.default_rng(size[0]).integers(0, 2, forest.n_leaves)
    rates = rm.ops.up(forest, correct, how="leaf_mean")
    np.testing.assert_allclose(er_prm(rates, c=1 / beta), soft_values(forest, correct, beta=beta), atol=1e-12)
    # And of the root it is A*-PO's.
    group = rm.group.soft_value(correct, forest.rollout_trees, beta=beta)
    roots = forest.roots[[forest.tree[forest.roots].tolist().index(t) for t in forest.rollout_trees.ids]]
    np.testing.assert_allclose(soft_values(forest, correct, beta=beta)[roots], group, atol=1e-12)


@given(SIZES, BETAS, st.sampled_from(["leaves", "children"]))
def test_laws(oracle, size, beta, over):
    forest, rewards = draw(oracle, size)
    got = soft_values(forest, rewards, beta=beta, over=over)
    mean = rm.ops.up(forest, rewards, how="leaf_mean" if over == "leaves" else "mean_of_children")
    assert (got >= mean - 1e-9).all()
    assert (got <= rm.ops.up(forest, rewards, how="max") + 1e-9).all()
    np.testing.assert_allclose(soft_values(forest, rewards + 2, beta=beta, over=over), got + 2, atol=1e-9)
    np.testing.assert_allclose(soft_values(forest, rewards * 3, beta=beta * 3, over=over), got * 3, atol=1e-8)
    assert np.array_equal(got[forest.leaves], rewards)
    same = soft_values(forest, np.full(forest.n_leaves, 0.1), beta=beta, over=over)
    assert (same == 0.1).all()


def test_kinds():
    torch = pytest.importorskip("torch")
    forest = Forest.from_parents([-1, 0, 0])
    assert soft_values(forest, torch.tensor([1, 0])).dtype == torch.float32
    assert soft_values(forest, [True, False]).dtype == np.float64
    assert er_prm(torch.tensor([0.5], dtype=torch.float16)).dtype == torch.float32
    assert er_prm([]).shape == (0,)
    assert soft_values(Forest.from_parents([]), []).shape == (0,)
    with pytest.raises(ValueError, match=r"er_prm\(\): 'success_rates' requires grad"):
        er_prm(torch.ones(2, requires_grad=True))


def test_wrong_calls():
    forest = Forest.from_parents([-1, 0, 0])
    cases = [
        (lambda: soft_values(forest, [1.0]), ValueError, r"'rewards' must have length 2 \(= forest.n_leaves\), got 1"),
        (
            lambda: soft_values(forest, [1.0, math.nan]),
            ValueError,
            "'rewards' must be finite, got nan at index 1; take",
        ),
        (
            lambda: soft_values(forest, [1.0, 0.0], beta=-1),
            ValueError,
            r"'beta' must be at least 0 \(the maximum; inf is",
        ),
        (lambda: soft_values(forest, [1.0, 0.0], beta=math.nan), ValueError, "'beta' must be at least 0 .*, got nan"),
        (lambda: soft_values(forest, [1.0, 0.0], beta=True), TypeError, "'beta' must be a number, got True"),
        (
            lambda: soft_values(forest, [1.0, 0.0], beta="1"),
            TypeError,
            "'beta' must be a number, got an object of type",
        ),
        (
            lambda: soft_values(forest, [1.0, 0.0], over="rollouts"),
            ValueError,
            "'over' must be one of 'leaves', 'child",
        ),
        (lambda: soft_values(None, [1.0, 0.0]), TypeError, "'forest' must be a rollmath.Forest"),
    ]
    for call, error, message in cases:
        with pytest.raises(error, match=r"soft_values\(\): " + message):
            call()
    for p in ([0.5, 1.5], [0.5, -0.1], [0.5, math.nan]):
        with pytest.raises(
            ValueError, match=rf"er_prm\(\): 'success_rates' must be in \[0, 1\], got {p[1]:g} at index 1"
        ):
            er_prm(p)
    for c in (math.inf, math.nan):
        with pytest.raises(ValueError, match=r"er_prm\(\): 'c' must be finite, got"):
            er_prm([0.5], c=c)
    with pytest.raises(TypeError, match=r"er_prm\(\): 'success_rates' must be 1-D"):
        er_prm([[0.5]])

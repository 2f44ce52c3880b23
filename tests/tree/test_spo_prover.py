"""tree.prover_advantage and spo_pav: numbers of the official code, the oracle, and the laws of the formula."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Forest
from rollmath.tree import nonzero_edges, prover_advantage, spo, spo_pav

SIZES = st.tuples(st.integers(0, 2**32), st.integers(1, 50))


def draw(oracle, size):
    forest = Forest.from_parents(oracle("forest.py", "random_parents")(*size))
    rng = np.random.default_rng(size[0])
    return forest, rng.choice([0.0, 1.0] if size[0] % 2 else [0.0, 0.25, 0.3, 1.0], forest.n_leaves)


def test_the_vectors_of_the_official_code(vectors):
    f1 = vectors("structured")["F1"]
    forest = Forest.from_parents(f1["parent"])
    rewards = [f1["leaf_reward"][f1["names"][v]] for v in forest.leaves]
    gain = prover_advantage(forest, rewards)
    assert gain.round(6).tolist() == [0.0, *f1["pav_prover_bo4"][1:]]
    pav = [0.0, 0.88485, 1.302288, -4.30265, 1.3125, -4.6875, 1.061728, 1.061728, -4.938272]
    assert spo_pav(forest, rewards).round(6).tolist() == pav
    # All eight edges are trained on.
    assert nonzero_edges(forest, spo(forest, rewards) + gain).tolist() == [False] + [True] * 8


@given(SIZES, st.integers(1, 6), st.sampled_from([5.0, 0.0, -1.5]), st.sampled_from([np.float64, np.float32]))
def test_against_the_oracle(oracle, tolerance, size, n, prover, dtype):
    forest, rewards = draw(oracle, size)
    rewards = rewards.astype(dtype)
    for call, name, options in (
        (prover_advantage, "prover_advantage", {"n": n}),
        (spo_pav, "spo_pav", {"n": n, "prover": prover}),
    ):
        got = call(forest, rewards, **options)
        expected = oracle("tree/spo_prover.py", name)(forest.parents, forest.leaves, rewards, **options)
        assert got.dtype == dtype
        np.testing.assert_allclose(got, expected, **tolerance(dtype.__name__))


@given(SIZES)
def test_laws(oracle, same_bits, size):
    forest, rewards = draw(oracle, size)
    gain = prover_advantage(forest, rewards)
    value = rm.ops.up(forest, rewards, how="mean_of_children")
    for leaf, reward in zip(forest.leaves, rewards, strict=True):
        path = oracle("forest.py", "path")(forest.parents, leaf)
        best = [1 - (1 - x) ** 4 for x in (reward, value[path[0]])]
        assert gain[path].sum() == pytest.approx(best[0] - best[1], abs=1e-12)
    # The best of one is the policy itself.
    np.testing.assert_allclose(prover_advantage(forest, rewards, n=1), spo(forest, rewards), atol=1e-15)
    # Exactly 0 where the value does not change, so that the filter of A + P is that of A.
    kept = nonzero_edges(forest, spo(forest, rewards) + gain)
    assert np.array_equal(kept, nonzero_edges(forest, spo(forest, rewards)))
    children = forest.parents >= 0
    same_bits(spo_pav(forest, rewards, prover=0.0), np.where(children, value, 0.0))
    to = np.random.default_rng(size[0]).permutation(forest.n_nodes)
    turned = np.empty_like(to)
    turned[to] = np.where(forest.parents < 0, -1, to[forest.parents])
    other, by_node = Forest.from_parents(turned), np.zeros(len(to))
    by_node[to[forest.leaves]] = rewards
    same_bits(prover_advantage(other, by_node[other.leaves])[to], gain)
    same_bits(spo_pav(other, by_node[other.leaves])[to], spo_pav(forest, rewards))


def test_kinds_and_small_forests():
    torch = pytest.importorskip("torch")
    forest = Forest.from_parents([-1, 0, 0])
    got = prover_advantage(forest, torch.tensor([1, 0]), n=1)
    assert (got.dtype, got.tolist()) == (torch.float32, [0.0, 0.5, -0.5])
    assert spo_pav(forest, torch.tensor([1.0, 0.0], dtype=torch.bfloat16)).dtype == torch.float32
    assert spo_pav(forest, [True, False]).dtype == np.float64
    for call in (prover_advantage, spo_pav):
        assert call(Forest.from_parents([]), []).shape == (0,)
        assert call(Forest.from_parents([-1, -1]), [1.0, 0.5]).tolist() == [0.0, 0.0]
        with pytest.raises(ValueError, match=rf"{call.__name__}\(\): 'rewards' requires grad"):
            call(forest, torch.ones(2, requires_grad=True))


@pytest.mark.parametrize("call", [prover_advantage, spo_pav])
def test_errors(call):
    forest = Forest.from_parents([-1, 0, 0])
    for arguments, options, error, message in [
        ((forest, [1.0]), {}, ValueError, r"'rewards' must have length 2 \(= forest.n_leaves\), got 1"),
        (
            (forest, [1.0, 1.5]),
            {},
            ValueError,
            r"'rewards' must be in \[0, 1\], the chance of success, got 1.5 at index 1",
        ),
        ((forest, [-0.1, 1.0]), {}, ValueError, r"'rewards' must be in \[0, 1\], .* got -0.1 at index 0"),
        ((forest, [np.nan, 1.0]), {}, ValueError, r"'rewards' must be in \[0, 1\], .* got nan at index 0"),
        ((forest, [1.0, 0.0]), {"n": 0}, ValueError, "'n' must be at least 1, got 0"),
        ((forest, [1.0, 0.0]), {"n": 4.0}, TypeError, "'n' must be a whole number"),
        (([-1, 0, 0], [1.0, 0.0]), {}, TypeError, "'forest' must be a rollmath.Forest"),
    ]:
        with pytest.raises(error, match=rf"^{call.__name__}\(\): {message}"):
            call(*arguments, **options)
    with pytest.raises(ValueError, match=r"^spo_pav\(\): 'prover' must be finite, got inf"):
        spo_pav(forest, [1.0, 0.0], prover=np.inf)

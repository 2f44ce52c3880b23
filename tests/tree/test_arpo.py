"""tree.arpo_hard, ARPO's branching and what is known of AEPO: vectors, oracles, laws, messages."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Forest
from rollmath.tree import (
    Branching,
    aepo_branch_probability,
    aepo_budget,
    arpo_branch,
    arpo_entropy,
    arpo_hard,
)

#: Options multiply.
MANY = settings(max_examples=max(300, settings().max_examples))
SIZES = st.tuples(st.integers(0, 2**32), st.integers(1, 40))


def draw(oracle, size):
    """A random forest with up to three trees a prompt, and rewards that are 0/1 or real."""
    parents = oracle("forest.py", "random_parents")(*size)
    rng = np.random.default_rng(size[0])
    forest = Forest.from_parents(parents, groups=np.arange((parents < 0).sum()) // int(rng.integers(1, 4)))
    return forest, rng.choice([0.0, 1.0] if size[0] % 2 else rng.normal(size=5), forest.n_leaves)


def test_the_vector(vectors):
    f1 = vectors("structured")["F1"]
    forest = Forest.from_parents(f1["parent"])
    rewards = [f1["leaf_reward"][f1["names"][v]] for v in forest.leaves]
    assert np.round(arpo_hard(forest, rewards), 5).tolist() == pytest.approx(f1["arpo_hard"], abs=5.1e-6)


@MANY
@given(SIZES, st.sampled_from(["zero", "raw"]), st.sampled_from([np.float64, np.float32]))
def test_against_the_oracle(oracle, tolerance, size, singleton, dtype):
    forest, rewards = draw(oracle, size)
    rewards = rewards.astype(dtype)
    got = arpo_hard(forest, rewards, singleton=singleton)
    expected = oracle("tree/arpo.py", "arpo_hard")(
        forest.parents, forest.leaves, rewards, forest.rollout_groups.index, singleton=singleton
    )
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected, **tolerance(dtype.__name__))


@given(SIZES)
def test_hard_and_soft_give_a_shared_step_the_same_sum(oracle, size):
    forest, rewards = draw(oracle, size)
    hard, soft = arpo_hard(forest, rewards), rm.group.grpo(rewards, forest.rollout_groups)
    below = forest.parents >= 0
    sums = rm.ops.up(forest, soft, how="sum")
    np.testing.assert_allclose((hard * forest.leaf_counts)[below], sums[below], atol=1e-11)
    leaf = forest.leaves[forest.parents[forest.leaves] >= 0]
    assert np.array_equal(hard[leaf], soft[forest.parents[forest.leaves] >= 0])


def test_conventions_are_those_of_grpo():
    chain = Forest.from_parents([-1, 0])
    assert arpo_hard(chain, [0.5]).tolist() == [0.0, 0.0]
    assert arpo_hard(chain, [0.5], convention=rm.conventions.VERL).tolist() == [0.0, 0.5 / (1 + 1e-6)]
    with pytest.raises(ValueError, match=r"arpo_hard\(\): .*one valid member"):
        arpo_hard(chain, [0.5], singleton="raise")
    assert not arpo_hard(Forest.from_parents([-1, 0, 0, 1, 1]), [0.1] * 3).any()
    assert arpo_hard(Forest.from_parents([]), []).shape == (0,)


@given(st.integers(0, 2**32), st.integers(0, 6), st.integers(0, 5))
def test_entropy_against_the_oracle(oracle, seed, n, tokens):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(4), (n, tokens))[:, :, :3]
    logprobs = np.where(rng.random(p.shape) < 0.2, -np.inf, np.log(p))
    got = arpo_entropy(logprobs, vocab_size=50)
    assert got == pytest.approx(oracle("tree/arpo.py", "arpo_entropy")(logprobs, vocab_size=50), abs=1e-12)
    # Tokens and candidates are one list, and it is a sum: twice the tokens, twice the entropy.
    assert np.array_equal(arpo_entropy(logprobs.reshape(n, tokens * 3), vocab_size=50), got)
    twice = np.concatenate([logprobs, logprobs], axis=1)
    assert arpo_entropy(twice, vocab_size=50) == pytest.approx(2 * got, abs=1e-12)


def test_entropy_of_one_token_sure_or_not():
    logprobs = [[math.log(0.5)] * 2, [math.log(0.25)] * 2, [0.0, -math.inf]]
    assert arpo_entropy(logprobs, vocab_size=2).tolist() == pytest.approx([1.0, 1.0, 0.0])
    assert not np.signbit(arpo_entropy([[0.0]], vocab_size=2)[0])


@given(st.integers(0, 2**32), st.integers(0, 50), st.floats(0, 1), st.floats(-2, 2))
def test_branching_against_the_oracle(oracle, seed, n, p, w):
    change = np.random.default_rng(seed).normal(size=n)
    got = arpo_branch(change, seed=seed, branch_probability=p, entropy_weight=w)
    scores, branch = oracle("tree/arpo.py", "arpo_branch")(change, seed=seed, branch_probability=p, entropy_weight=w)
    assert isinstance(got, Branching)
    assert (got.scores.tolist(), got.branch.tolist()) == (scores, branch)


def test_the_branching_of_the_notes_by_hand():
    # dH = 0.2, w = 0.2: a draw of 0.45 scores 0.41 and branches, one of 0.6 scores 0.56 and does not.
    draws = np.random.Generator(np.random.PCG64(3)).random(1000)
    scores, branch = arpo_branch(np.full(1000, 0.2), seed=3, entropy_weight=0.2)
    assert np.array_equal(scores, np.clip(draws - 0.2 * 0.2, 0, 1))
    assert np.array_equal(branch, draws <= 0.54 + 1e-15)
    assert abs(branch.mean() - 0.54) < 0.05
    # The same seed, the same draws; the i-th is the i-th branch's own.
    again = arpo_branch(np.full(400, 0.2), seed=3, entropy_weight=0.2)
    assert np.array_equal(again.scores, scores[:400])


@given(st.integers(0, 2**32), st.integers(0, 9), st.floats(-1, 1), st.floats(-2, 2))
def test_aepo_against_the_oracle(oracle, seed, n, alpha, gamma):
    rng = np.random.default_rng(seed)
    change, penalty, other = rng.normal(size=n), rng.random(n), rng.normal(size=n) * 10
    got = aepo_branch_probability(change, penalty, alpha=alpha, gamma=gamma)
    expected = oracle("tree/arpo.py", "aepo_branch_probability")(change, penalty, alpha=alpha, gamma=gamma)
    assert got == pytest.approx(expected, abs=1e-12)
    got = aepo_budget(change, other, k=16, beta=gamma)
    assert got == pytest.approx(oracle("tree/arpo.py", "aepo_budget")(change, other, k=16, beta=gamma), abs=1e-12)
    # What the question does not get, tool results do.
    assert got + aepo_budget(other, change, k=16, beta=gamma) == pytest.approx(np.full(n, 16.0))
    assert aepo_budget([1e6, -1e6], [0.0, 0.0], k=8).tolist() == [8.0, 0.0]


@pytest.mark.filterwarnings("error")
def test_non_finite_numbers():
    forest = Forest.from_parents([-1, 0, 0, 1, 1, -1, 5, 5])
    for bad in (np.nan, np.inf):
        rewards = [1.0, bad, 0.0, 1.0, 0.0]
        with pytest.raises(ValueError, match=rf"arpo_hard\(\): 'rewards' must be finite, got {bad} at index 1"):
            arpo_hard(forest, rewards)
        got = arpo_hard(forest, rewards, nan="propagate")
        assert not np.isfinite(got[1:5]).any()
        assert np.isfinite(got[[0, 5, 6, 7]]).all()
        with pytest.raises(ValueError, match=rf"arpo_entropy\(\): 'logprobs' must be at most 0, got {bad} in row 1"):
            arpo_entropy([[0.0], [bad]], vocab_size=2)
        with pytest.raises(
            ValueError, match=rf"arpo_branch\(\): 'entropy_change' must be finite .*got {bad} at index 1"
        ):
            arpo_branch([0.0, bad], seed=0)
        with pytest.raises(ValueError, match=r"aepo_branch_probability\(\): 'entropy_change' must be finite"):
            aepo_branch_probability([bad], [0.0])
        with pytest.raises(ValueError, match=r"aepo_budget\(\): 'tool_entropy' must be finite"):
            aepo_budget([0.0], [bad], k=2)


def test_torch_and_integers():
    torch = pytest.importorskip("torch")
    half = torch.tensor([[0.0, -1.0]], dtype=torch.bfloat16)
    assert arpo_entropy(half, vocab_size=9).dtype == torch.float32
    assert arpo_entropy(half.double(), vocab_size=9).dtype == torch.float64
    assert arpo_entropy(torch.tensor([[0]]), vocab_size=9).dtype == torch.float32
    assert arpo_entropy(np.zeros((2, 1), np.float32), vocab_size=9).dtype == np.float32
    assert arpo_entropy([[0]], vocab_size=9).dtype == np.float64
    scores, branch = arpo_branch(torch.tensor([0.1, 0.2]), seed=0)
    assert (scores.dtype, branch.dtype) == (torch.float32, torch.bool)
    assert aepo_branch_probability(torch.tensor([0.1]), torch.tensor([0.0])).dtype == torch.float32
    assert aepo_budget(np.float32([0.1]), [0.0], k=2).dtype == np.float32
    leaf = torch.tensor([[0.0]], requires_grad=True)
    for call in (lambda x: arpo_entropy(x, vocab_size=9), lambda x: arpo_branch(x[0], seed=0)):
        with pytest.raises(ValueError, match=r"requires grad"):
            call(leaf)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda f: arpo_hard(f, [1.0, 0.0], convention=rm.conventions.SPO), ValueError, r"no convention for 'grpo'"),
        (
            lambda f: arpo_entropy([0.0], vocab_size=9),
            TypeError,
            r"'logprobs' must have rollouts first and at least 2 d",
        ),
        (
            lambda f: arpo_entropy([["a"]], vocab_size=9),
            TypeError,
            r"'logprobs' must hold floats, ints or bools, got <U1",
        ),
        (lambda f: arpo_entropy([[0.5]], vocab_size=9), ValueError, r"'logprobs' must be at most 0, got 0.5 in row 0"),
        (lambda f: arpo_entropy([[0.0]], vocab_size=1), ValueError, r"'vocab_size' must be at least 2, got 1"),
        (lambda f: arpo_entropy([[0.0]], vocab_size=9.0), TypeError, r"'vocab_size' must be a whole number"),
        (lambda f: arpo_branch([0.0], seed=-1), ValueError, r"arpo_branch\(\): 'seed' must be at least 0, got -1"),
        (lambda f: arpo_branch([0.0], seed=None), TypeError, r"arpo_branch\(\): 'seed' must be a whole number"),
        (
            lambda f: arpo_branch([0.0], seed=0, branch_probability=1.5),
            ValueError,
            r"'branch_probability' must be between 0 and 1, got 1.5",
        ),
        (
            lambda f: arpo_branch([0.0], seed=0, entropy_weight=np.inf),
            ValueError,
            r"'entropy_weight' must be finite, got inf",
        ),
        (
            lambda f: aepo_branch_probability([0.0], [1.5]),
            ValueError,
            r"aepo_branch_probability\(\): 'penalty' must be in \[0, 1\] .*, got 1.5 at index 0",
        ),
        (
            lambda f: aepo_branch_probability([0.0], [0.0, 1.0]),
            ValueError,
            r"'penalty' must have length 1 \(= len\(entropy_change\)\), got 2",
        ),
        (
            lambda f: aepo_branch_probability([0.0], [0.0], alpha=np.nan),
            ValueError,
            r"aepo_branch_probability\(\): 'alpha' must be finite, got nan",
        ),
        (lambda f: aepo_budget([0.0], [0.0, 1.0], k=2), ValueError, r"'tool_entropy' must have length 1"),
        (lambda f: aepo_budget([0.0], [0.0], k=0), ValueError, r"aepo_budget\(\): 'k' must be at least 1, got 0"),
        (lambda f: aepo_budget([0.0], [0.0], k=2, beta="1"), TypeError, r"aepo_budget\(\): 'beta' must be a number"),
    ],
)
def test_wrong_calls(call, error, message):
    with pytest.raises(error, match=message):
        call(Forest.from_parents([-1, 0, 0]))

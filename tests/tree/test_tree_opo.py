"""tree.tree_opo and tree.staged_advantage: hand-checked numbers, formulas written out, and the laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Forest
from rollmath.ops import ProjectionStatus
from rollmath.tree import staged_advantage, tree_opo

SEEDS = st.integers(0, 2**32)
BASELINES = ["expectation", "optimistic", "pessimistic", "none"]
#: "", a, ab, c, ad, ce
FOREST = Forest.from_parents([-1, 0, 1, 0, 1, 3])


def names(status):
    return [ProjectionStatus(s).name for s in status]


def from_texts(texts):
    """Prefixes, one letter a step, that are all present: parents by dropping the last letter."""
    return Forest.from_parents([texts.index(t[:-1]) if t else -1 for t in texts])


def draw(oracle, seed, size=5, graded=True):
    """A random forest, samples of several groups at its nodes, and 0/1 or graded rewards."""
    rng = np.random.default_rng(seed)
    forest = Forest.from_parents(oracle("forest.py", "random_parents")(seed, int(rng.integers(1, 25))))
    ids = rng.permutation(np.repeat(np.arange(8), rng.integers(1, size + 1, 8)))
    # Few places, so that prefixes are shared and siblings meet.
    places = rng.choice(forest.n_nodes, min(forest.n_nodes, 8), replace=False)
    node = rng.choice(places, len(ids))
    rewards = rng.choice([0.0, 1.0] if seed % 2 or not graded else [0.0, 0.1, 0.4, 0.7, 1.0], len(ids))
    return forest, node, rewards, ids


def test_vectors(vectors):
    v = vectors("structured")["tree_opo"]
    forest = from_texts(v["ex1"]["prefixes"])
    assert forest.parents.tolist() == FOREST.parents.tolist()
    for baseline in BASELINES[:3]:
        got = tree_opo(forest, np.arange(6), v["ex1"]["r"], baseline=baseline)
        assert np.round(got, 6).tolist() == v["ex1"][baseline]
    forest = from_texts(["", "a", "ab", "c", "ad"])
    soft = staged_advantage(forest, np.arange(5), v["ex2"]["r"], margin=v["ex2"]["delta"])
    hard = staged_advantage(forest, np.arange(5), v["ex2"]["r"], margin=v["ex2"]["delta"], form="hard")
    np.testing.assert_allclose(soft.advantages, v["ex2"]["soft"], atol=1e-15)
    np.testing.assert_allclose(hard.advantages, v["ex2"]["hard"], atol=1e-6)
    assert names(soft.status) == names(hard.status) == ["SOLVED"]


@given(SEEDS, st.sampled_from(BASELINES), st.sampled_from([np.float64, np.float32]), st.sampled_from([0.5, 1.0, -0.3]))
def test_heuristics_against_the_oracle(oracle, tolerance, seed, baseline, dtype, alpha):
    forest, node, rewards, ids = draw(oracle, seed, size=12)
    rewards = rewards.astype(dtype)
    got = tree_opo(forest, node, rewards, groups=ids, baseline=baseline, alpha=alpha, success=0.4)
    expected = oracle("tree/tree_opo.py", "tree_opo")(
        forest.parents, node, rewards.tolist(), ids, baseline, alpha, np.float64(0.4)
    )
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected, **tolerance(dtype.__name__))


@given(
    SEEDS,
    st.sampled_from(["soft", "hard"]),
    st.sampled_from([0.0, 0.01, 0.3]),
    st.booleans(),
    st.sampled_from(["lower", "higher", "none"]),
    st.booleans(),
)
def test_staged_against_the_oracle(oracle, tolerance, seed, form, margin, pairs, triplets, clause):
    forest, node, rewards, ids = draw(oracle, seed)
    keywords = {"form": form, "margin": margin, "pairs": pairs, "triplets": triplets, "own_success_clause": clause}
    got = staged_advantage(forest, node, rewards, groups=ids, **keywords)
    expected, status = oracle("tree/tree_opo.py", "staged_advantage")(forest.parents, node, rewards, ids, **keywords)
    assert names(got.status) == status
    np.testing.assert_allclose(got.advantages, expected, **tolerance("float64"))


@given(SEEDS, st.sampled_from(["soft", "hard"]), st.sampled_from(["lower", "higher", "none"]), st.booleans())
def test_relations_hold_in_large_groups(oracle, seed, form, triplets, clause):
    forest, node, rewards, ids = draw(oracle, seed, size=40)
    got = staged_advantage(
        forest, node, rewards, groups=ids, form=form, triplets=triplets, own_success_clause=clause, success=0.3
    )
    a = got.advantages
    np.testing.assert_allclose(rm.ops.segment_sum(a, ids), 0, atol=1e-12)
    squares, counts = rm.ops.segment_sum(a * a, ids), rm.ops.segment_count(ids)
    for k, g in enumerate(rm.Groups(ids).ids):
        group = np.flatnonzero(ids == g).tolist()
        relations = oracle("tree/tree_opo.py", "relations")(
            forest.parents, node, rewards, group, True, triplets, clause, 0.3
        )
        assert all(a[j] - a[i] >= 0.01 - 1e-12 for i, j in relations)
        assert squares[k] <= counts[k] + 1e-9
        if form == "hard" and got.status[k] == 0:
            assert squares[k] == pytest.approx(counts[k], rel=1e-13)


@given(SEEDS, st.sampled_from(BASELINES))
def test_shift_permutation_and_renumbering(oracle, seed, baseline):
    forest, node, rewards, ids = draw(oracle, seed, size=12)
    rng = np.random.default_rng(seed)
    got = tree_opo(forest, node, rewards, groups=ids, baseline=baseline)
    staged = staged_advantage(forest, node, rewards, groups=ids)
    np.testing.assert_allclose(rm.ops.segment_sum(got, ids), 0, atol=1e-12)
    if baseline in {"expectation", "none"}:
        shifted = tree_opo(forest, node, rewards + 7, groups=ids, baseline=baseline)
        np.testing.assert_allclose(shifted, got, atol=1e-13)
    shifted = staged_advantage(forest, node, rewards + 7, groups=ids, success=7.5).advantages
    np.testing.assert_allclose(shifted, staged.advantages, atol=1e-13)
    turn = rng.permutation(len(ids))
    np.testing.assert_allclose(tree_opo(forest, node[turn], rewards[turn], groups=ids[turn], baseline=baseline),
                               got[turn], atol=1e-14)  # fmt: skip
    other = staged_advantage(forest, node[turn], rewards[turn], groups=ids[turn])
    np.testing.assert_allclose(other.advantages, staged.advantages[turn], atol=1e-14)
    to = rng.permutation(forest.n_nodes)
    parents = np.empty_like(to)
    parents[to] = np.where(forest.parents < 0, -1, to[forest.parents])
    renamed = Forest.from_parents(parents)
    np.testing.assert_allclose(tree_opo(renamed, to[node], rewards, groups=ids, baseline=baseline), got, atol=1e-14)
    other = staged_advantage(renamed, to[node], rewards, groups=ids)
    np.testing.assert_allclose(other.advantages, staged.advantages, atol=1e-14)


@given(SEEDS, st.sampled_from(BASELINES))
def test_the_order_of_rows_and_other_groups_change_no_bit(oracle, seed, baseline):
    forest, node, _, ids = draw(oracle, seed, size=12)
    rng = np.random.default_rng(seed)
    rewards = rng.normal(size=len(ids)) * 10.0 ** rng.integers(-6, 6, len(ids))
    base = tree_opo(forest, node, rewards, groups=ids, baseline=baseline)
    turn = rng.permutation(len(ids))
    turned = tree_opo(forest, node[turn], rewards[turn], groups=ids[turn], baseline=baseline)
    assert turned.tolist() == base[turn].tolist()
    some = ids < 4
    alone = tree_opo(forest, node[some], rewards[some], groups=ids[some], baseline=baseline)
    assert alone.tolist() == base[some].tolist()


def test_hard_without_binding_relations_is_grpo_of_the_population():
    r = [0.0, 0.0, 1.0, 0.0, 0.0, 1.0]
    hard = staged_advantage(FOREST, np.arange(6), r, form="hard", triplets="none")
    flat = rm.group.grpo(r, [0] * 6, ddof=0, eps=0.0)
    np.testing.assert_allclose(hard.advantages, flat, atol=1e-14)
    soft = staged_advantage(FOREST, np.arange(6), r, triplets="none")
    np.testing.assert_allclose(soft.advantages, np.array(r) - 1 / 3, atol=1e-16)


def test_the_clause_and_the_direction():
    forest, r = from_texts(["", "a", "ab", "c"]), [1, 0, 0, 1]
    # Sample 0 succeeds from a itself; samples 1 (a) and 2 (c) fail; sample 3 succeeds from ab.
    node = [1, 1, 3, 2]
    with_clause = staged_advantage(forest, node, r, margin=0.1)
    assert with_clause.advantages.tolist() == [0.5, -0.5, -0.5, 0.5]
    without = staged_advantage(forest, node, r, margin=0.1, own_success_clause=False)
    np.testing.assert_allclose(without.advantages, [0.5, -0.55, -0.45, 0.5], atol=1e-15)
    turned = staged_advantage(forest, node, r, margin=0.1, own_success_clause=False, triplets="higher")
    np.testing.assert_allclose(turned.advantages, [0.5, -0.45, -0.55, 0.5], atol=1e-15)


def test_pairs_bind_where_the_margin_is_above_the_gap():
    forest = from_texts(["", "a"])
    out = staged_advantage(forest, [0, 1], [0.4, 0.6], margin=0.5)
    np.testing.assert_allclose(out.advantages, [-0.25, 0.25], atol=1e-16)
    out = staged_advantage(forest, [0, 1], [0.4, 0.6], margin=0.5, pairs=False)
    np.testing.assert_allclose(out.advantages, [-0.1, 0.1], atol=1e-16)
    # The same prefix is no proper extension.
    out = staged_advantage(forest, [1, 1], [0.4, 0.6], margin=0.5)
    np.testing.assert_allclose(out.advantages, [-0.1, 0.1], atol=1e-16)
    out = staged_advantage(forest, [0, 1], [0.0, 1.0], margin=10.0)
    assert (out.advantages.tolist(), names(out.status)) == ([-5.0, 5.0], ["INFEASIBLE"])


@pytest.mark.parametrize("offset", [0.0, 0.1, 1e6 + 0.3])
def test_equal_rewards_are_exactly_zero_and_said_to_be_saturated(offset):
    r = np.full(6, offset)
    for baseline in BASELINES:
        assert not tree_opo(FOREST, np.arange(6), r, baseline=baseline, success=2.0).any()
    assert not tree_opo(FOREST, np.arange(6), r).any()
    soft, hard = (staged_advantage(FOREST, np.arange(6), r, form=f) for f in ("soft", "hard"))
    assert not soft.advantages.any()
    assert not hard.advantages.any()
    assert (names(soft.status), names(hard.status)) == (["SOLVED"], ["SATURATED"])


def test_groups_are_prompts_unless_told_otherwise():
    parents = [-1, 0, 0, -1, 3, 3]
    apart, together = Forest.from_parents(parents), Forest.from_parents(parents, groups=["p", "p"])
    node, r = [0, 1, 2, 3, 4, 5], [0, 1, 0, 1, 1, 1]
    assert tree_opo(apart, node, r, baseline="none")[3:].tolist() == [0, 0, 0]
    np.testing.assert_allclose(tree_opo(together, node, r, baseline="none"), np.array(r) - 4 / 6)
    assert len(staged_advantage(apart, node, r).status) == 2
    assert len(staged_advantage(together, node, r).status) == 1
    # A group of its own for each pair of samples: prefixes of other groups do not count.
    got = tree_opo(apart, node, r, groups=[0, 0, 1, 1, 2, 2])
    assert got[:2].tolist() == [-0.375, 0.375]
    assert got[4:].tolist() == [0, 0]


def test_a_deep_chain_and_one_wide_group(oracle):
    n = 100_000
    chain = Forest.from_parents(np.arange(-1, n - 1))
    r = np.zeros(n)
    r[-3:] = 1
    got = tree_opo(chain, np.arange(n), r)
    value = 3 / (n - np.arange(n, dtype=float))
    value[-3:] = 1
    np.testing.assert_allclose(got, r - 0.5 * value - (r - 0.5 * value).mean(), atol=1e-12)
    hard = staged_advantage(chain, np.arange(n), r, form="hard")
    assert hard.advantages @ hard.advantages == pytest.approx(n)
    with pytest.raises(
        ValueError, match=r"'groups' have 2500000000 pairs of samples to put in order, more than 671088"
    ):
        staged_advantage(chain, np.arange(n), np.arange(n) >= n // 2)


def test_no_samples_and_groups_of_one():
    empty = Forest.from_parents([])
    for forest in (empty, FOREST):
        assert tree_opo(forest, [], []).shape == (0,)
        assert [a.shape for a in staged_advantage(forest, [], [], form="hard")] == [(0,), (0,)]
    assert tree_opo(FOREST, [2], [0.7]).tolist() == [0.0]
    out = staged_advantage(FOREST, [2], [0.7], form="hard")
    assert (out.advantages.tolist(), names(out.status)) == ([0.0], ["SATURATED"])


def test_torch_and_integers():
    torch = pytest.importorskip("torch")
    r = torch.tensor([0, 0, 1, 0, 0, 1])
    assert tree_opo(FOREST, torch.arange(6), r).dtype == torch.float32
    out = staged_advantage(FOREST, torch.arange(6), r.bfloat16(), form="hard")
    assert (out.advantages.dtype, out.status.dtype) == (torch.float32, torch.uint8)
    assert out.advantages.square().sum().item() == pytest.approx(6, rel=1e-6)
    assert staged_advantage(FOREST, range(6), [True] * 6).advantages.dtype == np.float64
    for function in (tree_opo, staged_advantage):
        with pytest.raises(ValueError, match=rf"{function.__name__}\(\): 'rewards' requires grad"):
            function(FOREST, range(6), torch.ones(6, requires_grad=True))


@pytest.mark.parametrize("function", [tree_opo, staged_advantage])
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"node": [0, 6]}, ValueError, r"'node' must be from 0 to 5 \(a node of the forest\), got 6 at index 1"),
        ({"node": [-1, 0]}, ValueError, r"'node' must be from 0 to 5 \(a node of the forest\), got -1 at index 0"),
        ({"node": [0]}, ValueError, r"'node' must have length 2 \(= len\(rewards\)\), got 1"),
        ({"node": [0.0, 1.0]}, TypeError, "'node' must hold integers, got float64"),
        (
            {"rewards": [0.0, np.nan]},
            ValueError,
            "'rewards' must be finite, got nan at index 1; leave such samples out",
        ),
        ({"rewards": [-np.inf, 0.0]}, ValueError, "'rewards' must be finite, got -inf at index 0; leave such samples"),
        ({"rewards": [[0.0, 1.0]]}, TypeError, "'rewards' must be 1-D, got a 2-D float64 array"),
        ({"groups": [0]}, ValueError, r"'groups' must have length 2 \(= the number of rows\), got 1"),
        ({"success": np.inf}, ValueError, "'success' must be finite, got inf"),
        ({"forest": [-1, 0]}, TypeError, "'forest' must be a rollmath.Forest, got an object of type list"),
    ],
)
def test_wrong_calls(function, change, error, message):
    call = {"forest": FOREST, "node": [0, 1], "rewards": [0.0, 1.0]} | change
    with pytest.raises(error, match=rf"^{function.__name__}\(\): {message}"):
        function(call.pop("forest"), call.pop("node"), call.pop("rewards"), **call)


@pytest.mark.parametrize(
    ("function", "keywords", "error", "message"),
    [
        (tree_opo, {"baseline": "mean"}, ValueError, "'baseline' must be one of 'expectation', 'optimistic', 'pessimi"),
        (tree_opo, {"alpha": "1"}, TypeError, "'alpha' must be a number, got an object of type str"),
        (staged_advantage, {"form": "ball"}, ValueError, "'form' must be one of 'soft', 'hard', got 'ball'"),
        (staged_advantage, {"margin": -1.0}, ValueError, "'margin' must be finite and not negative, got -1.0"),
        (
            staged_advantage,
            {"triplets": True},
            ValueError,
            "'triplets' must be one of 'lower', 'higher', 'none', got T",
        ),
        (staged_advantage, {"pairs": 1}, TypeError, "'pairs' must be True or False, got 1"),
        (staged_advantage, {"own_success_clause": "no"}, TypeError, "'own_success_clause' must be True or False, got"),
    ],
)
def test_wrong_options(function, keywords, error, message):
    with pytest.raises(error, match=rf"^{function.__name__}\(\): {message}"):
        function(FOREST, [0, 1], [0.0, 1.0], **keywords)


def test_rewards_past_what_squares_can_hold():
    with pytest.raises(ValueError, match=r"staged_advantage\(\): 'rewards' must be at most 1e140 in size"):
        staged_advantage(FOREST, [0, 1], [0.0, 1e150])

"""Recipes whose method takes a forest: numbers of nodes at tokens, and which copy of a shared token trains."""

import inspect
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from forest import random_parents  # noqa: E402
from recipe_trees import Trees  # noqa: E402

import rollmath as rm  # noqa: E402
from rollmath import tree  # noqa: E402
from rollmath.recipes import Advantage, Filter, Recipe, get  # noqa: E402
from rollmath.recipes._method import LEVELS  # noqa: E402

SPO = get("spo_tree", kl=False)


def leaf_reward(forest, rewards):
    """``A_i = r_i``."""
    assert len(rewards) == forest.n_leaves
    return np.asarray(rewards) * 1.0


def depth(forest, rewards, groups, *, factor=1.0):
    """``A(v) = factor depth(v)``."""
    assert groups.index.tolist() == forest.rollout_groups.index.tolist()
    return factor * forest.depth


def of(method="tree.spo", level=None, **parts):
    return SPO.replace(advantage=Advantage(method, level=level), **({"shared": "per_rollout", "zeros": "keep"} | parts))


HAND = {"a": [1, 2, 3], "b": [1, 2, 4], "c": [1, 5], "d": [7], "e": [8, 8]}


def hand(**columns):
    rows = rm.Rows(list(HAND), tokens=list(HAND.values()))
    return rows, ["p", "p", "p", "q", "q"], [1.0, 0.0, 0.5, 1.0, 1.0]


def test_by_hand():
    """Token 1 is in all three rollouts of ``p``; below it, [2] is in two, and worth as much as its sibling [5]."""
    rows, groups, rewards = hand()
    batch = SPO.prepare(rewards, groups, rows=rows)
    assert batch.level == "token"
    assert batch.advantages.to_lists() == [[0, 0, 0.5], [0, 0, -0.5], [0, 0], [0], [0, 0]]
    assert rm.Ragged(batch.rows.mask, rows.offsets).to_lists() == [[0, 0, 1], [0, 0, 1], [0, 0], [0], [0, 0]]
    assert batch.metrics["tokens/trained"] == 2
    assert batch.metrics["advantage/nonzero"] == 1
    once = SPO.replace(zeros="keep").prepare([1.0, 0.0, 1.0, 1.0, 1.0], groups, rows=rows)
    assert once.advantages.to_lists() == [[0, -0.25, 0.5], [0, 0, -0.5], [0, 0.25], [0], [0, 0]]
    assert rm.Ragged(once.rows.mask, rows.offsets).to_lists() == [[1, 1, 1], [0, 0, 1], [0, 1], [1], [1, 1]]
    every = of().prepare([1.0, 0.0, 1.0, 1.0, 1.0], groups, rows=rows)
    assert every.advantages.to_lists() == [[0, -0.25, 0.5], [0, -0.25, -0.5], [0, 0.25], [0], [0, 0]]
    assert every.rows is rows
    assert rows.mask is None


def test_the_first_rollout_that_is_kept_trains_what_is_shared():
    rows, groups, _ = hand()
    batch = SPO.replace(truncated="mask", zeros="keep").prepare(
        [1.0, 0.0, 1.0, 1.0, 1.0], groups, rows=rows, truncated=[True, False, False, False, False]
    )
    # The first rollout stays in the statistics.
    assert batch.advantages.to_lists() == [[0, 0, 0], [0, -0.25, -0.5], [0, 0.25], [0], [0, 0]]
    assert rm.Ragged(batch.rows.mask, rows.offsets).to_lists() == [[0, 0, 0], [1, 1, 1], [0, 1], [1], [1, 1]]
    batch = SPO.replace(truncated="exclude", zeros="keep").prepare(
        [1.0, 0.0, 1.0, 1.0, 1.0], groups, rows=rows, truncated=[True, False, False, False, False]
    )
    assert batch.advantages.to_lists() == [[0, 0, 0], [0, -0.5, 0], [0, 0.5], [0], [0, 0]]


@pytest.mark.parametrize("gaps", ["none", "inside", "outside"])
@pytest.mark.parametrize("split", [False, True])
@given(st.integers(0, 10**9), st.integers(1, 24))
def test_every_position_by_a_slow_walk(gaps, split, seed, n):
    made = Trees(seed, n, gaps=gaps, split=split)
    forest = made.forest()
    for shared, zeros, truncated in itertools.product(
        ("once", "per_rollout"), ("keep", "drop"), ("keep", "mask", "exclude")
    ):
        recipe = SPO.replace(shared=shared, zeros=zeros, truncated=truncated)
        batch = recipe.prepare(made.rewards, made.groups, rows=made.rows, forest=forest, truncated=made.truncated)
        kept = np.ones(len(made.groups), bool) if truncated == "keep" else ~made.truncated
        seen = ~made.truncated if truncated == "exclude" else np.ones(len(made.groups), bool)
        values = made.node_values(tree.spo, seen)
        advantages, mask = made.expected(values, kept, shared=shared, zeros=zeros)
        np.testing.assert_allclose(batch.advantages.values, advantages, rtol=0, atol=1e-15)
        trained = np.ones(len(mask), bool) if batch.rows.mask is None else batch.rows.mask != 0
        assert trained.tolist() == mask
        assert batch.metrics["tokens/trained"] == sum(mask)
        assert batch.selection.mask.tolist() == kept.tolist()
        assert batch.metrics["advantage/nonzero"] * max(sum(mask), 1) == pytest.approx(np.count_nonzero(advantages))


@given(st.integers(0, 10**9), st.integers(1, 24))
def test_rollouts_in_another_order_get_the_same(seed, n):
    """Where all copies train, it is the expansion; where one does, there are as many tokens as the nodes have."""
    made = Trees(seed, n)
    forest = made.forest()
    every = of().prepare(made.rewards, made.groups, rows=made.rows, forest=forest)
    by_hand = forest.expand(tree.spo(forest, made.rewards), per="rollout")
    assert every.advantages.to_lists() == by_hand.to_lists()
    once = of(shared="once").prepare(made.rewards, made.groups, rows=made.rows, forest=forest)
    inner = forest.parents >= 0
    assert int(once.rows.trained.sum()) == int(forest.lengths[inner].sum())
    per_node = forest.expand(tree.spo(forest, made.rewards), per="node")
    assert float(once.advantages.values.sum()) == pytest.approx(float(per_node.values.sum()), abs=1e-12)


@given(st.integers(0, 10**9), st.integers(1, 20))
def test_a_method_of_rollouts(seed, n):
    made = Trees(seed, n, gaps="outside", split=True)
    recipe = of(leaf_reward, "rollout")
    batch = recipe.prepare(made.rewards, made.groups, rows=made.rows, forest=made.forest())
    assert batch.level == "rollout"
    assert batch.advantages.tolist() == made.rewards.tolist()
    cut = recipe.replace(truncated="exclude").prepare(
        made.rewards, made.groups, rows=made.rows, forest=made.forest(), truncated=made.truncated
    )
    assert cut.advantages.tolist() == np.where(made.truncated, 0, made.rewards).tolist()
    # It needs no tokens, and no rows.
    bare = rm.Forest.from_parents(made.parents, groups=made.groups_of_trees)
    assert recipe.advantages(made.rewards, made.groups, forest=bare).tolist() == made.rewards.tolist()
    none = recipe.replace(zeros="drop").prepare(made.rewards, made.groups, rows=made.rows, forest=bare)
    assert (none.rows.trained_of_rollout > 0).tolist() == (
        (made.rewards != 0) & (made.rows.trained_of_rollout > 0)
    ).tolist()


def test_a_forest_of_roots_has_as_many_nodes_as_rollouts():
    """The level is declared, and no length tells it: here both are three."""
    rows = rm.Rows([0, 1, 2], [0, 0, 0])
    forest = rm.Forest.from_parents([-1, -1, -1], lengths=[0, 0, 0])
    for level, found in (("node", "token"), ("rollout", "rollout")):
        assert of(leaf_reward, level).prepare([1.0, 2.0, 3.0], [0, 1, 2], rows=rows, forest=forest).level == found


def test_a_function_of_ones_own(same_bits):
    rows, groups, rewards = hand()
    recipe = of(depth, "node", shared="once")
    batch = recipe.replace(advantage=Advantage(depth, {"factor": 2.0}, level="node")).prepare(
        rewards, groups, rows=rows
    )
    assert batch.advantages.to_lists() == [[2, 4, 6], [0, 0, 6], [0, 4], [2], [2, 2]]
    alone = recipe.advantages(np.array(rewards), groups, rows=rows, valid=[True, False, True, True, True])
    assert alone.to_lists() == [[1, 2, 3], [0, 0, 0], [1, 2], [1], [1, 1]]


def test_a_method_whose_options_make_its_level():
    rows, groups, rewards = hand()

    def credit(rule, level):
        advantage = Advantage("tree.credit", {"rule": rule}, level=level)
        return of().replace(advantage=advantage).prepare(rewards, groups, rows=rows).advantages

    expected = of().prepare(rewards, groups, rows=rows).advantages.to_lists()
    assert credit("spo", "node").to_lists() == expected
    forest = rm.Forest.from_sequences(rows.tokens.values, rows.offsets, groups=groups)
    assert credit("tree_grpo", "rollout").tolist() == tree.credit(forest, rewards, "tree_grpo").advantages.tolist()
    with pytest.raises(ValueError, match=r"'level' of the advantage 'tree\.credit' must be 'node', which its options"):
        credit("spo", "rollout")


def test_torch_and_float32():
    rows, groups, rewards = hand()
    expected = SPO.prepare(rewards, groups, rows=rows)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        batch = SPO.prepare(torch.tensor(rewards, dtype=dtype), groups, rows=rows)
        assert batch.advantages.values.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert batch.advantages.values.tolist() == expected.advantages.values.tolist()
    assert SPO.prepare(np.array(rewards, np.float32), groups, rows=rows).advantages.values.dtype == np.float32


PATHS = [["p", 1, 2], ["p", 1, 3], ["p", 4], ["p", 4], ["q", "x"], ["q", "y"], ["q", "x"]]


def test_paths_and_copies():
    """A sampler that must fill its slots repeats a rollout: it enters no statistic, and does not train."""
    tokens = [[1, 2], [1, 1, 2], [1, 2], [1, 2], [3], [3], [3]]
    lengths = [[5, 1, 1], [5, 1, 2], [5, 2], [5, 2], [9, 1], [9, 1], [9, 1]]
    rows, groups = rm.Rows(range(7), tokens=tokens), ["p"] * 4 + ["q"] * 3
    rewards = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0]
    batch = SPO.prepare(rewards, groups, rows=rows, paths=PATHS, path_lengths=lengths)
    # No token is merged for being equal: only the first two rollouts share one.
    assert batch.advantages.to_lists() == [[0.25, 0.5], [0, -0.5, -0.5], [-0.25] * 2, [0, 0], [0.5], [-0.5], [0]]
    assert batch.metrics["rollouts/dropped/copy"] == 2
    assert batch.selection.report.method == "copies of rollouts"
    assert batch.selection.mask.tolist() == [True, True, True, False, True, True, False]
    cut = SPO.replace(truncated="exclude", filter=Filter("mean_band", {"low": 0.4, "high": 0.6})).prepare(
        rewards, groups, rows=rows, paths=PATHS, path_lengths=lengths, truncated=[False, False, True] + [False] * 4
    )
    assert cut.selection.mask.tolist() == [True, True, False, False, True, True, False]
    columns = {"paths": PATHS, "path_lengths": lengths}
    alone = of().advantages(rewards, groups, rows=rows, valid=[True, False] + [True] * 5, **columns)
    assert alone.to_lists() == [[0.5, 0], [0, 0, 0], [-0.5] * 2, [0, 0], [0.5], [-0.5], [0]]
    # For a number a rollout no lengths are needed.
    bare = of(leaf_reward, "rollout").advantages(rewards, groups, paths=PATHS)
    assert bare.tolist() == [1, 0, 0, 0, 1, 0, 0]


def test_rollouts_that_were_sampled_apart():
    rows, groups, rewards = hand()
    recipe = of(shared="once")
    apart = recipe.prepare(rewards, groups, rows=rows, sampled_jointly=["a", "a", "b", "c", "c"])
    forest = rm.Forest.from_sequences(
        rows.tokens.values, rows.offsets, groups=groups, sampled_jointly=["a", "a", "b", "c", "c"]
    )
    given = recipe.prepare(rewards, groups, rows=rows, forest=forest)
    assert (
        apart.advantages.to_lists() == given.advantages.to_lists() == [[0, 0, 0.5], [0, 0, -0.5], [0, 0], [0], [0, 0]]
    )
    assert apart.rows.trained.tolist() == [3, 1, 2, 1, 2]


def test_prefixes_that_rollouts_start_from():
    """Tree-OPO: rollouts belong to nodes of a forest of their own; leaves need none, and inner nodes may have some."""
    forest = rm.Forest.from_parents([-1, 0, 1, 0, 1, 3])
    rewards = [0.0, 0.0, 1.0, 0.0, 0.0, 1.0]
    rows = rm.Rows(range(6), [1, 2, 3, 1, 2, 3])
    recipe = of("tree.tree_opo")
    assert recipe.advantage.takes[:3] == ("forest", "paths", "node")
    batch = recipe.prepare(rewards, [0] * 6, rows=rows, forest=forest, node=range(6))
    assert batch.level == "rollout"
    assert batch.advantages.tolist() == tree.tree_opo(forest, range(6), rewards).tolist()
    cut = [False, True, False, False, False, False]
    out = recipe.replace(truncated="exclude").prepare(
        rewards, [0] * 6, rows=rows, forest=forest, node=np.arange(6), truncated=cut
    )
    alone = tree.tree_opo(forest, [0, 2, 3, 4, 5], [rewards[i] for i in (0, 2, 3, 4, 5)]).tolist()
    assert out.advantages.tolist() == [alone[0], 0.0, *alone[1:]]
    staged = of("tree.staged_advantage").prepare(rewards, [0] * 6, rows=rows, forest=forest, node=range(6))
    assert staged.advantages.tolist() == tree.staged_advantage(forest, range(6), rewards).advantages.tolist()
    halves = recipe.advantages(rewards, [0, 0, 0, 1, 1, 1], forest=forest, node=range(6))
    assert halves[:3].sum() == pytest.approx(0)
    paths = [[""], ["", "a"], ["", "a", "b"], ["", "c"], ["", "a", "d"], ["", "c", "e"]]
    by_path = recipe.prepare(rewards, [0] * 6, rows=rows, paths=paths)
    assert by_path.advantages.tolist() == batch.advantages.tolist()
    # Two that start alike are no copies.
    twice = recipe.advantages([*rewards, 1.0], [0] * 7, paths=[*paths, ["", "a"]])
    np.testing.assert_allclose(twice, tree.tree_opo(forest, [*range(6), 1], [*rewards, 1.0]), atol=1e-15)
    for columns, text in (
        ({"node": range(6)}, "needs 'forest' and 'node', or 'paths'; 'forest' is missing"),
        ({"forest": forest}, "'node' is missing"),
        ({"forest": forest, "paths": paths}, "'paths' say what forest and nodes are; give them, or"),
        ({"paths": paths[:5]}, "'paths' must have length 6"),
        ({"paths": [*paths[:5], []]}, r"prepare\(\): 'paths'"),
    ):
        with pytest.raises(ValueError, match=text):
            recipe.prepare(rewards, [0] * 6, rows=rows, **columns)


def test_filters_drop_whole_trees():
    rows, groups, _ = hand()
    batch = of(shared="once", filter=Filter("nonzero_spread")).prepare([1.0, 0.0, 1.0, 1.0, 1.0], groups, rows=rows)
    assert batch.rows.trained.tolist() == [3, 1, 1, 0, 0]
    assert batch.metrics["rollouts/dropped"] == 2
    none = of(shared="once", filter=Filter("nonzero_spread")).prepare([1.0] * 5, groups, rows=rows)
    assert none.rows.trained.tolist() == [0] * 5
    assert not none.advantages.values.any()


def test_the_gradient_is_that_of_the_edges():
    """By hand: at ratio 1 the derivative of a trained token is minus its advantage, over the number of them."""
    rows, groups, _ = hand()
    batch = SPO.prepare([1.0, 0.0, 1.0, 1.0, 1.0], groups, rows=rows)
    theta = torch.full((11,), -1.0, dtype=torch.float64, requires_grad=True)
    normalizer = rm.loss.Normalizer.local(batch.rows)
    SPO.policy_loss(rm.LogProbs(theta), batch, normalizer=normalizer).loss.backward()
    expected = [0, 0.25, -0.5, 0, 0, 0.5, 0, -0.25, 0, 0, 0]
    assert theta.grad.tolist() == pytest.approx([x / 4 for x in expected])
    # Micro-batches give the same.
    again = torch.full((11,), -1.0, dtype=torch.float64, requires_grad=True)
    for part in ([0, 3], [1], [4, 2]):
        at = np.concatenate([np.arange(*rows.offsets[i : i + 2]) for i in part])
        SPO.policy_loss(rm.LogProbs(again[at]), batch.take(part), normalizer=normalizer).loss.backward()
    assert again.grad.tolist() == pytest.approx(theta.grad.tolist())


def test_as_a_table():
    table = SPO.to_dict()
    assert table["shared"] == "once"
    assert table["zeros"] == "drop"
    assert Recipe.from_dict(table) == SPO
    assert get("spo_tree", advantage={"options": {"edge": "normalized"}}).advantage.options["edge"] == "normalized"
    own = {"method": "recipe_trees:trunk", "level": "node"}
    mine = get("spo_tree", advantage=own)
    assert mine.to_dict()["advantage"] == own | {"convention": "DEFAULT"}
    assert mine.advantage.per_node
    assert Recipe.from_dict(mine.to_dict()) == mine
    changed = of(depth, "node")
    assert "advantage.method  " in SPO.diff(changed)
    assert SPO.diff(changed.replace(shared="once")).count("shared") == 0
    assert "shared       a token that rollouts share trains in every rollout that has it" in changed.explain()


def test_levels_are_those_of_the_functions():
    """What the library says of a method is what it returns."""
    forest = rm.Forest.from_parents(random_parents(5, 30), lengths=np.ones(30, np.int64))
    rewards = np.linspace(0, 1, forest.n_leaves)
    assert forest.n_leaves != forest.n_nodes
    for name, level in LEVELS.items():
        method = getattr(tree, name.removeprefix("tree."))
        given = (forest.leaves, rewards) if "node" in inspect.signature(method).parameters else (rewards,)
        found = method(forest, *given)
        found = found[0] if isinstance(found, tuple) else found
        assert len(found) == (forest.n_nodes if level == "node" else forest.n_leaves), name


ROWS, GROUPS, REWARDS = hand()
STAR = rm.Forest.from_parents([-1, -1, 0, 0, 0, 1, 1], groups=["p", "q"], lengths=[0, 0, 3, 3, 2, 1, 2])


def prepare(recipe=SPO, rows=ROWS, groups=GROUPS, **columns):
    return recipe.prepare(REWARDS, groups, rows=rows, **columns)


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda: prepare(forest=STAR.parents), TypeError, "'forest' must be a rollmath.Forest"),
        (lambda: prepare(forest=rm.Forest.from_parents([-1, 0, 0])), ValueError,
         r"'forest' must have 5 rollouts \(= len\(groups\)\), got 2"),
        (lambda: prepare(forest=STAR, groups=["p", "p", "q", "q", "q"]), ValueError,
         r"the groups of the rollouts, but rollout 2, here in group 'q', is with others there; .*groups=...\)"),
        (lambda: prepare(forest=rm.Forest.from_parents(STAR.parents, groups=["p", "q"])), ValueError,
         "'forest' must know the number of tokens of each node; make it with lengths="),
        (lambda: prepare(forest=rm.Forest.from_parents(STAR.parents, groups=["p", "q"], lengths=[0, 0, 3, 4, 2, 1, 2])),
         ValueError, "tokens of the rows, but its rollout 1 has 4 and 'b' has 3 positions, 3 of them trained; tokens"),
        (lambda: prepare(forest=STAR, sampled_jointly=True), ValueError, "'sampled_jointly' is for a forest that is"),
        (lambda: prepare(rows=rm.Rows(list(HAND), [3, 3, 2, 1, 2])), ValueError,
         r"needs 'forest', or 'rows' with tokens to make it of \(Rows\(..., tokens=...\)\); pass forest="),
        (lambda: prepare(rows=rm.Rows([*HAND, "a"], tokens=[*HAND.values(), [1]])), ValueError,
         "'rows' must have one row a rollout where the forest is made of their tokens, got 6 rows of 5 rollouts"),
        (lambda: SPO.advantages(REWARDS, GROUPS, forest=STAR), ValueError, "needs 'rows', whose tokens are those of"),
        (lambda: SPO.advantages(REWARDS, GROUPS), ValueError, "needs 'forest', or 'rows' with tokens"),
        (lambda: prepare(of(lambda forest, rewards: rewards[:-1], "rollout")), ValueError,
         "must give one number a rollout, 5, got .* of length 4"),
        (lambda: prepare(of(lambda forest, rewards: rewards, "node")), ValueError,
         "must give one number a node of the forest, 9, got .* of length 5"),
        (lambda: prepare(get("grpo", kl=False), forest=STAR), TypeError, "unexpected column 'forest'"),
        (lambda: prepare(forest=STAR, paths=PATHS[:5]), ValueError, "'forest' and 'paths' both say what the forest is"),
        (lambda: prepare(path_lengths=[[1]] * 5), ValueError, "'path_lengths' are those of 'paths'; give both"),
        (lambda: prepare(paths=[["p"]] * 3), ValueError, "'paths' must have length 5"),
        (lambda: prepare(paths=[[]] * 5), ValueError, r"prepare\(\): 'paths'"),
        (lambda: prepare(paths=[["p"]] * 3 + [["q"]] * 2, path_lengths=[[1]] * 5), ValueError, "tokens of the rows"),
        (lambda: prepare(paths=[["p"]] * 3 + [["q"]] * 2, path_lengths=[[-1]] * 5), ValueError, "'path_lengths' must"),
        (lambda: Advantage(depth), ValueError, "'level' must be given, 'node' or 'rollout': what .*:depth'"),
        (lambda: Advantage(depth, level="token"), ValueError, "'level' must be.*got 'token'"),
        (lambda: Advantage("tree.spo", level="rollout"), ValueError,
         r"'level' must be 'node' \(= what 'tree.spo' gives one number of\), got 'rollout'"),
        (lambda: Advantage("group.grpo", level="rollout"), ValueError,
         "'level' is for methods with a parameter 'forest', and 'group.grpo' has none"),
        (lambda: Advantage(lambda forest, rewards, rows: 0, level="node"), TypeError, "takes a forest and 'rows'"),
        (lambda: get("grpo", shared="once"), ValueError, "'shared' must be 'per_rollout' for 'group.grpo': only"),
        (lambda: of(leaf_reward, "rollout", shared="once"), ValueError, "'shared' must be 'per_rollout' for"),
        (lambda: get("grpo", zeros="mask"), ValueError, "'zeros' must be"),
        (lambda: get("grpo", shared="all"), ValueError, "'shared' must be"),
        (lambda: Advantage("tree.nonzero_edges"), ValueError, "'level' must be given"),
        (lambda: Advantage("tree.spoo"), ValueError, "one of 'tree.spo'"),
    ],
)  # fmt: skip
def test_errors(call, kind, text):
    with pytest.raises(kind, match=text):
        call()

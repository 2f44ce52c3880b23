"""Recipes whose method takes steps: the table of steps, and which tokens are a turn."""
# ruff: noqa: E501 - a message in a line

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from recipe_episodes import LAYOUTS, Episodes, salt  # noqa: E402

import rollmath as rm  # noqa: E402
from rollmath import graph, group  # noqa: E402
from rollmath.recipes import Advantage, Filter, Recipe, get  # noqa: E402

GIGPO, HGPO, SALT = (get(name, kl=False) for name in ("gigpo", "hgpo", "salt"))
CASES = [
    (GIGPO, graph.gigpo, {}),
    (HGPO, graph.hgpo, {"convention": rm.conventions.HGPO}),
    (SALT, salt, {}),
]

# Four rollouts of one prompt, by hand: tests/vectors/structured.json has the numbers.
STATES = [["s0", "s1", "s2"], ["s0", "s1", "s3"], ["s0", "s1", "s2", "s4"], ["s0", "s3", "s2"]]
ACTIONS = [["a", "b", "c"], ["a", "d", "e"], ["a", "b", "f", "g"], ["h", "k", "c"]]
REWARDS = [1.0, 0.0, 0.0, 1.0]
MASK = [[1, 0, 1, 1, 0, 1], [1, 0, 1, 0, 1], [1, 0, 1, 0, 1, 0, 1], [0, 1, 0, 1, 0, 1]]
ROWS = rm.Rows(list("wxyz"), mask=MASK)
GROUPS = [0] * 4


def at_turns(values):
    """One number a turn at the tokens of the rows above."""
    out = []
    for mask, numbers in zip(MASK, values, strict=True):
        turn, row = -1, []
        for i, x in enumerate(mask):
            turn += x and not (i and mask[i - 1])
            row.append(numbers[turn] if x else 0.0)
        out.append(row)
    return [x for row in out for x in row]


def prepare(recipe=SALT, rewards=REWARDS, groups=GROUPS, rows=ROWS, **columns):
    return recipe.prepare(rewards, groups, rows=rows, **columns)


def own(steps, rewards, *, factor=1.0):
    """``A_t = factor r_i``."""
    return factor * steps.gather(np.asarray(rewards))


def of(method, **parts):
    return SALT.replace(advantage=Advantage(method, **parts))


def test_by_hand(vectors):
    g = vectors("structured")["G1"]
    batch = prepare(states=STATES, actions=ACTIONS)
    assert batch.level == "token"
    np.testing.assert_allclose(batch.advantages.values, at_turns(g["salt_grpo_h0"]), atol=2e-6)
    rloo = prepare(get(SALT, advantage={"base": "group.rloo"}), states=STATES, actions=ACTIONS)
    third = 2 / 3
    by_hand = [[-third / 3, 0, third], [-third / 3, -third, -third], [-third / 3, 0, -third, -third], [third] * 3]
    np.testing.assert_allclose(rloo.advantages.values, at_turns(by_hand), atol=1e-12)
    # A step is told by its action, too; of states alone none is asked for.
    std = get(GIGPO, advantage={"options": {"scale": "std"}})
    grpo = [0.866024, -0.866024, -0.866024, 0.866024]
    by_hand = [[a + x for x in row] for a, row in zip(grpo, g["gigpo_step_std"], strict=True)]
    np.testing.assert_allclose(prepare(std, states=STATES).advantages.values, at_turns(by_hand), atol=3e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("recipe", "method", "options"), CASES, ids=["gigpo", "hgpo", "salt"])
@given(st.integers(0, 10**9), st.integers(1, 9))
def test_every_position_by_a_slow_walk(layout, recipe, method, options, seed, n):
    made = Episodes(seed, n, layout)
    for truncated, zeros in itertools.product(("keep", "mask", "exclude"), ("keep", "drop")):
        changed = recipe.replace(truncated=truncated, zeros=zeros)
        batch = changed.prepare(
            made.rewards, made.groups, rows=made.rows, truncated=made.truncated, **made.columns("actions")
        )
        kept = np.ones(n, bool) if truncated == "keep" else ~made.truncated
        seen = ~made.truncated if truncated == "exclude" else np.ones(n, bool)
        expected = made.expected(made.values(method, seen, **options), kept)
        # Where every rollout is one row, both are the same.
        of_rows = "rollout" if len(made.rows) == n else "row"
        assert batch.level == (of_rows if layout == "row" else "token")
        values = batch.advantages
        if batch.level != "token":
            values = rm.Ragged(np.repeat(values, made.rows.lengths) * (made.rows.mask != 0), made.rows.offsets)
        np.testing.assert_allclose(values.values, expected, rtol=0, atol=1e-14)
        live = (made.rows.mask != 0) & np.repeat(kept[made.rows.rollouts.index], made.rows.lengths)
        if zeros == "drop":
            live &= np.asarray(expected) != 0
        assert (np.zeros(len(live)) if batch.rows.mask is None else batch.rows.mask).tolist() == live.tolist()


@pytest.mark.parametrize("layout", LAYOUTS)
@given(st.integers(0, 10**9), st.integers(1, 9))
def test_a_table_of_steps_in_any_order(layout, seed, n):
    """The same numbers from a table whose rows are shuffled, and rewards of steps in all their forms."""
    made = Episodes(seed, n, layout)
    rng = np.random.default_rng(seed)
    recipe = get(HGPO, advantage={"options": {"history": 1}})
    lists = recipe.prepare(
        made.rewards, made.groups, rows=made.rows, step_rewards=made.earned, **made.columns()
    ).advantages
    flat = [(i, t, s) for i, states in enumerate(made.states) for t, s in enumerate(states)]
    if any(not states for states in made.states):
        steps = rm.Steps.from_episodes(made.states, groups=made.groups)
        earned = np.array([x for of in made.earned for x in of])
    else:
        # The first step of each rollout in the order of rollouts, the others anywhere.
        order = [at for at, (_, t, _) in enumerate(flat) if t == 0]
        order += rng.permutation([at for at, (_, t, _) in enumerate(flat) if t > 0]).astype(int).tolist()
        trajectory, step, state = zip(*(flat[at] for at in order), strict=True)
        steps = rm.Steps(
            [made.rows.rollouts.ids[i] for i in trajectory], list(state), groups=made.groups, step=np.array(step) * 3
        )
        earned = np.array([made.earned[i][t] for i, t in zip(trajectory, step, strict=True)])
    ragged = steps.by_trajectory(earned)
    for step_rewards in (earned, earned.tolist(), ragged, made.earned, [np.array(x) for x in made.earned]):
        out = recipe.prepare(
            made.rewards, made.groups, rows=made.rows, steps=steps, turns=made.turns, step_rewards=step_rewards
        ).advantages
        assert same(out) == same(lists)
    alone = recipe.advantages(made.rewards, made.groups, steps=steps, step_rewards=ragged)
    np.testing.assert_array_equal(
        alone, graph.hgpo(steps, None, step_rewards=earned, history=1, convention=rm.conventions.HGPO)
    )


def same(x):
    return x.to_lists() if isinstance(x, rm.Ragged) else x.tolist()


def test_actions_are_the_tokens_of_the_turn():
    """The second turns of the first two rollouts are the same tokens, once over two rows; the third's is another."""
    rows = rm.Rows(
        ["a", "a", "b", "c"],
        tokens=[[1, 9, 5], [6], [1, 9, 5, 6], [1, 9, 5, 7]],
        mask=[[1, 0, 1], [1], [1, 0, 1, 1], [1, 0, 1, 1]],
    )
    states, turns = [["x", "y"]] * 3, [[0, -1, 1], [1], [0, -1, 1, 1], [0, -1, 1, 1]]
    batch = prepare(rewards=[1.0, 0.0, 0.0], groups=[0] * 3, rows=rows, states=states, turns=turns)
    up, low = group.grpo([1.0, 0.0, 0.0], [0] * 3)[:2].tolist()
    merged = (up + low) / 2
    expected = [[0, 0, merged], [merged], [0, 0, merged, merged], [0, 0, low, low]]
    np.testing.assert_allclose(batch.advantages.values, np.concatenate(expected), atol=1e-15)
    # A row whose turn has no token, and a rollout that trains nothing: they did what no other did.
    rows = rm.Rows(list("aabb"), tokens=[[1], [2], [1], [2]], mask=[[0], [1], [0], [1]])
    batch = prepare(rewards=[1.0, 0.0], groups=[0, 0], rows=rows, states=[["x", "y"]] * 2, turns="row")
    assert batch.advantages.tolist() == pytest.approx([2**-0.5, 0, -(2**-0.5), 0], rel=1e-5)
    rows = rm.Rows(list("ab"), tokens=[[1, 2], [1, 2]], mask=[[0, 0], [1, 1]])
    batch = prepare(rewards=[1.0, 0.0], groups=[0, 0], rows=rows, states=[["x", "y"], ["x"]])
    assert batch.advantages.to_lists() == [[0, 0], [pytest.approx(-(2**-0.5), rel=1e-5)] * 2]


def test_forms_of_turns():
    rows = rm.Rows(list("ab"), [3, 2])
    columns = {"states": [["x", "y"], ["x"]], "rewards": [1.0, 0.0], "groups": [0, 0], "rows": rows}
    forms = (
        [[0, 0, 1], [0, 0]],
        np.array([0, 0, 1, 0, 0], np.int8),
        rm.Ragged([0, 0, 1, 0, 0], rows.offsets),
        torch.tensor([[0, 0, 1, 7], [0, 0, -1, -1]]),
        np.array([[0, 0, 1], [0, 0]], object),
    )
    for turns in forms:
        batch = prepare(GIGPO, turns=turns, **columns)
        assert batch.advantages.to_lists()[0] == [0.5 + 0.475, 0.5 + 0.475, 0.5]
    objects = np.empty(2, object)
    objects[:] = columns["states"]
    batch = prepare(GIGPO, turns=turns, **columns | {"states": objects})
    assert batch.advantages.to_lists()[0] == [0.5 + 0.475, 0.5 + 0.475, 0.5]


def test_the_base_gets_its_columns_and_the_rollouts_that_take_part():
    base = {"method": "group.stratified", "options": {"blend": 0.5}}
    recipe = get(SALT, advantage={"base": base}, truncated="exclude")
    assert list(recipe.needs) == ["states", "strata", "truncated"]
    strata, cut = [0, 0, 1, 1], [False, False, False, True]
    batch = prepare(recipe, states=STATES, actions=ACTIONS, strata=strata, truncated=cut)
    rollouts = group.stratified(REWARDS[:3], [0] * 3, strata=strata[:3], blend=0.5)
    steps = rm.Steps.from_episodes(STATES[:3], ACTIONS[:3], groups=[0] * 3)
    expected = [*steps.by_trajectory(graph.salt(steps, rollouts)).to_lists(), [0.0] * 3]
    np.testing.assert_allclose(batch.advantages.values, at_turns(expected), atol=1e-15)
    # One that asks for the lengths of the rollouts.
    weighed = prepare(get(SALT, advantage={"base": "group.opo"}), states=STATES, actions=ACTIONS)
    whole = rm.Steps.from_episodes(STATES, ACTIONS, groups=GROUPS)
    opo = group.opo(REWARDS, GROUPS, lengths=[sum(mask) for mask in MASK])
    np.testing.assert_allclose(
        weighed.advantages.values, at_turns(whole.by_trajectory(graph.salt(whole, opo)).to_lists()), atol=1e-15
    )
    both = prepare(get(GIGPO, advantage={"base": "group.rloo"}), states=STATES)
    expected = graph.gigpo(whole, REWARDS, advantages=group.rloo(REWARDS, GROUPS))
    np.testing.assert_allclose(both.advantages.values, at_turns(whole.by_trajectory(expected).to_lists()), atol=1e-15)


def test_columns_of_rollouts_and_of_steps():
    """An outcome for each end; an outcome beside rewards of steps; and both cut to those that take part."""
    outcome, cut = ["won", "lost", "lost", "late"], [False, True, False, False]
    batch = prepare(SALT.replace(truncated="exclude"), states=STATES, actions=ACTIONS, terminal=outcome, truncated=cut)
    seen = [0, 2, 3]
    steps = rm.Steps.from_episodes([STATES[i] for i in seen], [ACTIONS[i] for i in seen], groups=[0] * 3)
    rollouts = group.grpo([REWARDS[i] for i in seen], [0] * 3)
    found = steps.by_trajectory(graph.salt(steps, rollouts, terminal=["won", "lost", "late"])).to_lists()
    expected = [found[0], [0.0] * 3, *found[1:]]
    np.testing.assert_allclose(batch.advantages.values, at_turns(expected), atol=1e-15)
    earned = [[0.5, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, -0.1, 0.0, 0.0], [0.0, 0.0, 1.0]]
    both = prepare(GIGPO.replace(truncated="exclude"), states=STATES, step_rewards=earned, truncated=cut)
    flat = [x for i in seen for x in earned[i]]
    found = graph.gigpo(steps, [REWARDS[i] for i in seen], step_rewards=flat)
    found = steps.by_trajectory(found).to_lists()
    np.testing.assert_allclose(both.advantages.values, at_turns([found[0], [0.0] * 3, *found[1:]]), atol=1e-15)


BAD, COSTS = [[x == "b" for x in row] for row in ACTIONS], [[1.0 + (x == "s1") for x in row] for row in STATES]


@pytest.mark.parametrize(
    ("method", "columns"),
    [
        ("g2po", {"invalid": BAD}),
        ("graphgpo", {"costs": COSTS, "success": [True, False, False, True]}),
        ("graft", {"values": COSTS}),
        ("rewardflow", {}),
        ("step_reinforce", {"step_rewards": COSTS}),
        ("step_returns", {}),
        ("gigpo_step", {}),
    ],
)
@pytest.mark.parametrize("out", [None, 1])
def test_other_methods_and_their_columns(method, columns, out):
    """None of them asks for actions; what has one number a step is cut with the steps."""
    recipe = of(f"graph.{method}")
    seen = [i for i in range(4) if i != out]
    keep = np.array([i != out for i in range(4)])
    whole = rm.Steps.from_episodes(STATES, groups=GROUPS)
    rollouts = {name: x for name, x in columns.items() if name == "success"}
    per_step = {name: np.concatenate([x[i] for i in seen]) for name, x in columns.items() if name not in rollouts}
    given = {name: np.array(x)[seen] for name, x in rollouts.items()} | per_step
    rewards = None if method == "step_reinforce" else np.array(REWARDS)[seen]
    given |= {} if method == "step_returns" else {"convention": rm.conventions.DEFAULT}
    steps = whole.take(keep)
    found = iter(steps.by_trajectory(getattr(graph, method)(steps, rewards, **given)).to_lists())
    expected = at_turns([next(found) if i != out else [0.0] * len(x) for i, x in enumerate(STATES)])
    flat = {name: np.concatenate(x) for name, x in columns.items() if name in per_step}
    for form in ({"states": STATES} | columns, {"steps": whole} | columns | flat, {"steps": whole} | columns):
        valid = {} if out is None else {"valid": keep}
        values = recipe.advantages(REWARDS, GROUPS, rows=ROWS, **form, **valid)
        np.testing.assert_allclose(values.values, expected, atol=1e-15)


def test_a_function_of_ones_own():
    batch = prepare(of(own, options={"factor": 2.0}), states=STATES, actions=ACTIONS)
    assert batch.advantages.values.tolist() == at_turns([[2.0] * 3, [0.0] * 3, [0.0] * 4, [2.0] * 3])

    def everything(steps, advantages, rewards, groups, *, outcome, **more):
        assert groups is steps.trajectory_groups
        assert sorted(more) == ["extra"]
        assert outcome == ["w", "l", "l", "w"]
        return steps.gather(np.asarray(advantages) + np.asarray(rewards)), "a report"

    recipe = of(everything, base=Advantage("group.stratified"))
    assert list(recipe.needs) == ["states", "outcome", "strata"]
    batch = prepare(recipe, states=STATES, actions=ACTIONS, outcome=list("wllw"), extra=[1, 2, 3, 4], strata=[0] * 4)
    assert batch.advantages.values[0] == pytest.approx(1 + group.grpo(REWARDS, GROUPS)[0])
    text = recipe.explain()
    assert "of group.stratified. " in text
    assert "advantage.base.method" in recipe.diff(SALT)
    assert "advantage.base.options.blend" in get(SALT, advantage={"base": {
        "method": "group.stratified", "options": {"blend": 0.5}}}).diff(SALT)  # fmt: skip


def test_torch_and_float32():
    expected = prepare(GIGPO, states=STATES, step_rewards=[[0.0, 0, 1], [0.0, 0, 0], [0.0, 0, 0, 0], [0.0, 0, 1]])
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        earned = rm.Ragged(torch.tensor([0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], dtype=dtype), [0, 3, 6, 10, 13])
        for step_rewards in (earned, earned.to_lists()):
            batch = prepare(GIGPO, torch.tensor(REWARDS, dtype=dtype), states=STATES, step_rewards=step_rewards)
            assert batch.advantages.values.dtype == wide
            np.testing.assert_allclose(batch.advantages.values, expected.advantages.values, atol=1e-7)
        rows = rm.Rows([i for i, x in enumerate(STATES) for _ in x], [1] * 13)
        batch = prepare(
            SALT, torch.tensor(REWARDS, dtype=dtype), rows=rows, states=STATES, actions=ACTIONS, turns="row"
        )
        assert (batch.level, batch.advantages.dtype) == ("row", wide)
    assert prepare(SALT, np.array(REWARDS, np.float32), states=STATES, actions=ACTIONS).advantages.values.dtype == (
        np.float32
    )


def test_filters_and_nothing_at_all():
    recipe = SALT.replace(filter=Filter("nonzero_spread"))
    groups = [0, 0, 1, 1]
    batch = prepare(recipe, [1.0, 0.0, 1.0, 1.0], groups, states=STATES, actions=ACTIONS)
    assert batch.rows.trained.tolist() == [4, 3, 0, 0]
    assert not batch.advantages.values[11:].any()
    none = prepare(recipe, [1.0] * 4, groups, states=STATES, actions=ACTIONS)
    assert not none.advantages.values.any()
    assert none.rows.trained.tolist() == [0] * 4
    empty = rm.Rows([], [])
    assert len(prepare(GIGPO, [], [], rows=empty, states=[]).advantages.values) == 0
    # Steps that nobody took.
    idle = rm.Rows([0, 1], [2, 2], mask=[0, 0, 0, 0])
    assert prepare(GIGPO, [1.0, 0.0], [0, 0], rows=idle, states=[[], []]).advantages.values.tolist() == [0] * 4


def test_as_a_table():
    table = SALT.to_dict()["advantage"]
    assert table == {
        "method": "graph.salt",
        "convention": "DEFAULT",
        "base": {"method": "group.grpo", "convention": "DEFAULT"},
    }
    own = rm.Convention(ddof=0)
    made = SALT.replace(
        advantage=Advantage("graph.salt", base=Advantage("group.grpo", {"scale": "none"}, convention=own))
    )
    assert Recipe.from_dict(made.to_dict()) == made
    assert made.advantage.start.rules == own
    assert get({"recipe": "salt", "advantage": {"base": {"options": {"scale": "none"}}}}).advantage.start == Advantage(
        "group.grpo", {"scale": "none"}
    )
    assert get("salt", advantage={"base": {"method": "group.rloo"}}).advantage.start == Advantage("group.rloo")
    assert hash(made) == hash(Recipe.from_dict(made.to_dict()))
    assert "of group.rloo. " in get("salt", advantage={"base": "group.rloo"}).explain()
    assert (
        "[changed: base.options.scale was not there]"
        in get("salt", advantage={"base": {"options": {"scale": "none"}}}).explain()
    )


WHOLE = rm.Steps.from_episodes(STATES, ACTIONS, groups=GROUPS)
NAMED = rm.Steps(list("xwyz"), list("abcd"), groups=GROUPS)


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (prepare, ValueError,
         r"recipe 'salt' needs 'states' \(one list a rollout, what the agent saw .* or steps=, a rollmath.Steps"),
        (lambda: SALT.advantages(REWARDS, GROUPS), ValueError, "recipe 'salt' needs 'states'"),
        (lambda: prepare(steps=WHOLE, states=STATES), ValueError, "'steps' and 'states' both say what the steps are"),
        (lambda: prepare(steps=WHOLE, actions=ACTIONS), ValueError, "'steps' and 'actions' both say what the steps"),
        (lambda: prepare(steps=STATES), TypeError, r"prepare\(\): 'steps' must be a rollmath.Steps, got"),
        (lambda: prepare(steps=WHOLE.take([True] * 3 + [False])), ValueError, r"'steps' must have 4 trajectories \(= le"),
        (lambda: prepare(steps=NAMED, turns="row"), ValueError,
         "'steps' must have its trajectories in the order of rows.rollouts.ids, but number 0 is 'x' there and 'w' in"),
        (lambda: prepare(steps=WHOLE, rows=rm.Rows([1, 0, 2, 3], mask=MASK)), ValueError,
         "number 0 is 0 there and 1 in the rows; if these are places, not ids, pass states= and actions= instead"),
        (lambda: prepare(steps=WHOLE, groups=["p", "p", "p", "q"]), ValueError,
         "'steps' must have the groups of the rollouts, but rollout 3, here in group 'q', is in 0 there, with others"),
        (lambda: prepare(states=STATES[:3]), ValueError, r"'states' must have one list a rollout, 4 \(= len\(groups\)\)"),
        (lambda: prepare(states=STATES, actions=3), TypeError, "'actions' must have one list a rollout, 4"),
        (lambda: prepare(GIGPO, states=["abc", "abc", "abcd", "abc"]), TypeError,
         r"prepare\(\): 'states' must hold one list a trajectory, got .* at index 0"),
        (lambda: prepare(states=STATES, actions=[*ACTIONS[:3], ["h"]]), ValueError,
         r"prepare\(\): 'states' must have as many elements as 'actions' in every episode"),
        (lambda: prepare(states=STATES), ValueError,
         r"needs 'actions' \(one list a rollout, what the agent did at each of its steps\), or 'rows' with tokens"),
        (lambda: SALT.advantages(REWARDS, GROUPS, states=STATES), ValueError, "needs 'actions', one list a rollout, wh"),
        (lambda: GIGPO.advantages(REWARDS, GROUPS, states=STATES, turns="row"), ValueError, "'turns' are those of the"),
        (lambda: prepare(GIGPO, states=[*STATES[:3], ["s0"]]), ValueError,
         "'states' must have one step a turn, but rollout 'z' has 1 steps and 3 trained runs of tokens; where turns t"),
        (lambda: prepare(steps=WHOLE, turns="row"), ValueError,
         "'steps' must have one step a turn, but rollout 'w' has 3 steps and 1 rows; turns='row' says that each row"),
        (lambda: prepare(states=[*STATES[:3], ["s0"]], rows=rm.Rows(list("wxyz"), mask=MASK, tokens=MASK)), ValueError,
         "'states' must have one step a turn, but rollout 'z' has 1 steps and 3 trained"),
        (lambda: prepare(steps=WHOLE, turns="turn"), ValueError, "'turns' must be 'run', 'row' or numbers of turns, one"),
        (lambda: prepare(steps=WHOLE, turns=[0, 1]), ValueError, r"prepare\(\): 'turns' must have shape \(24,\)"),
        (lambda: prepare(steps=WHOLE, turns=np.ones(24)), TypeError, r"prepare\(\): 'turns' must hold integers"),
        (lambda: prepare(steps=WHOLE, turns=np.full(24, -1)), ValueError,
         "'turns' must be at least 0 where a token is trained, got -1 at row 0, position 0"),
        (lambda: prepare(steps=WHOLE, turns=np.full(24, 3)), ValueError,
         "'turns' must be below the number of steps, but rollout 'w' has 3, got 3 at row 0, position 0"),
        (lambda: prepare(GIGPO, REWARDS[:1], [0], rows=rm.Rows(["w"] * 3, [1] * 3, segment=[0, 1, 1]), states=STATES[:1]),
         ValueError, "'rows' must have segments in the order of time, but rollout 'w' has rows 1 and 2 of segment 1"),
        (lambda: prepare(GIGPO, states=STATES, step_rewards=[0.0] * 13), ValueError,
         "'step_rewards' must have one list a rollout, 4, got 13"),
        (lambda: prepare(GIGPO, states=STATES, step_rewards=[0.0] * 4), (TypeError, ValueError),
         "'step_rewards' must hold one list of numbers a rollout"),
        (lambda: prepare(GIGPO, states=STATES, step_rewards=[[0.0] * 3] * 4), ValueError,
         "'step_rewards' must have one number a step, but rollout 2 has 3 and 4 steps"),
        (lambda: prepare(GIGPO, states=STATES, step_rewards=np.zeros(13)), TypeError,
         "'step_rewards' must be a Ragged or one list a rollout, with one number a step, got"),
        (lambda: prepare(GIGPO, steps=WHOLE, step_rewards=np.zeros(12)), ValueError,
         "'step_rewards' must have one number a step, 13, got"),
        (lambda: prepare(GIGPO, states=STATES, step_rewards=rm.Ragged(np.zeros(3), [0, 3])), ValueError,
         "'step_rewards' must have one number a step, but rollout 1 has none"),
        (lambda: prepare(get("gigpo", kl=False, overlong={"max_length": 9, "buffer": 3}), states=STATES,
                         step_rewards=[[0.0] * len(x) for x in STATES]), ValueError,
         "'step_rewards' are not what the penalties of the recipe are taken off"),
        (lambda: prepare(of(lambda steps, rewards: rewards), states=STATES, actions=ACTIONS), ValueError,
         "must give one number a step, 13, got .* of length 4"),
        (lambda: prepare(of(own, base=None), steps=WHOLE, paths=STATES), TypeError, "unexpected column 'paths'"),
        (lambda: prepare(of("graph.salt", base=lambda rewards: rewards[:2]), steps=WHOLE), ValueError,
         "'base' .* must give one number a rollout, 4, got .* of length 2"),
        (lambda: Advantage("graph.salt"), ValueError,
         "'base' must be given, the method whose advantages of rollouts 'graph.salt' goes on from, such as 'group.grpo'"),
        (lambda: Advantage("group.grpo", base="group.rloo"), ValueError,
         "'base' is for methods of steps with a parameter 'advantages', and 'group.grpo' has none"),
        (lambda: Advantage(own, base="group.rloo"), ValueError, "'base' is for methods of steps with a parameter"),
        (lambda: Advantage("graph.salt", base="group.reinforce_pp"), ValueError,
         "'base' must be a method of rollouts, such as 'group.grpo', got 'group.reinforce_pp'"),
        (lambda: Advantage("graph.salt", base="graph.gigpo"), ValueError, "'base' must be a method of rollouts"),
        (lambda: Advantage("graph.salt", base=3), TypeError, "'base' must be a name, a function, a table or an Advantage, got"),
        (lambda: Advantage("graph.salt", base={"options": {}}), ValueError, "'base' needs 'method', such as"),
        (lambda: Advantage("graph.salt", base={"methods": 1}), TypeError, "'base' has no 'methods'; it has: 'method'"),
        (lambda: Advantage("graph.salt", base={"method": "group.grpo", "options": {"gamma": 1}}), TypeError, "no option"),
        (lambda: Advantage("graph.graft_values"), ValueError,
         "'method' must give one advantage a step, and 'graph.graft_values' does not; call it by hand"),
        (lambda: Advantage("graph.segment_returns"), ValueError, "'graph.segment_returns' does not; call it by hand"),
        (lambda: prepare(of("graph.g2po"), states=STATES, invalid=[True] * 4), (TypeError, ValueError),
         "'invalid' must hold one list of numbers a rollout"),
        (lambda: prepare(of("graph.rtmc"), states=STATES), ValueError, "needs 'actions'"),
        (lambda: Advantage("graph.gigpo", level="node"), ValueError, "'level' is for methods with a parameter 'forest'"),
        (lambda: Advantage(lambda steps, rewards, rows: 0), TypeError, "takes steps and 'rows'; a method takes one of"),
        (lambda: Advantage("graph.gigpoo"), ValueError, "one of 'graph.gigpo'"),
        (lambda: get(SALT, shared="once"), ValueError, "'shared' must be 'per_rollout' for 'graph.salt'"),
        (lambda: get(SALT, advantage={"base": Advantage(lambda rewards: rewards)}).to_dict(), TypeError,
         "'advantage.base.method' is a function"),
    ],
)  # fmt: skip
def test_errors(call, kind, text):
    with pytest.raises(kind, match=text):
        call()

"""Filters of recipes: whatever selects rollouts, of what they look at, by ids, seeds and columns; before or after."""
# ruff: noqa: E501, ISC004 - a message in a line

import importlib
import pickle
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import selections  # noqa: E402
from recipe_steps import Step  # noqa: E402

import rollmath as rm  # noqa: E402
from rollmath.recipes import Filter, Recipe, get  # noqa: E402

MINE = "module_of_ones_own"


@pytest.fixture(autouse=True)
def mine(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    yield importlib.import_module(MINE)
    sys.modules.pop(MINE, None)


def by(method, options=None, name="grpo", **fields):
    return get(name, kl=False).replace(filter=Filter(method, options or {}, **fields))


def of_filter(name):
    """A filter that calls the function with what it has no default for, and its columns in a batch."""
    columns, options = selections.variants(name)["plain"]
    return Filter(name, {n: x for n, x in options.items() if n != "seed"}), columns


@pytest.mark.parametrize("name", selections.functions())
def test_every_function_that_selects_rollouts_is_a_filter(name, same_bits):
    step = Step(40)
    chosen, columns = of_filter(name)
    recipe = get("grpo", kl=False).replace(filter=chosen)
    takes = chosen.signature
    ids = list(step.rows.rollouts.ids)
    given = dict.fromkeys(columns, step.strata)
    options = dict(chosen.options) | ({"uid": ids} if takes.takes("uid") else {})
    more = {"seed": 5} if takes.takes("seed") else {}
    batch = recipe.prepare(step.rewards, step.groups, rows=step.rows, **given, **more)
    expected = takes("test", step.rewards, step.groups, given | options | more)
    assert batch.selection.mask.tolist() == expected.mask.tolist()
    assert batch.selection.report.codes.tolist() == expected.report.codes.tolist()
    assert batch.selection.report.statistics == expected.report.statistics
    values = expected.advantages(
        rm.group.grpo, step.rewards, step.groups, statistics=expected.report.statistics or "after"
    )
    same_bits(batch.advantages, values)
    assert set(recipe.needs) == {*columns, *(["seed"] if chosen.draws else [])}
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert pickle.loads(pickle.dumps(recipe)) == recipe
    text = recipe.explain()
    assert f"filter       {name}. " in text
    assert ("statistics" in text) == (expected.report.statistics is not None)


def test_the_order_of_the_rows_chooses_nothing():
    """Rollouts are known by their ids, in rows of any order."""
    step = Step(41)
    order = np.random.default_rng(0).permutation(step.rows.n_rows)
    rows = step.rows.take(order)
    place = [step.rows.rollouts.ids.index(name) for name in rows.rollouts.ids]
    recipes = [by(f"{MINE}:best", {"keep": 1, "seed": 3}), by(f"{MINE}:best", {"ties": "lengths"}, on="strata")]
    recipes.append(by("quota", {"keep": 2, "seed": 8}))
    for recipe in recipes:
        known = {"strata": np.array(step.strata)}
        columns = {n: known[n] for n in recipe.needs}
        batch = recipe.prepare(step.rewards, step.groups, rows=step.rows, **columns)
        columns = {n: x[place] for n, x in columns.items()}
        turned = recipe.prepare(step.rewards[place], [step.groups[i] for i in place], rows=rows, **columns)
        assert turned.selection.mask.tolist() == batch.selection.mask[place].tolist()


def test_what_a_filter_looks_at():
    step = Step(42)
    lengths = np.bincount(step.rows.rollouts.index, weights=step.rows.trained)
    ids = list(step.rows.rollouts.ids)
    best = importlib.import_module(MINE).best

    def expected(values, **options):
        return best(values, step.groups, uid=ids, **options).mask.tolist()

    prepare = step.prepare
    recipe = by(f"{MINE}:best")
    assert prepare(recipe).selection.mask.tolist() == expected(step.rewards)
    on_lengths = by(f"{MINE}:best", on="lengths")
    assert on_lengths.needs == {}
    assert prepare(on_lengths).selection.mask.tolist() == expected(lengths)
    other = np.arange(20) % 7
    assert prepare(on_lengths, lengths=other).selection.mask.tolist() == expected(other)
    by_ties = by(f"{MINE}:best", {"ties": "lengths"})
    assert prepare(by_ties).selection.mask.tolist() == expected(step.rewards, ties=lengths)
    by_rows = by("round_to_multiple", {"multiple": 8, "samples": "rows"})
    assert prepare(by_rows).rows.trained.size == step.rows.n_rows
    assert step.rows.rollouts.counts[prepare(by_rows).selection.mask].sum() % 8 == 0
    by_ties = by(f"{MINE}:best", {"ties": "age"})
    assert list(by_ties.needs) == ["age"]
    assert prepare(by_ties, age=-other).selection.mask.tolist() == expected(step.rewards, ties=-other)
    penalty = get("grpo", kl=False, overlong={"max_length": 10, "buffer": 5})
    shaped = penalty.replace(filter=Filter(f"{MINE}:best", on="shaped", options={"ties": "rewards"}))
    batch = prepare(shaped)
    assert batch.selection.mask.tolist() == expected(batch.rewards, ties=step.rewards)
    for name in ("by_column", "by_keyword"):
        of_column = by(f"{MINE}:{name}")
        assert list(of_column.needs) == ["quality"]
        assert prepare(of_column, quality=other / 7).selection.mask.tolist() == (other / 7 >= 0.5).tolist()
    renamed = by("quota", {"keep": 1, "strata": "language"})
    assert list(renamed.needs) == ["language"]
    got = prepare(renamed, language=["de", "en"] * 10)
    assert got.selection.mask.tolist() == rm.select.quota(
        step.groups, ["de", "en"] * 10, keep=1, uid=ids).mask.tolist()  # fmt: skip
    # Names in a table are strings; strata need not be.
    split = by("quota", {"keep": 2, "split": {"0": 1, "1": 1}})
    whole = rm.select.quota(step.groups, step.strata, keep=2, split={0: 1, 1: 1}, uid=ids)
    assert step.prepare(split).selection.mask.tolist() == whole.mask.tolist()
    names = [f"s{x}" for x in step.strata]
    split = by("quota", {"keep": 2, "split": {"s0": 1, "s1": 1}})
    got = split.prepare(step.rewards, step.groups, rows=step.rows, strata=names)
    assert got.selection.report.kept_rollouts == whole.report.kept_rollouts


@pytest.mark.parametrize("on", ["rewards", "advantages"])
def test_statistics_before_and_after(on, same_bits):
    step = Step(43)
    before = by(f"{MINE}:best", {"keep": 1}, on=on, statistics="before")
    after = by(f"{MINE}:best", {"keep": 2}, on=on)
    ids = list(step.rows.rollouts.ids)
    all_of = rm.group.grpo(step.rewards, step.groups)
    values = all_of if on == "advantages" else step.rewards
    best = importlib.import_module(MINE).best
    kept = best(values, step.groups, keep=1, uid=ids).mask
    batch = step.prepare(before)
    assert batch.selection.mask.tolist() == kept.tolist()
    same_bits(batch.advantages, np.where(kept, all_of, 0.0))
    assert "; statistics before" in str(batch.selection.report)
    assert not batch.rows.trained[~kept[step.rows.rollouts.index]].any()
    kept = best(values, step.groups, keep=2, uid=ids).mask
    same_bits(step.prepare(after).advantages, rm.group.grpo(step.rewards, step.groups, valid=kept))
    # What the method says of itself goes for a recipe that says nothing.
    says = by(f"{MINE}:best", {"keep": 2, "statistics": "before"}, on=on)
    same_bits(step.prepare(says).advantages, np.where(kept, all_of, 0.0))
    same_bits(step.prepare(says.replace(filter=Filter(f"{MINE}:best", {"keep": 2, "statistics": "before"},
        on=on, statistics="after"))).advantages, rm.group.grpo(step.rewards, step.groups, valid=kept))  # fmt: skip


@pytest.mark.parametrize("truncated", ["mask", "exclude"])
def test_truncated_rollouts_and_statistics_before(truncated, same_bits):
    step = Step(44)
    cut = step.truncated
    recipe = by(f"{MINE}:best", {"keep": 2}, on="advantages", statistics="before").replace(truncated=truncated)
    batch = step.prepare(recipe)
    seen = ~cut if truncated == "exclude" else np.ones(20, bool)
    all_of = rm.group.grpo(step.rewards, step.groups, valid=seen)
    best = importlib.import_module(MINE).best
    kept = best(all_of, step.groups, keep=2, valid=seen, uid=list(step.rows.rollouts.ids)).mask & ~cut
    assert batch.selection.mask.tolist() == kept.tolist()
    same_bits(batch.advantages, np.where(kept, all_of, 0.0))


def test_missing_rewards_are_missing_advantages():
    step = Step(45)
    step.rewards[3] = np.nan
    recipe = by("nonzero_spread", on="advantages", statistics="before")
    batch = step.prepare(recipe.replace(convention=rm.Convention(nan="omit")))
    assert batch.selection.report.reasons[batch.selection.report.codes[3] - 1] == "missing reward"
    assert batch.advantages[3] == 0


def test_advantages_of_tokens_before(same_bits):
    step = Step(46)
    recipe = get("reinforce_pp", reward_kl=0.0)
    kept = importlib.import_module(MINE).best(step.rewards, step.groups, uid=list(step.rows.rollouts.ids)).mask
    batch = step.prepare(recipe.replace(filter=Filter(f"{MINE}:best", statistics="before")))
    all_of = step.prepare(recipe).advantages
    of_token = np.repeat(kept[step.rows.rollouts.index], step.rows.lengths)
    same_bits(batch.advantages.values, np.where(of_token, all_of.values, 0.0))


def test_seeds():
    step = Step(47)
    recipe = by(f"{MINE}:drawn", {"keep": 1})
    assert recipe.needs == {"seed": "a whole number, another one in every step, by which the filter draws"}
    one, other = (step.prepare(recipe, seed=seed) for seed in (0, 1))
    assert one.selection.mask.tolist() != other.selection.mask.tolist()
    assert one.selection.mask.tolist() == step.prepare(recipe, seed=0).selection.mask.tolist()
    fixed = by(f"{MINE}:drawn", {"keep": 1, "seed": 1})
    assert fixed.needs == {}
    assert fixed.prepare(step.rewards, step.groups, rows=step.rows).selection.mask.tolist() == (
        other.selection.mask.tolist()
    )
    # The one of the step goes before.
    assert step.prepare(fixed, seed=0).selection.mask.tolist() == one.selection.mask.tolist()
    assert "keep = 1, seed = that of the step" in recipe.explain()
    assert "on = " not in recipe.explain()
    at_random = by("round_to_multiple", {"multiple": 8, "drop": "random"})
    assert list(at_random.needs) == ["seed"]
    masks = {tuple(step.prepare(at_random, seed=seed).selection.mask.tolist()) for seed in range(4)}
    assert len(masks) > 1
    tie = by(f"{MINE}:best", {"keep": 1})
    assert tie.needs == {}
    masks = {tuple(step.prepare(tie, seed=seed).selection.mask.tolist()) for seed in range(4)}
    assert len(masks) > 1


def test_torch():
    step = Step(48, dtype=np.float32)
    recipe = by(f"{MINE}:best", {"ties": "lengths"}, on="advantages", statistics="before")
    expected = step.prepare(recipe)
    got = recipe.prepare(torch.tensor(step.rewards), torch.tensor(step.groups), rows=step.rows)
    assert isinstance(got.selection.mask, torch.Tensor)
    assert got.selection.mask.tolist() == expected.selection.mask.tolist()
    assert got.advantages.tolist() == expected.advantages.tolist()


def test_words_and_tables():
    recipe = by(f"{MINE}:best", {"keep": 4}, on="advantages", statistics="before")
    table = recipe.to_dict()["filter"]
    assert table == {
        "method": f"{MINE}:best", "options": {"keep": 4}, "on": "advantages", "statistics": "before"
    }  # fmt: skip
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    flat = " ".join(recipe.explain().split())
    assert "keep = 4, per = group, on = advantages statistics before: means and spreads of the adv" in flat
    other = recipe.replace(filter=Filter(f"{MINE}:best", {"keep": 2}))
    assert "filter.statistics" in recipe.diff(other)
    assert get({"recipe": "grpo", "filter": table, "kl": False}).filter == recipe.filter
    assert get("dapo").to_dict()["filter"] == {"method": "nonzero_spread"}
    # An option that has no default stands where the function has it.
    assert "  keep = 2, per = batch, short = keep, on = lengths" in by(
        "top", {"per": "batch", "keep": 2}, on="lengths"
    ).explain()  # fmt: skip
    # The statistics are those of the options, and of a function that takes no small batch unknown.
    assert by("round_to_multiple", {"multiple": 64, "short": "raise"}).filter.taken == "before"
    assert by(f"{MINE}:of_many").filter.taken is None


def test_by_hand_the_variance_of_the_advantages_of_a_batch():
    """D3S: advantages of all, the subset of largest variance among all subsets, 0 for the others."""
    rng = np.random.default_rng(7)
    for n, keep in ((5, 2), (7, 3), (8, 5), (9, 4)):
        groups, rewards = rng.integers(0, 3, n).tolist(), rng.choice([0.0, 1.0, 0.5, -2.25], n)
        advantages = np.zeros(n)
        for name in set(groups):
            at = [i for i in range(n) if groups[i] == name]
            if len(set(rewards[at])) > 1:
                advantages[at] = (rewards[at] - np.mean(rewards[at])) / (np.std(rewards[at], ddof=1) + 1e-6)
        best = max(np.var(advantages[list(chosen)]) for chosen in combinations(range(n), keep))
        recipe = by("max_variance", {"keep": keep, "per": "batch"}, on="advantages", statistics="before")
        batch = recipe.prepare(rewards, groups, rows=rm.Rows(list(range(n)), np.full(n, 2)))
        kept = batch.selection.mask
        assert kept.sum() == keep
        assert np.var(advantages[kept]) == pytest.approx(best, rel=1e-12)
        np.testing.assert_allclose(batch.advantages, np.where(kept, advantages, 0.0), rtol=1e-12)


def prepare(recipe, **columns):
    step = Step(49)
    return recipe.prepare(step.rewards, step.groups, rows=step.rows, **columns)


def rows_method(rewards, rows):
    """One number a row."""
    return np.asarray(rewards)[rows.rollouts.index]


MESSAGES = [
    (lambda: Filter("max_varience"), ValueError, r"Filter\(\): 'method' must be one of .*'nonzero_spread'"),
    (lambda: Filter("leaf_sample"), ValueError, r"Filter\(\): 'method' must be one of "),
    (lambda: Filter("mean_band", {"low": 0.0}), TypeError, r"Filter\(\): 'mean_band' needs the option 'high'; give it in"),
    (lambda: Filter("mean_band", {"lo": 0.0}), TypeError, r"Filter\(\): 'mean_band' has no option 'lo'; it has: 'low'"),
    (lambda: Filter("top", {"keep": 0}), ValueError, r"top\(\): 'keep' must be at least 1, got 0"),
    (lambda: Filter("random", {"keep": 1, "seed": "x"}), TypeError, r"random\(\): 'seed' must be a whole number, got an o"),
    (
        lambda: prepare(by("round_to_multiple", {"multiple": 4, "drop": "random"})),
        ValueError,
        r"prepare\(\): recipe 'grpo' needs 'seed' \(a whole number",
    ),
    (
        lambda: Filter("nonzero_spread", statistics="first"),
        ValueError,
        r"Filter\(\): 'statistics' must be one of 'before', 'after', got 'first'",
    ),
    (
        lambda: Filter("quota", {"keep": 2}, on="lengths"),
        ValueError,
        r"Filter\(\): 'on' must be left out for 'quota', which looks at no values, got 'lengths'",
    ),
    (
        lambda: Filter("quota", {"keep": 2, "ties": [1.0, 2.0]}),
        TypeError,
        r"Filter\(\): 'ties' has one value a rollout, and so must name a column or one of 'rewards', 'shaped', "
        r"'advantages', 'lengths', 'rows', got an object of type tuple",
    ),
    (
        lambda: Filter(f"{MINE}:by_column")([1.0], rm.Groups(["a"])),
        ValueError,
        rf"Filter\(\): '{MINE}:by_column' needs the column 'quality'; put the filter in a recipe",
    ),
    (
        lambda: Filter(f"{MINE}:drawn")(None, rm.Groups(["a"])),
        ValueError,
        rf"Filter\(\): '{MINE}:drawn' draws by a seed, another one in every step: pass prepare\(..., seed=step\), or "
        r"give one for all steps in options={'seed': 0}",
    ),
    (
        lambda: prepare(by(f"{MINE}:drawn")),
        ValueError,
        r"prepare\(\): recipe 'grpo' needs 'seed' \(a whole number, another one in every step, by which the filter "
        r"draws\); pass it as a keyword: seed=...",
    ),
    (
        lambda: prepare(by(f"{MINE}:drawn"), seed=1.0),
        TypeError,
        r"prepare\(\): 'seed' must be a whole number, got an object of type float",
    ),
    (lambda: prepare(by(f"{MINE}:drawn"), seed=-1), ValueError, r"prepare\(\): 'seed' must be at least 0, got -1"),
    (lambda: prepare(by("nonzero_spread"), seed=1), TypeError, r"prepare\(\) got an unexpected column 'seed'; 'grpo' ta"),
    (lambda: prepare(by("quota", {"keep": 2})), ValueError, r"prepare\(\): recipe 'grpo' needs 'strata' \(one id a roll"),
    (
        lambda: by("nonzero_spread", name="reinforce_pp", on="advantages"),
        ValueError,
        r"Recipe\(\): 'filter' must look at something else than advantages for 'group.reinforce_pp', which gives one a "
        r"token: a selection of rollouts needs one a rollout",
    ),
    (
        lambda: prepare(by("nonzero_spread", on="advantages").replace(advantage=rm.recipes.Advantage(rows_method))),
        ValueError,
        r"prepare\(\): recipe 'grpo' has a filter of advantages, which must be one a rollout, but '.*rows_method' gives "
        r"one a row",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "message"), MESSAGES, ids=range(len(MESSAGES)))
def test_messages(call, kind, message):
    with pytest.raises(kind, match=message):
        call()

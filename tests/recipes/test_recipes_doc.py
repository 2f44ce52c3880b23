"""The examples of docs/recipes.md run, and its tables say what the recipes are."""

import re
import tomllib
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from recipe_steps import ALL, Step  # noqa: E402

import rollmath as rm  # noqa: E402
from rollmath.recipes import Recipe, get, load, names  # noqa: E402

TEXT = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text()
BLOCKS = [
    re.sub("^    ", "", b, flags=re.MULTILINE) for b in re.findall(r"(?:^    .*\n|\n(?=    ))+", TEXT, re.MULTILINE)
]


@pytest.fixture
def world():
    """What the examples take from a trainer."""
    generator = torch.Generator().manual_seed(0)
    old = -torch.rand(4, 5, generator=generator, dtype=torch.float64)
    lp = (old + 0.1 * torch.randn(4, 5, generator=generator, dtype=torch.float64)).requires_grad_()
    lengths = [4, 3, 5, 2]
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    return {
        "rm": rm, "torch": torch, "rollout_ids": list("abcd"), "lengths": lengths, "response_mask": mask, "old": old,
        "rewards": torch.tensor([1.0, 0.0, 0.5, 0.5], dtype=torch.float64), "prompt_ids": ["p", "p", "q", "q"],
        "forward": lambda part: lp[part], "micro_batch_size": 3, "lp": lp, "n_tool_calls": [0, 0, 1, 2],
        "rows": rm.Rows(list("abcd"), lengths, mask=mask),
    }  # fmt: skip


def block(start):
    """The one that begins so."""
    (found,) = [b for b in BLOCKS if b.lstrip("\n").startswith(start)]
    return found.lstrip("\n")


def test_the_blocks_are_found():
    assert len(BLOCKS) == 10


def test_a_step(world, capsys):
    exec(block('recipe = rm.recipes.get("dapo")\n'), world)
    a = rm.group.grpo(world["rewards"], world["prompt_ids"])[:2]
    ratio = (world["lp"].detach() - world["old"]).exp()[:2]
    # Seven tokens of two rollouts are left.
    expected = torch.zeros(4, 5, dtype=torch.float64)
    for i, n in enumerate([4, 3]):
        inside = (ratio[i, :n] < 1.28) if a[i] > 0 else (ratio[i, :n] > 0.8)
        expected[i, :n] = -a[i] * ratio[i, :n] * inside / 7
    torch.testing.assert_close(world["lp"].grad, expected, rtol=1e-12, atol=1e-14)
    assert "no spread  1 group, 2 rollouts: 'q' (2)" in capsys.readouterr().out
    assert world["metrics"]["groups/dropped"] == 1


def test_words(world, capsys):
    exec(block("print(rm.recipes.get("), world)
    out = capsys.readouterr().out
    assert "max_length = 20480, buffer = 4096" in out
    assert "nonzero_spread  -" in out


def test_changes(world):
    exec(block('recipe = rm.recipes.get("dapo", objective'), world)
    assert list(world["recipe"].needs) == ["strata"]
    assert world["batch"].advantages.tolist() == pytest.approx([2**-0.5, -(2**-0.5), 0, 0], rel=1e-5)


def test_the_table(tmp_path):
    text = block("[recipe]")
    recipe = get(tomllib.loads(text)["recipe"])
    (tmp_path / "recipe.toml").write_text(text)
    assert load(tmp_path / "recipe.toml", table="recipe") == recipe
    assert recipe.filter == rm.recipes.Filter("mean_band", {"low": 0.1, "high": 0.9})
    assert (recipe.kl, recipe.truncated) == (rm.loss.KL(0.001), "mask")
    assert recipe.correction == (rm.loss.ImportanceWeight((0.5, 2.0)),)
    assert recipe.objective == rm.loss.PPO(clip=(0.2, 0.3))


def test_trees(world, monkeypatch):
    made, prepare = [], Recipe.prepare
    monkeypatch.setattr(Recipe, "prepare", lambda *args, **more: made.append(prepare(*args, **more)))
    world |= {
        "rewards": torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64),
        "tokens": [[5, 6], [5, 7], [8], [8]],
        "tree_ids": [0, 1, 2, 3],
        "paths": [["p", "a", "b"], ["p", "a", "c"], ["q", "d"], ["q", "d"]],
        "path_lengths": [[3, 1, 1], [3, 1, 1], [2, 1], [2, 1]],
    }
    exec(block('recipe = rm.recipes.get("spo_tree"'), world)
    paths, forest, tokens, apart = made
    assert paths.advantages.to_lists() == [[0, 0.5], [0, -0.5], [0], [0]]
    assert forest.advantages.to_lists() == tokens.advantages.to_lists() == paths.advantages.to_lists()
    assert paths.metrics["rollouts/dropped/copy"] == 1
    assert not apart.advantages.values.any()


def test_steps(world, monkeypatch):
    made, prepare = [], Recipe.prepare
    monkeypatch.setattr(Recipe, "prepare", lambda *args, **more: made.append(prepare(*args, **more)))
    world |= {
        "rewards": torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64),
        "tokens": [[5, 9, 6], [5, 9, 7], [8], [8]],
        "response_mask": [[1, 0, 1], [1, 0, 1], [1], [1]],
        "states": [["hall", "yard"], ["hall", "yard"], ["hall"], ["hall"]],
        "actions": [["out", "dig"], ["out", "wait"], ["out"], ["out"]],
    }
    exec(block('recipe = rm.recipes.get("gigpo"'), world)
    gigpo, salt, again = (batch.advantages.to_lists() for batch in made)
    assert gigpo == [[0.5 + 0.475, 0, 1], [-0.5 - 0.475, 0, -1], [0], [0]]
    assert salt == again == [[0, 0, 1], [0, 0, -1], [0], [0]]


def test_ones_own(world):
    exec(block("def above_half("), world)
    assert world["batch"].advantages.tolist() == [1.0, -1.0, 0.0, 0.0]


def test_filters(world, monkeypatch):
    made, prepare = [], Recipe.prepare
    monkeypatch.setattr(
        Recipe, "prepare", lambda *args, **more: made.append(prepare(*args, **more)) or made[-1]
    )  # fmt: skip
    exec(block('recipe = rm.recipes.get("grpo", kl=False)\n'), world | {"step": 3, "made": made})
    fair, drawn = made
    assert fair.selection.mask.all()
    assert drawn.selection.report.kept_rollouts == 2
    names = {}
    exec(block('recipe = rm.recipes.get("grpo", kl=False)\n'), names | world | {"step": 3}, names)
    kept = {
        name: names[name].prepare(world["rewards"], world["prompt_ids"], rows=world["rows"]).selection.mask.tolist()
        for name in ("pods", "d3s", "short")
    }
    assert kept == {"pods": [True] * 4, "d3s": [True, True, False, False], "short": [False, True, False, True]}
    assert "statistics before" in names["d3s"].explain()
    assert "statistics after" in names["pods"].explain()
    (table,) = re.findall(r"`filter = (\{method = .max_variance.*\})`", TEXT)
    assert get({"recipe": "grpo", "filter": tomllib.loads(f"x = {table}")["x"]}).filter.on == "advantages"


def test_the_report(world, capsys):
    exec(block("print(rm.select.nonzero_spread("), world)
    assert capsys.readouterr().out == block("nonzero_spread kept")


def test_all_metrics_are_named():
    step = Step(0)
    recipe = get("dapo", max_length=4, truncated="mask")
    known = {name for line in TEXT.splitlines() if line.startswith("| `") for name in re.findall(r"`(\w+/\w+)`", line)}
    found = set(step.prepare(recipe).metrics)
    assert {name for name in found if name.count("/") == 1} == known
    assert any(name.startswith("rollouts/dropped/") for name in found)


def test_the_mean_of_the_papers(world):
    recipe = get("dapo", aggregation="prompt_mean_token_mean")
    batch = recipe.prepare(world["rewards"], world["prompt_ids"], rows=world["rows"])
    normalizer = rm.loss.Normalizer.local(batch.rows, prompts=world["prompt_ids"])
    out = recipe.policy_loss(rm.LogProbs(world["lp"], prox=world["old"]), batch, normalizer=normalizer)
    assert out.loss.isfinite()


def test_the_tables_are_complete():
    rows = {
        row[0]: row for row in (line.strip("| ").split(" | ") for line in TEXT.splitlines() if line.startswith("| `"))
    }
    rows = {name: row for name, row in rows.items() if "/" not in name}
    assert {f"`{name}`" for name in names()} <= set(rows)
    keys = {f.strip("`") for f in rows} - set(names())
    assert keys - {"convention"} == set(Recipe.__dataclass_fields__) - {"name", "source"}
    for recipe in ALL:
        line = " ".join(rows[f"`{recipe.name}`"])
        assert f"`{recipe.advantage.name}`" in line
        assert recipe.source.split("arXiv ")[1] in line

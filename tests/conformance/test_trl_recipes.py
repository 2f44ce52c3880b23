"""Recipes in TRL's trainers: the numbers that the recipe gives by itself, for the same rollouts."""

import importlib.util

import numpy as np
import pytest

import rollmath as rm

if importlib.util.find_spec("trl") is None:
    pytest.skip("trl is not installed; `make test-peers` has an environment for it", allow_module_level=True)

import torch
import trl_tiny as tiny

from rollmath.adapters._seeds import seeded_by

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]


@pytest.fixture
def train(peer, tmp_path):
    """``train(recipe, ...)``: our trainer after its steps, which kept what its loss was given."""
    peer("trl")

    def run(recipe, name="GRPOTrainer", *, given=None, beta=0.0, **options):
        kind = tiny.recorder(tiny.trainers(name)[1])
        if beta:
            options["policy"] = tiny.model(folder=tmp_path / "model")
        return tiny.train(kind, tmp_path, given={"recipe": recipe} | (given or {}), beta=beta, **options)

    return run


def step(trainer):
    """``(rewards, groups, rows)`` of the only generation batch, in TRL's order, and its tensors in that order."""
    inputs = {k: torch.cat([x[k] for x, _ in trainer.batches]) for k in trainer.batches[0][0] if k not in NO_ROWS}
    order = inputs["rollmath_rollout"].argsort()
    inputs = {name: x[order] for name, x in inputs.items()}
    mask = inputs["completion_mask"].numpy() != 0
    lengths = mask.sum(1)
    rewards = np.asarray(trainer._logs["rewards"]["letters"], np.float32)
    return rewards, np.arange(len(rewards)) // 4, rm.Rows(np.arange(len(rewards)), lengths), inputs


NO_ROWS = {"num_items_in_batch", "rollmath_rows"}
RECIPES = {
    "dapo": {},
    "gspo": {},
    "cispo": {},
    "rloo": {"reward_kl": 0.0},
    "reinforce_pp": {"reward_kl": 0.0},
    "dr_grpo": {"max_length": 12},
}


def of(name, **settings):
    return {"recipe": name} | settings


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("trainer", ["GRPOTrainer", "RLOOTrainer"])
def test_the_step_of_a_recipe(train, name, trainer):
    """Advantages, masks, loss and what is logged, beside the recipe on the same rollouts. Every ratio is 1 there."""
    table = of(name, **RECIPES[name])
    made = train(table, trainer, max_steps=1, per_device_train_batch_size=4, gradient_accumulation_steps=4)
    rewards, groups, rows, inputs = step(made)
    recipe = rm.recipes.get(table)
    batch = recipe.prepare(rewards, groups, rows=rows)
    found = inputs["advantages"].numpy()
    wanted = batch.advantages
    if batch.level == "token":
        wanted = wanted.to_padded()
        found = found[:, : wanted.shape[1]]
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    theta = torch.zeros(inputs["completion_mask"].shape, requires_grad=True)
    out = recipe.policy_loss(rm.LogProbs(theta), batch, normalizer=rm.loss.Normalizer.local(batch.rows))
    if not isinstance(recipe.objective, (rm.loss.Reinforce, rm.loss.CISPO)):  # theirs has the log-probability in it
        assert tiny.curve(made, "loss")[0] == pytest.approx(out.loss.item(), abs=2e-6)
    for key, value in batch.metrics.items():
        assert tiny.curve(made, f"rollmath/{key}") == pytest.approx([value], abs=1e-6)


def test_dynamic_sampling_drops_groups_without_spread(train):
    def sometimes(completions, prompts, **columns):
        return [0.5 if prompt[0] in "0246" else x for prompt, x in zip(prompts, tiny.letters(completions), strict=True)]

    sometimes.__name__ = "letters"
    made = train("dapo", rewards=sometimes, max_steps=1, per_device_train_batch_size=16)
    rewards, groups, _, inputs = step(made)
    kept = np.asarray(rm.select.nonzero_spread(rewards, groups).mask)
    assert 0 < kept.sum() < 16
    assert list(made._logs["extra"]["kept"]) == kept.tolist()
    assert (inputs["tool_mask"].sum(1) > 0).tolist() == kept.tolist()
    assert tiny.curve(made, "frac_reward_zero_std")[0] == pytest.approx(1 - kept.mean())


@pytest.mark.parametrize(
    "table",
    [
        {"method": "max_variance", "options": {"keep": 8, "per": "batch"}, "on": "advantages"},
        {"method": "bottom", "options": {"keep": 2}, "on": "lengths"},
        {"method": "random", "options": {"keep": 2}, "statistics": "before"},
        {"method": "random", "options": {"keep": 2, "seed": 3}},
    ],
    ids=["max_variance", "bottom", "random", "random, seed"],
)
def test_selections_of_rollouts(train, table):
    """Kept rollouts and their advantages; a filter that draws gets the seed of the run and the step."""
    recipe = rm.recipes.get({"recipe": "grpo", "kl": False, "filter": table})
    made = train(recipe, max_steps=1, per_device_train_batch_size=16)
    rewards, groups, rows, inputs = step(made)
    rows = rm.Rows(np.arange(16), (inputs["completion_mask"].numpy() != 0).sum(1))
    of_step = made.args.seed << 32
    more = {"seed": of_step} if recipe.needs else {}
    recipe = recipe if recipe.needs else seeded_by("test", recipe, [of_step])
    expected = recipe.prepare(rewards, groups, rows=rows, **more)
    kept = np.asarray(expected.selection.mask)
    assert 0 < kept.sum() < 16
    assert list(made._logs["extra"]["kept"]) == kept.tolist()
    assert (inputs["rollmath_mask"].sum(1) > 0).tolist() == kept.tolist()
    np.testing.assert_allclose(inputs["advantages"].numpy(), expected.advantages, atol=1e-6)


def test_rollouts_that_were_cut_off(train):
    recipe = {"recipe": "dapo", "filter": {"method": "nonzero_spread"}, "truncated": "mask"}
    made = train(recipe, max_steps=1, per_device_train_batch_size=16)
    inputs = step(made)[3]
    ended = (inputs["completion_ids"] == tiny.EOS).any(1)
    assert 0 < int(ended.sum()) < 16
    assert not inputs["rollmath_mask"][~ended].any()
    assert (inputs["rollmath_mask"][ended].sum(1) > 0).all()


@pytest.mark.parametrize("trainer", ["GRPOTrainer", "RLOOTrainer"])
@pytest.mark.parametrize("name", ["rloo", "reinforce_pp"])
def test_the_kl_in_the_reward(train, monkeypatch, trainer, name):
    """The reference is the policy before the first step, so that the penalty shows from the second on."""
    table = of(name, reward_kl=0.5)
    seen = []
    prepare = rm.recipes.Recipe.prepare
    monkeypatch.setattr(
        rm.recipes.Recipe, "prepare", lambda *a, **k: seen.append((a, k, prepare(*a, **k))) or seen[-1][-1]
    )
    made = train(table, trainer, beta=0.5, max_steps=3, learning_rate=1e-2)
    (_, rewards, groups), columns, batch = seen[-1]
    logprobs = columns["logprobs"]
    assert float((logprobs.theta - logprobs.ref).abs().max()) > 1e-3
    plain = rm.recipes.get(of(name, reward_kl=0.0)).prepare(rewards, groups, rows=columns["rows"])
    left, right = (np.asarray(getattr(x.advantages, "values", x.advantages)) for x in (plain, batch))
    assert np.abs(left - right).max() > 1e-4
    inputs, _ = made.batches[-1]
    # What the reference scored is what TRL compares with: theta of that moment is the old policy.
    old = inputs.get("old_per_token_logps")
    if old is not None:
        lengths = columns["rows"].lengths[inputs["rollmath_rollout"].numpy()]
        used = torch.arange(old.shape[1]) < torch.from_numpy(lengths)[:, None]
        where = rm.Rows(np.arange(len(lengths)), columns["rows"].lengths).offsets
        order = inputs["rollmath_rollout"].tolist()
        expected = torch.cat([logprobs.theta[where[i] : where[i + 1]] for i in order])
        assert torch.allclose(old[used], expected)


def test_the_kl_in_the_loss(train):
    made = train("grpo", beta=0.04, max_steps=3, learning_rate=1e-2)
    assert tiny.curve(made, "kl")[0] == pytest.approx(0.0, abs=1e-7)
    assert tiny.curve(made, "kl")[-1] > 1e-4


def test_strata_from_a_column(train):
    recipe = {"recipe": "stratified_grpo"}
    made = train(recipe, given={"columns": {"strata": "kind"}, "group_by": "uid"}, max_steps=1)
    rewards, groups, _, inputs = step(made)
    assert inputs["advantages"].numpy() == pytest.approx(rm.group.stratified(rewards, groups, strata=[0] * 8), abs=1e-6)
    with pytest.raises(ValueError, match="column 'strata' must have a value for every rollout"):
        train(recipe)


def half(completions, **columns):
    return [None if i % 4 == 1 else x for i, x in enumerate(tiny.letters(completions))]


def test_rollouts_without_a_reward(train):
    """As TRL has it: they enter no statistic, get advantage 0, and stay in the counts."""
    half.__name__ = "letters"
    for name in ("dapo", "reinforce_pp"):
        made = train(of(name, reward_kl=0.0), rewards=half, max_steps=1)
        rewards, groups, rows, inputs = step(made)
        seen = np.flatnonzero(~np.isnan(rewards))
        assert len(seen) == 6
        batch = rm.recipes.get(of(name, reward_kl=0.0)).prepare(rewards[seen], groups[seen], rows=rows.take(seen))
        found = inputs["advantages"].numpy()
        assert not found[np.isnan(rewards)].any()
        wanted = batch.advantages
        wanted = wanted if batch.level == "rollout" else wanted.to_padded()
        np.testing.assert_allclose(found[seen][..., : wanted.shape[-1]] if found.ndim == 2 else found[seen], wanted)
        assert int(inputs["rollmath_mask"].sum()) == int(rows.lengths.sum())


def test_an_advantage_by_its_name(train, tmp_path):
    kind = tiny.trainers("GRPOTrainer")[1]
    for method, columns, expected in (
        (rm.recipes.Advantage("group.rloo"), {}, rm.group.rloo),
        (rm.recipes.Advantage("group.grpo", convention="TRL"), {}, lambda r, g: rm.group.grpo(r, g, eps=1e-4)),
        (
            rm.recipes.Advantage("group.stratified", {"blend": 0.5}),
            {"strata": "kind"},
            lambda r, g: rm.group.stratified(r, g, strata=[0] * 8, blend=0.5),
        ),
    ):
        given = {"advantage": method, "columns": columns, "group_by": "uid"}
        made = tiny.train(kind, tmp_path, given=given, max_steps=1)
        rewards = np.asarray(made._logs["rewards"]["letters"], np.float32)
        wanted = expected(rewards, np.arange(8) // 4)
        assert list(made._logs["advantages"]) == pytest.approx(wanted.tolist(), abs=1e-6)


def test_a_filter_by_its_name(train, tmp_path):
    given = {"filter": rm.recipes.Filter("mean_band", {"low": 0.0, "high": 0.6})}
    made = tiny.train(tiny.trainers("GRPOTrainer")[1], tmp_path, given=given, max_steps=1)
    rewards = np.asarray(made._logs["rewards"]["letters"], np.float32)
    kept = rm.select.mean_band(rewards, np.arange(8) // 4, low=0.0, high=0.6).mask
    assert list(made._logs["extra"]["kept"]) == kept.tolist()


def test_an_entropy_bonus_of_the_recipe(train):
    plain, bonus = (train({"recipe": "cispo", "entropy": x}, max_steps=1) for x in (0.0, 0.5))
    entropy = tiny.curve(bonus, "entropy")[0]
    assert tiny.curve(plain, "loss")[0] - tiny.curve(bonus, "loss")[0] == pytest.approx(0.5 * entropy, abs=1e-5)


def test_an_evaluation_drops_nothing(train, tmp_path):
    kind = tiny.trainers("GRPOTrainer")[1]
    made = tiny.make(kind, tmp_path, given={"recipe": "dapo"}, max_steps=1, rewards=lambda completions, **_: [1.0] * 8)
    made.train()
    assert list(made._logs["extra"]["kept"]) == [False] * 8
    made.eval_dataset = tiny.dataset(2)
    found = made.evaluate()
    assert found["eval_loss"] == pytest.approx(0.0, abs=1e-7)
    assert found["eval_rollmath/rollouts/dropped"] == 0.0
    assert list(made._logs["extra"]["kept"]) == [True] * 8  # row by row with the other columns of the table

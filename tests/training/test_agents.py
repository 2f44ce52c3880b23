"""Agents in BabyAI: what is sampled has the log-probabilities of a plain forward, and steps line up with tokens."""

import itertools
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import rollmath as rm

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("minigrid", reason="minigrid is not installed")
pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed")
PUT = ("BabyAI-PutNextLocalS5N3-v0", 16, 9, 16)
ROOT = Path(__file__).parents[2]
TASKS, SIZE = range(4), 4
SEEDS = [seed for seed in TASKS for _ in range(SIZE)]


@pytest.fixture(scope="module")
def lab():
    """The modules under test."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        from bench.training import agents, agents_pretrain, agents_text, model, pretrain, update
        from bench.training.table import ARMS
        from bench.training.tasks import base

        yield SimpleNamespace(
            agents=agents, imitation=agents_pretrain, text=agents_text, model=model, pretrain=pretrain, update=update,
            base=base, arms=ARMS,
        )  # fmt: skip
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def played(lab):
    """A task, the model that its runs begin with, and a step of episodes."""
    task = lab.agents.Agents("babyai")
    model = lab.model.load(task.checkpoint)
    return task, model, task.play(model, SEEDS, torch.Generator().manual_seed(1))


def test_a_plain_forward_gives_the_sampled_log_probabilities(lab, played):
    task, model, sample = played
    with torch.no_grad():
        logits = lab.model.run(model, torch.cat([sample.prompts, sample.tokens], 1)[:, :-1])
    logp = logits[:, task.prompt_width - 1 :].log_softmax(-1)
    theirs = logp.gather(2, sample.tokens[..., None])[..., 0]
    assert torch.allclose(theirs[sample.mask], sample.logprobs[sample.mask], atol=2e-5)
    entropy = -(logp.exp() * logp).sum(-1)
    assert torch.allclose(entropy[sample.mask], sample.entropy[sample.mask], atol=2e-5)
    assert not sample.logprobs[~sample.mask].any()
    assert not sample.entropy[~sample.mask].any()


def test_the_mask_is_where_the_actions_are(lab, played):
    task, _, sample = played
    states, actions = sample.columns["states"], sample.columns["actions"]
    assert sample.sampled == int(sample.mask.sum()) == sum(map(len, actions))
    assert sample.group.tolist() == [i for i in range(len(TASKS)) for _ in range(SIZE)]
    assert 0 < sample.rewards.sum() < len(sample)
    for i, length in enumerate(sample.lengths.tolist()):
        row, mask = sample.tokens[i], sample.mask[i]
        assert row[mask].tolist() == actions[i]
        assert len(states[i]) == len(actions[i]) <= task.level.horizon
        assert mask[0]
        assert mask[length - 1], "an episode ends with an action"
        assert not mask[length:].any()
        assert not row[length:].any()
        expected = [
            t for a, seen in zip(actions[i], [*states[i][1:], ""], strict=True) for t in [a, *lab.text.encode(seen)]
        ]
        assert row[:length].tolist() == expected
        prompt = lab.text.decode(sample.prompts[i].tolist())
        assert prompt == f"open the door {states[i][0]}"
        assert sample.rewards[i] == 1 or len(actions[i]) == task.level.horizon


def test_the_actions_lead_to_the_states_and_rewards(lab, played):
    task, _, sample = played
    for i in range(0, len(sample), 5):
        episode = lab.agents.Episode(task.level, 0, SEEDS[i], task.level.horizon)
        ends = [not episode.act(token) for token in sample.columns["actions"][i]]
        assert ends == [False] * (len(ends) - 1) + [True]
        assert episode.states == sample.columns["states"][i]
        assert episode.reward == sample.rewards[i]


def test_equal_seeds_give_equal_episodes(played):
    task, model, sample = played
    again = task.play(model, SEEDS, torch.Generator().manual_seed(1))
    assert torch.equal(again.tokens, sample.tokens)
    assert torch.equal(again.logprobs, sample.logprobs)
    other = task.play(model, SEEDS, torch.Generator().manual_seed(2))
    assert not torch.equal(other.tokens, sample.tokens)
    greedy = task.play(model, SEEDS[:: SIZE // 2], None, horizon=6)
    assert torch.equal(greedy.tokens[0::2], greedy.tokens[1::2]), "two of each task"
    assert greedy.mask.sum(1).max() == 6


@pytest.mark.parametrize("name", ["grpo", "gigpo", "hgpo", "salt"])
def test_recipes_take_the_columns(lab, played, name):
    _, _, sample = played
    recipe = rm.recipes.get(name, kl=False).replace(reward_kl=0.0)
    batch = lab.update.prepare(recipe, sample)
    steps = sample.mask.sum(1).numpy()
    assert batch.rows.trained.tolist() == steps.tolist()
    if name == "grpo":
        assert batch.level == "rollout"
        return
    values = np.asarray(batch.advantages.values)
    mask = sample.mask[lab.update.inside(sample)].numpy()
    assert not values[~mask].any()
    if name == "gigpo":
        table = rm.Steps.from_episodes(sample.columns["states"], sample.columns["actions"], groups=sample.group)
        byhand = rm.graph.gigpo(table, sample.rewards, statistics="trajectories", convention=rm.conventions.GIGPO)
        np.testing.assert_allclose(values[mask], np.asarray(byhand))
        assert len(np.unique(values[mask][: steps[0]])) > 1, "steps of an episode differ"


def test_arms_give_what_the_methods_give(lab, played):
    _, _, sample = played
    mask = sample.mask[lab.update.inside(sample)].numpy()
    steps = rm.Steps.from_episodes(sample.columns["states"], sample.columns["actions"], groups=sample.group)
    options = {"gamma": 0.95, "convention": rm.conventions.HGPO}
    returns = rm.graph.step_returns(steps, sample.rewards, gamma=0.95)
    byhand = {
        "agent_returns": rm.group.grpo(returns, steps.row_groups),
        "gigpo": rm.graph.gigpo(steps, sample.rewards, scale="std", convention=rm.conventions.GIGPO),
        "gigpo_undiscounted": rm.graph.gigpo(steps, sample.rewards, scale="std", gamma=1.0),
        "hgpo": rm.graph.hgpo(steps, sample.rewards, **options),
        "salt": rm.graph.salt(steps, rm.group.grpo(sample.rewards, steps.trajectory_groups)),
    }
    for name, expected in byhand.items():
        values = lab.update.prepare(lab.arms[name].recipe(None), sample).advantages.values
        np.testing.assert_allclose(np.asarray(values)[mask], np.asarray(expected), atol=1e-12)


def test_an_update_moves_the_model(lab, played):
    _, model, sample = played
    new = lab.model.CharTransformer(model.config)
    new.load_state_dict(model.state_dict())
    optimizer = torch.optim.AdamW(new.parameters(), lr=1e-4)
    recipe, clock = rm.recipes.get("gigpo", kl=False), lab.update.Clock()
    done = lab.update.update(new, optimizer, recipe, sample, lab.update.Settings(minibatches=1), clock)
    assert done.trained_tokens == sample.sampled
    assert np.isfinite(done.gradient_norms).all()
    assert any(not torch.equal(a, b) for a, b in zip(new.parameters(), model.parameters(), strict=True))


def test_chunks_are_what_single_tokens_are(lab, played):
    task, model, _ = played
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, len(task.symbols), (3, 20), generator=generator)
    with torch.no_grad():
        plain = lab.model.run(model, tokens)
        cache, _ = lab.model.prefill(model, tokens[:, :4], torch.full((3,), 4))
        position = torch.full((3,), 4)
        for counts in torch.tensor([[1, 5, 2], [0, 3, 7], [9, 0, 1], [2, 2, 0]]):
            chunk = torch.zeros(3, int(counts.max()), dtype=torch.int64)
            for row, n in enumerate(counts.tolist()):
                chunk[row, :n] = tokens[row, position[row] : position[row] + n]
            logits = lab.model.feed(model, cache, chunk, counts, position)
            position += counts
            for row in counts.nonzero()[:, 0].tolist():
                assert torch.allclose(logits[row], plain[row, position[row] - 1], atol=2e-5)


def test_views_say_what_is_there(lab):
    level = lab.agents.Level(*PUT)
    env = lab.agents.environment(level.id, 0)
    texts = set()
    for seed in range(30):
        episode = lab.agents.Episode(level, 0, seed, level.horizon)
        here, front, side = (np.array(v) for v in (env.agent_pos, env.dir_vec, env.right_vec))
        things = []
        for x, y in itertools.product(range(1, env.width - 1), range(1, env.height - 1)):
            ahead, right = (int((np.array([x, y]) - here) @ way) for way in (front, side))
            if (thing := env.grid.get(x, y)) is not None and ahead >= 0:
                places = [f"f{ahead}"] * (ahead > 0) + [f"{'r' if right > 0 else 'l'}{abs(right)}"] * (right != 0)
                things.append(" ".join([thing.color, thing.type, *places]))
        walls = [f"{way}{n}" for way, step in zip("flr", (front, -side, side), strict=True)
                 for n in [next(n for n in range(6) if not ((here + n * step) % (env.width - 1)).all())]
                 if n <= 3 or way == "f"]  # fmt: skip
        words = episode.state.split()
        assert sorted(words) == sorted(" ".join(["wall", *walls, *things]).split())
        assert all(thing in episode.state for thing in things)
        texts.add(episode.state)
    assert len(texts) > 20


def test_views_of_doors_of_what_is_carried_and_of_nothing(lab):
    cells = np.zeros((7, 7, 3), np.uint8)
    assert lab.text.view(cells.tobytes(), 7, 13) == "nothing"
    cells[3, 3] = 4, 0, 2
    cells[3, 6] = 5, 4, 0
    cells[2, 6], cells[4, 6] = (2, 5, 0), (1, 0, 0)
    assert lab.text.view(cells.tobytes(), 7, 13) == "wall l1 have yellow key locked red door f3"
    assert lab.text.view(cells.tobytes(), 7, 6) == "wall l1 have yellow key", "the farther thing is left out"
    assert lab.text.decode([0, 0, *lab.text.encode("open the red door")]) == "open the red door"


def test_a_word_that_is_no_action_costs_a_step_and_does_nothing(lab):
    task = lab.agents.Agents("babyai")
    episode = lab.agents.Episode(task.level, 0, 5, 2)
    before, word = episode.state, lab.text.CODES["wall"]
    assert episode.act(word) == [word, *lab.text.encode(before)]
    assert episode.act(lab.text.FIRST_ACTION) == []
    assert episode.states == [before, before]


@pytest.mark.parametrize("name", ["babyai", "babyai_ball", "put"])
def test_the_expert_shows_what_to_do(lab, name):
    level, dice = lab.agents.Level(*PUT) if name == "put" else None, random.Random(0)
    task = lab.agents.Agents(name, level)
    for seed in range(20):
        shown = lab.imitation.show(task, lab.base.PRETRAINING_SEED + seed, dice, 0.4)
        assert len(shown.places) == len(shown.labels) <= task.level.horizon
        assert len(shown.tokens) <= task.context
        follow = [shown.tokens[place + 1] - lab.text.FIRST_ACTION for place in shown.places]
        assert all(0 <= action < len(lab.text.ACTIONS) for action in follow)
    for seed in range(20):
        shown = lab.imitation.show(task, lab.base.PRETRAINING_SEED + seed, dice, 0.0)
        assert [shown.tokens[place + 1] for place in shown.places] == shown.labels
        assert len(shown.labels) < task.level.horizon


def test_the_seeds_are_disjoint(lab):
    task = lab.agents.Agents("babyai")
    runs = [list(itertools.islice(task.stream(seed), 500)) for seed in (0, 1, 999)]
    pretraining = range(lab.base.PRETRAINING_SEED, lab.base.PRETRAINING_SEED + 10 * lab.imitation.EPISODES)
    sets = [*map(set, runs), set(task.held_out), set(task.tuning), set(pretraining)]
    assert sum(map(len, sets)) == len(set().union(*sets))


def test_the_checkpoints_start_between_failure_and_success(lab):
    for name in lab.agents.LEVELS:
        task = lab.agents.Agents(name)
        model = lab.model.load(task.checkpoint)
        assert (model.config.vocab, model.config.context) == (len(task.symbols), task.context)
        now = lab.agents.evaluate_agents(model, task, task.tuning[:32], seed=0)
        assert 0.05 < now.sampled < 0.6
        assert 0 < now.entropy < np.log(len(lab.text.ACTIONS)) + 0.05
        assert 1 < now.length <= task.level.horizon


def test_wrong_calls_say_what_was_expected(lab, played):
    task, model, _ = played
    with pytest.raises(ValueError, match=r"Agents\(\): 'name' must be one of babyai, babyai_ball, or.*got 'maze'"):
        lab.agents.Agents("maze")
    with pytest.raises(ValueError, match=r"play\(\): 'horizon' must be from 1 to 28, got 29"):
        task.play(model, [0], None, horizon=29)
    with pytest.raises(ValueError, match=r"stream\(\): 'seed' must be from 0 to 999, got 1000"):
        next(task.stream(1000))
    with pytest.raises(ValueError, match=r"encode\(\): 'text' must be words of the vocabulary, got 'jump'"):
        lab.text.encode("jump to the door")
    short = lab.agents.Level("BabyAI-UnlockLocal-v0", 28, 2, 13)
    with pytest.raises(ValueError, match=r"Level: 'mission_width' must be at least 3 for 'open the door', got 2"):
        lab.agents.Episode(short, 0, 0, 28)

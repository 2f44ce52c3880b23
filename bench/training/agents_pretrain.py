"""The checkpoint of a level: a model that imitates minigrid's expert, and then random actions among those of it."""

from __future__ import annotations

import random
import time
from typing import NamedTuple

import torch
from minigrid.utils.baby_ai_bot import BabyAIBot, DisappearedBoxError
from torch.nn import functional as F

from bench.training import agents_text as text
from bench.training import model as models
from bench.training.agents import Agents, Episode, evaluate_agents
from bench.training.pretrain import Stage
from bench.training.tasks.base import BLANK, PRETRAINING_SEED

# Found by trial on the tuning seeds: after these, most groups of episodes mix success and failure.
STAGES = {
    "babyai": (Stage(300, 2e-3, 0.0), Stage(40, 5e-4, 0.2)),
    "babyai_ball": (Stage(60, 2e-3, 0.0), Stage(150, 1e-3, 0.6)),
}
EPISODES, BATCH, WARMUP = 5000, 32, 50
# Shares of the expert's steps that are random, so that it shows what to do after a mistake, and late in an episode.
DETOURS = {"babyai": 0.3, "babyai_ball": 0.6}


class Shown(NamedTuple):
    """An episode: all of its tokens, the places before its actions, and what the expert would have done there."""

    tokens: list[int]
    places: list[int]
    labels: list[int]


def show(agents: Agents, seed: int, dice: random.Random, detours: float) -> Shown:
    """Play an episode as the expert, with detours. It gives up if someone opens a box."""
    episode = Episode(agents.level, 0, seed, agents.level.horizon)
    expert, last, labels, more = BabyAIBot(episode.env), None, [], True
    while more:
        try:
            wanted = int(expert.replan(last))
        except DisappearedBoxError:
            break
        if wanted >= len(text.ACTIONS):
            break
        last = dice.randrange(len(text.ACTIONS)) if dice.random() < detours else wanted
        labels.append(wanted + text.FIRST_ACTION)
        more = bool(episode.act(last + text.FIRST_ACTION))
    width = agents.prompt_width
    return Shown(episode.prompt + episode.tokens, [width + at - 1 for at in episode.at], labels)


def pretrain_agents(name: str, *, seed: int = 0, every: int = 100, stages: tuple[Stage, ...] | None = None) -> None:
    """Train from random weights and save. In a stage, a share ``slip`` of the labels is a random action."""
    torch.manual_seed(seed)
    agents, dice, begin = Agents(name), random.Random(seed), time.perf_counter()
    model = agents.untrained()
    first = PRETRAINING_SEED + seed * EPISODES
    shown = [show(agents, first + i, dice, DETOURS[name]) for i in range(EPISODES)]
    print(f"{name}: {model.size:,} parameters, {EPISODES} episodes in {time.perf_counter() - begin:.0f} s", flush=True)
    for number, stage in enumerate(stages or STAGES[name], 1):
        optimizer = torch.optim.AdamW(model.parameters(), lr=stage.rate, weight_decay=0.01)
        warmup = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / WARMUP))
        batches: list[list[Shown]] = []
        for step in range(1, stage.steps + 1):
            batches = batches or some(shown, dice)
            loss = imitate(model, batches.pop(), dice, stage.slip)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            warmup.step()
            if step % every == 0 or step == stage.steps:
                now = evaluate_agents(model, agents, agents.tuning[:100], seed=seed)
                took = time.perf_counter() - begin
                print(f"stage {number} step {step} {took:.0f} s loss {loss.item():.3f} {now}", flush=True)
    agents.checkpoint.parent.mkdir(exist_ok=True)
    models.save(model, agents.checkpoint)


def some(shown: list[Shown], dice: random.Random, batches: int = 4) -> list[list[Shown]]:
    """Batches of episodes of like lengths, so that there is little padding, in a random order."""
    drawn = sorted(dice.sample(shown, batches * BATCH), key=lambda one: len(one.tokens))
    return dice.sample([drawn[i * BATCH : (i + 1) * BATCH] for i in range(batches)], batches)


def imitate(model: models.CharTransformer, shown: list[Shown], dice: random.Random, slip: float) -> torch.Tensor:
    """Cross-entropy of the labels, some of them replaced."""
    longest = max(len(one.tokens) for one in shown)
    tokens = torch.tensor([one.tokens + [BLANK] * (longest - len(one.tokens)) for one in shown])
    rows = [row for row, one in enumerate(shown) for _ in one.labels]
    places = [place for one in shown for place in one.places]
    labels = [label for one in shown for label in one.labels]
    random_actions = range(text.FIRST_ACTION, text.FIRST_ACTION + len(text.ACTIONS))
    labels = [dice.choice(random_actions) if dice.random() < slip else label for label in labels]
    return F.cross_entropy(models.run(model, tokens[:, :-1])[rows, places], torch.tensor(labels))

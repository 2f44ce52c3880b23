"""Agents in BabyAI, told as text. An episode is one sequence, in which actions are sampled and views are fed."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.training import agents_text as text
from bench.training import model as models
from bench.training.evaluate import Accuracy
from bench.training.model import CharTransformer
from bench.training.sample import Sample
from bench.training.tasks.base import BLANK, CHECKPOINTS, HELD_OUT_SEED, TUNING_SEED

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the game library below minigrid
    import gymnasium
    import minigrid  # noqa: F401 - registers the levels

SEEDS_OF_A_RUN = 1_000_000


@dataclass(frozen=True)
class Level:
    """A level of minigrid, and what of it an agent is given.

    Attributes:
        id: the name under which it is registered.
        horizon: the most actions of an episode.
        mission_width: the most words of a mission.
        view_width: the most words of a view.
    """

    id: str
    horizon: int
    mission_width: int
    view_width: int


# The first is the main one: find the key, take it, find the locked door, open it. The second is one thing to be found.
LEVELS = {
    "babyai": Level("BabyAI-UnlockLocal-v0", horizon=28, mission_width=3, view_width=13),
    "babyai_ball": Level("BabyAI-GoToRedBallNoDists-v0", horizon=12, mission_width=5, view_width=8),
}


_GAMES: dict[str, list[gymnasium.Env]] = {}


def environment(level: str, number: int) -> gymnasium.Env:
    """One of the games that are played at once; each is made once."""
    made = _GAMES.setdefault(level, [])
    while len(made) <= number:
        made.append(gymnasium.make(level, disable_env_checker=True).unwrapped)
    return made[number]


class Episode:
    """An episode while it is played, and its tokens."""

    def __init__(self, level: Level, number: int, seed: int, horizon: int) -> None:
        self.env = environment(level.id, number)
        self.level, self.horizon = level, horizon
        with contextlib.redirect_stdout(None):  # some levels tell of layouts that they reject
            seen, _ = self.env.reset(seed=seed)
        mission, room = text.encode(seen["mission"]), level.mission_width
        if len(mission) > room:
            msg = f"Level: 'mission_width' must be at least {len(mission)} for {seen['mission']!r}, got {room}"
            raise ValueError(msg)
        self.state = self._read(seen)
        prompt = [*mission, *text.encode(self.state)]
        self.prompt = [BLANK] * (room + level.view_width - len(prompt)) + prompt
        self.tokens: list[int] = []
        self.at: list[int] = []  # where among the tokens the actions are
        self.states: list[str] = []
        self.actions: list[int] = []
        self.reward = 0.0

    def act(self, token: int) -> list[int]:
        """Do what the token says; return what is to be fed, nothing if that was the end.

        A token that is no action costs a step and does nothing.
        """
        number = token - text.FIRST_ACTION
        known = 0 <= number < len(text.ACTIONS)
        seen, reward, ended, stopped, _ = self.env.step(number if known else self.env.actions.done)
        self.states.append(self.state)
        self.actions.append(token)
        self.at.append(len(self.tokens))
        self.state, self.reward = self._read(seen), float(reward > 0)
        if ended or stopped or len(self.actions) == self.horizon:
            self.tokens.append(token)
            return []
        new = [token, *text.encode(self.state)]
        self.tokens += new
        return new

    def _read(self, seen: dict) -> str:
        return text.view(seen["image"].tobytes(), len(seen["image"]), self.level.view_width)


class Agents:
    """A level as a task: its tokens, its seeds, and how it is played. The seed of a level is the number of its task."""

    symbols = text.SYMBOLS

    def __init__(self, name: str = "babyai", level: Level | None = None) -> None:
        if level is None and name not in LEVELS:
            msg = f"Agents(): 'name' must be one of {', '.join(LEVELS)}, or come with a level, got {name!r}"
            raise ValueError(msg)
        self.name, self.level = name, LEVELS[name] if level is None else level

    @property
    def prompt_width(self) -> int:
        """Tokens of a mission and the first view, padded on the left."""
        return self.level.mission_width + self.level.view_width

    @property
    def context(self) -> int:
        """Tokens that a model must hold: the last view is not fed."""
        return self.prompt_width + self.level.horizon * (1 + self.level.view_width) - self.level.view_width

    @property
    def checkpoint(self) -> Path:
        """The model that all runs begin with."""
        return CHECKPOINTS / f"{self.name}.npz"

    def untrained(self) -> CharTransformer:
        """A model of random weights."""
        return models.untrained(len(self.symbols), self.context)

    @property
    def max_response(self) -> int:
        """The most tokens that an agent writes in an episode."""
        return self.level.horizon

    @property
    def held_out(self) -> Sequence[int]:
        """Seeds that no training sees, the same ones for every run."""
        return range(HELD_OUT_SEED, HELD_OUT_SEED + 1000)

    @property
    def tuning(self) -> Sequence[int]:
        """Seeds by which settings are chosen; no training sees them, and no result counts them."""
        return range(TUNING_SEED, TUNING_SEED + 1000)

    def stream(self, seed: int) -> Iterator[int]:
        """Training seeds, none twice, and others for each run."""
        first = seed * SEEDS_OF_A_RUN
        if not 0 <= first < HELD_OUT_SEED:
            msg = f"stream(): 'seed' must be from 0 to {HELD_OUT_SEED // SEEDS_OF_A_RUN - 1}, got {seed}"
            raise ValueError(msg)
        yield from range(first, first + SEEDS_OF_A_RUN)

    def accuracy(self, model: CharTransformer, seeds: Sequence[int], **options: Any) -> Accuracy:
        """See :func:`evaluate_agents`."""
        return evaluate_agents(model, self, seeds, **options)

    @torch.no_grad()
    def play(
        self,
        model: CharTransformer,
        seeds: Sequence[int],
        generator: torch.Generator | None,
        horizon: int | None = None,
    ) -> Sample:
        """An episode of each seed, all at once. Without a generator the likeliest actions are taken.

        ``sampled`` counts actions: views cost no sampling. ``columns`` are what methods on steps want: the view before
        each action, and the actions.
        """
        horizon = self.level.horizon if horizon is None else horizon
        if not 0 < horizon <= self.level.horizon:
            msg = f"play(): 'horizon' must be from 1 to {self.level.horizon}, got {horizon}"
            raise ValueError(msg)
        episodes = [Episode(self.level, number, seed, horizon) for number, seed in enumerate(seeds)]
        prompts = torch.tensor([episode.prompt for episode in episodes])
        cache, logits = models.prefill(model, prompts, torch.full((len(seeds),), self.prompt_width))
        position = torch.full((len(seeds),), self.prompt_width)
        drawn: list[list[tuple[float, float]]] = [[] for _ in seeds]
        line = list(range(len(seeds)))  # the episode of each line of the cache, -1 if it has ended
        for _ in range(horizon):
            logp = logits.log_softmax(-1)
            p = logp.exp()
            choice = logp.argmax(-1) if generator is None else torch.multinomial(p, 1, generator=generator)[:, 0]
            taken = logp.gather(1, choice[:, None])[:, 0].tolist()
            entropy = (-(p * logp).sum(-1)).tolist()
            new: list[list[int]] = [[] for _ in line]
            for i, (number, token) in enumerate(zip(line, choice.tolist(), strict=True)):
                if number >= 0:
                    drawn[number].append((taken[i], entropy[i]))
                    new[i] = episodes[number].act(token)
            running = [i for i, tokens in enumerate(new) if tokens]
            if not running:
                break
            if len(running) < 0.75 * len(line):  # copying the cache costs as much as a few useless lines
                kept = torch.tensor(running)
                cache, position = cache.take(kept), position[kept]
                line, new = [line[i] for i in running], [new[i] for i in running]
            else:
                line = [number if tokens else -1 for number, tokens in zip(line, new, strict=True)]
            counts = torch.tensor([len(tokens) for tokens in new])
            width = int(counts.max())
            chunk = torch.tensor([tokens + [BLANK] * (width - len(tokens)) for tokens in new])
            logits = models.feed(model, cache, chunk, counts, position)
            position = position + counts
        return _sample(episodes, drawn, prompts, seeds)


def _sample(
    episodes: list[Episode], drawn: list[list[tuple[float, float]]], prompts: torch.Tensor, seeds: Sequence[int]
) -> Sample:
    lengths = np.array([len(episode.tokens) for episode in episodes])
    shape = (len(episodes), int(lengths.max()))
    tokens, mask = torch.full(shape, BLANK), torch.zeros(shape, dtype=torch.bool)
    logprobs, entropy = torch.zeros(shape), torch.zeros(shape)
    for i, episode in enumerate(episodes):
        tokens[i, : lengths[i]] = torch.tensor(episode.tokens)
        mask[i, episode.at] = True
        logprobs[i, episode.at], entropy[i, episode.at] = torch.tensor(drawn[i]).T
    numbers = {seed: number for number, seed in enumerate(dict.fromkeys(seeds))}
    columns = {"states": [e.states for e in episodes], "actions": [e.actions for e in episodes]}
    return Sample(
        prompts, np.array([numbers[seed] for seed in seeds]), tokens, logprobs, entropy, lengths,
        np.array([episode.reward for episode in episodes]), int(mask.sum()), mask=mask, columns=columns,
    )  # fmt: skip


def evaluate_agents(
    model: CharTransformer, agents: Agents, seeds: Sequence[int], *, seed: int, samples: int = 1, greedy: bool = True
) -> Accuracy:
    """``samples`` episodes of each seed, and the likeliest one; ``length`` is the mean number of actions."""
    drawn = agents.play(model, [s for s in seeds for _ in range(samples)], torch.Generator().manual_seed(seed))
    likeliest = float(agents.play(model, seeds, None).rewards.mean()) if greedy else None
    entropy = float(drawn.entropy.sum()) / drawn.sampled
    return Accuracy(float(drawn.rewards.mean()), likeliest, entropy, drawn.sampled / len(drawn))

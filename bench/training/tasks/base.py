"""What a task has to say: its alphabet, its items, its verifier, and the texts that pre-training imitates."""

from __future__ import annotations

import random
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # a dependency of reasoning-gym compiles with SyntaxWarnings
    import reasoning_gym

# reasoning-gym draws item i of seed s from seed s + i, so seeds have to lie further apart than the sizes of their sets.
HELD_OUT_SEED, TUNING_SEED, PRETRAINING_SEED = 10**9, 1_500_000_000, 2 * 10**9
CHECKPOINTS = Path(__file__).parent.with_name("checkpoints")
BLANK = 0  # the token that prompts are padded with on the left, and responses on the right


@dataclass(frozen=True)
class Item:
    """One question.

    Attributes:
        key: its text; two items with the same key are the same question.
        prompt: tokens, padded on the left to the width of the task.
        entry: what the verifier wants.
        steps: how many steps the shortest working has.
    """

    key: str
    prompt: tuple[int, ...]
    entry: dict[str, Any]
    steps: int


class Task(ABC):
    """A data set of reasoning-gym, written in an alphabet of our own, one token a symbol.

    ``symbols`` are the texts of the tokens: the first is the blank. ``stop`` ends a response, ``step_end`` a step.
    """

    name: ClassVar[str]
    symbols: ClassVar[Sequence[str]]
    stop: ClassVar[str]
    step_end: ClassVar[str]
    prompt_width: ClassVar[int]
    max_response: ClassVar[int]
    usual_response: ClassVar[int]  # tokens of the responses of the checkpoint, on average
    held_out_items: ClassVar[int] = 600

    @abstractmethod
    def draw(self, seed: int, size: int) -> list[Item]:
        """``size`` items; equal seeds give equal items."""

    @abstractmethod
    def worked(self, item: Item, dice: random.Random, slip: float) -> str:
        """A working as a person might write it, with its stop; a step goes wrong with probability ``slip``."""

    @abstractmethod
    def score(self, item: Item, response: str) -> float:
        """The verifier's reward, between 0 and 1, of a finished response without its stop."""

    def reward(self, item: Item, tokens: Sequence[int]) -> float:
        """Reward of a response; one that was cut off gets 0."""
        if not len(tokens) or tokens[-1] != self.stop_token:
            return 0.0
        return self.score(item, self.decode(tokens)[: -len(self.stop)])

    def encode(self, text: str) -> list[int]:
        """Tokens of a text; a character outside the alphabet raises KeyError."""
        return [self._codes[character] for character in text]

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of tokens."""
        return "".join(self.symbols[token] for token in tokens)

    def prompt(self, text: str) -> tuple[int, ...]:
        """Tokens of a prompt, padded to the width."""
        if len(tokens := self.encode(text)) > self.prompt_width:
            msg = f"prompt of {len(tokens)} tokens in a width of {self.prompt_width}: {text!r}"
            raise ValueError(msg)
        return tuple([BLANK] * (self.prompt_width - len(tokens)) + tokens)

    @property
    def checkpoint(self) -> Path:
        """The model that all runs of the task begin with."""
        return CHECKPOINTS / f"{self.name}.npz"

    @property
    def stop_token(self) -> int:
        """The token that ends a response."""
        return self._codes[self.stop]

    @property
    def step_token(self) -> int:
        """The token that ends a step."""
        return self._codes[self.step_end]

    @property
    def context(self) -> int:
        """Tokens that a model must hold."""
        return self.prompt_width + self.max_response

    @cached_property
    def held_out(self) -> list[Item]:
        """Items that no training sees, the same ones for every run."""
        return self._distinct(HELD_OUT_SEED, self.held_out_items)

    @cached_property
    def tuning(self) -> list[Item]:
        """Items by which settings are chosen; no training sees them, and no result counts them."""
        seen = {item.key for item in self.held_out}
        return [item for item in self._distinct(TUNING_SEED, self.held_out_items) if item.key not in seen]

    def stream(self, seed: int) -> Iterator[Item]:
        """Training items without end, none of them held out."""
        excluded = {item.key for item in (*self.held_out, *self.tuning)}
        start = random.Random(seed).randrange(HELD_OUT_SEED // 2) if seed < HELD_OUT_SEED else seed
        while True:
            for item in self.draw(start, 1000):
                if item.key not in excluded:
                    yield item
            start += 1000

    @cached_property
    def _codes(self) -> dict[str, int]:
        return {symbol: code for code, symbol in enumerate(self.symbols)}

    def _distinct(self, seed: int, size: int) -> list[Item]:
        found: dict[str, Item] = {}
        while len(found) < size:
            for item in self.draw(seed, size):
                found.setdefault(item.key, item)
            seed += size
        return list(found.values())[:size]


def entries(dataset: str, seed: int, size: int, **options: Any) -> tuple[Any, list[dict[str, Any]]]:
    """A data set of reasoning-gym, which scores answers, and its entries."""
    made = reasoning_gym.create_dataset(dataset, seed=seed, size=size, **options)
    return made, [made[i] for i in range(size)]

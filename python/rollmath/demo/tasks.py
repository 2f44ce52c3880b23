"""Chains of two-digit sums from `reasoning-gym`, written out character by character.

A prompt is the expression, padded on the left to a fixed width with a blank which the model knows from its training:
``"   42-25-73:"``. A response works from left to right and ends with a full stop: ``"42-25=17;17-73=-56."``. Only what
follows the last ``=`` is the answer, and only the answer is scored, by the verifier of the data set.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # a dependency of reasoning-gym compiles with SyntaxWarnings
    import reasoning_gym  # type: ignore[import-untyped,import-not-found,unused-ignore]

ALPHABET = " 0123456789+-=;:."
BLANK, STOP = ALPHABET.index(" "), ALPHABET.index(".")
PROMPT_WIDTH = 12  # four numbers, three operators and the colon
MAX_RESPONSE = 40

# reasoning-gym draws item i of seed s from seed s + i, so seeds have to lie further apart than the sizes of their sets.
HELD_OUT_SEED = 10**9
PRETRAINING_SEED = 2 * 10**9
_CODE = {character: code for code, character in enumerate(ALPHABET)}


@dataclass(frozen=True)
class Item:
    """One task: the expression, the prompt as tokens, and the entry which its verifier wants."""

    expression: str
    prompt: tuple[int, ...]
    entry: dict[str, Any]


class Tasks:
    """The data set, its verifier, and endless streams of items which are never among the held-out ones."""

    def __init__(self, held_out: int = 600) -> None:
        self._held_out = self._draw(HELD_OUT_SEED, held_out)
        self._excluded = {item.expression for item in self._held_out}

    @property
    def held_out(self) -> list[Item]:
        """Items which no training has seen, the same ones for every seed of the demo."""
        return list(self._held_out)

    def stream(self, seed: int) -> Iterator[Item]:
        """Yield training items without end; equal seeds give equal streams."""
        start = random.Random(seed).randrange(HELD_OUT_SEED // 2)
        while True:
            for item in self._draw(start, 1000):
                if item.expression not in self._excluded:
                    yield item
            start += 1000

    def reward(self, item: Item, response: Sequence[int]) -> float:
        """Return 1 for a finished response with the right answer, otherwise 0 (also for a truncated one)."""
        if not response or response[-1] != STOP:
            return 0.0
        answer = decode(response)[:-1].rpartition("=")[2]
        return float(self._verifier.score_answer(answer, item.entry) >= 1.0)

    def _draw(self, seed: int, size: int) -> list[Item]:
        self._verifier = reasoning_gym.create_dataset(
            "chain_sum", min_terms=3, max_terms=4, min_digits=2, max_digits=2, seed=seed, size=size
        )
        items = []
        for index in range(size):
            entry = self._verifier[index]
            expression = entry["metadata"]["expression"].replace(" ", "")
            items.append(Item(expression, tuple(encode(f"{expression}:".rjust(PROMPT_WIDTH))), entry))
        return items


def encode(text: str) -> list[int]:
    """Turn characters into tokens; a character outside the alphabet raises KeyError."""
    return [_CODE[character] for character in text]


def decode(tokens: Sequence[int]) -> str:
    """Turn tokens into characters."""
    return "".join(ALPHABET[token] for token in tokens)


def worked(expression: str, slip: Callable[[], int] = lambda: 0) -> str:
    """Return the working of an expression, the text which pre-training imitates.

    ``slip()`` is added to the result of each step, which the next step then goes on with.

    >>> worked("42-25-73")
    '42-25=17;17-73=-56.'
    """
    terms = expression.replace("-", "+-").split("+")
    total, steps = int(terms[0]), []
    for term in terms[1:]:
        before, total = total, total + int(term) + slip()
        steps.append(f"{before}{term if term.startswith('-') else '+' + term}={total}")
    return ";".join(steps) + "."

"""Arithmetic: chains of two-digit sums (``chain_sum``), worked from left to right: ``42-25-73:42-25=17;17-73=-56.``"""

from __future__ import annotations

import random
from functools import cached_property
from typing import Any, ClassVar

from bench.training.tasks.base import Item, Task, entries

SLIPS = (-20, -11, -10, -9, -2, -1, 1, 2, 9, 10, 11, 20)  # what a wrong step is wrong by


class Sums(Task):
    """Only what follows the last ``=`` is the answer, and only that is scored."""

    name = "sums"
    symbols = " 0123456789+-=;:."
    stop, step_end = ".", ";"
    prompt_width = 15  # five numbers, four operators and the colon
    max_response = 56
    usual_response = 29
    options: ClassVar[dict[str, int]] = {"min_terms": 3, "max_terms": 5, "min_digits": 2, "max_digits": 2}

    def draw(self, seed: int, size: int) -> list[Item]:
        _, drawn = entries("chain_sum", seed, size, **self.options)
        items = []
        for entry in drawn:
            expression = entry["metadata"]["expression"].replace(" ", "")
            steps = expression.count("+") + expression.count("-")
            items.append(Item(expression, self.prompt(f"{expression}:"), entry, steps))
        return items

    def worked(self, item: Item, dice: random.Random, slip: float) -> str:
        terms = item.key.replace("-", "+-").split("+")
        total, steps = int(terms[0]), []
        for term in terms[1:]:
            before, total = total, total + int(term) + (dice.choice(SLIPS) if dice.random() < slip else 0)
            steps.append(f"{before}{term if term.startswith('-') else '+' + term}={total}")
        return ";".join(steps) + "."

    def score(self, item: Item, response: str) -> float:
        return float(self._verifier.score_answer(response.rpartition("=")[2], item.entry) >= 1.0)

    @cached_property
    def _verifier(self) -> Any:
        return entries("chain_sum", 0, 1, **self.options)[0]


TASK = Sums()

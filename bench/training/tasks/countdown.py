"""Search: reach a target with all of 3 or 4 numbers (``countdown``), by attempts: ``3,4,7>25:3+4=7*7=49;4*7=28-3=25.``

An attempt is read from left to right, as on a pocket calculator: ``3+4=7*7=49`` is the expression ``(3+4)*7``.
"""

from __future__ import annotations

import random
import re
from functools import cached_property
from typing import Any, ClassVar

from bench.training.tasks.base import Item, Task, entries

Chain = list[tuple[str, int]]  # operations on 0; the first one adds

OPERATORS = "+-*"
LARGEST = 99  # of what is one token, and of results, where a question can be answered with such results
ATTEMPTS = 4
SLIPS = (-10, -2, -1, 1, 2, 10)  # what a wrong result is wrong by
ATTEMPT = re.compile(r"(\d+)((?:[-+*]\d+=-?\d+)+)")
OPERATION = re.compile(r"([-+*])(\d+)=-?\d+")


class Countdown(Task):
    """Only the last attempt is scored, and of it only the expression, not the results that are written with it."""

    name = "countdown"
    symbols = (" ", *map(str, range(LARGEST + 1)), *"+-*=,>;:.")
    stop, step_end = ".", ";"
    prompt_width = 10  # four numbers, their commas, the target, two signs
    max_response = 60  # four attempts with four numbers
    usual_response = 28

    def draw(self, seed: int, size: int) -> list[Item]:
        _, drawn = entries("countdown", seed, size, **self._options)
        items = []
        for entry in drawn:
            numbers = sorted(entry["metadata"]["numbers"])  # the order is no part of the question
            key = f"{','.join(map(str, numbers))}>{entry['metadata']['target']}"
            items.append(Item(key, self.prompt(f"{key}:"), entry, len(numbers) - 1))
        return items

    def encode(self, text: str) -> list[int]:
        return [self._codes[symbol] for symbol in re.findall(r"\d\d?|\D", text)]

    def worked(self, item: Item, dice: random.Random, slip: float) -> str:
        """Random attempts, then one that is right; ``slip``: of a result, and of giving up after an attempt."""
        numbers, target = item.entry["metadata"]["numbers"], item.entry["metadata"]["target"]
        attempts: list[str] = []
        while True:
            last = len(attempts) == ATTEMPTS - 1 or dice.random() < 0.5
            text, result = _written(_solution(numbers, target, dice) if last else _random(numbers, dice), dice, slip)
            attempts.append(text)
            if last or result == target or dice.random() < slip:
                break
        return ";".join(attempts) + "."

    def score(self, item: Item, response: str) -> float:
        expression = answer(response)
        # The verifier parses as Python would: what is no expression of ours does not get there.
        return float(expression is not None and self._verifier.score_answer(expression, item.entry) >= 1.0)

    @cached_property
    def _verifier(self) -> Any:
        return entries("countdown", 0, 1, **self._options)[0]

    _options: ClassVar[dict[str, Any]] = {
        "min_numbers": 3, "max_numbers": 4, "min_value": 1, "max_value": 12, "min_target": 10, "max_target": LARGEST,
        "operators": tuple(OPERATORS),
    }  # fmt: skip


def answer(response: str) -> str | None:
    """The expression of the last attempt, in brackets as it was calculated; None if it is malformed."""
    attempt = ATTEMPT.fullmatch(response.rpartition(";")[2])
    if attempt is None:
        return None
    expression = attempt[1]
    for operator, number in OPERATION.findall(attempt[2]):
        expression = f"({expression}){operator}{number}"
    return expression


def _written(chain: Chain, dice: random.Random, slip: float) -> tuple[str, int]:
    """The text of an attempt, and its result as written."""
    (_, result), *rest = chain
    text = str(result)
    for operator, number in rest:
        result = _apply(result, operator, number)
        if dice.random() < slip:
            near = [result + wrong for wrong in SLIPS]
            result = dice.choice([wrong for wrong in near if 0 <= wrong <= LARGEST] or near)
        text += f"{operator}{number}={result}"
    return text, result


def _random(numbers: list[int], dice: random.Random) -> Chain:
    """An attempt that uses all numbers, with results between 0 and the largest."""
    first, *rest = dice.sample(numbers, len(numbers))
    chain, result = [("+", first)], first
    for number in rest:
        operator = dice.choice([o for o in OPERATORS if 0 <= _apply(result, o, number) <= LARGEST])
        chain.append((operator, number))
        result = _apply(result, operator, number)
    return chain


def _solution(numbers: list[int], target: int, dice: random.Random) -> Chain:
    """A right attempt; the results leave 0 to the largest only where they must."""
    chain = _backwards(numbers, target, dice, 0, LARGEST) or _backwards(numbers, target, dice, -999, 999)
    if chain is None:
        msg = f"{target} cannot be reached from left to right with {numbers}"
        raise ValueError(msg)
    return chain


def _backwards(numbers: list[int], target: int, dice: random.Random, low: int, high: int) -> Chain | None:
    """Undo a last operation, in random order, until one number is left and is the target."""
    if len(numbers) == 1:
        return [("+", target)] if numbers[0] == target else None
    last = [(place, operator) for place in range(len(numbers)) for operator in OPERATORS]
    for place, operator in dice.sample(last, len(last)):
        number, rest = numbers[place], numbers[:place] + numbers[place + 1 :]
        before = _before(target, operator, number)
        if before is None or not low <= before <= high:
            continue
        if (chain := _backwards(rest, before, dice, low, high)) is not None:
            return [*chain, (operator, number)]
    return None


def _apply(value: int, operator: str, number: int) -> int:
    return value + number if operator == "+" else value - number if operator == "-" else value * number


def _before(value: int, operator: str, number: int) -> int | None:
    """What ``_apply`` makes ``value`` of; None if there is no such integer."""
    if operator == "*":
        return None if value % number else value // number
    return value - number if operator == "+" else value + number


TASK = Countdown()

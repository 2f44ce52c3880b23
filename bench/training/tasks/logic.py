"""Multi-step logic: knights and knaves (``knights_knaves``), three people, one case of who is what after the other.

In ``C,B=a,b:`` A says that C is a knight, B that B is a knight exactly if A is a knave, and C that B is a knave:
capitals are knights, small letters knaves. ``ABC1100;ABc0;aBc01110.`` is a response, where ``;`` refutes a case and
``.`` keeps it. A case is checked person by person: the values of the two parts of the statement and its own, or only
the last if there is one part. A knight whose statement is false, or a knave whose is true, refutes it and ends it.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from functools import cached_property
from typing import Any, ClassVar

from bench.training.tasks.base import PRETRAINING_SEED, Item, Task, entries

PEOPLE = "ABC"
CASES = tuple("".join(case) for case in itertools.product(*(person + person.lower() for person in PEOPLE)))
OPERATORS = {
    "&": lambda p, q: p and q,
    "|": lambda p, q: p or q,
    ">": lambda p, q: q or not p,
    "=": lambda p, q: p == q,
}
WRITTEN = {"and": "&", "or": "|", "->": ">", "<=>": "="}
POOL = 50_000  # questions that pre-training goes round, since drawing new ones is slow
IN_TURN = 0.6  # how likely the first case not yet tried is the next one, and else the second, and so on


class Logic(Task):
    """Only the case after the last ``;`` is the answer, and only that is scored; its checks are not."""

    name = "logic"
    symbols = " ABCabc&|>=,01;:."
    stop, step_end = ".", ";"
    prompt_width = 12  # three statements of three symbols, two commas and the colon
    max_response = 95  # seven cases of 3 + 3 * 3 + 1, the eighth, which needs no check, and the stop
    usual_response = 42
    options: ClassVar[dict[str, int]] = {"n_people": len(PEOPLE), "depth_constraint": 2, "width_constraint": 2}

    def draw(self, seed: int, size: int) -> list[Item]:
        _, drawn = entries("knights_knaves", seed, size, **self.options)
        items = []
        for entry in drawn:
            facts = entry["metadata"]
            key = ",".join(written(statement) for statement in facts["statements"])
            solution = "".join(p if knight else p.lower() for p, knight in zip(PEOPLE, facts["solution"], strict=True))
            roles = [facts["knight_knave_terms"][role] for role in ("a_knave", "a_knight")]
            wanted = {"answer": entry["answer"], "names": facts["names"], "roles": roles}
            # Of a working that tries the cases in the order of CASES.
            items.append(Item(key, self.prompt(f"{key}:"), wanted, CASES.index(solution) + 1))
        return items

    def stream(self, seed: int) -> Iterator[Item]:
        items = super().stream(seed)
        return itertools.cycle(list(itertools.islice(items, POOL))) if seed >= PRETRAINING_SEED else items

    def worked(self, item: Item, dice: random.Random, slip: float) -> str:
        """Cases nearly in order, without one twice; a value goes wrong in a share ``slip`` of the checks.

        The case that is left when all others are refuted is the answer without a check.
        """
        left, tried = list(CASES), []
        while len(left) > 1:
            place = 0
            while dice.random() > IN_TURN:
                place += 1
            case = left.pop(place % len(left))
            checks, holds = examine(case, item.key.split(","), dice, slip)
            tried.append(case + checks)
            if holds:
                return ";".join(tried) + "."
        return ";".join([*tried, *left]) + "."

    def score(self, item: Item, response: str) -> float:
        case = response.rpartition(";")[2][: len(PEOPLE)]
        if case not in CASES:
            return 0.0
        roles = item.entry["roles"]
        answer = ", ".join(f"{n} is {roles[c.isupper()]}" for n, c in zip(item.entry["names"], case, strict=True))
        return float(self._verifier.score_answer(answer, item.entry) >= 1.0)

    @cached_property
    def _verifier(self) -> Any:
        return entries("knights_knaves", 0, 1, **self.options)[0]


def written(statement: tuple[Any, ...]) -> str:
    """A statement in our alphabet."""
    kind, *parts = statement
    if kind in WRITTEN:
        return WRITTEN[kind].join(written(part) for part in parts)
    if kind == "not":  # of a single person, at this depth
        return written(parts[0]).swapcase()
    person = PEOPLE[parts[0]]
    return person if kind == "telling-truth" else person.lower()


def examine(case: str, statements: list[str], dice: random.Random, slip: float) -> tuple[str, bool]:
    """The checks of a case, up to the first person that refutes it, and whether none does."""
    checks = ""
    for role, statement in zip(case, statements, strict=True):
        values = [part in case for part in statement[::2]]
        wrong = dice.randrange(3) if dice.random() < slip else None  # a part, or else what follows from the parts
        if len(values) == 2:
            values = [value != (place == wrong) for place, value in enumerate(values)]
            values.append(OPERATORS[statement[1]](*values))
            wrong = 2 if wrong == 2 else None
        values[-1] = values[-1] != (wrong is not None)
        checks += "".join(str(int(value)) for value in values)
        if values[-1] != role.isupper():
            return checks, False
    return checks, True


TASK = Logic()

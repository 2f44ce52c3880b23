"""What an agent reads and writes: missions, views and actions as words of a fixed vocabulary, one token each."""

from __future__ import annotations

import os
from functools import lru_cache

import numpy as np

os.environ["PYGAME_HIDE_SUPPORT_PROMPT"] = "1"
from minigrid.core.constants import IDX_TO_COLOR, IDX_TO_OBJECT, STATE_TO_IDX

from bench.training.tasks.base import BLANK

ACTIONS = ("left", "right", "forward", "pickup", "drop", "toggle")  # by minigrid's numbers
COLOURS = ("red", "green", "blue", "purple", "yellow", "grey")
KINDS = ("key", "ball", "box", "door")
MISSIONS = (
    "a", "the", "object", "go", "to", "open", "pick", "up", "put", "next", "in", "front", "of", "you", "behind", "on",
    "your", "left", "right", "and", "then", "after",
)  # fmt: skip
PLACES = (*(f"f{n}" for n in range(1, 7)), *(f"l{n}" for n in range(1, 4)), *(f"r{n}" for n in range(1, 4)))
VIEWS = ("nothing", "wall", "have", "closed", "locked")
SYMBOLS = (" ", *(f"<{action}>" for action in ACTIONS), *MISSIONS, *COLOURS, *KINDS, *VIEWS, *PLACES)
CODES = {symbol: code for code, symbol in enumerate(SYMBOLS)}
FIRST_ACTION = CODES["<left>"]
STATES = {number: name for name, number in STATE_TO_IDX.items()}


def encode(text: str) -> list[int]:
    """Tokens of words; one that is not in the vocabulary raises ValueError."""
    words = text.replace(",", "").split()
    if unknown := [word for word in words if word not in CODES]:
        msg = f"encode(): 'text' must be words of the vocabulary, got {unknown[0]!r} in {text!r}"
        raise ValueError(msg)
    return [CODES[word] for word in words]


def decode(tokens: list[int]) -> str:
    """Text of tokens, without the blanks."""
    return " ".join(SYMBOLS[token] for token in tokens if token != BLANK)


@lru_cache(maxsize=100_000)
def view(image: bytes, size: int, room: int) -> str:
    """What the agent sees, in at most ``room`` words: the nearest walls, then things, the nearest first.

    The agent looks up from the middle of the last row: ``red key f2 l1`` lies two steps ahead and one to the left. It
    is not told where it is, so that two places may read the same. Things for which there is no room are left out.
    """
    cells = np.frombuffer(image, np.uint8).reshape(size, size, 3)
    x0, y0 = size // 2, size - 1
    words = []
    for way, ray in (("f", cells[x0, ::-1]), ("l", cells[x0::-1, y0]), ("r", cells[x0:, y0])):
        words += [f"{way}{n}" for n, cell in enumerate(ray) if IDX_TO_OBJECT[cell[0]] == "wall"][:1]
    words = ["wall", *words] if words else []
    things = []
    for x, y in np.argwhere((cells[..., 0] > 0) & (cells[..., 0] < len(IDX_TO_OBJECT))).tolist():
        kind, colour, state = cells[x, y].tolist()
        if (name := IDX_TO_OBJECT[kind]) not in KINDS:
            continue
        ahead, left = y0 - y, x0 - x
        thing = [IDX_TO_COLOR[colour], name]
        if name == "door":
            thing.insert(0, STATES[state])
        place = [f"f{ahead}"] * (ahead > 0) + [f"l{left}"] * (left > 0) + [f"r{-left}"] * (left < 0)
        things.append((ahead + abs(left), [*thing, *place] if place else ["have", *thing]))
    for _, thing in sorted(things):
        words += thing if len(words) + len(thing) <= room else []
    return " ".join(words or ["nothing"])

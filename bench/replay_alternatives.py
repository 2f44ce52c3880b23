"""Replay buffers in plain Python: a list of dicts, one an edge, as tree trainers keep them."""

import random
from collections import defaultdict
from typing import Any

Edge = dict[str, Any]


def edges(keys: list[str]) -> list[Edge]:
    """One a key, with the fields that such trainers keep."""
    return [
        {"key": key, "query": f"prefix {i // 6}", "response": f"segment {i}", "advantage": i % 7 / 7, "iteration": 0}
        | {"position": i}
        for i, key in enumerate(keys)
    ]


class ByEquality:
    """Takes the drawn edges out by comparing all with all."""

    def __init__(self, entries: list[Edge], max_age: int, per_key: int) -> None:
        self.edges, self.max_age, self.per_key = entries, max_age, per_key

    def draw(self, iteration: int, seed: int) -> list[int]:
        generator = random.Random(seed)
        fresh = [edge for edge in self.edges if iteration - edge["iteration"] < self.max_age]
        by_key = defaultdict(list)
        for place, edge in enumerate(fresh):
            by_key[edge["key"]].append(place)
        places = [
            place
            for own in by_key.values()
            for place in (generator.sample(own, self.per_key) if len(own) > self.per_key else own)
        ]
        self.edges = self.without(fresh, places)
        return [fresh[place]["position"] for place in places]

    def without(self, fresh: list[Edge], places: list[int]) -> list[Edge]:
        drawn = [fresh[place] for place in places]
        return [edge for edge in fresh if edge not in drawn]


class ByPlace(ByEquality):
    """The same, with a set of places: the best that plain Python does."""

    def without(self, fresh: list[Edge], places: list[int]) -> list[Edge]:
        drawn = set(places)
        return [edge for place, edge in enumerate(fresh) if place not in drawn]

"""Near-equal texts without rollmath, task by task in the order of rows: the first cluster whose first text is near."""

from collections.abc import Callable, Iterable

import numpy as np
import pytest

from bench.inputs import NearTexts

THRESHOLD = 0.95


def _by_task(data: NearTexts, one: Callable[[list[str]], Iterable[int]]) -> np.ndarray:
    """Clusters as numbers in order of first appearance; the rows of a task lie together."""
    out = []
    for task in np.split(np.arange(len(data.texts)), np.flatnonzero(np.diff(data.tasks)) + 1):
        out += [task[k] for k in one([data.texts[row] for row in task])]
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in out])


def difflib(data: NearTexts) -> np.ndarray:
    """As in the code of GiGPO."""
    from difflib import SequenceMatcher

    def one(texts: list[str]) -> list[int]:
        leaders, out = [], []
        for row, text in enumerate(texts):
            near = (k for k in leaders if SequenceMatcher(None, text, texts[k]).ratio() >= THRESHOLD)
            out.append(next(near, row))
            if out[-1] == row:
                leaders.append(row)
        return out

    return _by_task(data, one)


def rapidfuzz(data: NearTexts, threads: int) -> np.ndarray:
    """All pairs of a task in one call, which stops early where texts are far apart."""
    process = pytest.importorskip("rapidfuzz.process", reason="rapidfuzz is not installed")
    fuzz = pytest.importorskip("rapidfuzz.fuzz")

    def one(texts: list[str]) -> list[int]:
        scores = process.cdist(
            texts, texts, scorer=fuzz.ratio, score_cutoff=100 * THRESHOLD, dtype=np.uint8, workers=threads
        )
        leads = np.zeros(len(texts), bool)
        out = []
        for row in range(len(texts)):
            near = np.flatnonzero(leads[:row] & (scores[row, :row] > 0))
            out.append(near[0] if len(near) else row)
            leads[row] = not len(near)
        return out

    return _by_task(data, one)

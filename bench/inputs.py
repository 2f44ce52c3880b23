"""The inputs of the suites, made once and shared by all providers of an op."""

import uuid
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np


class Rollouts(NamedTuple):
    rewards: np.ndarray
    ids: np.ndarray
    advantages: np.ndarray


@lru_cache(maxsize=1)
def rollouts(groups: int, of: int, ids: str) -> Rollouts:
    """Shuffled rollouts; ids are UUID strings (an object array, as trainers have) or ints.

    The expected advantages are taken from the rewards as a matrix, before anything is shuffled.
    """
    rng = np.random.default_rng(0)
    rewards = rng.random((groups, of))
    advantages = (rewards - rewards.mean(1, keepdims=True)) / (rewards.std(1, ddof=1, keepdims=True) + 1e-6)
    if ids == "uuid":
        words = [str(uuid.UUID(bytes=rng.bytes(16))) for _ in range(groups)]
        names = np.array(words, dtype=object)
    else:
        names = rng.permutation(groups)
    order = rng.permutation(groups * of)
    return Rollouts(rewards.ravel()[order], np.repeat(names, of)[order], advantages.ravel()[order])


class Rows(NamedTuple):
    lengths: np.ndarray
    offsets: np.ndarray
    packed: np.ndarray
    padded: np.ndarray


def _lengths(rng: np.random.Generator, rows: int, mean: int, most: int) -> np.ndarray:
    lengths = rng.integers(0, 2 * mean + 1, rows).clip(max=most)
    lengths[0] = most
    return lengths


def _offsets(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)])


@lru_cache(maxsize=1)
def padded_rows(rows: int, width: int, fill: float) -> Rows:
    """float32 ``[rows, width]``, of which a share ``fill`` is in use; 0 behind the end of each row."""
    rng = np.random.default_rng(0)
    lengths = _lengths(rng, rows, int(fill * width), width)
    packed = rng.random(int(lengths.sum()), dtype=np.float32)
    offsets = _offsets(lengths)
    padded = np.zeros((rows, width), np.float32)
    for i, n in enumerate(lengths):
        padded[i, :n] = packed[offsets[i] : offsets[i + 1]]
    return Rows(lengths, offsets, packed, padded)


class TokenLists(NamedTuple):
    lists: list[list[int]]
    offsets: np.ndarray
    packed: np.ndarray
    padded: np.ndarray


@lru_cache(maxsize=1)
def token_lists(rows: int, total: int, order: str) -> TokenLists:
    """About ``total`` token ids as Python lists; their objects lie in memory in order, or ``"scattered"``."""
    rng = np.random.default_rng(0)
    mean = total // rows
    lengths = _lengths(rng, rows, mean, 2 * mean)
    offsets = _offsets(lengths)
    # Ids over 256, because Python has one object for each small int.
    objects: Any = rng.integers(257, 150_000, offsets[-1]).tolist()
    if order == "scattered":
        shuffled = np.array(objects, dtype=object)
        rng.shuffle(shuffled)
        objects = shuffled.tolist()
    packed = np.array(objects)
    padded = np.zeros((rows, lengths.max()), np.int64)
    for i, n in enumerate(lengths):
        padded[i, :n] = packed[offsets[i] : offsets[i + 1]]
    return TokenLists([objects[a:b] for a, b in pairwise(offsets)], offsets, packed, padded)


class Sequences(NamedTuple):
    tokens: np.ndarray  # [rows, length] int32
    groups: np.ndarray
    unique: int


@lru_cache(maxsize=1)
def sequences(prompts: int, of: int, length: int) -> Sequences:
    """Shuffled sequences; the rollouts of a prompt share their first half and differ from the next token on."""
    rng = np.random.default_rng(0)
    half = length // 2
    tokens = rng.integers(0, 150_000, (prompts, of, length), dtype=np.int32)
    tokens[:, :, :half] = tokens[:, :1, :half]
    tokens[:, :, half] = np.arange(of)
    order = rng.permutation(prompts * of)
    unique = prompts * half + prompts * of * (length - half)
    return Sequences(tokens.reshape(-1, length)[order], np.repeat(np.arange(prompts), of)[order], unique)


class Trees(NamedTuple):
    parents: np.ndarray  # -1 for roots; each tree level by level, so parents come before children
    leaves: np.ndarray  # node ids, ascending
    rewards: np.ndarray
    levels: tuple[np.ndarray, ...]  # node ids of each depth
    difference: np.ndarray
    normalized: np.ndarray


@lru_cache(maxsize=1)
def trees(count: int, branching: tuple[int, ...]) -> Trees:
    """``count`` equal trees. The expected edge advantages are taken from arrays with one axis a level."""
    rng = np.random.default_rng(0)
    sizes = np.cumprod([1, *branching])
    starts = np.concatenate([[0], np.cumsum(sizes)])
    nodes = int(starts[-1])
    base = np.arange(count)[:, None] * nodes
    parents = np.full((count, nodes), -1)
    for d, b in enumerate(branching):
        parents[:, starts[d + 1] : starts[d + 2]] = base + starts[d] + np.arange(sizes[d + 1]) // b
    values = [rng.random((count, sizes[-1]))]
    spreads = []
    for b in reversed(branching):
        children = values[0].reshape(count, -1, b)
        values.insert(0, children.mean(2))
        spreads.insert(0, children.std(2))
    difference, normalized = np.zeros((count, nodes)), np.zeros((count, nodes))
    for d, b in enumerate(branching):
        edge = values[d + 1] - np.repeat(values[d], b, axis=1)
        difference[:, starts[d + 1] : starts[d + 2]] = edge
        normalized[:, starts[d + 1] : starts[d + 2]] = edge / (np.repeat(spreads[d], b, axis=1) + 1e-8)
    levels = tuple((base + np.arange(starts[d], starts[d + 1])).ravel() for d in range(len(sizes)))
    return Trees(parents.ravel(), levels[-1], values[-1].ravel(), levels, difference.ravel(), normalized.ravel())


class PrefixGroups(NamedTuple):
    parents: np.ndarray
    node: np.ndarray
    rewards: np.ndarray
    ids: np.ndarray
    edges: np.ndarray  # [n, 2] rows, the lesser first
    margin: float
    soft: np.ndarray
    hard: np.ndarray


@lru_cache(maxsize=1)
def prefix_groups(groups: int) -> PrefixGroups:
    """Shuffled groups of 8 samples on the prefixes "", a, c, ab, ad: one, two, two, two and one samples.

    "", a and c fail, of ab and ad at least one sample succeeds. So each of the two failures of a stays below each of
    the two of c by the margin; all four have the same reward, so half of the margin goes to each side. On the sphere
    all else is stretched.
    """
    rng = np.random.default_rng(0)
    margin = 0.01
    at = np.array([0, 1, 1, 2, 2, 3, 3, 4])
    rewards = np.zeros((groups, 8))
    wins = rng.integers(1, 8, groups)
    for k in range(3):
        rewards[:, 5 + k] = wins >> k & 1
    base = np.arange(groups)[:, None]
    edges = [base * 8 + np.array([i, j]) for i in (1, 2) for j in (3, 4)]
    for j in (5, 6, 7):
        won = np.flatnonzero(rewards[:, j])[:, None] * 8
        edges += [won + np.array([i, j]) for i in (0, 1, 2)]
    soft = rewards - rewards.mean(1, keepdims=True)
    lift = np.array([0, -1, -1, 1, 1, 0, 0, 0]) * margin / 2
    stretch = np.sqrt((8 - (lift**2).sum()) / (soft**2).sum(1, keepdims=True))
    parents = np.array([-1, 0, 0, 1, 1])
    turn = rng.permutation(groups * 8)
    place = np.empty_like(turn)
    place[turn] = np.arange(groups * 8)
    return PrefixGroups(
        np.where(parents < 0, -1, parents + base * 5).ravel(),
        (at + base * 5).ravel()[turn],
        rewards.ravel()[turn],
        np.repeat(rng.permutation(groups), 8)[turn],
        place[np.concatenate(edges)],
        margin,
        (soft + lift).ravel()[turn],
        (soft * stretch + lift).ravel()[turn],
    )


class Pools(NamedTuple):
    x: np.ndarray
    pooled: np.ndarray


@lru_cache(maxsize=1)
def pools(size: int) -> Pools:
    """A chain in runs that fall, so that each is pooled, to means that rise from run to run."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 200, size)
    lengths = lengths[: np.searchsorted(np.cumsum(lengths), size) + 1]
    lengths[-1] -= lengths.sum() - size
    run = np.repeat(np.arange(len(lengths)), lengths)
    place = np.arange(size) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    means = np.cumsum(rng.random(len(lengths)) + 0.1)
    return Pools(means[run] + (lengths[run] - 1) / 2.0 - place, means[run])


class NearTexts(NamedTuple):
    texts: list[str]
    tasks: np.ndarray
    clusters: np.ndarray  # numbered by first appearance


@lru_cache(maxsize=1)
def near_texts(tasks: int, of: int, kind: str) -> NearTexts:
    """Distinct texts of 400 characters, a fifth of which are as another of their task but for the last character.

    ``"unrelated"``: letters about as frequent as in English. ``"templated"``: one text a task, with other letters in 32
    places of each state: the same counts, nearly, and ratios of about 0.93.
    """
    rng = np.random.default_rng(0)
    letters = np.frombuffer(
        (" " * 18 + "etaoinshr" * 6 + "eeeeeettttaaaoooiinnss" + "dlcumwfgypb" * 2 + "vkjxqz").encode(), np.uint8
    )
    n, pairs = of - of // 5, of // 5
    if kind == "unrelated":
        codes = rng.choice(letters, (tasks, n, 400))
    else:
        codes = np.repeat(rng.choice(letters, (tasks, 1, 400)), n, axis=1)
        codes[:, :, 6:390:12] = rng.choice(letters, (tasks, n, 32))
    codes[:, :, 399] = ord(".")
    codes = np.concatenate([codes, codes[:, :pairs]], axis=1)
    codes[:, n:, 399] = ord("!")
    joined = codes.tobytes().decode()
    texts = [joined[k : k + 400] for k in range(0, len(joined), 400)]
    clusters = np.arange(tasks)[:, None] * n + np.r_[np.arange(n), np.arange(pairs)]
    return NearTexts(texts, np.repeat(np.arange(tasks), of), clusters.ravel())

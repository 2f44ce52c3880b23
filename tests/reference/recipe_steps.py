"""A step with rollouts of several rows and gaps, for tests of recipes."""

import numpy as np
import torch

from rollmath import Forest, LogProbs, Rows
from rollmath.recipes import get, names

#: Settings that a recipe cannot be made without.
SETTINGS = {"dr_grpo": {"max_length": 64}}


def recipe_of(name):
    return get(name, **SETTINGS.get(name, {}))


ALL = [recipe_of(name) for name in names()]


class Step:
    """Seven prompts, rollouts of one to three rows, rows without positions and without trained ones."""

    def __init__(self, seed, *, masked=True, n=20, dtype=np.float64):
        rng = np.random.default_rng(seed)
        rollouts = rng.permutation(np.repeat(np.arange(n), rng.integers(1, 4, n)))
        lengths = rng.integers(0, 7, len(rollouts))
        total = int(lengths.sum())
        mask = rng.random(total) < 0.8 if masked else None
        self.rows = Rows([f"r{i}" for i in rollouts], lengths, mask=mask, tokens=rng.integers(0, 9, total))
        self.trained = np.ones(total, bool) if mask is None else mask
        self.groups = rng.integers(0, 7, n).tolist()
        self.rewards = (rng.random(n) < 0.5).astype(dtype)
        self.strata = rng.integers(0, 2, n).tolist()
        self.truncated = rng.random(n) < 0.2
        # A row is a step; one state is where every rollout begins.
        sizes = np.bincount(rollouts, minlength=n)[[int(name[1:]) for name in self.rows.rollouts.ids]]
        self.states = [["hall", *rng.choice(["yard", "room"], k - 1).tolist()] for k in sizes]
        self.actions = [rng.choice(["go", "take"], k).tolist() for k in sizes]
        noise = rng.standard_normal((4, total))
        self.theta, self.prox, self.behaviour, self.ref = -3 * rng.random(total) + 0.3 * noise

    def logprobs(self, *, rows=None, poison=np.nan, grad=False):
        """Packed, of some rows; NaN where nothing is trained."""
        at = np.arange(len(self.theta)) if rows is None else self.positions(rows)
        x = [np.where(self.trained, column, poison)[at] for column in (self.theta, self.prox, self.behaviour, self.ref)]
        theta, *others = (torch.tensor(column) for column in x)
        return LogProbs(theta.requires_grad_(grad), *others)

    def positions(self, rows):
        offsets = self.rows.offsets
        return np.concatenate([np.arange(offsets[i], offsets[i + 1]) for i in rows] or [[]]).astype(np.int64)

    def columns(self, recipe):
        """What the recipe needs."""
        forest = self.forest()
        # As prefixes, every second rollout starts from a leaf.
        node = np.where(np.arange(len(self.groups)) % 2, forest.leaves, forest.parents[forest.leaves])
        known = {"strata": self.strata, "logprobs": self.logprobs(), "truncated": self.truncated, "states": self.states}
        given = {name: known[name] for name in recipe.needs if name in known}
        given |= {"actions": self.actions, "turns": "row"} if recipe.advantage.on_steps else {}
        of_tree = {"forest": forest} if recipe.advantage.of_rollouts else {"forest": forest, "node": node}
        return given | (of_tree if recipe.advantage.on_forest else {})

    def forest(self):
        """A tree a group, in which two rollouts in turn share half of the positions of the shorter one."""
        sizes = np.bincount(self.rows.rollouts.index, self.rows.lengths).astype(int).tolist()
        return pairs(self.groups, sizes)

    def prepare(self, recipe, **more):
        return recipe.prepare(self.rewards, self.groups, rows=self.rows, **self.columns(recipe), **more)

    def of_rollout(self, per_token):
        """Sums over the trained tokens of each rollout, written out."""
        index = np.repeat(self.rows.rollouts.index, self.rows.lengths)
        return [float(per_token[(index == i) & self.trained].sum()) for i in range(self.rows.n_rollouts)]


def pairs(groups, sizes):
    """A tree a group, in which two rollouts in turn share half of the positions of the shorter one."""
    ids = list(dict.fromkeys(groups))
    parents, lengths, above = [-1] * len(ids), [0] * len(ids), {}
    for root, name in enumerate(ids):
        members = [i for i, group in enumerate(groups) if group == name]
        for pair in (members[at : at + 2] for at in range(0, len(members), 2)):
            above |= dict.fromkeys(pair, len(parents))
            parents.append(root)
            lengths.append(min(sizes[i] for i in pair) // 2)
    leaves = [above[i] for i in range(len(groups))]
    rest = [size - lengths[node] for size, node in zip(sizes, leaves, strict=True)]
    return Forest.from_parents(parents + leaves, groups=ids, lengths=lengths + rest)

"""Recipes over several ranks, for the job of tests/distributed: each rank's part beside one process."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from spread import KINDS, N, difference, rollouts, spreads, take

import rollmath as rm
from rollmath import recipes
from rollmath.distributed import prepare
from rollmath.loss import Normalizer
from rollmath.recipes import Advantage, Recipe


def recipe(name: str) -> Recipe:
    return recipes.get(name, max_length=64) if name == "dr_grpo" else recipes.get(name)


#: Recipes and the columns that they want, of rollouts and of tokens.
RECIPES: dict[str, tuple[Recipe, tuple[str, ...]]] = {
    **{
        name: (made, tuple(made.needs)) for name, made in ((name, recipe(name)) for name in recipes.names())
        if not (made.advantage.on_forest or made.advantage.on_steps)
    },
    "zeros": (recipes.GRPO.replace(zeros="drop"), ()),
    "tokens without zeros": (
        recipes.GRPO.replace(advantage=Advantage("temporal.discounted_returns", {"gamma": 0.5}), zeros="drop"), ()
    ),
    "stratified": (recipes.GRPO.replace(advantage=Advantage("group.stratified", {"blend": 0.8})), ("strata",)),
    "lengths": (recipes.DAPO.replace(advantage=Advantage("group.opo")), ()),
    "batch": (recipes.DAPO.replace(advantage=Advantage("group.reinforce_pp_baseline")), ()),
    "penalties": (
        recipes.DAPO.replace(
            overlong=recipes.Overlong(max_length=20, buffer=10), reward_kl=0.05,
            filter=recipes.Filter("nonzero_spread", on="shaped"),
        ),
        ("logprobs",),
    ),
    "mask": (recipes.DAPO.replace(truncated="mask"), ("truncated",)),
    "exclude": (recipes.GRPO.replace(truncated="exclude", reward_kl=0.1), ("truncated", "logprobs")),
    "column": (recipes.DAPO.replace(filter=recipes.Filter("nonzero_spread", on="binary")), ("binary",)),
    "tokens": (recipes.GRPO.replace(advantage=Advantage("group.reinforce_pp", {"gamma": 0.9})), ()),
    "tokens and penalties": (
        recipes.DAPO.replace(advantage=Advantage("group.reinforce_pp"), reward_kl=0.05, truncated="mask"),
        ("truncated", "logprobs"),
    ),
    "tokens excluded": (
        recipes.DAPO.replace(advantage=Advantage("group.reinforce_pp"), truncated="exclude"), ("truncated",)
    ),
    "returns": (recipes.DAPO.replace(advantage=Advantage("temporal.discounted_returns", {"gamma": 0.9})), ()),
    "gae": (
        recipes.DAPO.replace(advantage=Advantage("temporal.gae", {"whiten": rm.conventions.Whiten()})), ("values",)
    ),
}  # fmt: skip


def filtered(method: str, on: str = "rewards", statistics: Any = None, **options: Any) -> Recipe:
    return recipes.get("grpo", kl=False).replace(filter=recipes.Filter(method, options, on, statistics))


RECIPES |= {
    "pods": (filtered("max_variance", keep=3, ties="lengths"), ()),
    "d3s": (filtered("max_variance", "advantages", keep=20, per="batch"), ()),
    "short ones": (filtered("bottom", "lengths", keep=2), ()),
    "random": (filtered("random", keep=2), ("seed",)),
    "ties by chance": (filtered("top", "binary", "before", keep=2), ("binary", "seed")),
    "quota": (filtered("quota", keep=3), ("strata",)),
    "multiple": (filtered("round_to_multiple", multiple=4, samples="rows", short="drop", drop="random"), ("seed",)),
    "tokens before": (
        recipes.get("reinforce_pp", reward_kl=0.0).replace(
            filter=recipes.Filter("balanced", {"keep": 3, "threshold": 0.4}, statistics="before")
        ),
        (),
    ),
    "tokens of long ones": (
        recipes.get("reinforce_pp", reward_kl=0.0).replace(filter=recipes.Filter("top", {"keep": 2}, "lengths")), ()
    ),
}  # fmt: skip

_TREE = recipes.SPO_TREE
_STEPS = ("states", "actions")
#: Recipes on trees and steps, of which each group is on one rank.
TREES: dict[str, tuple[Recipe, tuple[str, ...]]] = {
    **{name: (made, ()) for name in recipes.names() if (made := recipe(name)).advantage.of_rollouts},
    # Of whole numbers: bits are those of one process whatever the order of sums.
    "tree_opo": (
        recipes.TREE_OPO.replace(advantage=Advantage("tree.tree_opo", {"baseline": "optimistic"})), ("forest", "node")
    ),
    "staged": (recipes.TREE_OPO.replace(advantage=Advantage("tree.staged_advantage")), ("forest", "node")),
    "per rollout": (_TREE.replace(shared="per_rollout", zeros="keep"), ()),
    "normalized": (_TREE.replace(advantage=Advantage("tree.spo", {"edge": "normalized"}, convention="SPO")), ()),
    "filter": (_TREE.replace(filter=recipes.Filter("nonzero_spread"), reward_kl=0.05), ("logprobs",)),
    "filter before": (
        _TREE.replace(filter=recipes.Filter("random", {"keep": 2}, statistics="before"), zeros="keep"), ("seed",)
    ),
    "mask": (_TREE.replace(truncated="mask"), ("truncated",)),
    "exclude": (_TREE.replace(truncated="exclude", zeros="keep"), ("truncated",)),
    "apart": (_TREE, ("sampled_jointly",)),
    "paths": (_TREE, ("paths", "path_lengths")),
    **{name: (made, _STEPS) for name in recipes.names() if (made := recipe(name)).advantage.on_steps},
    "steps excluded": (recipes.HGPO.replace(truncated="exclude", zeros="drop"), ("states", "truncated")),
    "rewards of steps": (recipes.GIGPO.replace(truncated="exclude"), ("states", "step_rewards", "truncated")),
    "steps of tokens": (recipes.SALT.replace(filter=recipes.Filter("nonzero_spread")), ("states",)),
    "base": (
        recipes.get("gigpo", advantage={"base": "group.stratified"}, reward_kl=0.05),
        ("states", "strata", "logprobs"),
    ),
    # A base that looks at the whole batch: the same bits only if it sees all ranks.
    "base of the batch": (
        recipes.get("salt", advantage={"base": "group.reinforce_pp_baseline"}, truncated="mask"), (*_STEPS, "truncated")
    ),
}  # fmt: skip


class Batches:
    """Rows of rollouts, one to three each, and what recipes want of them."""

    def __init__(self, kind: str) -> None:
        rng = np.random.default_rng(21)
        data = rollouts(21) | {"truncated": rng.random(N) < 0.2}
        rollout = np.repeat(np.arange(N), rng.integers(1, 4, N))
        lengths = rng.integers(1, 12, len(rollout))
        self.rows = rm.Rows([f"r{i}" for i in rollout], lengths, mask=rng.random(lengths.sum()) < 0.8)
        self.columns = {name: data[name] for name in ("strata", "binary", "truncated")}
        self.rewards, self.groups = KINDS[kind](data["rewards"]), data["groups"]
        # The sampled log-probabilities also serve as values.
        self.logprobs = torch.as_tensor(-rng.random((2, lengths.sum())))

    def part(self, rollouts_of: np.ndarray, names: tuple[str, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments of prepare, for some rollouts in this order."""
        place = np.full(N, -1)
        place[rollouts_of] = np.arange(len(rollouts_of))
        of_row = place[self.rows.rollouts.index]
        picked = np.flatnonzero(of_row >= 0)
        picked = picked[np.argsort(of_row[picked], kind="stable")]
        rows = self.rows.take(picked)
        at = np.concatenate([np.arange(*self.rows.offsets[i : i + 2]) for i in picked] or [np.zeros(0, int)]).astype(
            int
        )
        prox, ref = (x[at] for x in self.logprobs)
        columns = {name: take(x, rollouts_of) for name, x in self.columns.items()}
        values = rm.Ragged(prox if isinstance(self.rewards, torch.Tensor) else prox.numpy(), rows.offsets)
        columns |= {"logprobs": rm.LogProbs(prox, ref=ref), "values": values, "seed": 5}
        return (take(self.rewards, rollouts_of), self.groups[rollouts_of], rows), {
            name: columns[name] for name in names
        }


class Trees(Batches):
    """Rows that share what they begin with, one a rollout; some have the path of another."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        rng = np.random.default_rng(22)
        lengths, stands = rng.integers(1, 12, N), np.arange(N)
        for group in np.unique(self.groups):
            first, *rest = np.flatnonzero(self.groups == group)
            stands[rest[:1]], lengths[rest[:1]] = first, lengths[first]
        total = int(lengths.sum())
        self.rows = rm.Rows(
            [f"r{i}" for i in range(N)], lengths, mask=rng.random(total) < 0.8, tokens=rng.integers(0, 2, total)
        )
        self.logprobs = torch.as_tensor(-rng.random((2, total)))
        self.columns["sampled_jointly"] = np.arange(N) % 2
        self.columns["paths"] = [[f"{self.groups[i]} {i % 2}", int(i)] for i in stands]
        self.columns["path_lengths"] = [[0, n] for n in lengths.tolist()]
        assert self.rows.mask is not None
        marks = np.split(self.rows.mask, self.rows.offsets[1:-1])
        turns = [int((np.diff(mark, prepend=0) == 1).sum()) for mark in (x.astype(int) for x in marks)]
        self.columns["states"] = [rng.choice(["hall", "yard"], n).tolist() for n in turns]
        self.columns["actions"] = [rng.choice(["go", "take"], n).tolist() for n in turns]
        self.columns["step_rewards"] = [rng.integers(0, 3, n).astype(float).tolist() for n in turns]
        # Prefixes that rollouts start from: nodes of a chain a group.
        names = np.unique(self.groups).tolist()
        parents = [v - 1 if v % 5 else -1 for v in range(5 * len(names))]
        self.prefixes = rm.Forest.from_parents(parents, groups=names)
        self.columns["node"] = np.array([5 * names.index(g) + i % 5 for i, g in enumerate(self.groups.tolist())])

    def part(self, rollouts_of: np.ndarray, names: tuple[str, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args, columns = super().part(rollouts_of, tuple(name for name in names if name != "forest"))
        return args, columns | ({"forest": self.prefixes} if "forest" in names else {})


def tree_cases(world: int, rank: int) -> Iterator[tuple[str, str]]:
    """Recipes on trees: each group is on one rank, as they come."""
    for kind in ("float64", "torch float32", "list"):
        batches = Trees(kind)
        names_of_groups = np.unique(batches.groups)
        for name, (recipe, names) in TREES.items():
            for spread, groups_of in spreads(10, world, len(names_of_groups)).items():
                rows_of = [np.flatnonzero(np.isin(batches.groups, names_of_groups[mine])) for mine in groups_of]
                args, columns = batches.part(np.concatenate(rows_of), names)
                whole = recipe.prepare(args[0], args[1], rows=args[2], **columns)
                before = sum(len(x) for x in rows_of[:rank])
                here = slice(before, before + len(rows_of[rank]))
                args, columns = batches.part(rows_of[rank], names)
                got, counts = prepare(recipe, *args, **columns)
                expected = whole.take(np.arange(N)[here])
                values, wanted = got.advantages, expected.advantages
                if isinstance(wanted, rm.Ragged):
                    values, wanted = values.values, wanted.values
                off = [k for k, x in whole.metrics.items() if not abs(got.metrics[k] - x) <= 1e-12 * (1 + abs(x))]
                empty = not len(rows_of[rank]) and kind == "list"
                prompts = batches.groups[np.concatenate(rows_of)]
                marks = [np.ones(int(x.offsets[-1])) if x.mask is None else x.mask for x in (got.rows, expected.rows)]
                same = {
                    "advantages": "" if empty and not len(values) else difference(values, wanted),
                    "level": "" if got.level == whole.level else got.level,
                    "mask": "" if np.array_equal(*marks) else "differs",
                    "selection": difference(np.asarray(got.selection.mask), np.asarray(whole.selection.mask)[here]),
                    "metrics": f"{off}" if off or set(got.metrics) != set(whole.metrics) else "",
                    "normalizer": "" if counts == Normalizer.local(whole.rows, prompts=prompts) else "differs",
                }
                yield from ((f"tree {what}, {name}, {kind}, {spread}", text) for what, text in same.items())


def recipe_cases(world: int, rank: int) -> Iterator[tuple[str, str]]:
    """Every recipe: the part of one process that has all rows in the order of ranks."""
    for kind in ("float64", "torch float32", "list"):
        batches = Batches(kind)
        for name, (recipe, names) in RECIPES.items():
            # One process that has them in another order gives every rollout the same.
            args, columns = batches.part(np.arange(N), names)
            one = recipe.prepare(args[0], args[1], rows=args[2], **columns)
            for spread, rows_of in spreads(9, world).items():
                args, columns = batches.part(np.concatenate(rows_of), names)
                whole = recipe.prepare(args[0], args[1], rows=args[2], **columns)
                before = sum(len(x) for x in rows_of[:rank])
                here = slice(before, before + len(rows_of[rank]))
                args, columns = batches.part(rows_of[rank], names)
                got, counts = prepare(recipe, *args, **columns)
                in_rank = np.isin(whole.rows.rollouts.index, np.arange(N)[here])
                expected = whole.take(in_rank)
                values, wanted = got.advantages, expected.advantages
                if isinstance(wanted, rm.Ragged):
                    values, wanted = values.values, wanted.values
                off = [k for k, x in whole.metrics.items() if not abs(got.metrics[k] - x) <= 1e-12 * (1 + abs(x))]
                empty = not len(rows_of[rank]) and kind == "list"
                same = {
                    "advantages": "" if empty and not len(values) else difference(values, wanted),
                    "level": "" if got.level == whole.level else got.level,
                    "mask": difference(np.asarray(got.rows.trained), np.asarray(expected.rows.trained)),
                    "selection": difference(np.asarray(got.selection.mask), np.asarray(whole.selection.mask)[here]),
                    "metrics": f"{off}" if off or list(got.metrics) != list(whole.metrics) else "",
                    "normalizer": "" if counts.counts[:3] == Normalizer.local(whole.rows).counts[:3] else "differs",
                    "batch id": "" if counts == Normalizer.local(whole.rows, prompts=batches.groups[
                        np.concatenate(rows_of)]) else "differs",
                }  # fmt: skip
                if whole.level == "rollout":
                    same["order"] = "" if empty else difference(got.advantages, take(one.advantages, rows_of[rank]))
                yield from ((f"prepare {what}, {name}, {kind}, {spread}", text) for what, text in same.items())

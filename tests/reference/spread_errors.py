"""Calls that are wrong on one rank, for the job of tests/distributed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import rollmath as rm
from rollmath import group, recipes
from rollmath.distributed import advantages, gather, gather_metrics, moments, normalizer, prepare, whiten
from rollmath.distributed._exchange import exchange
from rollmath.loss import LossMetrics, Normalizer
from rollmath.recipes import Advantage


def errors(world: int, rank: int) -> dict[str, Callable[[], Any]]:
    """Calls that are wrong on rank 1 alone, or differ there."""
    odd = rank == 1
    nan = [1.0, float("nan") if odd else 0.0, 0.5]
    g, r = ["a", "a", "b"], [1.0, 0.0, 0.5]
    rows = np.ones((2, 3))
    one, two = rm.Rows([f"r{rank}"], [2]), rm.Rows([f"a{rank}", f"b{rank}"], [2, 2])
    four = rm.LogProbs(torch.zeros(4), ref=torch.zeros(4))
    stratified, tokens, baseline = (
        recipes.GRPO.replace(advantage=Advantage(f"group.{name}"))
        for name in ("stratified", "reinforce_pp", "optimal_token_baseline")
    )
    return {
        "NaN": lambda: advantages(group.grpo, nan, g),
        "NaN in a channel": lambda: advantages(group.gdpo, [[x, 1.0] for x in nan], g),
        "length": lambda: gather(r[:2] if odd else r, g),
        "length of a column": lambda: gather(r, g, strata=[1] if odd else [1, 2, 3]),
        "type": lambda: gather(["x"] * 3 if odd else r, g),
        "no array": lambda: gather(None if odd else r, g),
        "one number": lambda: gather(1.0 if odd else r, g),
        "grad": lambda: gather(torch.ones(3, requires_grad=odd), g),
        "Ragged": lambda: gather(rm.Ragged.from_lists([r, r, r]) if odd else r, g),
        "ids": lambda: gather(r, [1.0, 2.0, 3.0] if odd else g),
        "mixed ids": lambda: gather(r, ["a", 1, "b"] if odd else g),
        "id types": lambda: gather(r, [1, 1, 2] if odd else g),
        "numpy ids": lambda: gather(r, np.array([1, 1, 2]) if odd else ["1", "1", "2"]),
        "columns": lambda: gather(r, g, **({} if odd else {"strata": [1, 2, 3]})),
        "column of None": lambda: gather(r, g, strata=None if odd else [1, 2, 3]),
        "column types": lambda: gather(r, g, strata=["x", "y", "z"] if odd else [1, 2, 3]),
        "dtypes": lambda: gather(np.float32(r) if odd else np.array(r), g),
        "kinds": lambda: gather(torch.tensor(r) if odd else np.array(r), g),
        "shapes": lambda: gather(np.ones((3, 2 if odd else 4)), g),
        "options": lambda: advantages(group.grpo, r, g, eps=1e-4 if odd else 1e-6),
        "option arrays": lambda: advantages(group.stratified, r, g, strata=np.array([rank, 1, 1])),
        "methods": lambda: advantages(group.rloo if odd else group.grpo, r, g),
        "no method": lambda: advantages("grpo" if odd else group.grpo, r, g),  # type: ignore[arg-type]
        "no mapping": lambda: advantages(group.grpo, r, g, columns=[1] if odd else {}),  # type: ignore[arg-type]
        "twice": lambda: advantages(group.grpo, r, g, columns={"eps": r} if odd else {}, eps=1.0),
        "calls": lambda: moments(r) if odd else gather(r, g),
        "result": lambda: advantages(group.stats, r, g),
        "unknown": lambda: advantages(group.grpo, r, g, blend=1.0),
        "not ours": lambda: gather(Breaks() if odd else r, g),
        "no text": lambda: gather(Breaks(Mute()) if odd else r, g),
        "panic": lambda: gather(Breaks(Panic("core")) if odd else r, g),
        "not to be sent": lambda: moments(r) if not odd else exchange("moments", lambda: lambda: 0),
        "option without words": lambda: advantages(group.grpo, r, g, eps=Unspeakable() if odd else 1e-6),
        "two ranks": lambda: gather([1.0], g) if rank < 2 else gather(r, g),
        "whiten how": lambda: whiten(r, how="verl" if odd else rm.conventions.Whiten()),  # type: ignore[arg-type]
        "whiten options": lambda: whiten(r, how=rm.conventions.Whiten(ddof=0 if odd else 1)),
        "whiten tokens": lambda: whiten(rows if not odd else np.full((2, 3), np.nan)),
        "whiten forms": lambda: whiten(r if odd else rows),
        "whiten types": lambda: whiten(rows.astype(np.float32) if odd else rows),
        "whiten lengths": lambda: whiten(rows, lengths=[3] if odd else [3, 3]),
        "whiten out": lambda: whiten(rows, out=np.empty((1, 1)) if odd else None),
        "whiten weights": lambda: whiten(rows, weights=None if odd else [1.0, 2.0]),
        "whiten mask": lambda: whiten(r, mask=[1, 1, 1] if odd else None),
        "whiten overflow": lambda: whiten(np.array([1e308, 1e308, -1e308]) if odd else np.ones(3)),
        "moments": lambda: moments(r, weights=[-1.0, 1.0, 1.0] if odd else [1.0, 1.0, 1.0]),
        "recipe NaN": lambda: prepare(recipes.GRPO, nan[:1] + nan[1:2], ["a", "b"], two),
        "recipe length": lambda: prepare(recipes.GRPO, r if odd else r[:2], g[:2], two),
        "recipe columns": lambda: prepare(stratified, r[:2], g[:2], two, **({} if odd else {"strata": [1, 2]})),
        "recipes": lambda: prepare(recipes.DAPO if odd else recipes.GRPO, r[:2], g[:2], two),
        "recipe options": lambda: prepare(recipes.GRPO.replace(entropy=0.1 * rank), r[:2], g[:2], two),
        "no recipe": lambda: prepare("grpo" if odd else recipes.GRPO, r[:2], g[:2], two),  # type: ignore[arg-type]
        "no rows": lambda: prepare(recipes.GRPO, r[:2], g[:2], [2, 2] if odd else two),  # type: ignore[arg-type]
        "recipe rollouts": lambda: prepare(recipes.GRPO, r[:2], g[:2], rm.Rows(["x", f"y{rank}"], [1, 1])),
        "recipe tokens": lambda: prepare(baseline, r[:2], g[:2], two, logprobs=1, sum_pi_squared=1),
        "recipe trees": lambda: prepare(
            recipes.SPO_TREE, r[:2], ["a", f"b{rank}"], rm.Rows([f"a{rank}", f"b{rank}"], tokens=[[1], [2]])
        ),
        "recipe steps": lambda: prepare(
            recipes.GIGPO, r[:2], ["a", f"b{rank}"], rm.Rows([f"a{rank}", f"b{rank}"], [1, 1]), states=[["x"], ["y"]]
        ),
        "recipe forest": lambda: prepare(
            recipes.SPO_TREE,
            r[:2],
            [f"a{rank}"] * 2,
            two,
            forest=rm.Forest.from_parents(
                [-1, *[0] * (3 if odd else 2)], lengths=[0, *[2] * (3 if odd else 2)], groups=[f"a{rank}"]
            ),
        ),
        "recipe logprobs": lambda: prepare(recipes.RLOO, r[:2], g[:2], two, logprobs=3 if odd else four),
        "recipe gap": lambda: prepare(tokens, nan[:2], g[:2], two),
        "recipe without words": lambda: prepare(worded(odd), r[:2], g[:2], two),
        "own functions": lambda: prepare(
            recipes.GRPO.replace(advantage=Advantage(own), entropy=0.1 * rank), r[:2], g[:2], two
        ),
        "gather of counts": lambda: Normalizer.gather([1] if odd else Normalizer.local(one)),  # type: ignore[arg-type]
        "normalizer": lambda: normalizer([1] if odd else one),  # type: ignore[arg-type]
        "same rollouts": lambda: normalizer(rm.Rows(["r0"], [2])),
        "prompts": lambda: normalizer(one, prompts=None if odd else [1]),
        "metrics": lambda: gather_metrics(LossMetrics({"a" if odd else "b": torch.tensor(1.0)})),
        "no metrics": lambda: gather_metrics({} if odd else LossMetrics({})),  # type: ignore[arg-type]
    }


class Breaks:
    """Something whose reading fails in a way of its own."""

    def __init__(self, how: BaseException | None = None) -> None:
        self.how = how or KeyError("broken")

    def __array__(self, *args: Any, **options: Any) -> np.ndarray:
        raise self.how


class Mute(Exception):
    """An error that fails when it is printed."""

    def __str__(self) -> str:
        raise ValueError("no words")


class Panic(BaseException):
    """No Exception, as what a panic in Rust becomes in Python."""


class Unspeakable:
    """What has no repr."""

    def __repr__(self) -> str:
        raise KeyError("no words")


def own(rewards: Any, groups: rm.Groups, *, what: Any = None) -> Any:
    """A method of one's own."""
    return rewards


def worded(odd: bool) -> recipes.Recipe:
    """A recipe whose options cannot be printed on the odd rank."""
    options = {"what": Unspeakable() if odd else 1}
    return recipes.GRPO.replace(advantage=Advantage(own, options))

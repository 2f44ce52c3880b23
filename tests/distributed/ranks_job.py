"""Run by test_ranks.py: batches that are spread over several processes, beside one process that has all of it.

``python ranks_job.py FOLDER 2 4`` forks 2, then 4 processes that talk by gloo. Each writes what it found to
``FOLDER/WORLD-RANK.json``: by the name of a case an empty string, or what differs from one process; and the errors.
"""

import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed

sys.path.append(str(Path(__file__).parents[1] / "reference"))

import forked
from spread import IDS, KINDS, N, difference, rollouts, spreads, take
from spread_errors import errors
from spread_recipes import recipe_cases, tree_cases

import rollmath as rm
from rollmath import recipes
from rollmath.distributed import advantages, gather, gather_metrics, moments, normalizer, prepare, whiten
from rollmath.loss import LossMetrics, Normalizer
from rollmath.recipes import Advantage

group = rm.group
ROOT = Path(__file__).parents[2]

#: Methods with one number a rollout: rewards they want, columns, options.
METHODS: dict[str, tuple[Callable[..., Any], str, tuple[str, ...], dict[str, Any]]] = {
    "grpo": (group.grpo, "rewards", (), {}),
    "grpo verl": (group.grpo, "rewards", (), {"convention": rm.conventions.VERL}),
    "grpo valid": (group.grpo, "rewards", ("valid",), {"leave_one_out": True}),
    "rloo": (group.rloo, "rewards", (), {}),
    "dr_grpo": (group.dr_grpo, "rewards", (), {}),
    "gdpo": (group.gdpo, "channels", (), {"weights": [1.0, 0.5, 2.0]}),
    "gdpo tokens": (group.gdpo, "channels", ("lengths", "valid"), {"weights": np.array([1.0, 0.5, 2.0])}),
    "stratified": (group.stratified, "rewards", ("strata",), {"blend": 0.8}),
    "reinforce_pp_baseline": (group.reinforce_pp_baseline, "rewards", (), {}),
    "reinforce_pp_baseline tokens": (group.reinforce_pp_baseline, "rewards", ("lengths",), {}),
    "lite_ppo": (group.lite_ppo, "rewards", (), {}),
    "lite_ppo residuals": (group.lite_ppo, "rewards", ("valid",), {"batch_std": "residuals"}),
    "quantile_baseline": (group.quantile_baseline, "rewards", (), {}),
    "a_star_po": (group.a_star_po, "binary", (), {}),
    "opmd": (group.opmd, "binary", (), {"baseline": "logmeanexp"}),
    "opo": (group.opo, "rewards", ("lengths",), {}),
    "adora": (group.adora, "binary", ("lengths",), {}),
    "bnpo": (group.bnpo, "binary", (), {}),
    "gpg": (group.gpg, "rewards", (), {}),
    "hbpo": (group.hbpo, "binary", ("budgets",), {"max_length": 2048}),
    "kimi_length_reward": (group.kimi_length_reward, "binary", ("lengths",), {}),
    "otc_reward": (group.otc_reward, "binary", ("calls",), {"max_calls": 3.0}),
    "mapo": (group.mapo, "binary", (), {}),
    "maxrl": (group.maxrl, "binary", (), {}),
    "passk": (group.passk, "rewards", (), {}),
    "passk_training": (group.passk_training, "binary", (), {"k": 2}),
}

#: Those that return something else: called on what is gathered, in the order of ranks.
OTHERS: dict[str, Callable[..., Any]] = {
    "stats": lambda g: group.stats(g.rewards, g.groups),
    "soft_value": lambda g: group.soft_value(g.rewards, g.groups),
    "optimal_baseline": lambda g: group.optimal_baseline(g.rewards, g.groups, g.columns["positive"]),
    "copo": lambda g: group.copo(g.columns["binary"], g.groups, g.columns["answers"]),
    "bundle_scores": lambda g: group.bundle_scores(g.rewards, g.groups, g.columns["bundles"]),
    "riskpo": lambda g: group.riskpo(g.rewards, g.groups, g.columns["bundles"]),
    "majority_reward": lambda g: group.majority_reward(g.columns["answers"], g.groups),
    "vote_reward": lambda g: group.vote_reward(g.columns["answers"], g.groups),
    "single_stream": lambda g: group.single_stream(
        g.columns["binary"], g.groups, group.BetaBaseline(range(10), [1.0] * 10, [1.0] * 10)
    ),
}


class Whole:
    """What one process would have gathered."""

    def __init__(self, rewards: Any, groups: Any, **columns: Any) -> None:
        self.rewards, self.groups, self.columns = rewards, groups, columns


def parts(x: Any) -> list[Any]:
    """The arrays in what a method returned."""
    return [y for y in x if hasattr(y, "dtype")] if isinstance(x, tuple) else [x]


def own_method(rewards: torch.Tensor, groups: rm.Groups, *, times: float) -> torch.Tensor:
    """One in plain torch: centred over the batch, in the order of rows."""
    assert isinstance(rewards, torch.Tensor)
    return times * (rewards - rewards[torch.from_numpy(groups.first.copy())].mean())


def method_cases(world: int, rank: int) -> Iterator[tuple[str, str]]:
    """Every method, every kind of rewards and ids in turn, however rollouts are spread."""
    kinds, ids = list(KINDS), list(IDS)
    for number, (name, (method, wanted, columns, options)) in enumerate(METHODS.items()):
        for turn in range(4):
            kind, key = kinds[(number + 3 * turn) % len(kinds)], ids[(number + turn) % len(ids)]
            data = rollouts(number) | {"calls": rollouts(number)["strata"]}
            rewards, groups = KINDS[kind](data[wanted]), IDS[key](data["groups"])
            extra = {column: data[column] for column in columns}
            if kind.startswith("torch"):
                extra = {column: torch.as_tensor(x) for column, x in extra.items()}
            whole = method(rewards, groups, **extra, **options)
            for spread, rows_of in spreads(number, world).items():
                mine = rows_of[rank]
                got = advantages(
                    method, take(rewards, mine), take(groups, mine),
                    columns={column: take(x, mine) for column, x in extra.items()}, **options,
                )  # fmt: skip
                yield f"{name}, {kind}, {key}, {spread}", difference(got, take(whole, mine))


def other_cases(world: int, rank: int) -> Iterator[tuple[str, str]]:
    """Methods that are called on what is gathered; and what is gathered."""
    data = rollouts(100)
    names = ("binary", "answers", "strata", "bundles", "positive")
    for key, made in IDS.items():
        groups = made(data["groups"])
        whole = Whole(data["rewards"], rm.Groups(groups), **{name: data[name] for name in names})
        for spread, rows_of in spreads(100, world).items():
            mine = rows_of[rank]
            columns = {name: take(data[name], mine) for name in names}
            # On some ranks as a Groups, as far as rows were not enough for all ids.
            given = take(groups, mine)
            found = gather(data["rewards"][mine], rm.Groups(given) if rank % 2 else given, **columns)
            order = np.concatenate(rows_of)
            same = {
                "groups": "" if found.groups == rm.Groups(take(groups, order)) else "differ",
                "rewards": difference(found.rewards, data["rewards"][order]),
                "strata": difference(found.columns["strata"], data["strata"][order]),
                "answers": "" if found.columns["answers"] == rm.Groups(take(data["answers"], order)) else "differ",
                "sizes": "" if found.sizes.tolist() == [len(x) for x in rows_of] else "differ",
                "local": difference(found.local(found.rewards), data["rewards"][mine]),
                "mask": difference(found.local(found.rewards > 0.5), data["rewards"][mine] > 0.5),
                "where": "" if all(rows_of[r][i] == order[k] for k in range(N) for r, i in [found.where(k)]) else "no",
            }
            yield from ((f"gather {what}, {key}, {spread}", text) for what, text in same.items())
            for name, method in OTHERS.items():
                if spread == "any order" or (name == "single_stream" and key != "int list"):
                    continue
                pairs = zip(parts(method(found)), parts(method(whole)), strict=True)
                yield f"{name}, {key}, {spread}", "".join(difference(a, b) for a, b in pairs)


def kinds_cases(world: int, rank: int) -> Iterator[tuple[str, str]]:
    """Empty ranks of all kinds; methods that are not ours; more than one slot of bytes; a mask of None."""
    last = rank == world - 1
    full = {name: KINDS[name]([0.0, 1.0, 3.0]) for name in KINDS}
    for name, rewards in full.items():
        whole = group.grpo(take(rewards, [0, 1, 2] * (world - 1)), [0] * 3 * (world - 1))
        mine = advantages(group.grpo, [] if last else rewards, [] if last else [0, 0, 0])
        yield f"empty list, {name}", difference(mine, whole[:0] if last else whole[3 * rank : 3 * rank + 3])
        mine = advantages(group.grpo, take(rewards, []) if last else rewards, [] if last else [0, 0, 0])
        yield f"own empty, {name}", difference(mine, whole[:0] if last else whole[:3])
        nowhere = advantages(group.grpo, take(rewards, []), [])
        yield f"all empty, {name}", difference(nowhere, whole[:0])
    own = torch.zeros(0, dtype=torch.bfloat16) if last else np.array([0.0, 1.0, 3.0])
    mine = advantages(group.grpo, own, [] if last else [0, 0, 0])
    yield "an empty tensor among arrays", difference(mine, torch.zeros(0)) if last else ""
    yield "all empty lists", difference(advantages(group.grpo, [], []), np.zeros(0))
    table = gather(np.zeros((0, 3)) if last else np.ones((2, 3)), [] if last else ["a", "b"])
    yield "empty channels", difference(table.rewards, np.ones((2 * world - 2, 3)))

    rewards = torch.arange(world * 3, dtype=torch.float32)
    mine = advantages(own_method, rewards[3 * rank : 3 * rank + 3], [rank] * 3, times=0.5)
    whole = own_method(rewards, rm.Groups(np.repeat(np.arange(world), 3)), times=0.5)
    yield "own method", difference(mine, whole[3 * rank : 3 * rank + 3])
    before = rewards.clone()
    advantages(lambda r, g: r.mul_(2), rewards, [0] * len(rewards))
    yield "inputs stay", difference(rewards, before)
    yield "None", "" if gather([1.0], [0], strata=None).columns["strata"] is None else "not None"
    mixed = gather([1, 0] if rank else [0.5, 1.0], [rank, 2])
    yield "ints among floats of lists", difference(mixed.rewards, np.array([0.5, 1.0] + [1.0, 0.0] * (world - 1)))
    holds = [3, np.int64(3), np.int32(3)][rank % 3]
    ids = gather([1.0], torch.tensor([3]) if rank % 2 else [holds]).groups
    yield "integers of all kinds", "" if ids.n_groups == 1 and ids.ids == (3,) else f"{ids.ids}"

    calls, original = [], distributed.all_gather
    distributed.all_gather = lambda *args, **options: (calls.append(1), original(*args, **options))[1]
    gather(np.ones(1000), list(range(1000)))
    small = len(calls)
    data = rollouts(7, 40_000)
    # One rank has much, the others little.
    cuts = np.linspace(39_000, 40_000, world).astype(int)
    mine = np.split(np.arange(40_000), cuts)[:world][rank]
    got = advantages(group.grpo, data["rewards"][mine], IDS["uuid"](data["groups"][mine]))
    two, few = rm.Rows([f"r{rank}", f"s{rank}"], [2, 1]), ([1.0, 0.0], ["a", "a"])
    for method in ("group.grpo", "group.reinforce_pp", "temporal.discounted_returns"):
        prepare(recipes.GRPO.replace(advantage=Advantage(method)), *few, two)
        calls.append(0)
    distributed.all_gather = original
    by_recipe = "".join(map(str, calls[3:]))
    yield "calls of recipes", "" if by_recipe == "101110110" else by_recipe
    del calls[3:]
    used = data["rewards"][: cuts[-1]], data["groups"][: cuts[-1]]
    yield "two slots", difference(got, group.grpo(*used)[mine])
    yield "calls", "" if (small, len(calls)) == (1, 3) else f"{small} and {len(calls)} calls"

    class Local(str):
        """A type that no other rank could import."""

    ids = gather([1.0], [Local("a") if rank else "a"], pairs=[(Local("b"), 1)])
    same = ids.groups.ids == ("a",) and type(ids.columns["pairs"].ids[0][0]) is str
    yield "ids of a type of one's own", "" if same else f"{ids.groups.ids}"


def token_cases(world: int, rank: int) -> Iterator[tuple[str, str]]:
    """Whitening and moments of token rows, as Ragged and padded, and of one number a row."""
    rng = np.random.default_rng(3)
    lengths = rng.integers(0, 30, N)
    width = 30
    padded = rng.normal(size=(N, width)) * 10.0 ** rng.integers(-3, 3, (N, 1))
    mask, weights, valid = rng.random((N, width)) < 0.8, rng.random(N), rng.random(N) < 0.8
    hows = {"verl": rm.conventions.Whiten(), "max": rm.conventions.Whiten(ddof=0, eps=1e-4, eps_place="max")}
    for kind in ("float64", "float32", "torch float64", "torch float32", "torch bfloat16"):
        x = KINDS[kind](padded)
        for spread, rows_of in spreads(5, world).items():
            mine = rows_of[rank]
            for label, how in hows.items():
                options = {"mask": mask, "lengths": lengths}
                part = {name: value[mine] for name, value in options.items()}
                whole = rm.ops.whiten(x, how=how, **options)
                got = whiten(x[mine], how=how, **part)
                yield f"padded, {kind}, {spread}, {label}", difference(got, whole[mine])
                out = np.empty(got.shape, got.dtype) if isinstance(got, np.ndarray) else torch.empty_like(got)
                yield f"out, {kind}, {spread}, {label}", difference(whiten(x[mine], how=how, **part, out=out), got)
                extra = {"weights": weights, "valid": valid}
                part |= {name: value[mine] for name, value in extra.items()}
                whole = rm.ops.whiten(x, how=how, **options, **extra)
                yield f"weights, {kind}, {spread}, {label}", difference(whiten(x[mine], how=how, **part), whole[mine])
                ragged = rm.Ragged.from_padded(x[mine], lengths=lengths[mine])
                whole = rm.ops.whiten(x, how=how, lengths=lengths)[mine]
                expected = rm.Ragged.from_padded(whole, lengths=lengths[mine])
                if "bfloat16" not in kind:
                    got = whiten(ragged, how=how).values
                    yield f"ragged, {kind}, {spread}, {label}", difference(got, expected.values)
                row = x[:, 0]
                whole = rm.ops.whiten(row, how=how, **extra)
                got = whiten(row[mine], how=how, weights=weights[mine], valid=valid[mine])
                yield f"one a row, {kind}, {spread}, {label}", difference(got, whole[mine])
            all_of = rm.ops.moments(x, mask=mask, lengths=lengths)
            some = moments(x[mine], mask=mask[mine], lengths=lengths[mine])
            same = (some.mean, some.var(), some.count) == (all_of.mean, all_of.var(), all_of.count)
            yield f"moments, {kind}, {spread}", "" if same else "differ"
            marks = mask & (np.arange(width) < lengths[:, None])
            rewards = x[:, 0] * (torch.as_tensor(marks) if kind.startswith("torch") else marks).any(1)
            whole = group.reinforce_pp(rewards, mask=marks, gamma=0.9)
            own = group.reinforce_pp(rewards[mine], mask=marks[mine], gamma=0.9, whiten=None)
            yield f"reinforce_pp, {kind}, {spread}", difference(whiten(own, mask=marks[mine]), whole[mine])
    row = np.array([1.0, np.nan] if rank == 0 else [2.0, 3.0])
    yield "a NaN in one number a row", "" if np.isnan(whiten(row)).all() else "not NaN"
    merged = rm.ops.Moments.merge([rm.ops.moments(np.array([1.0, np.nan])), rm.ops.moments(np.array([2.0, 3.0]))])
    yield "a NaN in merged moments", "" if np.isnan(rm.ops.whiten(row, moments=merged)).all() else "not NaN"
    empty: Any = [] if rank == 0 else np.array([[1.0, 3.0]])
    got = whiten(empty)
    yield "an empty list among tokens", "" if len(got) == (0 if rank == 0 else 1) else "wrong"
    yield "all equal", difference(whiten(np.full((2, 3), 7.0)), np.zeros((2, 3)))


def doc_cases(world: int, rank: int) -> Iterator[tuple[str, str]]:
    """The examples of docs/distributed.md, one after the other, with a part of the rollouts."""
    data = rollouts(8)
    lengths = np.minimum(data["lengths"], 9)
    marks = torch.from_numpy(np.arange(9) < lengths[:, None])
    lp = -torch.rand((N, 9), generator=torch.Generator().manual_seed(0))
    mine = np.array_split(np.arange(N), world)[rank]
    rows = rm.Rows([f"r{i}" for i in range(N)], lengths, mask=marks)
    names = {
        "rm": rm, "rewards": data["binary"][mine], "prompt_ids": data["groups"][mine], "world_size": world,
        "n_tool_calls": data["strata"][mine], "answers": take(data["answers"], mine), "rows": rows.take(mine),
        "response_mask": marks[mine], "lengths": lengths[mine], "rollout_ids": [f"r{i}" for i in mine],
        "lp": lp[mine].requires_grad_(), "old": lp[mine] - 0.1,
    }  # fmt: skip
    blocks = re.findall(r"(?:^(?:    .*)?\n)+", (ROOT / "docs" / "distributed.md").read_text(), re.MULTILINE)
    for block in blocks:
        exec(textwrap.dedent(block), names)
    chosen = rm.select.max_variance(
        data["binary"], data["groups"], keep=4, ties=lengths, uid=[f"r{i}" for i in range(N)]
    )
    whole = group.grpo(data["binary"], data["groups"], valid=chosen.mask)
    yield "doc: renormalised", difference(names["renormalised"], whole[mine])
    whole = group.grpo(data["binary"], data["groups"])
    yield "doc: advantages", difference(names["advantages"], whole[mine])
    yield "doc: train", difference(names["train"], np.flatnonzero(chosen.mask[mine]))
    yield "doc: report", "" if str(names["report"]) == str(chosen.report) else f"{names['report']}"
    votes = group.majority_reward(data["answers"], data["groups"])
    yield "doc: votes", difference(names["votes"], votes[mine])
    whole = group.stratified(data["binary"], data["groups"], strata=data["strata"], blend=0.8)
    yield "doc: stratified", difference(names["stratified"], whole[mine])
    whole = group.reinforce_pp(data["binary"], mask=marks)
    yield "doc: tokens", difference(names["token_advantages"], whole[mine])
    yield "doc: normalizer", "" if names["normalizer"].tokens == int(lengths.sum()) else "differs"
    whole = rm.loss.policy_loss(
        rm.LogProbs(lp, prox=lp - 0.1), group.grpo(data["binary"], data["groups"]), rows, rm.loss.PPO(),
        normalizer=Normalizer.local(rows),
    ).metrics.to_dict()  # fmt: skip
    # The loss was multiplied by the ranks, since gradients are averaged; the metrics were not.
    off = [name for name, x in names["metrics"].to_dict().items() if abs(x - whole[name]) > 1e-6]
    yield "doc: metrics", f"{off}" if off else ""


def loss_cases(world: int, rank: int) -> Iterator[tuple[str, str]]:
    """Counts and metrics."""
    ids = [f"r{i}" for i in range(2 * world)]
    whole = Normalizer.local(rm.Rows(ids, [2] * len(ids)), prompts=[0] * len(ids))
    mine = rm.Rows(ids[2 * rank : 2 * rank + 2], [2, 2])
    yield "normalizer", "" if normalizer(mine, prompts=[0, 0]) == whole else "differs"
    nothing = normalizer(mine if rank else rm.Rows([], []))
    yield "normalizer of an empty rank", "" if nothing.tokens == 4 * world - 4 else "differs"
    x = {"loss": torch.tensor(0.1 + rank, dtype=torch.float64), "ratio_max": torch.tensor(1.0 + rank)}
    got = gather_metrics(LossMetrics(x)).to_dict()
    expected = {"loss": sum(0.1 + r for r in range(world)), "ratio_max": float(world)}
    yield "metrics", "" if got == expected else f"{got}"
    got = gather_metrics(LossMetrics(x) if rank else LossMetrics.merge([])).to_dict()
    yield "metrics of an empty rank", "" if got["ratio_max"] == float(world) else f"{got}"
    yield "no metrics", "" if gather_metrics(LossMetrics({})).to_dict() == {} else "some"


def raised(call: Callable[[], Any]) -> list[str]:
    """Type and text of what it raises."""
    try:
        call()
    except Exception as error:
        return [type(error).__name__, str(error)]
    return ["nothing", ""]


def subgroup_cases(world: int, rank: int) -> Iterator[tuple[str, str]]:
    """Groups of ranks within the world."""
    halves = [distributed.new_group([r for r in range(world) if r % 2 == half]) for half in (0, 1)]
    mine = halves[rank % 2]
    got = gather([float(rank)], [0], group=mine)
    expected = [float(r) for r in range(world) if r % 2 == rank % 2]
    yield "subgroup", "" if got.rewards.tolist() == expected and got.rank == rank // 2 else f"{got}"
    error = raised(lambda: gather([1.0], [0], group=halves[1 - rank % 2]))
    yield "not a member", "" if error[0] == "ValueError" and "is not a member" in error[1] else f"{error}"
    error = raised(lambda: gather([1.0], [0], group="dp"))
    yield "no group", "" if error[0] == "TypeError" and "must be a process group" in error[1] else f"{error}"


def work(rank: int, world: int, folder: str) -> None:
    """What one process does."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store{world}", rank=rank, world_size=world)
    report: dict[str, Any] = {"cases": {}, "errors": {}}
    for cases in (
        method_cases,
        other_cases,
        kinds_cases,
        token_cases,
        recipe_cases,
        tree_cases,
        doc_cases,
        loss_cases,
        subgroup_cases,
    ):
        report["cases"] |= dict(cases(world, rank))
    for name, call in errors(world, rank).items():
        report["errors"][name] = raised(call)
        # Ranks are still in step.
        after = gather([float(rank)], [rank]).rewards.tolist()
        assert after == [float(r) for r in range(world)]
    # A rank that never calls: only the timeout of the group finds it.
    short = distributed.new_group(timeout=timedelta(seconds=2))
    if rank == 0:
        report["timeout"] = raised(partial(gather, [1.0], [0], group=short))
    Path(folder, f"{world}-{rank}.json").write_text(json.dumps(report))
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    for size in sys.argv[2:]:
        forked.run(work, int(size), sys.argv[1])

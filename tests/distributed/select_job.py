"""Run by test_select.py: selections among rollouts that are spread over several processes, beside one process.

``python select_job.py FOLDER 2 3`` forks 2, then 3 processes that talk by gloo. Each writes what it found to
``FOLDER/WORLD-RANK.json``: by the name of a case an empty string, or what differs from one process; and the errors.
"""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed

sys.path.append(str(Path(__file__).parents[1] / "reference"))

import forked
import selections
from spread import IDS, KINDS, N, difference, rollouts, spreads, take

import rollmath as rm
from rollmath.distributed import advantages, gather, prepare, select
from rollmath.recipes import Advantage, Filter
from rollmath.select import Selection

#: Kinds of ids that name rollouts: all of IDS that have an order.
UIDS = ("str", "int list", "numpy", "torch", "uuid", "tuple", "bytes", "huge int")


def lengths_of(report: Any) -> dict[str, Any]:
    """What a report says of each group, without the order of groups."""
    kept = dict(zip(report._groups.ids, report.kept.tolist(), strict=True))
    dropped = {one.reason: dict(zip(one.ids, one.counts, strict=True)) for one in report.dropped}
    return {"kept": kept, "dropped": dropped, "lost": set(report.lost), "statistics": report.statistics}


def noisy(rewards: Any, groups: rm.Groups, *, uid: Any, seed: int, ties: Any = None, valid: Any = None) -> Selection:
    """A function of one's own, that keeps what is best by its id and the seed."""
    from rollmath.select._candidates import read

    found = read("noisy", rewards, groups, uid=uid, seed=seed, ties=ties, valid=valid)
    return found.select([("not among the first", found.places(np.round(found.x)) > 1)], statistics="after")


def cases(world: int, rank: int) -> Iterator[tuple[str, str]]:
    """Every function that is exported, and one of one's own."""
    known: dict[str, Any] = {**selections.functions(), "noisy": noisy}
    kinds = ("float64", "torch float32", "list", "torch bfloat16", "float32")
    for number, (name, method) in enumerate(known.items()):
        calls = selections.variants(name) if name != "noisy" else {
            "plain": ((), {"seed": 3}), "ties": (("ties", "valid"), {"seed": 3})
        }  # fmt: skip
        takes = selections._call.signature_of("test", method)
        for turn, (label, (columns, options)) in enumerate(calls.items()):
            data = rollouts(40 + number)
            kind, key = kinds[(number + turn) % len(kinds)], UIDS[(number + turn) % len(UIDS)]
            rewards = None if takes.values is None else KINDS[kind](data["rewards"])
            groups, uid = IDS[key](data["groups"]), IDS[key](np.random.default_rng(number).permutation(N) * 3)
            extra = {n: selections.columns_of(data)[n] for n in columns}
            if kind.startswith("torch"):
                extra = {n: torch.as_tensor(x) for n, x in extra.items()}
            named = {**extra, **({"uid": uid} if takes.takes("uid") else {}), **options}
            whole = takes("test", rewards, groups, named)
            # Two of the four here, the others over the other number of processes.
            for spread, rows_of in list(spreads(number, world).items())[(world + turn) % 2 :: 2]:
                mine = rows_of[rank]
                chosen, report = select(
                    method, None if rewards is None else take(rewards, mine), take(groups, mine),
                    uid=take(uid, mine), columns={n: take(x, mine) for n, x in extra.items()}, **options,
                )  # fmt: skip
                # An empty list has the kind of the others.
                expected = whole.mask[torch.from_numpy(mine)] if torch.is_tensor(whole.mask) else whole.mask[mine]
                same = {
                    "mask": difference(chosen.mask, expected),
                    "indices": "" if np.flatnonzero(np.asarray(expected)).tolist() == chosen.indices.tolist() else "no",
                    "own report": "" if chosen.report.codes.tolist() == whole.report.codes[mine].tolist() else "no",
                    "report": "" if lengths_of(report) == lengths_of(whole.report) else "differs",
                }
                yield from ((f"{what}, {name}, {label}, {kind}, {key}, {spread}", text) for what, text in same.items())


def other_cases(world: int, rank: int) -> Iterator[tuple[str, str]]:
    """The advantages of what was selected, and a filter by advantages in a recipe."""
    data = rollouts(60)
    uid = np.random.default_rng(1).permutation(N)
    for spread, rows_of in spreads(60, world).items():
        mine = rows_of[rank]
        part = data["rewards"][mine], data["groups"][mine]
        whole = noisy(data["rewards"], data["groups"], uid=uid, seed=1)
        chosen, _ = select(noisy, *part, uid=uid[mine], seed=1)
        got = chosen.advantages(lambda r, g, valid: advantages(rm.group.grpo, r, g, columns={"valid": valid}), *part)
        expected = whole.advantages(rm.group.grpo, data["rewards"], data["groups"])
        yield f"advantages, {spread}", difference(got, expected[mine])


def errors(world: int, rank: int) -> dict[str, Callable[[], Any]]:
    """Calls that are wrong on rank 1 alone, or differ there."""
    odd = rank == 1
    g, r = ["a", "a", "b"], [1.0, 0.0, 0.5]
    uid = [f"r{rank}{i}" for i in range(3)]
    two = rm.Rows([f"a{rank}", f"b{rank}"], [2, 2])
    by_seed = rm.recipes.GRPO.replace(filter=Filter(f"{__name__}:noisy"))
    returns = rm.recipes.GRPO.replace(
        advantage=Advantage("tree.tree_grpo"), filter=Filter("nonzero_spread", on="advantages")
    )
    return {
        "NaN": lambda: select(noisy, [1.0, float("nan") if odd else 0.0, 0.5], g, uid=uid, seed=1),
        "no uid": lambda: select(noisy, r, g, uid=None if odd else uid, seed=1),
        "uid of two ranks": lambda: select(noisy, r, g, uid=["x", f"y{rank}", f"z{rank}"], seed=1),
        "uid twice": lambda: select(noisy, r, g, uid=["x", "x", "z"] if odd else uid, seed=1),
        "length of uid": lambda: select(noisy, r, g, uid=uid[:1] if odd else uid, seed=1),
        "options": lambda: select(noisy, r, g, uid=uid, seed=rank),
        "no values": lambda: select(noisy, None if odd else r, g, uid=uid, seed=1),
        "values": lambda: select(drawn, r if odd else None, g, uid=uid),
        "needs": lambda: select(noisy, r, g, uid=uid),
        "methods": lambda: select(drawn if odd else noisy, None if odd else r, g, uid=uid, seed=1),
        "no method": lambda: select("top" if odd else noisy, r, g, uid=uid, seed=1),  # type: ignore[arg-type]
        "no selection": lambda: select(rm.group.grpo, r, g),  # type: ignore[arg-type]
        "of others": lambda: select(short, r, g),
        "twice": lambda: select(noisy, r, g, uid=uid, seed=1, columns={"seed": r} if odd else {}),
        "no mapping": lambda: select(noisy, r, g, uid=uid, seed=1, columns=[1] if odd else {}),  # type: ignore[arg-type]
        "recipe seeds": lambda: prepare(by_seed, r[:2], g[:2], two, seed=rank),
        "recipe without seed": lambda: prepare(by_seed, r[:2], g[:2], two),
        "recipe advantages": lambda: prepare(
            returns, r[:2], [f"a{rank}"] * 2, rm.Rows([f"a{rank}", f"b{rank}"], tokens=[[1], [2]])
        ),
    }


def drawn(groups: Any, *, uid: Any, valid: Any = None) -> Selection:
    """Of no values."""
    return rm.select.mean_band(np.zeros(len(groups)), groups, low=-1.0, high=1.0, valid=valid)


def short(rewards: Any, groups: Any) -> Selection:
    """Of fewer rollouts than it was given."""
    return rm.select.nonzero_spread(rewards[:1], ["a"])


def raised(call: Callable[[], Any]) -> list[str]:
    """Type and text of what it raises."""
    try:
        call()
    except Exception as error:
        return [type(error).__name__, str(error)]
    return ["nothing", ""]


def work(rank: int, world: int, folder: str) -> None:
    """What one process does."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store{world}", rank=rank, world_size=world)
    report: dict[str, Any] = {"cases": {}, "errors": {}}
    for made in (cases, other_cases):
        report["cases"] |= dict(made(world, rank))
    for name, call in errors(world, rank).items():
        report["errors"][name] = raised(call)
        # Ranks are still in step.
        after = gather([float(rank)], [rank]).rewards.tolist()
        assert after == [float(r) for r in range(world)]
    Path(folder, f"{world}-{rank}.json").write_text(json.dumps(report))
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    # What is loaded now is loaded once.
    loaded = selections.functions(), errors(2, 0), rm.group.grpo
    for size in sys.argv[2:]:
        forked.run(work, int(size), sys.argv[1])

"""Run by test_token_search.py: searches over several processes beside one process that has all tokens."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import distributed

sys.path.append(str(Path(__file__).parents[1] / "reference"))

import forked

import rollmath as rm
from rollmath.distributed import token_search
from rollmath.select import TokenSearch, top_tokens


def batch(seed: int, rows: int = 9):
    """Scores of rows of unequal length with ties, gaps and ids."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 30, rows)
    x = np.where(rng.random(lengths.sum()) < 0.3, 0.5, rng.exponential(size=lengths.sum()))
    return x, rng.random(len(x)) < 0.8, lengths, [f"row {i}" for i in range(rows)]


def cut(x, lengths, rows):
    """Some rows of what has one value a token."""
    ends = np.cumsum(lengths)
    return np.concatenate([x[:0], *(x[ends[i] - lengths[i] : ends[i]] for i in rows)])


def part(columns, rows, kind, dtype):
    x, mask, lengths, ids = columns
    values = cut(x, lengths, rows).astype(dtype)
    scores = rm.Ragged.from_lengths(torch.from_numpy(values) if kind else values, lengths[rows])
    return {"scores": scores, "mask": cut(mask, lengths, rows), "uid": [ids[i] for i in rows]}


def cases(world: int, rank: int):
    for seed in range(6):
        columns = batch(seed)
        order = np.random.default_rng(seed + 100).permutation(9)
        # Uneven, with empty ranks and several micro-batches.
        edges = np.sort(np.random.default_rng(seed + 200).integers(0, 10, world - 1))
        mine = np.split(order, edges)[rank]
        for dtype in (np.float32, np.float64):
            whole = part(columns, np.arange(9), 0, dtype)
            for ties in ("all", "exact"):
                for want in ({"share": 0.2}, {"count": 7}, {"share": 0.001, "least": 1, "largest": False}):
                    options = {"ties": ties, "seed": seed, **want}
                    expected = top_tokens(
                        whole["scores"], **{k: v for k, v in whole.items() if k != "scores"}, **options
                    )
                    parts = [part(columns, half, seed % 2, dtype) for half in (mine[:2], mine[2:])]
                    search = token_search(parts, dtype=np.dtype(dtype).name, **options)
                    rows = [
                        row
                        for one in parts
                        for row in search.mask(one["scores"], mask=one["mask"], uid=one["uid"]).to_lists()
                    ]
                    same = rows == [expected.mask[i].tolist() for i in mine]
                    numbers = [float(x) for x in (search.threshold, search.kept, search.total)]
                    same = same and numbers == [float(x) for x in expected[1:]]
                    yield f"{seed}, {np.dtype(dtype).name}, {options}", "" if same else f"{rows} {numbers}"
    nobody = token_search([], share=0.5)
    yield "no tokens anywhere", "" if (int(nobody.kept), int(nobody.total)) == (0, 0) else str(nobody)


class LateError:
    """A search that fails in the second round on one rank."""

    def __init__(self, rank: int) -> None:
        self.rank, self.counts = rank, TokenSearch._counts

    def __enter__(self) -> None:
        def counts(search, batch):
            if search.round == 1 and self.rank == 1:
                msg = "out of memory"
                raise MemoryError(msg)
            return self.counts(search, batch)

        TokenSearch._counts = counts

    def __exit__(self, *_) -> None:
        TokenSearch._counts = self.counts


def late(rank, x):
    with LateError(rank):
        token_search([x], share=0.5)


def errors(rank: int):
    odd = rank == 1
    x = np.ones((1, 3), np.float32)
    bad = np.array([[1, np.nan, 1]], np.float32) if odd else x
    exact = {"count": 1, "ties": "exact"}
    return {
        "NaN": lambda: token_search([x, bad], share=0.5),
        "dtype": lambda: token_search([x.astype("f8") if odd else x], share=0.5),
        "options": lambda: token_search([x], share=0.5 if odd else 0.25),
        "no list": lambda: token_search(x if odd else [x], share=0.5),
        "keys": lambda: token_search([{"values": x} if odd else x], share=0.5),
        "no uid": lambda: token_search([x if odd else {"scores": x, "uid": ["a"]}], **exact),
        "uid twice": lambda: token_search([{"scores": x, "uid": ["a"]}], **exact),
        "no share": lambda: token_search([x]) if odd else token_search([x], share=0.5),
        "late": lambda: late(rank, x),
    }


def work(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store{world}", rank=rank, world_size=world)
    calls, original = [], distributed.all_reduce

    def counted(x, **options):
        calls.append(x.numel())
        return original(x, **options)

    distributed.all_reduce = counted
    report = {"cases": dict(cases(world, rank)), "errors": {}}
    calls.clear()
    token_search([np.ones((1, 3), np.float32)], share=0.5)
    report["calls"] = list(calls)
    for name, call in errors(rank).items():
        try:
            call()
            report["errors"][name] = ["nothing", ""]
        except Exception as error:
            report["errors"][name] = [type(error).__name__, str(error)]
    Path(folder, f"{world}-{rank}.json").write_text(json.dumps(report))
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    for size in sys.argv[2:]:
        forked.run(work, int(size), sys.argv[1])

"""Token-level batches, and the JSON file of what a peer made of them: tests/vectors/peers/PEER-temporal.json."""

import importlib.metadata
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from _common import VECTORS, StandIns

#: Lengths of the rows of every batch; the widest is as wide as the batch, and one has a single token.
LENGTHS = np.array([12, 7, 1, 9, 12, 4])


def digits(rng: np.random.Generator, shape) -> np.ndarray:
    """Random float32 numbers with few digits."""
    return (np.round(rng.normal(size=shape) * 32) / 64).astype(np.float32)


def make(name: str) -> dict[str, np.ndarray]:
    """One batch.

    ``plain``: every token is trained, each has a reward. ``gaps``: gaps inside rows and at the end of one, rewards on
    trained tokens only. ``gap_rewards``: and on gaps. ``padding``: as plain, with values after the end of a row.
    ``outcome``: as gaps, with one reward a row on its last trained token, which ``scores`` has too. ``ends``: the same
    reward on the last token of the row, which is a gap in one. The critic has values at gaps, in all of them.
    ``long``: a row of 100 tokens without values, with a reward of 1 at its end.
    """
    if name == "long":
        zeros, one = np.zeros((1, 100), np.float32), np.ones((1, 100), int)
        return {"rewards": np.eye(1, 100, 99, dtype=np.float32), "values": zeros, "mask": one, "lengths": [100]}
    rng = np.random.default_rng(11)
    inside = np.arange(LENGTHS.max()) < LENGTHS[:, None]
    rewards, values, log_ratios = (digits(rng, inside.shape) for _ in range(3))
    scores = digits(rng, len(LENGTHS))
    mask = inside.copy()
    if name in {"gaps", "gap_rewards", "outcome", "ends"}:
        mask[0, 3:6] = mask[1, 2] = mask[3, 0] = mask[3, 4:6] = mask[4, 8:] = False
    if name in {"outcome", "ends"}:
        last = LENGTHS - 1 if name == "ends" else mask.shape[1] - 1 - mask[:, ::-1].argmax(1)
        rewards = np.where(np.arange(mask.shape[1]) == last[:, None], scores[:, None], np.float32(0))
    batch = {
        "rewards": np.where(inside if name in {"gap_rewards", "ends"} else mask, rewards, 0),
        "values": values if name == "padding" else np.where(inside, values, 0),
        "mask": mask.astype(int),
        "lengths": LENGTHS,
    }
    if name == "plain":
        batch["log_ratios"] = np.where(inside, log_ratios, 0)
    if name in {"outcome", "ends"}:
        batch["scores"] = scores
        batch["groups"] = np.array([0, 1, 1, 0, 2, 2])
    return batch


def short(x: np.ndarray) -> list:
    """Numbers that read back as the same float32, in few digits."""
    x = np.asarray(x)
    if x.dtype.kind in "iub":
        return x.tolist()
    return np.vectorize(lambda v: float(str(np.float32(v))), otypes=[object])(x).tolist()


class TokenRecord:
    """Collects what the peer returned for whole batches."""

    def __init__(self, peer: str, framework: str):
        self.peer = peer
        self.framework = framework
        self.batches: dict[str, dict] = {}
        self.records: list[dict] = []

    def add(
        self,
        function: str,
        method: str,
        call: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        batch: str,
        *,
        scores: bool = False,
        unlike: str | None = None,
        **options,
    ):
        """Run ``call`` on the tensors of a batch; `method` and `options` say what of ours should give the same.

        `scores`: ours takes one reward a row. `unlike`: why ours is not meant to give the same.
        """
        arrays = make(batch)
        self.batches[batch] = {k: short(v) for k, v in arrays.items()}
        outputs = call({k: torch.tensor(v) for k, v in arrays.items()})
        self.records.append(
            {
                "function": function,
                "method": method,
                "batch": batch,
                "scores": scores,
                "options": options,
                "unlike": unlike,
                "outputs": {k: short(np.asarray(v)) for k, v in outputs.items()},
            }
        )

    def write(self, *stubs: StandIns, **version: str) -> None:
        head = {
            "peer": self.peer,
            **(version or {"version": importlib.metadata.version(self.peer)}),
            "framework": self.framework,
            "torch": torch.__version__.partition("+")[0],
            "stand_ins": sorted(name for finder in stubs for name in finder.names),
        }
        batches = ",\n".join(f"{json.dumps(name)}: {json.dumps(batch)}" for name, batch in self.batches.items())
        records = ",\n".join(json.dumps(record) for record in self.records)
        text = json.dumps(head, indent=1)[:-2]
        text += f',\n "batches": {{\n{batches}\n}},\n "records": [\n{records}\n]}}\n'
        json.loads(text)
        (VECTORS / f"{self.peer}-temporal.json").write_text(text)

"""What the scripts in this folder share: inputs, stand-ins for packages that are not installed, and the JSON file.

Each script runs in a throw-away environment with one peer, installed without its dependencies, beside torch:

    uv venv .venv-golden && uv pip install --python .venv-golden torch==2.15.0 numpy
    uv pip install --python .venv-golden --no-deps torchrl==0.14.1 ...
    .venv-golden/bin/python tests/conformance/golden/make_torchrl.py

Trainers import inference engines and schedulers at the top of the module whose arithmetic is wanted. A stand-in takes
the place of those packages; the file lists which, and none of them computes anything recorded. AReaL also needs the
real colorlog, omegaconf, pyyaml, einops, packaging and tabulate, torchrl its declared dependencies.

slime, NeMo-RL, ROLL, rLLM and prime-rl are in no package index. Their scripts take a clone and run single functions of
one commit:

    .venv-golden/bin/python tests/conformance/golden/make_slime.py path/to/clone

PEER.json has GRPO and RLOO, PEER-others.json the other methods with one number a rollout, PEER-temporal.json those on
tokens.
"""

import importlib.abc
import importlib.machinery
import importlib.metadata
import json
import math
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

VECTORS = Path(__file__).parents[2] / "vectors" / "peers"


class Anything:
    """Whatever is asked of it: an attribute, a decorator, a base class, a type."""

    def __init__(self, name: str = "stub"):
        self.__name__ = name

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything(name)

    def __bool__(self):
        return False

    def __call__(self, *args, **_):
        return args[0] if len(args) == 1 and callable(args[0]) else Anything()

    def __getitem__(self, _):
        return Anything()

    def __or__(self, other):
        return Anything()

    __ror__ = __or__

    def __mro_entries__(self, _):
        return ()


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds these packages where no other finder does."""

    def __init__(self, names: tuple[str, ...]):
        self.names = names

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        module.__getattr__ = Anything(spec.name).__getattr__
        return module

    def exec_module(self, module):
        pass


def stand_in(*names: str) -> StandIns:
    finder = StandIns(names)
    sys.meta_path.append(finder)
    return finder


def rewards(kind: str, size: int, groups: int, seed: int) -> np.ndarray:
    """[groups, size] float32; the last group is constant, in eighths, whose sums are exact."""
    rng = np.random.default_rng([seed, size])
    out = rng.integers(0, 2, (groups, size)) if kind == "binary" else rng.normal(size=(groups, size))
    out = out.astype(np.float32)
    out[-1] = rng.integers(-16, 17) / 8
    return out


def ragged(seed: int, sizes=(2, 3, 5, 8, 16, 1, 4)) -> tuple[np.ndarray, np.ndarray]:
    """Rewards and ids of groups of these sizes, rows in random order."""
    rng = np.random.default_rng(seed)
    ids = np.repeat(np.arange(len(sizes)), sizes)
    values = rng.normal(size=len(ids)).astype(np.float32)
    values[ids == 2] = rng.integers(-16, 17) / 8
    order = rng.permutation(len(ids))
    return values[order], ids[order]


def binary(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """0/1 rewards of ragged groups, some all 0 or all 1."""
    values, ids = ragged(seed, (2, 3, 5, 8, 16, 1, 4, 6))
    values = (values > 0).astype(np.float32)
    values[ids == 3], values[ids == 7] = 0.0, 1.0
    return values, ids


def equal_sizes() -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    for size in (2, 3, 8, 16):
        for kind in ("binary", "real"):
            yield rewards(kind, size, 4, 7).ravel(), np.repeat(np.arange(4), size), size


#: Equal rewards whose float32 mean need not equal them; three numbers add up in one way only.
CONSTANT = np.full(3, 1000.1, np.float32), np.zeros(3, int)


class Record:
    """Collects what the peer returned."""

    def __init__(self, distribution: str, framework: str, part: str = ""):
        self.distribution = distribution
        self.file = f"{distribution}-{part}" if part else distribution
        self.framework = framework
        self.records: list[dict] = []

    def add(
        self,
        function: str,
        method: str,
        call: Callable,
        values,
        ids,
        *,
        residue=False,
        refused=None,
        unlike=None,
        **options,
    ):
        """Run `call(values, ids)`; `method` and `options` say what of ours should give the same.

        `residue`: equal rewards, for which the peer returns rounding. `refused`: where the peer keeps such a call out.
        `unlike`: why ours is not meant to give the same.
        """
        entry = {
            "function": function,
            "method": method,
            "options": options,
            "residue": residue,
            "refused": refused,
            "unlike": unlike,
            "ids": np.asarray(ids).tolist(),
            "rewards": np.asarray(values).tolist(),
        }
        try:
            result = call(torch.tensor(values), np.asarray(ids))
        except (ValueError, RuntimeError) as error:
            entry["refused"] = f"{type(error).__name__} in the call itself"
        else:
            result = np.asarray(result, dtype=np.float64).tolist()
            entry["advantages"] = [None if math.isnan(x) else x for x in result]
        self.records.append(entry)

    def write(self, stubs: StandIns | None = None, **version: str) -> None:
        head = {
            "peer": self.distribution,
            **(version or {"version": importlib.metadata.version(self.distribution)}),
            "framework": self.framework,
            "torch": torch.__version__.partition("+")[0],
            "stand_ins": sorted(stubs.names) if stubs else [],
        }
        lines = ",\n".join(json.dumps(record) for record in self.records)
        text = json.dumps(head, indent=1)[:-2] + f',\n "records": [\n{lines}\n]}}\n'
        json.loads(text)
        VECTORS.mkdir(parents=True, exist_ok=True)
        (VECTORS / f"{self.file}.json").write_text(text)

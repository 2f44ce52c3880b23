"""RAGEN's compute_bi_level_gae_advantage_return, the source of that one function executed alone.

It needs torch and verl (it whitens with verl's masked_whiten) and nothing else of RAGEN:

    git clone https://github.com/mll-lab-nu/RAGEN && .venv-peers/bin/python tests/conformance/golden/make_ragen.py RAGEN
"""

import ast
import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import verl.utils.torch_functional as verl_F

NAME = "compute_bi_level_gae_advantage_return"
FILE = "ragen/trainer/core_algos.py"
TARGET = Path(__file__).parents[2] / "vectors" / "peers" / "ragen-temporal.json"


def official(checkout: Path):
    """The function, and the commit that it is from."""
    run = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    commit = subprocess.run(run, check=True, capture_output=True, text=True).stdout.strip()
    tree = ast.parse((checkout / FILE).read_text())
    body = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == NAME]
    names = {"torch": torch, "verl_F": verl_F}
    exec(compile(ast.Module(body, []), FILE, "exec"), names)
    return names[NAME], commit


def batch(seed: int, rows: int = 5, width: int = 14) -> dict[str, np.ndarray]:
    """Turns of 1 to 4 tokens with observations between some of them, a reward that is not 0 at each turn's end."""
    rng = np.random.default_rng(seed)
    rewards, turns = np.zeros((rows, width)), np.full((rows, width), -1)
    for i in range(rows):
        at = turn = 0
        while at < width and (turn == 0 or rng.random() < 0.75):
            end = min(width, at + rng.integers(1, 5))
            turns[i, at:end] = turn
            rewards[i, end - 1] = rng.choice([-1.0, 0.5, 1.0])
            at, turn = end + rng.integers(0, 3), turn + 1
    # In 64ths, which are exact in float32, as it computes.
    values = rng.integers(-96, 97, (rows, width)) / 64
    return {"rewards": rewards, "values": values, "turns": turns, "mask": (turns >= 0).astype(int)}


def zeros() -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """A turn, and an episode, whose reward is 0: RAGEN takes the tokens with a reward for the ends of turns."""
    given = batch(9, rows=1)
    given["turns"][0] = [0, 0, 0, -1, 1, 1, *[-1] * 8]
    given["mask"] = (given["turns"] >= 0).astype(int)
    for case, reward in ("a turn without reward", 1.0), ("an episode without reward", 0.0):
        rewards = np.zeros((1, 14))
        rewards[0, 5] = reward
        yield case, given | {"rewards": rewards}


def run(function, given: dict[str, np.ndarray], gamma: float, lam: float, gamma_turn: float, unlike=None) -> dict:
    rewards, values, mask = (torch.from_numpy(given[name]) for name in ("rewards", "values", "mask"))
    record = {
        "method": "two_level_gae",
        "options": {"gamma": gamma, "lam": lam, "gamma_turn": gamma_turn},
        "residue": False,
        "refused": None,
        "unlike": unlike,
    }
    record |= {name: x.tolist() for name, x in given.items()}
    try:
        whitened, returns = function(rewards.float(), values.float(), mask, gamma, lam, gamma_turn)
    except IndexError as wrong:
        return record | {"refused": f"IndexError: {wrong}"}
    return record | {"whitened_advantages": whitened.tolist(), "returns": returns.tolist()}


def main(checkout: Path) -> None:
    function, commit = official(checkout)
    rules = [(1.0, 1.0, 0.95), (1.0, 0.95, 0.9), (0.99, 0.9, 1.0), (0.9, 0.0, 0.5)]
    records = [run(function, batch(seed), *rule) for seed, rule in enumerate(rules)]
    records += [run(function, given, 1.0, 0.95, 0.9, unlike=case) for case, given in zeros()]
    about = {
        "peer": "ragen",
        "commit": commit,
        "function": f"{FILE}::{NAME}",
        "script": Path(__file__).name,
        "torch": torch.__version__,
        "verl": importlib.metadata.version("verl"),
    }
    lines = ",\n".join(json.dumps(record) for record in records)
    TARGET.write_text(json.dumps(about, indent=1)[:-2] + f',\n "records": [\n{lines}\n]\n}}\n')
    sys.stdout.write(f"{TARGET}: {len(records)} records\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

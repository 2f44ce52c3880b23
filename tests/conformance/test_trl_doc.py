"""The blocks of docs/trainers/trl.md, that of docs/trainers.md, and the example, as they stand there."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rollmath as rm

if importlib.util.find_spec("trl") is None:
    pytest.skip("trl is not installed; `make test-peers` has an environment for it", allow_module_level=True)

import torch
import trl_tiny as tiny

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]


def blocks(page):
    text = (ROOT / "docs" / page).read_text()
    found = re.findall(r"(?:^    .*\n(?:\n+(?=    ))?)+", text, re.MULTILINE)
    return [re.sub("^    ", "", block, flags=re.MULTILINE) for block in found]


@pytest.fixture
def world(peer, tmp_path):
    """The names that the pages use."""
    trl = peer("trl")
    config = trl.GRPOConfig(
        str(tmp_path), per_device_train_batch_size=8, num_generations=4, max_completion_length=12, max_steps=2,
        logging_steps=1, report_to=[], use_cpu=True, save_strategy="no", disable_tqdm=True, bf16=False,
    )  # fmt: skip
    names = {"rm": rm, "config": config, "model": tiny.model(), "tokenizer": tiny.tokenizer()}
    return names | {"reward_function": tiny.letters, "dataset": tiny.dataset(), "search": search, "play": play}


def test_the_block_of_the_page_about_trainers(world):
    (block,) = [block for block in blocks("trainers.md") if "adapters.trl" in block]
    assert len(block.strip().splitlines()) <= 10
    exec(block, world)
    assert len(tiny.curve(world["trainer"], "rollmath/rollouts/dropped")) == 2


def search(prompt, n):
    """A tree of four rollouts below a prompt, with a token of an environment in the second."""
    mask = [[1] * 3, [1, 1, 0, 1], [1] * 2, [1] * 3]
    return [
        {"prompt": [2, 3], "tokens": ids, "logprobs": [-1.5] * len(ids), "mask": mask[i], "tree": prompt}
        for i, ids in enumerate([[14, 13, 14], [14, 13, 16, 1], [14, 18], [19, 20, 1]])
    ]


def play(prompt, trainer):
    """Two turns of one token, with one of the environment between them."""
    first, second = (int(x) for x in torch.randint(12, 20, (2,)))
    rooms = ["hall", "yard" if first % 2 else "cellar"]
    return {
        "prompt": [2, 3],
        "tokens": [first, 4, second],
        "mask": [1, 0, 1],
        "states": rooms,
        "actions": [first, second],
    }


def test_the_blocks_of_the_page_about_trl(world, monkeypatch):
    first, second, third, steps, fourth = blocks("trainers/trl.md")
    exec(first, world)
    assert len(tiny.curve(world["trainer"], "loss")) == 2
    exec(second, world)
    world["trainer"].train()
    assert world["trainer"]._buffered_inputs[0]["advantages"].dim() == 2
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    exec(third, world)
    world["trainer"].train()
    (inputs,) = world["trainer"]._buffered_inputs
    trained = inputs["completion_mask"] * inputs["tool_mask"]
    assert inputs["advantages"].shape == trained.shape
    assert int(trained.sum()) == int(inputs["num_items_in_batch"]) == 22
    shared = inputs["advantages"][inputs["completion_ids"][:, 1] == 13][:, :2]
    assert len(shared) == 4
    assert (shared != 0).any()
    for row in shared[1:]:
        assert row.tolist() == shared[0].tolist()
    exec(steps, world)
    (inputs,) = world["trainer"]._buffered_inputs
    # The first turns were taken in one state, the second in two.
    values = inputs["advantages"]
    assert (values[:, 0] != values[:, 2]).any()
    assert not values[:, 1].any()
    exec(fourth, world)
    assert tiny.curve(world["trainer"], "rollmath/tokens/trained")


def test_the_example_learns():
    paths = [str(Path(rm.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "trl_grpo.py")],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    before, after = map(float, re.search(r"mean reward ([\d.]+) -> ([\d.]+)", done.stdout).groups())
    assert before < 0.3
    assert after > 0.8

"""TRL's trainers with the mixin on two processes, whose groups lie on both."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import rollmath as rm

if importlib.util.find_spec("trl") is None:
    pytest.skip("trl is not installed; `make test-peers` has an environment for it", allow_module_level=True)

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

REFERENCE = Path(__file__).parents[1] / "reference"
CLOCKS = {"step_time", "train_runtime", "train_samples_per_second", "train_steps_per_second"}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """``found(case)``: what each of two ranks saw."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    paths = [str(REFERENCE), str(Path(rm.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    jobs = [
        subprocess.Popen(
            [sys.executable, str(REFERENCE / "trl_job.py"), str(folder)],
            env=os.environ | world | {"RANK": rank, "LOCAL_RANK": rank, "PYTHONPATH": os.pathsep.join(paths)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    try:
        said = [job.communicate(timeout=400)[1] for job in jobs]
    finally:
        for job in jobs:
            job.kill()
    assert [job.returncode for job in jobs] == [0, 0], said[0][-2000:] + said[1][-2000:]
    return lambda case: [json.loads((folder / f"{case}-{rank}.json").read_text()) for rank in (0, 1)]


def curve(result, name):
    return [entry[name] for entry in result["history"] if name in entry]


@pytest.mark.parametrize("suffix", ["", "-rloo"])
def test_the_numbers_of_trl(found, suffix):
    theirs, ours = found(f"theirs{suffix}")[0], found(f"ours{suffix}")[0]
    for left, right in zip(theirs["history"], ours["history"], strict=True):
        assert left.keys() <= right.keys()
        for name in left.keys() - CLOCKS:
            assert right[name] == pytest.approx(left[name], abs=5e-6), name
    assert ours["advantages"] == pytest.approx(theirs["advantages"], abs=1e-6)


def test_statistics_are_of_all_ranks(found):
    first, second = found("advantage")
    batches = [[x for x in rank["seen"] if "rewards" in x] for rank in (first, second)]
    assert batches[0] == batches[1]
    assert len(batches[0]) == 4
    losses = [[x for x in rank["seen"] if "loss" in x] for rank in (first, second)]
    for i, batch in enumerate(batches[0]):
        assert batch["groups"] == [0] * 4
        expected = rm.group.grpo(np.float32(batch["rewards"]), [0] * 4)
        assert batch["advantages"] == expected.tolist()
        for rank in (0, 1):
            seen = losses[rank][i]
            assert sorted(seen["rollouts"]) == [2 * rank, 2 * rank + 1]
            assert seen["given"] == [batch["advantages"][x] for x in seen["rollouts"]]
    assert first["weights"] == second["weights"]


def test_a_rank_whose_rollouts_were_all_dropped(found):
    first, second = found("filter")
    assert first["error"] == second["error"] == ""
    for here, there in zip(first["seen"], second["seen"], strict=True):
        assert here["trained"] == here["items"] == there["items"]
        assert there["trained"] == 0
        assert there["loss"] == 0.0
    assert max(curve(first, "grad_norm")) > 0
    assert first["weights"] == second["weights"]


def test_trees_of_both_ranks(found):
    """Each rank samples its own; the tokens that are counted are those that train on both."""
    first, second = found("trees")
    assert first["error"] == second["error"] == ""
    for here, there in zip(first["seen"], second["seen"], strict=True):
        assert here["items"] == there["items"] == here["trained"] + there["trained"]
    assert max(curve(first, "grad_norm")) > 0
    assert first["weights"] == second["weights"]


def test_no_split_over_ranks_and_micro_batches_changes_the_loss(found):
    whole, parts = found("whole")[0], found("parts")[0]
    for name in ("loss", "grad_norm"):
        assert curve(whole, name) == pytest.approx(curve(parts, name), abs=5e-6)


def test_a_column_that_is_missing_on_one_rank_is_an_error_on_both(found):
    first, second = (x["error"] for x in found("missing"))
    assert "column 'partial' must have a value for every rollout" in first
    assert first == second

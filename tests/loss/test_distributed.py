"""Real processes under DDP and FSDP2, averaging and adding gradients, give the gradient of one process.

Ranks have different numbers of trained tokens, and the last one none. Each makes two micro-batches.
"""

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

WORLDS = (2, 4)

pytestmark = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()), reason="torch without gloo"
)


@pytest.fixture(scope="module")
def reports(script, tmp_path_factory):
    """What distributed_job.py found, by the number of processes."""
    folder = tmp_path_factory.mktemp("distributed")
    job = Path(__file__).with_name("distributed_job.py")
    arguments = [str(job), str(folder), *map(str, WORLDS)]
    script(f"import runpy, sys; sys.argv = {arguments}; runpy.run_path({str(job)!r}, run_name='__main__')", 110)
    return {world: json.loads((folder / f"{world}.json").read_text()) for world in WORLDS}


@pytest.mark.parametrize("world", WORLDS)
def test_every_rank_gathers_the_normalizer_of_the_step(reports, world):
    report = reports[world]
    assert report["gathered"] == [True] * world
    assert len(set(report["batch ids"])) == 1
    # The case is what it says.
    *some, last = report["tokens"]
    assert last == 0
    assert min(some) > 0
    assert len(set(report["tokens"])) == world


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("reduce", ["mean", "sum"])
@pytest.mark.parametrize("wrapper", ["ddp", "fsdp2"])
def test_gradients_are_those_of_one_process(reports, world, wrapper, reduce):
    found = {case: off for case, off in reports[world]["gradients"].items() if case.startswith(f"{wrapper}, {reduce}")}
    assert len(found) >= 9
    assert {case: off for case, off in found.items() if not off < 1e-12} == {}


@pytest.mark.parametrize("world", WORLDS)
def test_merged_metrics_are_those_of_one_process(reports, world):
    assert {case: off for case, off in reports[world]["metrics"].items() if not off < 1e-11} == {}

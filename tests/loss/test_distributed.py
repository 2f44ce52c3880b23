"""Real processes under DDP and FSDP2, averaging and adding gradients, give the gradient of one process.

Every objective under every aggregation, with DDP and with FSDP2: averaging with two processes and adding with four, or
the reverse. Ranks have different numbers of trained tokens, and the last one none. Each makes two micro-batches, whole
rollouts at random, some of them empty. In turn there are KL terms and corrections beside the entropy bonus.
"""

import json
import re
from itertools import product
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from rollmath import loss  # noqa: E402
from rollmath.loss._aggregate import AGGREGATIONS  # noqa: E402

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
    script(f"import runpy, sys; sys.argv = {arguments}; runpy.run_path({str(job)!r}, run_name='__main__')", 180)
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
    assert len(found) >= 100
    assert {case: off for case, off in found.items() if not off < 1e-12} == {}


def test_nothing_is_left_out(reports):
    """Each pair with both wrappers and with both numbers of processes; over these, averaging and adding."""
    names = {name for name in loss.__all__ if is_objective(getattr(loss, name))}
    pairs = set(product(names | {"value_loss and aggregate"}, [*AGGREGATIONS, "dr_grpo"]))
    for world, kind in product(WORLDS, ("ddp", "fsdp2")):
        found = [case.split(", ") for case in reports[world]["gradients"]]
        assert {(re.sub(r" \d+$", "", name), label) for wrapper, _, name, label in found if wrapper == kind} == pairs
    for kind, reduce in product(("ddp", "fsdp2"), ("mean", "sum")):
        found = [case.split(", ") for world in WORLDS for case in reports[world]["gradients"]]
        these = {(re.sub(r" \d+$", "", name), label) for *way, name, label in found if way == [kind, reduce]}
        assert these == pairs


def is_objective(x):
    return isinstance(x, type) and issubclass(x, loss.Objective) and x is not loss.Objective


@pytest.mark.parametrize("world", WORLDS)
def test_merged_metrics_are_those_of_one_process(reports, world):
    assert {case: off for case, off in reports[world]["metrics"].items() if not off < 1e-11} == {}

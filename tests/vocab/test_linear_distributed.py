"""Real processes: an output layer under FSDP2, and one whose vocabulary is spread over ranks."""

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

WORLDS = (2, 3)

pytestmark = [
    # On a busy machine most of it is importing torch.
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        not (torch.distributed.is_available() and torch.distributed.is_gloo_available()), reason="torch without gloo"
    ),
]


@pytest.fixture(scope="module")
def reports(script, tmp_path_factory):
    """What each rank found, by the number of processes."""
    folder = tmp_path_factory.mktemp("linear")
    job = Path(__file__).with_name("linear_job.py")
    arguments = [str(job), str(folder), *map(str, WORLDS)]
    code = (
        "import runpy, sys, warnings\n"
        "warnings.simplefilter('error', UserWarning)\n"
        f"sys.argv = {arguments}; runpy.run_path({str(job)!r}, run_name='__main__')"
    )
    script(code, 240)
    return {
        world: [json.loads((folder / f"{world}-{rank}.json").read_text()) for rank in range(world)] for world in WORLDS
    }


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("kind", ["fsdp2 model", "fsdp2 head and model", "fsdp2 model, tied", "parallelize", "by hand"])
def test_values_and_gradients_are_those_of_one_process(reports, world, kind):
    for report in reports[world]:
        found = {case: off for case, off in report["off"].items() if case.startswith(f"{kind}, ")}
        assert len(found) >= 6
        assert {case: off for case, off in found.items() if not off < 1e-12} == {}


@pytest.mark.parametrize("world", WORLDS)
def test_mixed_precision_leaves_the_temperature_as_it_is(reports, world):
    for report in reports[world]:
        assert report["off"]["fsdp2 mixed precision, logprob"] == 0


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (
            "plain hidden",
            "TypeError: linear_row_stats(): 'hidden' must be a DTensor placed as (Replicate(),)",
        ),
        ("dtensor hidden", "TypeError: linear_row_stats(): 'hidden' must be a plain tensor beside a plain 'weight'"),
        (
            "sideways",
            "ValueError: linear_row_stats(): 'weight' must be placed as Shard(0) on one dimension of the mesh",
        ),
        ("shard twice", "ValueError: linear_row_stats(): 'shard' must be None for a 'weight' that is a DTensor"),
        ("plain bias", "TypeError: linear_row_stats(): 'bias' must be a DTensor placed as 'weight', (Shard(dim=0),)"),
        ("no gather", "TypeError: linear_row_stats(): 'hidden' must be a DTensor placed as (Replicate(),)"),
    ],
)
def test_wrong_calls(reports, case, words):
    for report in reports[2]:
        assert report["errors"][case].startswith(words)

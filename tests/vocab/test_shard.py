"""Logits whose vocabulary is spread over real processes: the numbers, gradients and errors of one process.

Two, three and four processes run shard_job.py, over gloo: even, uneven, empty and padded shards, in and out of order.
"""

import json
import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from rollmath.vocab import VocabShard, row_stats  # noqa: E402

WORLDS = (2, 3, 4)

pytestmark = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()), reason="torch without gloo"
)

#: How far from one process, by the dtype of the logits. The gradient of bfloat16 logits is rounded to bfloat16.
LIMITS = {"float64": 1e-12, "float32": 1e-6, "bfloat16": 1e-6}
BF16_GRADIENT = 2**-8

#: What is wrong on rank 1 alone, or on all ranks together, by the name of the case: the error of every rank.
ERRORS = {
    "label": "ValueError: row_stats(): 'labels' must be in [0, 23) (= V), got 23 at flat index 0; ..., on rank 1",
    "labels": "ValueError: row_stats(): 'labels' must be the same on all ranks, got int64 (12,) with checksum ... on "
    "rank 0, int64 (12,) with checksum ... on rank 1",
    "type": "TypeError: row_stats(): 'labels' must be an integer tensor, got ..., on rank 1",
    "rows": "ValueError: row_stats(): 'rows' must be the same on all ranks, got (12,) on rank 0, (11,) on rank 1",
    "outputs": "ValueError: row_stats(): 'outputs' must be the same on all ranks, got ('logprob',) on rank 0, "
    "('entropy',) on rank 1",
    "temperature": "ValueError: row_stats(): 'temperature' must be the same on all ranks, got 1.0 on rank 0, 0.5 on "
    "rank 1",
    "dtype": "ValueError: row_stats(): 'dtype' must be the same on all ranks, got float32 on rank 0, float64 on rank 1",
    "total": "ValueError: row_stats(): 'total' must be the same on all ranks, got 23 on rank 0, 24 on rank 1",
    "overlap": "ValueError: row_stats(): 'shard' must give each token to one rank, but token ... is on ranks 0 and 1; "
    "check 'first'",
    "hole": "ValueError: row_stats(): 'shard' must give each token to one rank, but token ... is on none; check "
    "'first' and 'total'",
    "end": "ValueError: row_stats(): 'shard' must give each token to one rank, but tokens ... of 32 are on none; check "
    "'first' and 'total'",
    "checked alone": "ValueError: VocabShard.check(): 'first' must give each token to one rank, but ... is on ranks 0 "
    "and 1; check 'first'",
    "function": "ValueError: row_stats(): the call must be the same on all ranks, got row_stats() on rank 0, "
    "logprobs() on rank 1; call one function on all of them",
    "dtensor and shard": "ValueError: row_stats(): 'shard' must be None for DTensor logits, which know theirs, got "
    "VocabShard(...)",
    "partial": "ValueError: row_stats(): 'logits' must be placed as Shard or Replicate, got (Partial(...),); call "
    ".redistribute() first",
    "dtensor labels": "TypeError: row_stats(): 'labels' must be a plain tensor beside plain 'logits', got a DTensor; "
    "call .to_local() or .full_tensor(), on rank 0",
    "placed labels": "ValueError: row_stats(): 'labels' must be placed as the rows of 'logits', (Replicate(),), got "
    "(Shard(dim=0),); call .redistribute() first",
    "mesh as group": "TypeError: VocabShard(): 'group' must be a process group of torch.distributed or None, got an "
    "object of type ...DeviceMesh; of a DeviceMesh take .get_group()",
}


@pytest.fixture(scope="module")
def reports(script, tmp_path_factory):
    """What shard_job.py found on each rank, by the number of processes."""
    folder = tmp_path_factory.mktemp("shards")
    job = Path(__file__).with_name("shard_job.py")
    arguments = [str(job), str(folder), *map(str, WORLDS)]
    script(f"import runpy, sys; sys.argv = {arguments}; runpy.run_path({str(job)!r}, run_name='__main__')", 180)
    return {
        world: [json.loads((folder / f"{world}-{rank}.json").read_text()) for rank in range(world)] for world in WORLDS
    }


def limit(case: str) -> float:
    """How far a case may be from one process."""
    dtype = next(name for name in LIMITS if f", {name}, " in case)
    return BF16_GRADIENT if dtype == "bfloat16" and case.endswith(", gradient") else LIMITS[dtype]


@pytest.mark.parametrize("world", WORLDS)
def test_results_and_gradients_are_those_of_one_process(reports, world):
    for report in reports[world]:
        assert len(report["off"]) >= 400
        assert {case: off for case, off in report["off"].items() if not off <= limit(case)} == {}


@pytest.mark.parametrize("world", WORLDS)
def test_all_ranks_have_the_same_bits(reports, world):
    first, *rest = reports[world]
    for report in rest:
        assert report["bits"] == first["bits"]


@pytest.mark.parametrize("world", WORLDS)
def test_dtensor_logits(reports, world):
    for report in reports[world]:
        assert len(report["dtensors"]) >= (100 if world == 4 else 20)
        assert {case: off for case, off in report["dtensors"].items() if not off <= LIMITS["float64"]} == {}


@pytest.mark.parametrize("case", ERRORS)
@pytest.mark.parametrize("world", WORLDS)
def test_a_wrong_call_is_the_same_error_on_all_ranks(reports, world, case):
    pattern = ".*".join(re.escape(part) for part in ERRORS[case].split("..."))
    for report in reports[world]:
        assert re.fullmatch(pattern, report["errors"][case]), report["errors"][case]


@pytest.mark.parametrize("world", WORLDS)
def test_every_error_is_expected(reports, world):
    for rank, report in enumerate(reports[world]):
        assert set(report["errors"]) == {*ERRORS, "no member"}
        assert report["errors"]["no member"] == (
            "ValueError: VocabShard(): 'group' must be a process group of this process, but it is not a member; do not "
            "call there" if rank == 1 else "no error"
        )  # fmt: skip

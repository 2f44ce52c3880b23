"""Logits whose vocabulary is spread over real processes: the numbers, gradients and errors of one process.

Two, three and four processes run shard_job.py, over gloo: even, uneven, empty and padded shards, in and out of order.
"""

import json
import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from rollmath.vocab import RowStats, TokenSets, VocabShard, _shard_rows, logprobs, row_stats  # noqa: E402

WORLDS = (2, 3, 4)
FEW = (2, 3)

pytestmark = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()), reason="torch without gloo"
)

#: How far from one process, by the dtype of the logits. The gradient of bfloat16 logits is rounded to bfloat16.
LIMITS = {"float64": 1e-12, "float32": 1e-6, "bfloat16": 1e-6}
BF16_GRADIENT = 2**-8

SAME = "must be the same on all ranks of the vocabulary, got"

#: What is wrong on rank 1 alone, or on all ranks together, by the name of the case: the error of every rank.
ERRORS = {
    "label": "ValueError: row_stats(): 'labels' must be in [0, 23) (= V), got 23 at flat index 0; ..., on rank 1",
    "labels": f"ValueError: row_stats(): 'labels' {SAME} int64 (12,) with checksum ... on rank 0, int64 (12,) with "
    "checksum ... on rank 1",
    "type": "TypeError: row_stats(): 'labels' must be an integer tensor, got ..., on rank 1",
    "no tensor": "TypeError: row_stats(): 'logits' must be a float tensor [..., V], got an object of type list, on "
    "rank 1",
    "no axes": "ValueError: row_stats(): 'logits' must have shape [..., V] with V of at least 0, got (), on rank 1",
    "rows": f"ValueError: row_stats(): 'logits.shape[:-1]' {SAME} (12,) on rank 0, (11,) on rank 1",
    "outputs": f"ValueError: row_stats(): 'outputs' {SAME} ('logprob',) on rank 0, ('entropy',) on rank 1",
    "temperature": f"ValueError: row_stats(): 'temperature' {SAME} 1.0 on rank 0, 0.5 on rank 1",
    "dtype": f"ValueError: row_stats(): 'logits.dtype' {SAME} torch.float32 on rank 0, torch.float64 on rank 1",
    "total": f"ValueError: row_stats(): 'total' {SAME} 23 on rank 0, 24 on rank 1",
    "overlap": "ValueError: row_stats(): each of the 23 tokens must be on one rank, but token ... is on ranks 0 and 1; "
    "check 'first' and 'total'",
    "hole": "ValueError: row_stats(): each of the 24 tokens must be on one rank, but token ... is on none; check "
    "'first' and 'total'",
    "end": "ValueError: row_stats(): each of the 40 tokens must be on one rank, but tokens ... to 39 are on none; "
    "check 'first' and 'total'",
    "checked alone": "ValueError: VocabShard.check(): each of the 23 tokens must be on one rank, but token ... is on "
    "ranks 0 and 1; check 'first' and 'total'",
    "function": f"ValueError: ...(): the call {SAME} row_stats() on rank 0, logprobs() on rank 1",
    "dtensor and shard": "ValueError: row_stats(): 'shard' must be None for DTensor 'logits', which know theirs, got "
    "an object of type VocabShard",
    "partial": "ValueError: row_stats(): 'logits' must be placed as Shard or Replicate, got (Partial(...),); call "
    ".redistribute() first",
    "dtensor labels": "TypeError: row_stats(): 'labels' must be a plain tensor beside plain 'logits', got a DTensor; "
    "call .to_local(), on rank 0",
    "placed labels": "ValueError: row_stats(): 'labels' must be placed as the rows of 'logits', (Replicate(),), got "
    "(Shard(dim=0),); call .redistribute() first",
    "mesh as group": "TypeError: VocabShard(): 'group' must be a process group of torch.distributed or None, got an "
    "object of type DeviceMesh; of a DeviceMesh take .get_group()",
    "no shard": "TypeError: row_stats(): 'shard' must be a VocabShard or None, got an object of type ...",
    "leaf": "ValueError: row_stats(): 'inplace_backward' must be False here, because the logits are a leaf, ...",
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


@pytest.mark.parametrize("world", FEW)
def test_results_and_gradients_are_those_of_one_process(reports, world):
    for report in reports[world]:
        assert len(report["off"]) >= 300
        assert {case: off for case, off in report["off"].items() if not off <= limit(case)} == {}


@pytest.mark.parametrize("world", FEW)
def test_all_ranks_have_the_same_bits(reports, world):
    first, *rest = reports[world]
    for report in rest:
        assert report["bits"] == first["bits"]


@pytest.mark.parametrize("world", WORLDS)
def test_one_collective_forward_and_none_backward(reports, world):
    """Twelve rows of ten numbers, and 16 KiB before them where ranks compare what they were given."""
    values = f"all_gather_into_tensor {12 * 10} torch.float32"
    for report in reports[world]:
        assert report["collectives"] == {
            "forward, check=None": [f"all_gather {1 << 14} torch.uint8", values],
            "backward, check=None": [],
            "forward, check=False": [values],
            "backward, check=False": [],
        }


@pytest.mark.parametrize("world", WORLDS)
def test_dtensor_logits(reports, world):
    for report in reports[world]:
        assert len(report["dtensors"]) >= (100 if world == 4 else 20)
        assert {case: off for case, off in report["dtensors"].items() if not off <= LIMITS["float64"]} == {}


def test_the_compiler_leaves_them_to_eager_mode(reports):
    for report in reports[2]:
        assert report["compiled"] is True


@pytest.mark.parametrize("case", ERRORS)
def test_a_wrong_call_is_the_same_error_on_all_ranks(reports, case):
    pattern = ".*".join(re.escape(part) for part in ERRORS[case].split("..."))
    for world in FEW:
        for report in reports[world]:
            assert re.fullmatch(pattern, report["errors"][case])


@pytest.mark.parametrize("world", FEW)
def test_every_error_is_expected(reports, world):
    for rank, report in enumerate(reports[world]):
        assert set(report["errors"]) == {*ERRORS, "no member"}
        member = (
            "ValueError: VocabShard(): 'group' must be a process group of this process, but it is not a member; do "
            "not call there"
        )
        assert report["errors"]["no member"] == (member if rank == 1 else "no error")


# One process.

CHECK = "check 'first' and 'total'"
NO_GROUP = "'group' must be None while torch.distributed is not initialised, got an object of type str"
PLAIN = "of plain tensors say VocabShard(group, first, total)"


def test_one_process_is_one_shard(same_bits):
    """Without a process group, with and without padding."""
    torch.manual_seed(0)
    logits, labels = torch.randn(5, 9), torch.randint(0, 9, (5,))
    whole = row_stats(logits, labels)
    shard = VocabShard.even(None, 9)
    assert shard == VocabShard(None, 0, 9)
    padded = torch.cat([logits, torch.full((5, 2), torch.nan)], 1).requires_grad_()
    stats = row_stats(padded, labels, shard=shard)
    for a, b in zip((whole.logprob, whole.entropy), (stats.logprob, stats.entropy), strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=1e-6, atol=1e-6)
    logprobs(padded, labels, shard=shard).sum().backward()
    assert torch.equal(padded.grad[:, 9:], torch.zeros(5, 2))
    plain = logits.clone().requires_grad_()
    logprobs(plain, labels).sum().backward()
    torch.testing.assert_close(padded.grad[:, :9], plain.grad, rtol=1e-6, atol=1e-6)


def test_the_gradient_may_be_written_into_padded_logits():
    torch.manual_seed(0)
    leaf, labels = torch.randn(3, 7, requires_grad=True), torch.randint(0, 5, (3,))
    logits = leaf * 1
    logprobs(logits, labels, shard=VocabShard(None, 0, 5), inplace_backward=True).sum().backward()
    other = leaf.detach()[:, :5].clone().requires_grad_()
    logprobs(other, labels).sum().backward()
    torch.testing.assert_close(leaf.grad[:, :5], other.grad, rtol=1e-6, atol=1e-6)
    assert not leaf.grad[:, 5:].any()
    assert torch.equal(logits.detach(), leaf.grad)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ((None, 1.0, 5), TypeError, "VocabShard(): 'first' must be an integer, got an object of type float"),
        ((None, True, 5), TypeError, "VocabShard(): 'first' must be an integer, got an object of type bool"),
        ((None, -1, 5), ValueError, "VocabShard(): 'first' must be at least 0, got -1"),
        ((None, 0, "5"), TypeError, "VocabShard(): 'total' must be an integer, got an object of type str"),
        ((None, 0, 0), ValueError, "VocabShard(): 'total' must be from 1 to 16777216, got 0"),
        ((None, 0, 2**24 + 1), ValueError, "VocabShard(): 'total' must be from 1 to 16777216, got 16777217"),
        (
            ("tp", 0, 5),
            ValueError,
            f"VocabShard(): {NO_GROUP}",
        ),
    ],
)
def test_errors_of_one_process(arguments, kind, message):
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        VocabShard(*arguments)


def test_errors_of_other_functions():
    for call, kind, message in (
        (lambda: VocabShard.even(None, 0), ValueError, "VocabShard.even(): 'total' must be from 1 to 16777216, got 0"),
        (
            lambda: VocabShard.even("tp", 5),
            ValueError,
            f"VocabShard.even(): {NO_GROUP}",
        ),
        (
            lambda: VocabShard.of(torch.zeros(2, 3)),
            TypeError,
            f"VocabShard.of(): 'logits' must be a DTensor, got a 2-D float32 array; {PLAIN}",
        ),
        (
            lambda: VocabShard(None, 0, 5).check(2.0),
            TypeError,
            "VocabShard.check(): 'columns' must be an integer, got an object of type float",
        ),
        (
            lambda: VocabShard(None, 0, 5).check(4),
            ValueError,
            f"VocabShard.check(): each of the 5 tokens must be on one rank, but token 4 is on none; {CHECK}",
        ),
        (
            lambda: row_stats(torch.zeros(2, 5), outputs=("entropy",), shard=(0, 5)),
            TypeError,
            "row_stats(): 'shard' must be a VocabShard or None, got an object of type tuple",
        ),
        (
            lambda: logprobs(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64), shard=VocabShard(None, 1, 4)),
            ValueError,
            f"logprobs(): each of the 4 tokens must be on one rank, but token 0 is on none; {CHECK}",
        ),
    ):
        with pytest.raises(kind, match=f"^{re.escape(message)}$"):
            call()


@pytest.mark.filterwarnings("ignore")
def test_the_whole_of_a_graph_is_refused_and_a_part_left_to_eager_mode():
    torch._dynamo.reset()
    torch.manual_seed(0)
    logits, labels, shard = torch.randn(4, 5), torch.randint(0, 5, (4,)), VocabShard(None, 0, 5)

    def step(x):
        return logprobs(x * 1, labels, shard=shard).sum()

    assert torch.equal(torch.compile(step, backend="eager")(logits), step(logits))
    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported, match="disable"):
        torch.compile(step, backend="eager", fullgraph=True)(logits)


# Several shards in one process, on either backend.


@pytest.mark.parametrize("backend", ["torch", "triton"])
@pytest.mark.parametrize(("dtype", "restricted"), [(torch.float32, False), (torch.bfloat16, True)])
def test_shards_of_a_device(device, monkeypatch, backend, dtype, restricted):
    """One without tokens, one with NaN, one of nothing but -inf, one that ends in padding."""
    torch.manual_seed(0)
    logits = (3 * torch.randn(6, 40)).to(dtype)
    logits[1, 7:20] = -torch.inf
    logits[2, 30] = torch.nan
    logits[3, :20] = -torch.inf
    logits[4] = 2.0
    labels, ids = torch.randint(0, 40, (6,)), torch.randint(0, 40, (6, 2))
    allowed = torch.rand(6, 40) < 0.7
    allowed[5, :20] = False
    options = {"outputs": RowStats._fields, "temperature": 0.8, "softcap": 20.0}
    mask = torch.tensor([False] + [True] * 5)
    upstream = {name: torch.randn(6, 2) if name == "gathered" else torch.randn(6) for name in RowStats._fields}

    def run(x, sets, place, *, backward=True, **more):
        x = x.to(place).requires_grad_(backward)
        rows = {"labels": labels.to(x.device), "ids": ids.to(x.device), "mask": mask.to(x.device)}
        rows["allowed"] = sets and sets.to(x.device)
        stats = row_stats(x, **rows, **options, **more)._asdict()
        if not backward:
            return None
        sum((y * upstream[name].to(y)).sum() for name, y in stats.items() if name != "argmax").backward()
        return {name: y.detach().cpu() for name, y in stats.items()}, x.grad.cpu()

    shards = [(0, 7, 0), (7, 7, 0), (7, 20, 0), (20, 40, 3)]
    sets = TokenSets.of_mask(allowed) if restricted else None
    want, whole = run(logits.double(), sets, "cpu")
    sent, made = [], []

    def collect(part, _):
        sent.append(part)
        return part

    for gather, calls in ((collect, []), (lambda *_: torch.cat(sent), made)):
        monkeypatch.setattr(_shard_rows, "gather", gather)
        for first, stop, padding in shards:
            part = torch.cat([logits[:, first:stop], torch.full((6, padding), torch.nan, dtype=dtype)], 1)
            shard = {"shard": VocabShard(None, first, 40), "check": False, "backend": backend}
            calls.append(run(part, sets, device, backward=calls is made, **shard))
    rows = want["lse"].isfinite()
    for (first, stop, padding), (stats, grad) in zip(shards, made, strict=True):
        for name, x in stats.items():
            at = rows if name == "argmax" else slice(None)
            torch.testing.assert_close(
                x[at], want[name].to(x.dtype)[at], rtol=1e-6, atol=1e-6, equal_nan=True, msg=name
            )
        close = {"rtol": 2**-8, "atol": 1e-6} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-6}
        expected = whole[:, first:stop].to(dtype)
        torch.testing.assert_close(grad[:, : stop - first], expected, equal_nan=True, **close)
        assert not grad[:, stop - first :].any()
        assert grad.shape[1] == stop - first + padding

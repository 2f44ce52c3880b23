"""What other kernels got wrong around a launch: compilation, grids, waiting (the table is in docs/kernels.md).

Without a GPU the launches of the wrappers are noted instead of run, on tensors without memory, by ``bench.aot``.
"""

import json
import os
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

ROOT = Path(__file__).parents[2]

NOTE = """
import os
os.environ["TRITON_INTERPRET"] = "0"
import collections, json
import torch
from bench.aot.cases import BF16, F32, empty
from bench.aot.stand_in import compiled
from bench.aot.token_cases import policy_loss
from rollmath.kernels import row_stats, row_stats_backward, scan

def both(rows, width=4096, temperature=0.7, softcap=None, dtype=BF16):
    logits, labels = empty(rows, width, dtype=dtype), empty(rows, dtype=torch.int64)
    options = dict(inv_temperature=1 / temperature, softcap=softcap)
    saved = row_stats.forward(logits, labels, outputs=("logprob", "entropy"), **options)
    grads = {"logprob": empty(rows), "entropy": empty(rows)}
    row_stats_backward.backward(logits, labels, saved, grads, **options)

def gae(width=2000, gamma=0.99):
    rewards, values, advantages, returns = (empty(64, width) for _ in range(4))
    mask = empty(64, width, dtype=torch.bool)
    scan.gae(rewards, values, gamma=gamma, lam=0.95, mask=mask, advantages=advantages, returns=returns)

def variants(calls):
    "Compiled kernels per name, and the largest extent of any grid beyond its first axis."
    noted = compiled("sm_90", lambda: [call() for call in calls])
    made = collections.defaultdict(set)
    for launch in noted:
        made[launch.name].add(id(launch.kernel))
    beyond = max([1, *(n for launch in noted for n in launch.grid[1:])])
    return {k: len(v) for k, v in made.items()}, beyond, max(n.grid[0] for n in noted), len(noted) / len(calls)

print(json.dumps({
    "lengths": variants([lambda n=n: both(n) for n in range(4000, 4032)]),
    "few rows": variants([lambda n=n: both(n) for n in range(2, 34)]),
    "temperatures": variants([lambda t=t: both(4000, temperature=0.5 + t / 16) for t in range(32)]),
    "soft-caps": variants([lambda c=c: both(4000, softcap=20.0 + c) for c in range(8)]),
    "widths": variants([lambda v=v: both(4000, width=1900 + v) for v in range(64)]),
    "decays of a scan": variants([lambda i=i: gae(gamma=0.9 + i / 100) for i in range(8)]),
    "lengths of a scan": variants([lambda i=i: gae(width=2000 + i) for i in range(32)]),
    "coefficients of a loss": variants([lambda i=i: policy_loss(64, 0.1 + i / 100, 0.3 + i / 100) for i in range(8)]),
    "lengths of a loss": variants([lambda i=i: policy_loss(60 + i) for i in range(8)]),
    "many rows": variants([lambda: both(2**20 + 1)]),
}))
"""


@pytest.fixture(scope="module")
def noted(script):
    path = os.pathsep.join([str(ROOT), str(ROOT / "python"), *(p for p in sys.path if p)])
    out, _ = script(NOTE, deadline=110, PYTHONPATH=path, PYTHONWARNINGS="error")
    return {name: tuple(values) for name, values in json.loads(out.splitlines()[-1]).items()}


@pytest.mark.parametrize(
    "name", ["lengths", "few rows", "temperatures", "soft-caps", "decays of a scan", "coefficients of a loss"]
)
def test_nothing_compiles_again(noted, name):
    # A length, a temperature or a clip range that is part of the program costs a compilation for each value.
    variants = noted[name][0]
    assert set(variants.values()) == {1}, variants


@pytest.mark.parametrize("name", ["widths", "lengths of a scan", "lengths of a loss"])
def test_widths_compile_by_their_alignment_alone(noted, name):
    variants = noted[name][0]
    assert max(variants.values()) <= 3, variants


@pytest.mark.parametrize(("name", "launches"), [("lengths", 2), ("lengths of a scan", 1), ("lengths of a loss", 2)])
def test_a_call_is_few_launches(noted, name, launches):
    # Forward and backward; a scan; the terms of a loss and their sums.
    assert noted[name][3] == launches


def test_rows_do_not_end_at_65535(noted):
    _, beyond, first, _ = noted["many rows"]
    assert beyond <= 65535
    assert first > 65535


def test_the_host_reads_nothing_from_the_device(noted):
    # The wrappers ran on tensors without memory: reading one number would have failed.
    assert noted


IMPORT = """
import sys
import rollmath, rollmath.vocab, rollmath.loss, rollmath.temporal
assert "triton" not in sys.modules
assert "torch._dynamo" not in sys.modules
"""


def test_an_import_compiles_and_writes_nothing(script, tmp_path):
    script(IMPORT, HOME=str(tmp_path), TRITON_CACHE_DIR=str(tmp_path / "triton"), PYTHONDONTWRITEBYTECODE="1")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def no_waiting():
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
def test_nothing_waits_for_the_device(request):
    from rollmath import vocab

    x = torch.randn(64, 32000, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    y = torch.randint(32000, (64,), device="cuda")
    t = torch.rand(64, device="cuda") + 0.5

    def work():
        stats = vocab.row_stats(x, y, temperature=t)
        (stats.logprob - 0.01 * stats.entropy).sum().backward()

    work()
    request.getfixturevalue("no_waiting")
    x.grad = None
    work()


@pytest.mark.gpu
def test_a_graph_of_the_device_holds_the_launches():
    from rollmath import vocab

    x = torch.randn(64, 32000, device="cuda", dtype=torch.bfloat16)
    y = torch.randint(32000, (64,), device="cuda")
    wanted = vocab.row_stats(x, y)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        made = vocab.row_stats(x, y)
    graph.replay()
    assert torch.equal(made.logprob, wanted.logprob)
    assert torch.equal(made.entropy, wanted.entropy)

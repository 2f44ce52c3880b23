"""What a large fused linear layer costs on a device: bytes and products, counted without either."""

import contextlib
import weakref
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402

from rollmath import vocab  # noqa: E402
from rollmath.kernels import row_stats, row_stats_backward  # noqa: E402
from rollmath.vocab import _linear_matmul, _linear_rows, _torch_rows  # noqa: E402

N, H, V = 8192, 4096, 151_936
#: Bytes of the workspace that are used: ten chunks of columns.
CHUNK = 2 * N * 15_232
MB = 1_000_000


class Bytes(TorchDispatchMode):
    """Bytes of all storages that were made within and are still there, as an allocator of blocks of 512 counts."""

    def __init__(self, *given):
        super().__init__()
        self.known = {x.untyped_storage()._cdata: 0 for x in given}
        self.live = self.peak = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for x in tree_leaves(made):
            if isinstance(x, torch.Tensor) and x.untyped_storage()._cdata not in self.known:
                storage = x.untyped_storage()
                size = -(-storage.nbytes() // 512) * 512
                self.known[storage._cdata] = size
                self.live += size
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self.free, storage._cdata)
        return made

    def free(self, key):
        self.live -= self.known.pop(key)


@pytest.fixture(params=[True, False], ids=["sums", "no sums"])
def counted(request, monkeypatch):
    """Kernels that do nothing, and the products of a library that adds them up in float32, or (torch 2.8) does not."""
    counts = []

    def count(a, b, out):
        counts.append(2 * a.shape[0] * a.shape[1] * b.shape[1])
        return out

    monkeypatch.setattr(torch, "mm", lambda a, b, *, out_dtype=None, out: count(a, b, out))
    monkeypatch.setattr(torch, "addmm", lambda x, a, b, *, out_dtype=None, out: count(a, b, out))
    monkeypatch.setattr(_linear_matmul, "_supported", lambda device, dtype: (True, request.param))
    monkeypatch.setattr(row_stats, "_launch", lambda *args: None)
    monkeypatch.setattr(row_stats, "_merge", lambda *args: None)
    monkeypatch.setattr(row_stats_backward, "launching", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(row_stats_backward, "slices", lambda *tensors: ())
    return SimpleNamespace(counts=counts, sums=request.param)


@pytest.mark.parametrize("kind", ["plain", "float32", "bias", "mask", "rows", "autocast"])
def test_bytes_and_products_of_a_large_layer(counted, kind, monkeypatch):
    """2NVH forward and 6NVH backward; beside the results a chunk, and the gradient of ``hidden`` in float32."""
    with FakeTensorMode(allow_non_fake_inputs=True), contextlib.ExitStack() as stack:
        dtype = torch.float32 if kind == "autocast" else torch.bfloat16
        hidden = torch.empty(N, H, dtype=dtype, requires_grad=True)
        weight = torch.empty(V, H, dtype=dtype, requires_grad=True)
        bias = torch.empty(V, dtype=dtype, requires_grad=True) if kind == "bias" else None
        labels, mask = torch.empty(N, dtype=torch.int64), torch.empty(N, dtype=torch.bool)
        options = {"bias": bias, "mask": mask} if kind in {"mask", "rows"} else {"bias": bias}
        rows = N
        if kind == "float32":
            options["logits_dtype"] = "float32"
        if kind == "mask":
            monkeypatch.setattr(_linear_rows, "known_rows", lambda mask, *_: (None, mask))
        if kind == "rows":
            rows, kept = N - 1, torch.empty(N - 1, dtype=torch.int64)
            monkeypatch.setattr(_linear_rows, "known_rows", lambda *_: (kept, None))
        if kind == "autocast":
            stack.enter_context(torch.autocast("cpu", dtype=torch.bfloat16))
        memory = stack.enter_context(Bytes(hidden, weight, labels, mask, *([] if bias is None else [bias])))
        stats = vocab.linear_row_stats(hidden, weight, labels, backend="triton", check=False, **options)
        assert sum(counted.counts) == 2 * rows * V * H
        # A copy of `hidden` without masked rows or in another dtype, columns of the weight in that dtype.
        copies = {"mask": 2 * N * H, "rows": 2 * N * H, "autocast": 2 * N * H + 2 * 15_232 * H}.get(kind, 0)
        chunk = CHUNK if kind != "float32" else 6 * N * 5504
        # Ten numbers a row for each of up to 28 chunks, twice where they are put together.
        partials = 2 * 28 * 10 * 4 * N
        assert memory.peak <= chunk + copies + partials
        forward = memory.live
        assert forward < 20 * 4 * N
        counted.counts.clear()
        memory.peak = memory.live
        (stats.logprob.sum() + stats.entropy.sum()).backward()
        assert sum(counted.counts) == 6 * rows * V * H
        results = dtype.itemsize * V * H
        room = 0 if counted.sums else 4 * _linear_matmul.ROOM
        assert memory.peak <= forward + results + chunk + 4 * N * H + copies + room + MB
        # The library's own workspace comes on top.
        assert memory.peak - results < (600 if kind == "autocast" else 480) * MB
        assert memory.live - forward <= results + dtype.itemsize * N * H + 3 * 4 * V


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("v", [1, 300, 1003])
def test_rows_of_a_chunk_start_at_aligned_addresses(dtype, v, monkeypatch):
    """16 bytes are what a kernel loads at once."""
    seen = []

    def noted(function):
        def call(logits, *args, **options):
            seen.append((logits.data_ptr(), logits.stride(0) * logits.element_size(), logits.stride(1)))
            return function(logits, *args, **options)

        return call

    backend = {name: getattr(_torch_rows, name) for name in ("forward", "partials", "merge", "backward")}
    backend |= {name: noted(backend[name]) for name in ("forward", "partials", "backward")}
    monkeypatch.setattr(_linear_rows, "implementation", lambda *_: SimpleNamespace(**backend))
    hidden, weight = torch.randn(5, 8).to(dtype).requires_grad_(), torch.randn(v, 8).to(dtype).requires_grad_()
    for workspace in (1 << 20, 128 * 2 * 8):
        stats = vocab.linear_row_stats(hidden, weight, torch.zeros(5, dtype=torch.int64), workspace=workspace)
        stats.logprob.sum().backward()
    assert len(seen) >= 4
    assert all(at % 16 == 0 and apart % 16 == 0 and beside == 1 for at, apart, beside in seen)


@pytest.mark.gpu
def test_bytes_on_a_device(device):
    """What the allocator of a device says of the same sum."""
    n, h, v, workspace = 4096, 1024, 65_536, 32 << 20
    hidden = torch.randn(n, h, device=device).bfloat16().requires_grad_()
    weight = (0.05 * torch.randn(v, h, device=device)).bfloat16().requires_grad_()
    labels = torch.randint(v, (n,), device=device)

    def peak():
        hidden.grad = weight.grad = None
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        stats = vocab.linear_row_stats(hidden, weight, labels, workspace=workspace)
        (stats.logprob.sum() + stats.entropy.sum()).backward()
        return torch.cuda.max_memory_allocated() - before

    peak()  # after this the library has its own workspace
    assert peak() <= 2 * v * h + workspace + 4 * n * h + 4 * _linear_matmul.ROOM + 8 * MB

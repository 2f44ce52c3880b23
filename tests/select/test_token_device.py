"""Tokens on a GPU: nothing that a function of tokens does there waits for the device."""

import contextlib

import numpy as np
import pytest

import rollmath as rm

torch = pytest.importorskip("torch")

SCORES, TokenSearch = rm.select, rm.select.TokenSearch


@contextlib.contextmanager
def fake_cuda():
    """Tensors on a GPU that is not there: what looks at a value raises, and so does a copy that waits."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    def places(x):
        return {leaf.device.type for leaf in tree_leaves(x) if isinstance(leaf, torch.Tensor)}

    class NoWaiting(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            kwargs = kwargs or {}
            made = function(*args, **kwargs)
            copies = places((args, kwargs)) | places(made) == {"cpu", "cuda"}
            if copies and not (kwargs.get("non_blocking") and places(made) == {"cuda"}):
                raise AssertionError(f"{function} waits")
            return made

    with FakeTensorMode(), NoWaiting():
        yield


def test_what_waits_is_noticed():
    from torch._subclasses.fake_tensor import DataDependentOutputException

    with fake_cuda():
        here, there = torch.zeros(3), torch.zeros(3, device="cuda")
        with pytest.raises(DataDependentOutputException):
            there.sum().item()
        for copy in (lambda: here.to("cuda"), there.cpu, lambda: there.to("cpu", non_blocking=True)):
            with pytest.raises(AssertionError, match="waits"):
                copy()
        assert here.to("cuda", non_blocking=True).is_cuda


CALLS = {
    "top_tokens": lambda x, a, r, kw: SCORES.top_tokens(x, share=0.2, **kw),
    "exact": lambda x, a, r, kw: SCORES.top_tokens(x, count=9, ties="exact", uid=["a", "b", "c"], **kw),
    "rows": lambda x, a, r, kw: SCORES.top_tokens(x, share=0.2, scope="row", **kw),
    "exact rows": lambda x, a, r, kw: SCORES.top_tokens(x, share=0.2, scope="row", ties="exact", **kw),
    "high_entropy_tokens": lambda x, a, r, kw: SCORES.high_entropy_tokens(x, **kw),
    "d3s_tokens": lambda x, a, r, kw: SCORES.d3s_tokens(a, x, share=0.2, scope="all", **kw),
    "d3s_tokens of rows": lambda x, a, r, kw: SCORES.d3s_tokens(r, x, share=0.2, scope="row", **kw),
    "low_probability_tokens": lambda x, a, r, kw: SCORES.low_probability_tokens(x, share=0.2, advantages=a, **kw),
    "low of all": lambda x, a, r, kw: SCORES.low_probability_tokens(x, share=0.2, advantages=r, of="all", **kw),
    "high_covariance_tokens": lambda x, a, r, kw: SCORES.high_covariance_tokens(x, a, share=0.2, **kw),
    "clip_cov": lambda x, a, r, kw: SCORES.high_covariance_tokens(x, r, share=0.2, bounds=(1, 5), **kw),
}


@pytest.mark.parametrize(
    ("dtype", "form"),
    [(torch.float32, "ragged"), (torch.float32, "padded"), (torch.float64, "padded"), (torch.bfloat16, "ragged")],
    ids=str,
)
@pytest.mark.parametrize("name", CALLS)
def test_nothing_waits_for_the_device(name, dtype, form):
    with fake_cuda():
        x, a = (torch.empty((3, 8), dtype=dtype, device="cuda") for _ in range(2))
        mask, more = torch.empty((3, 8), dtype=torch.int64, device="cuda"), {}
        if form == "padded":
            more = {"lengths": torch.empty(3, dtype=torch.int32, device="cuda")}
        else:
            x, a, mask = (rm.Ragged(y.reshape(-1), np.array([0, 8, 12, 24])) for y in (x, a, mask))
        found = CALLS[name](x, a, torch.empty(3, device="cuda"), {"mask": mask, **more})
        values = found.mask.values if form == "ragged" else found.mask
        assert (values.dtype, values.shape) == (torch.bool, (24,) if form == "ragged" else (3, 8))
        wide = torch.float64 if dtype == torch.float64 or ("cov" in name and name != "clip_cov") else torch.float32
        assert {y.device.type for y in (values, *found[1:])} == {"cuda"}
        assert found.threshold.dtype == (torch.float64 if name == "clip_cov" else wide)
        assert found.kept.dtype == found.total.dtype == torch.int64


def test_a_search_in_parts_does_not_wait_either():
    with fake_cuda():
        x = torch.empty((3, 8), device="cuda")
        search = TokenSearch(share=0.2, ties="exact")
        while not search.done:
            search = search.narrow(search.count(x, uid=[1, 2, 3]) + search.count(x, uid=[4, 5, 6]))
        assert search.mask(x, uid=[1, 2, 3]).device.type == "cuda"
        assert search.threshold.device.type == search.kept.device.type == search.total.device.type == "cuda"
        assert repr(search) == "TokenSearch(share=0.2, least=0, round 9 of 9)"


def test_token_search_of_one_process_does_not_wait():
    token_search = pytest.importorskip("rollmath.distributed").token_search
    with fake_cuda():
        parts = [torch.empty((3, 8), device="cuda"), torch.empty((2, 4), device="cuda")]
        search = token_search(parts, share=0.2)
        assert search.mask(parts[1]).device.type == search.kept.device.type == "cuda"


@pytest.mark.gpu
@pytest.mark.parametrize("name", CALLS)
def test_a_real_device_gives_the_same_and_is_not_waited_for(name):
    rng = np.random.default_rng(3)
    x, a, r = (torch.from_numpy(rng.normal(size=shape)).float() for shape in ((3, 8), (3, 8), 3))
    more = {"mask": torch.from_numpy(rng.random((3, 8)) < 0.8), "lengths": torch.tensor([8, 3, 6])}
    if "cov" in name:
        more["means"] = (0.1, 0.2)
    host = CALLS[name](x, a, r, more)
    there = [y.cuda() for y in (x, a, r)]
    given = {k: y.cuda() if isinstance(y, torch.Tensor) else y for k, y in more.items()}
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = CALLS[name](*there, given)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for mine, other in zip(host, found, strict=True):
        assert mine.numpy().tobytes() == other.cpu().numpy().tobytes()

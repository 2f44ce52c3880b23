"""Scans over token tensors on a device: wrong calls, and what only a GPU can show."""

from __future__ import annotations

import numpy as np
import pytest

import rollmath as rm
from rollmath import temporal

torch = pytest.importorskip("torch")

NAN = float("nan")


def batch(shape):
    """Rewards, values, log-ratios, mask."""
    rng = np.random.default_rng(0)
    r, v, w = (torch.from_numpy(rng.normal(size=shape)).float() for _ in range(3))
    mask = torch.from_numpy(rng.random(shape) < 0.7)
    return torch.where(mask, r, 0), v, 0.3 * w, mask


def ragged(x, lengths):
    return rm.Ragged.from_lengths(x, lengths)


def wrong_calls():
    r, v, w, mask = batch((2, 5))
    rag = ragged(v.reshape(-1), [5, 5])
    yield "gae", (r, v.requires_grad_()), {}, ValueError, "'values' requires grad, but no gradient flows"
    v = v.detach()
    yield "gae", (r, v[0]), {}, TypeError, r"'values' must be a Ragged or a padded 2-D array \[B, T\], got a 1-D"
    yield (
        "gae",
        (r[:, :4], v),
        {},
        ValueError,
        r"'rewards' must have shape \(2, 5\) \(= that of 'values'\), got \(2, 4\)",
    )
    yield "gae", (r[None], v), {}, TypeError, r"'rewards' must have shape \(2, 5\)"
    yield "gae", (r.numpy(), v), {}, ValueError, r"'rewards' must be a tensor on .* \(= values.device\), got a 2-D"
    yield "gae", (r.to("meta"), v), {}, ValueError, "'rewards' must be a tensor on .*, got meta"
    yield "gae", (r + 1j, v), {}, TypeError, "'rewards' must hold floats, ints or bools, got complex64"
    yield "gae", (r, rag), {}, TypeError, "'rewards' must be a Ragged with the offsets of 'values', got a 2-D"
    yield "gae", (rag, v), {}, TypeError, "'rewards' must be a padded array like 'values', got Ragged"
    yield "gae", (ragged(r.reshape(-1), [6, 4]), rag), {}, ValueError, "'rewards' must have the offsets of 'values'"
    yield "gae", (rag, rag), {"lengths": [5, 5]}, ValueError, "'lengths' goes with padded arrays"
    yield "gae", (r, v), {"mask": mask.float()}, TypeError, r"'mask' must be bool or integer \(nonzero = True\), got fl"
    yield "gae", (r, v), {"mask": mask.to("meta")}, ValueError, "'mask' must be a tensor on .*, got meta"
    yield "gae", (r, v), {"mask": mask.numpy()[:1]}, ValueError, r"'mask' must have shape \(2, 5\)"
    yield (
        "gae",
        (r, v),
        {"mask": mask.numpy() / 2},
        TypeError,
        r"'mask' must be bool or integer \(nonzero = True\), got fl",
    )
    yield "gae", (r, v), {"lengths": [5, 6]}, ValueError, "'lengths' must "
    yield "gae", (r, v), {"lengths": [5]}, ValueError, r"'lengths' must have length 2 \(= the number of rows\), got 1"
    yield "gae", (r, v), {"lengths": torch.ones(2)}, TypeError, "'lengths' must hold integers, got float32"
    yield "gae", (r, v), {"lengths": torch.ones(3).int()}, ValueError, r"'lengths' must have length 2 \(= the number"
    yield "gae", (r, v), {"valid": [True]}, ValueError, r"'valid' must have length 2 \(= the number of rows\), got 1"
    yield "gae", (r, v), {"valid": torch.ones(2)}, TypeError, "'valid' must be bool or integer"
    yield "gae", (r, v), {"truncated": torch.ones(1, 2)}, TypeError, "'truncated' must be 1-D, got a 2-D float32 array"
    yield "gae", (r, v), {"bootstrap": torch.ones(3)}, ValueError, r"'bootstrap' must have length 2 \(= the number"
    yield "gae", (r, v), {"bootstrap": torch.ones(2) + 1j}, TypeError, "'bootstrap' must hold floats, ints or bools"
    yield "gae", (r, v), {"bootstrap": "first"}, ValueError, "'bootstrap' must be 'zero' or 'last'"
    yield "gae", (r, v), {"gamma": 1.5}, ValueError, r"'gamma' must be in \[0, 1\], got 1.5"
    yield "gae", (r, v), {"lam": NAN}, ValueError, r"'lam' must be in \[0, 1\], got NaN"
    yield "gae", (r, v), {"lam": [0.5, -1.0]}, ValueError, r"'lam' must be in \[0, 1\], got -1 at row 1"
    yield "gae", (r, v), {"lam_returns": [0.5]}, ValueError, r"'lam_returns' must have length 2"
    yield "gae", (r, v), {"gaps": "cut"}, ValueError, "'gaps' must be one of 'carry', 'state', 'ignore', got 'cut'"
    yield "gae", (r, v), {"whiten": True}, TypeError, "'whiten' must be a Whiten or None, got True"
    yield (
        "gae",
        (r, v),
        {"mask": mask, "gaps": "state", "reward_on_gap": "previous"},
        ValueError,
        (r"'reward_on_gap' must be 'raise' or 'drop' for gaps='state' on .*, got 'previous'; call .cpu\(\)"),
    )
    yield "gae", (r, v), {"mask": mask, "gaps": "state", "bootstrap": "last"}, ValueError, "'lengths' is needed where"
    yield "gae", (r, v), {"out": v}, TypeError, "'out' must be 2 arrays, got a 2-D float32 array"
    yield "gae", (r, v), {"out": (r, v)}, ValueError, "'out' shares memory with 'rewards'"
    same_twice = torch.empty(2, 5)
    yield "gae", (r, v), {"out": (same_twice, same_twice)}, ValueError, "'out' shares memory with 'out'"
    yield "gae", (r, v), {"out": (r.double(), None)}, TypeError, r"'out' must be of the kind and dtype of the values"
    yield "gae", (r, v), {"out": (torch.empty(5, 2).t(), None)}, ValueError, "'out' must be C-contiguous and aligned"
    yield "vtrace", (r, v, w), {"clip_rho": 0.0}, ValueError, "'clip_rho' must be positive, got 0"
    yield "vtrace", (r, v, w), {"clip_c": NAN}, ValueError, "'clip_c' must be positive, got NaN"
    yield "discounted_returns", (r,), {"gamma": -0.5}, ValueError, r"'gamma' must be in \[0, 1\], got -0.5"
    yield "discounted_returns", (r[:, 0].numpy(),), {"mask": mask}, ValueError, "'rewards' must be a tensor on "
    yield "whiten", (v,), {"mask": mask[:1]}, ValueError, r"'mask' must have shape \(2, 5\)"


def test_wrong_calls_say_what_is_wrong(device, monkeypatch):
    from rollmath.ops import _device_rows

    monkeypatch.setattr(_device_rows, "INTERPRET", device == "cpu")

    def there(x):
        if isinstance(x, rm.Ragged):
            return x.with_values(x.values.to(device))
        if isinstance(x, tuple):
            return tuple(map(there, x))
        return x.to(device) if isinstance(x, torch.Tensor) and not x.is_meta else x

    for who, arrays, options, error, message in wrong_calls():
        moved = [there(x.detach()).requires_grad_() if getattr(x, "requires_grad", False) else there(x) for x in arrays]
        with pytest.raises(error, match=rf"^{who}\(\): {message}"):
            getattr(temporal, who)(*moved, **{k: there(x) for k, x in options.items()})


def test_without_triton_the_way_out_is_named(device, monkeypatch):
    from rollmath.ops import _device_rows

    monkeypatch.setattr(_device_rows, "INTERPRET", device == "cpu")
    monkeypatch.setattr(_device_rows.importlib.util, "find_spec", lambda name: None)
    r = torch.zeros(2, 3, device=device)
    with pytest.raises(ValueError, match=r"^gae\(\): 'values' is on .*needs Triton, which is not installed; call .cpu"):
        temporal.gae(r, r)


def test_levels_that_need_the_host_still_say_so(device):
    x = torch.zeros(2, 3, device="meta")
    with pytest.raises(ValueError, match="meta"):
        temporal.gae(x, x)


@pytest.mark.gpu
def test_nothing_waits_for_the_device():
    r, v, w, mask = (x.cuda() for x in batch((4, 300)))
    lengths, lam = torch.tensor([300, 0, 7, 299]), torch.tensor([1.0, 0.5, 0.0, 1.0])
    packed = [ragged(x.reshape(-1), [300] * 4) for x in (r, v, w)]
    how = rm.conventions.Whiten()

    def everything():
        temporal.gae(r, v, mask=mask, lengths=lengths, lam=lam, bootstrap="last", whiten=how)
        temporal.gae(r, v, mask=mask, lengths=lengths.cuda(), lam=lam.cuda(), lam_returns=1.0)
        temporal.vtrace(r, v, w, mask=mask)
        temporal.gae(*packed[:2], mask=mask.reshape(-1))
        temporal.discounted_returns(torch.ones(4, device="cuda"), mask=mask)
        temporal.whiten(v, mask=mask)

    everything()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        everything()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
def test_thirty_two_lengths_compile_once():
    from rollmath.kernels import scan

    def compiled():
        return sum(len(x[0]) for x in scan._gae.device_caches.values())

    for width in (1040, 1041):
        temporal.gae(*(x.cuda() for x in batch((4, width))[:2]))
    before = compiled()
    for width in range(1042, 1074):
        temporal.gae(*(x.cuda() for x in batch((4, width))[:2]))
    assert compiled() == before

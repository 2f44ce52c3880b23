"""Tokens on a GPU: the operations that run there, on CPU tensors, give what the host gives."""

import math
from unittest import mock

import numpy as np
import pytest

import rollmath as rm
from rollmath.ops import _device_rows

torch = pytest.importorskip("torch")

SCORES = rm.select


def on_both(call):
    """What the host gives, and what CPU tensors give that take the way of those on a GPU."""
    with mock.patch.object(_device_rows, "INTERPRET", True):
        device = call()
    return call(), device


TYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.bool]


@pytest.mark.parametrize("of_a", TYPES, ids=str)
@pytest.mark.parametrize("of_x", TYPES, ids=str)
def test_the_device_gives_the_bits_of_the_host(of_x, of_a):
    rng = np.random.default_rng(7)

    def column(dtype, *shape):
        return torch.from_numpy(rng.choice([-2.5, -1.0, -0.0, 0.0, 1e-40, 0.1, 3.25], size=shape)).to(dtype)

    x, tokens, rows = column(of_x, 4, 6), column(of_a, 4, 6), column(of_a, 4)
    given = {"mask": torch.from_numpy(rng.random((4, 6)) < 0.8), "lengths": torch.tensor([6, 0, 3, 5])}
    for a in (tokens, rows):
        for ties in ("all", "exact"):
            more = {"ties": ties, **given}
            for call in (
                lambda a=a, more=more: SCORES.d3s_tokens(a, x, share=0.3, scope="all", **more),
                lambda a=a, more=more: SCORES.d3s_tokens(a, x, share=0.3, scope="row", **more),
                lambda a=a, more=more: SCORES.low_probability_tokens(x, share=0.6, of="all", advantages=a, **more),
                lambda a=a, more=more: SCORES.high_covariance_tokens(x, a, count=3, means=(0.1, 0.2), **more),
            ):
                for host, device in zip(*on_both(call), strict=True):
                    assert (host.dtype, host.shape) == (device.dtype, device.shape)
                    assert host.numpy().tobytes() == device.numpy().tobytes()


def test_large_integers_beside_float64_are_exact():
    x, a = torch.tensor([[2**24 + 1, 2**24]]), torch.ones(1, 2, dtype=torch.float64)
    for found in on_both(lambda: SCORES.d3s_tokens(a, x, share=0.5, scope="all")):
        assert (found.mask.tolist(), float(found.threshold)) == ([[True, False]], 2**24 + 1)


def test_the_default_type_of_torch_changes_nothing():
    x = torch.arange(100.0)
    torch.set_default_dtype(torch.float16)
    try:
        # 0.29 of 100 is 28.999...
        for found in on_both(lambda: SCORES.top_tokens(x, share=0.29)):
            assert int(found.kept) == 29
    finally:
        torch.set_default_dtype(torch.float32)


def test_covariances_of_numbers_that_are_not_finite_count_as_not_trained():
    a = torch.tensor([[1.0, 1.0, math.inf], [-1.0, -1.0, 1.0]])
    logp = torch.tensor([[-0.5, -math.inf, -1.0], [-3.0, math.nan, -0.25]])
    mask = torch.tensor([[1, 0, 0], [1, 0, 1]])
    expected = SCORES.high_covariance_tokens(logp, a, count=2, mask=mask)
    with mock.patch.object(_device_rows, "INTERPRET", True):
        for more in ({}, {"mask": mask}):
            found = SCORES.high_covariance_tokens(logp, a, count=2, **more)
            assert found.mask.equal(expected.mask)
            assert (int(found.total), float(found.threshold)) == (3, pytest.approx(float(expected.threshold)))

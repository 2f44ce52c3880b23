"""Moments of segments, whitening of tokens, normalisation of groups: the kernels, against CPU path and NumPy."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose

import rollmath as rm
from rollmath import conventions, ops

torch = pytest.importorskip("torch")

NAN, INF = float("nan"), float("inf")
RNG = np.random.default_rng(0)
X = torch.from_numpy(RNG.normal(5.0, 2.0, (5, 37))).float()
MASK = torch.from_numpy(RNG.random((5, 37)) < 0.6)
MASK[3] = False
LENGTHS = torch.tensor([37, 0, 20, 37, 1])


@pytest.fixture
def segments(device):
    from rollmath.kernels import segments

    return segments


@pytest.fixture
def on(device, monkeypatch):
    """``on(function, *arrays, **options)``: through the kernels, and back."""
    from rollmath.ops import _device_rows

    def there(x):
        if isinstance(x, rm.Ragged):
            return x.with_values(x.values.to(device))
        return x.to(device) if isinstance(x, torch.Tensor) else x

    def call(function, *arrays, **options):
        with monkeypatch.context() as patch:
            patch.setattr(_device_rows, "INTERPRET", device == "cpu")
            got = function(*map(there, arrays), **{k: there(v) for k, v in options.items()})
        return got.with_values(got.values.cpu()) if isinstance(got, rm.Ragged) else got.cpu()

    return call


def rows_of(x, mask=None, lengths=None):
    """The trained tokens of each row, float64."""
    n = [x.shape[1]] * len(x) if lengths is None else lengths.tolist()
    mask = torch.ones_like(x, dtype=torch.bool) if mask is None else mask
    return [x[i, :k][mask[i, :k]].double().numpy() for i, k in enumerate(n)]


def check_moments(got, rows):
    for (count, total, mean, squares, low, high), row in zip(got.cpu().numpy(), rows, strict=True):
        assert count == len(row)
        assert_allclose(total, row.sum(), rtol=1e-13)
        if len(row):
            assert_allclose(mean, row.mean(), rtol=1e-13)
            assert_allclose(squares, ((row - row.mean()) ** 2).sum(), rtol=1e-10, atol=1e-12)
            assert (low, high) == (row.min(), row.max())
        else:
            assert np.isnan(mean)
            assert (squares, low, high) == (0.0, INF, -INF)


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_moments_of_rows(segments, device, offset):
    x = (X.double() + offset).to(device)
    for mask, lengths in [(None, None), (MASK, None), (MASK, LENGTHS), (None, LENGTHS)]:
        there = {"mask": mask if mask is None else mask.to(device), "lengths": lengths}
        there["lengths"] = lengths if lengths is None else lengths.to(device)
        check_moments(segments.moments(x, block=16, **there), rows_of(x.cpu(), mask, lengths))
    valid = torch.tensor([1, 0, 1, 0, 1], dtype=torch.bool, device=device)
    assert segments.moments(x, valid=valid)[:, 0].tolist() == [37.0, 0.0, 37.0, 0.0, 37.0]


def test_moments_of_packed_rows_and_of_groups(segments, device):
    x = X.reshape(-1)[:60].bfloat16()
    offsets = torch.tensor([0, 0, 3, 50, 60])
    rows = [x[a:b].double().numpy() for a, b in pairwise(offsets)]
    check_moments(segments.moments(x.to(device), offsets=offsets.to(device), block=16), rows)
    index = torch.from_numpy(np.random.default_rng(1).permutation(60))
    rows = [x[index[a:b]].double().numpy() for a, b in pairwise(offsets)]
    got = segments.moments(x.to(device), offsets=offsets.to(device), index=index.to(device), block=16)
    check_moments(got, rows)
    assert segments.moments(x.to(device), offsets=offsets[:1].to(device)).shape == (0, 6)


def test_equal_values_have_no_spread_and_nan_shows(segments, device):
    x = torch.full((3, 50), 0.7)
    x[1, 7], x[2, 7] = NAN, INF
    count, total, mean, squares, low, high = segments.moments(x.to(device), block=16).cpu().T
    assert count.tolist() == [50.0] * 3
    value = float(np.float32(0.7))
    assert (mean[0].item(), squares[0].item(), low[0].item(), high[0].item()) == (value, 0.0, value, value)
    assert all(c[1].isnan() for c in (total, mean, squares))
    assert not mean[2].isfinite()
    lengths = torch.tensor([50, 51, -1], device=device)
    assert segments.moments(x.to(device), lengths=lengths)[:, 2].isnan().tolist() == [False, True, True]


WAYS = [
    conventions.Whiten(),
    conventions.Whiten(ddof=0, eps=1e-4, eps_place="max"),
    conventions.Whiten(shift_mean=False, eps_place="add"),
    conventions.Whiten(scale=False),
    conventions.Whiten(eps=0.0, eps_place="where_positive"),
]


@pytest.mark.parametrize("how", WAYS, ids=lambda how: how.eps_place)
def test_whiten(on, how):
    for options in ({}, {"mask": MASK}, {"mask": MASK, "lengths": LENGTHS}, {"valid": [1, 0, 1, 1, 0], "mask": MASK}):
        got = on(ops.whiten, X, how=how, **options)
        expected = ops.whiten(X, how=how, **options)
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
        assert_allclose(got, expected, rtol=3e-7, atol=1e-7)


def test_whiten_of_other_forms_and_types(on):
    packed = rm.Ragged.from_lengths(X.reshape(-1)[:60].double(), [10, 0, 50])
    expected = ops.whiten(packed, mask=MASK.reshape(-1)[:60]).values
    got = on(ops.whiten, packed, mask=MASK.reshape(-1)[:60])
    assert got.values.dtype == torch.float64
    assert_allclose(got.values, expected, rtol=1e-12, atol=1e-13)
    half = X.to(torch.bfloat16)
    assert_allclose(on(ops.whiten, half), ops.whiten(half), rtol=3e-7, atol=1e-7)
    assert_allclose(on(ops.whiten, X.t()), ops.whiten(X.t()), rtol=3e-7, atol=1e-7)
    whole = on(ops.whiten, X[:, ::2], mask=MASK[:, ::2])
    assert_allclose(whole, ops.whiten(X[:, ::2].contiguous(), mask=MASK[:, ::2]), rtol=3e-7, atol=1e-7)


def test_whiten_with_weights_and_moments(on):
    for weights in ([1.0, 2.0, 0.0, 3.0, 0.5], torch.tensor([1, 2, 0, 3, 4])):
        got = on(ops.whiten, X, mask=MASK, weights=weights)
        assert_allclose(got, ops.whiten(X, mask=MASK, weights=weights), rtol=3e-7, atol=1e-7)
    moments = ops.moments(X + 1, mask=MASK)
    got = on(ops.whiten, X, mask=MASK, moments=moments)
    assert_allclose(got, ops.whiten(X, mask=MASK, moments=moments), rtol=3e-7, atol=1e-7)
    got = on(ops.whiten, X, lengths=torch.tensor([37, -1, 20, 38, 1]), moments=moments)
    assert got.isnan().all(1).tolist() == [False, True, False, True, False]
    assert on(ops.whiten, X, weights=torch.tensor([1.0, -1.0, 1.0, 1.0, 1.0])).isnan().all()
    with pytest.raises(ValueError, match=r"^whiten\(\): 'weights' must be finite and not negative, got -1"):
        on(ops.whiten, X, weights=[1.0, -1.0, 1.0, 1.0, 1.0])


def test_whiten_where_there_is_little_to_whiten(on):
    nothing = torch.zeros_like(MASK)
    assert not on(ops.whiten, X, mask=nothing).any()
    assert not on(ops.whiten, torch.full((3, 20), 0.3)).any()
    one = nothing.clone()
    one[2, 5] = True
    assert not on(ops.whiten, X, mask=one).any()
    assert on(ops.whiten, X, mask=one, how=conventions.Whiten(shift_mean=False))[2, 5] == X[2, 5]
    assert on(ops.whiten, X[:, :0]).shape == (5, 0)
    assert on(ops.whiten, X[:0]).shape == (0, 37)
    wrong = X.clone()
    wrong[MASK.nonzero()[0][0], MASK.nonzero()[0][1]] = NAN
    got = on(ops.whiten, wrong, mask=MASK)
    assert got[MASK].isnan().all()
    assert not got[~MASK].any()
    wrong = torch.where(MASK, X, NAN)
    assert_allclose(on(ops.whiten, wrong, mask=MASK), ops.whiten(X, mask=MASK), rtol=3e-7, atol=1e-7)


def test_whiten_into_an_array(on, device):
    out = torch.empty_like(X, device=device)
    got = on(ops.whiten, X, mask=MASK, out=out)
    assert torch.equal(out.cpu(), got)
    x = X.to(device)
    with pytest.raises(ValueError, match=r"^whiten\(\): 'out' shares memory with 'x'"):
        on(ops.whiten, x, out=x)


IDS = RNG.integers(0, 6, 40)
REWARDS = torch.from_numpy(RNG.normal(size=40)).float()
REWARDS[torch.from_numpy(IDS == 2)] = 0.1
IDS[0] = 9


@pytest.mark.parametrize(
    ("place", "singleton"),
    [("add", "zero"), ("max", "raw"), ("sqrt", "abs"), ("where_positive", "nan"), ("add", "abs"), ("sqrt", "raw")],
)
def test_groups_are_normalised_by_a_convention(segments, device, place, singleton):
    groups = rm.Groups(IDS)
    valid = torch.from_numpy(RNG.random(40) < 0.9)
    valid[0] = True
    offsets, index = (torch.from_numpy(x.copy()).to(device) for x in (groups.offsets, groups.order))
    for scale, ddof, zero in [("std", 1, "zero"), ("std", 0, "unscaled"), ("std", 1, "nan"), ("none", 1, "zero")]:
        rules = {"ddof": ddof, "eps_place": place, "singleton": singleton, "zero_spread": zero, "eps": 1e-3}
        expected = ops.normalize(REWARDS, groups, center="mean", scale=scale, valid=valid, **rules)
        out = torch.empty(40, device=device)
        segments.normalize(
            REWARDS.to(device), offsets, index=index, valid=valid.to(device), out=out, scale=scale != "none",
            block=16, **rules,
        )  # fmt: skip
        assert_allclose(out.cpu(), expected, rtol=3e-7, atol=1e-7)


def test_groups_that_lie_together_and_a_group_with_nan(segments, device):
    x = REWARDS.clone()
    x[12] = NAN
    out = torch.full((40,), 7.0, device=device)
    offsets = torch.tensor([0, 10, 10, 25, 40], device=device)
    segments.normalize(x.to(device), offsets, out=out, block=16)
    assert out[10:25].isnan().all()
    ids = np.repeat([0, 2, 3], [10, 15, 15])
    expected = rm.group.grpo(REWARDS, ids)
    assert_allclose(out[:10].cpu(), expected[:10], rtol=3e-7, atol=1e-7)
    assert_allclose(out[25:].cpu(), expected[25:], rtol=3e-7, atol=1e-7)

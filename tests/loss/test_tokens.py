"""Tokens and Spans: reductions over rows, rollouts and turns, their derivatives, float masks."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from rollmath import Rows  # noqa: E402
from rollmath.loss import Tokens  # noqa: E402
from rollmath.loss._spans import Spans  # noqa: E402
from rollmath.loss._tokens import above, below, equal, exp  # noqa: E402

LEVELS = ["row", "rollout", "turn"]


def members(rows, level):
    """Indices of the trained tokens, counted over all rows, of each row, rollout or turn."""
    of_row, n = [], 0
    turns = []
    for i in range(rows.n_rows):
        start, stop = rows.offsets[i], rows.offsets[i + 1]
        inside = [True] * int(stop - start) if rows.mask is None else [bool(x) for x in rows.mask[start:stop]]
        of_row.append([])
        for t, trained in enumerate(inside):
            if trained:
                if t == 0 or not inside[t - 1]:
                    turns.append([])
                turns[-1].append(n)
                of_row[-1].append(n)
                n += 1
    if level == "turn":
        return turns
    if level == "row":
        return of_row
    index = rows.rollouts.index
    return [[t for i in np.flatnonzero(index == k) for t in of_row[i]] for k in range(rows.n_rollouts)]


def tokens_of(batch, **options):
    trained = slice(None) if batch.rows.mask is None else torch.from_numpy(batch.rows.mask != 0)
    theta = batch.theta.detach()[trained]
    return Tokens.of(theta, theta * 2, rows=batch.rows, prox=batch.prox[trained], **options), theta


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(LEVELS), st.sampled_from(["sum", "mean", "max"]))
def test_reductions_agree_with_loops(make_batch, seed, level, how):
    batch = make_batch(seed)
    tokens, theta = tokens_of(batch)
    x = (-theta).tolist()
    groups = members(batch.rows, level)
    do = {"sum": math.fsum, "mean": lambda v: math.fsum(v) / len(v), "max": max}[how]
    expected = [do([x[t] for t in group]) if group else 0.0 for group in groups]
    found = tokens.reduce(-theta, level, how)
    np.testing.assert_allclose(found, np.array(expected, float), rtol=1e-13)
    assert found.dtype == torch.float64
    assert tokens.sizes(level).tolist() == [len(group) for group in groups]
    spread = tokens.spread(found, level)
    for value, group in zip(expected, groups, strict=True):
        np.testing.assert_allclose(spread[group], value, rtol=1e-13)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(LEVELS), st.sampled_from(["sum", "mean"]))
def test_share_is_the_derivative_of_spread_of_reduce(make_batch, seed, level, how):
    """Each token has a weight of its own, and depends on its row, rollout or turn."""
    batch = make_batch(seed)
    tokens, theta = tokens_of(batch)
    x = theta.clone().requires_grad_()
    groups = members(batch.rows, level)
    weight = torch.linspace(-1, 2, len(x), dtype=torch.float64)
    total = x.sum() * 0
    for group in groups:
        if group:
            value = x[group].mean() if how == "mean" else x[group].sum()
            total = total + (weight[group] * value.sin()).sum()
    (expected,) = torch.autograd.grad(total, x)
    slope = tokens.spread(tokens.reduce(theta, level, how).cos(), level)
    torch.testing.assert_close(tokens.share(weight * slope, level, how), expected, rtol=1e-12, atol=1e-14)


def test_turn_ratio(vectors):
    data = vectors("flat")["turn_ratio"]
    mask = [1, 1, 0, 1, 1, 1]  # two turns of one row
    x = torch.tensor(data["logratio"], dtype=torch.float64)
    tokens = Tokens.of(x, x, rows=Rows(["a"], [6], mask=mask), prox=torch.zeros_like(x))
    mean = tokens.spread(tokens.reduce(tokens.log_ratio, "turn"), "turn")
    np.testing.assert_allclose(mean.exp(), data["ratio"], rtol=1e-12)


def test_without_rows_they_are_one_row():
    x = torch.tensor([-1.0, -2.0])
    tokens = Tokens.of(x, x)
    assert [tokens.sizes(level).tolist() for level in LEVELS] == [[2.0]] * 3
    assert len(tokens) == 2
    assert torch.equal(tokens.prox, tokens.theta)
    assert tokens.behaviour is tokens.ref is tokens.version is None
    assert tokens.ratio.tolist() == [1, 1]


def test_none():
    x = torch.zeros(0)
    tokens = Tokens.of(x, x, rows=Rows([], []))
    assert tokens.total(x).item() == tokens.largest(x).item() == 0
    for level in LEVELS:
        assert tokens.reduce(x, level, "max").shape == tokens.spread(tokens.reduce(x, level), level).shape == (0,)


def test_reweighted_keeps_the_rest():
    x = torch.tensor([-1.0, -2.0])
    tokens = Tokens.of(x, x, prox=x - 1, behaviour=x, ref=x, version=torch.tensor([1, 2]), weight=0.5)
    ratio = tokens.ratio
    more = tokens.reweighted(torch.tensor([2.0, 4.0]))
    assert more.weight.tolist() == [1, 2]
    assert more.ratio is ratio
    assert all(getattr(more, name) is getattr(tokens, name) for name in ("prox", "behaviour", "ref", "version"))
    assert more.weighted(x).tolist() == [-1, -4]
    alone = Tokens.of(x, x).reweighted(x)
    assert alone.prox is alone.theta


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes(dtype):
    x = torch.tensor([-1.0, -2.0], dtype=dtype)
    tokens = Tokens.of(x.requires_grad_(), x, prox=x.detach().double())
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert {t.dtype for t in (tokens.theta, tokens.prox, tokens.advantages, tokens.ratio)} == {wide}
    assert tokens.total(tokens.theta).dtype == torch.float64
    assert not tokens.theta.requires_grad


def test_float_masks():
    x = torch.tensor([1.0, 2.0, math.nan, -math.inf, math.inf])
    assert above(x, 1.5).tolist() == [0, 1, 0, 0, 1]
    assert below(x, 1.5).tolist() == [1, 0, 0, 1, 0]
    assert equal(x, x).tolist() == [1, 1, 0, 1, 1]
    assert x[0] == 1
    assert exp(torch.tensor([1e4, -1e4])).tolist() == [torch.finfo(torch.float32).max, 0]
    assert math.isnan(exp(torch.tensor([math.nan])).item())


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"theta": [0.0]}, TypeError, r"'theta' must be a float tensor \[n\], got an object of type list"),
        ({"theta": torch.zeros(2, 1)}, TypeError, r"'theta' must be a float tensor \[n\], got a 2-D float32 array"),
        ({"advantages": None}, TypeError, r"'advantages' must be a float tensor \[n\], got an object of type None"),
        ({"advantages": torch.zeros(2, dtype=torch.int64)}, TypeError, "'advantages' must be a float tensor"),
        ({"advantages": torch.zeros(3)}, ValueError, r"'advantages' must have length 2 \(= len\(theta\)\), got 3"),
        ({"prox": torch.zeros(1)}, ValueError, r"'prox' must have length 2 \(= len\(theta\)\), got 1"),
        ({"version": torch.zeros(2)}, TypeError, r"'version' must be an int64 tensor \[n\], got a 1-D float32 array"),
        ({"old": torch.zeros(2)}, TypeError, "'old' is no policy; there are prox, behaviour, ref, version"),
        ({"weight": torch.ones(1)}, ValueError, r"'weight' must be a number or have shape \(2,\) .*, got \(1,\)"),
        ({"rows": Rows(["a"], [3])}, ValueError, r"'rows' must have 2 \(= len\(theta\)\) trained tokens, got 3"),
    ],
)
def test_errors(arguments, error, match):
    with pytest.raises(error, match=rf"Tokens.of\(\): {match}"):
        Tokens.of(**{"theta": torch.zeros(2), "advantages": torch.zeros(2)} | arguments)


def test_versions_are_made_when_asked_for():
    asked = []

    def version():
        asked.append(1)
        return torch.tensor([3, 4])

    x = torch.zeros(2)
    tokens = Tokens(x, x, 1.0, Spans.none(x.device), version=version)
    halved = tokens.reweighted(x + 0.5)
    assert not asked
    assert halved.version.tolist() == halved.version.tolist() == [3, 4]
    assert asked == [1]
    assert tokens.version.tolist() == [3, 4]

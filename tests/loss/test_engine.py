"""Both forms of the arithmetic, in pieces and at once, agree; pieces of any size; nothing waits for a device."""

import itertools
from contextlib import nullcontext
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from rollmath import LogProbs, Ragged, Rows  # noqa: E402
from rollmath.loss import (  # noqa: E402
    PPO,
    EntropyBonus,
    LossMetrics,
    Normalizer,
    Objective,
    TokenLoss,
    policy_loss,
)
from rollmath.loss._call import Call  # noqa: E402
from rollmath.loss._places import pieces  # noqa: E402
from rollmath.loss._values import Values  # noqa: E402

LEVELS = ["row", "rollout", "turn"]


@dataclass(frozen=True)
class Coupled(Objective):
    """``-A sin(mean log rho) max(rho)`` of the row, rollout or turn, the maximum taken as a constant; counts ages."""

    coupling: ClassVar = "sequence"
    level: str = "rollout"
    how: str = "mean"

    def token_loss(self, tokens):
        x = tokens.reduce(tokens.log_ratio, self.level, self.how)
        top = tokens.spread(tokens.reduce(tokens.ratio, self.level, "max"), self.level)
        scale = -tokens.advantages * top
        loss = scale * tokens.spread(x.sin(), self.level)
        slope = tokens.weighted(scale * tokens.spread(x.cos(), self.level))
        counts = {} if tokens.version is None else {"age": tokens.total(tokens.version.to(loss.dtype))}
        return TokenLoss(loss, tokens.share(slope, self.level, self.how), counts)


@dataclass(frozen=True)
class KLTo(Objective):
    """``k2`` to the reference and the behaviour."""

    def token_loss(self, tokens):
        to_ref, to_behaviour = tokens.theta - tokens.ref, tokens.theta - tokens.behaviour
        return TokenLoss(to_ref**2 / 2 + to_behaviour**2 / 2, tokens.weighted(to_ref + to_behaviour))


class Half:
    """A correction that counts."""

    coupled = False

    def weigh(self, tokens):
        weight = (tokens.prox - tokens.behaviour).exp()
        return weight, {"corrected": tokens.total(weight), "correction_max": tokens.largest(weight).double()}


OBJECTIVES = [PPO(dual_clip=1.5), *(Coupled(level, how) for level in LEVELS for how in ("mean", "sum"))]


def padded(x, rows, width, poison):
    return Ragged(x.detach(), rows.offsets).to_padded(width, fill=poison)


def loss_of(
    b,
    objective,
    *,
    shape="packed",
    poison=0.0,
    level="rollout",
    extras=True,
    aggregation="token_mean",
    width=7,
    around=nullcontext(),  # noqa: B008
):
    """A call with all terms; what is not trained is poisoned."""
    rows = b.rows
    gaps = torch.zeros(len(b.theta), dtype=torch.bool) if rows.mask is None else torch.from_numpy(rows.mask == 0)
    columns = [x.detach().masked_fill(gaps, poison) for x in (b.theta, b.prox, b.behaviour, b.ref, b.entropy)]
    if shape == "padded":
        columns = [padded(x, rows, width, poison) for x in columns]
    theta, prox, behaviour, ref, entropy = columns
    theta.requires_grad_(), entropy.requires_grad_()
    values = {
        "rollout": b.advantages,
        "row": b.advantages[rows.rollouts.index],
        "turn": np.linspace(-1, 1, turns(rows)),
        "token": torch.linspace(-1, 1, len(b.theta)).masked_fill(gaps, poison),
        "padded": padded(torch.linspace(-1, 1, len(b.theta)), rows, 6, poison),
    }[level]
    more = {
        "weight": Ragged(torch.linspace(0, 1, len(b.theta)).masked_fill(gaps, poison), rows.offsets),
        "correction": Half(),
        "kl": KLTo(),
        "entropy": EntropyBonus(entropy, coef=0.01, weight=rows.expand(np.linspace(0.5, 1, rows.n_rows), per="row")),
    }
    norm = Normalizer.local(rows, prompts=b.prompts)
    more = more if extras else {}
    more |= {"normalizer": norm, "aggregation": aggregation, "level": "token" if level == "padded" else level}
    logprobs = LogProbs(theta, prox, behaviour, ref)
    with around:
        out = policy_loss(logprobs, values, rows, objective, **more)
    return out, theta, entropy if extras else None


def turns(rows):
    mask = np.ones(int(rows.offsets[-1]), bool) if rows.mask is None else rows.mask != 0
    return sum(
        1
        for start, stop in itertools.pairwise(rows.offsets)
        for t in range(start, stop)
        if mask[t] and (t == start or not mask[t - 1])
    )


def trained(rows, shape):
    """Which positions are trained, in the shape of the log-probabilities."""
    inside = np.ones(int(rows.offsets[-1]), bool) if rows.mask is None else rows.mask != 0
    if len(shape) == 1:
        return torch.from_numpy(inside)
    return torch.from_numpy(Ragged(inside.astype(float), rows.offsets).to_padded(shape[1]) != 0)


def same(a, b, rtol=1e-12):
    torch.testing.assert_close(a.loss, b.loss, rtol=rtol, atol=1e-13)
    torch.testing.assert_close(a.theta, b.theta, rtol=rtol, atol=1e-13)
    assert (a.entropy is None) == (b.entropy is None)
    if a.entropy is not None:
        torch.testing.assert_close(a.entropy, b.entropy, rtol=rtol, atol=1e-13)
    assert list(a.metrics) == list(b.metrics)
    torch.testing.assert_close(a.metrics.values_tensor, b.metrics.values_tensor, rtol=max(rtol, 1e-12), atol=1e-12)


calls = st.fixed_dictionaries(
    {
        "objective": st.sampled_from(OBJECTIVES),
        "poison": st.sampled_from([0.0, float("nan"), float("inf"), -float("inf")]),
        "level": st.sampled_from(["rollout", "row", "turn", "token", "padded"]),
        "extras": st.booleans(),
        "aggregation": st.sampled_from(["token_mean", "seq_mean_token_mean", "prompt_mean_token_mean", "token_sum"]),
    }
)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["packed", "padded"]), st.integers(5, 8), calls)
def test_both_forms_agree(make_batch, use_form, derivatives, seed, shape, width, options):
    b = make_batch(seed)
    found = {}
    for form in ("in_pieces", "at_once"):
        with use_form(form):
            found[form] = derivatives(*loss_of(b, shape=shape, width=width, **options))
    same(found["in_pieces"], found["at_once"])
    for x in found.values():
        assert bool(torch.isfinite(x.theta).all())
        outside = ~trained(b.rows, x.theta.shape)
        assert not x.theta[outside].any()
        assert x.entropy is None or not x.entropy[outside].any()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["packed", "padded"]), st.integers(1, 9), calls)
def test_pieces_of_any_size_agree(make_batch, use_piece, derivatives, seed, shape, size, options):
    b = make_batch(seed, 8)
    whole = derivatives(*loss_of(b, shape=shape, **options))
    with use_piece(size):  # rows of up to 5 tokens are longer than some
        cut = derivatives(*loss_of(b, shape=shape, **options))
    same(whole, cut)


@pytest.mark.parametrize("form", ["in_pieces", "at_once"])
@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_float32_is_near_float64(make_batch, use_form, derivatives, form, objective):
    wide, narrow = make_batch(4, 200), make_batch(4, 200, dtype=torch.float32)
    with use_form(form):
        a, b = (derivatives(*loss_of(x, objective)) for x in (wide, narrow))
    assert b.loss.dtype == b.theta.dtype == torch.float32
    assert b.loss.item() == pytest.approx(a.loss.item(), rel=1e-5, abs=1e-6)
    torch.testing.assert_close(b.theta.double(), a.theta, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_both_forms_agree_in_half_precision(make_batch, use_form, derivatives, dtype):
    b = make_batch(6, 20, dtype=dtype)
    found = {}
    for form in ("in_pieces", "at_once"):
        with use_form(form):
            found[form] = derivatives(*loss_of(b, PPO(), poison=float("nan")))
    assert found["at_once"].theta.dtype == dtype
    assert found["at_once"].loss.dtype == torch.float32
    same(found["in_pieces"], found["at_once"], rtol=1e-2)


@pytest.mark.parametrize("objective", [*OBJECTIVES, PPO(max_log_ratio=20), PPO(delta=2.0)], ids=str)
@pytest.mark.parametrize("form", ["in_pieces", "at_once"])
def test_log_ratios_far_out_give_no_nan(use_form, derivatives, form, objective):
    rows = Rows(["a", "b", "a"], [2, 1, 3], mask=[1, 1, 0, 1, 0, 1])
    theta = torch.tensor([0.0, -1e4, 1e4, -1e4, 0.0, -1.0], requires_grad=True)
    prox = torch.tensor([-1e4, 0.0, -1e4, -1e4, 1e4, -1.0])
    for advantages in ([1.0, 0.5], [-1.0, -0.5], [0.0, 0.0]):
        with use_form(form):
            out = policy_loss(LogProbs(theta, prox), advantages, rows, objective, normalizer=Normalizer.local(rows))
        found = derivatives(out, theta)
        assert not bool(torch.isnan(found.loss))
        assert not bool(torch.isnan(found.theta).any())
        assert not bool(torch.isnan(out.metrics.values_tensor).any())
        if advantages[0] == 0:
            assert found.theta.abs().sum() == 0


@pytest.mark.parametrize("form", ["in_pieces", "at_once"])
@pytest.mark.parametrize("objective", OBJECTIVES[:2], ids=str)
def test_nan_where_trained_is_seen(use_form, derivatives, form, objective):
    rows = Rows(["a", "b"], [2, 2])
    theta = torch.tensor([float("nan"), -1.0, -1.0, -2.0], requires_grad=True)
    with use_form(form):
        out = policy_loss(LogProbs(theta), [1.0, 1.0], rows, objective, normalizer=Normalizer.local(rows))
    found = derivatives(out, theta)
    assert bool(torch.isnan(found.loss))
    assert bool(torch.isnan(found.theta[0]))
    assert bool(torch.isfinite(found.theta[2:]).all())
    assert bool(torch.isnan(out.metrics["policy_loss"]))


@pytest.mark.parametrize("form", ["in_pieces", "at_once"])
@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
@pytest.mark.parametrize(
    "rows", [Rows([], []), Rows(["a", "b", "a"], [2, 0, 1], mask=[0, 0, 0]), Rows(["a"], [0])], ids=str
)
def test_nothing_trained(use_form, derivatives, form, objective, rows):
    total = int(rows.offsets[-1])
    theta, entropy = (torch.full((total,), float("nan"), requires_grad=True) for _ in range(2))
    more = {
        "correction": Half(),
        "kl": KLTo(),
        "entropy": EntropyBonus(entropy, coef=1.0, weight=[1.0] * rows.n_rollouts),
    }
    behind = torch.full((total,), float("inf"))
    for norm in (Normalizer.local(rows), Normalizer(tokens=8, rows=3, rollouts=2)):
        with use_form(form):
            out = policy_loss(
                LogProbs(theta, behind, behind, behind),
                np.full(rows.n_rollouts, np.nan),
                rows,
                objective,
                normalizer=norm,
                level="rollout",
                **more,
            )
        found = derivatives(out, theta, entropy)
        assert found.loss.item() == 0
        assert found.theta.tolist() == found.entropy.tolist() == [0.0] * total
        assert set(out.metrics.to_dict().values()) <= {0.0}


def test_metrics_of_nothing_have_the_names_of_something(make_batch):
    """So that a rank without trained tokens merges with the others."""
    b = make_batch(3, 7)
    full, _, _ = loss_of(b, Coupled())
    none = Rows(b.rows.rollouts, b.rows.lengths, mask=np.zeros(len(b.theta), bool), version=b.rows.version)
    b.rows = none
    empty, _, _ = loss_of(b, Coupled())
    assert list(empty.metrics) == list(full.metrics)
    assert LossMetrics.merge([full.metrics, empty.metrics]).to_dict() == full.metrics.to_dict()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.booleans())
def test_pieces_hold_every_trained_row_once(make_batch, use_piece, seed, size, whole):
    rows = make_batch(seed, 9).rows
    with use_piece(size):
        found = list(pieces(rows, whole_rollouts=whole))
    index = np.concatenate([piece.index for piece in found] or [np.zeros(0, np.int64)])
    assert len(set(index)) == len(index)
    assert set(np.flatnonzero(rows.trained)) <= set(index)
    for piece in found:
        assert piece.trained.sum() > 0
        ids = set(rows.rollouts.index[piece.index])
        if whole:
            assert sum(piece.trained) == rows.trained[np.isin(rows.rollouts.index, list(ids))].sum()
        # No more than one row or rollout beyond what fits.
        assert piece.trained.sum() <= size or (len(ids) if whole else np.count_nonzero(piece.trained)) == 1


class NoWait(TorchDispatchMode):
    """Raises where a value, or a shape that depends on one, would be read from a device."""

    WAITS = (
        "_local_scalar_dense",
        "nonzero",
        "is_nonzero",
        "masked_select",
        "equal.",
        "item",
        "unique",
        "_to_copy_host",
    )

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func)
        assert not any(f"aten.{wait}" in name for wait in self.WAITS), f"{name} waits for the device"
        if "aten.index." in name:
            assert all(x is None or x.dtype != torch.bool for x in args[1]), "indexing by a mask waits for the device"
        if "aten.repeat_interleave" in name:
            assert (kwargs or {}).get("output_size") is not None, "repeat_interleave waits without output_size"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("shape", ["packed", "padded"])
@pytest.mark.parametrize("level", ["rollout", "row", "turn", "token", "padded"])
@pytest.mark.parametrize("objective", [OBJECTIVES[0], *OBJECTIVES[1::2]], ids=str)
def test_at_once_waits_for_nothing(make_batch, use_form, monkeypatch, objective, level, shape):
    # The check of constants returns at once on another device than the CPU.
    monkeypatch.setattr(Values, "finite_or_raise", lambda *_: None)
    b = make_batch(7, 7)
    with use_form("at_once"):
        out, _, _ = loss_of(b, objective, shape=shape, level=level, around=NoWait())
    out.loss.backward()
    with pytest.raises(AssertionError, match="waits for the device"), NoWait():
        out.loss.item()


def test_devices_choose_the_form(monkeypatch):
    from rollmath.loss import _engine

    chosen = []
    monkeypatch.setattr(_engine, "in_pieces", lambda _: chosen.append("in_pieces"))
    monkeypatch.setattr(_engine, "at_once", lambda _: chosen.append("at_once"))
    for device in ("cpu", "meta"):
        rows = Rows(["a"], [1])
        call = Call("f", LogProbs(torch.zeros(1, device=device)), rows, None, np.ones(1), PPO())
        _engine.evaluate(call)
    assert chosen == ["in_pieces", "at_once"]

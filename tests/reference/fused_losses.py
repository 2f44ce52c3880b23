"""Calls of policy_loss whose kernels run in the interpreter, and the plain arithmetic to compare them with."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rollmath import LogProbs, Ragged, Rows
from rollmath.loss import KL, PPO, EntropyBonus, Normalizer, _engine, _fused, _policy_loss, policy_loss
from rollmath.loss._call import Result


def a_step(lengths=(5, 0, 7, 9, 18), rollouts=(0, 1, 0, 2, 2), *, masked=True, seed=0):
    """Rows of some lengths and all columns, packed, on the host in float64."""
    rng, total = np.random.default_rng(seed), sum(lengths)
    mask = rng.random(total) < 0.8 if masked else None
    rows = Rows(list(rollouts), list(lengths), mask=mask, version=rng.integers(-1, 4, total))
    # Numbers that float32 has, so that both sides begin with the same.
    columns = [torch.tensor(-2 * rng.random(total)).float().double() for _ in range(5)]
    return SimpleNamespace(rows=rows, columns=columns, advantages=rng.uniform(-1, 1, rows.n_rollouts), mask=mask)


def called(step, objective, device=None, *, form="packed", dtype=torch.float32, **options):
    """Loss, gradients and metrics with all terms; without a device by the plain arithmetic in float64."""
    dtype = torch.float64 if device is None else dtype
    if form == "padded":
        width = int(step.rows.lengths.max(initial=0)) + 2
        columns = [Ragged(x, step.rows.offsets).to_padded(width, fill=float("nan")) for x in step.columns]
    else:
        columns = step.columns
    columns = [x.to(device or "cpu", dtype, copy=True) for x in columns]
    if objective.coupling == "batch":
        plain = LogProbs(*step.columns[:4])
        objective = objective.with_parts([objective.prepare(plain, step.advantages, step.rows, level="rollout")])
    *policies, entropy = columns
    policies[0].requires_grad_(), entropy.requires_grad_()
    term = isinstance(objective, KL)
    defaults = {
        "advantages": step.advantages,
        "level": "rollout",
        "aggregation": "seq_mean_token_mean",
        "kl": objective if term else KL(0.1),
        "correction": None,
        "weight": np.linspace(0.5, 1, step.rows.n_rollouts),
        "entropy": EntropyBonus(entropy, 0.01, np.linspace(0, 1, step.rows.n_rows)),
        "normalizer": Normalizer.local(step.rows),
    } | options
    if "coef" in defaults:
        defaults["entropy"] = EntropyBonus(entropy, defaults.pop("coef"))
    with pytest.MonkeyPatch.context() as patch:
        if device is None:
            patch.setattr(_policy_loss, "evaluate", _engine.in_pieces)
        out = policy_loss(
            LogProbs(*policies), defaults.pop("advantages"), step.rows, PPO() if term else objective, **defaults
        )
    gradients = torch.autograd.grad(out.loss, [policies[0], entropy], allow_unused=True)
    packed = [None if x is None else pack(step, x, form) for x in gradients]
    return SimpleNamespace(loss=out.loss.detach(), theta=packed[0], entropy=packed[1], metrics=out.metrics)


def pack(step, x, form):
    if form == "packed":
        return x
    inside = (
        torch.arange(x.shape[1], device=x.device) < torch.tensor(step.rows.lengths.copy(), device=x.device)[:, None]
    )
    assert (x[~inside] == 0).all()
    return x[inside]


def assert_same(found, expected, atol=1e-6):
    assert found.loss.dtype == torch.float32
    assert list(found.metrics) == list(expected.metrics)
    for name in ("loss", "theta", "entropy"):
        x, y = getattr(found, name), getattr(expected, name)
        if y is not None:
            torch.testing.assert_close(x.double().cpu(), y, rtol=1e-6, atol=atol, equal_nan=True)
    x, y = found.metrics.values_tensor, expected.metrics.values_tensor
    torch.testing.assert_close(x.cpu(), y, rtol=1e-6, atol=atol, equal_nan=True)


def reason(step, objective, device, **options):
    """Why a call has no kernels; those that it has are not launched."""
    reasons = []

    def evaluate(call):
        found = _fused.fused(call)
        reasons.append("" if isinstance(found, Result) else found)
        return _engine.in_pieces(call)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_policy_loss, "evaluate", evaluate)
        patch.setattr(_fused, "_launched", lambda *_: Result(None, None, {}))
        called(step, objective, device, **options)
    return reasons[0]

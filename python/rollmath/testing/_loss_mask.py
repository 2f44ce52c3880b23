"""Checks of masks: what is behind them, rows and batches that have nothing trained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from rollmath.testing._cases import show
from rollmath.testing._loss import LossFunction, LossRows, Value, make_rows
from rollmath.testing._loss_split import CLOSE, far
from rollmath.testing._registry import CallError, Remark, check, fail

_ROWS = (4, 3, 5, 2)


def _behind(f: LossFunction, junk: float, *names: str) -> str:
    """The loss with ``junk`` in the padding of these columns is the loss without."""
    rows = make_rows(_ROWS, width=6)
    clean = f(rows)
    for name in names:
        filled = replace(rows, **{name: torch.where(rows.mask, getattr(rows, name), junk)})
        _same(f(filled), clean, rows, f"with {junk} in the padding of {name}")
    return f"{junk} in the padding changes nothing"


def _same(out: Value, clean: Value, rows: LossRows, how: str) -> None:
    mask = rows.mask.numpy()
    if not np.isfinite(out.loss) or abs(out.loss - clean.loss) > CLOSE * max(1.0, abs(clean.loss)):
        fail(f"{how} the loss is {show(out.loss)}, not {show(clean.loss)}")
    if far(out.gradient[mask], clean.gradient[mask]) > CLOSE:
        row = int(np.argmax(~np.isclose(out.gradient, clean.gradient, atol=CLOSE).all(1)))
        fail(f"{how} a row's gradient is {show(out.gradient[row])}, not {show(clean.gradient[row])}")
    behind = out.gradient[~mask]
    if (behind != 0).any():
        fail(
            f"{how} the loss is right, and the gradient there is {show(behind[behind != 0][:3])}: it reaches the model"
        )


@check("loss")
def masked_gradient(f: LossFunction) -> str:
    """Masked tokens have no gradient.

    A numerator without the mask over a denominator with it trains on tool output and padding; ROLL 0.3.0's token mean
    reads like that.
    """
    rows = make_rows(_ROWS, width=6)
    out = f(rows).gradient[~rows.mask.numpy()]
    if (out != 0).any():
        fail(f"tokens behind the mask have gradients of {show(out[out != 0][:4])}")
    return "0 at masked tokens"


@check("loss")
def finite_behind_mask(f: LossFunction) -> str:
    """-50 and 5 in the padding of logp or old_logp change nothing.

    Padding has whatever the model says of a padding token. Far from the trained tokens' numbers it shows in any sum
    that forgot the mask.
    """
    _behind(f, -50.0, "logp", "old")
    return _behind(f, 5.0, "logp", "old")


@check("loss")
def nan_behind_mask(f: LossFunction) -> str:
    """NaN in the padding of logp, old_logp or advantages changes neither loss nor gradient.

    0 times NaN is NaN. A sampler reports NaN, or nothing, for tool output; ``torch.where`` on the loss alone saves the
    loss and not the gradient (a pull request of slime is about that in GSPO). Fill masked places of what comes in,
    ``torch.where(mask, x, 0)``, before any arithmetic.
    """
    _behind(f, float("nan"), "logp", "old")
    rows = make_rows(_ROWS, width=6)
    if f.style != "rows":
        each = rows.advantages[:, None].expand_as(rows.logp)
        out = f(replace(rows, advantages=torch.where(rows.mask, each, float("nan"))))
        _same(out, f(rows), rows, "with nan in the padding of advantages")
    return "nan in the padding changes nothing"


@check("loss")
def inf_behind_mask(f: LossFunction) -> str:
    """-inf in the padding of logp or old_logp changes neither loss nor gradient.

    A token that a grammar or top-k forbids has the log-probability -inf; -inf minus -inf is NaN.
    """
    return _behind(f, float("-inf"), "logp", "old")


@check("loss")
def empty_row(f: LossFunction) -> str:
    """A row without a trained token leaves loss and gradients of the others finite.

    Its mean divides by 0; one such row (a rollout that was filtered, a dummy row that fills a rank) makes the step NaN.
    """
    out = f(_with_empty())
    if not np.isfinite(out.loss) or not np.isfinite(out.gradient).all():
        fail(
            f"with a row without a trained token the loss is {show(out.loss)}, the first row's gradient "
            f"{show(out.gradient[0])}"
        )
    return f"the loss is {show(out.loss)}"


def _with_empty() -> LossRows:
    return make_rows([*_ROWS, 0], width=5)


@check("loss")
def empty_row_counted(f: LossFunction) -> str:
    """A row without a trained token changes no other row's gradient, but as one more row in a mean over rows.

    Where it counts as a row (TRL 1.16.0's ``grpo`` does that), a filter that masks rollouts out makes the step smaller,
    by as much as it masks: a choice, and remarked on. Where its length 0 is taken for 1, a mean over tokens is off.
    """
    rows = _with_empty()
    told, alone = f(rows), f(rows.take(range(4)))
    if not np.isfinite(told.loss) or not np.isfinite(told.gradient).all():
        fail(f"the loss with it is {show(told.loss)}")
    if far(told.gradient[:4], alone.gradient) > CLOSE:
        factor = np.abs(told.gradient).max() / np.abs(alone.gradient).max()
        text = f"four rows and one without a trained token have {factor:.3g} times the gradient of the four"
        if far(told.gradient[:4], 0.8 * alone.gradient) > CLOSE:
            fail(text)
        return Remark(f"{text}: it counts as a row")
    return "the gradients with and without it are the same"


@check("loss")
def nothing_trained(f: LossFunction) -> str:
    """A micro-batch without any trained token has the loss 0 and no gradient.

    Where all of its rollouts were filtered, 0 is divided by 0, and the optimiser step is NaN on all ranks. A loss that
    takes the counts of the step is told those of a step that has trained tokens elsewhere.
    """
    step = make_rows([3, 2])
    rows, told = replace(step, mask=torch.zeros_like(step.mask)), step if "counts" in f.has else None
    try:
        out = f.loss(replace(rows, logp=rows.logp.clone().requires_grad_()), step=told)
    except CallError as error:
        if error.refusal:
            return Remark(f"it refuses: {error.text}")
        raise
    value = float(out.detach())
    if value != 0:
        fail(f"two rows without a trained token have the loss {show(value)}")
    if out.requires_grad:
        gradient = f(rows, step=told).gradient
        if (gradient != 0).any():
            fail(f"the loss is 0 and its gradient {show(gradient[0])}")
    return "the loss is 0"

"""Checks of sums: micro-batches, order, width."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from rollmath.testing._cases import show
from rollmath.testing._loss import LossFunction, LossRows, make_rows
from rollmath.testing._registry import Remark, check, fail

#: Of float32 sums of some tokens.
CLOSE = 1e-4


def far(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference, relative to the largest number; NaN is infinitely far."""
    gap = np.abs(a - b).max(initial=0.0)
    return float("inf") if np.isnan(gap) else float(gap / max(np.abs(b).max(initial=0.0), 1e-9))


def _split(f: LossFunction, rows: LossRows, parts: Sequence[Sequence[int]]) -> str:
    told = rows if "counts" in f.has else None
    whole = f(rows, step=told).gradient
    pieces = np.concatenate([f(rows.take(part), step=told).gradient for part in parts])
    if far(pieces, whole) < CLOSE:
        return "the gradients of micro-batches add up to that of the batch"
    if told is None and far(pieces / len(parts), whole) < CLOSE:
        return "the mean of the gradients of micro-batches is that of the batch"
    mean = 1 if told is not None else len(parts)
    shares, sizes = [], []
    for part in parts:
        ours, theirs = whole[list(part)], pieces[list(part)] / mean
        trained = np.abs(ours) > 1e-9
        share = theirs[trained] / ours[trained]
        low, high = (float(x) for x in (share.min(), share.max()))
        shares.append(f"{low:.3g}" if high - low < 1e-3 else f"{low:.3g} to {high:.3g}")
        sizes.append(f"{len(part)} row{'s' if len(part) > 1 else ''}, {rows.take(part).tokens} tokens")
    how = "the sum" if told is not None else "the mean"
    return fail(
        f"micro-batches of {' and '.join(sizes)}: in {how} of their gradients a token has {' and '.join(shares)} "
        "times its gradient in one batch"
    )


@check("loss")
def partition(f: LossFunction) -> str:
    """Micro-batches of equally many rows and unequally many tokens have the gradient of the batch, as mean or sum.

    A mean of means weighs a token by the company it is in: tokens of a micro-batch of short rows count more. Reported
    to TRL ("gradient accumulation makes GRPO worse"), verl and open-instruct. Where the loss takes the counts of the
    step, it is told them, and the sum must be right.
    """
    return _split(f, make_rows([6, 5, 1, 2]), [[0, 1], [2, 3]])


@check("loss", "counts")
def accumulation(f: LossFunction) -> str:
    """Micro-batches of one and three rows, told the counts of the step, add up to the gradient of the batch.

    Dynamic batching makes them uneven. A loss that divides again, by the rows or the number of micro-batches, is
    smaller than that of the batch by this factor.
    """
    return _split(f, make_rows([6, 5, 1, 2]), [[0], [1, 2, 3]])


@check("loss")
def row_order(f: LossFunction) -> str:
    """The order of rows changes nothing.

    A loss that pairs rows by position gives another step to another order of workers.
    """
    rows = make_rows([4, 3, 5, 2])
    first, back = f(rows), f(rows.take([3, 2, 1, 0]))
    if far(back.gradient[::-1], first.gradient) > CLOSE or abs(back.loss - first.loss) > CLOSE:
        fail(f"the loss is {show(first.loss)}, with the rows in reverse {show(back.loss)}; the first row's gradient is "
             f"{show(first.gradient[0])} and {show(back.gradient[-1])}")  # fmt: skip
    return "rows in reverse have the same loss and gradient"


@check("loss")
def equal_rows(f: LossFunction) -> str:
    """Two rows that are equal have equal gradients, wherever they stand.

    Weights by position (a remainder, the first row of a group) give one of them more.
    """
    gradient = f(make_rows([4, 3, 5, 2]).take([0, 1, 2, 0])).gradient
    if far(gradient[3], gradient[0]) > CLOSE:
        fail(f"the same row has the gradient {show(gradient[0])} as the first and {show(gradient[3])} as the last")
    return "the first row and its copy at the end have the same gradient"


@check("loss")
def padding_width(f: LossFunction) -> str:
    """More padding on the right changes nothing.

    The width is that of the longest row in the micro-batch. A sum divided by it, as in verl 0.9.1's
    ``seq-mean-token-sum-norm`` without ``loss_scale_factor``, makes the learning rate depend on another row's length.
    """
    rows = make_rows([4, 3, 5, 2])
    wide = rows.columns(lambda x, junk: torch.nn.functional.pad(x, (0, 5), value=junk))
    first, second = f(rows), f(wide)
    if far(second.gradient[:, :5], first.gradient) > CLOSE or abs(second.loss - first.loss) > CLOSE:
        factor = np.abs(second.gradient).max() / np.abs(first.gradient).max()
        fail(
            f"the loss is {show(first.loss)} in 5 columns and {show(second.loss)} in 10; the gradient is "
            f"{factor:.3g} times"
        )
    return "5 columns and 10 give the same"


@check("loss")
def gap_neutrality(f: LossFunction) -> str:
    """Masked tokens between trained ones (tool output) change nothing at trained tokens.

    A length that is the position of the last token, rather than the number of trained ones, makes a row with much tool
    output weigh less.
    """
    rows = make_rows([4, 3, 5, 2])

    def insert(x: torch.Tensor, junk: float) -> torch.Tensor:
        return torch.cat([x[:, :1], torch.full((len(x), 2), junk, dtype=x.dtype), x[:, 1:]], dim=1)

    first, second = f(rows), f(rows.columns(insert, -0.5))
    kept = np.delete(second.gradient, [1, 2], axis=1)
    if far(kept, first.gradient) > CLOSE or abs(second.loss - first.loss) > CLOSE:
        fail(f"two masked tokens after the first change the loss from {show(first.loss)} to {show(second.loss)}, the "
             f"gradient of the first row from {show(first.gradient[0])} to {show(kept[0])}")  # fmt: skip
    return "two masked tokens inside each row change nothing"


@check("loss")
def low_precision(f: LossFunction) -> str:
    """bfloat16 log-probabilities give what the same numbers give in float32, to 2%.

    Sums of hundreds of terms in bfloat16 stop growing; a count of tokens in it is off above 256.
    """
    rows = make_rows([300, 280], noise=0.1).to(torch.bfloat16)
    rows = rows.columns(lambda x, _: x)
    wanted, given = f(rows.to(torch.float32)), f(rows)
    scale = np.abs(wanted.gradient).sum()
    off = np.abs(given.gradient - wanted.gradient).sum() / scale
    if not off < 0.02:
        fail(
            f"the gradient of 580 tokens is {off:.1%} off what float32 gives; the loss is {show(given.loss)} and "
            f"{show(wanted.loss)}"
        )
    text = f"the gradient of 580 tokens is {off:.2%} off what float32 gives"
    return text if off < 0.01 else Remark(text)

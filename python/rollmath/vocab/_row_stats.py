"""Several reductions of each row in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from rollmath._arrays import ArrayLike
from rollmath.vocab._args import check_labels, check_logits, check_outputs, check_temperature
from rollmath.vocab._logprobs import label_logprobs
from rollmath.vocab._reference import NAMES, Reduce


class RowStats(NamedTuple):
    """One number a row each, shaped like ``logits`` without its last axis; None for what was not asked for."""

    logprob: torch.Tensor | None
    entropy: torch.Tensor | None
    lse: torch.Tensor | None
    sum_p_squared: torch.Tensor | None


def row_stats(
    logits: torch.Tensor,
    labels: torch.Tensor | None = None,
    *,
    outputs: Sequence[str] = ("logprob", "entropy"),
    temperature: ArrayLike = 1.0,
    ignore_index: int | None = None,
) -> RowStats:
    r"""Log-probability of the label, entropy and two other reductions of each row, differentiable in ``logits``.

    With ``z = logits / T`` and ``p = softmax(z)``::

        logprob        log p_label               d/dlogits_j = ([j = label] - p_j) / T
        entropy        H = -sum p_j log p_j      d/dlogits_j = -p_j (log p_j + H) / T
        lse            log sum exp(z_j)          d/dlogits_j = p_j / T
        sum_p_squared  S = sum p_j^2             d/dlogits_j = 2 p_j (p_j - S) / T

    ``1 - 2 p_label + S`` is the squared norm of the gradient of logprob with respect to ``z``. Memory, dtypes, edge
    cases and errors are those of :func:`logprobs`; one backward pass serves all outputs.

    Args:
        logits: float tensor ``[..., V]``.
        labels: integer tensor ``[...]``; needed for ``"logprob"`` only.
        outputs: what to compute.
        temperature: a positive number or a tensor ``[...]``.
        ignore_index: a label that marks rows whose logprob is 0 without gradient; the other outputs do not read it.

    Returns:
        A :class:`RowStats`, float32 or, for float64 logits, float64.

    Edge cases:
        A logit of -inf adds 0 to the entropy (0 log 0 = 0) and has gradient 0. A row of nothing but -inf has lse -inf
        and NaN for the rest.

    Raises:
        TypeError: as :func:`logprobs`.
        ValueError: as :func:`logprobs`; an unknown output; ``"logprob"`` without labels.

    >>> stats = row_stats(torch.tensor([[2.0, 1.0, 0.0, -1.0]]), outputs=("entropy", "sum_p_squared"))
    >>> stats.logprob, stats.entropy, stats.sum_p_squared
    (None, tensor([0.9475]), tensor([0.4794]))
    """
    check_logits("row_stats", logits)
    names = check_outputs("row_stats", outputs, NAMES)
    scale = check_temperature("row_stats", temperature, logits)
    index = None
    if "logprob" in names:
        if labels is None:
            others = tuple(name for name in names if name != "logprob")
            msg = f"row_stats(): 'labels' is needed for the output 'logprob'; without labels say outputs={others!r}"
            raise ValueError(msg)
        index = check_labels("row_stats", labels, logits, ignore_index)
    made = dict(zip(names, Reduce.apply(logits, index, scale, names), strict=True))
    if labels is not None and index is not None:
        made["logprob"] = label_logprobs(made["logprob"], labels, index, ignore_index)
    return RowStats(*(made[name].view(logits.shape[:-1]) if name in made else None for name in NAMES))

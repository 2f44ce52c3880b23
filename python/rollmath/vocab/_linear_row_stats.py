"""Reductions of each row of ``hidden @ weight.T``, which never exists as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from rollmath._arrays import ArrayLike
from rollmath.vocab._linear_rows import WORKSPACE, linear_rows
from rollmath.vocab._row_stats import RowStats

if TYPE_CHECKING:
    from rollmath.vocab._shard import VocabShard


def linear_row_stats(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    labels: torch.Tensor | None = None,
    *,
    outputs: Sequence[str] = ("logprob", "entropy"),
    bias: torch.Tensor | None = None,
    temperature: ArrayLike = 1.0,
    softcap: float | None = None,
    mask: torch.Tensor | None = None,
    ignore_index: int | None = None,
    ids: torch.Tensor | None = None,
    shard: VocabShard | None = None,
    logits_dtype: torch.dtype | str | None = None,
    workspace: int = WORKSPACE,
    check: bool | None = None,
    backend: str = "auto",
) -> RowStats:
    r"""What :func:`row_stats` says of ``x = hidden @ weight.T + bias``, without the logits ``x`` ever in memory.

    With ``z = x / T``, or ``z = c tanh(x / c) / T`` under a soft-cap ``c``, and ``p = softmax(z)``, the outputs are
    those of :func:`row_stats`: ``logprob = log p_label``, ``entropy = -sum p_j log p_j``, ... Chunks of the logits are
    multiplied out by the matrix product of the library, reduced to a few numbers a row, and forgotten; these merge.
    Backward multiplies them out again, turns each chunk in place into its gradient ``g``, and adds up
    ``dhidden = g weight`` and ``dweight = g' hidden`` in float32, which is rounded once, at the end. So forward and
    backward together cost 4 products of ``hidden`` and ``weight`` instead of 3.

    **Memory** beside inputs and results: ``workspace`` bytes; with gradients, float32 of the size of ``hidden`` and, if
    not all rows fit into one chunk, of a chunk of ``weight``. The gradient of ``weight`` is written once. Where the
    library has no product of 16-bit matrices into float32 (on the CPU, in old versions of torch), the chunks of the
    factors are widened for it, which is exact, and slower.

    **Precision.** By default logits are rounded to the dtype of ``hidden``, as they are by the layer that this
    replaces: of bfloat16, 8 bits, which moves a logprob by up to 2^-8 of its logit, 0.03 for logits near 10.
    ``logits_dtype="float32"`` keeps what the product accumulated, so that the error is 1e-5 or less, with the same
    products; where the library has them, gradients of such logits are rounded to the dtype of ``hidden`` before they
    are multiplied. Everything after the logits is float32. With the same arguments the result has the same bits each
    time; another ``workspace`` adds in another order. Autocast chooses the dtype of the products, as for a linear
    layer; weights are then cast by the chunk. What torch is told of matrix products (TF32, reductions of 16 bits) holds
    here too.

    Args:
        hidden: float tensor ``[..., H]``.
        weight: ``[V, H]``, of the same dtype and on the same device; frozen or not.
        labels: integer tensor ``[...]``; needed for ``"logprob"`` only.
        outputs: what to compute, names as in :func:`row_stats`.
        bias: ``[V]``.
        temperature: a positive number or a tensor ``[...]``.
        softcap: ``c``, a positive number.
        mask: bool ``[...]``. Rows that are False get 0 and no gradient. A mask on the CPU, also beside a ``hidden``
            elsewhere, drops them before the products, which then cost as much less; on another device its count is not
            known without waiting, and they are multiplied but not read.
        ignore_index: a label that marks rows whose logprob is 0 without gradient. On the CPU, with no other output,
            such rows are dropped as well.
        ids: integer tensor ``[..., K]``, tokens for the output ``"gathered"``.
        shard: ``weight`` holds some tokens of a vocabulary that is spread over ranks; ``hidden`` is the same on all of
            them. One all-gather of a few numbers a row; backward adds the gradient of ``hidden`` up over the ranks. A
            DTensor ``weight`` placed as ``Shard(0)``, with a replicated DTensor ``hidden``, says it by itself.
        logits_dtype: None for the dtype of ``hidden``, or ``"float32"``.
        workspace: bytes for the logits of a chunk and what their gradient takes.
        check: whether values of labels, ids and temperatures are looked at: None on the CPU only, True, which waits
            for a device, or False.
        backend: ``"auto"``, ``"torch"`` or ``"triton"``, as in :func:`row_stats`.

    Returns:
        A :class:`RowStats`, float32 or, for float64, float64; shaped like ``hidden`` without its last axis.

    Edge cases:
        Those of :func:`row_stats`: a row with NaN or +inf among its logits is NaN; a row into which the gradient 0
        flows gives exactly 0 to ``hidden``. No rows give empty results and a gradient of 0 for ``weight``. There is no
        second derivative: ``create_graph=True`` raises.

    Raises:
        TypeError: arguments that are no float, integer or bool tensors; dtypes that differ.
        ValueError: shapes or devices that do not fit, values out of range, an unknown output, a ``workspace`` that is
            too small for one row.

    Source: textbook; that logits need not exist is the idea of Wijmans et al., Cut Your Losses, arXiv:2411.09009 (by
    secondary description; their kernel multiplies by itself, this one calls the library).

    >>> hidden, weight = torch.eye(2, 3), torch.tensor([[2.0, 0.0, 1.0], [0.0, 2.0, 1.0], [0.0, 0.0, 1.0]])
    >>> stats = linear_row_stats(hidden, weight, torch.tensor([0, 2]))
    >>> stats.logprob, stats.entropy
    (tensor([-0.2395, -2.2395]), tensor([0.6656, 0.6656]))
    """
    return linear_rows(
        "linear_row_stats",
        (hidden, weight),
        labels,
        outputs=outputs,
        bias=bias,
        temperature=temperature,
        softcap=softcap,
        mask=mask,
        ignore_index=ignore_index,
        ids=ids,
        shard=shard,
        logits_dtype=logits_dtype,
        workspace=workspace,
        check=check,
        backend=backend,
    )

"""Several reductions of each row in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from rollmath._arrays import ArrayLike
from rollmath.vocab._reduce import reduce
from rollmath.vocab._shard import VocabShard
from rollmath.vocab._token_sets import TokenSets
from rollmath.vocab._torch_merge import NAMES


class RowStats(NamedTuple):
    """One number a row each, shaped like ``logits`` without its last axis; None for what was not asked for.

    ``argmax`` is int64, and ``gathered`` has one more axis, for the tokens of ``ids``.
    """

    logprob: torch.Tensor | None = None
    entropy: torch.Tensor | None = None
    lse: torch.Tensor | None = None
    sum_p_squared: torch.Tensor | None = None
    var_logprob: torch.Tensor | None = None
    p_max: torch.Tensor | None = None
    argmax: torch.Tensor | None = None
    mean_logprob: torch.Tensor | None = None
    gathered: torch.Tensor | None = None


def row_stats(
    logits: torch.Tensor,
    labels: torch.Tensor | None = None,
    *,
    outputs: Sequence[str] = ("logprob", "entropy"),
    temperature: ArrayLike = 1.0,
    softcap: float | None = None,
    mask: torch.Tensor | None = None,
    ignore_index: int | None = None,
    ids: torch.Tensor | None = None,
    allowed: TokenSets | None = None,
    shard: VocabShard | None = None,
    check: bool | None = None,
    inplace_backward: bool = False,
    backend: str = "auto",
) -> RowStats:
    r"""Log-probability of the label, entropy and other reductions of each row, differentiable in ``logits``.

    With ``z = logits / T``, ``p = softmax(z)``, ``ell = log p``, and derivatives with respect to ``z_j``::

        logprob        ell_label                              [j = label] - p_j
        entropy        H = -sum p_j ell_j                     -p_j (ell_j + H)
        lse            log sum exp(z_j)                       p_j
        sum_p_squared  S = sum p_j^2                          2 p_j (p_j - S)
        var_logprob    Var = sum p_j (ell_j + H)^2            p_j ((ell_j + H)^2 + 2 (ell_j + H) - Var)
        p_max          p_argmax                               p_argmax ([j = argmax] - p_j)
        argmax         the first of the largest logits        none
        mean_logprob   sum ell_j / V                          1 / V - p_j
        gathered       ell at each of ``ids``                 [j = id] - p_j

    These times ``1 / T``, and under a soft-cap ``c`` times ``1 - tanh(logits_j / c)^2``, are what flows back: one
    backward pass serves all outputs. ``1 - 2 p_label + S`` is the squared norm of the derivative of logprob.

    Memory, arithmetic and the options that are not listed here are those of :func:`logprobs`.

    Args:
        logits: float tensor ``[..., V]``.
        labels: integer tensor ``[...]``; needed for ``"logprob"`` only.
        outputs: a tuple or list of the names above.
        temperature: as :func:`logprobs`.
        softcap: as :func:`logprobs`.
        mask: bool tensor ``[...]``: a row that is False gets 0 in every output and no gradient, whatever its logits.
        ignore_index: a label that marks rows whose logprob is 0 without gradient; the other outputs do not read it.
        ids: integer tensor ``[..., K]``: tokens whose log-probabilities are the output ``"gathered"``.
        allowed: as :func:`logprobs`; ``V`` is then the size of the set.
        shard: as :func:`logprobs`.
        check: as :func:`logprobs`.
        inplace_backward: as :func:`logprobs`.
        backend: as :func:`logprobs`.

    Returns:
        A :class:`RowStats`, float32 or, for float64 logits, float64.

    Edge cases:
        A logit of -inf adds 0 to the entropy (0 log 0 = 0) and has gradient 0; it makes mean_logprob -inf. A row of
        nothing but -inf, or with an empty set, has lse -inf and NaN for the rest; argmax says nothing where there is no
        distribution. A token may come several times in ``ids``.

    Raises:
        TypeError: as :func:`logprobs`.
        ValueError: as :func:`logprobs`; an unknown output; ``"logprob"`` without labels; ``"gathered"`` without ids, or
            ids without it.

    >>> stats = row_stats(torch.tensor([[2.0, 1.0, 0.0, -1.0]]), outputs=("entropy", "sum_p_squared"))
    >>> stats.logprob, stats.entropy, stats.sum_p_squared
    (None, tensor([0.9475]), tensor([0.4794]))
    """
    made = reduce(
        "row_stats",
        logits,
        labels,
        outputs,
        temperature=temperature,
        softcap=softcap,
        mask=mask,
        ignore_index=ignore_index,
        ids=ids,
        allowed=allowed,
        shard=shard,
        check=check,
        inplace_backward=inplace_backward,
        backend=backend,
    )
    return RowStats(*(made.get(name) for name in NAMES))

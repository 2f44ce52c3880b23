"""Log-probability of one label a row."""

from __future__ import annotations

import torch

from rollmath._arrays import ArrayLike
from rollmath.vocab._reduce import reduce
from rollmath.vocab._shard import VocabShard
from rollmath.vocab._token_sets import TokenSets


def logprobs(
    logits: torch.Tensor,
    labels: torch.Tensor,
    *,
    temperature: ArrayLike = 1.0,
    softcap: float | None = None,
    mask: torch.Tensor | None = None,
    ignore_index: int | None = None,
    allowed: TokenSets | None = None,
    shard: VocabShard | None = None,
    check: bool | None = None,
    inplace_backward: bool = False,
    backend: str = "auto",
) -> torch.Tensor:
    r"""Log-probability of the label of each row: ``log softmax(logits / T)[label]``, differentiable in ``logits``.

    Computed in float32 (float64 for float64 logits), forward and backward, without a float32 copy of the logits; the
    gradient comes in the dtype of the logits, rounded once. It is ``d logprob / d logits_j = ([j = label] - p_j) / T``
    with ``p = softmax(logits / T)``. An offset of all logits costs no digits. Saved for it: the logits themselves and a
    few numbers a row; nothing if no gradient is asked for.

    Args:
        logits: float tensor ``[..., V]`` of 16, 32 or 64 bits, any strides; ``logits[:, :-1]`` is not copied.
        labels: integer tensor ``[...]`` on the same device, each in ``[0, V)``.
        temperature: ``T``, a number from 1e-30 to 1e30 or a tensor ``[...]`` with one a row; no gradient flows to it.
            It divides the logits in the dtype of the arithmetic. A tensor without axes on a device is not waited for.
        softcap: ``c``, a number from 1e-30 to 1e30: the logits become ``c tanh(logits / c)`` before they are divided.
        mask: bool tensor ``[...]``: a row that is False gets 0 and no gradient, whatever its logits and label.
        ignore_index: a label that marks rows to skip, -100 for instance: they get 0 and no gradient.
        allowed: the :class:`TokenSets` that the rows chose from, by top-p sampling or a grammar: the distribution is
            the one over the tokens of the set, ``p_j / sum_set p`` in it and 0 outside.
        shard: the :class:`VocabShard` that ``logits`` are, if the vocabulary is spread over processes; labels and sets
            hold ids of all of it. A DTensor knows its own, and its gradient is placed as it is; the results are plain
            tensors of the rows of this rank, or, if ``labels`` is a DTensor, DTensors placed as it is.
        check: whether the values of labels, sets and temperatures are checked. By default on the CPU only; on another
            device ``True`` waits for it. A row with a wrong label or temperature gets NaN where nobody checks. An empty
            set and a label outside of its set are errors under ``True`` alone: by default they are NaN and -inf.
        inplace_backward: whether the gradient is written into the memory of the logits, which are garbage afterwards.
            Legal if nothing else reads them: no second loss on the same logits, no later look at them; if another
            function saved them for its own gradient, autograd raises. Not for leaves and their views, and not under
            ``torch.compile``.
        backend: ``"torch"``, ``"triton"``, or ``"auto"``: Triton for 16 and 32-bit logits on a GPU if it is installed.

    Returns:
        Tensor of the shape of ``labels``: float32, or float64 for float64 logits.

    Edge cases:
        A logit of -inf has probability 0 and gradient 0, under a soft-cap too. If it is that of the label, or if the
        label is not in its set, the result is -inf, and the other logits get ``-p_j / T``. A row of nothing but -inf,
        with an empty set, or with NaN or +inf in it, has no distribution: NaN. A row into which the gradient 0 flows
        (masked out with ``torch.where``, say) gets exactly 0, whatever its logits. There is no second derivative:
        ``create_graph=True`` raises. The Triton kernels have no digits left for a row whose largest logit, over T, is
        beyond about 1e9 in size (all of it filled with -1e10, say): NaN or -inf. Autocast changes nothing. Under
        ``torch.compile`` it is one operator, ``rollmath::row_stats``. Transforms of ``torch.func`` are refused.

    Raises:
        TypeError: logits that are no dense float tensor, labels that are no integer tensor, a mask that is no bool
            tensor, ``allowed`` that are no TokenSets, an option of the wrong type.
        ValueError: wrong shape or device, a label or a token outside ``[0, V)``, a temperature or soft-cap out of
            range, ``inplace_backward`` where it is not legal, a backend that cannot take these logits.

    >>> logits = torch.tensor([[0.0, 0.0], [1.0, -torch.inf]])
    >>> logprobs(logits, torch.tensor([1, 0]))
    tensor([-0.6931,  0.0000])
    >>> logprobs(torch.zeros(1, 8), torch.tensor([3]), allowed=TokenSets.of_lists([[1, 3]]))
    tensor([-0.6931])
    """
    made = reduce(
        "logprobs",
        logits,
        labels,
        ("logprob",),
        temperature=temperature,
        softcap=softcap,
        mask=mask,
        ignore_index=ignore_index,
        ids=None,
        allowed=allowed,
        shard=shard,
        check=check,
        inplace_backward=inplace_backward,
        backend=backend,
    )
    return made["logprob"]

"""Log-probability of one label a row."""

from __future__ import annotations

import torch

from rollmath._arrays import ArrayLike
from rollmath.vocab._args import check_labels, check_logits, check_temperature
from rollmath.vocab._reference import Reduce


def logprobs(
    logits: torch.Tensor,
    labels: torch.Tensor,
    *,
    temperature: ArrayLike = 1.0,
    ignore_index: int | None = None,
) -> torch.Tensor:
    r"""Log-probability of the label of each row: ``log softmax(logits / T)[label]``, differentiable in ``logits``.

    Computed in float32 (float64 for float64 logits) a few rows at a time, forward and backward, so that no float32
    copy of the logits ever exists; the gradient comes in the dtype of the logits. It is
    ``d logprob / d logits_j = ([j = label] - p_j) / T`` with ``p = softmax(logits / T)``.

    Args:
        logits: float tensor ``[..., V]``, any strides; ``logits[:, :-1]`` is not copied.
        labels: integer tensor ``[...]`` on the same device, each in ``[0, V)``.
        temperature: ``T``, a positive number or a tensor ``[...]`` with one a row; no gradient flows to it. It divides
            the logits in float32, whatever their dtype. (A 0-d tensor is read as a number, which waits for its device.)
        ignore_index: a label that marks rows to skip, -100 for instance: they get 0 and no gradient.

    Returns:
        Tensor of the shape of ``labels``: float32, or float64 for float64 logits.

    Edge cases:
        A logit of -inf has probability 0 and gradient 0. If it is that of the label, the result is -inf, and the other
        logits get ``-p_j / T``. A row of nothing but -inf, or with NaN or +inf in it, has no distribution: NaN. A row
        into which the gradient 0 flows (masked out with ``torch.where``, say) gets exactly 0, whatever its logits. On
        other devices than the CPU the values of labels and temperatures are not checked, since that would wait for the
        device: a row with a wrong one gets NaN. There is no second
        derivative: ``create_graph=True`` raises.

    Raises:
        TypeError: logits that are no float tensor, labels that are no integer tensor.
        ValueError: wrong shape or device, a label outside ``[0, V)``, a temperature that is not positive and finite.

    >>> logits = torch.tensor([[0.0, 0.0], [1.0, -torch.inf]])
    >>> logprobs(logits, torch.tensor([1, 0]))
    tensor([-0.6931,  0.0000])
    """
    check_logits("logprobs", logits)
    index = check_labels("logprobs", labels, logits, ignore_index)
    scale = check_temperature("logprobs", temperature, logits)
    return label_logprobs(Reduce.apply(logits, index, scale, ("logprob",))[0], labels, index, ignore_index)


def label_logprobs(
    flat: torch.Tensor, labels: torch.Tensor, index: torch.Tensor, ignore_index: int | None
) -> torch.Tensor:
    """``flat`` in the shape of ``labels``, 0 where they are ``ignore_index``."""
    if ignore_index is not None:
        flat = flat.where(index != ignore_index, 0)
    return flat.view(labels.shape)

"""CHORD: supervised and policy loss in one step, the supervised one weighted by token."""

from __future__ import annotations

from typing import overload

import numpy as np
import torch

from rollmath._arrays import Array, ArrayLike, describe, number
from rollmath._checks import real
from rollmath.loss._elementwise import read
from rollmath.ragged import Ragged


def chord_phi(logprobs: ArrayLike | Ragged) -> Array:
    """Weight of each demonstrated token in CHORD-phi: ``phi = p (1 - p)``, ``p = exp(logprobs)``.

    The supervised loss becomes ``-phi log p``: tokens that the policy knows already teach nothing, and those it finds
    impossible would pull it away from what it can do. The weights are constants; no gradient passes through them.

    Args:
        logprobs: of the demonstrated tokens under the policy in training, ``[tokens]`` or ``[B, T]``: NumPy, torch on
            any device, a list or a :class:`~rollmath.Ragged`. A tensor may require grad.

    Returns:
        In the shape, kind and float type of ``logprobs``, at most 0.25.

    Edge cases:
        0 gives 0, and so does minus infinity. A number above 0, which rounding can give, counts as 0. NaN gives NaN:
        values are not checked, because padding may hold anything.

    Raises:
        TypeError: wrong dtype or rank.
        ValueError: a tensor that holds no numbers.

    Source: CHORD, arXiv 2508.11408; Trinity-RFT's code read.

    >>> chord_phi(np.log([0.5, 0.9])).round(4).tolist()
    [0.25, 0.09]
    """
    column = read("chord_phi", "logprobs", logprobs)
    log_p = column.exact.clamp(max=0.0)
    # Not p (1 - p): 1 - p loses its digits where p is near 1.
    return column.back(log_p.exp() * (0.0 - torch.expm1(log_p)))


@overload
def chord(rl_loss: float, sft_loss: float, *, mu: float) -> float: ...
@overload
def chord(rl_loss: torch.Tensor, sft_loss: torch.Tensor | float, *, mu: float) -> torch.Tensor: ...
@overload
def chord(rl_loss: float, sft_loss: torch.Tensor, *, mu: float) -> torch.Tensor: ...
def chord(rl_loss: torch.Tensor | float, sft_loss: torch.Tensor | float, *, mu: float) -> torch.Tensor | float:
    """CHORD's loss of a step: ``(1 - mu) L_RL + mu L_SFT``.

    Both losses must be normalised over the same step: with micro-batches, each divided by what the *whole* step has.
    Then the sum over micro-batches is the loss of the step.

    Args:
        rl_loss: 0-d tensor, or a number.
        sft_loss: 0-d tensor, or a number: the mean of ``-log p``, or of ``-phi log p`` with :func:`chord_phi`.
        mu: weight of the supervised loss in [0, 1], from :func:`chord_mu`.

    Returns:
        A float if both are numbers; else a 0-d tensor, float64 if one of them is a float64 tensor and float32 if not,
        differentiable in both losses.

    Edge cases:
        ``mu`` of 0 or 1 is the one loss alone, unless the other is NaN or infinite, which gives NaN.

    Raises:
        TypeError: a loss that is neither a 0-d float tensor nor a number; ``mu`` that is no number.
        ValueError: ``mu`` out of range; tensors on two devices.

    Source: CHORD, arXiv 2508.11408; Trinity-RFT's code read.

    >>> round(chord(2.0, 1.0, mu=0.1), 4)
    1.9
    >>> rl, sft = torch.tensor(2.0, requires_grad=True), torch.tensor(1.0, requires_grad=True)
    >>> chord(rl, sft, mu=0.25).backward()
    >>> rl.grad, sft.grad
    (tensor(0.7500), tensor(0.2500))
    """
    who = "chord"
    share = real(who, "mu", mu, 0.0, 1.0)
    first, second = _scalar(who, "rl_loss", rl_loss), _scalar(who, "sft_loss", sft_loss)
    tensors = [x for x in (rl_loss, sft_loss) if isinstance(x, torch.Tensor)]
    if len(tensors) == 2 and tensors[0].device != tensors[1].device:
        msg = f"{who}(): 'sft_loss' must be on {tensors[0].device} (= rl_loss.device), got {tensors[1].device}"
        raise ValueError(msg)
    mixed = (1.0 - share) * first + share * second
    if not isinstance(mixed, torch.Tensor) or any(x.dtype == torch.float64 for x in tensors):
        return mixed
    return mixed.float()


def _scalar(who: str, name: str, x: object) -> torch.Tensor | float:
    """A loss in float64."""
    if isinstance(x, torch.Tensor):
        if x.dim() or not x.is_floating_point():
            msg = f"{who}(): {name!r} must be a 0-d float tensor or a number, got {describe(x)}"
            raise TypeError(msg)
        return x.double()
    if isinstance(x, (bool, np.bool_)):
        msg = f"{who}(): {name!r} must be a 0-d float tensor or a number, got {x}"
        raise TypeError(msg)
    return number(who, name, x)

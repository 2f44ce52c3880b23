"""``--custom-pg-loss-reducer-function-path``: the sum over tokens divided by a constant (Dr. GRPO)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from rollmath._checks import real
from rollmath.adapters.slime._settings import check_sizes


def loss_reducer(
    *, divisor: float
) -> Callable[[list[int], list[int], list[torch.Tensor], bool], Callable[[torch.Tensor], torch.Tensor]]:
    """A reducer for slime's ``pg_loss``: ``sum_t m_t L_t / divisor`` over the tokens of all samples.

    slime calls the function at the path without its arguments, so the constant has to be in a module of yours::

        # my_reducers.py
        from rollmath.adapters import slime
        dr_grpo = slime.loss_reducer(divisor=4096)

    and ``--custom-pg-loss-reducer-function-path my_reducers.dr_grpo``. slime divides by the rollouts of the step
    afterwards, which makes this Dr. GRPO's ``1 / (rollouts * max_length)``.

    It reduces the policy term alone: slime's KL and entropy terms keep slime's reduction.

    Args:
        divisor: the constant, positive; the largest response length in Dr. GRPO.

    Returns:
        A function of slime's signature ``(total_lengths, response_lengths, loss_masks, calculate_per_token_loss)``. It
        raises ValueError under ``--calculate-per-token-loss``, where Megatron divides by the number of tokens besides,
        and where ``pg_loss`` has not the tokens of whole samples (context parallelism).

    Raises:
        ValueError: a divisor that is not finite and positive.
        TypeError: no number.

    Source: Dr. GRPO, arXiv 2503.20783.

    >>> reduce = loss_reducer(divisor=4.0)([5, 4], [2, 1], [torch.tensor([1, 0]), torch.tensor([1])], False)
    >>> reduce(torch.tensor([1.0, 9.0, 2.0]))
    tensor(0.7500)
    """
    who = "loss_reducer"
    constant = real(who, "divisor", divisor, above=0.0)

    def make(
        total_lengths: Sequence[int],  # noqa: ARG001 - slime passes it
        response_lengths: Sequence[int],
        loss_masks: Sequence[torch.Tensor],
        calculate_per_token_loss: bool = False,
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        if calculate_per_token_loss:
            msg = (
                f"{who}(): 'calculate_per_token_loss' must be False, for Megatron would divide the sum by the number "
                "of tokens besides; leave --calculate-per-token-loss away"
            )
            raise ValueError(msg)

        def reduce(pg_loss: torch.Tensor) -> torch.Tensor:
            check_sizes(who, "pg_loss", len(pg_loss), response_lengths)
            mask: Any = torch.cat(list(loss_masks)) != 0
            return torch.where(mask, pg_loss, 0).sum() / constant

        return reduce

    return make

"""Whitening over the data-parallel ranks of slime."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import distributed

from rollmath import ops
from rollmath.conventions import Whiten
from rollmath.distributed._exchange import exchange
from rollmath.ragged import Ragged


class Values(NamedTuple):
    """One number a position: advantages, returns, and what is trained."""

    advantages: Ragged
    returns: Ragged
    mask: torch.Tensor


def data_parallel_group(who: str) -> Any:
    """Megatron's process group of the ranks that hold other samples; None where there is one process.

    Raises:
        RuntimeError: several processes without Megatron, so that nothing says which of them hold other samples.
    """
    if not distributed.is_available() or not distributed.is_initialized() or distributed.get_world_size() == 1:
        return None
    try:
        core = importlib.import_module("megatron.core")
    except ImportError:
        msg = (
            f"{who}(): to whiten over ranks needs megatron.core, whose mpu.get_data_parallel_group() says which ranks "
            "hold other samples; slime has it"
        )
        raise RuntimeError(msg) from None
    return core.mpu.get_data_parallel_group(with_context_parallel=False)


def whitened(who: str, make: Callable[[], Values], how: Whiten) -> Values:
    """What ``make`` returns, its advantages whitened with the statistics of all data-parallel ranks.

    One exchange, of partial sums of each row: the bits of one process. An error of ``make`` on one rank is raised on
    all of them, so that none waits for it.
    """
    made: list[Values] = []

    def moments() -> ops.Moments:
        made.append(make())
        return ops.moments(made[0].advantages, mask=made[0].mask)

    whole = ops.Moments.merge(exchange(who, moments, data_parallel_group(who), {"how": how}).parts)
    values = made[0]
    white = ops.whiten(values.advantages, how=how, mask=values.mask, moments=whole, name="advantages", who=who)
    return values._replace(advantages=cast("Ragged", white))

"""A method over the rollouts of all ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rollmath._arrays import Array, ArrayLike, describe, is_tensor
from rollmath.distributed._exchange import exchange
from rollmath.distributed._gather import joined, sent
from rollmath.groups import Groups


def advantages(
    method: Callable[..., Array],
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    group: Any = None,
    columns: Mapping[str, Any] | None = None,
    **options: Any,
) -> Array:
    """``method(rewards, groups, **columns, **options)`` over the rollouts of all ranks, and of it the part of this one.

    Every rank computes all of it, from the same numbers in the same order: the bits are the same on every rank and as
    on one process. Spread in another way, a rollout gets the same bits wherever the method does not look at the order
    of rows, as those of :mod:`rollmath.group` do not, whitening over the batch included.

    Args:
        method: ``rm.group.grpo`` or any function that takes rewards and groups (a :class:`~rollmath.Groups`) and
            returns one number a rollout; pure, since each rank calls it. For one that returns something else take
            :func:`gather`.
        rewards: one number a rollout of this rank, ``[N]``, or what else the method takes, ``[N, K]``. N may differ
            between ranks and be 0.
        groups: a :class:`~rollmath.Groups` or one id a rollout; a group may lie on several ranks.
        group: the process group, as in :func:`gather`.
        columns: what else has one value a rollout, by the name that the method has for it:
            ``{"strata": n_tool_calls, "valid": ok}``. Ids that are not integers, and any Groups, arrive as a Groups.
        **options: all else that the method takes; the same on all ranks, which is checked.

    Returns:
        One number a rollout of this rank, in the kind and on the device of its rewards, of the dtype that the method
        returns. A rank without rows gets an empty array.

    Raises:
        ValueError: what :func:`gather` and the method raise, on all ranks, with the rank of the row that it names;
            ranks with other options.
        TypeError: the same; ``method`` cannot be called, or returns something else.

    >>> from rollmath.group import stratified
    >>> advantages(stratified, [1.0, 0.0, 1.0, 1.0], list("aaaa"), columns={"strata": [0, 0, 1, 1]}).round(3).tolist()
    [0.707, -0.707, 0.0, 0.0]
    """
    who = "advantages"

    def make() -> Any:
        if not callable(method):
            msg = f"{who}(): 'method' must be a function such as rollmath.group.grpo, got {describe(method)}"
            raise TypeError(msg)
        if columns is not None and not isinstance(columns, Mapping):
            msg = f"{who}(): 'columns' must be a mapping from names to values, got {describe(columns)}"
            raise TypeError(msg)
        given = dict(columns or {})
        if wrong := sorted(set(given) & {"rewards", "groups", *options}):
            msg = f"{who}(): 'columns' has {wrong[0]!r}, which is given as an argument of its own already"
            raise ValueError(msg)
        return sent(who, rewards, groups, given)

    whole = joined(who, exchange(who, make, group, {"method": method, **options}), rewards)
    try:
        result = method(whole.rewards, whole.groups, **whole.columns, **options)
    except (TypeError, ValueError) as error:
        if len(whole.sizes) == 1:
            raise
        raise whole.placed(error) from error
    shape = tuple(result.shape) if is_tensor(result) or isinstance(result, np.ndarray) else ()
    if not shape or shape[0] != len(whole):
        msg = (
            f"{who}(): 'method' must return one number a rollout, an array of length {len(whole)}, got "
            f"{describe(result)}{f' of shape {shape}' if shape else ''}; for methods that return something "
            "else take gather(), and its local() of what has one value a rollout"
        )
        raise TypeError(msg)
    return whole.local(result)

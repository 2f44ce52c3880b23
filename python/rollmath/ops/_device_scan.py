"""The scans over token tensors on a GPU: arguments checked as far as the host can see, then one launch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath._arrays import Array, ArrayLike, floats, is_tensor
from rollmath._convention import Whiten
from rollmath.ops._device_rows import DeviceRows, kernels, moved
from rollmath.ops._moments import weights_of
from rollmath.ragged import Ragged

if TYPE_CHECKING:
    import torch


def fraction(rows: DeviceRows, name: str, x: Any) -> Any:
    """A number in [0, 1] for all rows, or one a row; numbers of the host are checked."""
    if isinstance(x, float):
        if not 0 <= x <= 1:
            msg = f"{rows.who}(): {name!r} must be in [0, 1], got {_shown(x)}"
            raise ValueError(msg)
        return x
    if rows.is_here(x):
        return rows.per_row(name, x.expand(rows.rows) if x.dim() == 0 else x)
    seen = floats(rows.who, name, x, length=rows.rows, why="the number of rows")[0]
    if (wrong := ~((seen >= 0) & (seen <= 1))).any():
        at = int(wrong.argmax())
        msg = f"{rows.who}(): {name!r} must be in [0, 1], got {_shown(float(seen[at]))} at row {at}"
        raise ValueError(msg)
    return rows.per_row(name, x)


def _shown(x: float) -> str:
    return "NaN" if np.isnan(x) else f"{x:g}"


def arguments(rows: DeviceRows, rule: tuple[Any, ...]) -> dict[str, Any]:
    """A checked rule and where rows lie, as the kernels take them."""
    mask, gaps, on_gap, end, applies = rule
    if on_gap == "previous" and gaps not in {"carry", "ignore"} and mask is not None:
        msg = (
            f"{rows.who}(): 'reward_on_gap' must be 'raise' or 'drop' for gaps={gaps!r} on {rows.device}, "
            f"got {on_gap!r}; call .cpu()"
        )
        raise ValueError(msg)
    return {
        **rows.layout,
        "gaps": gaps,
        "reward_on_gap": on_gap,
        "bootstrap": None if isinstance(end, str) and end == "zero" else end,
        "truncated": applies,
    }


def inputs_of(call: dict[str, Any]) -> dict[str, Any]:
    """The arrays of a call by name, with which results may not share memory."""
    return {name: call[name] for name in ("mask", "bootstrap", "truncated", "lengths", "valid")}


def scan_on_device(
    rows: DeviceRows,
    rewards: ArrayLike,
    values: ArrayLike,
    *,
    gamma: float,
    lam: Any,
    lam_returns: Any,
    rule: tuple[Any, ...],
    whiten: Whiten | None,
    only_returns: bool,
    out: Any,
) -> list[Array]:
    """Advantages and returns; see :func:`rollmath.ops._scan.scan_values`, which checked types."""
    call = arguments(rows, rule)
    by_row = rows.is_per_row(rewards)
    r = rows.per_row("rewards", rewards) if by_row else None
    tokens = rows.read(values=values) if by_row else rows.read(rewards=rewards, values=values)
    gamma = fraction(rows, "gamma", gamma)
    lam = fraction(rows, "lam", lam)
    lam_returns = None if lam_returns is None else fraction(rows, "lam_returns", lam_returns)
    shared = {"rewards": r if by_row else tokens[0], "values": tokens[-1], "lam": lam, "lam_returns": lam_returns}
    outs = rows.outputs(out, rows.result_dtype(*tokens), 1 if only_returns else 2, {**shared, **inputs_of(call)})
    flawed = flags_of(rows, whiten)
    kernels(rows.who, rows.name, "scan", rows.device).gae(
        None if by_row else tokens[0],
        tokens[-1],
        row_rewards=r,
        gamma=gamma,
        lam=lam,
        lam_returns=lam_returns,
        advantages=None if only_returns else outs[0],
        returns=outs[-1],
        flawed=flawed,
        **call,
    )
    if whiten is not None:
        whiten_on_device(rows, outs[0], outs[0], whiten, flawed=flawed)
    return [rows.wrap(x) for x in outs]


def vtrace_on_device(
    rows: DeviceRows,
    rewards: ArrayLike,
    values: ArrayLike,
    log_ratios: ArrayLike,
    *,
    decay: tuple[float, Any],
    clips: tuple[float, float, float],
    rule: tuple[Any, ...],
    out: Any,
) -> list[Array]:
    """See :func:`rollmath.temporal.vtrace`."""
    call = arguments(rows, rule)
    by_row = rows.is_per_row(rewards)
    r = rows.per_row("rewards", rewards) if by_row else None
    arrays = {"values": values, "log_ratios": log_ratios}
    tokens = rows.read(**arrays) if by_row else rows.read(rewards=rewards, **arrays)
    gamma, lam = fraction(rows, "gamma", decay[0]), fraction(rows, "lam", decay[1])
    for name, clip in zip(("clip_rho", "clip_c", "clip_pg_rho"), clips, strict=True):
        if not clip > 0:
            msg = f"{rows.who}(): {name!r} must be positive, got {_shown(clip)}"
            raise ValueError(msg)
    inputs = {"rewards": r if by_row else tokens[0], "values": tokens[-2], "log_ratios": tokens[-1], "lam": lam}
    outs = rows.outputs(out, rows.result_dtype(*tokens), 2, {**inputs, **inputs_of(call)})
    kernels(rows.who, rows.name, "vtrace", rows.device).vtrace(
        None if by_row else tokens[0],
        tokens[-2],
        tokens[-1],
        row_rewards=r,
        gamma=gamma,
        lam=lam,
        clip_rho=clips[0],
        clip_c=clips[1],
        clip_pg_rho=clips[2],
        advantages=outs[0],
        returns=outs[1],
        **call,
    )
    return [rows.wrap(x) for x in outs]


def discounted_on_device(
    rows: DeviceRows, name: str, x: ArrayLike, *, decay: float, rule: tuple[Any, ...], whiten: Whiten | None, out: Any
) -> Array | Ragged:
    """Discounted sums; see :func:`rollmath.ops._scan.discounted_sum`."""
    call = arguments(rows, rule)
    by_row = rows.is_per_row(x)
    if by_row and not rows.is_here(x):
        got = x.device if is_tensor(x) else type(x).__name__
        msg = f"{rows.who}(): {name!r} must be a tensor on {rows.device} (= {rows.name}.device), got {got}"
        raise ValueError(msg)
    flat = rows.per_row(name, x) if by_row else rows.read(**{name: x})[0]
    # A number a row of an int type is read as float64, and the result is float32, as on the CPU.
    dtype = rows.result_dtype(x if by_row else flat)
    decay = fraction(rows, "gamma" if name == "rewards" else "decay", decay)
    (target,) = rows.outputs(out, dtype, 1, {name: flat, **inputs_of(call)})
    flawed = flags_of(rows, whiten)
    r, one_a_row = (None, flat) if by_row else (flat, None)
    kernels(rows.who, rows.name, "scan", rows.device).gae(
        r, None, row_rewards=one_a_row, gamma=decay, advantages=target, flawed=flawed, **call
    )
    if whiten is not None:
        whiten_on_device(rows, target, target, whiten, flawed=flawed)
    return rows.wrap(target)


def flags_of(rows: DeviceRows, whiten: Whiten | None) -> torch.Tensor | None:
    """Where a scan notes its NaN rows for the whitening, which does not see them where nothing is trained."""
    if whiten is None:
        return None
    flags: torch.Tensor = rows.torch.empty(rows.rows, dtype=rows.torch.int32, device=rows.device)
    return flags


def whiten_on_device(
    rows: DeviceRows,
    x: torch.Tensor,
    out: torch.Tensor,
    how: Whiten,
    *,
    weights: torch.Tensor | None = None,
    by: torch.Tensor | None = None,
    flawed: torch.Tensor | None = None,
) -> None:
    """Whitens trained tokens by their own moments, or by the map that is given; 0 elsewhere. ``out`` may be ``x``."""
    segments = kernels(rows.who, rows.name, "segments", rows.device)
    if by is None:
        by = segments.merge(
            segments.moments(x, flawed=flawed, **rows.layout),
            weights=weights,
            shift_mean=how.shift_mean,
            scale=how.scale,
            ddof=how.ddof,
            eps=how.eps,
            eps_place=how.eps_place,
        )
    segments.affine(x, by, out, flawed=flawed, **rows.layout)


def whitened_on_device(
    rows: DeviceRows,
    name: str,
    x: ArrayLike,
    how: Whiten,
    *,
    weights: ArrayLike | None,
    weights_name: str,
    by: tuple[float, float, float] | None,
    out: Any,
) -> Array | Ragged:
    """See :func:`rollmath.ops.whiten`, which checked ``moments`` and made a map of them."""
    (flat,) = rows.read(**{name: x})
    w = None
    if weights is not None:
        here = rows.is_here(weights)
        w = rows.per_row(weights_name, weights if here else weights_of(rows.who, weights, rows.rows, weights_name))
    given = None if by is None else moved(np.array(by), rows.device)
    (target,) = rows.outputs(out, rows.result_dtype(flat), 1, {name: flat, "mask": rows.mask})
    whiten_on_device(rows, flat, target, how, weights=w, by=given)
    return rows.wrap(target)

"""From rows to their trained tokens: where these are in the log-probabilities, and the advantage of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rollmath._arrays import ArrayLike, choice, host
from rollmath._autograd import first_order_only
from rollmath.ragged import Ragged
from rollmath.rows import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVELS = ("rollout", "row", "token")


def trained_index(who: str, rows: Rows, shape: tuple[int, ...], name: str) -> NDArray[np.int64]:
    """Flat index of each trained position into packed ``[positions]`` or padded ``[n_rows, T]``.

    Raises:
        ValueError: a shape that is neither.
    """
    total, width = int(rows.offsets[-1]), int(rows.lengths.max(initial=0))
    if shape != (total,) and not (len(shape) == 2 and shape[0] == rows.n_rows and shape[1] >= width):
        msg = (
            f"{who}(): {name!r} must have shape ({total},) (= positions of rows) or ({rows.n_rows}, T) with T of at "
            f"least {width} (= the longest row), got {shape}"
        )
        raise ValueError(msg)
    packed = np.arange(total) if rows.mask is None else np.flatnonzero(rows.mask)
    if len(shape) == 1:
        return packed
    return packed + np.repeat(np.arange(rows.n_rows) * shape[1] - rows.offsets[:-1], rows.trained)


def trained_advantages(
    who: str, advantages: ArrayLike, rows: Rows, level: str | None, like: torch.Tensor
) -> torch.Tensor:
    """The advantage of each trained token, in the dtype and on the device of ``like``.

    Raises:
        ValueError: a shape that fits no level or two that differ, NaN or infinity, a tensor that requires grad.
        TypeError: not numbers.
    """
    if isinstance(advantages, Ragged):
        if not np.array_equal(advantages.offsets, rows.offsets):
            msg = f"{who}(): 'advantages' as a Ragged must have the offsets of the rows; see Rows.expand"
            raise ValueError(msg)
        advantages = advantages.values
    if isinstance(advantages, torch.Tensor):
        if advantages.requires_grad:
            msg = f"{who}(): 'advantages' requires grad, but it is a constant of the loss; call .detach()"
            raise ValueError(msg)
        if advantages.is_meta or advantages.layout != torch.strided or advantages.is_complex():
            msg = f"{who}(): 'advantages' must be a dense tensor of real numbers, got {advantages.dtype}, "
            raise TypeError(msg + f"{advantages.layout} on {advantages.device}")
        values = advantages
    else:
        array = host(who, "advantages", advantages)[0]
        if array.dtype.kind not in "fiub":
            msg = f"{who}(): 'advantages' must hold floats, ints or bools, got {array.dtype}"
            raise TypeError(msg)
        # By name, so that the byte order of a file does not matter.
        dtype = array.dtype.name if array.dtype.name in {"float16", "float32"} else "float64"
        values = torch.from_numpy(np.require(array, dtype=dtype, requirements=["C", "A", "W"]))
    level = _level(who, tuple(values.shape), rows, level)
    if level == "token":
        index = trained_index(who, rows, tuple(values.shape), "advantages")
        values = values.reshape(-1)[_on(index, values)]
    else:
        live = np.flatnonzero(rows.trained)
        source = rows.rollouts.index[live] if level == "rollout" else live
        values = values[_on(source, values)]
    narrow = values.to(like.dtype)
    # Numbers on another device are not looked at: that would wait for it. A NaN there reaches the loss.
    if values.device.type == "cpu" and not narrow.isfinite().all():
        bad = float(values[~narrow.isfinite()][0])
        where = f" in {str(like.dtype).removeprefix('torch.')}" if np.isfinite(bad) else ""
        msg = f"{who}(): 'advantages' must be finite{where} where tokens are trained, got {bad}"
        raise ValueError(msg)
    values = narrow.to(device=like.device, non_blocking=values.device.type == "cpu")
    if level == "token":
        return values
    counts = rows.trained[live]
    return values.repeat_interleave(_on(counts, values), output_size=int(counts.sum()))


def _on(x: NDArray[np.int64], like: torch.Tensor) -> torch.Tensor:
    # A copy, because columns of rows are read-only, which torch does not know.
    return torch.from_numpy(x.copy()).to(like.device, non_blocking=True)


def _level(who: str, shape: tuple[int, ...], rows: Rows, level: str | None) -> str:
    if level is not None:
        choice(who, "level", level, LEVELS)
    sizes = {"rollout": rows.n_rollouts, "row": rows.n_rows, "token": int(rows.offsets[-1])}
    if len(shape) == 2 and level in {None, "token"}:
        return "token"
    fits = [name for name, size in sizes.items() if shape == (size,) and level in {None, name}]
    if not fits:
        wanted = [f"({size},) (= {name}s)" for name, size in sizes.items() if level in {None, name}]
        padded = f" or ({rows.n_rows}, T) (= padded tokens)" if level in {None, "token"} else ""
        msg = f"{who}(): 'advantages' must have shape {', '.join(wanted)}{padded}, got {shape}"
        raise ValueError(msg)
    # With one row a rollout, or one position a row, two levels are the same thing.
    if "row" in fits and "rollout" in fits:
        fits.remove("row")
    if "token" in fits and len(fits) > 1 and bool((rows.lengths == 1).all()):
        fits.remove("token")
    if len(fits) > 1:
        options = " or ".join(f"level={name!r}" for name in fits)
        msg = f"{who}(): 'advantages' of length {shape[0]} could be one a {' or one a '.join(fits)}; say {options}"
        raise ValueError(msg)
    return fits[0]


def closed_form(theta: torch.Tensor, value: torch.Tensor, coefficient: torch.Tensor, index: torch.Tensor) -> Any:
    """``value`` as a function of ``theta`` whose derivative is ``coefficient`` at the flat ``index``, 0 elsewhere."""
    return _ClosedForm.apply(theta, value, coefficient, index)


class _ClosedForm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, theta: torch.Tensor, value: torch.Tensor, coefficient: torch.Tensor, index: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(coefficient, index)
        ctx.shape, ctx.dtype = theta.shape, theta.dtype
        return value.clone()

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        first_order_only("policy_loss()")
        coefficient, index = ctx.saved_tensors
        gradient = torch.zeros(ctx.shape, dtype=ctx.dtype, device=coefficient.device)
        gradient.view(-1)[index] = (coefficient * g).to(ctx.dtype)
        return gradient, None, None, None

"""Gradient of the row statistics with respect to the logits: one kernel for any of the outputs, in one pass.

Each logit is read once, by the thread that writes its derivative, so that the result may take the place of the logits.
The derivative depends on nothing but the logit and some numbers a row: neither on how many rows there are nor on how
they are dealt out.
"""

import torch

from ._backward_kernel import OUTPUTS, SAVED, _backward
from ._config import FUSION, cdiv, launching, power_of_two
from ._online import LOG2E
from ._slices import like, slices

# Columns of a step, warps, and how many programs there should be at least: fewer rows share their columns out.
BLOCK, WARPS, PROGRAMS = 2048, 4, 1056


def backward(
    logits: torch.Tensor,
    labels: torch.Tensor | None,
    saved: dict[str, torch.Tensor],
    grads: dict[str, torch.Tensor],
    *,
    inv_temperature: float | torch.Tensor,
    softcap: float | None = None,
    mask: torch.Tensor | None = None,
    ignore_index: int | None = None,
    ids: torch.Tensor | None = None,
    allowed: tuple[torch.Tensor, torch.Tensor] | None = None,
    first: int = 0,
    total: int | None = None,
    out: torch.Tensor | None = None,
    block: int | None = None,
    parts: int | None = None,
) -> torch.Tensor:
    r"""The gradient for ``logits [..., V]``, in their dtype, rounded once.

    ::

        dx_j = (p_j (a + b ell_j + c p_j + d ell_j^2) + e + spikes) / T        times 1 - (x_capped / softcap)^2
        a = g_lse - g_logprob - g_H H - 2 g_S S + g_var (H^2 + 2 H - var) - g_pmax pmax - g_mean - sum_k g_gathered,k
        b = -g_H + 2 g_var (H + 1),    c = 2 g_S,    d = g_var,    e = g_mean / V
        spikes: g_logprob at the label, g_pmax pmax at the argmax, g_gathered,k at its token

    Args:
        logits: bfloat16, float16 or float32, of any strides.
        labels: int64 ``[N]`` or None.
        saved: what ``forward`` returned: "shift" and "log2_l", and each output that a gradient flows into, with
            "argmax" beside "p_max" and "entropy" beside "var_logprob".
        grads: for each name the gradient that flows in, ``[N]`` or ``[N, K]``, of any strides; absent: none.
        inv_temperature: ``1 / T``, a number or float32 ``[N]``.
        softcap: as given to ``forward``; so are ids, allowed, first and total.
        mask: bool ``[N]``; rows with False get 0.
        ignore_index: the label of rows into whose logprob no gradient flows.
        ids: int64 ``[N, K]``, contiguous. Those that are equal add up.
        allowed: tokens that may be chosen, as ids and offsets; all others get 0.
        first: the token of column 0.
        total: the size of the vocabulary; columns beyond get 0.
        out: room for the result, of any strides; ``logits`` itself is legal.
        block: columns of a step.
        parts: among how many programs a row is shared out; no bit depends on it.

    Returns:
        ``out``. A new one is contiguous if its rows then begin as far from a multiple of 16 bytes as those of the
        logits, which is what fast loads and stores need; else there is a gap of some elements between rows.

    A row into which nothing but 0 flows gets exactly 0 and is not read; a logit of -inf gets exactly 0. A token outside
    ``[0, total)`` has no spike. In place, sets need room for a number for each of their ids.
    """
    if out is None:
        out = like(logits)
    rows, vocab = logits.shape[:-1].numel(), logits.shape[-1]
    assert out.shape == logits.shape
    assert out.dtype == logits.dtype
    total = first + vocab if total is None else total
    width = max(0, min(vocab, total - first))
    if width < vocab:
        out[..., width:].zero_()
    if rows == 0 or width == 0:
        return out
    given = [grads.get(name) for name in OUTPUTS]
    g_gathered = given[-1]
    ids = None if g_gathered is None else ids
    per_row = inv_temperature if isinstance(inv_temperature, torch.Tensor) else None
    for x in (labels, mask, ids, per_row, *given):
        assert x is None or x.shape[0] == rows
    for x in (labels, mask, ids, per_row, *(allowed or ())):
        assert x is None or x.is_contiguous()
    count = 0 if ids is None else ids.shape[1]
    picks = 1 if grads.get("p_max") is None and ids is None else count + 2
    if block is None:
        block = min(BLOCK, max(32, power_of_two(width)))
    cells = cdiv(width, block)
    if parts is None:
        parts = cdiv(PROGRAMS, rows) if logits.is_cuda else 1
    parts = min(parts, cells)
    scale = 1.0 if isinstance(inv_temperature, torch.Tensor) else float(inv_temperature)
    cap = 1.0 if softcap is None else float(softcap)
    sets, offsets = (None, None) if allowed is None else allowed
    room = None
    if sets is not None and out.data_ptr() == logits.data_ptr():
        room = torch.empty(sets.shape, dtype=out.dtype, device=out.device)
    with launching(logits.device):
        for piece in slices(logits.detach()[..., :width], out.detach()[..., :width]):
            (x, *x_strides), (y, *y_strides) = piece.views
            _backward[(piece.rows * parts,)](
                x, y, None if mask is None else mask.view(torch.uint8), labels, ids, sets, offsets, room,
                per_row, scale, scale * LOG2E.value, cap, 1 / cap, ignore_index,
                *x_strides, *y_strides, piece.inner, piece.first, parts, cdiv(cells, parts), width,
                first, total, count, picks, 0 if sets is None else sets.numel(),
                *_needed(saved, grads), *given, *(0 if g is None else g.stride(0) for g in given),
                0 if g_gathered is None else g_gathered.stride(1),
                SOFTCAP=softcap is not None, LAYOUT=piece.layout, BLOCK=block, SET_BLOCK=min(block, 512),
                LIST=min(32, power_of_two(picks)), num_warps=max(1, min(WARPS, block // 512)), **FUSION,
            )  # fmt: skip
    return out


def _needed(saved: dict[str, torch.Tensor], grads: dict[str, torch.Tensor]) -> list[torch.Tensor | None]:
    """The saved numbers that the gradients need, in the order of the kernel."""
    used = {"shift", "log2_l", *grads} - {"lse", "mean_logprob"}
    used |= {"argmax"} if "p_max" in used else set()
    used |= {"entropy"} if "var_logprob" in used else set()
    return [saved[name].contiguous() if name in used else None for name in SAVED]

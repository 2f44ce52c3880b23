r"""The reductions in plain torch, any device: rows in chunks, closed-form gradients.

With ``z = x / T``, ``m = max z``, ``d = z - m`` and ``l = sum exp(d)``::

    log p_j = d_j - log l        H = log l - sum(exp(d) d) / l
    lse = m + log l              S = sum(exp(d)^2) / l^2

The shift by ``m`` stays apart from ``log l``, so that an offset of all logits costs no digits. The gradient with
respect to ``x``, for incoming row gradients ``g``, is one polynomial in ``p_j`` and ``log p_j`` and a spike at the
label::

    dx_j = (p_j (a + b log p_j + c p_j) + g_logprob [j = label]) / T
    a = g_lse - g_logprob - g_H H - 2 g_S S,    b = -g_H,    c = 2 g_S

Saved for it: the logits themselves (no copy) and a few numbers a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from rollmath._autograd import first_order_only

#: Names of what :class:`Reduce` can return, in its order.
NAMES = ("logprob", "entropy", "lse", "sum_p_squared")

# Bytes that the buffers of a chunk may take (at least one row is taken, however long): on a CPU near the size of the
# cache, but not much smaller, because threads wait for each other in every chunk; on other devices enough rows to keep
# it busy.
_CPU_BYTES, _DEVICE_BYTES = 16 << 20, 256 << 20

# exp of this is exactly 0 in float64, so as a factor it stands for a log-probability of -inf without ever meeting 0.
_LOWEST = -1000.0


class Reduce(torch.autograd.Function):
    """``apply(logits, labels, temperature, names)`` returns one ``[N]`` tensor for each name.

    ``labels`` is int64 ``[N]`` or None; one outside ``[0, V)`` gives NaN, and a device never reads out of
    bounds. ``temperature`` is a number or ``[N, 1]``.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: torch.Tensor,
        labels: torch.Tensor | None,
        temperature: float | torch.Tensor,
        names: tuple[str, ...],
    ) -> tuple[torch.Tensor, ...]:
        """All rows, chunk by chunk."""
        rows = logits.numel() // logits.shape[-1]
        stats = {
            name: torch.empty(rows, dtype=_dtype(logits), device=logits.device) for name in ("top", "log_l", *names)
        }
        z, weight = _scratch(logits), _scratch(logits) if "entropy" in names else None
        for start, stop, x in _chunks(logits):
            part = {name: out[start:stop] for name, out in stats.items()}
            label = None if labels is None else labels[start:stop]
            _reduce(_shifted(x, _part(temperature, start, stop), part["top"], z), label, part, weight)
        per_row = temperature if isinstance(temperature, torch.Tensor) else None
        ctx.names, ctx.temperature = names, temperature if per_row is None else None
        kept = [stats.get(name) for name in ("top", "log_l", "entropy", "sum_p_squared")]
        ctx.save_for_backward(logits, labels, per_row, *kept)
        ctx.set_materialize_grads(False)
        return tuple(stats[name] for name in names)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor | None) -> tuple[torch.Tensor | None, None, None, None]:
        """The closed form, in the dtype of the logits."""
        first_order_only("rollmath.vocab")
        logits, labels, per_row, top, log_l, entropy, squares = ctx.saved_tensors
        given = {name: g for name, g in zip(ctx.names, grads, strict=True) if g is not None}
        if not given:
            return None, None, None, None
        temperature = ctx.temperature if per_row is None else per_row
        stats = {"entropy": entropy, "sum_p_squared": squares}
        terms = _coefficients(given, stats)
        out = torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)
        flat = out.view(-1, logits.shape[-1])
        z = None if out.dtype == _dtype(logits) else _scratch(logits)
        p = _scratch(logits) if "linear" in terms or "square" in terms else None
        for start, stop, x in _chunks(logits):
            at = slice(start, stop)
            divisor = _part(temperature, start, stop)
            log_p = _shifted(x, divisor, top[at], flat[at] if z is None else z, known=True).sub_(log_l[at, None])
            label = None if labels is None else labels[at]
            _into_gradient(log_p, label, {name: term[at] for name, term in terms.items()}, p)
            if not _is_one(divisor):
                log_p.div_(divisor)
            if z is not None:
                flat[at] = log_p
        return out, None, None, None


def _dtype(logits: torch.Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def _chunk_size(logits: torch.Tensor) -> int:
    budget = _CPU_BYTES if logits.device.type == "cpu" else _DEVICE_BYTES
    return max(1, budget // (2 * logits.shape[-1] * _dtype(logits).itemsize))


def _scratch(logits: torch.Tensor) -> torch.Tensor:
    """Room for a chunk. All chunks share it: fresh pages for each would cost more than the arithmetic on them."""
    width = logits.shape[-1]
    rows = min(_chunk_size(logits), logits.numel() // width)
    return torch.empty((rows, width), dtype=_dtype(logits), device=logits.device)


def _chunks(logits: torch.Tensor) -> Iterator[tuple[int, int, torch.Tensor]]:
    """Views of some rows at a time with their flat row numbers, also of logits that no view makes a matrix."""
    size, done = _chunk_size(logits), 0
    for matrix in _matrices(logits):
        for start in range(0, matrix.shape[0], size):
            x = matrix[start : start + size]
            yield done + start, done + start + x.shape[0], x
        done += matrix.shape[0]


def _matrices(logits: torch.Tensor) -> Iterator[torch.Tensor]:
    """``logits`` as matrices ``[n, V]``, never copied: a slice such as ``logits[:, :-1]`` is taken row by row."""
    if logits.numel() == 0:
        return
    try:
        yield logits.view(-1, logits.shape[-1])
    except RuntimeError:
        for part in logits:
            yield from _matrices(part)


def _part(temperature: float | torch.Tensor, start: int, stop: int) -> float | torch.Tensor:
    return temperature[start:stop] if isinstance(temperature, torch.Tensor) else temperature


def _is_one(temperature: float | torch.Tensor) -> bool:
    return not isinstance(temperature, torch.Tensor) and temperature == 1


def _shifted(
    x: torch.Tensor, temperature: float | torch.Tensor, top: torch.Tensor, out: torch.Tensor, *, known: bool = False
) -> torch.Tensor:
    """``x / T - top`` in the first rows of ``out``; writes ``top`` (0 in a row of only -inf) unless it is known."""
    z = out[: x.shape[0]]
    if x.dtype != z.dtype:
        x = z.copy_(x)
    if not _is_one(temperature):
        x = torch.div(x, temperature, out=z)
    if not known:
        torch.amax(x, dim=1, out=top)
        top.masked_fill_(top == -torch.inf, 0)
    return torch.sub(x, top[:, None], out=z)


def _reduce(
    z: torch.Tensor, labels: torch.Tensor | None, out: dict[str, torch.Tensor], scratch: torch.Tensor | None
) -> None:
    """Fills ``out`` from ``z = x / T - top``, which is used up; the entropy needs ``scratch``."""
    if "logprob" in out and labels is not None:
        known = (labels >= 0) & (labels < z.shape[1])
        at_label = z.gather(1, labels.where(known, 0)[:, None])[:, 0]
    weight = z.exp_() if scratch is None else torch.exp(z, out=scratch[: z.shape[0]])
    total = weight.sum(1)
    out["log_l"].copy_(total.log())
    if "logprob" in out and labels is not None:
        out["logprob"].copy_(torch.where(known, at_label - out["log_l"], torch.nan))
    if "lse" in out:
        torch.add(out["top"], out["log_l"], out=out["lse"])
    if "sum_p_squared" in out:
        out["sum_p_squared"].copy_(torch.linalg.vector_norm(weight, dim=1).div_(total).square_())
    if "entropy" in out:
        # A logit of -inf has weight 0, and a finite stand-in makes 0 * log 0 the 0 that it stands for.
        mean = weight.mul_(z.clamp_(min=_LOWEST)).sum(1).div_(total)
        torch.sub(out["log_l"], mean, out=out["entropy"])


def _coefficients(given: dict[str, torch.Tensor], stats: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The numbers a row of the polynomial, and which rows have no gradient coming in."""
    terms: dict[str, torch.Tensor] = {}
    constant = torch.zeros_like(next(iter(given.values())))
    dead = torch.ones_like(constant, dtype=torch.bool)
    for name, g in given.items():
        dead &= g == 0
        if name == "logprob":
            constant = constant - g
            terms["spike"] = g
        elif name == "lse":
            constant = constant + g
        elif name == "entropy":
            constant = constant - g * stats[name]
            terms["linear"] = -g
        else:
            constant = constant - 2 * g * stats[name]
            terms["square"] = 2 * g
    return terms | {"constant": constant, "dead": dead}


def _into_gradient(
    z: torch.Tensor, labels: torch.Tensor | None, terms: dict[str, torch.Tensor], scratch: torch.Tensor | None
) -> None:
    """``z = log p`` becomes ``p (a + b log p + c p)`` plus the spike; rows without incoming gradient exactly 0.

    ``scratch`` is needed unless ``b`` and ``c`` are 0.
    """
    spike = None
    if "spike" in terms and labels is not None:
        known = (labels >= 0) & (labels < z.shape[1])
        index = labels.where(known, 0)[:, None]
        possible = known[:, None] & (z.gather(1, index) != -torch.inf)
        spike = terms["spike"][:, None].where(possible, 0)
    constant = terms["constant"][:, None]
    if scratch is None:
        z.exp_().mul_(constant)
    else:
        p = torch.exp(z, out=scratch[: z.shape[0]])
        if "linear" in terms:
            z.clamp_(min=_LOWEST).mul_(terms["linear"][:, None])
        else:
            z.zero_()
        if "square" in terms:
            z.addcmul_(p, terms["square"][:, None])
        z.add_(constant).mul_(p)
    if spike is not None:
        z.scatter_add_(1, index, spike)
    # On a CPU a look costs less than a pass; on a device it would wait.
    if z.device.type != "cpu" or terms["dead"].any():
        z.masked_fill_(terms["dead"][:, None], 0)

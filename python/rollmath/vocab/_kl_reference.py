"""KL divergences in plain torch, any device: rows in chunks, closed-form gradients.

With ``d = (x - max x) / T`` and ``l = sum exp(d)``, and ``d'``, ``l'`` of the reference::

    KL(p || q) = sum(exp(d) (d - d')) / l - log l + log l'

Saved for the gradient: both logits (no copies) and a few numbers a row.
"""

from __future__ import annotations

from typing import Any

import torch

from rollmath._autograd import first_order_only
from rollmath.vocab._chunks import chunks, dtype_of, part, row_sum, rows_of, scratch

# A finite stand-in for log-probabilities of -inf, where the factor of 0 must not meet infinity.
_LOWEST = -1e30


def _shifted(
    x: torch.Tensor, temperature: float | torch.Tensor, top: torch.Tensor, out: torch.Tensor, *, known: bool = False
) -> torch.Tensor:
    """``(x - top) / T`` in the first rows of ``out``; writes ``top`` (0 in a row of only -inf) unless it is known.

    The difference comes first, so that an offset of all logits costs no digits.
    """
    z = out[: x.shape[0]]
    if x.dtype != z.dtype:
        x = z.copy_(x)
    if not known:
        torch.amax(x, dim=1, out=top)
        top.masked_fill_(top == -torch.inf, 0)
    torch.sub(x, top[:, None], out=z)
    return z if _is_one(temperature) else z.div_(temperature)


def _is_one(number: float | torch.Tensor) -> bool:
    """Whether dividing by it changes nothing, as far as a look tells."""
    return not isinstance(number, torch.Tensor) and number == 1


def _log_sum(d: torch.Tensor, room: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``exp(d)``, in the room, and the log of its sum."""
    e = torch.exp(d, out=room[: d.shape[0]])
    return e, row_sum(e).log_()


class Exact(torch.autograd.Function):
    """``apply(logits, ref_logits, temperature, reverse)`` returns ``[N]``; temperature: a number or ``[N, 1]``."""

    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, ref: torch.Tensor, temperature: float | torch.Tensor, reverse: bool
    ) -> torch.Tensor:
        """All rows, chunk by chunk."""
        rows = rows_of(logits)
        top, log_l, ref_top, ref_log_l, out = torch.empty(
            5, rows, dtype=dtype_of(logits), device=logits.device
        ).unbind()
        a, b, room = (scratch(logits) for _ in range(3))
        for start, stop, (x, y), _ in chunks(logits, ref):
            at, divisor = slice(start, stop), part(temperature, start, stop)
            d, ref_d = _shifted(x, divisor, top[at], a), _shifted(y, divisor, ref_top[at], b)
            if reverse:
                ref_log_l[at] = _log_sum(ref_d, room)[1]
                e, log_l[at] = _log_sum(d, room)
                out[at] = _divergence(e, d, ref_d, log_l[at], ref_log_l[at])
            else:
                log_l[at] = _log_sum(d, room)[1]
                e, ref_log_l[at] = _log_sum(ref_d, room)
                out[at] = _divergence(e, ref_d, d, ref_log_l[at], log_l[at])
        per_row = temperature if isinstance(temperature, torch.Tensor) else None
        ctx.temperature, ctx.reverse = temperature if per_row is None else None, reverse
        ctx.save_for_backward(logits, ref, per_row, top, log_l, ref_top, ref_log_l, out)
        return out.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, None, None, None]:
        """The closed form, in the dtype of the logits."""
        first_order_only("rollmath.vocab")
        (g,) = grads
        logits, ref, per_row, top, log_l, ref_top, ref_log_l, value = ctx.saved_tensors
        temperature = ctx.temperature if per_row is None else per_row
        # No gradient where the value is infinite.
        value = value.where(value != torch.inf, torch.nan)
        out = torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)
        flat = out.view(-1, logits.shape[-1])
        a = None if out.dtype == dtype_of(logits) else scratch(logits)
        b, room = scratch(logits), scratch(logits) if ctx.reverse else None
        for start, stop, (x, y), _ in chunks(logits, ref):
            at, divisor = slice(start, stop), part(temperature, start, stop)
            log_p = _shifted(x, divisor, top[at], flat[at] if a is None else a, known=True).sub_(log_l[at, None])
            log_q = _shifted(y, divisor, ref_top[at], b, known=True).sub_(ref_log_l[at, None])
            if room is not None:
                p = torch.exp(log_p, out=room[: x.shape[0]])
                log_p.clamp_(min=_LOWEST).sub_(log_q.clamp_(min=_LOWEST)).sub_(value[at, None]).mul_(p)
            else:
                # On a CPU a look costs less than a pass; on a device it would wait.
                look = log_p.device.type != "cpu" or bool(value[at].isnan().any())
                none = log_p == -torch.inf if look else None
                log_p.exp_().sub_(log_q.exp_())
                if none is not None:
                    log_p.masked_fill_(none, 0)
            _finish(log_p, g[at], divisor)
            if a is not None:
                flat[at] = log_p
        return out, None, None, None


def _divergence(
    e: torch.Tensor, d: torch.Tensor, other: torch.Tensor, log_l: torch.Tensor, other_log_l: torch.Tensor
) -> torch.Tensor:
    """``sum(e (d - other)) / l - log l + log l'`` with ``e = exp(d)``; uses up ``d``."""
    terms = d.clamp_(min=_LOWEST).sub_(other).mul_(e)
    offset = other_log_l - log_l
    total = row_sum(terms)
    # 0 times infinity is 0 here: a token that is impossible in both. On a CPU a look costs less than a pass.
    if terms.device.type != "cpu" or total.isnan().any():
        total = row_sum(terms.masked_fill_(e == 0, 0))
    return total.div_(log_l.exp()).add_(offset)


def _finish(gradient: torch.Tensor, g: torch.Tensor, divisor: float | torch.Tensor) -> None:
    """Times the gradient that flows in, over T; exactly 0 in rows into which 0 flows."""
    gradient.mul_(g[:, None])
    if not _is_one(divisor):
        gradient.div_(divisor)
    dead = g == 0
    if gradient.device.type != "cpu" or dead.any():
        gradient.masked_fill_(dead[:, None], 0)


def top_of(
    logits: torch.Tensor, ref: torch.Tensor, temperature: float | torch.Tensor, k: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The k most likely tokens of each row, int64, and log-probabilities of ref: theirs, and of all others together."""
    rows = rows_of(logits)
    ids = torch.empty((rows, k), dtype=torch.int64, device=logits.device)
    known = torch.empty((rows, k), dtype=torch.float64, device=logits.device)
    rest = torch.empty(rows, dtype=torch.float64, device=logits.device)
    with torch.no_grad():
        a, b, top = scratch(logits), scratch(logits), torch.empty(rows, dtype=dtype_of(logits), device=logits.device)
        for start, stop, (x, y), _ in chunks(logits, ref):
            at = slice(start, stop)
            ids[at] = x.topk(k, dim=1).indices
            d = _shifted(y, part(temperature, start, stop), top[at], a)
            known[at], rest[at], _ = _of_some(d, ids[at], b)
    return ids, known, rest


def _of_some(d: torch.Tensor, ids: torch.Tensor, room: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-probabilities of some tokens and of all others together, float64, and the log of the sum of ``exp(d)``."""
    e, log_l = _log_sum(d, room)
    # Summed without the tokens, not 1 minus them: no digits are lost where hardly anything is left.
    rest = row_sum(e.scatter_(1, ids, 0)).log_()
    wide = log_l.double()
    return d.gather(1, ids).double() - wide[:, None], rest.double() - wide, log_l


class Some(torch.autograd.Function):
    """``apply(logits, ids, ref, ref_tail, temperature, reverse)`` returns ``[N]``.

    ``ids`` is int64 ``[N, k]``, ``ref`` float64 ``[N, k]``; ``ref_tail`` is ``[N]``, the log-probability of the other
    tokens, or None if they do not count.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: torch.Tensor,
        ids: torch.Tensor,
        ref: torch.Tensor,
        ref_tail: torch.Tensor | None,
        temperature: float | torch.Tensor,
        reverse: bool,
    ) -> torch.Tensor:
        """All rows, chunk by chunk; what is one number for each of the ids, in float64."""
        rows, k = ids.shape
        top, log_l = torch.empty(2, rows, dtype=dtype_of(logits), device=logits.device).unbind()
        log_p = torch.empty((rows, k + 1), dtype=torch.float64, device=logits.device)
        known = (ids >= 0) & (ids < logits.shape[-1])
        ids = ids.where(known, 0)
        a, b = scratch(logits), scratch(logits)
        for start, stop, (x,), _ in chunks(logits):
            at = slice(start, stop)
            d = _shifted(x, part(temperature, start, stop), top[at], a)
            log_p[at, :k], log_p[at, k], log_l[at] = _of_some(d, ids[at], b)
        log_p[:, :k].masked_fill_(~known, torch.nan)
        log_q = ref if ref_tail is None else torch.cat([ref, ref_tail[:, None]], 1)
        seen = log_p[:, : log_q.shape[1]]
        value = _sum_p_log(seen, log_q) if reverse else _sum_p_log(log_q, seen)
        per_row = temperature if isinstance(temperature, torch.Tensor) else None
        ctx.temperature, ctx.reverse, ctx.tail = temperature if per_row is None else None, reverse, ref_tail is not None
        ctx.save_for_backward(logits, ids, per_row, top, log_l, log_p, log_q, value)
        return (value if ref_tail is None else value.clamp(min=0)).to(top.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, None, None, None, None, None]:
        """``p_j`` times one number a row, and the tokens of ``ids`` in their place."""
        first_order_only("rollmath.vocab")
        (g,) = grads
        logits, ids, per_row, top, log_l, log_p, log_q, value = ctx.saved_tensors
        temperature = ctx.temperature if per_row is None else per_row
        form = _reverse if ctx.reverse else _forward
        factor, spikes = form(log_p, log_q, value, ctx.tail)
        most = torch.finfo(top.dtype).max
        factor, spikes = (x.clamp(-most, most).to(top.dtype) for x in (factor, spikes))
        out = torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)
        flat = out.view(-1, logits.shape[-1])
        a = None if out.dtype == top.dtype else scratch(logits)
        for start, stop, (x,), _ in chunks(logits):
            at, divisor = slice(start, stop), part(temperature, start, stop)
            p = _shifted(x, divisor, top[at], flat[at] if a is None else a, known=True).sub_(log_l[at, None]).exp_()
            p.mul_(factor[at, None]).scatter_(1, ids[at], spikes[at])
            _finish(p, g[at], divisor)
            if a is not None:
                flat[at] = p
        return out, None, None, None, None, None


def _sum_p_log(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """``sum p (log p - log q)``, where 0 times anything is 0."""
    p = log_p.exp()
    return (p * (log_p - log_q)).masked_fill_(p == 0, 0).sum(1)


def _reverse(
    log_p: torch.Tensor, log_q: torch.Tensor, value: torch.Tensor, tail: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """What p_j is multiplied by outside the ids, and the derivatives at them; before the division by T."""
    k = log_p.shape[1] - 1
    p, r = log_p[:, :k].exp(), log_p[:, :k] - log_q[:, :k]
    value = value.where(value != torch.inf, torch.nan)
    if not tail:
        shift = -(value + p.sum(1))
        return shift, (p * (r + 1 + shift[:, None])).masked_fill_(p == 0, 0)
    rest = log_p[:, k]
    factor = (rest - log_q[:, k] - value).masked_fill_(rest == -torch.inf, 0)
    return factor, (p * (r - value[:, None])).masked_fill_(p == 0, 0)


def _forward(
    log_p: torch.Tensor, log_q: torch.Tensor, value: torch.Tensor, tail: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """As :func:`_reverse`, of the other direction."""
    k = log_p.shape[1] - 1
    q, rest = log_q[:, :k].exp(), log_p[:, k]
    if tail:
        factor, mass = (-torch.expm1(log_q[:, k] - rest)).masked_fill_(rest == -torch.inf, 0), torch.ones_like(rest)
    else:
        factor = mass = q.sum(1)
    spikes = log_p[:, :k].exp() * mass[:, None] - q
    return factor + 0 * value.where(value != torch.inf, 0), spikes.masked_fill_(log_p[:, :k] == -torch.inf, 0)

r"""The gradient of the reductions in closed form, in plain torch: rows in chunks, bounded memory.

With ``p = softmax(z)``, ``ell = log p`` and incoming row gradients ``g``, one polynomial for all outputs::

    dx_j = (p_j (a + b ell_j + c p_j + d ell_j^2) + e + spikes) / T
    a = g_lse - g_logprob - g_H H - 2 g_S S + g_Var (H^2 + 2 H - Var) - g_pmax pmax - g_mean - sum_k g_gathered,k
    b = -g_H + 2 g_Var (H + 1),    c = 2 g_S,    d = g_Var,    e = g_mean / V
    spikes: g_logprob at the label, g_pmax pmax at the argmax, g_gathered,k at its token

times ``1 - (x_capped / softcap)^2`` under a soft-cap. Every spike is added before the one rounding to the dtype of the
logits.
"""

from __future__ import annotations

import torch

from rollmath.vocab._chunks import chunks, dtype_of, part, scratch, shaped
from rollmath.vocab._torch_sets import Sets
from rollmath.vocab._torch_shift import LOWEST, capped, reference, scale


@torch.no_grad()
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
) -> torch.Tensor:
    """The gradient for ``logits``, in their dtype; into ``out`` if it is given, which may be ``logits`` itself."""
    grads = _counted(grads, labels, ignore_index)
    if out is None:
        out = torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)
    total = first + logits.shape[-1] if total is None else total
    sets = Sets(allowed, max(0, min(logits.shape[-1], total - first)), first, total)
    terms = _Terms(saved, grads, mask)
    if not grads or not sets.width:
        return out.zero_()
    tokens = _spikes(labels, saved, ids, grads)
    top, offset = reference(saved["shift"], saved["log2_l"], inv_temperature)
    # Nothing but the result itself, if that has the dtype of the arithmetic.
    direct = allowed is None and out.dtype == dtype_of(logits)
    first_room = None if direct else scratch(logits)
    rooms = [scratch(logits) for _ in range(terms.rooms + (softcap is not None))]
    for start, stop, (raw, whole), live in chunks(logits, out, keep=terms.live):
        if not live:
            whole.zero_()
            continue
        at = slice(start, stop)
        whole[:, sets.width :] = 0
        target = whole[:, : sets.width]
        columns = sets.columns(start, stop)
        x = columns.pick(raw[:, : sets.width])
        spots = [(columns.find(index[at, None]), g[at, None]) for index, g in tokens]
        possible = [(i, g.where(there & (x.gather(1, i) != -torch.inf), 0)) for (i, there), g in spots]
        z = target if first_room is None else shaped(first_room, x)
        more = [shaped(room, x) for room in rooms]
        inverse = part(inv_temperature, start, stop)
        source = capped(x, softcap, z)
        slope = None if softcap is None else _slope(source, softcap, more.pop())
        torch.sub(source, top[at, None], out=z)
        scale(z, inverse)
        z.add_(offset[at, None])
        terms.polynomial(z, at, sets.sizes(start, stop) if "mean_logprob" in grads else 0, *more)
        for index, spike in possible:
            z.scatter_add_(1, index, spike.to(z.dtype))
        scale(z, inverse)
        if slope is not None:
            z.mul_(slope)
        terms.silence(z, at)
        if not direct:
            columns.scatter(z, target)
    return out


def _counted(
    grads: dict[str, torch.Tensor], labels: torch.Tensor | None, ignore_index: int | None
) -> dict[str, torch.Tensor]:
    """The gradients without those of ignored labels."""
    if "logprob" not in grads or labels is None or ignore_index is None:
        return grads
    return grads | {"logprob": grads["logprob"].masked_fill(labels == ignore_index, 0)}


def _slope(capped_logits: torch.Tensor, softcap: float, room: torch.Tensor) -> torch.Tensor:
    """``1 - (x_capped / softcap)^2``; 0 for infinite logits."""
    ratio = torch.div(capped_logits, softcap, out=room).clamp_(-1, 1)
    return ratio.square_().neg_().add_(1)


def _spikes(
    labels: torch.Tensor | None,
    saved: dict[str, torch.Tensor],
    ids: torch.Tensor | None,
    grads: dict[str, torch.Tensor],
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Tokens with a gradient of their own and what it is, ``[N]`` each, in a fixed order."""
    out = []
    if "logprob" in grads and labels is not None:
        out.append((labels, grads["logprob"]))
    if "p_max" in grads:
        out.append((saved["argmax"], grads["p_max"] * saved["p_max"]))
    if "gathered" in grads and ids is not None:
        out += zip(ids.unbind(1), grads["gathered"].unbind(1), strict=True)
    return out


class _Terms:
    """The coefficients of the polynomial, one a row each, and which rows a gradient reaches."""

    def __init__(
        self,
        saved: dict[str, torch.Tensor],
        grads: dict[str, torch.Tensor],
        mask: torch.Tensor | None,
    ) -> None:
        live = torch.zeros_like(saved["shift"], dtype=torch.bool)
        wide = torch.zeros_like(saved["shift"], dtype=torch.float64)
        a, b, c, d, e = wide, wide, wide, wide, wide
        for name, incoming in grads.items():
            g = incoming.double()
            live |= (g != 0) if g.dim() == 1 else (g != 0).any(1)
            if name == "logprob":
                a = a - g
            elif name == "gathered":
                a = a - g.sum(1)
            elif name == "lse":
                a = a + g
            elif name == "entropy":
                a, b = a - g * saved["entropy"].double(), b - g
            elif name == "sum_p_squared":
                a, c = a - 2 * g * saved[name].double(), c + 2 * g
            elif name == "var_logprob":
                entropy = saved["entropy"].double()
                a = a + g * (entropy * (entropy + 2) - saved[name].double())
                b, d = b + 2 * g * (entropy + 1), d + g
            elif name == "p_max":
                a = a - g * saved[name].double()
            elif name == "mean_logprob":
                a, e = a - g, e + g
        self.live = live if mask is None else live & mask
        self.a, self.b, self.c, self.d, self.e = (x.to(saved["shift"].dtype) for x in (a, b, c, d, e))
        self.linear = bool({"entropy", "var_logprob"} & set(grads))
        self.square, self.quadratic = "sum_p_squared" in grads, "var_logprob" in grads
        self.mean = "mean_logprob" in grads

    @property
    def rooms(self) -> int:
        """How many scratches :meth:`polynomial` takes: none for ``a p`` alone."""
        return int(self.linear or self.square) + int(self.quadratic)

    def polynomial(self, z: torch.Tensor, at: slice, count: torch.Tensor | int, *rooms: torch.Tensor) -> None:
        """``z``, which is ``log p``, becomes ``p (a + b log p + c p + d (log p)^2) + e``."""
        impossible = z == -torch.inf if self.mean else None
        a = self.a[at, None]
        if not rooms:
            z.exp_().mul_(a)
        else:
            p = torch.exp(z, out=rooms[0])
            if self.linear:
                z.clamp_(min=LOWEST)
                if self.quadratic:
                    z.mul_(torch.mul(z, self.d[at, None], out=rooms[1]).add_(self.b[at, None]))
                else:
                    z.mul_(self.b[at, None])
            else:
                z.zero_()
            if self.square:
                z.addcmul_(p, self.c[at, None])
            z.add_(a).mul_(p)
        if impossible is not None:
            e = self.e[at] / count
            z.add_(e[:, None]).masked_fill_(impossible, 0)

    def silence(self, z: torch.Tensor, at: slice) -> None:
        """Rows that no gradient reaches become exactly 0, whatever their logits."""
        # On a CPU a look costs less than a pass; on a device it would wait.
        if z.device.type != "cpu" or not self.live[at].all():
            z.masked_fill_(~self.live[at, None], 0)

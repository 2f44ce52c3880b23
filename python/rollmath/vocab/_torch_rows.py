r"""The reductions in plain torch, any device and any strides: rows in chunks, bounded memory.

With ``z = x / T``, ``m = max z``, ``d = z - m``, ``e = exp(d)`` and ``l = sum e``::

    log p_j = d_j - log l        H = log l - sum(e d) / l        p_max = 1 / l
    lse = m + log l              S = sum(e^2) / l^2              Var = sum(e (d - sum(e d) / l)^2) / l

The shift by ``m`` stays apart from ``log l``, and ``d`` is ``(x - max x) / T``, so that an offset of all logits costs
no digits. What is one number a row is computed in float64. The kernels of ``rollmath.kernels`` have the same signatures
and keep the same two numbers of each row for the gradient, in powers of two: ``shift = c``, which is ``max(x) k``
rounded, with ``k = log2(e) / T``, and ``log2_l``, the logarithm of ``sum 2^(x k - c)``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from rollmath.vocab._chunks import Chunk, chunks, dtype_of, part, row_norm, row_sum, rows_of, scratch, shaped
from rollmath.vocab._torch_backward import backward
from rollmath.vocab._torch_merge import NAMES, PARTIALS, Stats, finish, merge, needed
from rollmath.vocab._torch_sets import Columns, Sets
from rollmath.vocab._torch_shift import LOG2E, LOWEST, capped, log2_shift, per_row, scale

__all__ = ["NAMES", "PARTIALS", "backward", "forward", "merge", "partials"]


@torch.no_grad()
def forward(
    logits: torch.Tensor,
    labels: torch.Tensor | None,
    *,
    outputs: Sequence[str],
    inv_temperature: float | torch.Tensor,
    softcap: float | None = None,
    mask: torch.Tensor | None = None,
    ignore_index: int | None = None,
    ids: torch.Tensor | None = None,
    allowed: tuple[torch.Tensor, torch.Tensor] | None = None,
    first: int = 0,
    total: int | None = None,
) -> Stats:
    """The ``outputs`` of each row, ``[N]`` each, and what :func:`backward` needs besides."""
    total = first + logits.shape[-1] if total is None else total
    names, dtype = needed(outputs), dtype_of(logits)
    reduce = _Reduction(logits, names, inv_temperature, softcap)
    out = _empty(logits, names, ids, mask)
    for chunk, columns, x in _parts(logits, mask, allowed, first, total):
        found = reduce(chunk, columns, x, labels, ids)
        for name, value in _values(found, part(inv_temperature, chunk.start, chunk.stop), names, dtype).items():
            out[name][chunk.at] = value
    return finish(out, labels, mask, ignore_index, ids, total)


@torch.no_grad()
def partials(
    logits: torch.Tensor,
    labels: torch.Tensor | None,
    *,
    outputs: Sequence[str],
    inv_temperature: float | torch.Tensor,
    softcap: float | None = None,
    mask: torch.Tensor | None = None,
    ignore_index: int | None = None,  # noqa: ARG001 (the signature is that of the kernels)
    ids: torch.Tensor | None = None,
    allowed: tuple[torch.Tensor, torch.Tensor] | None = None,
    first: int = 0,
    total: int | None = None,
) -> torch.Tensor:
    """What merges over parts of the vocabulary: ``[N, len(PARTIALS) + K]``."""
    total = first + logits.shape[-1] if total is None else total
    reduce = _Reduction(logits, needed(outputs), inv_temperature, softcap)
    k = 0 if ids is None else ids.shape[1]
    shape = (rows_of(logits), len(PARTIALS) + k)
    out = torch.zeros(shape, dtype=dtype_of(logits), device=logits.device)
    for chunk, columns, x in _parts(logits, mask, allowed, first, total):
        found = reduce(chunk, columns, x, labels, ids)
        for name, value in _log2_parts(found, part(inv_temperature, chunk.start, chunk.stop), out.dtype).items():
            if name == "gathered":
                out[chunk.at, len(PARTIALS) :] = value
            else:
                out[chunk.at, PARTIALS.index(name)] = value.to(out.dtype)
    return out


def _parts(
    logits: torch.Tensor,
    mask: torch.Tensor | None,
    allowed: tuple[torch.Tensor, torch.Tensor] | None,
    first: int,
    total: int,
) -> Iterator[tuple[Chunk, Columns, torch.Tensor]]:
    """The live rows chunk by chunk, with their columns: at least one, -inf if there is none."""
    sets = Sets(allowed, max(0, min(logits.shape[-1], total - first)), first, total)
    for chunk in chunks(logits, keep=mask):
        if chunk.live:
            columns = sets.columns(chunk.start, chunk.stop)
            x = columns.pick(chunk.parts[0][:, : sets.width])
            yield chunk, columns, x if x.shape[1] else x.new_full((x.shape[0], 1), -torch.inf)


def _empty(
    logits: torch.Tensor, names: tuple[str, ...], ids: torch.Tensor | None, mask: torch.Tensor | None
) -> dict[str, torch.Tensor]:
    rows, make = rows_of(logits), torch.empty if mask is None else torch.zeros
    out = {}
    for name in ("shift", "log2_l", *names):
        dtype = torch.int64 if name == "argmax" else dtype_of(logits)
        shape = (rows, ids.shape[1]) if name == "gathered" and ids is not None else (rows,)
        out[name] = make(shape, dtype=dtype, device=logits.device)
    return out


class _Reduction:
    """One pass over the rows of a chunk; float64 numbers a row come out, natural logarithms."""

    def __init__(
        self,
        logits: torch.Tensor,
        names: tuple[str, ...],
        inverse: float | torch.Tensor,
        softcap: float | None,
    ) -> None:
        self.names, self.inverse, self.softcap = names, inverse, softcap
        self.moments = "entropy" in names
        self.room = scratch(logits)
        self.second = scratch(logits) if self.moments else None

    def __call__(
        self, chunk: Chunk, columns: Columns, x: torch.Tensor, labels: torch.Tensor | None, ids: torch.Tensor | None
    ) -> Stats:
        inverse = part(self.inverse, chunk.start, chunk.stop)
        z = shaped(self.room, x)
        source = capped(x, self.softcap, z)
        found: Stats = {}
        if "argmax" in self.names:
            peak, column = torch.max(source, dim=1)
            found["argmax"] = columns.token(column)
        else:
            peak = source.amax(1)
        # A row of nothing but -inf is shifted by 0: its logarithms become -inf, its quotients NaN.
        top = peak.masked_fill(peak == -torch.inf, 0)
        found["peak"], found["top"] = peak.double(), top.double()
        wanted = {"label": labels, "gathered": ids}
        for name, tokens in wanted.items():
            if tokens is not None:
                found[name] = self._at(tokens[chunk.at], columns, source, found["top"], inverse)
        torch.sub(source, top[:, None], out=z)
        scale(z, inverse)
        self._sums(z, columns, found)
        return found

    @staticmethod
    def _at(
        tokens: torch.Tensor,
        columns: Columns,
        source: torch.Tensor,
        top: torch.Tensor,
        inverse: float | torch.Tensor,
    ) -> torch.Tensor:
        """``d`` of some tokens, -inf for those that have no column."""
        two = tokens if tokens.dim() == 2 else tokens[:, None]
        at, there = columns.find(two)
        d = source.gather(1, at).double() - top[:, None]
        d.mul_(inverse[:, None] if isinstance(inverse, torch.Tensor) else inverse).masked_fill_(~there, -torch.inf)
        return d if tokens.dim() == 2 else d[:, 0]

    def _sums(self, z: torch.Tensor, columns: Columns, found: Stats) -> None:
        """The sums over the columns; uses up ``z``, which is ``d``."""
        if "mean_logprob" in self.names:
            whole = z if columns.dead is None else z.masked_fill(columns.dead, 0)
            found["sum"] = row_sum(whole).double()
            found["count"] = torch.as_tensor(columns.count(), device=z.device).expand(z.shape[0]).double()
        weight = z.exp_() if self.second is None else torch.exp(z, out=shaped(self.second, z))
        found["l"] = row_sum(weight).double()
        if "sum_p_squared" in self.names:
            found["norm"] = row_norm(weight).double()
        if not self.moments:
            return
        # A logit of -inf has weight 0, and a finite stand-in makes 0 * log 0 the 0 that it stands for.
        found["w"] = row_sum(weight.mul_(z.clamp_(min=LOWEST))).double()
        if "var_logprob" not in self.names:
            return
        mean = (found["w"] / found["l"]).masked_fill_(found["l"] == 0, 0).to(z.dtype)
        z.sub_(mean[:, None])
        # The weights again, relative to the mean: at most V each.
        squares = row_sum(torch.exp(z, out=weight).mul_(z).mul_(z)).double()
        found["v"] = squares * mean.double().exp()


def _values(found: Stats, inverse: float | torch.Tensor, names: tuple[str, ...], dtype: torch.dtype) -> Stats:
    """What :func:`forward` returns, of one chunk, in float64."""
    total = found["l"]
    log_l = total.log()
    shift, rest = log2_shift(found["peak"], inverse, dtype)
    made = {"shift": shift, "log2_l": log_l * LOG2E + rest}
    for name in names:
        if name == "logprob":
            made[name] = found["label"] - log_l
        elif name == "gathered":
            made[name] = found["gathered"] - log_l[:, None]
        elif name == "entropy":
            made[name] = log_l - found["w"] / total
        elif name == "lse":
            made[name] = found["top"] * per_row(inverse) + log_l
        elif name == "sum_p_squared":
            made[name] = (found["norm"] / total).square()
        elif name == "var_logprob":
            made[name] = found["v"] / total
        elif name == "p_max":
            made[name] = total.reciprocal().masked_fill(total == 0, torch.nan)
        elif name == "mean_logprob":
            made[name] = found["sum"] / found["count"] - log_l
        else:
            made[name] = found[name]
    return made


def _log2_parts(found: Stats, inverse: float | torch.Tensor, dtype: torch.dtype) -> Stats:
    """The columns of :func:`partials`, of one chunk: base 2, relative to the rounded shift."""
    shift, rest = log2_shift(found["peak"], inverse, dtype)
    power, total, zero = rest.exp2(), found["l"], torch.zeros_like(rest)
    w = found.get("w", zero) * LOG2E
    made = {
        "shift": shift,
        "l": total * power,
        "w": (w + total * rest) * power,
        "s2": (found.get("norm", zero) * power).square(),
        "v": found.get("v", zero) * LOG2E**2 * power,
        "argmax": found.get("argmax", zero),
        "top": rest,
        "count": found.get("count", zero),
    }
    made["sum"] = found.get("sum", zero) * LOG2E + made["count"] * rest
    made["label"] = found["label"] * LOG2E + rest if "label" in found else zero - torch.inf
    if "gathered" in found:
        made["gathered"] = found["gathered"] * LOG2E + rest[:, None]
    return made

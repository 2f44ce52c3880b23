"""Statistics of the rows of ``x @ w.T`` without the rows: library products on chunks, reductions of each chunk."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from types import ModuleType
from typing import Any

import torch

from rollmath._autograd import first_order_only
from rollmath.vocab._linear_matmul import add_product, has_wide_products, product, wide
from rollmath.vocab._linear_plan import Plan, parts
from rollmath.vocab._linear_shard import add_over_ranks
from rollmath.vocab._together import gather


@dataclass(frozen=True)
class Job:
    """What :class:`LinearRows` computes, beside its factors. Everything by row is of the kept rows alone."""

    backend: ModuleType
    plan: Plan
    #: Rows of the factors and of the results, and which of them are kept: None for all.
    rows: int
    kept: torch.Tensor | None
    outputs: tuple[str, ...]
    labels: torch.Tensor | None
    ids: torch.Tensor | None
    mask: torch.Tensor | None
    inv_temperature: float | torch.Tensor
    softcap: float | None
    ignore_index: int | None
    #: Token of the first column, columns that are tokens, and tokens of the whole vocabulary.
    first: int
    columns: int
    total: int
    #: The process group of a sharded vocabulary, whether there is one, and the chunks of columns of each rank.
    group: Any
    sharded: bool
    chunks: int
    #: What factors are multiplied in, and what their products are rounded to.
    factor_dtype: torch.dtype
    logits_dtype: torch.dtype

    def columns_of(self) -> list[slice]:
        """The columns of each chunk. All ranks of a sharded vocabulary have as many chunks, some of them empty."""
        if not self.sharded:
            return parts(self.columns, self.plan.columns)
        edges = [min(i * self.plan.columns, self.columns) for i in range(self.chunks + 1)]
        return [slice(a, b) for a, b in pairwise(edges)]

    def labels_of(self, at: slice) -> torch.Tensor | None:
        """The labels of some rows."""
        return None if self.labels is None else self.labels[at]

    def of_rows(self, at: slice) -> dict[str, Any]:
        """The options of some rows, as a backend takes them."""

        def cut(x: Any) -> Any:
            return x[at] if isinstance(x, torch.Tensor) else x

        return {
            "inv_temperature": cut(self.inv_temperature),
            "softcap": self.softcap,
            "mask": cut(self.mask),
            "ignore_index": self.ignore_index,
            "ids": cut(self.ids),
        }


class LinearRows(torch.autograd.Function):
    """``apply(job, bias, x0, w0, x1, w1, ...)``: one ``[rows]`` tensor for each output of ``sum_i x_i @ w_i.T + bias``.

    ``x_i`` is ``[rows, r_i]`` and ``w_i`` is ``[V, r_i]``. Saved are these, as they are, and a few numbers a row.
    """

    @staticmethod
    def forward(ctx: Any, job: Job, bias: torch.Tensor | None, *factors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """All rows, chunk by chunk."""
        with _without_autocast(factors[0].device):
            stats = _forward(job, bias, factors)
        ctx.set_materialize_grads(False)
        # Copies, so that a caller who changes results in place changes nothing that backward needs.
        made = tuple(_spread(stats[name], job, copy=True) for name in job.outputs)
        for name, result in zip(job.outputs, made, strict=True):
            if name == "argmax":
                ctx.mark_non_differentiable(result)
        ctx.names, ctx.count = tuple(stats), len(factors)
        # Tensors of the job are saved as tensors, so that a change in between is noticed.
        per_row = [job.labels, job.ids, job.mask, job.kept, job.inv_temperature]
        tensors = [x if isinstance(x, torch.Tensor) else None for x in per_row]
        ctx.job = replace(
            job,
            labels=None,
            ids=None,
            mask=None,
            kept=None,
            inv_temperature=1.0 if tensors[4] is not None else job.inv_temperature,
        )
        ctx.save_for_backward(bias, *factors, *tensors, *stats.values())
        return made

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        """Products again, turned in place into gradients of their rows, and multiplied with the factors."""
        first_order_only("rollmath.vocab.linear_row_stats")
        bias, *tensors = ctx.saved_tensors
        factors, (labels, ids, mask, kept, per_row) = tensors[: ctx.count], tensors[ctx.count : ctx.count + 5]
        stats = dict(zip(ctx.names, tensors[ctx.count + 5 :], strict=True))
        job = replace(ctx.job, labels=labels, ids=ids, mask=mask, kept=kept)
        if per_row is not None:
            job = replace(job, inv_temperature=per_row)
        given = {
            name: g if kept is None else g.index_select(0, kept)
            for name, g in zip(job.outputs, grads, strict=True)
            if g is not None
        }
        if not given:
            return (None,) * (2 + len(factors))
        with _without_autocast(factors[0].device):
            found: tuple[torch.Tensor | None, ...] = _backward(
                job, bias, factors, stats, given, ctx.needs_input_grad[1:]
            )
        return None, *found


def _without_autocast(device: torch.device) -> Any:
    """Autocast would choose other dtypes than the ones that are chosen here."""
    return torch.autocast(device.type, enabled=False)


def _spread(x: torch.Tensor, job: Job, *, copy: bool = False) -> torch.Tensor:
    """Numbers of the kept rows as numbers of all rows, 0 for the others."""
    if job.kept is None:
        return x.clone() if copy else x
    return x.new_zeros((job.rows, *x.shape[1:])).index_copy_(0, job.kept, x)


class _Factors:
    """The factors as they are multiplied: kept rows alone, and columns by the chunk."""

    def __init__(
        self, job: Job, bias: torch.Tensor | None, factors: tuple[torch.Tensor, ...] | list[torch.Tensor]
    ) -> None:
        self.job, self.bias = job, bias
        xs = [x if job.kept is None else x.index_select(0, job.kept) for x in factors[::2]]
        if job.mask is not None:
            # Their gradient is 0, but 0 times what may be NaN is not.
            xs = [x.masked_fill(~job.mask[:, None], 0) for x in xs]
        self.rows = xs[0].shape[0]
        # The first pair is multiplied in the dtype of the job; small further ones in their own.
        self.xs = [xs[0].to(job.factor_dtype), *xs[1:]]
        self.ws = list(factors[1::2])
        self.cast: tuple[slice, torch.Tensor] | None = None
        self.device = xs[0].device
        plan = job.plan
        self.buffer = torch.empty(
            min(plan.rows, self.rows) * _stride(min(plan.columns, job.columns), job.logits_dtype),
            dtype=job.logits_dtype,
            device=self.device,
        )

    def weight(self, number: int, columns: slice) -> torch.Tensor:
        w = self.ws[number][columns]
        if number or w.dtype == self.job.factor_dtype:
            return w
        if self.cast is None or self.cast[0] != columns:
            self.cast = None  # frees the last one before there is another
            self.cast = columns, w.to(self.job.factor_dtype)
        return self.cast[1]

    def close(self) -> None:
        """Gives the memory of a chunk back."""
        self.cast = None
        del self.buffer

    def view(self, buffer: torch.Tensor, rows: slice, columns: slice) -> torch.Tensor:
        """A chunk in a buffer that all chunks share; its rows start at aligned addresses."""
        n, v = rows.stop - rows.start, columns.stop - columns.start
        stride = _stride(v, buffer.dtype)
        return buffer[: n * stride].view(n, stride)[:, :v]

    def logits(self, rows: slice, columns: slice) -> torch.Tensor:
        out = self.view(self.buffer, rows, columns)
        x, w = self.xs[0][rows], self.weight(0, columns).T
        if self.bias is not None and x.dtype == out.dtype and len(self.xs) == 1:
            return torch.addmm(self.bias[columns].to(x.dtype), x, w, out=out)
        product(x, w, out)
        for number in range(1, len(self.xs)):
            add_product(out, self.xs[number][rows], self.ws[number][columns].T)
        return out if self.bias is None else out.add_(self.bias[columns])


def _stride(columns: int, dtype: torch.dtype) -> int:
    step = 16 // dtype.itemsize
    return -(-columns // step) * step


def _forward(job: Job, bias: torch.Tensor | None, factors: tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
    all_of = _Factors(job, bias, factors)
    rows, columns = parts(all_of.rows, job.plan.rows), job.columns_of()
    if not rows:
        return _empty(job, all_of)
    whole = {"outputs": job.outputs, "total": job.total}
    if len(columns) == 1 and not job.sharded:
        made = [
            job.backend.forward(all_of.logits(at, columns[0]), job.labels_of(at), first=0, **whole, **job.of_rows(at))
            for at in rows
        ]
        return made[0] if len(made) == 1 else {name: torch.cat([part[name] for part in made]) for name in made[0]}
    found = [_partials(job, all_of, at, part) for part in columns for at in rows]
    stacked = torch.cat(found).view(len(columns), all_of.rows, -1)
    if job.sharded:
        stacked = gather(stacked, job.group)
    options = {"mask": job.mask, "ignore_index": job.ignore_index, "ids": job.ids}
    merged: dict[str, torch.Tensor] = job.backend.merge(stacked, job.labels, **whole, **options)
    return merged


def _partials(job: Job, all_of: _Factors, at: slice, columns: slice) -> torch.Tensor:
    first = job.first + columns.start
    if columns.start < columns.stop:
        logits = all_of.logits(at, columns)
    else:
        # What a rank without tokens has: a column beyond the last token, which is not read.
        logits, first = all_of.buffer.new_full((at.stop - at.start, 1), -torch.inf), job.total
    made: torch.Tensor = job.backend.partials(
        logits, job.labels_of(at), outputs=job.outputs, first=first, total=job.total, **job.of_rows(at)
    )
    return made


def _empty(job: Job, all_of: _Factors) -> dict[str, torch.Tensor]:
    """What no rows have."""
    made = {name: all_of.buffer.new_zeros(0, dtype=wide(job.logits_dtype)) for name in job.outputs}
    if "argmax" in made:
        made["argmax"] = made["argmax"].long()
    if "gathered" in made and job.ids is not None:
        made["gathered"] = made["gathered"].view(0, job.ids.shape[1])
    return made


def _backward(
    job: Job,
    bias: torch.Tensor | None,
    factors: list[torch.Tensor],
    stats: dict[str, torch.Tensor],
    given: dict[str, torch.Tensor],
    needed: tuple[bool, ...],
) -> tuple[torch.Tensor | None, ...]:
    all_of = _Factors(job, bias, factors)
    sums = _Sums(job, all_of, factors, needed[1:], bias if needed[0] else None)
    rows = parts(all_of.rows, job.plan.rows)
    for columns in job.columns_of():
        if columns.start == columns.stop:
            continue
        for at in rows:
            sums.add(_gradient(job, all_of, stats, given, at, columns), at, columns)
        sums.close(columns)
    # To round the sums takes room of its own.
    all_of.close()
    return sums.result()


def _gradient(
    job: Job,
    all_of: _Factors,
    stats: dict[str, torch.Tensor],
    given: dict[str, torch.Tensor],
    at: slice,
    columns: slice,
) -> torch.Tensor:
    """That of a chunk of the logits, in their place."""
    chunk = all_of.logits(at, columns)
    made: torch.Tensor = job.backend.backward(
        chunk,
        job.labels_of(at),
        {name: x[at] for name, x in stats.items()},
        {name: g[at] for name, g in given.items()},
        first=job.first + columns.start,
        total=job.total,
        out=chunk,
        **job.of_rows(at),
    )
    return made


class _Sums:
    """The gradients of the factors: of ``w`` and bias by the chunk of columns, of ``x`` over all of them."""

    def __init__(
        self,
        job: Job,
        all_of: _Factors,
        factors: list[torch.Tensor],
        needed: tuple[bool, ...],
        bias: torch.Tensor | None,
    ) -> None:
        self.job, self.all_of, self.factors = job, all_of, factors
        self.xs = [i for i in range(len(all_of.xs)) if needed[2 * i]]
        self.ws = [i for i in range(len(all_of.ws)) if needed[2 * i + 1]]
        self.whole_rows = all_of.rows <= job.plan.rows
        self.whole_columns = job.columns <= job.plan.columns and not job.sharded
        self.dx: dict[int, torch.Tensor] = {}
        self.dw: dict[int, torch.Tensor] = {}
        self.dw_chunk: dict[int, torch.Tensor] = {}
        for i in self.xs:
            dtype = factors[2 * i].dtype if self.whole_columns else wide(factors[2 * i].dtype)
            make = torch.empty if job.columns else torch.zeros
            self.dx[i] = make(all_of.xs[i].shape, dtype=dtype, device=all_of.device)
        for i in self.ws:
            self.dw[i] = torch.empty(all_of.ws[i].shape, dtype=all_of.ws[i].dtype, device=all_of.device)
            if all_of.rows == 0:
                self.dw[i].zero_()
            self.dw[i][job.columns :] = 0
        self.dbias = None
        if bias is not None:
            self.dbias = torch.zeros(bias.shape, dtype=wide(bias.dtype), device=bias.device)
        self.bias_dtype = None if bias is None else bias.dtype
        # Where 16-bit matrices multiply into float32, gradients of wider logits are rounded once, to their dtype; else
        # the other factor is widened, which is exact.
        narrow = has_wide_products(all_of.device, job.factor_dtype)
        self.dtype = job.factor_dtype if narrow else job.logits_dtype

    def add(self, gradient: torch.Tensor, rows: slice, columns: slice) -> None:
        if self.dbias is not None:
            self.dbias[columns] += gradient.sum(0, dtype=self.dbias.dtype)
        exact, gradient = gradient, gradient.to(self.dtype)
        for i in self.xs:
            g = gradient if i == 0 else exact
            into = self.dx[i][rows]
            if columns.start == 0:
                product(g, self.all_of.weight(i, columns), into)
            else:
                add_product(into, g, self.all_of.weight(i, columns))
        for i in self.ws:
            g = (gradient if i == 0 else exact).T
            x = self.all_of.xs[i][rows]
            if self.whole_rows:
                product(g, x, self.dw[i][columns])
            elif rows.start == 0:
                w = self.all_of.ws[i]
                shape = (columns.stop - columns.start, w.shape[1])
                into = torch.empty(shape, dtype=wide(w.dtype), device=w.device)
                self.dw_chunk[i] = product(g, x, into)
            else:
                add_product(self.dw_chunk[i], g, x)

    def close(self, columns: slice) -> None:
        """All rows of some columns are done."""
        for i, chunk in self.dw_chunk.items():
            self.dw[i][columns] = chunk
        self.dw_chunk.clear()

    def result(self) -> tuple[torch.Tensor | None, ...]:
        job = self.job
        if job.sharded:
            for dx in self.dx.values():
                add_over_ranks(dx, job.group)
        made: list[torch.Tensor | None] = [None if self.dbias is None else self.dbias.to(self.bias_dtype)]
        for i in range(len(self.all_of.xs)):
            found = self.dx.get(i)
            made += [None if found is None else _spread(found.to(self.factors[2 * i].dtype), job), self.dw.get(i)]
        return tuple(made)

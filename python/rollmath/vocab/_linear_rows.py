"""From checked arguments to one call of the chunked reductions; what the public function and the module share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar

import torch

from rollmath._arrays import ArrayLike
from rollmath._checks import flag
from rollmath.vocab import _torch_rows
from rollmath.vocab._agree import place
from rollmath.vocab._args import (
    check_gathered,
    check_ignore_index,
    check_inverse,
    check_labels,
    check_mask,
    check_outputs,
    check_softcap,
    check_temperatures,
)
from rollmath.vocab._backend import check_backend, implementation
from rollmath.vocab._linear_args import check_dtypes, check_factors, check_workspace
from rollmath.vocab._linear_autograd import Job, LinearRows
from rollmath.vocab._linear_matmul import has_wide_products
from rollmath.vocab._linear_plan import shard_plan
from rollmath.vocab._linear_shard import local_factors
from rollmath.vocab._row_stats import RowStats
from rollmath.vocab._together import check_shard, together
from rollmath.vocab._torch_merge import NAMES
from rollmath.vocab._values import check_tokens as check_values
from rollmath.vocab._values import must_look

if TYPE_CHECKING:
    from rollmath.vocab._shard import VocabShard

P = ParamSpec("P")
T = TypeVar("T")

#: Bytes of the logits that exist at a time.
WORKSPACE = 256 << 20


def uncompiled(function: Callable[P, T]) -> Callable[P, T]:
    """``function``, which torch.compile leaves as it is."""

    @functools.wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> T:
        if torch.compiler.is_compiling():
            # Not before: it imports the compiler.
            disabled: Callable[P, T] = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
            return disabled(*args, **options)
        return function(*args, **options)

    return call


@uncompiled
def linear_rows(
    who: str, factors: Sequence[torch.Tensor], labels: torch.Tensor | None, *, outputs: Sequence[str], **options: Any
) -> RowStats:
    """As ``linear_row_stats``, of ``hidden`` and ``weight`` and further pairs ``[N, r]``, ``[V, r]`` in ``factors``.

    ``scale`` multiplies the logits before soft-cap and temperature. ``torch.compile`` leaves the call to eager mode.
    """
    call: Any = _linear_rows
    if torch.compiler.is_compiling():
        call = torch.compiler.disable(_linear_rows)  # type: ignore[no-untyped-call]
    made: RowStats = call(who, factors, labels, outputs=outputs, **options)
    return made


def _linear_rows(
    who: str,
    factors: Sequence[torch.Tensor],
    labels: torch.Tensor | None,
    *,
    outputs: Sequence[str],
    bias: torch.Tensor | None = None,
    temperature: ArrayLike = 1.0,
    softcap: float | None = None,
    scale: float = 1.0,
    mask: torch.Tensor | None = None,
    ignore_index: int | None = None,
    ids: torch.Tensor | None = None,
    shard: VocabShard | None = None,
    logits_dtype: torch.dtype | str | None = None,
    workspace: int = WORKSPACE,
    check: bool | None = None,
    backend: str = "auto",
) -> RowStats:
    (hidden, weight, *more), bias, shard = local_factors(who, factors, bias, shard)
    device = hidden.device if isinstance(hidden, torch.Tensor) else torch.device("cpu")
    look = must_look(None if check is None else flag(who, "check", check), device)

    def prepare() -> Job:
        """All that may be wrong."""
        check_factors(who, hidden, weight, bias)
        names = check_outputs(who, outputs, NAMES, labels, ids)
        product_in, logits_in = check_dtypes(who, hidden, weight, bias, logits_dtype)
        # The shape, dtype and device of the logits, without them.
        like = hidden.new_empty((), dtype=logits_in).expand(*hidden.shape[:-1], weight.shape[0])
        check_backend(who, backend, like)
        number, per_row = check_inverse(who, temperature, hidden, "hidden")
        inverse = number if per_row is None else per_row
        cap, ignored = check_softcap(who, softcap), check_ignore_index(who, ignore_index)
        given = {
            "labels": None if labels is None else check_labels(who, labels, hidden, "hidden"),
            "ids": None if ids is None else check_gathered(who, ids, hidden, "hidden"),
        }
        keep = None if mask is None else check_mask(who, mask, hidden, "hidden", anywhere=True)
        place_in = _columns(shard, weight.shape[0])
        if look:
            check_temperatures(who, temperature)
            beside = None if keep is None else keep.to(hidden.device)
            check_values(who, given["labels"], given["ids"], beside, ignored, place_in.total)
        logit_bytes = _bytes(hidden, product_in, logits_in, more)
        room = check_workspace(who, workspace, place_in.even, logit_bytes)
        kept, keep = known_rows(keep, given["labels"], ignored, names)
        index = None if kept is None else kept.to(hidden.device, non_blocking=True)
        rows = hidden.shape[:-1].numel()
        plan, chunks = shard_plan(
            rows if index is None else len(index), place_in.even, place_in.columns, logit_bytes, room
        )
        module = implementation(backend, like)
        if isinstance(inverse, torch.Tensor) and module is not _torch_rows:
            inverse = inverse.to(torch.float32)

        def pick(x: Any) -> Any:
            return x.index_select(0, index) if index is not None and isinstance(x, torch.Tensor) else x

        return Job(
            backend=module,
            plan=plan,
            chunks=chunks,
            rows=rows,
            kept=index,
            outputs=names,
            labels=pick(given["labels"]) if "logprob" in names else None,
            ids=pick(given["ids"]),
            mask=pick(keep),
            # c tanh(s x / c) is s c' tanh(x / c') with c' = c / s.
            inv_temperature=pick(inverse * scale),
            softcap=None if cap is None else cap / scale,
            ignore_index=ignored if "logprob" in names else None,
            first=place_in.first,
            columns=place_in.columns,
            total=place_in.total,
            group=None if shard is None else shard.group,
            sharded=shard is not None,
            factor_dtype=product_in,
            logits_dtype=logits_in,
        )

    if shard is not None:
        check_shard(who, shard, "hidden", device)
    job = prepare() if shard is None or not look else together(who, shard, weight.shape[0], prepare, _same)
    flat = [x if i % 2 else x.reshape(job.rows, x.shape[-1]) for i, x in enumerate((hidden, weight, *more))]
    made = dict(zip(job.outputs, LinearRows.apply(job, bias, *flat), strict=True))
    return RowStats(*(_shaped(made[n], hidden.shape[:-1]) if n in made else None for n in RowStats._fields))


class _Columns(NamedTuple):
    """The tokens of this rank, those of all, and how many each would have if they were spread evenly."""

    first: int
    columns: int
    total: int
    even: int


def _columns(shard: VocabShard | None, vocab: int) -> _Columns:
    if shard is None:
        return _Columns(0, vocab, vocab, vocab)
    ranks, _ = place(shard.group)
    return _Columns(shard.first, shard.local(vocab), shard.total, -(-shard.total // ranks))


def _same(job: Job) -> dict[str, Any]:
    """What must be the same on all ranks of a vocabulary."""
    return {
        "hidden": f"{job.rows} rows of {job.factor_dtype}",
        "logits_dtype": job.logits_dtype,
        "outputs": job.outputs,
        "labels": job.labels,
        "ids": job.ids,
        "mask": job.mask if job.kept is None else job.kept,
        "temperature": job.inv_temperature,
        "softcap": job.softcap,
        "ignore_index": job.ignore_index,
        "workspace": job.chunks,
    }


def _shaped(x: torch.Tensor, rows: torch.Size) -> torch.Tensor:
    """With the axes of the rows. No view: ``fully_shard`` warns of modules that return one."""
    shaped: torch.Tensor = torch.ops.aten._unsafe_view(x, [*rows, *x.shape[1:]])
    return shaped


def _bytes(hidden: torch.Tensor, factor: torch.dtype, logits: torch.dtype, more: Sequence[torch.Tensor]) -> int:
    """What an element of a chunk takes, with the copies of its gradient in other dtypes."""
    size = logits.itemsize
    if not has_wide_products(hidden.device, factor):
        return size + (4 if logits == factor else 0)
    if logits != factor:
        size += factor.itemsize
    return size + (4 if any(x.dtype != logits for x in more) else 0)


def known_rows(
    mask: torch.Tensor | None, labels: torch.Tensor | None, ignore_index: int | None, names: tuple[str, ...]
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Numbers of the rows to compute, as far as the host knows them, None for all; and the mask that is left to do."""
    host = mask is not None and mask.device.type == "cpu"
    keep = mask if host else None
    if names == ("logprob",) and ignore_index is not None and labels is not None and labels.device.type == "cpu":
        named = labels != ignore_index
        keep = named if keep is None else keep & named
    left = None if host else mask
    if keep is None or bool(keep.all()):
        return None, left
    return keep.nonzero()[:, 0], left

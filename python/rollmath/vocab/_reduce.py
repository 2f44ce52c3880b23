"""From the arguments of a public function to the statistics: checks, then the backend."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from rollmath._arrays import ArrayLike, describe
from rollmath._checks import flag
from rollmath.vocab._args import (
    check_gathered,
    check_ignore_index,
    check_inverse,
    check_labels,
    check_logits,
    check_mask,
    check_outputs,
    check_softcap,
    check_temperatures,
)
from rollmath.vocab._autograd import Options, Reduce, forward, kept
from rollmath.vocab._backend import check_backend
from rollmath.vocab._chunks import rows_of
from rollmath.vocab._dtensor import Local, is_dtensor, refuse_dtensors
from rollmath.vocab._inputs import Inputs
from rollmath.vocab._op import row_stats_op
from rollmath.vocab._shard import VocabShard
from rollmath.vocab._together import check_shard, together
from rollmath.vocab._token_sets import TokenSets
from rollmath.vocab._torch_merge import NAMES, Stats
from rollmath.vocab._values import check_values, must_look


def reduce(who: str, logits: torch.Tensor, labels: torch.Tensor | None, outputs: Any, **options: Any) -> Stats:
    """The outputs in the shape of the rows. Of DTensor logits, those of this rank, and placed as the labels are."""
    call: Any = _reduce
    if torch.compiler.is_compiling() and (options["shard"] is not None or is_dtensor(logits)):
        # The compiler does not look into process groups.
        call = torch.compiler.disable(_reduce)  # type: ignore[no-untyped-call]
    made: Stats = call(who, logits, labels, outputs, **options)
    return made


def _reduce(
    who: str,
    logits: torch.Tensor,
    labels: torch.Tensor | None,
    outputs: Any,
    *,
    temperature: ArrayLike,
    softcap: float | None,
    mask: torch.Tensor | None,
    ignore_index: int | None,
    ids: torch.Tensor | None,
    allowed: TokenSets | None,
    shard: VocabShard | None,
    check: bool | None,
    inplace_backward: bool,
    backend: str,
) -> Stats:
    local = None
    if is_dtensor(logits):
        if flag(who, "inplace_backward", inplace_backward):
            check_inplace(who, logits)
        local = Local(who, logits, shard)
        logits, shard = local.logits, local.shard
        labels, temperature = local.plain("labels", labels), local.plain("temperature", temperature)
        mask, ids = local.plain("mask", mask), local.plain("ids", ids)
    device = logits.device if isinstance(logits, torch.Tensor) else torch.device("cpu")
    if shard is not None:
        check_shard(who, shard, "logits", device)
    look = must_look(None if check is None else flag(who, "check", check), device)
    given = (who, logits, labels, outputs, temperature, softcap, mask, ignore_index, ids, allowed, shard, backend)
    if torch.compiler.is_compiling():
        inputs, options = _prepare(*given, inplace=inplace_backward, look=0)
        made = _compiled(who, logits, inputs, options, look=look)
    else:
        prepare = partial(_prepare, *given, inplace=inplace_backward, look=look)
        if shard is None or not look:
            inputs, options = prepare()
        else:
            columns = logits.shape[-1] if isinstance(logits, torch.Tensor) and logits.dim() else 0
            inputs, options = together(who, shard, columns, prepare, partial(_same, logits, temperature))
        made = _eager(logits, inputs, options)
    rows = logits.shape[:-1]
    out = {name: x.view(*rows, x.shape[-1]) if name == "gathered" else x.view(rows) for name, x in made.items()}
    return out if local is None else local.back(out)


def _prepare(
    who: str,
    logits: torch.Tensor,
    labels: torch.Tensor | None,
    outputs: Any,
    temperature: ArrayLike,
    softcap: float | None,
    mask: torch.Tensor | None,
    ignore_index: int | None,
    ids: torch.Tensor | None,
    allowed: TokenSets | None,
    shard: VocabShard | None,
    backend: str,
    *,
    inplace: bool,
    look: int,
) -> tuple[Inputs, Options]:
    """All that may be wrong is found here."""
    check_logits(who, logits, 1 if shard is None else 0)
    rows = {"labels": labels, "temperature": temperature, "mask": mask, "ids": ids}
    refuse_dtensors(who, " beside plain 'logits'", ".to_local()", **rows)
    names = check_outputs(who, outputs, NAMES, labels, ids)
    inverse, per_row = check_inverse(who, temperature, logits)
    given = None if labels is None else check_labels(who, labels, logits)
    inputs = Inputs(
        given if "logprob" in names else None,
        per_row,
        None if mask is None else check_mask(who, mask, logits),
        None if ids is None else check_gathered(who, ids, logits),
        *_sets(who, allowed, logits),
    )
    check_backend(who, backend, logits)
    options = Options(
        names,
        inverse,
        check_softcap(who, softcap),
        check_ignore_index(who, ignore_index),
        backend,
        flag(who, "inplace_backward", inplace) and check_inplace(who, logits),
        shard,
    )
    if look:
        check_temperatures(who, temperature)
        check_values(who, inputs, options.ignore_index, logits.shape[-1] if shard is None else shard.total, look)
    return inputs, options


def _same(logits: torch.Tensor, temperature: ArrayLike, made: tuple[Inputs, Options]) -> dict[str, Any]:
    """What must be the same on all ranks of a vocabulary."""
    inputs, options = made
    return {
        "logits.shape[:-1]": tuple(logits.shape[:-1]),
        "logits.dtype": logits.dtype,
        "outputs": options.outputs,
        "labels": inputs.labels,
        "temperature": temperature,
        "softcap": options.softcap,
        "mask": inputs.mask,
        "ignore_index": options.ignore_index,
        "ids": inputs.ids,
        "allowed.ids": inputs.set_ids,
        "allowed.offsets": inputs.set_offsets,
        "backend": options.backend,
    }


def _eager(logits: torch.Tensor, inputs: Inputs, options: Options) -> Stats:
    if logits.requires_grad and torch.is_grad_enabled():
        return dict(zip(options.outputs, Reduce.apply(logits, inputs, options), strict=True))
    stats = forward(logits, inputs, options)
    return {name: stats[name] for name in options.outputs}


def _compiled(who: str, logits: torch.Tensor, inputs: Inputs, options: Options, *, look: int) -> Stats:
    numbers = (options.inv_temperature, options.softcap, options.ignore_index, options.backend)
    made = row_stats_op(logits, *inputs.tensors(), list(options.outputs), *numbers, look, who)
    stats = dict(zip(kept(options.outputs), made, strict=True))
    return {name: stats[name] for name in options.outputs}


def check_inplace(who: str, logits: torch.Tensor) -> bool:
    """Raises if the gradient cannot be written into the logits; False where there will be none."""
    why = None
    if torch.compiler.is_compiling():
        why = "torch.compile does not let a backward pass write to what the forward pass saved"
    elif not logits.requires_grad or not torch.is_grad_enabled():
        return False
    elif logits.is_leaf:
        why = "the logits are a leaf, whose values you would find overwritten by their own gradient"
    elif logits._base is not None and logits._base.is_leaf and logits._base.requires_grad:
        why = "the logits are a view of a leaf, whose values you would find overwritten by its own gradient"
    elif _overlaps(logits):
        why = "several of the logits share one place in memory, as in an expanded tensor"
    if why is not None:
        msg = f"{who}(): 'inplace_backward' must be False here, because {why}"
        raise ValueError(msg)
    return True


def _overlaps(x: torch.Tensor) -> bool:
    """Whether elements may share a place in memory."""
    reach = 0
    for stride, size in sorted(zip(x.stride(), x.shape, strict=True)):
        if size > 1:
            if stride <= reach:
                return True
            reach += stride * (size - 1)
    return False


def _sets(
    who: str, allowed: TokenSets | None, logits: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor] | tuple[None, None]:
    if allowed is None:
        return None, None
    if not isinstance(allowed, TokenSets):
        msg = f"{who}(): 'allowed' must be vocab.TokenSets, got {describe(allowed)}; use TokenSets.of_mask or .of_lists"
        raise TypeError(msg)
    rows = rows_of(logits)
    if len(allowed) != rows:
        msg = f"{who}(): 'allowed' must have {rows} sets (= rows of logits), got {len(allowed)}"
        raise ValueError(msg)
    if allowed.ids.device != logits.device:
        msg = f"{who}(): 'allowed' must be on {logits.device} (= logits.device), got {allowed.ids.device}; use .to()"
        raise ValueError(msg)
    return allowed.ids, allowed.offsets

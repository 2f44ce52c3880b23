"""Models that return statistics of their logits where labels for them are given."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from rollmath._arrays import describe
from rollmath.adapters.transformers._lora import check_lora, is_lora, lora_factors
from rollmath.adapters.transformers._request import Request, answer
from rollmath.vocab import RowStats
from rollmath.vocab._linear_rows import WORKSPACE
from rollmath.vocab._lm_head import HeadOptions, RowStatsHead, head_options, is_linear

#: Where configs keep what their models multiply logits by, and what they divide them by.
_FACTORS, _DIVISORS = ("logit_scale", "lm_head_multiplier"), ("logits_scaling",)
_CAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
#: What a call may say.
_OPTIONS = ("outputs", "temperature", "mask", "ignore_index", "ids", "check")


def patch_lm_head(
    model: Any,
    *,
    softcap: float | str | None = "config",
    scale: float | str = "config",
    logits_dtype: torch.dtype | str | None = None,
    workspace: int = WORKSPACE,
    backend: str = "auto",
) -> Any:
    r"""Makes a causal language model return :class:`rollmath.vocab.RowStats` without logits, where it is asked to.

    Afterwards ``model(..., logprob_labels=labels, logprob_options=options)`` returns what it returned, with a RowStats
    in the place of ``logits``: ``out.logits.logprob`` is ``log p_label``. ``labels[b, i]`` is the token whose
    log-probability position ``i`` predicts, so the next one, for the positions that ``logits_to_keep`` leaves;
    ``options`` are keywords of ``linear_row_stats``: ``outputs``, ``temperature``, ``mask``, ``ignore_index``, ``ids``,
    ``check``. Either may be left out. Everywhere else, in ``generate`` too, the model is as before. Its output layer
    has a method ``row_stats(hidden, labels, ...)``.

    Parameters, their names, ties between them and hooks stay as they are: only the classes of the model and of its
    output layer change, to subclasses that :func:`unpatch_lm_head` takes back. Patch before or after
    ``fully_shard``, DDP and ``get_peft_model``; a model that peft wrapped may be given as it is. Models patched like
    this copy, but do not pickle as a whole; their state dicts do.

    Soft-cap and scale of the logits are read from the config (Gemma 2, Cohere, Granite, Falcon-H1, ...). Whether the
    model does just that to its logits is seen whenever it is asked for statistics: the output layer hands it eight
    numbers instead of logits, and what becomes of them must be what the config says. A model that does more raises.

    Args:
        model: a causal language model of transformers, or of peft around one.
        softcap: a number or None in the place of the config.
        scale: a number in the place of the config.
        logits_dtype: as of ``linear_row_stats``.
        workspace: as of ``linear_row_stats``.
        backend: as of ``linear_row_stats``.

    Returns:
        ``model``.

    Raises:
        TypeError: no model with an output layer, or one that is neither ``nn.Linear`` nor LoRA around it; a model that
            accelerate prepared before, whose forward is its own.
        ValueError: a model that is patched already; a soft-cap or a scale that is not positive.
    """
    base = _base("patch_lm_head", model)
    if isinstance(base, _PatchedModel):
        msg = f"patch_lm_head(): 'model' is patched already: {describe(model)}; call unpatch_lm_head() first"
        raise ValueError(msg)
    heads = _heads(base)
    _check_forward("patch_lm_head", "'model'", base)
    for head in heads:
        _check_forward("patch_lm_head", "the output layer of 'model'", head)
        _check_head(head)
    config = base.config.get_text_config() if hasattr(base.config, "get_text_config") else base.config
    cap: Any = _first(config, _CAPS) if softcap == "config" else softcap
    factor: Any = _scale(config) if scale == "config" else scale
    options = head_options("patch_lm_head", cap, factor, logits_dtype, workspace, backend)
    for head in heads:
        head.options_before = getattr(head, "head_options", None)
        head.head_options = options
        _become(head, _PatchedLoRA if is_lora(head) else _PatchedHead)
    _become(base, _PatchedModel)
    return model


def unpatch_lm_head(model: Any) -> Any:
    """Makes a model what it was before :func:`patch_lm_head`.

    Raises:
        ValueError: a model that is not patched, or was wrapped by ``fully_shard`` since.
    """
    base = _base("unpatch_lm_head", model)
    heads = _heads(base)
    for x, kind in ((base, _PatchedModel), *((head, _PatchedHead) for head in heads)):
        _check_forward("unpatch_lm_head", "'model'", x)
        if type(x).__bases__[0] not in {kind, _PatchedLoRA}:
            msg = f"unpatch_lm_head(): 'model' must be as patch_lm_head() left it, got {describe(x)}"
            raise ValueError(msg)
    base.__class__ = type(base).__bases__[1]
    for head in heads:
        head.__class__ = type(head).__bases__[1]
        head.head_options = head.options_before
        if head.head_options is None:
            del head.head_options
        del head.options_before
    return model


class _PatchedHead(RowStatsHead):
    """An output layer that, while its model is asked for statistics, returns numbers in the place of logits."""

    head_options: HeadOptions

    def __call__(self, *args: Any, **options: Any) -> Any:
        return answer(self, super().__call__, args, options)


class _PatchedLoRA(_PatchedHead):
    def head_factors(self, hidden: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor | None]:
        return lora_factors(self, hidden)


class _PatchedModel(nn.Module):
    def forward(
        self,
        *args: Any,
        logprob_labels: torch.Tensor | None = None,
        logprob_options: Mapping[str, Any] | None = None,
        **inputs: Any,
    ) -> Any:
        if logprob_labels is None and logprob_options is None:
            return super().forward(*args, **inputs)
        if inputs.get("labels") is not None:
            msg = "forward(): 'labels' must be None beside 'logprob_labels', since a loss needs logits"
            raise ValueError(msg)
        if inputs.get("return_dict") is False:
            msg = "forward(): 'return_dict' must not be False beside 'logprob_labels'"
            raise ValueError(msg)
        head = _head(self)
        if not isinstance(head, _PatchedHead):
            msg = "forward(): the output layer was replaced after patch_lm_head(); unpatch, and patch the model again"
            raise RuntimeError(msg)
        options = _checked(logprob_labels, logprob_options)
        if logprob_labels is None:
            options.setdefault("outputs", ("entropy",))
        with Request(head, {"labels": logprob_labels, **options}) as request:
            out = super().forward(*args, **inputs)
        stats = request.checked(getattr(out, "logits", None))
        assert isinstance(stats, RowStats)
        out["logits"] = stats
        return out


def _become(module: Any, kind: Any) -> None:
    cls: Any = type(module)
    module.__class__ = _subclass(cls, kind)


def _checked(labels: Any, options: Any) -> dict[str, Any]:
    """The options, by names that there are."""
    if labels is not None and not isinstance(labels, torch.Tensor):
        msg = f"forward(): 'logprob_labels' must be an integer tensor, got {describe(labels)}"
        raise TypeError(msg)
    if not isinstance(options, (Mapping, type(None))):
        msg = f"forward(): 'logprob_options' must be a dict of options, got {describe(options)}"
        raise TypeError(msg)
    known = dict(options or {})
    for name in known:
        if name not in _OPTIONS:
            msg = f"forward(): 'logprob_options' must have no keys but {', '.join(map(repr, _OPTIONS))}, got {name!r}"
            raise ValueError(msg)
    return known


@functools.cache
def _subclass(cls: Any, kind: Any) -> type:
    """``cls`` with the methods of ``kind`` first, under its own name, which transformers writes into configs."""
    made = type(cls.__name__, (kind, cls), {"__module__": cls.__module__, "__doc__": cls.__doc__})
    if kind is _PatchedModel:
        made.forward = _signed(kind.forward, cls.forward)  # type: ignore[attr-defined]
    return made


def _signed(function: Any, like: Any) -> Any:
    """``function`` with the signature and the words of ``like`` and its own keywords, for those who look."""

    @functools.wraps(like)
    def forward(self: Any, *args: Any, **inputs: Any) -> Any:
        return function(self, *args, **inputs)

    signature, own = inspect.signature(like), inspect.signature(function).parameters
    named = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    rest = [p for p in signature.parameters.values() if p.kind is p.VAR_KEYWORD]
    more = [own[name] for name in ("logprob_labels", "logprob_options")]
    # Who follows this to take wrappers off, as accelerate does, would take the patch off.
    del forward.__wrapped__
    forward.__signature__ = signature.replace(parameters=[*named, *more, *rest])  # type: ignore[attr-defined]
    return forward


def _base(who: str, model: Any) -> Any:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if not hasattr(base, "get_output_embeddings") or not hasattr(base, "config"):
        msg = f"{who}(): 'model' must be a causal language model of transformers, got {describe(model)}"
        raise TypeError(msg)
    return base


def _heads(base: Any) -> list[Any]:
    """The output layers: several where peft keeps trained copies (modules_to_save) beside the original."""
    head = base.get_output_embeddings()
    return [head.original_module, *head.modules_to_save.values()] if _has_copies(head) else [head]


def _head(base: Any) -> Any:
    """The one that the model calls now."""
    head = base.get_output_embeddings()
    if not _has_copies(head):
        return head
    active = [] if head.disable_adapters else [name for name in head.active_adapters if name in head.modules_to_save]
    return head.modules_to_save[active[0]] if active else head.original_module


def _has_copies(head: Any) -> bool:
    return all(hasattr(head, name) for name in ("modules_to_save", "original_module", "active_adapters"))


def _check_head(head: Any) -> None:
    if is_lora(head):
        check_lora(head)
    elif not is_linear(head):
        msg = (
            f"patch_lm_head(): 'model' must have an nn.Linear as its output layer, or LoRA on one, got {describe(head)}"
        )
        raise TypeError(msg)


def _check_forward(who: str, what: str, module: Any) -> None:
    """A forward of the instance hides the one of its class, which is what is replaced."""
    own = vars(module).get("forward")
    if own is not None and getattr(own, "__func__", None) is type(module).forward:
        # It is that of its class, as accelerate leaves it when it unwraps a model.
        del module.forward
    elif own is not None:
        msg = (
            f"{who}(): {what} must not have a forward of its own, as accelerate gives it in prepare() and "
            "dispatch_model(); patch before, unpatch after it was taken back"
        )
        raise TypeError(msg)


def _scale(config: Any) -> Any:
    """What logits are multiplied by; what is no number is refused where all scales are."""
    factor, divisor = _first(config, _FACTORS), _first(config, _DIVISORS)
    if divisor is None:
        return 1.0 if factor is None else factor
    return (1.0 if factor is None else factor) / divisor


def _first(config: Any, names: tuple[str, ...]) -> Any:
    return next((x for name in names if (x := getattr(config, name, None)) is not None), None)

"""``check_advantage`` and ``check_loss``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

from rollmath.testing._advantage import AdvantageFunction
from rollmath.testing._registry import (
    CallError,
    Check,
    FailedCheckError,
    NotApplicableError,
    Remark,
    checks,
    names,
    needs_torch,
    selected,
)
from rollmath.testing._report import Report, Result

_LACKS = {
    "groups": "it takes no groups",
    "ids": "its groups are slices by position, without ids",
    "tokens": "it takes one reward a rollout, not tokens",
    "values": "it takes no values",
    "counts": "it takes no counts of the whole step (counts=)",
}


def check_advantage(
    fn: Callable[..., Any],
    *,
    style: Literal["rollouts", "consecutive", "tokens", "values", "verl"] = "rollouts",
    arrays: Literal["numpy", "torch"] | None = None,
    formula: str | None = None,
    mask_dtype: Literal["bool", "int64", "float32"] | None = None,
    options: Mapping[str, Any] | None = None,
    only: Iterable[str] | None = None,
    exclude: Iterable[str] = (),
    allow: Iterable[str] = (),
) -> Report:
    """Checks an advantage function of anyone's: group statistics, ids, padding, gaps, determinism and more.

    Group functions are compared with ``A_i = (r_i - mean(r)) / std(r)`` and the other formulas of
    :mod:`rollmath.conventions`; what has no known formula is checked for what any advantage must do.

    Args:
        fn: the function. Every call gets fresh arrays.
        style: how it is called. ``"rollouts"``: ``fn(rewards [N], groups [N]) -> [N]``, where groups are ids.
            ``"consecutive"``: ``fn(rewards [N], num_generations) -> [N]``, where groups are slices of that many rows.
            ``"tokens"``: ``fn(token_rewards [B, T], mask [B, T], groups [B]) -> [B, T]``. ``"values"``:
            ``fn(token_rewards [B, T], values [B, T], mask [B, T]) -> [B, T]``, or a tuple of that and the returns.
            ``"verl"``: verl's advantage estimators, by the names of their arguments (``token_level_rewards``,
            ``response_mask``, ``index``, ``values`` ...), with torch tensors.
        arrays: what it is given, NumPy arrays (float64) or torch tensors (float32). Default: what it runs with, NumPy
            tried first, unless rewards are annotated as tensors; torch for verl. Beside tensors, ids are a NumPy array
            where it takes one, as in verl, and a tensor otherwise. ``runs`` says what was found.
        formula: what it is meant to compute, a method (``"grpo"``) or one of a framework (``"VERL grpo"``); then any
            other is a failure. Default: any known formula is fine, and the report says which it is.
        mask_dtype: of the masks that it is given; 1 or True is a trained token. Default: what it runs with, bool tried
            first (``x[mask]`` and ``~mask`` run with ints too, and do something else).
        options: keyword arguments of every call, such as ``{"gamma": 1.0, "lam": 0.95}``.
        only: ids of checks to run; default all. ``runs`` always runs.
        exclude: ids of checks to leave out.
        allow: ids of checks that are known to fail; they are reported as ``allowed``.

    Returns:
        A :class:`Report` to print: one line a check, with why it matters where it fails.

    Raises:
        TypeError: ``fn`` is not callable; ids that are not strings.
        ValueError: an unknown style, kind of arrays, dtype or check.

    >>> import numpy as np
    >>> def whole_batch(rewards, groups):
    ...     return (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-6)
    >>> report = check_advantage(whole_batch, only=["group_statistics"])
    >>> print(report)
    Checks of whole_batch: 1 pass, 1 fails
    <BLANKLINE>
    pass     runs              called with NumPy arrays: 16 finite advantages
    fails    group_statistics  these are the numbers of ... with the whole batch as one group: ...
    """
    who = "check_advantage"
    wrapped = AdvantageFunction(
        fn,
        style=style,
        arrays=arrays,
        formula=formula,
        mask_dtype=mask_dtype,
        options=options,
    )
    return _report(who, "advantage", wrapped, wrapped.name, only, exclude, allow)


def check_loss(
    fn: Callable[..., Any],
    *,
    style: Literal["tokens", "rows", "verl"] = "tokens",
    counts: Mapping[str, Literal["tokens", "rows"]] | None = None,
    clip: tuple[float, float] | None = None,
    mask_dtype: Literal["bool", "int64", "float32"] | None = None,
    options: Mapping[str, Any] | None = None,
    only: Iterable[str] | None = None,
    exclude: Iterable[str] = (),
    allow: Iterable[str] = (),
) -> Report:
    """Checks a policy loss of anyone's: signs, ratio, clipping, micro-batches, padding, gaps, masks and more.

    What is looked at is the gradient ``dL / d logp`` of each token.

    Args:
        fn: the function, of torch tensors, differentiable in the log-probabilities. Every call gets fresh tensors.
        style: how it is called. ``"tokens"``: ``fn(logp, old_logp, advantages, mask) -> scalar``, all ``[B, T]``.
            ``"rows"``: the same with advantages ``[B]``. ``"verl"``: verl's policy losses, by the names of their
            arguments, with an ``ActorConfig`` of verl unless ``options`` has a ``config``.
        counts: keyword arguments by which it takes the number of trained tokens, or of rows that have one, of the whole
            optimiser step, such as ``{"num_tokens": "tokens"}``; the losses of micro-batches must then add up to
            that of the step. Default: it takes none, and their mean must be. verl's take theirs from the config.
        clip: the bounds that it is meant to clip at, ``(low, high)`` for ratios ``1 - low`` to ``1 + high``.
        mask_dtype: of the masks that it is given; 1 or True is a trained token. Default: what it runs with, bool tried
            first.
        options: keyword arguments of every call.
        only: ids of checks to run; default all. ``runs`` always runs.
        exclude: ids of checks to leave out.
        allow: ids of checks that are known to fail; they are reported as ``allowed``.

    Returns:
        A :class:`Report` to print: one line a check, with why it matters where it fails.

    Raises:
        TypeError: ``fn`` is not callable; ids that are not strings; ``clip`` that is not a pair.
        ValueError: an unknown style, dtype or check; counts of something else.

    >>> def reinforce(logp, old_logp, advantages, mask):
    ...     return (logp * advantages * mask).sum() / mask.sum()
    >>> print(check_loss(reinforce, only=["gradient_direction"])["gradient_direction"].seen)
    with the advantage 1.5 the gradient of the loss by logp is +0.4286: a step lowers logp
    """
    needs_torch("check_loss() needs")
    from rollmath.testing._loss import LossFunction  # noqa: PLC0415 - needs torch

    wrapped = LossFunction(fn, style=style, counts=counts, clip=clip, mask_dtype=mask_dtype, options=options)
    return _report("check_loss", "loss", wrapped, wrapped.name, only, exclude, allow)


def _report(
    who: str,
    kind: str,
    wrapped: Any,
    name: str,
    only: Iterable[str] | None,
    exclude: Iterable[str],
    allow: Iterable[str],
) -> Report:
    allowed = names(who, "allow", checks(kind), allow)
    return Report(name, tuple(run(c, wrapped, c.id in allowed) for c in selected(who, kind, only, exclude)))


def run(check: Check, wrapped: Any, allowed: bool = False) -> Result:
    """The result of one check of a wrapped function."""
    with _as_at_the_start():
        verdict, seen = _verdict(check, wrapped)
    verdict = "allowed" if allowed and verdict == "fails" else verdict
    return Result(check.id, verdict, seen, check.what, check.why)


def _verdict(check: Check, wrapped: Any) -> tuple[str, str]:
    missing = [need for need in ("groups", "ids", "tokens", "values", "counts") if need in check.needs - wrapped.has]
    if missing:
        return "not applicable", _LACKS[missing[0]]
    if check.id != "runs" and not wrapped.works:
        return "not applicable", "the function does not run, see 'runs'"
    try:
        seen = check.run(wrapped)
    except NotApplicableError as what:
        return "not applicable", str(what)
    except (FailedCheckError, CallError) as what:
        return "fails", str(what)
    except Exception as error:  # no check is made for what such a function returns
        return "fails", f"what it returns could not be compared: {CallError(error).text}"
    return ("note" if isinstance(seen, Remark) else "pass"), str(seen)


@contextmanager
def _as_at_the_start() -> Iterator[None]:
    """Gradients on, new tensors on the CPU, whatever the tests around have set."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
    else:
        with torch.enable_grad(), torch.device("cpu"):
            yield


__all__ = ["check_advantage", "check_loss", "run"]

"""A policy loss of anyone's behind one interface, however it wants to be called."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rollmath._arrays import choice
from rollmath.testing._registry import CallError, fail, first_that_runs
from rollmath.testing._ways import MASKS, Way, arguments_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

STYLES = ("tokens", "rows", "verl")
_WHO = "check_loss"
_WRAP = "wrap what returns something else, so that it returns the number that backward() is called on"


@dataclass(frozen=True)
class LossRows:
    """Padded rows: log-probabilities now and before, mask ``[B, T]``; one advantage a row."""

    logp: torch.Tensor
    old: torch.Tensor
    advantages: torch.Tensor
    mask: torch.Tensor

    def take(self, rows: Sequence[int]) -> LossRows:
        """Some of the rows."""
        return LossRows(*(getattr(self, f.name)[list(rows)] for f in fields(self)))

    def to(self, dtype: torch.dtype) -> LossRows:
        """In another dtype."""
        return replace(self, **{n: getattr(self, n).to(dtype) for n in ("logp", "old", "advantages")})

    def columns(self, change: Callable[[torch.Tensor, float], torch.Tensor], junk: float = 0.0) -> LossRows:
        """With ``change(column, what new places get)`` for each column; new places are masked."""
        return replace(self, logp=change(self.logp, junk), old=change(self.old, junk), mask=change(self.mask, 0))

    @property
    def tokens(self) -> int:
        """Trained tokens."""
        return int(self.mask.sum())


def make_rows(lengths: Sequence[int], *, width: int | None = None, noise: float = 0.05, seed: int = 0) -> LossRows:
    """Rows of these lengths; ratios near 1, so that nothing is clipped, unless there is more noise."""
    rng = np.random.default_rng(seed)
    shape = (len(lengths), width or max(lengths))
    mask = torch.from_numpy(np.arange(shape[1]) < np.asarray(lengths)[:, None])
    logp = torch.from_numpy(-rng.gamma(2.0, 0.5, shape) - 0.05)
    old = logp + torch.from_numpy(rng.normal(scale=noise, size=shape)) if noise else logp.clone()
    advantages = torch.tensor([1.5, -0.5, 0.75, -1.25] * len(lengths))[: len(lengths)]
    return LossRows(logp, old, advantages.double(), mask).to(torch.float32)


@dataclass(frozen=True)
class Value:
    """The loss, and its derivative by each log-probability, ``[B, T]``."""

    loss: float
    gradient: NDArray[np.float64]


class LossFunction:
    """Calls a loss in its style. See :func:`rollmath.testing.check_loss`."""

    def __init__(
        self,
        fn: Callable[..., Any],
        *,
        style: str = "tokens",
        counts: Mapping[str, str] | None = None,
        clip: tuple[float, float] | None = None,
        mask_dtype: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if not callable(fn):
            msg = f"{_WHO}(): 'fn' must be callable, got {type(fn).__name__}"
            raise TypeError(msg)
        choice(_WHO, "style", style, STYLES)
        if mask_dtype is not None:
            choice(_WHO, "mask_dtype", mask_dtype, MASKS)
        for what in (counts or {}).values():
            choice(_WHO, "counts", what, ("tokens", "rows"))
        self.fn, self.style, self.counts = fn, style, dict(counts or {})
        self.clip = None if clip is None else _pair(clip)
        self._mask_asked, self.options = mask_dtype, dict(options or {})
        self.name = getattr(fn, "__qualname__", type(fn).__name__).rpartition("<locals>.")[2]
        self._arguments = arguments_of(fn) if style == "verl" else ()
        self.has = frozenset({"counts"} if style == "verl" or counts else ())

    @cached_property
    def way(self) -> Way:
        """With which masks it is called: the first that it runs with."""
        ways = [Way("torch", "torch", m) for m in MASKS if self._mask_asked in {None, m}]
        return first_that_runs(ways, lambda way: self(make_rows([4, 2]), way=way))

    @cached_property
    def works(self) -> bool:
        """Whether it runs at all."""
        try:
            self(make_rows([4, 2]))
        except Exception:  # whatever it is, 'runs' tells
            return False
        return True

    def __call__(self, rows: LossRows, *, step: LossRows | None = None, way: Way | None = None) -> Value:
        """The loss of ``rows``, told the counts of the ``step`` of which they are a part, and its gradient."""
        logp = rows.logp.clone().requires_grad_()
        loss = self.loss(replace(rows, logp=logp), step=step, way=way)
        if not loss.requires_grad:
            fail("the loss does not depend on logp, its first argument: there is nothing to differentiate")
        try:
            torch.autograd.backward(loss)
        except Exception as error:
            raise CallError(error) from error
        gradient = torch.zeros_like(logp) if logp.grad is None else logp.grad
        return Value(float(loss.detach()), gradient.double().numpy())

    def loss(self, rows: LossRows, *, step: LossRows | None = None, way: Way | None = None) -> torch.Tensor:
        """What the function returns for these tensors themselves: a scalar."""
        advantages = rows.advantages
        if self.style != "rows" and advantages.ndim == 1:
            advantages = advantages[:, None].expand_as(rows.logp).clone()
        mask = rows.mask if rows.mask.dtype != torch.bool else rows.mask.to(getattr(torch, str((way or self.way).mask)))
        # Those of a model are no leaves either, and may be written to.
        logp, old, advantages = (
            x.clone() if x.requires_grad and x.is_leaf else x for x in (rows.logp, rows.old, advantages)
        )
        named, given = dict(self.options), (logp, old, advantages, mask)
        positional: tuple[Any, ...] = given
        if self.style == "verl":
            named = self._by_name(given, step) | named
            positional = ()
        elif self.counts:
            whole = rows if step is None else step
            told = {"tokens": whole.tokens, "rows": int((whole.mask.sum(1) > 0).sum())}
            named |= {name: told[what] for name, what in self.counts.items()}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                out = self.fn(*positional, **named)
        except Exception as error:
            raise CallError(error) from error
        out = out[0] if isinstance(out, tuple) and out else out
        if not isinstance(out, torch.Tensor):
            fail(f"it returns {'None' if out is None else type(out).__name__}, not a scalar tensor: {_WRAP}")
        if out.numel() != 1:
            fail(f"it returns a tensor of shape {list(out.shape)}, not a scalar: {_WRAP}")
        return out.reshape(())

    def _by_name(self, given: tuple[Any, ...], step: LossRows | None) -> dict[str, Any]:
        known: dict[str, Any] = dict(
            zip(("log_prob", "old_log_prob", "advantages", "response_mask"), given, strict=True)
        )
        known |= {"loss_agg_mode": "token-mean", "rollout_is_weights": None}  # verl passes them to all
        named = {name: value for name, value in known.items() if name in self._arguments}
        if "config" in self._arguments:
            config = self.options.get("config") or _verl_config(self.clip)
            counts = {} if step is None else {"batch_num_tokens": step.tokens, "global_batch_size": len(step.mask)}
            config.global_batch_info.clear()
            config.global_batch_info.update({"dp_size": 1} | counts)
            named["config"] = config
        return named


def _verl_config(clip: tuple[float, float] | None) -> Any:
    """An ActorConfig of verl with its defaults, but for the bounds."""
    low, high = clip or (0.2, 0.2)
    try:
        module = importlib.import_module("verl.workers.config")
    except ModuleNotFoundError as missing:
        fail(f"it takes an ActorConfig of verl, and there is no {missing.name} here: pass options={{'config': ...}}")
    return module.ActorConfig(
        strategy="fsdp",
        rollout_n=1,
        use_dynamic_bsz=True,
        clip_ratio=low,
        clip_ratio_low=low,
        clip_ratio_high=high,
        clip_ratio_c=3.0,
    )


def _pair(clip: object) -> tuple[float, float]:
    if isinstance(clip, tuple | list) and len(clip) == 2 and all(isinstance(x, int | float) for x in clip):
        return float(clip[0]), float(clip[1])
    msg = f"{_WHO}(): 'clip' must be a pair (low, high), got {clip!r}"
    raise TypeError(msg)

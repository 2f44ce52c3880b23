"""How a model gets statistics through code that expects logits."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Any

import torch

from rollmath.vocab import RowStats
from rollmath.vocab._lm_head import HeadOptions, Sealed

_current: ContextVar[Request | None] = ContextVar("rollmath_lm_head_request", default=None)

# What stands in for logits while a model handles them: large, small, and of both signs, so that a factor, a soft-cap
# and an offset all show. On the CPU, so that looking at them waits for no device.
_PROBE = (-300.0, -20.0, -1.0, 0.0, 0.5, 3.0, 40.0, 300.0)


class Request:
    """Within it, ``head`` computes statistics with ``options``, and returns a probe."""

    def __init__(self, head: Any, options: dict[str, Any]) -> None:
        self.head, self.options = head, options
        if "temperature" in options:
            options["temperature"] = Sealed(options["temperature"])
        self.stats: RowStats | None = None
        self._token: Token[Request | None] | None = None

    def __enter__(self) -> Request:
        self._token = _current.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._token is not None
        _current.reset(self._token)

    def probe(self) -> torch.Tensor:
        """A tensor in the place of the logits."""
        return torch.tensor(_PROBE, dtype=torch.float32, device="cpu").view(1, 1, -1)

    def checked(self, logits: Any) -> RowStats:
        """The statistics, if what the model made of the probe is what the head makes of logits."""
        if self.stats is None:
            msg = "forward(): the model did not call its output layer, so there are no statistics of its logits"
            raise RuntimeError(msg)
        options: HeadOptions = self.head.head_options
        wanted = self.probe() * options.scale
        if options.softcap is not None:
            wanted = options.softcap * torch.tanh(wanted / options.softcap)
        same = isinstance(logits, torch.Tensor) and logits.shape == wanted.shape
        if not same or not torch.allclose(logits.detach().float().cpu(), wanted, rtol=1e-4, atol=1e-4):
            said = f"softcap={options.softcap}, scale={options.scale:g}"
            got = [round(float(x), 4) for x in logits.flatten()[:8]] if same else type(logits).__name__
            msg = (
                f"forward(): the model must make logits of the output of its last layer by {said}, but of {[*_PROBE]} "
                f"it makes {got}; give patch_lm_head() the right softcap= and scale=, or use row_stats() of the logits"
            )
            raise RuntimeError(msg)
        return self.stats


def answer(head: Any, call: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Calls an output layer as it was called, or as the request for it says.

    The statistics are what the module returns to its hooks: those of ``fully_shard`` prepare its backward pass by them.
    """
    request = _current.get()
    if request is None or request.head is not head:
        return call(*args, **options)
    if request.stats is not None:
        msg = "forward(): the model calls its output layer more than once, so that its logits are not those of one call"
        raise RuntimeError(msg)
    hidden, labels = args[0], request.options["labels"]
    if labels is not None and tuple(labels.shape) != tuple(hidden.shape[:-1]):
        msg = (
            f"forward(): 'logprob_labels' must have shape {tuple(hidden.shape[:-1])}, one label for each position that "
            f"logits_to_keep leaves, got {tuple(labels.shape)}"
        )
        raise ValueError(msg)
    outputs = request.options.get("outputs")
    request.stats = call(*args, **{**options, **request.options, "outputs": outputs or ("logprob", "entropy")})
    return request.probe()

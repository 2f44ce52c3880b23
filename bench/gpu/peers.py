"""What others offer for the same work, as functions of the same arguments; who does not import is left out, aloud."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Both = tuple[torch.Tensor, torch.Tensor | None]


def found(**makers: Callable[[], Any]) -> dict[str, Any]:
    """Those that import here; underscores become spaces."""
    here = {}
    for name, make in makers.items():
        try:
            here[name.replace("_", " ")] = make()
        except Exception as problem:
            print(f"  {name.replace('_', ' ')}: not here ({type(problem).__name__}: {str(problem)[:120]})", flush=True)
    return here


def row_stats() -> dict[str, Callable[[torch.Tensor, torch.Tensor], Both]]:
    """``(logits [N, V], labels) -> (log-probability, entropy or None)``."""
    return found(
        torch_eager_fp32=lambda: _plain,
        torch_eager=lambda: _plain_in,
        torch_compiled=lambda: torch.compile(_plain, dynamic=False),
        torch_compiled_dynamic=lambda: torch.compile(_plain, dynamic=True),
        trl_kernel=_trl,
        liger_log_probability_alone=_liger,
        verl=_verl,
        **{"flash-attn_and_verl_entropy": _flash},
    )


def _plain(x: torch.Tensor, y: torch.Tensor) -> Both:
    log_p = torch.log_softmax(x.float(), -1)
    return log_p.gather(1, y[:, None])[:, 0], -(log_p.exp() * log_p).sum(-1)


def _plain_in(x: torch.Tensor, y: torch.Tensor) -> Both:
    log_p = torch.log_softmax(x, -1)
    return log_p.gather(1, y[:, None])[:, 0], -(log_p.exp() * log_p).sum(-1)


def _trl() -> Any:
    from trl.kernels.logprob_entropy import selective_log_softmax_and_entropy as both

    return both


def _liger() -> Any:
    from liger_kernel.ops.grpo_loss import fused_selective_log_softmax as one

    # It reads rows [1, N + 1, V] and leaves out the last; the caller's matrix must have that one more row.
    def call(x: torch.Tensor, y: torch.Tensor) -> Both:
        base = x._base if x._base is not None else x
        return one(base[None], y[None], temperature=1.0)[0], None

    return call


def _verl() -> Any:
    from verl.utils.torch_functional import entropy_from_logits, logprobs_from_logits_v2

    return lambda x, y: (logprobs_from_logits_v2(x, y), entropy_from_logits(x))


def _flash() -> Any:
    from flash_attn.ops.triton.cross_entropy import cross_entropy_loss
    from verl.utils.torch_functional import entropy_from_logits

    return lambda x, y: (-cross_entropy_loss(x, y)[0], entropy_from_logits(x))


def linear() -> dict[str, Callable[[torch.Tensor, torch.Tensor, torch.Tensor], Both]]:
    """``(hidden [N, H], weight [V, H], labels) -> (log-probability, entropy or None)``."""
    return found(
        torch_eager_fp32=lambda: lambda h, w, y: _plain(h @ w.T, y),
        torch_compiled=lambda: torch.compile(lambda h, w, y: _plain(h @ w.T, y), dynamic=False),
        verl_kernel=_verl_kernel,
        verl_chunks=_verl_chunks,
        liger=_liger_linear,
        cce_log_probability_alone=_cce,
        quack_log_probability_alone=_quack,
    )


def _verl_kernel() -> Any:
    from verl.utils.kernel.linear_cross_entropy import linear_cross_entropy

    return lambda h, w, y: linear_cross_entropy(h, w, y, 1.0, "none")


def _verl_chunks() -> Any:
    from verl.utils.experimental.torch_functional import FusedLinearForPPO

    module = FusedLinearForPPO()

    def call(h: torch.Tensor, w: torch.Tensor, y: torch.Tensor) -> Both:
        log_p, entropy = module(h[None], w, y[None])
        return log_p[0], entropy[0]

    return call


def _liger_linear() -> Any:
    from liger_kernel.ops.fused_linear_scaled_cross_entropy import LigerFusedLinearScaledCrossEntropyFunction as Fused

    def call(h: torch.Tensor, w: torch.Tensor, y: torch.Tensor) -> Both:
        nll, entropy = Fused.apply(h, w, y, 1.0, -100, 1, True)[:2]
        return -nll, entropy

    return call


def _cce() -> Any:
    from cut_cross_entropy import linear_cross_entropy

    return lambda h, w, y: (-linear_cross_entropy(h, w, y, reduction="none"), None)


def _quack() -> Any:
    from quack.linear_cross_entropy import chunked_linear_cross_entropy

    return lambda h, w, y: (-chunked_linear_cross_entropy(h, w, y, reduction="none"), None)

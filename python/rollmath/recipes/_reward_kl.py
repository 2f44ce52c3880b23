"""The KL penalty in the reward: of a rollout, or token by token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from rollmath import _core
from rollmath._arrays import host_only
from rollmath._logprobs import LogProbs
from rollmath.rows import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray


def rollout_kl(who: str, logprobs: LogProbs, rows: Rows) -> NDArray[np.float64]:
    """``sum_t (logp_t - ref_t)`` over the trained tokens of each rollout, float64.

    On the device of the log-probabilities; one number a row is copied from there. The tokens of a row are summed first,
    then rows in sorted order, so that their order changes no bit.
    """
    per_token = _log_ratios(who, logprobs, rows)
    lengths = torch.from_numpy(rows.lengths.copy()).to(per_token.device)
    sums = torch.segment_reduce(per_token, "sum", lengths=lengths, unsafe=True, initial=0)
    return _core.reduce(who, "logprobs", rows.rollouts._csr, sums.cpu().numpy(), None, "sum")


def token_rewards(
    who: str, rewards: NDArray[np.float64], logprobs: LogProbs, rows: Rows, coef: float
) -> NDArray[np.float64]:
    """``-coef (logp_t - ref_t)`` at each trained token, plus the reward of the rollout at the last one of each row."""
    for name, x in logprobs.given().items():
        host_only(who, f"logprobs.{name}", x)
    out = _log_ratios(who, logprobs, rows).mul_(-coef).numpy()
    live = rows.trained > 0
    if rows.mask is None:
        ends = rows.offsets[1:][live] - 1
    else:
        ends = np.flatnonzero(rows.mask)[np.cumsum(rows.trained)[live] - 1]
    out[ends] += rewards[rows.rollouts.index[live]]
    return out


def _log_ratios(who: str, logprobs: LogProbs, rows: Rows) -> torch.Tensor:
    """``logp - ref`` in float64, packed, 0 at gaps, whatever stands there."""
    assert logprobs.ref is not None
    total, padded = int(rows.offsets[-1]), len(logprobs.shape) == 2
    longest = int(rows.lengths.max(initial=0))
    fits = logprobs.shape == (total,) or (padded and logprobs.shape[0] == rows.n_rows and logprobs.shape[1] >= longest)
    if not fits:
        msg = (
            f"{who}(): 'logprobs' must have shape ({total},) (= positions) or ({rows.n_rows}, T) (= padded, T at least "
            f"{longest}), got {logprobs.shape}"
        )
        raise ValueError(msg)
    theta, ref = logprobs.proximal.detach(), logprobs.ref
    if padded:
        lengths = torch.from_numpy(rows.lengths.copy()).to(theta.device)
        used = torch.arange(theta.shape[1], device=theta.device) < lengths[:, None]
        theta, ref = theta[used], ref[used]
    ratios = theta.double() - ref.double()
    if rows.mask is not None:
        trained = torch.from_numpy(rows.mask.copy()).to(ratios.device) != 0
        ratios = ratios.masked_fill_(~trained, 0.0)
    if ratios.device.type == "cpu" and not bool(ratios.isfinite().all()):
        at = int((~ratios.isfinite()).nonzero()[0])
        msg = f"{who}(): 'logprobs' must be finite where tokens are trained, got prox - ref = {float(ratios[at])} at "
        raise ValueError(msg + f"position {at} of the packed rows")
    return ratios

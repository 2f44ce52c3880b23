"""Tokens whose log-probability and advantage vary together the most: those of Clip-Cov and KL-Cov."""

from __future__ import annotations

from typing import Any

import numpy as np

from rollmath._arrays import ArrayLike, number
from rollmath._checks import whole
from rollmath.ops._moments import row_moments, scalar_moments
from rollmath.ragged import Ragged
from rollmath.select import _token_device as device
from rollmath.select._token_inputs import TokenBatch, wanted
from rollmath.select._token_random import drawn
from rollmath.select._token_search import Ties
from rollmath.select._token_top import TokenSelection, chosen


def high_covariance_tokens(
    logprobs: ArrayLike | Ragged,
    advantages: ArrayLike | Ragged,
    *,
    share: float | None = None,
    count: int | None = None,
    least: int = 0,
    bounds: tuple[float, float] | None = None,
    means: tuple[float, float] | None = None,
    mask: ArrayLike | Ragged | None = None,
    lengths: ArrayLike | None = None,
    ties: Ties = "exact",
    uid: Any = None,
    seed: int = 0,
) -> TokenSelection:
    r"""The tokens of the highest covariance ``c_t = (log p_t - mean log p) (A_t - mean A)``, or some inside a band.

    ::

        bounds=None      KL-Cov:   the k highest c_t
        bounds=(lo, hi)  Clip-Cov: k of those with lo < c_t < hi, at random
        k = max(floor(share n), least), n the trained tokens of the call, inside the band or not

    The methods hold these tokens back: KL-Cov gives them a KL penalty, and Clip-Cov a loss of 0 that counts in the
    mean, ``policy_loss(..., weight=~chosen.mask.values)`` of packed rows. :class:`rollmath.loss.KLCov` and
    :class:`rollmath.loss.ClipCov` are the objectives, which choose from the parts of a step; there a product
    ``share n`` that rounding left below a whole number is rounded down. Means and covariances are float64.

    Args:
        logprobs: one a token, forms and kinds as in :func:`top_tokens`.
        advantages: one a token in the form of ``logprobs``, or one a row, ``[rows]``, which counts once a trained
            token.
        share: in [0, 1]. The authors take 2e-4; for KL-Cov at 7B parameters 2e-3.
        count: instead of a share: how many.
        least: with ``share``, how many at least; the authors' code has 1.
        bounds: the open interval of the band; the authors take (1, 5). Clip-Cov leaves out tokens that PPO clips: leave
            them out of ``mask``, and pass ``means`` if they shall count there.
        means: of log-probabilities and advantages over all trained tokens of the step, where this call is a part of it:
            ``Moments.merge(parts).mean`` of :func:`rollmath.ops.moments`, which does not depend on the split. Default:
            over those of the call.
        mask: trained tokens.
        lengths: used columns of padded rows.
        ties: of the highest, as in :func:`top_tokens`, but exact by default: with constant advantages all tie at 0.
        uid: ids of rows, as in :func:`top_tokens`.
        seed: of the draw and of the choice among ties; use another in every step.

    Returns:
        A :class:`TokenSelection`. ``threshold`` is the k-th highest covariance, or with bounds the highest random
        number drawn, in (0, 1); ``total`` are the trained tokens, or those inside the band.

    Edge cases:
        Constant advantages, or constant log-probabilities: every covariance is exactly 0. Fewer than k inside the
        band: all of them. On a GPU the default means are sums of torch, which may differ in their last digit from
        those of the CPU; with ``means`` covariances have the same bits. For the highest of a step in parts: a
        :class:`TokenSearch` of the covariances, with ``dtype="float64"``.

    Raises:
        ValueError: log-probabilities or advantages at trained tokens that are not finite (on a GPU such a token counts
            as not trained); an option out of range; shapes that do not fit.
        TypeError: wrong dtype, rank or form.

    Source: Cui et al. 2025, arXiv 2505.22617; the authors' code and verl were read, which take means, n and the draw of
    each micro-batch.

    >>> A, logp = [1.0, 1.0, -1.0, -1.0, 1.0, -1.0], [-0.1, -3.0, -0.2, -4.0, -1.0, -0.05]
    >>> high_covariance_tokens(logp, A, count=1)
    TokenSelection(1 of 6 tokens, threshold 2.60833)
    >>> high_covariance_tokens(logp, A, count=6, bounds=(1, 5)).mask.tolist()
    [True, False, False, True, False, False]
    """
    who = "high_covariance_tokens"
    want = wanted(who, share, count, least)
    band = None if bounds is None else _bounds(who, bounds)
    batch = TokenBatch.of(who, "logprobs", logprobs, mask=mask, lengths=lengths, uid=uid)
    covariance, n = _covariances(batch, advantages, means)
    batch = batch.with_scores(covariance)
    if band is None:
        return chosen(batch, want, ties=ties, seed=seed)
    inside = (covariance > band[0]) & (covariance < band[1])
    return drawn(batch.only(inside), want, seed=whole(who, "seed", seed, least=0), n=n)


def _bounds(who: str, bounds: Any) -> tuple[float, float]:
    if not isinstance(bounds, (tuple, list)) or len(bounds) != 2:
        msg = f"{who}(): 'bounds' must be a pair (low, high), got {bounds!r}"
        raise TypeError(msg)
    low, high = (number(who, "bounds", x) for x in bounds)
    if not low < high:
        msg = f"{who}(): 'bounds' must have low < high, got {bounds!r}"
        raise ValueError(msg)
    return low, high


def _means(who: str, means: Any) -> tuple[float, float]:
    if not isinstance(means, (tuple, list)) or len(means) != 2:
        msg = f"{who}(): 'means' must be a pair, of log-probabilities and of advantages, got {means!r}"
        raise TypeError(msg)
    first, second = (number(who, "means", x) for x in means)
    if not np.isfinite([first, second]).all():
        msg = f"{who}(): 'means' must be finite, got {means!r}"
        raise ValueError(msg)
    return first, second


def _covariances(batch: TokenBatch, advantages: Any, means: Any) -> tuple[Any, Any]:
    """One a token, flat float64, and the number of trained tokens."""
    who = batch.who
    given = None if means is None else _means(who, means)
    x, a, per_row = batch.weights(advantages, "advantages")
    if batch.on_device:
        x, a = x.double(), a.double()
        wide = a[batch.row_of] if per_row else a
        # On the host others are an error; here they count as not trained, and no mean becomes infinite.
        seen = batch.trained & x.isfinite() & wide.isfinite()
        center = [device.mean(column, seen) for column in (x, wide)] if given is None else given
        return batch.device.torch.where(seen, (x - center[0]) * (wide - center[1]), float("nan")), seen.sum()
    rows = batch.host
    counts = row_moments(rows, "logprobs", x, None)
    if per_row:
        of_a = scalar_moments(who, a, counts.weights, None)
        _finite_rows(who, a, counts.weights)
    else:
        of_a = row_moments(rows, "advantages", a, None)
    center = (counts.mean, of_a.mean) if given is None else given
    # Gaps may hold anything.
    with np.errstate(all="ignore"):
        covariance = np.subtract(x, center[0], dtype=np.float64)
        above = np.subtract(a, center[1], dtype=np.float64)
        covariance *= batch.spread(above) if per_row else above
    return covariance, int(counts.count)


def _finite_rows(who: str, a: Any, weights: Any) -> None:
    bad = np.flatnonzero((weights > 0) & ~np.isfinite(a))
    if len(bad):
        msg = f"{who}(): 'advantages' must be finite where tokens are trained, got {a[bad[0]]} at row {bad[0]}"
        raise ValueError(msg)

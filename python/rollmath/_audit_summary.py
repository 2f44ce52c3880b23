"""The numbers of an audit."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath._audit_inputs import Batch
from rollmath._audit_reasons import SIGNAL, Bounds, at_bottom, at_top
from rollmath.ops import moments, normalize, segment_mean, segment_std

if TYPE_CHECKING:
    from numpy.typing import NDArray


def summary(batch: Batch, codes: NDArray[np.int8], limits: Bounds) -> dict[str, Any]:
    """Plain numbers by name; None where a number does not exist."""
    return {
        **_signal(batch, codes),
        **_rewards(batch, limits),
        **_advantages(batch),
        **_length(batch),
        **_truncated(batch, codes),
    }


def plain(x: Any) -> Any:
    """A number as JSON has it: int, float or bool, None for NaN and infinity."""
    if isinstance(x, (bool, np.bool_)):
        return bool(x)
    if isinstance(x, (int, np.integer)):
        return int(x)
    x = float(x)
    return x if math.isfinite(x) else None


def share(part: Any, whole: Any) -> Any:
    """``part / whole``, None of nothing."""
    return plain(float(part) / float(whole)) if whole else None


def total(x: NDArray[Any]) -> float:
    """The sum, exact up to one rounding and so the same in any order."""
    try:
        return math.fsum(x)
    except OverflowError:
        return math.inf


def _signal(batch: Batch, codes: NDArray[np.int8]) -> dict[str, Any]:
    signal = codes == SIGNAL
    sizes = batch.sizes[batch.sizes > 0]
    n, groups = int(batch.valid.sum()), len(sizes)
    with_signal = len(np.unique(batch.groups.index[signal]))
    tokens = None if batch.tokens is None else int(batch.tokens[batch.valid].sum())
    carrying = None if batch.tokens is None else int(batch.tokens[signal].sum())
    return {
        "rollouts": n,
        "groups": groups,
        "not_valid": len(codes) - n,
        "group_size_min": int(sizes.min()) if groups else None,
        "group_size_max": int(sizes.max()) if groups else None,
        "tokens": tokens,
        "signal_rollouts": int(signal.sum()),
        "signal_groups": with_signal,
        "signal_tokens": carrying,
        "effective_rollouts": share(signal.sum(), n),
        "effective_groups": share(with_signal, groups),
        "effective_tokens": None if tokens is None else share(carrying, tokens),
    }


def _rewards(batch: Batch, limits: Bounds) -> dict[str, Any]:
    seen = batch.rewards[batch.member]
    overall = moments(seen)
    some = batch.stats.n > 0
    low, high = batch.stats.min[some], batch.stats.max[some]
    solved, failed = at_top(low, limits), at_bottom(high, limits)
    return {
        "rewards": len(seen),
        "reward_mean": plain(overall.mean),
        "reward_std": plain(math.sqrt(overall.var())),
        "reward_min": plain(seen.min()) if len(seen) else None,
        "reward_max": plain(seen.max()) if len(seen) else None,
        "distinct_rewards": len(np.unique(seen)),
        "low": limits.low,
        "high": limits.high,
        "at_low": None if limits.low is None else share(at_bottom(seen, limits).sum(), len(seen)),
        "at_high": None if limits.high is None else share(at_top(seen, limits).sum(), len(seen)),
        "rewarded_groups": int(some.sum()),
        "mixed_groups": share(batch.spread.sum(), some.sum()),
        "all_low_groups": None if limits.low is None else share(failed.sum(), some.sum()),
        "all_high_groups": None if limits.high is None else share(solved.sum(), some.sum()),
    }


def _advantages(batch: Batch) -> dict[str, Any]:
    used = batch.trains & np.isfinite(batch.advantages)
    a = batch.advantages[used]
    size = np.abs(a)
    overall, mass, squares = moments(a), total(size), total(size * size)
    return {
        "trained_rollouts": int(batch.trains.sum()),
        "positive": int((a > 0).sum()),
        "negative": int((a < 0).sum()),
        "zero": int((a == 0).sum()),
        "advantage_mean": plain(overall.mean),
        "advantage_std": plain(math.sqrt(overall.var())),
        "advantage_min": plain(a.min()) if len(a) else None,
        "advantage_max": plain(a.max()) if len(a) else None,
        "advantage_abs_sum": plain(mass),
        "effective_sample_size": plain(mass * (mass / squares)) if squares else 0.0,
    }


def _length(batch: Batch) -> dict[str, Any]:
    names = (
        "length_mean",
        "length_positive",
        "length_negative",
        "length_reward_correlation",
        "length_reward_groups",
        "positive_mass",
        "positive_token_mass",
    )
    if batch.tokens is None:
        return dict.fromkeys(names)
    used = batch.trains & np.isfinite(batch.advantages)
    a, lengths = batch.advantages[used], batch.tokens[used].astype(np.float64)
    size = np.abs(a)
    correlation, groups = _correlation(batch)
    values = (
        _mean(batch.tokens[batch.trains]),
        _mean(lengths[a > 0]),
        _mean(lengths[a < 0]),
        correlation,
        groups,
        share(total(size[a > 0]), total(size)),
        share(total((size * lengths)[a > 0]), total(size * lengths)),
    )
    return dict(zip(names, values, strict=True))


def _correlation(batch: Batch) -> tuple[float | None, int]:
    """Pearson's, of trained tokens and reward in each group where both vary; the mean over these groups."""
    assert batch.tokens is not None
    rows = batch.trains & batch.member
    lengths, groups = batch.tokens.astype(np.float64), batch.groups
    scored = [normalize(np.where(rows, x, 0.0), groups, valid=rows, ddof=0, eps=0.0) for x in (batch.rewards, lengths)]
    each = segment_mean(scored[0] * scored[1], groups, valid=rows)
    both = [segment_std(x, groups, ddof=0, valid=rows) > 0 for x in (np.where(rows, batch.rewards, 0.0), lengths)]
    vary = both[0] & both[1]
    return (float(moments(each[vary]).mean) if vary.any() else None), int(vary.sum())


def _mean(x: NDArray[Any]) -> Any:
    return share(total(x), len(x))


def _truncated(batch: Batch, codes: NDArray[np.int8]) -> dict[str, Any]:
    names = ("truncated", "truncated_signal", "truncated_positive", "truncated_reward_mean", "finished_reward_mean")
    if batch.truncated is None:
        return dict.fromkeys(names)
    cut = batch.truncated & batch.valid
    values = (
        int(cut.sum()),
        int((cut & (codes == SIGNAL)).sum()),
        int((cut & batch.trains & (batch.advantages > 0)).sum()),
        plain(moments(batch.rewards[cut & batch.member]).mean),
        plain(moments(batch.rewards[~cut & batch.member]).mean),
    )
    return dict(zip(names, values, strict=True))

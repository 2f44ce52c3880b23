"""GDPO: several rewards, each normalised within its group before they are added."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np

from rollmath._arrays import Array, ArrayLike, Kind, choice, describe, floats, host, mask_bytes
from rollmath.conventions import DEFAULT, Convention, Framework, Override, Whiten, resolve
from rollmath.groups import Groups, as_groups
from rollmath.ops import normalize
from rollmath.ops import whiten as whiten_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray


def gdpo(
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    weights: ArrayLike | None = None,
    scale: Literal["std", "none"] = "std",
    leave_one_out: bool = False,
    whiten: Literal["sequence", "token"] | None = "sequence",
    how: Whiten = Whiten(),  # noqa: B008 - frozen
    lengths: ArrayLike | None = None,
    valid: ArrayLike | None = None,
    convention: Convention | Framework = DEFAULT,
    **override: Unpack[Override],
) -> Array:
    """Decoupled normalisation: ``A = whiten(sum_c w_c (r_c - mean(r_c)) / (std(r_c) + eps))``, group by group.

    Adding rewards before GRPO lets different combinations of them collapse into one advantage, and the reward of the
    largest spread drown the rest; here each channel has its own mean and standard deviation.

    Args:
        rewards: one number a rollout and channel, ``[N, C]``.
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        weights: one number a channel, ``[C]``; default 1.
        scale: ``"std"``, or ``"none"`` for sums of centred rewards.
        leave_one_out: mean and standard deviation are those of the other rollouts (NeMo-RL's default).
        whiten: over what the sum is whitened: ``"sequence"`` all valid rollouts; ``"token"`` all their tokens, so that
            a rollout counts as often as it is long; None not at all.
        how: the formula of that step, :class:`~rollmath.conventions.Whiten`; its eps is not the convention's.
        lengths: trained tokens of each rollout, ``[N]``; for ``whiten="token"`` alone.
        valid: rollouts that take part (bool or int, nonzero = True); the others enter no statistic and get 0.
        convention: of the normalisation of a channel. With ``nan="omit"`` a NaN is a reward that this channel does not
            have: it is left out there and adds 0; a rollout without any reward enters nothing and gets 0. With
            ``nan="propagate"`` a NaN spreads over its group, and by whitening over the batch.
            ``conventions.VERL.options["gdpo"]`` and those of TRL and NEMO_RL have the other keywords.
        **override: fields of the convention.

    Returns:
        ``[N]``, in the kind and float type of ``rewards``. A channel without spread in a group adds exactly 0 there; if
        all sums are equal, whitening gives exactly 0.

    Raises:
        ValueError: wrong lengths; NaN or infinity (the message names the channel); ``lengths`` missing, negative,
            all 0, or given without ``whiten="token"``.
        TypeError: wrong dtype or rank.

    Source: Liu et al. 2026, GDPO, arXiv 2601.05242 (secondary descriptions whiten over the rollouts of the batch; eps
    and ddof unverified). verl's, TRL's and NeMo-RL's code was executed; verl whitens over tokens, the others over
    rollouts.

    >>> gdpo([[1, 1], [0, 1], [1, 0], [0, 0]], [0, 0, 0, 0], weights=[1.0, 0.5]).round(4).tolist()
    [1.1619, -0.3873, 0.3873, -1.1619]
    """
    choice("gdpo", "scale", scale, ("std", "none"))
    if whiten is not None:
        choice("gdpo", "whiten", whiten, ("sequence", "token"))
    if not isinstance(how, Whiten):
        msg = f"gdpo(): 'how' must be a Whiten, got {describe(how)}"
        raise TypeError(msg)
    rules = resolve("gdpo", "gdpo", convention, override)
    made = as_groups("gdpo", groups)
    table, kind, dtype = _channels(rewards, len(made))
    w = _weights(weights, len(table))
    mask = mask_bytes("gdpo", "valid", valid, length=len(made))
    seen = np.ones(len(made), bool) if mask is None else mask != 0
    if rules.nan == "omit":
        seen &= ~np.isnan(table).all(axis=0)
    tokens = _tokens(lengths, whiten, seen)
    center, divisor = ("loo", "loo_std") if leave_one_out else ("mean", "std")
    out = np.zeros(len(made))
    for c, r in enumerate(table):
        name = f"rewards[:, {c}]"
        out += w[c] * np.asarray(
            normalize(
                r,
                made,
                center=center,
                scale=divisor if scale == "std" else "none",
                valid=mask,
                convention=rules,
                name=name,
                who="gdpo",
            )
        )
    if whiten is not None:
        out = np.asarray(whiten_rows(out, how=how, weights=tokens, valid=seen))
    return kind.wrap(out.astype(dtype, copy=False))


def _channels(rewards: ArrayLike, n: int) -> tuple[NDArray[np.float64], Kind, Any]:
    """``[C, N]`` in float64, and the kind and float type of the result."""
    array, _ = host("gdpo", "rewards", rewards)
    if array.ndim != 2:
        msg = f"gdpo(): 'rewards' must be 2-D, [N, channels], got {describe(array)} of shape {array.shape}"
        raise TypeError(msg)
    if len(array) != n or not array.shape[1]:
        msg = f"gdpo(): 'rewards' must have shape [{n} (= len(groups)), 1 or more channels], got {list(array.shape)}"
        raise ValueError(msg)
    flat, kind = floats("gdpo", "rewards", (rewards if hasattr(rewards, "reshape") else array).reshape(-1))
    return np.ascontiguousarray(flat.reshape(array.shape).T, dtype=np.float64), kind, flat.dtype


def _weights(weights: ArrayLike | None, channels: int) -> NDArray[np.float64]:
    if weights is None:
        return np.ones(channels)
    w = floats("gdpo", "weights", weights, length=channels, why="rewards.shape[1]")[0].astype(np.float64)
    if not np.isfinite(w).all():
        msg = f"gdpo(): 'weights' must be finite, got {w[~np.isfinite(w)][0]}"
        raise ValueError(msg)
    return w


def _tokens(lengths: ArrayLike | None, whiten: str | None, seen: NDArray[np.bool_]) -> NDArray[np.float64] | None:
    if (lengths is not None) != (whiten == "token"):
        msg = f"gdpo(): 'lengths' goes with whiten='token' and with nothing else, got whiten={whiten!r}"
        raise ValueError(msg)
    if lengths is None:
        return None
    n = floats("gdpo", "lengths", lengths, length=len(seen))[0].astype(np.float64)
    n[~seen] = 0.0
    if (bad := ~(np.isfinite(n) & (n >= 0))).any():
        msg = f"gdpo(): 'lengths' must be finite and not negative, got {n[bad][0]}"
        raise ValueError(msg)
    if seen.any() and not n.any():
        msg = "gdpo(): 'lengths' must not all be 0"
        raise ValueError(msg)
    return n

"""GDPO: several rewards, each normalised within its group before they are added."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Unpack

import numpy as np

from rollmath._arrays import Array, ArrayLike, choice, describe, floats, host
from rollmath._checks import Back, flag, mask, rows, tokens
from rollmath.conventions import DEFAULT, Convention, Framework, Override, Whiten, resolve
from rollmath.groups import Groups, as_groups
from rollmath.ops import normalize
from rollmath.ops import whiten as whiten_rows
from rollmath.ops._scan import check_whiten

if TYPE_CHECKING:
    from numpy.typing import NDArray


def gdpo(
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    weights: ArrayLike | None = None,
    scale: Literal["std", "none"] = "std",
    leave_one_out: bool = False,
    whiten: Whiten | None = Whiten(),  # noqa: B008 - frozen
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
        whiten: how the sum is whitened over the batch, :class:`~rollmath.conventions.Whiten`, whose eps is not the
            convention's; None leaves it out.
        lengths: trained tokens of each rollout, ``[N]``: then the batch is that of the tokens, each rollout counting as
            often as it has tokens (verl). Default: each rollout counts once (TRL, NeMo-RL). Checked, and without
            effect, with ``whiten=None``.
        valid: rollouts that take part (bool or int, nonzero = True); the others enter no statistic and get 0.
        convention: of the normalisation of a channel. With ``nan="omit"`` a NaN is a reward that this channel does not
            have: it is left out there and adds 0; a rollout without any reward enters nothing and gets 0. With
            ``nan="propagate"`` a NaN spreads over its group, and by whitening over the batch.
            verl's ``adv_estimator=gdpo`` is ``convention=VERL`` with ``lengths=``; TRL's
            ``multi_objective_aggregation="normalize_then_sum"`` and NeMo-RL's ``adv_estimator.name: gdpo`` are TRL and
            NEMO_RL without, with the keywords of ``conventions.TRL.options["gdpo"]`` and of NEMO_RL's.
        **override: fields of the convention.

    Returns:
        ``[N]``, in the kind and float type of ``rewards``. A channel without spread in a group adds exactly 0 there; if
        all sums are equal, whitening gives exactly 0.

    Raises:
        ValueError: wrong lengths; NaN or infinity (the message names the channel); ``lengths`` that are
            negative, not finite, or 0 in all valid rollouts.
        TypeError: wrong dtype or rank.

    Source: Liu et al. 2026, GDPO, arXiv 2601.05242; the authors' code was read (NVlabs/GDPO), which is two forks: that
    of TRL has ddof 1, std + 1e-4, whitening over rollouts with std + 1e-4, and takes a missing reward for 0 before the
    statistics; that of verl whitens over tokens. That is why both exist. verl's, TRL's and NeMo-RL's own ``gdpo`` was
    executed.

    >>> gdpo([[1, 1], [0, 1], [1, 0], [0, 0]], [0, 0, 0, 0], weights=[1.0, 0.5]).round(4).tolist()
    [1.1619, -0.3873, 0.3873, -1.1619]
    """
    choice("gdpo", "scale", scale, ("std", "none"))
    others = flag("gdpo", "leave_one_out", leave_one_out)
    check_whiten("gdpo", whiten)
    rules = resolve("gdpo", "gdpo", convention, override)
    made = as_groups("gdpo", groups)
    table, back = _channels(rewards, len(made))
    w = _weights(weights, len(table) if len(made) else None)
    part = mask("gdpo", "valid", valid, len(made))
    seen = part & ~np.isnan(table).all(axis=0) if rules.nan == "omit" else part
    times = tokens("gdpo", "lengths", lengths, seen)
    center, divisor = ("loo", "loo_std") if others else ("mean", "std")
    divisor = divisor if scale == "std" else "none"
    out = np.zeros(len(made))
    for c, r in enumerate(table):
        name = f"rewards[:, {c}]"
        z = normalize(r, made, center=center, scale=divisor, valid=part, convention=rules, name=name, who="gdpo")
        out += (1.0 if w is None else w[c]) * np.asarray(z)
    if whiten is not None:
        out = np.asarray(whiten_rows(out, how=whiten, weights=times, valid=seen, name="rewards", who="gdpo"))
    return back(out)


def _channels(rewards: ArrayLike, n: int) -> tuple[NDArray[np.float64], Back]:
    """``[C, N]`` in float64, and the way back to the kind and float type."""
    array, kind = host("gdpo", "rewards", rewards)
    if array.shape == (0,) and not n:
        array = array.reshape(0, 1)  # a list without rows has no columns either
    if array.ndim != 2:
        msg = f"gdpo(): 'rewards' must be 2-D, [N, channels], got {describe(array)} of shape {array.shape}"
        raise TypeError(msg)
    if len(array) != n or not array.shape[1]:
        msg = f"gdpo(): 'rewards' must have shape [{n} (= len(groups)), 1 or more channels], got {list(array.shape)}"
        raise ValueError(msg)
    flat = floats("gdpo", "rewards", array.reshape(-1))[0]
    dtype = np.float32 if kind.is_torch and array.dtype.kind != "f" else flat.dtype
    return np.ascontiguousarray(flat.reshape(array.shape).T, dtype=np.float64), Back(kind, dtype)


def _weights(weights: ArrayLike | None, channels: int | None) -> NDArray[np.float64] | None:
    if weights is None:
        return None
    w = rows("gdpo", "weights", weights, channels, "rewards.shape[1]")[0]
    if not np.isfinite(w).all():
        msg = f"gdpo(): 'weights' must be finite, got {w[~np.isfinite(w)][0]}"
        raise ValueError(msg)
    return w

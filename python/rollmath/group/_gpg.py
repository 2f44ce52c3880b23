"""GPG: centred rewards, scaled up for the rollouts that carry no signal."""

from __future__ import annotations

from typing import Literal, Unpack

import numpy as np

from rollmath._arrays import Array, ArrayLike, choice
from rollmath._checks import real
from rollmath.conventions import DEFAULT, Convention, Framework, Override, resolve
from rollmath.group._inputs import read
from rollmath.groups import Groups
from rollmath.ops import segment_max


def gpg(
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    f_norm: float = 1.0,
    correction: Literal["informative", "nonzero_reward", "none"] = "informative",
    valid: ArrayLike | None = None,
    convention: Convention | Framework = DEFAULT,
    **override: Unpack[Override],
) -> Array:
    """Group policy gradient: ``A_i = alpha (r_i - mean(r)) / F``, with ``alpha = N / (N - M)`` over the batch.

    ``N`` rollouts take part, and ``M`` of them are in groups that get nothing but 0 (equal rewards). A mean over all
    rollouts is too small by the share of those; ``alpha`` makes up for it.

    Args:
        rewards: one number a rollout, ``[N]``.
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        f_norm: the constant ``F``. For a standard deviation there, use :func:`~rollmath.group.grpo`.
        correction: ``"informative"`` as above; ``"nonzero_reward"`` alpha = N / (number of rewards that are not 0),
            which is what verl computes: it equals the other only if exactly the failures are without signal;
            ``"none"`` alpha = 1.
        valid: rollouts that take part (bool or int, nonzero = True); the others enter no statistic and get 0.
        convention: only ``singleton`` and ``nan`` matter here. A group of one gets 0 by default and carries no signal;
            in verl it gets alpha times its reward. ``conventions.VERL.options["gpg"]`` has verl's correction.
        **override: fields of the convention.

    Returns:
        ``[N]``, in the kind and float type of ``rewards``; exactly 0 where all rewards of a group are equal, and
        everywhere if no group has a signal.

    Raises:
        ValueError: wrong lengths; NaN or infinite rewards (unless ``nan=`` says otherwise); an ``f_norm`` that is not
            positive and finite; an unknown ``correction``.
        TypeError: wrong dtype or rank.

    Source: Chu et al. 2025, GPG, arXiv 2504.02546; the authors' README and code were read (AMAP-ML/GPG): ``alpha = B /
    (B - M)`` for a batch of ``B`` with ``M`` rollouts in groups without spread. Their code multiplies the loss by it,
    not the advantages, and adds 1e-5 to its inverse. verl's ``gpg`` was executed.

    >>> gpg([1.0, 0.0, 1.0, 1.0], ["a", "a", "b", "b"]).tolist()
    [1.0, -1.0, 0.0, 0.0]
    """
    choice("gpg", "correction", correction, ("informative", "nonzero_reward", "none"))
    divisor = real("gpg", "f_norm", f_norm, above=0.0)
    rules = resolve("gpg", "gpg", convention, override)
    r = read("gpg", rewards, groups, valid, rules)
    centred = r.normalize(center="mean", scale="none")
    alpha = 1.0
    if correction != "none":
        signal = r.x != 0
        if correction == "informative":
            signal = (segment_max(np.abs(centred), r.groups, valid=r.seen) > 0)[r.groups.index]
        alpha = int(r.mask.sum()) / max(int((signal & r.mask).sum()), 1)
    return r.wrap(alpha * centred / divisor)

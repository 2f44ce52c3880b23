"""Checks of signs: which way a step moves, what the ratio is, where it is clipped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from rollmath.testing._cases import show
from rollmath.testing._loss import LossFunction, LossRows, make_rows
from rollmath.testing._registry import Remark, check, fail, not_applicable

#: Ratios theta / old that are looked at.
_RATIOS = (0.02, 0.1, 0.3, 0.5, 0.7, 0.75, 0.85, 0.95, 1.05, 1.15, 1.25, 1.35, 1.5, 2.0, 5.0, 20.0)


@check("loss")
def runs(f: LossFunction) -> str:
    """It runs: two rows give a finite scalar that is differentiable in logp.

    Where it does not, no other check means anything.
    """
    out = f(make_rows([4, 2]))
    if not np.isfinite(out.loss) or not np.isfinite(out.gradient).all():
        fail(f"the loss is {show(out.loss)}, its gradient {show(out.gradient[0])}")
    return f"called with {f.way}: the loss of two rows is {show(out.loss)}"


def _singles(log_ratios: np.ndarray, advantage: float) -> LossRows:
    """Rows of one token, float64."""
    old = torch.full((len(log_ratios), 1), -6.0, dtype=torch.float64)
    logp = old + torch.from_numpy(np.asarray(log_ratios, dtype=np.float64))[:, None]
    advantages = torch.full((len(old),), advantage, dtype=torch.float64)
    return LossRows(logp, old, advantages, torch.ones(len(old), 1, dtype=torch.bool))


@check("loss")
def gradient_direction(f: LossFunction) -> str:
    """A step down the loss raises logp where the advantage is positive and lowers it where it is negative.

    With a flipped sign (an objective that is maximised in the paper and minimised in the code) the policy unlearns.
    """
    rows = make_rows([4, 3, 5, 2], noise=0.0)
    gradient = f(rows).gradient.sum(1)
    for advantage, slope in zip(rows.advantages.tolist(), gradient.tolist(), strict=True):
        if slope * advantage >= 0:
            does = "raises" if slope < 0 else "lowers" if slope > 0 else "does not move"
            fail(
                f"with the advantage {show(advantage)} the gradient of the loss by logp is {slope:+.4g}: "
                f"a step {does} logp"
            )
    return f"advantages {show(rows.advantages.tolist())} have the gradients {show(gradient)}"


@check("loss")
def ratio_direction(f: LossFunction) -> str:
    """The ratio is theta / old: a token that has become likelier weighs more, as exp(logp - old_logp).

    old / theta is 1 too where the two agree, so that the first step of a batch is right and the later ones push the
    wrong tokens harder.
    """
    power = _power(f, 1.0)
    if power is None:
        not_applicable("the gradient is 0 at ratios a little above and below 1")
    if abs(power) < 0.1:
        not_applicable("its gradient does not depend on old_logp near a ratio of 1")
    # Near 1 alone, a weight that falls on purpose beyond a ratio (VESPO) looks the same.
    far = _power(f, 0.2)
    if power < -0.75 and (far is None or far < -0.75):
        text = "is stopped" if far is None else f"it has the power {far:.2f}"
        fail(
            f"near a ratio of 1 weights go as theta / old to the power {power:.2f}, not 1, and at a ratio of 0.2 {text}"
        )
    text = f"weights go as theta / old to the power {power:.2f} near a ratio of 1"
    return text if abs(power - 1) < 0.1 else Remark(text)


def _power(f: LossFunction, ratio: float) -> float | None:
    """D ln |gradient| / d ln ratio of single tokens with A > 0; None where the gradient is 0."""
    for delta in (0.05, 1e-4):
        # Several rows: a loss may choose one token of a batch for something else.
        at = np.log(ratio) + np.array([delta, -delta] * 4)
        gradient = np.abs(f(_singles(at, 1.0)).gradient[:, 0])
        up, down = float(np.median(gradient[::2])), float(np.median(gradient[1::2]))
        if up > 0 and down > 0:
            return float(np.log(up / down) / (2 * delta))
    return None


@check("loss")
def clip_sides(f: LossFunction) -> str:
    """Where it clips, it stops what has gone far enough: large ratios with A > 0, small ones with A < 0.

    max for min, or bounds that are swapped, stop the tokens that should move and let the others run. With ``clip=`` the
    bounds are checked too.
    """
    stopped = {}
    for advantage in (1.0, -1.0):
        gradient = f(_singles(np.log(_RATIOS), advantage)).gradient[:, 0]
        stopped[advantage] = gradient == 0
        low, high = stopped[advantage][0], stopped[advantage][-1]
        wrong, right = (low, high) if advantage > 0 else (high, low)
        if wrong and not right:
            at = "small" if advantage > 0 else "large"
            ratios = [r for r, zero in zip(_RATIOS, stopped[advantage], strict=True) if zero]
            fail(
                f"with A {'>' if advantage > 0 else '<'} 0 the gradient is 0 at {at} ratios, {show(ratios)}, "
                "and not at the others"
            )
    if f.clip is not None:
        _bounds(f, *f.clip)
        return f"stops at {1 - f.clip[0]:.4g} where A < 0 and at {1 + f.clip[1]:.4g} where A > 0"
    if not any(zero.any() for zero in stopped.values()):
        not_applicable(f"no token is stopped at ratios from {_RATIOS[0]} to {_RATIOS[-1]}")
    said = [
        f"A {'>' if a > 0 else '<'} 0 stops at {show([r for r, z in zip(_RATIOS, zero, strict=True) if z])}"
        for a, zero in stopped.items()
    ]
    return "; ".join(said)


def _bounds(f: LossFunction, low: float, high: float) -> None:
    """Moves just inside of the bounds, and stops just outside."""
    for advantage, bound, outward in ((1.0, 1 + high, 1), (-1.0, 1 - low, -1)):
        width = 0.1 * (high if outward > 0 else low)
        near = np.array([bound - outward * width, bound + outward * width])
        inside, outside = np.abs(f(_singles(np.log(near), advantage)).gradient[:, 0])
        sign = ">" if advantage > 0 else "<"
        if not inside > 0:
            fail(f"A {sign} 0 should move up to the ratio {bound:.4g}, and at {near[0]:.4g} has no gradient")
        if outside > 0:
            fail(f"A {sign} 0 should stop at the ratio {bound:.4g}, and at {near[1]:.4g} has a gradient")


@check("loss")
def advantages_as_given(f: LossFunction) -> str:
    """Twice the advantages give twice the gradient.

    A loss that normalises the advantages of its micro-batch gives the same, whatever comes in: a second normalisation,
    by other rows than the first.
    """
    rows = make_rows([4, 3, 5, 2], noise=0.0)
    one, two = f(rows).gradient, f(replace(rows, advantages=2 * rows.advantages)).gradient
    told = np.abs(one) > 1e-6
    factors = two[told] / one[told]
    if told.any() and np.abs(factors - 1).max() < 0.05:
        fail(f"advantages {show(rows.advantages.tolist())} and twice those give the same gradient, {show(one[0])}")
    if told.any() and np.abs(factors - 2).max() < 0.01:
        return "twice the advantages give twice the gradient"
    return Remark(f"twice the advantages give {show(factors.min())} to {show(factors.max())} times the gradient")

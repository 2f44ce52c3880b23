"""Corrections: several at once, with what is measured of any of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rollmath.loss._check import check_counts, require
from rollmath.loss._metrics import add_counts
from rollmath.loss._mismatch_ratio import FAR, LARGEST
from rollmath.loss._terms import Correction
from rollmath.loss._tokens import Tokens, equal


@dataclass(frozen=True)
class Corrections:
    """Several corrections: their weights multiply, ``w = w_1 w_2 ...``; none of them: 1.

    :func:`policy_loss` makes one of what it is given, a correction or a tuple. Each sees all tokens, not what others
    left. Counts what they count, a name that comes again with a number behind it (``gate_high``, ``gate_high_2``), and

    ============================ ======================================================================================
    ``mismatch_weight``          mean of w
    ``mismatch_weight_square``   mean of w^2
    ``mismatch_kept``            share of tokens with ``w != 0``
    ``mismatch_missing``         share of tokens whose behaviour is NaN; they add nothing to what follows
    ``mismatch_k1``              mean of ``-log r``, with ``r = prox / behaviour`` of each token
    ``mismatch_k3``              mean of ``r - 1 - log r``
    ``mismatch_chi_square``      mean of ``r^2 - 1``
    ``mismatch_abs``             mean of ``|log r|``
    ``mismatch_abs_max``         largest ``|log r|``
    ============================ ======================================================================================

    the last six if there is a behaviour. All are over all trained tokens of the step and add up over micro-batches;
    :func:`mismatch_report` makes of them what does not.

    Attributes:
        parts: the corrections.

    Raises:
        TypeError: a part that is no :class:`Correction`.

    >>> from rollmath.loss import Gate, ImportanceWeight
    >>> Corrections((ImportanceWeight(2.0), Gate("k3", 0.1, level="row"))).coupled
    True
    """

    parts: tuple[Correction, ...]

    def __post_init__(self) -> None:
        require("Corrections", "parts", self.parts, tuple, "a tuple of corrections")
        for number, part in enumerate(self.parts):
            require("Corrections", f"parts[{number}]", part, Correction, "a Correction")

    @property
    def coupled(self) -> bool:
        """Whether the weight of a token depends on other tokens of its rollout."""
        return any(part.coupled for part in self.parts)

    @property
    def reads_advantages(self) -> bool:
        """Whether a weight depends on advantages."""
        return any(getattr(part, "reads_advantages", False) for part in self.parts)

    def weigh(self, tokens: Tokens) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The product of the weights of each token, and all counts."""
        weight: torch.Tensor | None = None
        counts: dict[str, torch.Tensor] = {}
        for number, part in enumerate(self.parts):
            one, found = part.weigh(tokens)
            if not isinstance(one, torch.Tensor) or one.shape != tokens.theta.shape:
                got = tuple(one.shape) if isinstance(one, torch.Tensor) else type(one).__name__
                msg = f"Corrections(): 'parts[{number}]' must give weights of shape {tuple(tokens.theta.shape)} "
                raise ValueError(msg + f"(= trained tokens), got {got}")
            check_counts("Corrections", f"parts[{number}]", found, tokens.theta)
            weight = one if weight is None else weight * one
            add_counts(counts, found)
        if weight is None:
            weight = torch.ones_like(tokens.theta)
        if tokens.mask is not None:
            # The weight of a row is that of its gaps too, and may be NaN, which their weight of 0 would not undo.
            weight = torch.where(tokens.mask != 0, weight, 0)
        counts |= {
            "mismatch_weight": tokens.total(weight),
            "mismatch_weight_square": tokens.total(weight.square().clamp_(max=LARGEST)),
            "mismatch_kept": tokens.total(weight.clone().ne_(0)),
        }
        return weight, counts | measured(tokens)


def measured(tokens: Tokens) -> dict[str, torch.Tensor]:
    """How far prox is from behaviour, token by token: named sums, none without a behaviour."""
    if tokens.behaviour is None:
        return {}
    present = equal(tokens.behaviour, tokens.behaviour)
    behaviour = tokens.behaviour.nan_to_num(nan=0.0, posinf=FAR, neginf=-FAR).clamp_(-FAR, FAR)
    x = (tokens.prox.clamp(-FAR, FAR) - behaviour).mul_(present)
    grown = x.expm1().clamp_(max=LARGEST)
    distance = x.abs()
    # r^2 - 1 = (r - 1)(r + 1), which does not lose a small r - 1.
    square = ((grown + 2) * grown).clamp_(max=LARGEST)
    return {
        "mismatch_missing": tokens.total(1 - present),
        "mismatch_k1": 0.0 - tokens.total(x),  # no -0.0
        "mismatch_k3": tokens.total(grown - x),
        "mismatch_chi_square": tokens.total(square),
        "mismatch_abs": tokens.total(distance),
        "mismatch_abs_max": tokens.largest(distance).double(),
    }


def as_correction(who: str, correction: object) -> Corrections:
    """What a caller gave as ``correction``, one or several.

    Raises:
        TypeError: neither.
    """
    if isinstance(correction, Corrections):
        return correction
    if not isinstance(correction, (tuple, list)):
        require(
            who,
            "correction",
            correction,
            Correction,
            "a Correction or a tuple of them (objects with coupled and weigh)",
        )
        correction = (correction,)
    for number, part in enumerate(correction):
        require(who, f"correction[{number}]", part, Correction, "a Correction")
    return Corrections(tuple(correction))

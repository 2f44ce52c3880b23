"""Tokens: what an objective, a KL term or a correction sees of the trained tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from rollmath._arrays import describe
from rollmath.loss._places import runs_of
from rollmath.loss._spans import How, Level, Spans
from rollmath.rows import Rows


class Tokens:
    """Trained tokens of some whole rows as 1-D tensors of one length, without gradient.

    They are float32, or float64 if theta is. On a CPU they are the trained tokens alone. Where shapes must not depend
    on values, on a GPU, other positions are there too, with log-probability, advantage and weight 0; so write formulas
    for all positions, and count with :meth:`total`, which leaves them out.

    Attributes:
        theta: log-probabilities under the policy in training.
        prox: under the proximal policy; theta itself if none was given.
        behaviour: under the policy that sampled; None if not given.
        ref: under the reference policy; None if not given.
        advantages: of each token.
        weight: what the loss of a token is multiplied by in that of the batch: a number, or one a token.
        selected: 1.0 for the tokens that a batch-coupled objective has chosen in the whole step, else 0.0; None for
            other objectives.
        mask: 1.0 where a position is trained, else 0.0; None if all are.
    """

    def __init__(
        self,
        theta: torch.Tensor,
        advantages: torch.Tensor,
        weight: float | torch.Tensor,
        spans: Spans,
        *,
        prox: torch.Tensor | None = None,
        behaviour: torch.Tensor | None = None,
        ref: torch.Tensor | None = None,
        version: torch.Tensor | Callable[[], torch.Tensor] | None = None,
        selected: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
    ) -> None:
        self.theta, self.prox, self.behaviour, self.ref = theta, theta if prox is None else prox, behaviour, ref
        self.advantages, self.weight, self.mask, self._spans = advantages, weight, mask, spans
        self._version = version
        self._log_ratio: torch.Tensor | None = None
        self._ratio: torch.Tensor | None = None
        self.selected = selected
        self._gated = False

    @classmethod
    def of(
        cls,
        theta: torch.Tensor,
        advantages: torch.Tensor,
        *,
        rows: Rows | None = None,
        weight: float | torch.Tensor = 1.0,
        **policies: torch.Tensor | None,
    ) -> Tokens:
        """Tokens of your own, to try an objective on.

        Args:
            theta: ``[n]``.
            advantages: ``[n]``.
            rows: rows with ``n`` trained tokens in all; None for one row.
            weight: a number, or ``[n]``.
            policies: ``prox``, ``behaviour``, ``ref``, ``[n]`` each; ``version``, int64 ``[n]``; ``selected``, floats
                0 and 1 ``[n]``.

        Raises:
            ValueError: shapes that differ.
            TypeError: what is no tensor of the right dtype.

        >>> from rollmath.loss import PPO
        >>> tokens = Tokens.of(torch.tensor([-1.0, -2.0]), torch.tensor([1.0, -1.0]))
        >>> PPO().token_loss(tokens).loss
        tensor([-1.,  1.])
        """
        known = ("prox", "behaviour", "ref", "version", "selected")
        for name, x in {"theta": theta, "advantages": advantages, **policies}.items():
            if name not in {"theta", "advantages", *known}:
                msg = f"Tokens.of(): {name!r} is no policy; there are {', '.join(known)}"
                raise TypeError(msg)
            if x is None and name in known:
                continue
            if not isinstance(x, torch.Tensor) or x.dim() != 1 or x.is_floating_point() != (name != "version"):
                kind = "an int64" if name == "version" else "a float"
                msg = f"Tokens.of(): {name!r} must be {kind} tensor [n], got {describe(x)}"
                raise TypeError(msg)
            if x.shape != theta.shape:
                msg = f"Tokens.of(): {name!r} must have length {len(theta)} (= len(theta)), got {len(x)}"
                raise ValueError(msg)
        if isinstance(weight, torch.Tensor) and weight.shape != theta.shape:
            msg = f"Tokens.of(): 'weight' must be a number or have shape {tuple(theta.shape)} (= theta.shape), got "
            raise ValueError(msg + str(tuple(weight.shape)))
        trained = np.array([len(theta)]) if rows is None else rows.trained
        if int(trained.sum()) != len(theta):
            msg = f"Tokens.of(): 'rows' must have {len(theta)} (= len(theta)) trained tokens, got {int(trained.sum())}"
            raise ValueError(msg)
        index = np.arange(len(trained))
        rollout = index if rows is None else rows.rollouts.index
        turns = trained if rows is None else runs_of(rows, index).trained
        dtype = torch.float64 if theta.dtype == torch.float64 else torch.float32
        spans = Spans(trained, trained, lambda: rollout, lambda: (turns, turns), theta.device)
        version = policies.pop("version", None)
        columns = {name: x.detach().to(dtype) for name, x in policies.items() if x is not None}
        return cls(theta.detach().to(dtype), advantages.detach().to(dtype), weight, spans, version=version, **columns)

    def __len__(self) -> int:
        return len(self.theta)

    # Kept by hand: the lock of functools.cached_property is more than torch.compile can read.

    @property
    def version(self) -> torch.Tensor | None:
        """Version of the policy that sampled each token, int64, made when it is asked for; None if not given."""
        if self._version is not None and not isinstance(self._version, torch.Tensor):
            self._version = self._version()
        return self._version

    @property
    def log_ratio(self) -> torch.Tensor:
        """``theta - prox``."""
        if self._log_ratio is None:
            self._log_ratio = self.theta - self.prox
        return self._log_ratio

    @property
    def ratio(self) -> torch.Tensor:
        """``rho = exp(theta - prox)``, at most the largest finite number, so that 0 times it is 0."""
        if self._ratio is None:
            self._ratio = exp(self.log_ratio)
        return self._ratio

    @property
    def trained(self) -> int | torch.Tensor:
        """Number of trained tokens."""
        return len(self.theta) if self.mask is None else self.mask.sum(dtype=torch.float64)

    def total(self, x: torch.Tensor) -> torch.Tensor:
        """Sum over the trained tokens, 0-d float64. ``x`` has one number a position, which must be finite."""
        return total(x if self.mask is None else x * self.mask)

    def count(self, x: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        """Trained tokens where ``x``, which is 0 or 1, is 1; or where both ``x`` and ``y`` are. 0-d float64."""
        # float32 counts exactly up to 2^24, and faster.
        if self.mask is None and len(x) <= 1 << 24:
            return (x.sum() if y is None else torch.dot(x, y)).double()
        return self.total(x if y is None else x * y)

    def nonzero(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens where ``x``, which is 0 where nothing is trained, is not 0. 0-d float64."""
        if len(x) > 1 << 24:
            return torch.count_nonzero(x).double()
        sign = x.sign()
        return torch.dot(sign, sign).double()

    def largest(self, x: torch.Tensor) -> torch.Tensor:
        """Largest over the trained tokens, 0-d; 0 of none. For numbers that are not negative."""
        if len(x) == 0:
            return x.new_zeros(())
        return (x if self.mask is None else x * self.mask).amax()

    def sizes(self, level: Level) -> torch.Tensor:
        """Trained tokens of each row, rollout or turn here, float64."""
        return self._spans.sizes(level)

    def reduce(self, x: torch.Tensor, level: Level, how: How = "mean") -> torch.Tensor:
        """Sum, mean or maximum over the trained tokens of each row, rollout or turn, float64; 0 where there are none.

        ``"max"`` is for numbers that are not negative.
        """
        return self._spans.reduce(x if self.mask is None else x * self.mask, level, how)

    def spread(self, x: torch.Tensor, level: Level) -> torch.Tensor:
        """One value a row, rollout or turn for each of its tokens, in the dtype of theta; 0 at untrained positions."""
        found = self._spans.spread(x.to(self.theta.dtype), level)
        # A selection and no product: 0 times a NaN or infinity of the row would not be 0.
        return found if self.mask is None else torch.where(self.mask != 0, found, 0)

    def weighted(self, x: torch.Tensor) -> torch.Tensor:
        """``x`` times the weight of each token: 0 where a correction made that 0, even if ``x`` is infinite."""
        return (finite(x) if self._gated else x) * self.weight

    def weighted_(self, x: torch.Tensor) -> torch.Tensor:
        """:meth:`weighted` in place."""
        return (finite(x) if self._gated else x).mul_(self.weight)

    def share(self, x: torch.Tensor, level: Level, how: How = "mean") -> torch.Tensor:
        """The derivative of each token if ``x`` is that with respect to :meth:`reduce` of the log-probabilities.

        ``x`` is one a token, already weighted: what all tokens of a row (rollout, turn) want is added up and, under
        ``how="mean"``, divided among them.
        """
        total = self.reduce(x, level, "sum")
        return self.spread(total / self.sizes(level).clamp(min=1) if how == "mean" else total, level)

    def reweighted(self, weight: torch.Tensor) -> Tokens:
        """The same tokens, their weight multiplied by one number a token."""
        made = self._with(weight=weight * self.weight)._like(self)
        made._gated = True
        return made

    def with_advantages(self, advantages: torch.Tensor) -> Tokens:
        """The same tokens with other advantages."""
        return self._with(advantages=advantages)._like(self)

    def with_log_ratio(self, log_ratio: torch.Tensor) -> Tokens:
        """The same tokens, with this in the place of :attr:`log_ratio`, say the mean of each sequence."""
        made = self._with()
        made._log_ratio = log_ratio
        return made

    def _with(self, **changed: torch.Tensor) -> Tokens:
        fields: dict[str, Any] = {
            "theta": self.theta,
            "advantages": self.advantages,
            "weight": self.weight,
            "spans": self._spans,
        }
        fields |= {"prox": None if self.prox is self.theta else self.prox}
        fields |= {name: getattr(self, name) for name in ("behaviour", "ref", "selected", "mask")}
        fields |= {"version": self._version}
        made = type(self)(**(fields | changed))
        made._gated = self._gated
        return made

    def _like(self, other: Tokens) -> Tokens:
        self._log_ratio, self._ratio = other._log_ratio, other._ratio
        return self


def total(x: torch.Tensor) -> torch.Tensor:
    """Sum of a 1-D tensor, 0-d float64: of float32 in float32 over 2^18 at a time, pairwise, in float64 beyond."""
    # torch sums float32 in float64 by converting all of it first, which costs more than the sum.
    # A compiler fuses that, and would compile each branch on the length anew.
    if x.dtype == torch.float64 or torch.compiler.is_compiling() or len(x) < 4096:
        return x.sum(dtype=torch.float64)
    if len(x) <= 1 << 19:
        return x.sum().double()
    whole = len(x) >> 18 << 18
    blocks = x[:whole].view(-1, 1 << 18).sum(1).sum(dtype=torch.float64)
    return blocks if whole == len(x) else blocks + x[whole:].sum().double()


def exp(x: torch.Tensor) -> torch.Tensor:
    """``e^x``, at most the largest finite number of the dtype. NaN stays NaN."""
    return x.exp().clamp_(max=torch.finfo(x.dtype).max)


def finite(x: torch.Tensor) -> torch.Tensor:
    """``x``, infinities replaced by the largest finite numbers, so that 0 times it is 0. NaN stays NaN."""
    largest = torch.finfo(x.dtype).max
    return x.clamp(-largest, largest)


# 1.0 and 0.0 instead of bools: on a CPU torch compares floats in place, and multiplies by the result, an order of
# magnitude faster than it selects by a bool. NaN compares as false.


def above(x: torch.Tensor, bound: torch.Tensor | float) -> torch.Tensor:
    """1.0 where ``x > bound``, else 0.0."""
    return x.clone().gt_(bound)


def below(x: torch.Tensor, bound: torch.Tensor | float) -> torch.Tensor:
    """1.0 where ``x < bound``, else 0.0."""
    return x.clone().lt_(bound)


def equal(x: torch.Tensor, y: torch.Tensor | float) -> torch.Tensor:
    """1.0 where ``x == y``, else 0.0."""
    return x.clone().eq_(y)

"""Coefficients that follow what is measured: frozen dataclasses of plain numbers, which pickle and go into JSON."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rollmath._checks import real, whole


@dataclass(frozen=True)
class AdaptiveEntropy:
    """Coefficient of an entropy bonus that steps up while entropy is at most the target, and down while it is above.

    After each optimiser step, in which the entropy H was measured: ``coef <- min(coef + delta, high)`` if
    ``H <= target``, else ``max(coef - delta, low)``. What the next step *applies* is gated by the same measurement:
    ``coefficient = coef if H <= target else 0``. Immutable: :meth:`update` returns a new one.

    Attributes:
        coef: the coefficient that is stepped.
        target: entropy in nats a token; the bonus is for entropies at or below it.
        delta: size of a step, at least 0.
        low: least ``coef``.
        high: largest ``coef``, at least ``low``.
        last: entropy of the last step; None before the first, for which nothing is applied.

    The defaults are TRL's. Its target of 0.2 acts on a policy that has almost collapsed; take one near the entropy at
    the start of training.

    Raises:
        ValueError: numbers that are not finite, bounds in the wrong order, ``coef`` outside of them.
        TypeError: what is no number.

    Source: Skywork-OR1, arXiv 2505.22312, as TRL has it (code executed); paper not read.

    >>> control = AdaptiveEntropy(coef=0.0, target=0.5, delta=0.01)
    >>> control = control.update(0.4)
    >>> control.coef, control.coefficient
    (0.01, 0.01)
    >>> control = control.update(0.4).update(0.6)
    >>> control.coef, control.coefficient
    (0.01, 0.0)
    """

    coef: float = 0.0
    target: float = 0.2
    delta: float = 0.005
    low: float = 0.0
    high: float = 1.0
    last: float | None = None

    def __post_init__(self) -> None:
        who = "AdaptiveEntropy"
        low = real(who, "low", self.low)
        high = real(who, "high", self.high, low)
        fields = {
            "coef": real(who, "coef", self.coef, low, high),
            "target": real(who, "target", self.target),
            "delta": real(who, "delta", self.delta, 0.0),
            "low": low,
            "high": high,
            "last": None if self.last is None else real(who, "last", self.last),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def coefficient(self) -> float:
        """What this step applies in all its micro-batches: ``loss - coefficient * entropy``."""
        return self.coef if self.last is not None and self.last <= self.target else 0.0

    def update(self, entropy: float) -> AdaptiveEntropy:
        """The controller after an optimiser step.

        Args:
            entropy: mean over *all* trained tokens of the step in nats: the sum over all micro-batches and ranks,
                divided by the number of tokens. A mean of the means of micro-batches is another number.

        Returns:
            A new controller.

        Raises:
            ValueError: NaN or infinity.
            TypeError: no number; call ``.item()`` of a tensor.
        """
        measured = real("AdaptiveEntropy.update", "entropy", entropy)
        up = measured <= self.target
        coef = min(self.coef + self.delta, self.high) if up else max(self.coef - self.delta, self.low)
        return replace(self, coef=coef, last=measured)


@dataclass(frozen=True)
class AdaptiveKL:
    """Coefficient that holds a KL near its target: ``coef <- coef (1 + error rollouts / horizon)``.

    With ``error = clip(KL / target - 1, -0.2, 0.2)``. Immutable: :meth:`update` returns a new one.

    Attributes:
        coef: the coefficient, positive: what a step applies.
        target: KL that it aims at, positive.
        horizon: how many rollouts a correction is spread over, positive: the larger, the slower.

    Raises:
        ValueError: numbers that are not positive and finite.
        TypeError: what is no number.

    Source: Ziegler et al. 2019, arXiv 1909.08593 (paper not read); verl's class executed beside ours.

    >>> AdaptiveKL(coef=0.1, target=6.0, horizon=10000).update(12.0, rollouts=1000)
    AdaptiveKL(coef=0.10200000000000001, target=6.0, horizon=10000.0)
    """

    coef: float
    target: float
    horizon: float

    def __post_init__(self) -> None:
        for name in ("coef", "target", "horizon"):
            object.__setattr__(self, name, real("AdaptiveKL", name, getattr(self, name), above=0.0))

    @property
    def coefficient(self) -> float:
        """What this step applies: ``coef``."""
        return self.coef

    def update(self, kl: float, *, rollouts: int) -> AdaptiveKL:
        """The controller after a step.

        Args:
            kl: KL of the step, in the units of ``target`` (verl: mean over rows of the mean over tokens). An estimate
                may be negative.
            rollouts: how many since the last update (verl's ``n_steps``, which is the size of the batch), at least 0
                and less than five horizons: from there on, a low KL would turn the coefficient to zero or below.

        Returns:
            A new controller.

        Raises:
            ValueError: NaN or infinity, ``rollouts`` out of range.
            TypeError: ``kl`` is no number, ``rollouts`` no whole one; call ``.item()`` of a tensor.
        """
        who = "AdaptiveKL.update"
        error = min(max(real(who, "kl", kl) / self.target - 1.0, -0.2), 0.2)
        count = whole(who, "rollouts", rollouts, 0)
        if count >= 5.0 * self.horizon:
            msg = f"{who}(): 'rollouts' must be less than 5 horizons (= {5.0 * self.horizon:g}), got {count}"
            raise ValueError(msg)
        return replace(self, coef=self.coef * (1.0 + error * count / self.horizon))

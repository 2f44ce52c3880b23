"""``BetaBaseline``: a success rate for each prompt that is carried from batch to batch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath._arrays import ArrayLike, Immutable, frozen
from rollmath._checks import finite, mask, real, rows
from rollmath.groups import Groups, as_groups
from rollmath.ops import gather, segment_count, segment_mean, segment_sum

if TYPE_CHECKING:
    from numpy.typing import NDArray


class BetaBaseline(Immutable):
    """Beta(alpha, beta) for the success rate of each prompt; older batches count less the more the policy has moved.

    ``value = alpha / (alpha + beta)``; a batch turns alpha into ``rho alpha + sum r`` and beta into
    ``rho beta + sum (1 - r)``, with ``rho = 2^(-D / half_drift)`` clipped to the bounds ``rho`` and ``D`` the drift of
    the policy on this prompt since it was last seen. Immutable: :meth:`update` returns a new state. It pickles, and
    :meth:`to_dict` is plain data.

    Args:
        prompts: ids of the prompts known, all different.
        alpha: pseudo-counts of success, one a prompt, not negative.
        beta: pseudo-counts of failure, likewise; one of the two is positive.
        prior: alpha and beta of a prompt that was never seen.
        rho: smallest and largest forgetting factor; equal for a constant one.
        half_drift: the drift at which half is forgotten.

    Source: see :func:`single_stream`.

    >>> state = BetaBaseline().update([1.0, 1.0, 0.0], ["p", "p", "q"])
    >>> state, state.value(["q", "p", "new"]).round(3).tolist()
    (BetaBaseline(2 prompts), [0.245, 0.838, 0.5])
    """

    prompts: tuple[Any, ...]
    alpha: NDArray[np.float64]
    beta: NDArray[np.float64]
    prior: tuple[float, float]
    rho: tuple[float, float]
    half_drift: float

    def __init__(
        self,
        prompts: ArrayLike = (),
        alpha: ArrayLike = (),
        beta: ArrayLike = (),
        *,
        prior: tuple[float, float] = (0.5, 0.5),
        rho: tuple[float, float] = (0.875, 0.96),
        half_drift: float = 0.06,
    ) -> None:
        who = "BetaBaseline"
        known = as_groups(who, prompts, name="prompts")
        if known.n_groups != len(known):
            msg = f"{who}(): 'prompts' must all be different"
            raise ValueError(msg)
        counts = []
        for name, x in (("alpha", alpha), ("beta", beta)):
            counts.append(np.array(rows(who, name, x, len(known), why="len(prompts)")[0]))
            finite(who, name, counts[-1], np.ones(len(known), dtype=bool), must="finite and not negative")
        if len(none := np.flatnonzero(counts[0] + counts[1] == 0)):
            msg = f"{who}(): 'alpha' and 'beta' must not both be 0, but are for prompt {known.ids[none[0]]!r}"
            raise ValueError(msg)
        (a, b), (low, high) = (self._pair(who, n, v) for n, v in (("prior", prior), ("rho", rho)))
        if not (a > 0 and b > 0):
            msg = f"{who}(): 'prior' must be positive, got {prior}"
            raise ValueError(msg)
        if not 0 <= low <= high <= 1:
            msg = f"{who}(): 'rho' must be 0 <= smallest <= largest <= 1, got {rho}"
            raise ValueError(msg)
        half = real(who, "half_drift", half_drift, above=0.0)
        self._fill(prompts=known.ids, alpha=frozen(counts[0]), beta=frozen(counts[1]))
        self._fill(prior=(a, b), rho=(low, high), half_drift=half)

    @staticmethod
    def _pair(who: str, name: str, value: Any) -> tuple[float, float]:
        if not isinstance(value, (tuple, list)) or len(value) != 2:
            msg = f"{who}(): {name!r} must be two numbers, got {value!r}"
            raise TypeError(msg)
        return real(who, name, value[0]), real(who, name, value[1])

    @classmethod
    def from_rewards(
        cls,
        rewards: ArrayLike,
        prompts: Groups | ArrayLike,
        *,
        prior: tuple[float, float] = (0.5, 0.5),
        rho: tuple[float, float] = (0.875, 0.96),
        half_drift: float = 0.06,
    ) -> BetaBaseline:
        """From rewards in [0, 1] that were sampled beforehand.

        Value ``(sum r + a) / (n + a + b)`` with the prior (a, b), and ``alpha + beta = 1 / (1 - smallest rho)``, where
        constant forgetting would settle: no prompt starts with more weight than it could keep.
        """
        who = "BetaBaseline.from_rewards"
        state = cls(prior=prior, rho=rho, half_drift=half_drift)
        made = as_groups(who, prompts, name="prompts")
        r, _ = rows(who, "rewards", rewards, len(made))
        finite(who, "rewards", r, np.ones(len(r), dtype=bool), must="in [0, 1]")
        if state.rho[0] == 1:
            msg = f"{who}(): 'rho' must have a smallest value below 1, got {rho}"
            raise ValueError(msg)
        (a, b), settled = state.prior, 1.0 / (1.0 - state.rho[0])
        total = segment_count(made) + (a + b)
        alpha, beta = segment_sum(r, made) + a, segment_sum(1.0 - r, made) + b
        return state._with(made.ids, settled * alpha / total, settled * beta / total)

    def value(self, prompts: Groups | ArrayLike) -> NDArray[np.float64]:
        """Success rate of the prompt of each row, ``[N]``; that of the prior for prompts not known."""
        return self._value("BetaBaseline.value", prompts)

    def _value(self, who: str, prompts: Groups | ArrayLike) -> NDArray[np.float64]:
        made = as_groups(who, prompts, name="prompts")
        alpha, beta = self._counts(self._find(who, made))
        out: NDArray[np.float64] = gather(alpha / (alpha + beta), made)
        return out

    def update(
        self,
        rewards: ArrayLike,
        prompts: Groups | ArrayLike,
        *,
        drift: ArrayLike | None = None,
        valid: ArrayLike | None = None,
    ) -> BetaBaseline:
        """The state after a batch. A prompt's rollouts are one update, whatever their order and number.

        Args:
            rewards: one number in [0, 1] a rollout, ``[N]``.
            prompts: a :class:`~rollmath.Groups` or one prompt id a rollout, ``[N]``.
            drift: how far the policy has moved on the prompt of each rollout since it was last seen, ``[N]``, not
                negative: the official code takes the mean of ``abs(log pi_then - log pi_now)`` over the tokens of the
                last rollout. The mean over the rollouts of a prompt counts. Default: 0, so the largest ``rho``.
            valid: rollouts that take part.
        """
        return self._update("BetaBaseline.update", rewards, prompts, drift, valid)

    def _update(
        self,
        who: str,
        rewards: ArrayLike,
        prompts: Groups | ArrayLike,
        drift: ArrayLike | None,
        valid: ArrayLike | None,
    ) -> BetaBaseline:
        made = as_groups(who, prompts, name="prompts")
        r, _ = rows(who, "rewards", rewards, len(made), why="len(prompts)")
        seen = mask(who, "valid", valid, len(made), why="len(prompts)")
        finite(who, "rewards", r, seen, must="in [0, 1]")
        d = np.zeros(len(r)) if drift is None else rows(who, "drift", drift, len(made), why="len(prompts)")[0]
        finite(who, "drift", d, seen, must="finite and not negative")
        some = segment_count(made, valid=seen) > 0
        place = self._find(who, made)
        rho = np.clip(np.exp2(-segment_mean(d, made, valid=seen) / self.half_drift), *self.rho)
        alpha, beta = self._counts(place)
        alpha = rho * alpha + segment_sum(r, made, valid=seen)
        beta = rho * beta + segment_sum(1.0 - r, made, valid=seen)
        new = some & (place < 0)
        a, b = np.append(self.alpha, alpha[new]), np.append(self.beta, beta[new])
        old = some & (place >= 0)
        a[place[old]], b[place[old]] = alpha[old], beta[old]
        if not new.any():
            return self._with(self.prompts, a, b, self._places)
        added = tuple(made.ids[g] for g in np.flatnonzero(new))
        return self._with(self.prompts + added, a, b)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for a checkpoint: JSON, if the ids are strings or ints."""
        return {
            "prompts": list(self.prompts),
            "alpha": self.alpha.tolist(),
            "beta": self.beta.tolist(),
            "prior": list(self.prior),
            "rho": list(self.rho),
            "half_drift": self.half_drift,
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> BetaBaseline:
        """The inverse of :meth:`to_dict`, to the last bit."""
        keys = ["prompts", "alpha", "beta", "prior", "rho", "half_drift"]
        if not isinstance(state, Mapping) or sorted(state) != sorted(keys):
            msg = (
                f"BetaBaseline.from_dict(): 'state' must be a dict with the keys {', '.join(keys)}, as to_dict() gives"
            )
            raise ValueError(msg)
        return cls(**state)

    def _with(
        self, prompts: tuple[Any, ...], alpha: NDArray[Any], beta: NDArray[Any], places: dict[Any, int] | None = None
    ) -> BetaBaseline:
        made = BetaBaseline.__new__(BetaBaseline)
        made._fill(prompts=prompts, alpha=frozen(alpha), beta=frozen(beta))
        made._fill(prior=self.prior, rho=self.rho, half_drift=self.half_drift)
        if places is not None:
            made._fill(_places=places)
        return made

    @cached_property
    def _places(self) -> dict[Any, int]:
        return {prompt: place for place, prompt in enumerate(self.prompts)}

    def _find(self, who: str, made: Groups) -> NDArray[np.int64]:
        """Place of each prompt of a batch in the state, -1 if it is new."""
        if self.prompts and made.n_groups and not _alike(self.prompts[0], made.ids[0]):
            msg = (
                f"{who}(): 'prompts' must have ids of the type of those known, {type(self.prompts[0]).__name__}, "
                f"got {type(made.ids[0]).__name__}"
            )
            raise TypeError(msg)
        get = self._places.get
        return np.fromiter((get(prompt, -1) for prompt in made.ids), dtype=np.int64, count=made.n_groups)

    def _counts(self, place: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        a, b = np.append(self.alpha, self.prior[0]), np.append(self.beta, self.prior[1])
        return a[place], b[place]

    def __len__(self) -> int:
        return len(self.prompts)

    def _known(self) -> tuple[Any, ...]:
        counts = zip(self.alpha.tolist(), self.beta.tolist(), strict=True)
        return dict(zip(self.prompts, counts, strict=True)), self.prior, self.rho, self.half_drift

    def __eq__(self, other: object) -> bool:
        # The order of the prompts is that in which they came.
        return isinstance(other, BetaBaseline) and self._known() == other._known()

    def __hash__(self) -> int:
        return hash((frozenset(self.prompts), self.prior, self.rho, self.half_drift))

    def __repr__(self) -> str:
        return f"BetaBaseline({len(self)} prompts)"

    def __reduce__(self) -> tuple[Any, ...]:
        return BetaBaseline.from_dict, (self.to_dict(),)


def _alike(a: object, b: object) -> bool:
    return type(a) is type(b) or (isinstance(a, (int, np.integer)) and isinstance(b, (int, np.integer)))

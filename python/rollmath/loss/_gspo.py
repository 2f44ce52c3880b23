"""Sequence ratios: GSPO, and LUSPO, which multiplies it by the length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from rollmath._arrays import choice
from rollmath.loss._objectives import Objective, TokenLoss
from rollmath.loss._options import bounds_of, over
from rollmath.loss._ppo import PPO
from rollmath.loss._tokens import Tokens, equal


@dataclass(frozen=True)
class GSPO(Objective):
    r"""One ratio a sequence: ``L_t = max(-A_t s, -A_t clip(s, 1 - lo, 1 + hi))``, ``s = exp(mean_t (theta - prox))``.

    The mean runs over the trained tokens of the sequence, so that ``s`` is the length-normalised ratio. It is the loss
    of *each* token of the sequence; with the aggregation ``"rollout_mean_token_mean"`` (or ``"seq_mean_token_mean"``
    if ``unit="row"``) the loss of a sequence is that of the paper, where all tokens share one advantage.

    With ``gradient="sequence"`` the derivative is that of ``s``, which reaches all tokens of the sequence::

        d F / d theta_j = (1 / n) sum_{t of the sequence} w_t (-A_t s where t is not clipped, else 0)

    With ``gradient="token"`` it is ``-w_j A_j s`` where token ``j`` is not clipped: ``s`` enters as the constant
    ``s_t = sg(s) pi_t / sg(pi_t)`` (GSPO-token of the paper). The two agree where weight and advantage are the same for
    all tokens of a sequence; else "token" keeps the credit of a token on that token.

    Attributes:
        clip: ``(lo, hi)``, or one number for both, around 1; of the order of 1e-4, because ``s`` is a mean.
        unit: which tokens make the sequence: the ``"rollout"`` (all its rows), the ``"row"``, or the ``"turn"``, a run
            of trained tokens (the turn-level ratio of ST-PPO, without its correction of the clipping bias; unverified).
        gradient: ``"sequence"`` or ``"token"``.
        max_log_ratio: the mean log-ratio is at most this, with derivative 0 beyond, as verl does with 10. None: as it
            is; ``s`` then stops at the largest finite number.

    Edge cases:
        A sequence of one token is PPO. Exactly on a boundary the gradient is the one of the unclipped side. A token
        with ``A = 0`` has loss 0, but under "sequence" its log-probability moves ``s`` for the others.
        Sequence-coupled: all rows of a rollout must be in one call. Counts ``clip_high`` and ``clip_low`` in tokens.

    Raises:
        ValueError: a bound out of range, an unknown choice.
        TypeError: a bound that is no number.

    Source: Zheng et al. 2025, arXiv 2507.18071.

    >>> tokens = Tokens.of(torch.tensor([-1.0, -2.0]), torch.tensor([1.0, 1.0]), prox=torch.tensor([-1.5, -1.5]))
    >>> out = GSPO(clip=(3e-4, 4e-4)).token_loss(tokens)  # the mean log-ratio is 0
    >>> out.loss, out.gradient
    (tensor([-1., -1.]), tensor([-1., -1.]))
    """

    coupling: ClassVar[Literal["separable", "sequence", "batch"]] = "sequence"
    clip: tuple[float, float] | float = (3e-4, 4e-4)
    unit: Literal["rollout", "row", "turn"] = "rollout"
    gradient: Literal["sequence", "token"] = "sequence"
    max_log_ratio: float | None = None

    def __post_init__(self) -> None:
        name = type(self).__name__
        object.__setattr__(self, "clip", bounds_of(name, "clip", self.clip))
        choice(name, "unit", self.unit, ("rollout", "row", "turn"))
        choice(name, "gradient", self.gradient, ("sequence", "token"))
        object.__setattr__(self, "max_log_ratio", over(name, "max_log_ratio", self.max_log_ratio, 0.0))

    def token_loss(self, tokens: Tokens) -> TokenLoss:
        """Loss and derivative of each token."""
        out, wanted = self._clipped(tokens)
        return out._replace(gradient=self._to_tokens(tokens, wanted))

    def _clipped(self, tokens: Tokens) -> tuple[TokenLoss, torch.Tensor]:
        """The clipped loss of each token at the ratio of its sequence, and what it wants of the mean log-ratio."""
        mean = tokens.reduce(tokens.log_ratio, self.unit, "mean")
        limit = self.max_log_ratio
        capped = mean if limit is None else mean.clamp(max=limit)
        out = PPO(clip=self.clip).token_loss(tokens.with_log_ratio(tokens.spread(capped, self.unit)))
        wanted = out.gradient
        if limit is not None:
            wanted = wanted * tokens.spread(equal(capped, mean), self.unit)
        counts = {name: out.counts[name] for name in ("clip_high", "clip_low")}
        return TokenLoss(out.loss, wanted, counts), wanted

    def _to_tokens(self, tokens: Tokens, wanted: torch.Tensor) -> torch.Tensor:
        return wanted if self.gradient == "token" else tokens.share(wanted, self.unit, "mean")


@dataclass(frozen=True)
class LUSPO(GSPO):
    r"""GSPO times the length: ``L_t = n max(-A_t s, -A_t clip(s, 1 - lo, 1 + hi))``, n trained tokens of the sequence.

    GSPO divides what a sequence of one advantage contributes by its length (``d s / d theta_t = s / n``), so that the
    tokens of long sequences count less. With the aggregation ``"rollout_mean_token_mean"`` (or
    ``"seq_mean_token_mean"`` if ``unit="row"``) this is the loss of the paper; it equals :class:`GSPO` with
    ``"rollout_mean_token_sum"`` (``"seq_mean_token_sum"``).

    Attributes:
        clip: as in :class:`GSPO`.
        unit: as in :class:`GSPO`.
        gradient: as in :class:`GSPO`.
        max_log_ratio: as in :class:`GSPO`.

    Raises:
        ValueError: a bound out of range, an unknown choice.
        TypeError: a bound that is no number.

    Source: arXiv 2602.05261, as TRL has it (``loss_type="luspo"``, whose mean over sequences counts empty ones too).

    >>> tokens = Tokens.of(torch.tensor([-1.0, -2.0]), torch.tensor([1.0, 1.0]), prox=torch.tensor([-1.5, -1.5]))
    >>> LUSPO().token_loss(tokens).loss
    tensor([-2., -2.])
    """

    def token_loss(self, tokens: Tokens) -> TokenLoss:
        """Loss and derivative of each token."""
        out, wanted = self._clipped(tokens)
        length = tokens.spread(tokens.sizes(self.unit), self.unit)
        return TokenLoss(out.loss * length, self._to_tokens(tokens, wanted * length), out.counts)

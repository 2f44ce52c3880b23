"""REINFORCE: the log-probability times the advantage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rollmath.loss._objectives import Objective, TokenLoss
from rollmath.loss._score import score_loss
from rollmath.loss._tokens import Tokens


@dataclass(frozen=True)
class Reinforce(Objective):
    r"""Policy gradient without a ratio: ``L = -A logp``, with the derivative ``-A``.

    It is unbiased only on policy: prox and behaviour are not read. With the ratio as a constant weight,
    ``L = -A sg(rho) logp``, it is ``CISPO(clip=(1, math.inf))``, and ``CISPO(cap=1.0)`` with the weight truncated to
    [0, 1]. (``sg`` is stop-gradient: a factor that is not differentiated.)

    verl calls it ``gpg`` (GPG's factor is in the advantage, :func:`rollmath.group.gpg`); verl's ``reinforce`` in bypass
    mode multiplies it by a correction of the mismatch, which ``policy_loss(correction=...)`` does here.

    Edge cases:
        A token with ``A = 0`` has loss 0 and derivative 0, even if its log-probability is -inf. A NaN log-probability
        makes loss and derivative NaN.

    Source: Williams 1992; for language models Ahmadian et al. 2024, arXiv 2402.14740; GPG, arXiv 2504.02546.

    >>> import torch
    >>> out = Reinforce().token_loss(Tokens.of(torch.tensor([-1.0, -2.0]), torch.tensor([1.0, -0.5])))
    >>> out.loss, out.gradient
    (tensor([ 1., -1.]), tensor([-1.0000,  0.5000]))
    """

    homogeneous: ClassVar[bool] = True

    def token_loss(self, tokens: Tokens) -> TokenLoss:
        """Loss and derivative of each token."""
        return score_loss(tokens, -tokens.advantages)

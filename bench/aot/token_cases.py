"""The kernels over tokens: scans, moments of segments, policy losses. Their threads exchange numbers by nature."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import patch

import torch

from bench.aot.cases import F32, Case, empty, kernels

TOKENS = (256, 32768)


def gae(**options: Any) -> Callable[[], object]:
    """Advantages and returns of padded rows with gaps."""
    rewards, values = empty(*TOKENS), empty(*TOKENS)
    mask, out = empty(*TOKENS, dtype=torch.bool), [empty(*TOKENS), empty(*TOKENS)]
    options = {"gamma": 0.99, "lam": 0.95, "mask": mask, "advantages": out[0], "returns": out[1], **options}
    return lambda: kernels("scan").gae(rewards, values, **options)


def vtrace() -> object:
    """The same by V-trace."""
    tokens = [empty(*TOKENS) for _ in range(5)]
    clips = {"clip_rho": 1.0, "clip_c": 1.0, "clip_pg_rho": 1.0, "gamma": 0.99, "lam": 1.0}
    mask = empty(*TOKENS, dtype=torch.bool)
    return kernels("vtrace").vtrace(*tokens[:3], advantages=tokens[3], returns=tokens[4], mask=mask, **clips)


def whiten() -> object:
    """Moments of rows, merged, and applied."""
    segments, x, mask = kernels("segments"), empty(*TOKENS), empty(*TOKENS, dtype=torch.bool)
    by = segments.merge(segments.moments(x, mask=mask))
    return segments.affine(x, by, empty(*TOKENS), mask=mask)


def normalize() -> object:
    """Rewards of groups."""
    return kernels("segments").normalize(
        empty(8192), empty(1025, dtype=torch.int64), out=empty(8192), index=empty(8192, dtype=torch.int64)
    )


def policy_loss(lengths: int = 256, clip: float = 0.2, coef: float = 0.1, objective: str = "PPO") -> object:
    """An objective with a KL term and an entropy bonus over packed tokens. The kernel is made of their arithmetic."""
    from rollmath import LogProbs, Rows, loss
    from rollmath.loss import KL, EntropyBonus, Normalizer, _engine, _fused

    rows = Rows([str(i) for i in range(16)], [lengths] * 16)
    theta, prox, ref, entropy = (torch.zeros(16 * lengths, dtype=F32) for _ in range(4))
    # Tensors of a CPU, because the loss reads numbers of the rows, in the place of those of a GPU.
    with patch.object(_fused, "_can_launch", lambda _: True), patch.object(_engine, "in_pieces", _fused.fused):
        return loss.policy_loss(
            LogProbs(theta, prox=prox, ref=ref),
            torch.zeros(16),
            rows,
            getattr(loss, objective)(clip=(clip, 0.28)),
            normalizer=Normalizer.local(rows),
            kl=KL(coef),
            entropy=EntropyBonus(entropy, coef),
            level="rollout",
        )


TOKEN_CASES = [
    Case("GAE with gaps", "_gae", gae(), streaming=False, stack=16),
    Case("GAE with gaps, two lambdas", "_gae", gae(lam_returns=1.0), streaming=False),
    Case("V-trace with gaps", "_vtrace", vtrace, streaming=False),
    Case("moments of rows", "_moments", whiten, streaming=False),
    Case("merge of moments", "_merge", whiten, streaming=False),
    Case("whitening", "_affine", whiten, streaming=False),
    Case("normalised rewards of groups", "_normalize", normalize, streaming=False, stack=8),
    Case("PPO + KL + entropy, tokens", "tokens", policy_loss, streaming=False),
    Case("PPO + KL + entropy, sums", "loss", policy_loss, streaming=False),
    Case("GSPO + KL + entropy, tokens", "tokens", partial(policy_loss, objective="GSPO"), streaming=False),
]

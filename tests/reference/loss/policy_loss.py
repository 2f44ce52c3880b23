"""Slow, clear float64 policy loss: a loop over rows and positions."""

import importlib.util
import math
from pathlib import Path

_spec = importlib.util.spec_from_file_location("reference_ppo", Path(__file__).with_name("ppo.py"))
_ppo = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_ppo)


def policy_loss(theta, prox, advantages, mask, tokens, **options):
    """All arguments but ``tokens`` are lists of rows of positions; ``(loss, gradient)``, the latter in rows too."""
    terms, gradient = [], []
    for i, row in enumerate(mask):
        gradient.append([0.0] * len(row))
        for t, trained in enumerate(row):
            if trained:
                loss, slope = _ppo.PPO(theta[i][t], prox[i][t], advantages[i][t], **options)
                terms.append(loss)
                gradient[i][t] = slope / tokens
    return (math.fsum(terms) / tokens if tokens else 0.0), gradient

"""Reductions over the vocabulary: log-probabilities, entropies and their gradients, without a float32 copy of logits.

Everything here is differentiable with respect to ``logits``. Importing this package imports torch.
"""

from rollmath.vocab._kl import kl, top_k_kl
from rollmath.vocab._linear_row_stats import linear_row_stats
from rollmath.vocab._lm_head import LMHead
from rollmath.vocab._logprobs import logprobs
from rollmath.vocab._row_stats import RowStats, row_stats
from rollmath.vocab._shard import VocabShard
from rollmath.vocab._token_sets import TokenSets

__all__ = [
    "LMHead",
    "RowStats",
    "TokenSets",
    "VocabShard",
    "kl",
    "linear_row_stats",
    "logprobs",
    "row_stats",
    "top_k_kl",
]

"""Reductions over the vocabulary: log-probabilities, entropies and their gradients, without a float32 copy of logits.

Everything here is differentiable with respect to ``logits``. Importing this package imports torch.
"""

from rollmath.vocab._logprobs import logprobs
from rollmath.vocab._row_stats import RowStats, row_stats

__all__ = ["RowStats", "logprobs", "row_stats"]

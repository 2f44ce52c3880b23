"""Prefix-tree batches: every token that several rollouts share goes through the model once.

:func:`pack` makes a batch of a :class:`~rollmath.Forest`; the attention masks, :meth:`PrefixBatch.gather` and
:func:`merged_loss` need torch, the rest NumPy alone.
"""

from typing import TYPE_CHECKING

from rollmath._lazy import lazy

if TYPE_CHECKING:
    from rollmath.prefix._batch import PrefixBatch, Saved, Split, pack
    from rollmath.prefix._merged_loss import merged_loss

_load, __dir__ = lazy(
    __name__,
    {
        "_batch": ("PrefixBatch", "Saved", "Split", "pack"),
        "_merged_loss": ("merged_loss",),
    },
)
if not TYPE_CHECKING:  # to a type checker, a name that is not there is an error
    __getattr__ = _load

__all__ = [
    "PrefixBatch",
    "Saved",
    "Split",
    "merged_loss",
    "pack",
]

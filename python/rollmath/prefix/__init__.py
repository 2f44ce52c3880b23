"""Prefix-tree batches: every token that several rollouts share goes through the model once.

:func:`pack` makes a batch of a :class:`~rollmath.Forest`; the attention masks, :meth:`PrefixBatch.gather` and
:func:`merged_loss` need torch, the rest NumPy alone.
"""

from typing import TYPE_CHECKING, Any

from rollmath._lazy import lazy

if TYPE_CHECKING:
    from rollmath.prefix._batch import PrefixBatch, Split, pack
    from rollmath.prefix._layout import Saved
    from rollmath.prefix._merged_loss import merged_loss

_load, __dir__ = lazy(
    __name__,
    {
        "_batch": ("PrefixBatch", "Split", "pack"),
        "_layout": ("Saved",),
        "_merged_loss": ("merged_loss",),
    },
)
if not TYPE_CHECKING:  # to a type checker, a name that is not there is an error

    def __getattr__(name: str) -> Any:
        try:
            return _load(name)
        except ModuleNotFoundError as missing:
            if missing.name != "torch":
                raise
            msg = f"rollmath.prefix.{name} needs torch: install rollmath with its 'torch' extra"
            raise ModuleNotFoundError(msg, name="torch") from None


__all__ = [
    "PrefixBatch",
    "Saved",
    "Split",
    "merged_loss",
    "pack",
]

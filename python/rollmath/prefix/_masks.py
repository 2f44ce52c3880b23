"""What a model needs of a prefix-tree batch: position ids and attention masks, on a device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rollmath._checks import whole
from rollmath.prefix._layout import Layout

if TYPE_CHECKING:
    import torch
    from torch.nn.attention.flex_attention import BlockMask

    from rollmath.prefix._attention import MaskMod


class Masks(Layout):
    """The part of a :class:`~rollmath.prefix.PrefixBatch` that speaks torch, which is loaded when it is asked for."""

    _tensors: dict[tuple[str, str], Any]

    def position_ids(self, device: torch.device | str = "cpu") -> torch.Tensor:
        """:attr:`positions` as int64 on a device, ``[n_tokens]``; models of Hugging Face take ``[None]`` of it."""
        return self._tensor("positions", device).long()

    def mask_mod(self, device: torch.device | str = "cpu") -> MaskMod:
        """``kv <= q and q < end[kv]`` for ``torch.nn.attention.flex_attention``, with its tensor on a device."""
        from rollmath.prefix._attention import mask_mod  # noqa: PLC0415

        return mask_mod(self._tensor("end", device))

    def block_mask(self, block_size: int = 128, *, device: torch.device | str = "cpu") -> BlockMask:
        """What ``create_block_mask`` makes of :meth:`mask_mod`, from the intervals, without a grid of tokens.

        It holds four int32 tables ``[blocks, blocks]``: split long batches.

        Raises:
            ValueError: ``block_size`` under 1, or a batch without tokens.
            TypeError: no integer.
        """
        from rollmath.prefix._attention import block_mask  # noqa: PLC0415

        size = whole("PrefixBatch.block_mask", "block_size", block_size, 1)
        if not self.n_tokens:
            msg = "PrefixBatch.block_mask(): the batch must have a token, got none"
            raise ValueError(msg)
        return block_mask(self.end, size, self.mask_mod(device), device)

    def dense_mask(self, device: torch.device | str = "cpu") -> torch.Tensor:
        """The mask as bools ``[n_tokens, n_tokens]``, True where row ``q`` attends to column ``kv``.

        For tests and short batches; ``scaled_dot_product_attention`` takes it as it is.
        """
        q = self._tensor("_range", device)
        return (q <= q[:, None]) & (q[:, None] < self._tensor("end", device))

    def _tensor(self, name: str, device: torch.device | str) -> torch.Tensor:
        """An array of this batch on a device, copied there once."""
        import torch  # noqa: PLC0415

        key = (name, str(torch.device(device)))
        if key not in self._tensors:
            self._tensors[key] = torch.from_numpy(getattr(self, name).copy()).to(device)
        found: torch.Tensor = self._tensors[key]
        return found

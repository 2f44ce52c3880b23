"""What is known of the rows besides the logits."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)
class Inputs:
    """What is known of the rows besides the logits: constants, all of them."""

    labels: torch.Tensor | None
    inverse: torch.Tensor | None
    mask: torch.Tensor | None
    ids: torch.Tensor | None
    set_ids: torch.Tensor | None
    set_offsets: torch.Tensor | None

    def tensors(self) -> tuple[torch.Tensor | None, ...]:
        """In the order of the fields."""
        return self.labels, self.inverse, self.mask, self.ids, self.set_ids, self.set_offsets

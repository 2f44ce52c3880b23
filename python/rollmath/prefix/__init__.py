"""Prefix-tree batches: every token that several rollouts share goes through the model once."""

__all__: list[str] = []

"""Adapters: one module a trainer, which imports that trainer when it is used and not before."""

__all__: list[str] = []

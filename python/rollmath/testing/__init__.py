"""Checks of anyone's advantage and loss functions, and the pytest plugin that runs them."""

__all__: list[str] = []

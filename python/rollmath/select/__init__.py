"""Selection: which rollouts to train on."""

__all__: list[str] = []

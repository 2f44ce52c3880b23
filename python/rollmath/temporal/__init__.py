"""Values and advantages along time: one function a method, over the scans of :mod:`rollmath.ops`."""

__all__: list[str] = []

"""Where the time went, by name."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Adds up the wall time of named sections: ``with clock("sampling"): ...``; sections must not nest."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._open: str | None = None

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count the time inside the block under ``name``."""
        if self._open is not None:
            raise RuntimeError(f"section {name!r} opened inside {self._open!r}")
        self._open, begin = name, time.perf_counter()
        try:
            yield
        finally:
            self._open = None
            self.seconds[name] += time.perf_counter() - begin

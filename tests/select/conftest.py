"""What the tests of the prompt sampler share."""

from __future__ import annotations

import numpy as np
import pytest

from rollmath import _core


@pytest.fixture(scope="session")
def fresh_nodes():
    """The tree of a sampler that never knew anything but the priorities of this one."""
    return lambda sampler: _core.Sampler("f", np.array(sampler.priority), np.ones(len(sampler), np.uint8), 0.0).nodes()

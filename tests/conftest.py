"""Fixtures that all tests share."""

import importlib.util
import json
import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def oracle():
    """``oracle("loss/ppo.py", "PPO")``: a name from a file of tests/reference."""

    def load(path, name):
        spec = importlib.util.spec_from_file_location(
            f"reference_{path[:-3].replace('/', '_')}", HERE / "reference" / path
        )
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return getattr(module, name)

    return load


@pytest.fixture(scope="session")
def vectors():
    """``vectors("flat")``: the hand-checked numbers of tests/vectors/flat.json."""
    return lambda name: json.loads((HERE / "vectors" / f"{name}.json").read_text())


@pytest.fixture(scope="session")
def samples():
    """Folder of real rollouts; a test that needs it skips where it is absent."""
    folder = Path(os.environ.get("ROLLMATH_SAMPLES", HERE.parent.parent / "shared" / "samples"))
    if not folder.is_dir():
        pytest.skip(f"no folder of real rollouts at {folder}; set ROLLMATH_SAMPLES")
    return folder

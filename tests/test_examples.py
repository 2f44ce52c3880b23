"""The examples run, and do what they are there to show."""

import re
from pathlib import Path

import pytest

pytest.importorskip("torch")

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_the_minimal_loop_learns(script):
    source = (EXAMPLES / "minimal_loop.py").read_text()
    assert len(source.splitlines()) < 80
    out, err = script(f"import warnings; warnings.simplefilter('error')\n{source}", deadline=100)
    assert not err
    rewards = [float(x) for x in re.findall(r"reward/mean ([\d.]+)", out)]
    assert len(rewards) == 5
    assert rewards[0] < 0.3
    assert rewards[-1] > 0.8

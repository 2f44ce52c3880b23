"""The tables of docs/losses.md: what they tell to call is there, and takes these arguments."""

import re
from pathlib import Path

import pytest

pytest.importorskip("torch")

from rollmath import loss

TEXT = (Path(__file__).parents[2] / "docs" / "losses.md").read_text().split("## What a trainer calls it")[1]
CALLS = sorted(set(re.findall(r"`([A-Z]\w+\([^`]*\))`", TEXT)))
#: What stands for the settings of a trainer.
SETTINGS = {
    "clip_low": 0.2, "clip_high": 0.28, "clip_ratio_c": 3.0, "beta": 0.1, "tau": 0.1, "cap": 2.0, "delta": 1.5,
    "horizon": 4096, "max_completion_length": 4096, "coef": 0.01,
}  # fmt: skip
NAMES = {name: getattr(loss, name) for name in loss.__all__}


def test_there_are_tables():
    assert len(CALLS) > 25


@pytest.mark.parametrize("call", CALLS)
def test_the_calls_exist(call):
    eval(call, NAMES | SETTINGS)


@pytest.mark.parametrize("name", sorted(set(re.findall(r'`"(\w+_mean|\w+_sum)"`', TEXT))))
def test_the_aggregations_exist(name):
    loss.Aggregation.named(name)

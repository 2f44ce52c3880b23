"""Steps of TRL's GRPO trainer, alone and with the mixin in TRL's convention, on the same model, data and seed."""

import numpy as np
import pytest

from bench import machine
from bench.peers import trl_trainer

PROVIDERS = ("trl", "rollmath")
#: A model that costs next to nothing, so that all else shows, and one that costs something.
SIZES = {
    "trl_step_tiny": {"runs": 6, "steps": 25, "rows": 16, "longest": 24, "width": 64, "layers": 2},
    "trl_step": {"runs": 4, "steps": 9, "rows": 16, "longest": 96, "width": 384, "layers": 4},
}


@pytest.mark.parametrize("op", SIZES)
def test_trl_step(measure, quick, op):
    """Short runs in turn, in one process; the first step of a run warms up and is not counted."""
    pytest.importorskip("trl")
    sizes = SIZES[op] | ({"runs": 1, "steps": 3, "rows": 8, "longest": 12, "width": 32} if quick else {})
    runs = sizes.pop("runs")
    machine.set_threads(1)
    times = {provider: [] for provider in PROVIDERS}
    losses = {}
    for number in range(runs):
        for provider in PROVIDERS if number % 2 else PROVIDERS[::-1]:
            losses[provider], took = trl_trainer.run(provider, **sizes)
            times[provider] += took[1:]
    np.testing.assert_allclose(losses["rollmath"], losses["trl"], atol=1e-5)
    shape = "{rows} completions of at most {longest} tokens, {layers} layers of {width}".format(**sizes)
    for provider, took in times.items():
        p20, p50, p80 = (round(float(x), 4) for x in np.percentile(took, [20, 50, 80]))
        row = {"min_ms": round(min(took), 4), "p20_ms": p20, "p50_ms": p50, "p80_ms": p80, "rounds": len(took)}
        measure.keep(op, provider, shape=shape, dtype="float32", threads=1, output="fresh", **row)

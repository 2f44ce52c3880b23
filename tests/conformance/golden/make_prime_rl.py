"""prime-rl at one commit: GRPO and MaxRL, one group at a time. Usage: make_prime_rl.py CLONE."""

import asyncio
import sys
from types import SimpleNamespace

import numpy as np
from _common import Record, binary, ragged
from _source import Source

COMMIT = "559b44772e471d1538537b8805cc77f3824a5e64"
source = Source(sys.argv[1], COMMIT)
given = {
    "iter_trainable_traces": lambda episodes: [(episode, episode) for episode in episodes],
    "assign_advantages": lambda trace, advantage: setattr(trace, "advantage", advantage),
}
folder = "src/prime_rl/orchestrator/algo"
grpo = source.load(f"{folder}/grpo.py", "GRPOAlgorithm.score_group", **given).score_group
maxrl = source.load(f"{folder}/max_rl.py", "MaxRLAlgorithm.score_group", **given).score_group


def run(score_group):
    def call(values, ids):
        traces = [SimpleNamespace(reward=value.item()) for value in values]
        for group in np.unique(ids):
            members = [trace for trace, name in zip(traces, ids, strict=True) if name == group]
            asyncio.run(score_group(SimpleNamespace(length_penalty=None), members))
        return [trace.advantage for trace in traces]

    return call


others = Record("prime-rl", "PRIME_RL", "others")
here = "prime_rl.orchestrator.algo"
for seed in (1, 2):
    others.add(f"{here}.grpo.GRPOAlgorithm.score_group", "dr_grpo", run(grpo), *ragged(seed))
    others.add(f"{here}.max_rl.MaxRLAlgorithm.score_group", "maxrl", run(maxrl), *binary(seed))
negative = [-1.0, -2.0, 1.0, 0.0], [0, 0, 1, 1]
others.add(f"{here}.max_rl.MaxRLAlgorithm.score_group", "maxrl", run(maxrl), *negative)
others.write(version="0.8.0", commit=COMMIT)

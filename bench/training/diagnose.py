"""Diagnostics that explain the curves: noise and bias of a step's gradient, accuracy of the credit, share of signal.

``python -m bench.training.diagnose TASK OUT ARM ...`` writes one JSON line an arm and checkpoint.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.training import credit, gradients, tasks
from bench.training import model as models
from bench.training.arms import Arm
from bench.training.table import ARMS
from bench.training.tasks import Task
from rollmath.demo.clock import Clock

BATCHES, REFERENCE_TOKENS, ROLLOUTS, CONTINUATIONS = 24, 240_000, 64, 64
REFERENCE_SEED = 400_000_000  # away from those of runs and arms
EQUAL = 10_000  # sampled tokens for which noise is given besides
KEY = ("task", "arm", "checkpoint", "sampler", "seed")


def loaded(task: Task, path: Path | None) -> models.CharTransformer:
    """The checkpoint that runs begin with; the model of a file; or that in the ``state.pt`` of a run."""
    if path is None or path.suffix != ".pt":
        return models.load(task.checkpoint if path is None else path)
    model = models.CharTransformer(models.load(task.checkpoint).config)
    model.load_state_dict(torch.load(path, weights_only=True)["model"])
    return model


def label(path: Path | None) -> str:
    """What a checkpoint is called in the lines."""
    return "start" if path is None else path.parent.name if path.suffix == ".pt" else path.stem


def reference(
    task: str | Task, *, seed: int = 0, tokens: int = REFERENCE_TOKENS, model_path: Path | None = None
) -> gradients.Gradients:
    """The policy gradient of a checkpoint from at least so many sampled tokens; the same one serves all arms."""
    task = tasks.get(task) if isinstance(task, str) else task
    model = loaded(task, model_path)
    return gradients.collect(model, task, gradients.REFERENCE, seed=REFERENCE_SEED + seed, batches=3, tokens=tokens)


def diagnose(
    task: str | Task, arm: str | Arm, *, seed: int = 0, batches: int = BATCHES, rollouts: int = ROLLOUTS,
    continuations: int = CONTINUATIONS, reference_tokens: int = REFERENCE_TOKENS,
    against: gradients.Gradients | None = None, model_path: Path | None = None, sampler_path: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """One line: what :func:`gradients.compare` and :func:`credit.agreement` say, and of what.

    ``sampled_tokens`` are those of a batch, on average; ``noise_to_signal_10k`` is that of so many batches, or of such
    a part of one, as make 10,000 sampled tokens, for arms whose steps differ in size. ``signal_share`` is the share of
    sampled tokens that train with an advantage that is not 0. NaN is written as null.

    Args:
        task: its name, or a task.
        arm: its name, or an arm.
        seed: of prompts and samples; arms of equal seeds meet the same prompts.
        batches: independent batches whose gradients are taken.
        rollouts: of which the steps are valued.
        continuations: of each value.
        reference_tokens: sampled for the policy gradient, unless that is given.
        against: the policy gradient at this checkpoint, from :func:`reference`.
        model_path: a model file, or ``state.pt`` of a run; by default the checkpoint of the task.
        sampler_path: likewise, the policy that samples if that is another one.
    """
    task = tasks.get(task) if isinstance(task, str) else task
    arm = ARMS[arm] if isinstance(arm, str) else arm
    model, clock = loaded(task, model_path), Clock()
    sampler = None if sampler_path is None else loaded(task, sampler_path)
    if against is None:
        against = reference(task, seed=seed, tokens=reference_tokens, model_path=model_path)
    drawn = gradients.collect(model, task, arm, seed=seed, batches=batches, sampler=sampler)
    found: dict[str, Any] = gradients.compare(drawn.vectors, against.vectors)
    with clock("credit"):
        steps = credit.measure(
            model, task, arm, seed=seed, rollouts=rollouts, continuations=continuations, sampler=sampler
        )
        found |= credit.agreement(steps)
    tokens = float(np.mean(drawn.sampled))
    line = {
        "task": task.name,
        "arm": arm.name,
        "checkpoint": label(model_path),
        "sampler": label(model_path if sampler_path is None else sampler_path),
        "seed": seed,
        "batches": batches,
        "sampled_tokens": tokens,
        "rollouts": float(np.mean(drawn.rollouts)),
        "reference_tokens": sum(against.sampled),
        "continuations": continuations,
        "signal_share": sum(drawn.signal) / sum(drawn.sampled),
        **found,
        "noise_to_signal_10k": found["noise_to_signal"] * tokens / EQUAL,
        "seconds": {name: round(x, 2) for name, x in (*drawn.seconds.items(), *clock.seconds.items())},
    }
    return {name: _plain(x) for name, x in line.items()}


def diagnose_all(task: str, arms: Sequence[str], **options: Any) -> Iterator[dict[str, Any]]:
    """The lines of several arms, with one reference."""
    shared = {"seed": options.get("seed", 0), "model_path": options.get("model_path")}
    against = reference(task, tokens=options.get("reference_tokens", REFERENCE_TOKENS), **shared)
    for arm in arms:
        yield diagnose(task, arm, against=against, **options)


def write(path: Path, line: dict[str, Any]) -> None:
    """Put a line into a file, in the place of an earlier one of the same arm, checkpoint and seed; sorted."""
    old = [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []
    lines = [x for x in old if [x[k] for k in KEY] != [line[k] for k in KEY]] + [line]
    lines.sort(key=lambda x: [x[k] for k in KEY])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(x) + "\n" for x in lines))


def _plain(x: Any) -> Any:
    """Six digits; None for what is not finite, which JSON cannot say."""
    if not isinstance(x, float):
        return x
    return float(f"{x:.6g}") if math.isfinite(x) else None


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.training.diagnose", description=__doc__)
    parser.add_argument("task", choices=tasks.names())
    parser.add_argument("out", type=Path, help="file of JSON lines")
    parser.add_argument("arms", nargs="+", metavar="ARM", help=f"of {', '.join(ARMS)}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batches", type=int, default=BATCHES)
    parser.add_argument("--rollouts", type=int, default=ROLLOUTS)
    parser.add_argument("--continuations", type=int, default=CONTINUATIONS)
    parser.add_argument("--reference-tokens", type=int, default=REFERENCE_TOKENS)
    parser.add_argument("--model", dest="model_path", type=Path, help="model file, or state.pt of a run")
    parser.add_argument("--sampler", dest="sampler_path", type=Path, help="likewise, of a stale policy that samples")
    options = vars(parser.parse_args(arguments))
    task, out, arms = (options.pop(name) for name in ("task", "out", "arms"))
    unknown = [arm for arm in arms if arm not in ARMS]
    if unknown:
        parser.error(f"unknown arms: {', '.join(unknown)}; there are: {', '.join(ARMS)}")
    torch.set_num_threads(1)
    for line in diagnose_all(task, arms, **options):
        write(out, line)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()

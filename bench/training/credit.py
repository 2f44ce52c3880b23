"""Credit accuracy: what a method gives a step, against how much the step has changed the expected reward."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import rollmath as rm
from bench.training.arms import Arm
from bench.training.gradients import opened
from bench.training.model import CharTransformer
from bench.training.sample import Prefixes, Sample, extend
from bench.training.tasks import Item, Task
from bench.training.tasks.base import BLANK
from bench.training.update import prepare

LINES = 1536  # continuations that are sampled at once
RESAMPLES = 1000


@dataclass(frozen=True)
class Credit:
    """Steps of rollouts. ``true``: value after the step minus value before it; ``variance``: of that estimate.

    ``given``: the mean of what the method gives those tokens of the step that may train, 0 if none may.
    ``prompt``: a number of its question.
    """

    given: NDArray[np.float64]
    true: NDArray[np.float64]
    variance: NDArray[np.float64]
    prompt: NDArray[np.int64]


def boundaries(task: Task, tokens: Sequence[int]) -> list[int]:
    """Tokens before each step, and of the whole response: a step ends with its token, or with the response."""
    ends = [at for at, token in enumerate(tokens, 1) if token == task.step_token and at < len(tokens)]
    return [0, *ends, len(tokens)]


def values(
    model: CharTransformer, task: Task, items: Sequence[Item], texts: Sequence[Sequence[int]], continuations: int,
    generator: torch.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # fmt: skip
    """Mean reward of so many continuations of each response so far, and the variance of that mean, unbiased."""
    mean, variance = np.zeros(len(texts)), np.zeros(len(texts))
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # rows of one length are faster
    size = max(1, LINES // continuations)
    for some in (order[i : i + size] for i in range(0, len(order), size)):
        lengths = torch.tensor([task.prompt_width + len(texts[i]) for i in some])
        width = int(lengths.max())
        rows = [[*items[i].prompt, *texts[i]] for i in some]
        prefixes = Prefixes(torch.tensor([row + [BLANK] * (width - len(row)) for row in rows]), lengths)
        copies = torch.arange(len(some)).repeat_interleave(continuations)
        limit = (task.context - lengths)[copies]
        new = extend(model, prefixes, copies, limit, task.stop_token, generator)
        ends = zip(copies.tolist(), new.tokens.tolist(), new.lengths.tolist(), strict=True)
        rewards = [task.reward(items[some[c]], [*texts[some[c]], *row[:n]]) for c, row, n in ends]
        table = np.array(rewards).reshape(len(some), continuations)
        mean[some], variance[some] = table.mean(1), table.var(1, ddof=1) / continuations
    return mean, variance


def given_to_tokens(arm: Arm, task: Task, sample: Sample) -> tuple[rm.Ragged, NDArray[np.bool_]]:
    """The advantage of each token in its rollout, also of a copy that trains elsewhere; and which rollouts train."""
    recipe = arm.recipe(task).replace(shared="per_rollout", zeros="keep")
    batch = prepare(recipe, sample)
    found = batch.advantages
    if not isinstance(found, rm.Ragged):
        found = rm.Ragged.from_lengths(np.repeat(np.asarray(found, np.float64), sample.lengths), sample.lengths)
    return found, batch.selection.report.codes == 0


def measure(
    model: CharTransformer, task: Task, arm: Arm, *, seed: int, rollouts: int = 64, continuations: int = 64,
    sampler: CharTransformer | None = None,
) -> Credit:  # fmt: skip
    """Steps of so many of the rollouts that train, of as many prompts as there are, at most two of each.

    Values are those under ``model``: that of a bare prompt and at every end of a step by continuations, that of a
    finished response exactly.
    """
    scene = opened(sampler or model, task, arm, seed)
    generator, dice = torch.Generator().manual_seed(seed + 1), np.random.default_rng(seed)
    starts: dict[tuple[int, tuple[int, ...]], int] = {}  # of a prompt and what follows it: a number
    items: list[Item] = []
    found: list[tuple[int, float, int, int]] = []  # a step: prompt, given, the starts before and after it
    final: dict[int, float] = {}
    left, prompts = rollouts, 0
    while left > 0:
        sample = arm.draw(scene)
        scene.step += 1
        advantages, trains = given_to_tokens(arm, task, sample)
        chosen = _spread(np.flatnonzero(trains), sample.group, dice)[:left]
        left -= len(chosen) or left  # nothing trains: no more is tried
        for row in chosen.tolist():
            item, n, prompt = sample.items[sample.group[row]], int(sample.lengths[row]), prompts + sample.group[row]
            text, of_tokens = sample.tokens[row, :n].tolist(), np.asarray(advantages[row], np.float64)
            own = _own(sample, row, n)
            ends = boundaries(task, text)
            numbers = [starts.setdefault((prompt, tuple(text[:end])), len(starts)) for end in ends]
            items += [item] * (len(starts) - len(items))
            final[numbers[-1]] = task.reward(item, text)  # not that of the sample, which may be a coin's
            steps = zip(itertools.pairwise(ends), itertools.pairwise(numbers), strict=True)
            for (first, last), (before, after) in steps:
                mine = of_tokens[first:last][own[first:last]]
                found.append((prompt, float(mine.mean()) if len(mine) else 0.0, before, after))
        prompts += len(sample.items)
    value, variance = np.zeros(len(starts)), np.zeros(len(starts))
    open_ends = [i for i in range(len(starts)) if i not in final]
    texts = [text for _, text in starts]
    value[open_ends], variance[open_ends] = values(
        model, task, [items[i] for i in open_ends], [texts[i] for i in open_ends], continuations, generator
    )
    value[list(final)] = list(final.values())
    before, after = (np.array([step[k] for step in found], np.int64) for k in (2, 3))
    return Credit(
        np.array([step[1] for step in found]), value[after] - value[before], variance[after] + variance[before],
        np.array([step[0] for step in found], np.int64),
    )  # fmt: skip


def agreement(credit: Credit, *, seed: int = 0) -> dict[str, Any]:
    """How well what was given agrees with the true advantages of the steps.

    - ``credit_correlation``: Pearson's, with the estimates; ``credit_ceiling``: what the truth itself would reach, for
      the noise of the estimates: ``sqrt(1 - mean variance / variance of the estimates)``; ``credit_corrected``: the
      first over the second, an estimate of the correlation with the truth.
    - ``sign_agreement``, ``sign_opposite``: among the ``clear_steps``, whose estimate is more than two standard errors
      from 0. The rest of them was given 0.

    Standard errors (``_se``) are those of a bootstrap over prompts.
    """
    out: dict[str, Any] = _agreement(credit)
    prompts, index = np.unique(credit.prompt, return_inverse=True)
    members = [np.flatnonzero(index == p) for p in range(len(prompts))]
    dice = np.random.default_rng(seed)
    again = []
    for _ in range(RESAMPLES if len(prompts) > 1 else 0):
        rows = np.concatenate([members[p] for p in dice.integers(len(prompts), size=len(prompts))])
        again.append(_agreement(Credit(credit.given[rows], credit.true[rows], credit.variance[rows], index[rows])))
    for name in ("credit_correlation", "credit_corrected", "sign_agreement", "sign_opposite"):
        draws = np.array([x[name] for x in again])
        draws = draws[~np.isnan(draws)]
        out[f"{name}_se"] = float(draws.std()) if len(draws) else float("nan")
    return out | {"credit_steps": len(credit.true), "credit_prompts": len(prompts)}


def _agreement(credit: Credit) -> dict[str, float]:
    nan = float("nan")
    spread, given = credit.true.var(ddof=1) if len(credit.true) > 1 else 0.0, credit.given
    reliability = 1 - credit.variance.mean() / spread if spread > 0 else 0.0
    ceiling = float(np.sqrt(reliability)) if reliability > 0 else nan
    varies = spread > 0 and np.ptp(given) > 0
    correlation = float(np.corrcoef(given, credit.true)[0, 1]) if varies else nan
    clear = np.abs(credit.true) > 2 * np.sqrt(credit.variance)
    signs = (np.sign(given) * np.sign(credit.true))[clear]
    return {
        "credit_correlation": correlation,
        "credit_ceiling": ceiling,
        "credit_corrected": correlation / ceiling,
        "sign_agreement": float((signs > 0).mean()) if len(signs) else nan,
        "sign_opposite": float((signs < 0).mean()) if len(signs) else nan,
        "clear_steps": int(clear.sum()),
    }


def _own(sample: Sample, row: int, n: int) -> NDArray[np.bool_]:
    """Which of the tokens of a rollout may train."""
    masks = [mask[row, :n].numpy() for mask in (sample.mask, sample.trained) if mask is not None]
    return np.logical_and.reduce(masks) if masks else np.ones(n, bool)


def _spread(rows: NDArray[np.int64], group: NDArray[np.int64], dice: np.random.Generator) -> NDArray[np.int64]:
    """At most two rows of each group, in random order; first one of each."""
    rows = dice.permutation(rows)
    rank = np.zeros(len(rows), np.int64)
    seen: dict[int, int] = {}
    for i, g in enumerate(group[rows].tolist()):
        rank[i] = seen[g] = seen.get(g, -1) + 1
    return rows[np.argsort(rank, kind="stable")][: int((rank < 2).sum())]

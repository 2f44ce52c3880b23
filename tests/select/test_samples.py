"""Real rollouts: what selections keep of them, counted again in a few lines each, and what their reports say."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from statistics import pvariance

import numpy as np
import pytest

import rollmath as rm

select = rm.select


@pytest.fixture(scope="module")
def amc(samples):
    """40 problems, 50 answers each: rewards of 0 and 1, the texts of the problems as groups, lengths of answers."""
    table = json.loads((samples("amc23-50-samples") / "results.json").read_text())
    problems = table["categories"][0]["datasets"][0]["results"]
    answers = [(x["question"], c["score"], len(c["full_model_response"])) for x in problems for c in x["completions"]]
    groups, rewards, lengths = zip(*answers, strict=True)
    return list(groups), np.array(rewards, float), np.array(lengths)


@pytest.fixture(scope="module")
def math(samples):
    """100 problems, 8 answers each: a verifier's reward, that of a reward model, and the texts of the problems."""
    lines = (samples("math-8-samples") / "math_cot_100.jsonl").read_text().splitlines()
    rows = [(x["question"], s, m[0]) for x in map(json.loads, lines) for s, m in zip(x["score"], x["pred_score"], strict=True)]  # fmt: skip  # noqa: E501
    groups, scores, model = zip(*rows, strict=True)
    return list(groups), np.array(scores, float), np.array(model)


def by_group(groups, *columns):
    found = defaultdict(list)
    for i, values in zip(groups, zip(*columns, strict=True), strict=True):
        found[i].append(values[0] if len(values) == 1 else values)
    return found


def test_problems_that_nobody_or_everybody_solves(amc, math):
    groups, rewards, _ = amc
    chosen = select.nonzero_spread(rewards, groups)
    mixed = {name for name, r in by_group(groups, rewards).items() if len(set(r)) == 2}
    assert {groups[i] for i in chosen.indices} == mixed
    assert str(chosen.report) == (
        "nonzero_spread kept 1350 of 2000 rollouts in 27 of 40 groups\n"
        "  no spread  13 groups, 650 rollouts: 'What is the value of \\[2^3 - 1^...' (50), 'How many complex numbers "
        "satisf...' (50), and 11 more"
    )
    groups, rewards, _ = math
    assert str(select.nonzero_spread(rewards, groups).report).startswith(
        "nonzero_spread kept 80 of 800 rollouts in 10 of 100 groups\n  no spread  90 groups, 720 rollouts: "
    )


def test_max_variance_takes_as_many_of_each_as_it_can(amc):
    """Of rewards of 0 and 1 half and half, or all of what is rare; the shortest of each."""
    groups, rewards, lengths = amc
    uid = np.random.default_rng(0).permutation(len(rewards))
    chosen = select.max_variance(rewards, groups, keep=8, ties=lengths, uid=uid)
    kept, rows = by_group(np.array(groups)[chosen.mask].tolist(), rewards[chosen.mask]), by_group(groups, rewards)
    for name, r in rows.items():
        assert len(kept[name]) == 8
        rare = min(sum(r), len(r) - sum(r))
        assert min(sum(kept[name]), 8 - sum(kept[name])) == min(rare, 4)
    shortest = by_group(groups, rewards, lengths)
    for name, pairs in by_group(np.array(groups)[chosen.mask].tolist(), rewards[chosen.mask], lengths[chosen.mask]).items():  # fmt: skip  # noqa: E501
        for value in (0.0, 1.0):
            mine = sorted(n for r, n in pairs if r == value)
            assert mine == sorted(n for r, n in shortest[name] if r == value)[: len(mine)]
    assert str(chosen.report) == (
        "max_variance kept 320 of 2000 rollouts in 40 of 40 groups; statistics after\n"
        "  adds less variance  40 groups, 1680 rollouts: 42 of each"
    )


def test_max_variance_over_the_batch_of_advantages(amc):
    """Problems without a signal go first, and are named; the variance is that of the best split, written out."""
    groups, rewards, _ = amc
    advantages = rm.group.grpo(rewards, groups)
    uid = np.arange(len(rewards))
    chosen = select.max_variance(advantages, groups, keep=256, per="batch", uid=uid)
    x = sorted(advantages)
    best = max(pvariance([*x[: 256 - k], *x[len(x) - k :]]) for k in range(257))
    assert pvariance(advantages[chosen.mask].tolist()) == pytest.approx(best, rel=1e-12)
    lost = {name for name, r in by_group(groups, rewards).items() if len(set(r)) == 1}
    assert lost <= set(chosen.report.lost)
    assert chosen.report.statistics == "before"
    text = str(chosen.report).split("\n")
    assert text[0] == "max_variance kept 256 of 2000 rollouts in 27 of 40 groups; statistics before"
    assert text[-1].startswith("  nothing is left of 13 groups: 'What is the value of \\[2^3 - 1^...', ")
    assert max(map(len, text)) < 140
    order = np.random.default_rng(1).permutation(len(rewards))
    turned = select.max_variance(advantages[order], [groups[i] for i in order], keep=256, per="batch", uid=uid[order])
    assert turned.mask.tolist() == chosen.mask[order].tolist()


def test_balanced(amc):
    groups, rewards, _ = amc
    chosen = select.balanced(rewards, groups, keep=8)
    for name, r in by_group(np.array(groups)[chosen.mask].tolist(), rewards[chosen.mask]).items():
        n = int(sum(by_group(groups, rewards)[name]))
        assert sum(r) == min(max(4, 8 - (50 - n)), n)


def test_the_best_of_a_reward_model(math):
    """Four of eight by the reward model: what the verifier says of them."""
    groups, scores, model = math
    chosen = select.top(model, groups, keep=4, uid=np.arange(len(scores)))
    for name, m in by_group(np.array(groups)[chosen.mask].tolist(), model[chosen.mask]).items():
        assert sorted(m) == sorted(by_group(groups, model)[name])[-4:]
    assert str(chosen.report) == (
        "top kept 400 of 800 rollouts in 100 of 100 groups; statistics after\n"
        "  not among the largest  100 groups, 400 rollouts: 4 of each"
    )
    # Within what the verifier accepts, where there is enough of it.
    within = select.top(model, groups, keep=4, valid=scores > 0)
    assert scores[within.mask].all()
    few = Counter(np.array(groups)[within.mask].tolist())
    assert all(n == min(4, int(sum(by_group(groups, scores)[name]))) for name, n in few.items())
    unsolved = {name for name, r in by_group(groups, scores).items() if not any(r)}
    assert set(within.report.lost) == unsolved
    assert f"nothing is left of {len(unsolved)} groups: " in str(within.report)


def test_rollouts_of_the_next_step_by_the_rates_of_this_one(math):
    groups, scores, _ = math
    names = rm.Groups(groups)
    rates = rm.ops.segment_mean(scores, names)
    given = select.knapsack(rates, budget=800, low=2, high=64, prompts=names.ids)
    assert given.counts.sum() == 800
    solved = (rates > 0) & (rates < 1)
    # What has no gain gets the least, or what nobody can use.
    assert (given.counts[solved] > 2).all()
    assert (given.counts[rates == 1] == 2).all()


def test_a_recipe_with_a_selection(math):
    pytest.importorskip("torch")
    groups, scores, model = math
    rows = rm.Rows([f"r{i}" for i in range(len(scores))], np.full(len(scores), 3))
    recipe = rm.recipes.get(
        "grpo", kl=False, filter={"method": "max_variance", "options": {"keep": 4, "ties": "model"}}
    )
    batch = recipe.prepare(scores, groups, rows=rows, model=-model)
    expected = select.max_variance(scores, groups, keep=4, ties=-model)
    assert batch.selection.mask.tolist() == expected.mask.tolist()
    assert batch.advantages.tolist() == rm.group.grpo(scores, groups, valid=expected.mask).tolist()

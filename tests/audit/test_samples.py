"""Real rollouts: what an audit says of them, counted again in a few lines each."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from statistics import mean

import numpy as np
import pytest

import rollmath as rm
from rollmath import audit


def by_group(ids, values):
    found = defaultdict(list)
    for i, x in zip(ids, values, strict=True):
        found[i].append(x)
    return found


def expected_reasons(ids, rewards):
    """For rewards of 0 and 1 where no mean is one of them."""
    groups = by_group(ids, rewards)
    names = {1: {0: "zero spread: all at the bottom", 1: "zero spread: all at the top"}}
    return Counter(names.get(len(set(groups[i])), {}).get(r, "signal") for i, r in zip(ids, rewards, strict=True))


def test_tau_bench_airline(samples):
    runs = json.loads((samples("tau-bench-airline") / "gpt-4o-airline.json").read_text())
    ids, rewards = [run["task_id"] for run in runs], [run["reward"] for run in runs]
    turns = [sum(m["role"] == "assistant" for m in run["traj"]) for run in runs]
    a = audit(rewards, ids, lengths=turns)
    assert Counter(a.rows.tolist()) == expected_reasons(ids, rewards)
    assert Counter(a.rows.tolist()) == {
        "signal": 104,
        "zero spread: all at the bottom": 56,
        "zero spread: all at the top": 40,
    }
    s = a.summary
    assert (s["rollouts"], s["groups"], s["tokens"], s["signal_groups"]) == (200, 50, 2454, 26)
    mixed = {i for i, r in by_group(ids, rewards).items() if len(set(r)) == 2}
    assert s["signal_tokens"] == sum(n for i, n in zip(ids, turns, strict=True) if i in mixed) == 1220
    assert s["reward_mean"] == pytest.approx(mean(rewards)) == pytest.approx(0.42)
    assert s["at_high"] == pytest.approx(rewards.count(1.0) / 200)
    right = [n for i, n, r in zip(ids, turns, rewards, strict=True) if i in mixed and r]
    wrong = [n for i, n, r in zip(ids, turns, rewards, strict=True) if i in mixed and not r]
    assert (s["positive"], s["negative"], s["zero"]) == (len(right), len(wrong), 96) == (44, 60, 96)
    assert s["length_positive"] == pytest.approx(mean(right))
    assert s["length_negative"] == pytest.approx(mean(wrong))
    pairs = [np.array([r, n]) for r, n in zip(
        by_group(ids, rewards).values(), by_group(ids, turns).values(), strict=True)]  # fmt: skip
    varied = [p for p in pairs if all(len(set(x)) > 1 for x in p.tolist())]
    assert s["length_reward_groups"] == len(varied)
    assert s["length_reward_correlation"] == pytest.approx(mean(np.corrcoef(p)[0, 1] for p in varied))
    lost = {i: sum(n) for i, n in by_group(ids, turns).items() if sum(by_group(ids, rewards)[i]) == 0}
    (bottom,) = (row for row in a.why if row["reason"] == "zero spread: all at the bottom")
    assert bottom["ids"] == sorted(lost, key=lambda i: -lost[i])[:5]
    # The trials of a task are not next to each other.
    assert "positional ids" not in [f.kind for f in a.findings]


def test_tau_bench_as_trainers_would_see_it(samples):
    runs = json.loads((samples("tau-bench-airline") / "gpt-4o-airline.json").read_text())
    ids, rewards = [run["task_id"] for run in runs], np.float32([run["reward"] for run in runs])
    for name in ("TRL", "TRL_ASYNC", "AREAL", "NEMO_RL"):
        framework = getattr(rm.conventions, name)
        adv = rm.group.grpo(rewards, ids, convention=framework, **framework.options.get("grpo", {}))
        best = audit(rewards, ids, adv).matches[0]
        assert f"{name} grpo" in best.names
        assert (best.off, best.compared) == (0, 104)
    # The file has all tasks of a trial together: positions make groups of four different tasks.
    sliced = rm.group.grpo(rewards, np.arange(200) // 4, convention=rm.conventions.TRL)
    best = audit(rewards, ids, sliced).matches[0]
    assert (best.grouping, best.off) == ("consecutive", 0)


def test_the_example_of_the_page(samples):
    runs = json.loads((samples("tau-bench-airline") / "gpt-4o-airline.json").read_text())
    ids, rewards = [run["task_id"] for run in runs], [run["reward"] for run in runs]
    turns = [sum(m["role"] == "assistant" for m in run["traj"]) for run in runs]
    adv = rm.group.grpo(np.float32(rewards), ids, convention=rm.conventions.TRL)
    page = (Path(__file__).parents[2] / "docs" / "audit.md").read_text()
    for line in str(audit(rewards, ids, adv, lengths=turns)).splitlines():
        # The frameworks that agree with TRL may become more.
        assert line in page or line.startswith("convention ")


def test_amc23(samples):
    data = json.loads((samples("amc23-50-samples") / "results.json").read_text())
    problems = [p for c in data["categories"] for d in c["datasets"] for p in d["results"]]
    ids = [p["question"] for p in problems for _ in p["completions"]]
    rewards = [c["score"] for p in problems for c in p["completions"]]
    lengths = [len(c["full_model_response"]) for p in problems for c in p["completions"]]
    a = audit(rewards, ids, lengths=lengths)
    assert Counter(a.rows.tolist()) == expected_reasons(ids, rewards)
    assert Counter(a.rows.tolist()) == {"signal": 1350, "zero spread: all at the bottom": 650}
    s = a.summary
    solved = Counter(sum(r) for r in by_group(ids, rewards).values())
    assert (s["all_low_groups"], s["all_high_groups"]) == (solved[0] / 40, solved[50] / 40) == (13 / 40, 0)
    assert s["at_high"] == pytest.approx(sum(rewards) / 2000) == pytest.approx(0.144)
    signal = {i for i, r in by_group(ids, rewards).items() if 0 < sum(r) < 50}
    tokens = sum(n for i, n in zip(ids, lengths, strict=True) if i in signal)
    assert (s["signal_tokens"], s["effective_tokens"]) == (tokens, pytest.approx(tokens / sum(lengths)))
    by_hand = [(r - 1.0 * sum(g) / 50) / (np.std(g, ddof=1) + 1e-6) for g in by_group(ids, rewards).values() for r in g]
    assert s["advantage_abs_sum"] == pytest.approx(np.abs(by_hand).sum())
    assert s["advantage_max"] == pytest.approx(max(by_hand))
    assert s["effective_sample_size"] == pytest.approx(np.abs(by_hand).sum() ** 2 / np.square(by_hand).sum())


def test_math_with_two_rewards(samples):
    lines = (samples("math-8-samples") / "math_cot_100.jsonl").read_text().splitlines()
    problems = [json.loads(line) for line in lines]
    ids = [p["idx"] for p in problems for _ in p["score"]]
    rule, model = [s for p in problems for s in p["score"]], [s for p in problems for (s,) in p["pred_score"]]
    a = audit(rule, ids)
    assert Counter(a.rows.tolist()) == expected_reasons(ids, rule)
    assert a.summary["signal_groups"] == sum(len(set(p["score"])) == 2 for p in problems) == 10
    assert (a.summary["all_high_groups"], a.summary["all_low_groups"]) == (0.86, 0.04)
    assert [f.kind for f in a.findings] == ["positional ids"]
    # The reward model has spread everywhere; a few rewards are exactly the mean of their group.
    b = audit(model, ids)
    exact = [x == mean(g) for g in by_group(ids, model).values() for x in g]
    assert Counter(b.rows.tolist()) == Counter("zero advantage" if x else "signal" for x in exact)
    assert b.summary["effective_groups"] == 1
    assert b.summary["distinct_rewards"] == len(set(model))

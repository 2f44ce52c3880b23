"""Curves and statistics of training runs: made-up lines with answers known by hand."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed")

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parents[2]))
    from bench.training import curves, stats
    from bench.training.curves import Curve
    from bench.training.run import Plan
    from bench.training.suites import Suite

PLAN = Plan("sums", "grpo", 0, budget=400, evaluations=4)


def write(folder: Path, lines: list, name: str = "sums.jsonl") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def curve(lines_of, plan: Plan, accuracies: list) -> Curve:
    return Curve(plan, tuple(lines_of(plan, accuracies, step=100)))


def test_a_curve_is_interpolated_at_the_marks_of_its_budget(lines_of) -> None:
    lines = lines_of(PLAN, [0.0, 0.4, 0.6, 0.6, 1.0], step=100)
    for line, tokens in zip(lines, (0, 160, 200, 320, 440), strict=True):
        line["sampled_tokens"] = tokens
    got = Curve(PLAN, tuple(lines))
    assert got.marks.tolist() == [0, 100, 200, 300, 400]
    assert got.accuracy == pytest.approx([0.0, 0.25, 0.6, 0.6, 0.6 + 0.4 * 80 / 120])
    assert got.mean == pytest.approx((0.125 + 0.425 + 0.6 + (0.6 + 0.8666666667) / 2) / 4)
    assert got.final == pytest.approx(0.8666666667)


def test_a_run_may_end_half_a_step_before_the_budget_but_not_earlier(lines_of) -> None:
    lines = lines_of(PLAN, [0.1, 0.2, 0.3, 0.4, 0.5], step=100)
    lines[-1] |= {"sampled_tokens": 360, "step": 4}  # a step is 90, so 400 is nearer to 360 than to 450
    got = Curve(PLAN, tuple(lines))
    assert got.finished
    assert got.final == 0.5
    lines[-1] |= {"sampled_tokens": 350, "step": 10}
    got = Curve(PLAN, tuple(lines))
    assert not got.finished
    assert got.reached == 0.875
    assert math.isnan(got.final)
    assert got.accuracy[3] == 0.4
    assert not Curve(PLAN, tuple(lines[:1])).finished


def test_costs_are_for_each_sampled_token(lines_of) -> None:
    got = Curve(PLAN, tuple(lines_of(PLAN, [0.0] * 5, step=100)))
    assert [got.per_token(name) for name in ("trained", "computed", "signal")] == [1.0, 2.0, 0.5]
    assert [got.seconds(name) for name in ("sampling", "model", "rollmath", "never")] == pytest.approx([10, 5, 0.1, 0])


def test_reading_sorts_lines_into_runs_and_leaves_diagnostics_out(lines_of, tmp_path: Path) -> None:
    other = replace(PLAN, seed=1)
    lines = [*lines_of(PLAN, [0.1] * 5), *lines_of(other, [0.2] * 5)]
    write(tmp_path, [*lines[::-1], lines[0]])  # any order; the same line twice is one
    write(tmp_path, [{"anything": 1}], curves.DIAGNOSTICS)
    got = curves.read(tmp_path)
    assert set(got) == {PLAN, other}
    assert [line["sampled_tokens"] for line in got[other].lines] == [0, 100, 200, 300, 400]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("no json", "expected a line of JSON, got 'no json'"),
        ("[1]", r"expected a JSON object, got '\[1\]'"),
        ({"accuracy": None}, "'accuracy' must be a number from 0, got None"),
        ({"accuracy": math.nan}, "'accuracy' must be a number from 0, got nan"),
        ({"sampled_tokens": -1}, "'sampled_tokens' must be a number from 0, got -1"),
        ({"accuracy": 0.9}, r"accuracy 0.9 at step 0 of sums-grpo-lr0.0001-b0k-s0-[0-9a-f]{8}, in an earlier line 0.1"),
    ],
)
def test_a_bad_line_is_an_error_with_file_and_line(lines_of, tmp_path: Path, change, says: str) -> None:
    first = lines_of(PLAN, [0.1])[0]
    text = change if isinstance(change, str) else json.dumps(first | change)
    (tmp_path / "x.jsonl").write_text(json.dumps(first) + "\n" + text + "\n")
    with pytest.raises(ValueError, match=rf"x\.jsonl:2: {says}"):
        curves.read(tmp_path)


def test_a_line_without_a_field_is_an_error(lines_of, tmp_path: Path) -> None:
    line = lines_of(PLAN, [0.1])[0]
    del line["seed"], line["accuracy"]
    with pytest.raises(ValueError, match=r"x\.jsonl:1: expected a line of a run, got one without seed, accuracy"):
        curves.read(write(tmp_path, [line], "x.jsonl"))


def test_students_interval_has_the_known_quantiles() -> None:
    x = [0.1, 0.2, 0.4, 0.2, 0.1]
    mean, error = 0.2, math.sqrt(0.06 / 4 / 5)
    assert stats.student(x) == pytest.approx((mean, mean - 2.776445 * error, mean + 2.776445 * error), rel=1e-6)
    assert stats.student([0.1, 0.3]) == pytest.approx((0.2, 0.2 - 12.7062 * 0.1, 0.2 + 12.7062 * 0.1), rel=1e-5)
    assert math.isnan(stats.student([0.1]).low)


# Two-sided 5 % and 1 % points from printed tables.
@pytest.mark.parametrize(
    ("df", "t5", "t1"), [(1, 12.7062, 63.6567), (2, 4.30265, 9.92484), (3, 3.18245, 5.84091), (4, 2.77645, 4.60409),
                         (7, 2.36462, 3.49948), (30, 2.04227, 2.75000)]
)  # fmt: skip
def test_p_values_agree_with_printed_quantiles(df: int, t5: float, t1: float) -> None:
    for t, p in ((t5, 0.05), (t1, 0.01)):
        x = np.random.default_rng(df).normal(size=df + 1)
        x += t * x.std(ddof=1) / math.sqrt(df + 1) - x.mean()
        assert stats.p_value(x) == pytest.approx(p, rel=3e-5)
        assert stats.p_value(-x) == pytest.approx(p, rel=3e-5)


def test_p_values_at_the_edges() -> None:
    assert stats.p_value([0.5, 0.5]) == 0.0
    assert stats.p_value([0.0, 0.0]) == 1.0
    assert stats.p_value([-1.0, 1.0]) == pytest.approx(1.0)
    assert math.isnan(stats.p_value([0.5]))


def test_the_bootstrap_is_seeded_and_percentile() -> None:
    x = np.random.default_rng(0).normal(size=(5, 3))
    low, high = stats.bootstrap(x)
    again = stats.bootstrap(x)
    assert np.array_equal(low, again[0])
    assert np.array_equal(high, again[1])
    assert (low < x.mean(0)).all()
    assert (x.mean(0) < high).all()
    assert stats.bootstrap(x[:, 1])[0] == pytest.approx(low[1])
    # Of 0 and 1 the mean is 0, 1/2 or 1, with weights 1/4, 1/2, 1/4.
    assert stats.over_seeds([0.0, 1.0]) == (0.5, 0.0, 1.0)
    assert stats.over_seeds([0.5, 0.5, 0.5]) == (0.5, 0.5, 0.5)
    assert math.isnan(stats.over_seeds([0.5]).low)
    # With many seeds it is the interval of the normal distribution.
    many = np.random.default_rng(1).normal(size=400)
    half = 1.96 * many.std() / 20
    assert stats.over_seeds(many)[1:] == pytest.approx((many.mean() - half, many.mean() + half), abs=0.01)


def test_of_five_normal_seeds_student_covers_what_it_says_and_the_bootstrap_less(monkeypatch) -> None:
    monkeypatch.setattr(stats, "RESAMPLES", 1000)
    draws = np.random.default_rng(5).normal(size=(5, 4000))
    low, high = stats.bootstrap(draws)
    assert ((low < 0) & (high > 0)).mean() == pytest.approx(0.84, abs=0.02)
    inside = [s.low < 0 < s.high for s in map(stats.student, draws.T[:800])]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.025)


def test_holm_steps_down_and_stops() -> None:
    assert stats.holm([0.01, 0.04, 0.03]) == [True, False, False]  # 0.05/3, then 0.05/2: 0.03 stops, and 0.04 with it
    assert stats.holm([0.01, 0.04, 0.02]) == [True, True, True]
    assert stats.holm([0.02, math.nan, 0.04]) == [True, False, True]  # NaN was not tested
    assert stats.holm([]) == []


def test_differences_are_of_equal_seeds_and_judged_by_student(lines_of) -> None:
    gains = {"grpo": [0.0] * 4, "up": [0.10, 0.11, 0.12, 0.11], "down": [-0.10, -0.11, -0.12, -0.11],
             "same": [0.1, -0.1, 0.1, -0.1]}  # fmt: skip
    # Seeds differ more than arms do: only pairs show it.
    runs = {
        arm: {s: curve(lines_of, replace(PLAN, arm=arm, seed=s), [0.2 * s + g] * 5) for s, g in enumerate(values)}
        for arm, values in gains.items()
    }
    del runs["up"][0]
    runs["one"] = {2: runs["up"][2]}
    runs["apart"] = {9: runs["up"][2]}
    got = stats.differences(runs, "grpo")
    assert {arm: d.verdict for arm, d in got.items()} == {
        "up": "better", "down": "worse", "same": "no clear difference", "one": "too few seeds"
    }  # fmt: skip
    assert got["up"].seeds == (1, 2, 3)
    assert got["up"].values == pytest.approx((0.11, 0.12, 0.11))
    assert got["up"].student.value == pytest.approx(0.34 / 3)
    assert got["up"].student.low < got["up"].bootstrap.low < got["up"].student.value
    assert [d.holm for d in got.values()] == [True, True, False, False]
    assert stats.differences(runs, "absent") == {}


def test_the_measure_is_the_mean_over_the_budget_or_the_end(lines_of) -> None:
    runs = {
        "grpo": {s: curve(lines_of, replace(PLAN, seed=s), [0, 0.5, 0.5, 0.5, 0.5]) for s in (0, 1)},
        "late": {s: curve(lines_of, replace(PLAN, arm="late", seed=s), [0, 0, 0, 0, 0.6]) for s in (0, 1)},
    }
    assert stats.differences(runs, "grpo")["late"].verdict == "worse"
    assert stats.differences(runs, "grpo", "final")["late"].verdict == "better"


def test_selection_counts_what_the_suite_plans_and_says_the_rest(lines_of) -> None:
    options = {"budget": 400, "evaluations": 4}
    suite = Suite("s", "S", ("sums",), ("grpo", "a", "b"), seeds=(0, 1), rates={"a": 2e-4}, options=options)
    plans = suite.plans()
    made = {p: curve(lines_of, p, [0.1] * 5) for p in plans if p.arm != "b" and (p.arm, p.seed) != ("a", 1)}
    tried = replace(PLAN, arm="a", learning_rate=4e-4)
    elsewhere = replace(PLAN, arm="a", learning_rate=4e-4, held_out=False)
    made |= {p: curve(lines_of, p, [0.1] * 5) for p in (tried, elsewhere)}
    broken = replace(PLAN, arm="grpo", seed=1)
    made[broken] = curve(lines_of, broken, [0.1, 0.1, 0.1])
    got = stats.select(suite, "sums", made)
    assert {arm: list(seeds) for arm, seeds in got.runs.items()} == {"grpo": [0], "a": [0]}
    assert got.runs["a"][0].plan.learning_rate == 2e-4
    assert got.notes == [
        "Without runs: a (seed 1), b (all).",
        "Not finished, not counted: grpo (seed 1 at 50%).",
        "a was also run with learning rate 4e-4: not counted here.",
    ]


def test_several_rates_of_one_suite_are_an_error(lines_of) -> None:
    suite = Suite("t", "T", ("sums",), ("grpo",), tuning=True, options={"budget": 400, "evaluations": 4})
    made = {p: curve(lines_of, p, [0.1] * 5) for p in suite.plans()}
    with pytest.raises(ValueError, match=r"select\(\): suite 't' must have one run for each arm and seed"):
        stats.select(suite, "sums", made)


def test_a_learning_rate_reads_well() -> None:
    assert [stats.rate(x) for x in (1e-4, 1.5e-4, 6e-5, 0.02, 1.0)] == ["1e-4", "1.5e-4", "6e-5", "2e-2", "1e0"]

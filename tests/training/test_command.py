"""Command lines: what is asked for is there, and what is not is an error that says so."""

import dataclasses
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed")

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parents[2]))
    from bench.training import command, work
    from bench.training.pretrain import STAGES
    from bench.training.run import Plan, Run
    from bench.training.suites import RATES, SUITES, TUNING_SEEDS
    from bench.training.table import ARMS


@pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: suite.name)
def test_suites_name_arms_and_tasks_that_there_are(suite) -> None:
    assert set(suite.arms) <= set(ARMS)
    assert suite.tuning or suite.baseline in suite.arms
    assert set(suite.tasks) <= {*STAGES, *command.LEVELS, "short_sums"}
    assert set(suite.tasks) <= set(RATES)
    plans = suite.plans()
    assert len(set(plans)) == len(plans)
    assert len({plan.name for plan in plans}) == len(plans)


def test_the_levels_are_those_of_the_agents() -> None:
    pytest.importorskip("minigrid", reason="minigrid is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[2]))
        from bench.training import agents, agents_pretrain

    assert command.LEVELS == tuple(agents.LEVELS) == tuple(agents_pretrain.STAGES)


def test_options_pick_runs() -> None:
    every = command.parse(["run", "all"]).plans
    assert {plan.arm for plan in every} <= set(ARMS)
    few = command.parse(["run", "baselines", "rates", "--seeds", "1", "--task", "sums", "--budget", "3000"]).plans
    assert {(plan.seed, plan.held_out) for plan in few} == {(0, True), (TUNING_SEEDS[0], False)}
    assert {(plan.task, plan.budget) for plan in few} == {("sums", 3000)}
    one = command.parse(["run", "trees", "--arm", "tree_rl", "--task", "logic", "--seeds", "2"]).plans
    assert [(plan.arm, plan.seed) for plan in one] == [("tree_rl", 0), ("tree_rl", 1)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "duel"], "invalid choice: 'duel'"),
        (["run", "stale", "--task", "chess"], "--task must be one of sums for stale, got chess"),
        (["run", "packed", "--arm", "grpo"], "--arm must be one of spo_tree_flat, spo_tree for packed, got grpo"),
        (["run", "quick", "--seeds", "0"], "argument --seeds: must be a whole number from 1, got '0'"),
        (["run", "quick", "--workers", "0"], "argument --workers: must be a whole number from 1, got '0'"),
        (["quick", "--workers", "two"], "argument --workers: must be a whole number from 1, got 'two'"),
        (["run", "quick", "--budget", "-1"], "argument --budget: must be a whole number from 1, got '-1'"),
        (["run", "agents", "trees", "--task", "babyai", "--arm", "tree_rl"], "no suite has a run of these tasks"),
        (["pretrain", "short_sums"], "invalid choice: 'short_sums'"),
    ],
)
def test_wrong_command_lines(arguments, said, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_run_of_an_unknown_arm_or_from_a_broken_state(tmp_path) -> None:
    plan = Plan("short_sums", "grpo", 0, budget=1000, items=2, pool=4)
    with pytest.raises(ValueError, match=r"Run\(\): 'plan' must have one of the arms grpo, .*, got 'grpo2'"):
        Run(dataclasses.replace(plan, arm="grpo2"), tmp_path)
    state = tmp_path / plan.name / "state.pt"
    state.parent.mkdir()
    for content in (b"", b"half a file", None):
        if content is None:
            torch.save({"model": {}}, state)
        else:
            state.write_bytes(content)
        with pytest.raises(ValueError, match=r"state\.pt: not the state of this run; delete it to begin"):
            next(iter(Run(plan, tmp_path).lines()))


def test_a_half_line_of_results_is_named(tmp_path) -> None:
    (tmp_path / "sums.jsonl").write_text('{"task": "sums", "arm"')
    with pytest.raises(ValueError, match=r"sums\.jsonl:1: expected a"):
        work.read(tmp_path)

"""The examples run, and do what they are there to show."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest

import rollmath as rm

torch = pytest.importorskip("torch")

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


@pytest.fixture(scope="module")
def babyai():
    """The module examples/babyai_steps.py."""
    pytest.importorskip("minigrid")
    spec = importlib.util.spec_from_file_location("babyai_steps", EXAMPLES / "babyai_steps.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    threads = torch.get_num_threads()
    yield module
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def batch(babyai):
    """Makes a policy, what it played in 8 tasks, and the steps of it; the same policy and tasks for each memory."""

    def make(memory: int):
        torch.manual_seed(0)
        policy, options = babyai.Policy(), babyai.parse(["--memory", str(memory)])
        tasks = [i for i in range(8) for _ in range(8)]
        played = babyai.play(policy, tasks, options, torch.Generator().manual_seed(0))
        assert 0 < played.rewards.sum() < len(tasks)
        return policy, played, rm.Steps.from_episodes(played.states, played.actions, groups=tasks)

    return make


def test_the_agent_of_babyai_runs_in_short(script, tmp_path):
    pytest.importorskip("minigrid")
    code = f"""
import runpy, sys, warnings
warnings.simplefilter("error")
sys.argv = ["babyai_steps.py", "--quick", "--out", {str(tmp_path)!r}]
runpy.run_path({str(EXAMPLES / "babyai_steps.py")!r}, run_name="__main__")
"""
    out, err = script(code, deadline=100)
    assert not err
    assert re.search(r"update +flat +returns +salt +gigpo\n", out)
    assert len(re.findall(r"^ +(?:returns|salt|gigpo) - .*(?:better|worse|no clear difference)$", out, re.M)) == 4
    results = json.loads((tmp_path / "results.json").read_text())
    assert {arm: np.shape(curve) for arm, curve in results["success"].items()} == dict.fromkeys(
        ("flat", "returns", "salt", "gigpo"), (2, 2)
    )
    assert len({str([run[0] for run in curve]) for curve in results["success"].values()}) == 1, "all arms start equal"
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_the_agent_of_babyai_reads_what_it_sees(babyai):
    env = babyai.environments("BabyAI-GoToRedBallNoDists-v0", 1)[0]
    texts = []
    for seed in range(40):
        seen, _ = env.reset(seed=seed)
        text = babyai.describe(seen["mission"], seen["image"].tobytes(), *seen["image"].shape[:2])
        here, front, side = (np.array(v) for v in (env.agent_pos, env.dir_vec, env.right_vec))
        at = {c.cur_pos: c.type for c in env.grid.grid if c is not None and c.cur_pos is not None}
        (ball,) = (np.array(place) for place, kind in at.items() if kind == "ball")
        ahead, right = int((ball - here) @ front), int((ball - here) @ side)
        ways = ((ahead, "forward"), (-right, "left"), (right, "right"))
        where = " and ".join(f"{n} step{'s' if n > 1 else ''} {way}" for n, way in ways if n > 0)
        seen = 0 <= ahead <= 6 and abs(right) <= 3  # of the 7 x 7 cells; no wall stands within the room
        assert text.count("ball") == 1 + seen  # it is in the mission, too
        assert (f"You see a red ball {where}." in text) == seen
        for way, step, reach in (("forward", front, 6), ("left", -side, 3), ("right", side, 3)):
            n = next(n for n in range(8) if not ((here + n * step) % 7).all())  # walls are at 0 and 7
            assert (f"You see a wall {babyai.paces(n, way)}." in text) == (n <= reach)
        texts.append(text)
    assert len(set(texts)) > 20


def test_the_agent_of_babyai_gives_credit_to_steps(babyai, batch):
    _, played, steps = batch(2)
    flat, returns, salt, gigpo = (np.asarray(credit(steps, played.rewards)) for credit in babyai.ADVANTAGES.values())
    for credit in (flat, returns, salt, gigpo):
        assert credit.shape == (len(steps),)
        assert np.isfinite(credit).all()
    mixed = rm.ops.segment_std(flat, steps.row_groups)[steps.row_groups.index] > 0
    assert (flat[~mixed] == 0).all()
    assert (gigpo[~mixed] == 0).all()
    shared = steps.merge().shared
    np.testing.assert_allclose(salt[~shared], flat[~shared])
    assert (abs(salt - flat) > 0.1)[shared].mean() > 0.1
    anchors = steps.groups(by="state")
    alone = anchors.counts[anchors.index] == 1
    np.testing.assert_allclose(gigpo[alone], flat[alone])
    assert (abs(gigpo - flat) > 0.1)[~alone].mean() > 0.05


def test_the_mean_of_salt_changes_a_gradient_only_where_the_policy_reads_more_than_the_state(babyai, batch):
    changes = []
    for memory in (0, 2):
        policy, played, steps = batch(memory)
        gradients = []
        for arm in ("flat", "salt", "gigpo"):
            theta = babyai.log_probabilities(policy, played)
            policy.zero_grad()
            babyai.loss(theta, theta.detach(), steps, babyai.ADVANTAGES[arm](steps, played.rewards)).backward()
            gradients.append(torch.cat([p.grad.flatten() for p in policy.parameters()]))
        flat, salt, gigpo = gradients
        assert (gigpo - flat).norm() > 0.05 * flat.norm()
        changes.append(float((salt - flat).norm() / flat.norm()))
    # Rows of one merged step have the same prompt and action, and so the same gradient of the log-probability.
    assert changes[0] < 1e-5
    assert changes[1] > 0.05


def test_the_agent_of_babyai_is_the_same_every_time(babyai):
    options = babyai.parse(["--updates", "2", "--tasks", "2", "--held-out", "8", "--horizon", "12"])
    first, again = (babyai.train("gigpo", 3, options) for _ in range(2))
    assert first == again
    assert len(first[0]) == 2
    assert babyai.train("gigpo", 4, options) != first

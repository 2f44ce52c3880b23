"""Trinity's GiGPO, called live on the same tables of steps."""

import importlib.util

import numpy as np
import pytest

import rollmath as rm

if importlib.util.find_spec("trinity") is None:
    pytest.skip("trinity-rft is not installed; `make test-peers` has an environment for it", allow_module_level=True)

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def module(peer):
    return peer("trinity.algorithm.advantage_fn.gigpo_advantage")


@pytest.fixture(scope="module")
def experience(peer):
    import torch

    common = peer("trinity.common.experience")

    def make(task, run, step, info, reward=None):
        eid = common.EID(batch=0, task=task, run=run, step=step)
        return common.Experience(
            eid=eid, tokens=torch.zeros(2, dtype=torch.int32), prompt_length=1, reward=reward, info=info
        )

    return make


def table(seed):
    """Rows in random order: tasks of 1 to 6 trajectories of 1 to 9 steps over few states."""
    rng = np.random.default_rng(seed)
    rows, outcomes = [], {}
    for task in range(12):
        for run in range(int(rng.integers(1, 7))):
            outcomes[task, run] = float(rng.integers(0, 3)) / 2
            rows += [(task, run, step, f"room {rng.integers(4)}") for step in range(int(rng.integers(1, 10)))]
    return [rows[i] for i in rng.permutation(len(rows))], outcomes


def steps_of(rows):
    trajectory = [(task, run) for task, run, *_ in rows]
    return rm.Steps(trajectory, [r[3] for r in rows], groups=[r[0] for r in rows], step=[r[2] for r in rows])


def advantages(module, experiences, **options):
    done, _ = module.GiGPOAdvantageFn(**options).process(experiences)
    return [float(e.advantages.reshape(-1)[0]) for e in done]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("fnorm", "scale"), [("none", "none"), ("std", "std")])
@pytest.mark.parametrize("given", ["outcomes", "step rewards"])
def test_gigpo(module, experience, agree, seed, fnorm, scale, given):
    rows, outcomes = table(seed)
    steps, rng = steps_of(rows), np.random.default_rng(seed)
    dense = rng.integers(-4, 5, len(rows)) / 8
    # Its anchors are those of all tasks together, so that the hash tells the task, too.
    infos = [{"env_state_hash": f"{r[0]}/{r[3]}"} for r in rows]
    if given == "outcomes":
        ours = {"rewards": [outcomes[t] for t in steps.trajectory_ids]}
        theirs = [experience(*r[:3], info, outcomes[r[:2]]) for r, info in zip(rows, infos, strict=True)]
    else:
        ours = {"rewards": None, "step_rewards": dense}
        theirs = [
            experience(*r[:3], info | {"step_reward": x})
            for r, info, x in zip(rows, infos, dense.tolist(), strict=True)
        ]
    found = advantages(module, theirs, gamma=0.9, fnorm=fnorm)
    # It computes in float32, and divides by 1 + 1e-6 where it does not standardise.
    mine = rm.graph.gigpo(steps, gamma=0.9, scale=scale, **ours)
    agree(f"Trinity gigpo {fnorm}, {given} float32", mine, found, atol=5e-6)


def test_its_anchors_are_not_those_of_a_task(module, experience):
    # Two tasks with the same text: theirs merges the rows, so that the outcome of one task changes the other.
    rows = [(0, 0, 0, "hall"), (1, 0, 0, "hall")]
    theirs = advantages(module, [experience(*r[:3], {"env_state_hash": r[3]}, float(r[0])) for r in rows])
    assert theirs == pytest.approx([-0.5, 1.5], abs=1e-5)
    assert rm.graph.gigpo(steps_of(rows), [0.0, 1.0]).tolist() == [0.0, 1.0]

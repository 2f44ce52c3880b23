"""The published code of methods on step graphs, run on small tables of steps.

    python tests/conformance/golden/make_graphs.py RewardFlow=CLONE HGPO=CLONE Trinity=installed

Each CLONE is a git clone, bare or not; functions are read at the commits given here. Trinity-RFT is run where it is
installed. Writes
``tests/vectors/graphs.json``, and leaves in there what comes from clones that were not given. Rewards and discounts are
halves of halves, so that no result hangs on how a mean of equal float32 numbers is rounded.
"""

import json
import sys
import uuid
from collections import Counter, defaultdict
from difflib import SequenceMatcher
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from _source import Source

GRAPHS = Path(__file__).parents[2] / "vectors" / "graphs.json"
#: RewardFlow carries the code of GiGPO's authors (verl-agent), alfworldauto the recipe of HGPO's authors.
COMMITS = {
    "RewardFlow": "1cdead8",
    "HGPO": "51c1a039c38f1af54b09c05b81b76ce52d72c383",
    "Trinity": "trinity-rft 0.6.0",
}


class Case:
    """Rows of several tasks that use the same texts, in time order and interleaved; one trajectory has one step."""

    def __init__(self, seed, tasks, size):
        rng = np.random.default_rng(seed)
        table = []
        for task in range(tasks):
            for _ in range(1 if task == 0 and seed % 2 else size):
                trajectory, length = len({row[0] for row in table}), int(rng.integers(1, 7))
                states = rng.integers(0, 3, length)
                table += [(trajectory, f"task{task}", f"s{state}", float(rng.random())) for state in states]
        for key in range(1, len(table)):  # moves rows forward, but never past one of their own trajectory
            at = key
            while at and table[at - 1][0] != table[at][0] and rng.random() < 0.6:
                table[at - 1], table[at] = table[at], table[at - 1]
                at -= 1
        self.trajectory, self.task, self.state = ([row[i] for row in table] for i in range(3))
        n = max(self.trajectory) + 1
        self.rewards = [float(x) for x in rng.choice([0.0, 1.0, 0.25, -0.5], n)]
        self.step_rewards = [float(x) for x in rng.choice([0.0, 0.0, 1.0, -0.25], len(table))]
        self.valid = [bool(x) for x in rng.random(len(table)) < 0.8]

    def inputs(self):
        return dict(vars(self))

    def batch(self, rewards):
        columns = {"rewards": rewards, "traj_uid": self.trajectory, "active_masks": [1.0] * len(self.task)}
        columns = {name: np.array(column) for name, column in columns.items()}
        return SimpleNamespace(non_tensor_batch=columns, batch={"input_ids": torch.zeros(len(self.task))})

    def outcome_at_the_end(self):
        last = {t: row for row, t in enumerate(self.trajectory)}
        return [self.rewards[t] * (last[t] == row) for row, t in enumerate(self.trajectory)]

    def arguments(self, penalty=0.0):
        """What the official functions take: the episode's reward of each row, mask, observations, ids."""
        loss = torch.tensor([penalty * (not ok) for ok in self.valid])
        episode = torch.tensor([self.rewards[t] for t in self.trajectory]) - loss
        mask = torch.ones(len(self.task), 1)
        ids = [np.array(column, dtype=object) for column in (self.state, self.task, self.trajectory)]
        return loss, episode[:, None], mask, ids


CASES = [Case(seed, tasks, size) for seed, tasks, size in ((0, 2, 4), (1, 3, 3), (2, 1, 8))]


def gigpo(source):
    code = source.load(
        "gigpo/core_gigpo.py", "to_hashable", "summarize_group_size", "are_similar", "compute_step_discounted_returns",
        "compute_gigpo_outcome_advantage", "episode_norm_reward", "build_step_group", "step_norm_reward", np=np,
        uuid=uuid, defaultdict=defaultdict, Counter=Counter, SequenceMatcher=SequenceMatcher, print=lambda *_: None,
    )  # fmt: skip
    for case in CASES:
        for earned in ("rewards", "step_rewards"):
            steps = case.outcome_at_the_end() if earned == "rewards" else case.step_rewards
            returns = code.compute_step_discounted_returns(case.batch(steps), 0.5)
            for mode in ("mean_norm", "mean_std_norm"):
                for penalty in (0.0, 0.125):
                    loss, episode, mask, (state, task, trajectory) = case.arguments(penalty)
                    options = {"earned": earned, "scale": "none" if mode == "mean_norm" else "std", "penalty": penalty}
                    got, _ = code.compute_gigpo_outcome_advantage(
                        episode, returns - loss, mask, state, task, trajectory, mode=mode, step_advantage_w=0.75
                    )
                    yield case, got[:, 0], {**options, "statistics": "step_rows"}
                    if penalty == 0:
                        by_trajectory = code.episode_norm_reward(
                            episode, mask, task, trajectory, 1e-6, mode == "mean_norm", False
                        )
                        anchors = code.build_step_group(state, task)
                        step = code.step_norm_reward(returns, mask, anchors, 1e-6, mode == "mean_norm")
                        yield case, (by_trajectory + 0.75 * step)[:, 0], {**options, "statistics": "trajectories"}


def gigpo_trinity(_):
    from trinity.algorithm.advantage_fn.gigpo_advantage import GiGPOAdvantageFn
    from trinity.common.experience import EID, Experience

    for case in CASES:
        for earned in ("rewards", "step_rewards"):
            steps = case.outcome_at_the_end() if earned == "rewards" else case.step_rewards
            for scale in ("none", "std"):
                rows, seen = [], Counter()
                for row, t in enumerate(case.trajectory):
                    # It would merge equal states of different tasks.
                    info = {"env_state_hash": f"{case.task[row]} {case.state[row]}", "step_reward": steps[row]}
                    eid = EID(batch=0, task=case.task[row], run=t, step=seen[t])
                    rows.append(
                        Experience(eid=eid, tokens=torch.zeros(2, dtype=torch.int32), prompt_length=1, info=info)
                    )
                    seen[t] += 1
                done, _ = GiGPOAdvantageFn(omega=0.75, gamma=0.5, fnorm=scale).process(rows)
                out = [float(e.advantages.reshape(-1)[0]) for e in done]
                yield case, out, {"earned": earned, "scale": scale}


def hgpo(source):
    code = source.load(
        "recipe/hgpo/core_hgpo.py", "to_hashable", "compute_step_discounted_returns", "compute_hgpo_outcome_advantage",
        "trajectory_advantages", "hgpo_advantage_estimate", np=np, defaultdict=defaultdict, print=lambda *_: None,
    )  # fmt: skip
    for case in CASES:
        for history, alpha, base in ((0, 1.0, False), (1, 1.0, False), (2, 1.0, True), (4, 0.5, False)):
            for mode in ("mean_norm", "mean_std_norm"):
                _, episode, mask, (state, task, trajectory) = case.arguments()
                returns = code.compute_step_discounted_returns(case.batch(case.outcome_at_the_end()), 0.5)
                got, _ = code.compute_hgpo_outcome_advantage(
                    episode, returns, mask, state, task, trajectory, history, mode=mode, length_weight_alpha=alpha,
                    base_group=base,
                )  # fmt: skip
                scale = "none" if mode == "mean_norm" else "std"
                yield case, got[:, 0], {"history": history, "alpha": alpha, "base": base, "scale": scale}


RUNS = {
    "gigpo": ("RewardFlow", gigpo),
    "gigpo_trinity": ("Trinity", gigpo_trinity),
    "hgpo": ("HGPO", hgpo),
}

if __name__ == "__main__":
    clones = dict(argument.split("=", 1) for argument in sys.argv[1:])
    made = json.loads(GRAPHS.read_text()) if GRAPHS.exists() else {}
    made |= {
        "torch": torch.__version__.partition("+")[0],
        "commits": COMMITS,
        "cases": [case.inputs() for case in CASES],
    }
    for name, (key, run) in RUNS.items():
        if key not in clones:
            continue
        made[name] = [
            {"case": CASES.index(case), "options": options, "out": [round(float(x), 7) for x in out]}
            for case, out, options in run(Source(clones[key], COMMITS[key]))
        ]
        print(f"{name}: {len(made[name])} records")
    GRAPHS.write_text(
        json.dumps(made).replace('{"case"', '\n{"case"').replace('{"trajectory"', '\n{"trajectory"') + "\n"
    )

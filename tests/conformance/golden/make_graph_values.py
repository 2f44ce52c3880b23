"""The published code of methods that value the states of a step graph, run on small tables of steps.

    python tests/conformance/golden/make_graph_values.py G2PO=CLONE GraphGPO=CLONE RewardFlow=CLONE

Each CLONE is a git clone, bare or not; functions are read at the commits given here. Writes
``tests/vectors/graph_values.json``. Floats are float64 where the code does not ask for float32; there, discounts are
halves, so that no result hangs on how a mean of equal numbers is rounded.
"""

import json
import sys
import uuid
from collections import Counter, defaultdict
from pathlib import Path
from types import ModuleType, SimpleNamespace

import networkx as nx
import numpy as np
import torch
from _source import Source

GRAPHS = Path(__file__).parents[2] / "vectors" / "graph_values.json"
#: The authors of GraphGPO published it in langfengQ/verl-agent; read from a copy of it, zzj1111/alfworldauto.
COMMITS = {
    "G2PO": "b8ffaf56ad241ce73507908e6ed30209cafd324d",
    "GraphGPO": "37aec781da7f377874516e22d7f32c1932215eb4",
    "RewardFlow": "1cdead8ef1104fc56dbd8d6937de0b57c82cd047",
}


class Case:
    """Trajectories of two tasks that use the same texts; rows in time order, interleaved."""

    def __init__(self, seed, states, longest, success):
        rng = np.random.default_rng(seed)
        self.task, self.rewards, self.truncated, table = [], [], [], []
        for trajectory in range(8):
            won = bool(rng.random() < success)
            seen = [f"s{s}" for s in rng.integers(0, states, int(rng.integers(1, longest + 1)))]
            cut = not won and bool(rng.random() < 0.5)
            last = "success" if won else f"s{rng.integers(0, states)}" if cut else "lost"
            table.append(list(zip([trajectory] * len(seen), seen, [*seen[1:], last], strict=True)))
            self.task.append(f"task{trajectory // 4}")
            self.rewards.append(10.0 * won)
            self.truncated.append(cut)
        rows = []
        while any(table):
            trajectory = int(rng.choice([t for t in range(8) if table[t]]))
            rows.append(table[trajectory].pop(0))
        self.trajectory, self.state, self.next_state = ([row[i] for row in rows] for i in range(3))
        self.invalid = [bool(x) for x in rng.random(len(rows)) < 0.3]

    def batch(self):
        def of_row(x):
            return [x[t] for t in self.trajectory]

        n = len(self.trajectory)
        columns = {
            "uid": of_row(self.task), "traj_uid": [f"t{t}" for t in self.trajectory], "anchor_obs": self.state,
            "next_obs": self.next_state, "text_actions": [""] * n,
        }  # fmt: skip
        numbers = {
            "episode_rewards": of_row(self.rewards), "rewards": [0.0] * n, "active_masks": [1.0] * n,
            "is_action_valid": [1 - x for x in self.invalid],
        }  # fmt: skip
        made = {name: np.array(column, dtype=object) for name, column in columns.items()}
        made |= {name: np.array(column) for name, column in numbers.items()}
        batch = {"input_ids": torch.zeros(n, 1), "responses": torch.zeros(n, 1), "response_mask": torch.ones(n, 1)}
        episode = torch.tensor(made["episode_rewards"])[:, None]
        return SimpleNamespace(non_tensor_batch=made, batch=batch), episode, batch["response_mask"]


CASES = [Case(seed, *how) for seed, how in enumerate([(3, 5, 0.5), (4, 6, 0.5), (2, 4, 0.3), (4, 7, 0.2), (3, 5, 1.0)])]
MODES = {"none": "mean_norm", "std": "mean_std_norm"}


def g2po(source):
    code = source.load(
        "g2po/core_g2po.py", "episode_norm_reward", "compute_group_aggregation_values", "compute_step_level_advantage",
        "compute_g2po_outcome_advantage", np=np, defaultdict=defaultdict, SUCCESS_REWARD=10.0,
    )  # fmt: skip
    for case in CASES:
        batch, episode, mask = case.batch()
        x = batch.non_tensor_batch
        values, here, ahead = code.compute_group_aggregation_values(batch)
        for scale, mode in MODES.items():
            got, _ = code.compute_g2po_outcome_advantage(
                episode, values, mask, x["uid"], x["traj_uid"], here, ahead, x["is_action_valid"], mode=mode,
                step_advantage_w=0.75,
            )  # fmt: skip
            yield case, got[:, 0], {"scale": scale, "weight": 0.75, "statistics": "step_rows"}


def graphgpo(source):
    terms = source.load(
        "gigpo/core_gigpo.py", "to_hashable", "episode_norm_reward", "build_step_group", "step_norm_reward", np=np,
        uuid=uuid, defaultdict=defaultdict, print=lambda *_: None,
    )  # fmt: skip
    code = source.load(
        "recipe/GraphGPO/core_graph.py", "to_hashable", "StateCanonicalizer", "nested_defaultdict", "ComplexGraph",
        "compute_graph_path_returns", "compute_graphgpo_outcome_advantage", np=np, defaultdict=defaultdict,
        Counter=Counter, episode_norm_reward=terms.episode_norm_reward, build_step_group=terms.build_step_group,
        step_norm_reward=terms.step_norm_reward,
    )  # fmt: skip
    for case in CASES:
        batch, episode, mask = case.batch()
        x = batch.non_tensor_batch
        graphs = code.ComplexGraph.from_data(batch)
        code.ComplexGraph.Calculate_all_shortest_path(graphs)
        for formula in ("code", "progress"):
            returns = code.compute_graph_path_returns(batch, graphs, 0.5, formula == "progress")
            for scale, mode in MODES.items():
                got, _ = code.compute_graphgpo_outcome_advantage(
                    episode, returns, mask, x["anchor_obs"], x["uid"], x["traj_uid"], mode=mode, step_advantage_w=0.75,
                    episode_advantage_w=0.5,
                )  # fmt: skip
                options = {"formula": formula, "scale": scale, "omega": 0.5, "beta_e": 0.5, "beta_g": 0.75}
                yield case, got[:, 0], options | {"statistics": "step_rows"}


def rewardflow(source):
    utils = source.load(
        "agent_system/multi_turn_rollout/utils.py", "to_hashable", "are_similar", "extract_unique_states",
        "build_trajectory", "unique_trajectory", "get_personalization",
    )  # fmt: skip
    propagation = source.load("rewardflow/propagation.py", "propagate_reward_decay", nx=nx)
    for name, given in (("agent_system.multi_turn_rollout.utils", utils), ("rewardflow.propagation", propagation)):
        sys.modules[name] = ModuleType(name)
        vars(sys.modules[name]).update(vars(given))
    manager = source.load(
        "agent_system/environments/env_manager.py", "SearchEnvironmentManager.state_preprocess",
        "SearchEnvironmentManager.clean_trajectory",
    )  # fmt: skip
    code = source.load(
        "rewardflow/core_rewardflow.py", "to_hashable", "compute_rewardflow_outcome_advantage", "episode_norm_reward",
        "build_step_group", "step_norm_reward", "apply_rewardflow_propagation", np=np, uuid=uuid,
        defaultdict=defaultdict, print=lambda *_: None,
    )  # fmt: skip
    envs = SimpleNamespace(projection_f=lambda texts: (texts, None))
    envs.state_preprocess = lambda *given: manager.state_preprocess(envs, *given)
    envs.clean_trajectory = lambda *given: manager.clean_trajectory(envs, *given)
    config, tokenizer = SimpleNamespace(algorithm=SimpleNamespace(gamma=0.5)), SimpleNamespace(decode=lambda _: "")
    for case in CASES:
        batch, episode, mask = case.batch()
        x = batch.non_tensor_batch
        rows = [[i for i, t in enumerate(case.trajectory) if t == trajectory] for trajectory in range(len(case.task))]
        # A step after the longest trajectory, too: without it the code does not see in which state that one ended.
        steps = 1 + max(map(len, rows))
        rollouts = []
        for trajectory, own in enumerate(rows):
            obs = [case.state[i] for i in own] + [case.next_state[own[-1]]] * steps
            earned = [0.0] * (len(own) - 1) + [case.rewards[trajectory]] + [0.0] * steps
            rollouts.append(
                [
                    {
                        "uid": case.task[trajectory], "anchor_obs": obs[j], "active_masks": j < len(own),
                        "rewards": earned[j], "responses": "",
                    }
                    for j in range(steps)
                ]
            )  # fmt: skip
        code.apply_rewardflow_propagation(rollouts, config, tokenizer, envs)
        earned = [0.0] * len(case.trajectory)
        for own, rollout in zip(rows, rollouts, strict=True):
            for i, step in zip(own, rollout, strict=False):
                earned[i] = step["step_rewards"]
        yield case, earned, {"result": "step_rewards", "gamma": 0.5}
        for scale, mode in MODES.items():
            got, _ = code.compute_rewardflow_outcome_advantage(
                episode, torch.tensor(earned), mask, x["anchor_obs"], x["uid"], x["traj_uid"], mode=mode,
                step_advantage_w=0.75,
            )  # fmt: skip
            yield case, got[:, 0], {"scale": scale, "gamma": 0.5, "weight": 0.75, "statistics": "step_rows"}


RUNS = {"g2po": ("G2PO", g2po), "graphgpo": ("GraphGPO", graphgpo), "rewardflow": ("RewardFlow", rewardflow)}

if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    clones = dict(argument.split("=", 1) for argument in sys.argv[1:])
    made = {
        "torch": torch.__version__.partition("+")[0],
        "commits": COMMITS,
        "cases": [vars(case) for case in CASES],
    }
    for name, (key, run) in RUNS.items():
        made[name] = [
            {"case": CASES.index(case), "options": options, "out": [round(float(x), 12) for x in out]}
            for case, out, options in run(Source(clones[key], COMMITS[key]))
        ]
        print(f"{name}: {len(made[name])} records")
    GRAPHS.write_text(json.dumps(made).replace('{"case"', '\n{"case"').replace('{"task"', '\n{"task"') + "\n")

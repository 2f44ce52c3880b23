"""The published code of tree methods, run on small random forests.

    python tests/conformance/golden/make_trees.py TreeRL=CLONE Tree-GRPO=CLONE TreePO=CLONE ARPO=CLONE

Each CLONE is a git clone, bare or not; functions are read at the commits given here. Writes
``tests/vectors/trees.json``.
"""

import json
import math
import random
import sys
from collections import defaultdict, deque
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from _source import Source

TREES = Path(__file__).parents[2] / "vectors" / "trees.json"
COMMITS = {
    "TreeRL": "f0edbea",
    "Tree-GRPO": "90b1709",
    "TreePO": "f055523",
    "ARPO": "a95cd08",
}
CORE = "verl/trainer/ppo/core_algos.py"


class Case:
    """Prompts of one tree or of several; the official code knows the prompt as one node."""

    def __init__(self, seed, trees_a_prompt):
        rng = np.random.default_rng(seed)
        self.parents, self.groups = [], []
        for prompt in range(3):
            for _ in range(trees_a_prompt):
                self.grow(rng, root=len(self.parents), prompt=prompt)
        n = len(self.parents)
        self.children = [[c for c in range(n) if self.parents[c] == v] for v in range(n)]
        self.leaves = [v for v in range(n) if not self.children[v]]
        self.roots = [v for v in range(n) if self.parents[v] < 0]
        self.lengths = [0 if p < 0 else int(rng.integers(1, 4)) for p in self.parents]
        draw = (lambda k: rng.integers(0, 2, k)) if seed % 2 else (lambda k: rng.normal(size=k).round(2))
        self.rewards = [float(r) for r in draw(len(self.leaves))]
        self.selected = [bool(x) for x in rng.random(len(self.leaves)) < 0.7]
        self.tree = {v: i for i, root in enumerate(self.roots) for v in self.below(root)}
        self.prompt = {v: self.groups[self.tree[v]] for v in self.tree}

    def grow(self, rng, root, prompt):
        """A root of two children or more, then nodes below random ones, some as only children."""
        self.parents += [-1, root, root]
        self.groups.append(prompt)
        for _ in range(int(rng.integers(0, 9))):
            self.parents.append(int(rng.integers(root, len(self.parents))))

    def below(self, v):
        return [v] + [w for c in self.children[v] for w in self.below(c)]

    def path(self, v):
        return [*self.path(self.parents[v]), v] if v >= 0 else []

    def inputs(self):
        names = ("parents", "groups", "lengths", "rewards", "selected")
        return {name: getattr(self, name) for name in names}


CASES = [Case(seed, 1 + seed % 3) for seed in range(5)]


def one_node(case, prompt, node):
    """The trees of a prompt below one node, as ``node(id, parent)`` makes them; and all nodes by id."""
    top = node(None, None)
    made = {v: top for v in case.roots if case.prompt[v] == prompt}
    for v, p in enumerate(case.parents):
        if p in made:
            made[v] = node(v, made[p])
    return top, {v: n for v, n in made.items() if n is not top}


def tree_rl(source):
    code = source.load(
        "openrlhf/trainer/ppo_utils/tree_node.py", "leaf_normalize", "leaf_backpropagate", "normalize_all_steps",
        "compute_accumulated_value", "selected_backpropagate", "compute_weighted_update", deque=deque, math=math,
        print=lambda *_: None,
    )  # fmt: skip
    paths = source.load(
        "openrlhf/trainer/ppo_utils/parallel_mcts.py", "path_from_root_to_node", "fill_in_paths", "gather_paths",
        "normalize_selected_terminals", print=lambda *_: None,
    )  # fmt: skip
    modes = {
        "sum": {"use_state_value_reward": True},
        "local": {},
        "global": {"use_value_only": True},
        "ancestors": {"advantage_mix_allancestor": True},
    }
    for case in CASES:
        for form, mode in modes.items():
            for average in (False, True):
                for style in ("sqrt", "original"):
                    # With the mean of children the code shifts by another number than the mean of these values.
                    for shift in ("none",) if average else ("none", "step", "token"):
                        out = [0.0] * len(case.parents)
                        for prompt in sorted(set(case.groups)):
                            tree_rl_prompt(case, prompt, code, paths, out, (mode, average, style, shift))
                        yield (
                            case,
                            out,
                            {
                                "form": form,
                                "global_term": "value",
                                "value": "mean_of_children" if average else "leaf_mean",
                                "sqrt": "code" if style == "sqrt" else "none",
                                "shift": shift,
                                "zero_fill": form in {"sum", "local"},
                            },
                        )


def tree_rl_prompt(case, prompt, code, paths, out, options):
    mode, average, style, shift = options

    def node(v, parent):
        made = SimpleNamespace(
            id=v, parent=parent, children=[], accumulated_value=0.0, terminal_in_subtree=0, main_chain=False,
            correct_terminal_in_subtree=0, selected_terminal_in_subtree=0, reward_raw=None, finish_reason="stop",
            answer=v, answer_token=[0] * (0 if v is None else case.lengths[v]), terminal=False, value=0.0,
        )  # fmt: skip
        if parent is not None:
            parent.children.append(made)
        return made

    root, nodes = one_node(case, prompt, node)
    mine = [i for i, leaf in enumerate(case.leaves) if case.prompt[leaf] == prompt]
    for i in mine:
        nodes[case.leaves[i]].R, nodes[case.leaves[i]].terminal = case.rewards[i], True
    code.leaf_normalize([nodes[case.leaves[i]] for i in mine], root, average, shift, False)
    chosen = [nodes[case.leaves[i]] for i in mine if case.selected[i]]
    for leaf in chosen:
        code.selected_backpropagate(leaf)
    code.compute_weighted_update(root, style)
    if not chosen:
        return
    for path in paths.gather_paths(root, chosen, len(chosen), average_one_generation=average, **mode):
        for step in path:
            out[step["answer"]] = step["value"]


def column(values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def tree_grpo(source):
    names = ("compute_grpo_outcome_advantage", "compute_tree_grpo_outcome_advantage")
    code = source.load(CORE, *names, defaultdict=defaultdict)
    for case in CASES:
        prompts, trees = ([at[v] for v in case.leaves] for at in (case.prompt, case.tree))
        scores, mask = column(case.rewards), torch.ones(len(case.leaves), 1)
        inter, _ = code.compute_grpo_outcome_advantage(scores, mask, prompts)
        inner, _ = code.compute_grpo_outcome_advantage(scores, mask, trees)
        nested, _ = code.compute_tree_grpo_outcome_advantage(scores, mask, prompts, trees)
        for form, out in (("sum", inter + inner), ("inner", inner), ("nested", nested)):
            yield case, out[:, 0].tolist(), {"form": form}


def tree_grpo_difference(source):
    methods = (
        "dfs_subtree_leaf_score",
        "calculate_final_score_from_root",
        "get_subtree_nodes",
        "get_subtree_leaves_num",
    )
    code = source.load(
        "search_r1/llm_agent/tree_node.py", *(f"TreeNode.{name}" for name in methods), math=math, dprint=lambda *_: None
    )
    space = {name: getattr(code, name) for name in methods}
    node_type = type("TreeNode", (), space | {"dfs_subtree_leaf_score": staticmethod(code.dfs_subtree_leaf_score)})
    # The methods call the class by its name.
    code.calculate_final_score_from_root.__globals__["TreeNode"] = node_type
    for case in CASES:
        for margin in (0.1, 0.0):
            nodes = [node_type() for _ in case.parents]
            for v, node in enumerate(nodes):
                node.child_node = [nodes[c] for c in case.children[v]]
                node.parent_node = nodes[case.parents[v]] if case.parents[v] >= 0 else None
                node.is_leaf, node.margin, node.original_score = not case.children[v], margin, 0.0
                node.node_uid, node.final_score = v, 0.0
            for leaf, reward in zip(case.leaves, case.rewards, strict=True):
                nodes[leaf].original_score = reward
            for root in case.roots:
                nodes[root].calculate_final_score_from_root()
            yield case, [node.final_score for node in nodes], {"margin": margin}


def ids(case):
    """The ids of its rollouts, ``prompt#first#second...``; trees of a prompt have their first steps side by side."""
    return ["#".join([f"p{case.prompt[leaf]}", *(str(v) for v in case.path(leaf)[1:])]) for leaf in case.leaves]


def treepo(source):
    code = source.load(
        CORE, "compute_tree_reinforce_plus_plus_baseline_outcome_advantage", np=np, defaultdict=defaultdict,
        # The whitening is a step of its own.
        verl_F=SimpleNamespace(masked_whiten=lambda x, mask: x),
    )  # fmt: skip
    for case in CASES:
        for form in ("average", "group_size"):
            for remove in (False, True):
                out, _ = code.compute_tree_reinforce_plus_plus_baseline_outcome_advantage(
                    column(case.rewards), torch.ones(len(case.leaves), 1), ids(case),
                    remove_no_std_subgroup=remove, adv_weight_strategy=form,
                )  # fmt: skip
                yield case, out[:, 0].tolist(), {"form": form, "remove_no_std_subgroup": remove}


def segments(case, advantages):
    """One number a node: the mean over the rollouts that share it."""
    found = defaultdict(list)
    for name, leaf in zip(ids(case), case.leaves, strict=True):
        for v, x in zip(case.path(leaf)[1:], advantages[name], strict=True):
            found[v].append(x)
    return [math.fsum(found[v]) / len(found[v]) if v in found else 0.0 for v in range(len(case.parents))]


def load_segments(source):
    names = (
        "tree_group_wise_reward", "calculate_rewards_iterative", "normalize_sibling_rewards",
        "calculate_segment_advantage",
    )  # fmt: skip
    return source.load(CORE, *names, np=np, defaultdict=defaultdict)


def treepo_segment(source):
    code = load_segments(source)
    for case in CASES:
        for eta in (None, 0.8):
            rewards = code.tree_group_wise_reward(dict(zip(ids(case), case.rewards, strict=True)))
            got = code.calculate_segment_advantage(rewards, adv_eta=-1.0 if eta is None else eta)
            yield case, segments(case, got), {"eta": eta}


def treepo_spo(source):
    code = load_segments(source)
    for case in CASES:
        if len(set(case.groups)) < len(case.groups):
            continue  # the first steps of all trees of a prompt are siblings there
        rewards = dict(zip(ids(case), case.rewards, strict=True))
        yield case, segments(case, code.calculate_segment_advantage(rewards, seg_node_subling_norm=True)), {}


def arpo_entropy(source):
    path = "ARPO/verl_arpo_entropy/verl/workers/rollout/vllm_rollout/vllm_rollout_with_tools.py"
    code = source.load(path, "vLLMRolloutWithTools._calc_entropy", math=math)
    draw = random.Random(0)
    for tokens in (1, 2, 5):
        logprobs = [math.log(draw.random() / 3) for _ in range(3 * tokens)]
        yield None, [code._calc_entropy(None, logprobs) / math.log(50)], {"logprobs": logprobs, "vocab_size": 50}


RUNS = {
    "tree_rl": ("TreeRL", tree_rl),
    "tree_grpo": ("Tree-GRPO", tree_grpo),
    "tree_grpo_difference": ("Tree-GRPO", tree_grpo_difference),
    "treepo": ("TreePO", treepo),
    "treepo_segment": ("TreePO", treepo_segment),
    "treepo_spo": ("TreePO", treepo_spo),
    "arpo_entropy": ("ARPO", arpo_entropy),
}

if __name__ == "__main__":
    clones = dict(argument.split("=", 1) for argument in sys.argv[1:])
    made = {
        "torch": torch.__version__.partition("+")[0],
        "commits": COMMITS,
        "cases": [case.inputs() for case in CASES],
    }
    for name, (key, run) in RUNS.items():
        made[name] = [
            {
                "case": None if case is None else CASES.index(case),
                "options": options,
                "out": [round(float(x), 12) for x in out],
            }
            for case, out, options in run(Source(clones[key], COMMITS[key]))
        ]
        print(f"{name}: {len(made[name])} records")
    TREES.write_text(json.dumps(made).replace('{"case"', '\n{"case"').replace('{"parents"', '\n{"parents"') + "\n")

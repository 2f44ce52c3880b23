"""Credit for the single steps of an agent: BabyAI in text, a policy that learns, four ways to give credit.

    python examples/babyai_steps.py [--quick] [--level MiniGrid-DoorKey-5x5-v0 --horizon 64] [--out folder]

Needs `pip install minigrid`. An episode gets 1 when its mission is done and 0 when the time is over. Episodes of one
task (a level and its seed) are a group; what the agent sees is the key of the state. All arms have the same initial
weights, tasks, number of episodes and loss, and differ in one line of ADVANTAGES each.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import chain, product, repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

os.environ["PYGAME_HIDE_SUPPORT_PROMPT"] = "1"
import gymnasium
import minigrid  # noqa: F401 - registers the levels
from minigrid.core.constants import IDX_TO_COLOR, IDX_TO_OBJECT, STATE_TO_IDX

import rollmath as rm

GAMMA = 0.95


def flat(steps: rm.Steps, rewards: np.ndarray) -> np.ndarray:
    """Each step gets the advantage of its episode."""
    return steps.gather(rm.group.grpo(rewards, steps.trajectory_groups))


# One number a step, from one reward an episode: all that a trainer of agents has to change.
ADVANTAGES: dict[str, Callable[[rm.Steps, np.ndarray], np.ndarray]] = {
    "flat": flat,
    # What the discount alone does: returns against those of all steps of the task, whatever the state.
    "returns": lambda steps, r: rm.group.grpo(rm.graph.step_returns(steps, r, gamma=GAMMA), steps.row_groups),
    "salt": lambda steps, r: rm.graph.salt(steps, rm.group.grpo(r, steps.trajectory_groups)),
    "gigpo": lambda steps, r: rm.graph.gigpo(steps, r, gamma=GAMMA, scale="std"),
}
ACTIONS = ("left", "right", "forward", "pickup", "drop", "toggle")
LINES, WIDTH, HELD_OUT = 4096, 64, 1_000_000
STATES = {number: name for name, number in STATE_TO_IDX.items()}


@cache
def describe(mission: str, view: bytes, width: int, height: int) -> str:
    """The mission and the cells that the agent sees, as text: the nearest walls, and things with their place.

    The agent looks up from the middle of the last row. It is not told where it is: two places may read the same.
    """
    cells = np.frombuffer(view, np.uint8).reshape(width, height, 3)
    x0, y0 = width // 2, height - 1
    lines = [f"Your mission: {mission}."]
    for way, ray in {"forward": cells[x0, ::-1], "left": cells[x0::-1, y0], "right": cells[x0:, y0]}.items():
        walls = [n for n, cell in enumerate(ray) if IDX_TO_OBJECT[cell[0]] == "wall"]
        lines += [f"You see a wall {paces(n, way)}." for n in walls[:1]]
    for x, y in product(range(width), range(height)):
        kind, colour, state = cells[x, y].tolist()
        if (thing := IDX_TO_OBJECT[kind]) in {"unseen", "empty", "wall", "floor"}:
            continue
        thing = f"{STATES[state]} " * (thing == "door") + f"{IDX_TO_COLOR[colour]} {thing}"
        places = [paces(y0 - y, "forward"), paces(x0 - x, "left"), paces(x - x0, "right")]
        where = " and ".join(place for place in places if place)
        lines.append(f"You see a {thing} {where}." if where else f"You carry a {thing}.")
    return "\n".join(lines)


def paces(n: int, way: str) -> str:
    return f"{n} step{'s'[: n != 1]} {way}" if n > 0 else ""


def prompt(states: list[str], actions: list[int], memory: int) -> str:
    """What the agent sees now, and what it saw and did in the last steps."""
    lines = [states[-1]]
    for ago in range(1, min(memory, len(actions)) + 1):
        lines += [f"{ago} ago: {line}" for line in states[-1 - ago].split("\n")[1:]]
        lines += [f"{ago} ago: You did {ACTIONS[actions[-ago]]}."]
    return "\n".join(lines)


@cache
def number(line: str) -> int:
    return zlib.crc32(line.encode()) % LINES


class Policy(nn.Module):
    """Log-probabilities of the actions given a prompt, which it reads as a bag of lines."""

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.EmbeddingBag(LINES, WIDTH, mode="sum")
        self.act = nn.Sequential(nn.Tanh(), nn.Linear(WIDTH, len(ACTIONS)))
        nn.init.normal_(self.read.weight, std=0.3)

    def forward(self, prompts: list[str]) -> Tensor:
        bags = [[number(line) for line in text.split("\n")] for text in prompts]
        offsets = torch.tensor([0, *map(len, bags[:-1])]).cumsum(0)
        return self.act(self.read(torch.tensor(list(chain.from_iterable(bags))), offsets)).log_softmax(-1)


class Episodes(NamedTuple):
    states: list[list[str]]  # one more an episode than it has actions: the last is what the agent saw at the end
    actions: list[list[int]]
    prompts: list[list[str]]
    rewards: np.ndarray


@torch.no_grad()
def play(policy: Policy, tasks: list[int], options: argparse.Namespace, dice: torch.Generator) -> Episodes:
    """An episode of each task, all at once: at each time step the policy reads the prompts of all that still run."""

    def look(seen: dict[str, Any]) -> str:
        return describe(seen["mission"], seen["image"].tobytes(), *seen["image"].shape[:2])

    envs = environments(options.level, len(tasks))
    with contextlib.redirect_stdout(None):  # some levels tell of layouts that they reject
        states = [[look(env.reset(seed=task)[0])] for env, task in zip(envs, tasks, strict=True)]
    actions: list[list[int]] = [[] for _ in tasks]
    prompts: list[list[str]] = [[] for _ in tasks]
    rewards, running = np.zeros(len(tasks)), list(range(len(tasks)))
    for _ in range(options.horizon):
        for i in running:
            prompts[i].append(prompt(states[i], actions[i], options.memory))
        drawn = policy([prompts[i][-1] for i in running]).exp().multinomial(1, generator=dice)[:, 0].tolist()
        still = []
        for i, action in zip(running, drawn, strict=True):
            seen, reward, ended, stopped, _ = envs[i].step(action)
            states[i].append(look(seen))
            actions[i].append(action)
            rewards[i] = reward > 0
            still += [] if ended or stopped else [i]
        if not (running := still):
            break
    return Episodes(states, actions, prompts, rewards)


@cache
def environments(level: str, count: int) -> list[gymnasium.Env]:
    return [gymnasium.make(level, disable_env_checker=True).unwrapped for _ in range(count)]


def log_probabilities(policy: Policy, played: Episodes) -> Tensor:
    """Of all actions that were taken, episode after episode."""
    taken = torch.tensor(list(chain.from_iterable(played.actions)))
    return policy(list(chain.from_iterable(played.prompts))).gather(1, taken[:, None])[:, 0]


def loss(theta: Tensor, old: Tensor, steps: rm.Steps, advantages: np.ndarray) -> Tensor:
    """PPO's. An action is a token here, and an episode a row of tokens."""
    rows = rm.Rows(range(steps.n_trajectories), steps.lengths)
    normalizer = rm.loss.Normalizer.local(rows)
    probabilities, ppo = rm.LogProbs(theta, prox=old), rm.loss.PPO(clip=0.2)
    return rm.loss.policy_loss(probabilities, advantages, rows, ppo, normalizer=normalizer, level="token").loss


def train(arm: str, seed: int, options: argparse.Namespace) -> tuple[list[float], list[Facts]]:
    """Success on held-out tasks between the updates, and what each batch shared."""
    torch.set_num_threads(1)  # of so small a model, more of them only wait
    torch.manual_seed(seed)
    policy, dice = Policy(), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(policy.parameters(), lr=options.lr)
    held_out = [HELD_OUT + i for i in range(options.held_out)]
    curve, facts = [], []
    for update in range(options.updates + 1):
        if update % options.every == 0:
            curve.append(float(play(policy, held_out, options, torch.Generator().manual_seed(seed)).rewards.mean()))
        if update == options.updates:
            break
        first = (seed * options.updates + update) * options.tasks  # no task comes twice
        tasks = [first + i for i in range(options.tasks) for _ in range(options.group)]
        played = play(policy, tasks, options, dice)
        steps = rm.Steps.from_episodes(played.states, played.actions, groups=tasks)
        advantages = ADVANTAGES[arm](steps, played.rewards)
        facts.append(count(steps, played.rewards))
        old = log_probabilities(policy, played).detach()
        for _ in range(options.epochs):
            loss(log_probabilities(policy, played), old, steps, advantages).backward()
            optimizer.step()
            optimizer.zero_grad()
    return curve, facts


class Facts(NamedTuple):
    """Of a batch: how many of its steps other episodes share, and to how many each arm gives a credit of their own."""

    steps: int
    states: int
    shared: int
    changed: dict[str, int]


def count(steps: rm.Steps, rewards: np.ndarray) -> Facts:
    episode = rm.group.grpo(rewards, steps.trajectory_groups)
    counts = {arm: steps.summary(episode, credit=credit(steps, rewards)) for arm, credit in ADVANTAGES.items()}
    one = counts["flat"]
    return Facts(one.n_steps, one.n_states, one.n_shared_steps, {arm: x.n_changed for arm, x in counts.items()})


def mean(x: np.ndarray) -> tuple[float, float, float]:
    """Mean over the seeds, and the ends of its 95 % interval by Student's distribution."""
    estimate = rm.metrics.best_at_k(x, np.arange(len(x)), k=1)
    return estimate.value, estimate.low, estimate.high


def report(curves: dict[str, np.ndarray], facts: list[Facts], options: argparse.Namespace) -> str:
    """The tables, as text."""
    steps, states, shared = (sum(x) for x in list(zip(*facts, strict=True))[:3])
    changed = (f"{arm} {sum(x.changed[arm] for x in facts) / steps:.1%}" for arm in curves)
    lines = [
        f"{options.level}, {options.seeds} seeds",
        f"batches of flat: {steps:,} steps in {states:,} states; {shared / steps:.1%} of the steps are shared",
        f"credit of these steps that is not their episode's: {', '.join(changed)}",
        f"\nsuccess on {options.held_out} held-out tasks: mean and 95 % interval over the seeds",
        "  update " + "".join(f"{arm:>20s}" for arm in curves),
    ]
    for i, update in enumerate(range(0, options.updates + 1, options.every)):
        cells = ("{:.2f} [{:.2f}, {:.2f}]".format(*mean(curve[:, i])) for curve in curves.values())
        lines.append(f"  {update:6d} " + "".join(f"{cell:>20s}" for cell in cells))
    lines.append("\ndifference of the means of two columns, with equal seeds")
    for arm, other in (("returns", "flat"), ("salt", "flat"), ("gigpo", "flat"), ("gigpo", "returns")):
        m, low, high = mean(curves[arm].mean(1) - curves[other].mean(1))
        verdict = "better" if low > 0 else "worse" if high < 0 else "no clear difference"
        lines.append(f"  {arm:>7s} - {other:7s} {m:+.3f} [{low:+.3f}, {high:+.3f}]  {verdict}")
    return "\n".join(lines)


def draw(curves: dict[str, np.ndarray], options: argparse.Namespace, path: Path) -> None:
    import matplotlib as mpl  # noqa: PLC0415 - only wanted with --out

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
    at = np.arange(0, options.updates + 1, options.every)
    for arm, curve in curves.items():
        m, low, high = np.transpose([mean(x) for x in curve.T])
        axes.fill_between(at, low, high, alpha=0.15, color=axes.plot(at, m, label=arm)[0].get_color(), linewidth=0)
    axes.set(xlabel="updates", ylabel="success on held-out tasks", title=options.level, ylim=(0, 1.02))
    axes.legend(frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="BabyAI in text, and four ways to give credit to steps.")
    parser.add_argument("--level", default="BabyAI-GoToRedBallNoDists-v0", help="an id that minigrid registers")
    parser.add_argument("--seeds", type=int, default=8, help="runs an arm")
    parser.add_argument("--updates", type=int, default=20, help="of the policy")
    parser.add_argument("--tasks", type=int, default=8, help="an update")
    parser.add_argument("--group", type=int, default=8, help="episodes a task")
    parser.add_argument("--horizon", type=int, default=32, help="most steps of an episode")
    parser.add_argument("--memory", type=int, default=2, help="earlier steps in the prompt")
    parser.add_argument("--epochs", type=int, default=2, help="passes over a batch")
    parser.add_argument("--lr", type=float, default=0.02, help="learning rate")
    parser.add_argument("--every", type=int, default=2, help="updates between evaluations")
    parser.add_argument("--held-out", type=int, default=64, help="tasks of an evaluation")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--out", type=Path, help="folder for results.json and curves.png (matplotlib)")
    parser.add_argument("--quick", action="store_true", help="some seconds, to see that it works: too short to learn")
    options = parser.parse_args(argv)
    if options.quick:
        vars(options).update(seeds=2, updates=2, tasks=2, held_out=8, workers=1)
    return options


def main(argv: list[str] | None = None) -> None:
    options, begin = parse(argv), time.perf_counter()
    jobs = list(product(ADVANTAGES, range(options.seeds)))
    with ProcessPoolExecutor(options.workers) if options.workers > 1 else contextlib.nullcontext() as pool:
        runs = list((pool.map if pool else map)(train, *zip(*jobs, strict=True), repeat(options)))
    successes = np.array([curve for curve, _ in runs]).reshape(len(ADVANTAGES), options.seeds, -1)
    curves = dict(zip(ADVANTAGES, successes, strict=True))
    facts = [x for _, batches in runs[: options.seeds] for x in batches]
    print(report(curves, facts, options))
    print(f"\n{len(jobs)} runs took {time.perf_counter() - begin:.0f} s")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        results = {"options": {k: v for k, v in vars(options).items() if k != "out"}}
        results |= {"success": {arm: curve.tolist() for arm, curve in curves.items()}}
        (options.out / "results.json").write_text(json.dumps(results | {"facts": [x._asdict() for x in facts]}))
        draw(curves, options, options.out / "curves.png")


if __name__ == "__main__":
    main()

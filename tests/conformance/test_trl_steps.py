"""Agents in TRL's trainer: several turns in a small text world, with the advantages of `rollmath.graph`."""

import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest

import rollmath as rm

if importlib.util.find_spec("trl") is None:
    pytest.skip("trl is not installed; `make test-peers` has an environment for it", allow_module_level=True)

import trl_tiny as tiny
from recipe_episodes import salt

from rollmath import graph
from rollmath.adapters.trl._tree_rollout import _generate

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

METHODS = {
    "gigpo": (graph.gigpo, {}),
    "hgpo": (graph.hgpo, {"convention": rm.conventions.HGPO}),
    "salt": (salt, {}),
}
ROOMS = ("hall", "yard", "cellar")


def world(room, tokens):
    """Where the tokens of a turn lead: a door, or none."""
    return ROOMS[(ROOMS.index(room) + tokens[0] % 2) % len(ROOMS)]


def agents(seen, *, turns=3, touching=False, fields=(), environments=False):
    """A rollout_func of so many turns of two tokens; the world answers with one token, or with none."""

    def rollout(prompts, trainer):
        asked = trainer._tokenize_prompts(prompts)[0]
        out = {"prompt_ids": [list(x) for x in asked], "logprobs": None}
        names = ("completion_ids", "env_mask", "states", "actions", "turns", "step_rewards")
        out |= {name: [[] for _ in asked] for name in names}
        rooms = ["hall"] * len(asked)
        for turn in range(turns):
            said = _generate(trainer, [p + c for p, c in zip(asked, out["completion_ids"], strict=True)], 2)
            for i, new in enumerate(said):
                # Every second rollout leaves after two turns.
                if turn == 2 and i % 2:
                    continue
                heard = [] if touching or turn == turns - 1 else [2 + ROOMS.index(rooms[i])]
                out["completion_ids"][i] += [*new, *heard]
                out["env_mask"][i] += [1] * len(new) + [0] * len(heard)
                out["turns"][i] += [turn] * len(new) + [-1] * len(heard)
                out["states"][i].append(rooms[i])
                rooms[i] = world(rooms[i], new)
                out["actions"][i].append(f"to {rooms[i]}")
                out["step_rewards"][i].append(float(rooms[i] == "cellar") - 0.25 * (new[0] % 3))
        out["reached"] = [float(room == "yard") + float(room == "cellar") / 2 for room in rooms]
        seen.append(out)
        if environments:
            # Where TRL puts those of environment_factory.
            trainer.environments = [SimpleNamespace(states=x, reset=lambda **_: None) for x in out["states"]]
            return {name: out[name] for name in ("prompt_ids", "completion_ids", "logprobs", "env_mask", "reached")}
        keep = {"prompt_ids", "completion_ids", "logprobs", "env_mask", "states", "reached", *fields}
        return {name: x for name, x in out.items() if name in keep}

    return rollout


def reached(completions, reached, **columns):
    return reached


@pytest.fixture
def train(peer, tmp_path, monkeypatch):
    """``train(recipe)``: our trainer after its steps, what its loss was given, and its rollouts."""
    peer("trl")
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")

    def run(recipe, given=None, rewards=reached, touching=False, fields=(), environments=False, **options):
        seen = []
        kind = tiny.recorder(tiny.trainers("GRPOTrainer")[1])
        told = {"beta": 0.0, "num_generations": 4, "learning_rate": 1e-2, "max_steps": 2} | options
        parts = {"recipe": recipe} if given is None else given
        func = agents(seen, touching=touching, fields=fields, environments=environments)
        made = tiny.train(kind, tmp_path, given=parts, rollout_func=func, rewards=rewards, **told)
        made.rollouts = seen
        return made

    return run


def at_tokens(rollouts, values):
    """One number a step, at the tokens of its turn; padded."""
    width = max(map(len, rollouts["completion_ids"]))
    found, values = np.zeros((len(rollouts["turns"]), width)), iter(values)
    for i, (turns, states) in enumerate(zip(rollouts["turns"], rollouts["states"], strict=True)):
        numbers = [next(values) for _ in states]
        found[i, : len(turns)] = [0.0 if t < 0 else numbers[t] for t in turns]
    return found


def check(made, expected):
    assert len(made.rollouts) == len(made.batches) == 2
    merged = 0
    for rollouts, (inputs, loss) in zip(made.rollouts, made.batches, strict=True):
        # Rows were shuffled after the rollout.
        order = inputs["rollmath_rollout"].argsort()
        ids = inputs["completion_ids"][order]
        assert [row[: len(of)].tolist() for row, of in zip(ids, rollouts["completion_ids"], strict=True)] == rollouts[
            "completion_ids"
        ]
        steps, values = expected(rollouts)
        advantages = at_tokens(rollouts, values)
        width = advantages.shape[1]
        mine = inputs["advantages"][order].numpy()
        np.testing.assert_allclose(mine[:, :width], advantages, atol=1e-6)
        assert not mine[:, width:].any()
        mask = inputs["rollmath_mask"][order].numpy()
        assert [row[: len(of)].tolist() for row, of in zip(mask, rollouts["env_mask"], strict=True)] == rollouts[
            "env_mask"
        ]
        assert not mine[mask == 0].any()
        merged += int(steps.groups(by="state").counts.max())
        assert np.isfinite(float(loss))
        assert np.abs(advantages).max() > 0
    assert merged > 8


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("touching", [False, True])
def test_two_steps(train, name, touching):
    """Turns that touch are told apart by their numbers."""
    method, options = METHODS[name]
    fields = ("actions", "turns") if touching else ("actions",)
    made = train({"recipe": name, "kl": False}, touching=touching, fields=fields)

    def expected(rollouts):
        steps = rm.Steps.from_episodes(rollouts["states"], rollouts["actions"], groups=[i // 4 for i in range(8)])
        return steps, method(steps, rollouts["reached"], **options)

    check(made, expected)


def test_actions_are_the_tokens_of_a_turn(train):
    made = train({"recipe": "salt", "kl": False, "advantage": {"base": "group.rloo"}})

    def expected(rollouts):
        actions = []
        for ids, turns in zip(rollouts["completion_ids"], rollouts["turns"], strict=True):
            actions.append([tuple(x for x, t in zip(ids, turns, strict=True) if t == k) for k in range(max(turns) + 1)])
        groups = [i // 4 for i in range(8)]
        steps = rm.Steps.from_episodes(rollouts["states"], actions, groups=groups)
        return steps, graph.salt(steps, rm.group.rloo(rollouts["reached"], groups))

    check(made, expected)


def test_rewards_of_steps_and_parts(train):
    """A method by itself, with TRL's loss; and rewards of steps where rollouts have them."""
    made = train({"recipe": "gigpo", "kl": False}, fields=("step_rewards",))

    def expected(rollouts):
        steps = rm.Steps.from_episodes(rollouts["states"], groups=[i // 4 for i in range(8)])
        flat = [x for of in rollouts["step_rewards"] for x in of]
        return steps, graph.gigpo(steps, rollouts["reached"], step_rewards=flat)

    check(made, expected)
    part = train(None, given={"advantage": rm.recipes.Advantage("graph.gigpo")}, max_steps=1, loss_type="dapo")
    (inputs, _), (rollouts,) = part.batches[0], part.rollouts
    steps = rm.Steps.from_episodes(rollouts["states"], groups=[i // 4 for i in range(8)])
    values = at_tokens(rollouts, graph.gigpo(steps, rollouts["reached"], convention=rm.conventions.DEFAULT))
    found = inputs["advantages"][inputs["rollmath_rollout"].argsort()].numpy()
    np.testing.assert_allclose(found[:, : values.shape[1]], values, atol=1e-6)


def test_what_environments_have_seen(train):
    """An attribute of TRL's environments is a column, too."""
    made = train({"recipe": "hgpo", "kl": False}, environments=True)

    def expected(rollouts):
        steps = rm.Steps.from_episodes(rollouts["states"], groups=[i // 4 for i in range(8)])
        return steps, graph.hgpo(steps, rollouts["reached"], convention=rm.conventions.HGPO)

    check(made, expected)


def test_rollouts_without_a_reward_and_truncated_ones(train):
    """The others are a table of their own; a completion that TRL masks has no turns to be seen."""

    def sometimes(completions, reached, **columns):
        return [None if i % 4 == 1 else x for i, x in enumerate(reached)]

    made = train({"recipe": "gigpo", "kl": False}, rewards=sometimes, mask_truncated_completions=True)
    for rollouts, (inputs, _) in zip(made.rollouts, made.batches, strict=True):
        at = [i for i in range(8) if i % 4 != 1]
        steps = rm.Steps.from_episodes([rollouts["states"][i] for i in at], groups=[i // 4 for i in at])
        found = steps.by_trajectory(graph.gigpo(steps, [rollouts["reached"][i] for i in at])).to_lists()
        ended = [ids[-1] in {0, tiny.EOS} for ids in rollouts["completion_ids"]]
        every = {i: numbers for i, numbers in zip(at, found, strict=True) if ended[i]}
        values = [x for i in range(8) for x in every.get(i, [0.0] * len(rollouts["states"][i]))]
        expected = at_tokens(rollouts, values)
        mine = inputs["advantages"][inputs["rollmath_rollout"].argsort()].numpy()
        np.testing.assert_allclose(mine[:, : expected.shape[1]], expected, atol=1e-6)


def test_what_the_rollout_must_return(train):
    with pytest.raises(
        ValueError, match="'states' must have one step a turn, but rollout 0 has 3 steps and 1 trained r"
    ):
        train({"recipe": "gigpo", "kl": False}, touching=True)
    with pytest.raises(ValueError, match="column 'seen' must have a value for every rollout, but rollout 0 has none"):
        train(None, given={"recipe": {"recipe": "gigpo", "kl": False}, "columns": {"states": "seen"}})

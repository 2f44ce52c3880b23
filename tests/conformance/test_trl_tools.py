"""Recipes on steps in TRL's own loop of tool calls: a small model that walks between rooms, by a tool or not."""

import importlib.util

import numpy as np
import pytest

import rollmath as rm

if importlib.util.find_spec("trl") is None:
    pytest.skip("trl is not installed; `make test-peers` has an environment for it", allow_module_level=True)

import trl_tiny as tiny
from recipe_episodes import salt

from rollmath import graph

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

METHODS = {
    "gigpo": (graph.gigpo, {}),
    "hgpo": (graph.hgpo, {"convention": rm.conventions.HGPO}),
    "salt": (salt, {}),
}
TEMPLATE = """{% for m in messages %}{{ m['content'] }}{% for c in m['tool_calls'] or [] %}
{{ c['function']['name'] }}{{ c['function']['arguments'] }}{% endfor %}{% if m['role'] == 'assistant' %}<eos>{% endif %}
{% endfor %}{% if add_generation_prompt %}={% endif %}"""
#: A message of a random model: it walks through a door if its first token is a digit or one of a to d.
CALLS = {
    "type": "array",
    "x-regex-iterator": "(.)",
    "items": {
        "type": "object",
        "properties": {
            "type": {"const": "function"},
            "function": {
                "type": "object",
                "properties": {
                    "name": {"const": "walk"},
                    "arguments": {"type": "object", "properties": {"door": {"type": "string"}}},
                },
            },
        },
    },
}
SCHEMA = {
    "type": "object",
    "x-regex": "^(?:(?P<tool_calls>[0-9a-d])|(?P<content>.))",
    "properties": {"role": {"const": "assistant"}, "content": {"type": "string"}, "tool_calls": CALLS},
}


class House:
    """Three rooms. What it notes down are its calls, not the turns of the model; two attributes have common names."""

    def reset(self, **_):
        self.room, self.noted, self.actions, self.turns = 0, ["a"], ["walk"], 3

    def walk(self, door: str) -> str:
        """Go through a door.

        Args:
            door: which one; some are closed.
        """
        if door in "0246bd":
            return "b"  # closed, and not noted
        self.room = (self.room + ord(door) % 2) % 3
        self.noted.append("abc"[self.room])
        return "abc"[self.room]


class Open(House):
    """No door is closed, and states are what it notes down."""

    def walk(self, door: str) -> str:
        """Go through a door.

        Args:
            door: which one.
        """
        return super().walk("81"[ord(door) % 2])

    @property
    def states(self):
        return self.noted


@pytest.fixture
def train(peer, tmp_path, monkeypatch):
    """``train(recipe, House)``: our trainer after two steps, and the messages of each of its batches."""
    peer("trl")
    pytest.importorskip("jmespath")
    from datasets import Dataset

    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    speaks = tiny.tokenizer()
    speaks.chat_template, speaks.response_schema = TEMPLATE.replace("\n", ""), SCHEMA
    monkeypatch.setattr(tiny, "tokenizer", lambda: speaks)
    data = Dataset.from_dict({"prompt": [[{"role": "user", "content": str(i % 10)}] for i in range(32)]})

    def run(recipe, house, *, room=24, calls=3, **given):
        seen = []

        def reward(prompts, completions, environments, **columns):
            rewards = [x.room / 2 for x in environments]
            seen.append((prompts, completions, rewards, [list(x.noted) for x in environments]))
            return rewards

        given = {"recipe": {"recipe": recipe, "kl": False}, "environment_factory": house} | given
        told = {"beta": 0.0, "max_steps": 2, "max_completion_length": room, "max_tool_calling_iterations": calls}
        kind = tiny.recorder(tiny.trainers("GRPOTrainer")[1])
        few = {"max_new_tokens": 2}
        made = tiny.train(
            kind, tmp_path, data=data, rewards=reward, given=given, learning_rate=1e-2, generation_kwargs=few, **told
        )
        made.seen = seen
        return made

    return run


def check(made, method, options, *, noted=False):
    """Advantages at the tokens of each message of the model; returns what it saw, and the notes, of all rollouts."""
    assert len(made.seen) == len(made.batches) == 2
    out = []
    for (prompts, messages, rewards, notes), (inputs, loss) in zip(made.seen, made.batches, strict=True):
        states = [[prompt[-1]["content"]] for prompt in prompts]
        for before, of in zip(states, messages, strict=True):
            said = [m["role"] == "assistant" for m in of]
            before += [of[i - 1]["content"] for i in range(1, len(of)) if said[i]]
        out += zip(states, notes, strict=True)
        states = notes if noted else states
        order = inputs["rollmath_rollout"].argsort()
        mask = (inputs["tool_mask"] * inputs["completion_mask"])[order].numpy()
        turns = np.cumsum(np.diff(mask, axis=1, prepend=0) > 0, axis=1) - 1
        assert (turns[:, -1] + 1).tolist() == list(map(len, states))
        actions = [
            [tuple(row[(turn == t) & (live == 1)].tolist()) for t in range(len(before))]
            for row, turn, live, before in zip(
                inputs["completion_ids"][order].numpy(), turns, mask, states, strict=True
            )
        ]
        steps = rm.Steps.from_episodes(states, actions, groups=[i // 4 for i in range(8)])
        values = steps.by_trajectory(method(steps, rewards, **options)).to_lists()
        expected = np.array([[of[t] for t in turn] for of, turn in zip(values, turns, strict=True)]) * mask
        np.testing.assert_allclose(inputs["advantages"][order].numpy(), expected, atol=1e-6)
        assert np.isfinite(float(loss))
        assert np.abs(expected).max() > 0
        assert max(map(len, states)) > 2
    return out


@pytest.mark.parametrize("name", METHODS)
def test_what_the_model_saw(train, name):
    """Without a word of the environment; some calls are not noted, and some answers dropped for lack of room."""
    method, options = METHODS[name]
    both = check(train(name, House, room=10, calls=9), method, options)
    assert any(len(noted) > len(seen) for seen, noted in both)
    assert any(len(noted) < len(seen) for seen, noted in both)


def test_what_the_environment_noted(train):
    method, options = METHODS["gigpo"]
    both = check(train("gigpo", Open), method, options, noted=True)
    assert all(seen[1:] == noted[1:] for seen, noted in both)
    with pytest.raises(
        ValueError, match=r"'states' must have one step a turn, but rollout \d has 4 steps and 3 trained"
    ):
        train("gigpo", Open, room=10)


def test_other_attributes_are_read_where_they_are_named(train):
    with pytest.raises(ValueError, match="'states' must have as many elements as 'actions'"):
        train("salt", House, columns=["actions"])

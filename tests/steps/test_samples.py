"""Real agents: the airline tasks of tau-bench as step graphs, and the merged step that docs/step_graphs.md shows."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

import rollmath as rm

DOCS = Path(__file__).parents[2] / "docs"
#: The task that the page shows, and the trials that share steps.
TASK, TRIALS = 37, (0, 2)


@pytest.fixture(scope="module")
def runs(samples):
    rows = json.loads((samples("tau-bench-airline") / "gpt-4o-airline.json").read_text())
    return sorted(rows, key=lambda run: (run["task_id"], run["trial"]))


@pytest.fixture(scope="module")
def steps(runs):
    return rm.Steps.from_messages([run["traj"] for run in runs], groups=[run["task_id"] for run in runs])


@pytest.fixture(scope="module")
def advantages(runs, steps):
    return rm.group.grpo([run["reward"] for run in runs], steps.trajectory_groups)


def plain(run):
    """(state, action, next state) of each step, by a loop that knows nothing of Steps; ids of calls left out."""

    def seen(messages):
        return json.dumps([[m["role"], m.get("name"), m["content"]] for m in messages])

    def did(message):
        calls = [call["function"] for call in message.get("tool_calls") or []]
        return json.dumps([message["content"] or "", [[c["name"], json.loads(c["arguments"])] for c in calls]])

    at = [i for i, m in enumerate(run["traj"]) if m["role"] == "assistant"]
    parts = [seen(run["traj"][a + 1 : b]) for a, b in zip([-1, *at], [*at, len(run["traj"])], strict=True)]
    return [(parts[t], did(run["traj"][i]), parts[t + 1]) for t, i in enumerate(at)]


def test_steps_are_those_of_a_plain_loop(runs, steps, advantages):
    keys = [(run["task_id"], *step) for run in runs for step in plain(run)]
    assert len(keys) == len(steps) == 2454
    number = {}
    expected = [number.setdefault(key, len(number)) for key in keys]
    merged = steps.merge()
    assert merged.groups.index.tolist() == expected
    own = np.repeat(advantages, steps.lengths)
    mean = [own[np.array(expected) == n].mean() for n in expected]
    np.testing.assert_allclose(rm.graph.salt(steps, advantages), mean, atol=1e-12)
    assert rm.graph.salt(steps, advantages).sum() == pytest.approx(own.sum())


def test_histories_share_next_to_nothing(runs):
    """Four users that a model plays never begin with the same words; observations meet again."""
    conversations, tasks = [run["traj"] for run in runs], [run["task_id"] for run in runs]
    history = rm.Steps.from_messages(conversations, groups=tasks, state="history")
    assert history.summary().n_shared_steps == 2


def test_the_counts_of_the_page(steps, advantages):
    text = str(steps.summary(advantages))
    assert text.startswith("50 tasks, 200 trajectories, 2454 steps in 1802 states\n")
    assert "```\n" + text + "\n```" in (DOCS / "step_graphs.md").read_text()


def short(text, letters):
    line = " ".join(text.split()).replace("|", "/")
    return line if len(line) <= letters else line[: letters - 1] + "…"


def test_the_merged_step_of_the_page(runs, steps, advantages):
    first = next(i for i, run in enumerate(runs) if run["task_id"] == TASK)
    assert [run["reward"] for run in runs[first : first + 4]] == [0, 1, 1, 1]
    assert advantages[first : first + 4].round(2).tolist() == [-1.5, 0.5, 0.5, 0.5]
    credit, merged, report = rm.graph.salt(steps, advantages), steps.merge(), steps.report
    mine = [np.flatnonzero((steps.trajectory_index == first + trial) & merged.shared) for trial in TRIALS]
    assert [len(rows) for rows in mine] == [3, 3]
    assert merged.groups.index[mine[0]].tolist() == merged.groups.index[mine[1]].tolist()
    assert not merged.shared[steps.trajectory_index == first + 1].any()
    np.testing.assert_allclose(credit[np.concatenate(mine)], advantages[[first, first + 2]].mean(), atol=1e-12)
    # All other steps of the task keep their advantage.
    others = (steps.row_groups.index == steps.row_groups.index[mine[0][0]]) & ~merged.shared
    assert (credit[others] == steps.gather(advantages)[others]).all()

    # What the page quotes, from the messages themselves.
    cells = {"": [], "it saw": [], "it did": [], "then saw": [], "reward": [], "advantage": [], "SALT": []}
    looked_up = []
    for trial, rows in zip(TRIALS, mine, strict=True):
        run, row = runs[first + trial], rows[0]
        at = int(report.message_index[row])
        before, message, after = run["traj"][at - 1 : at + 2]
        (call,) = message["tool_calls"]
        arguments = json.dumps(json.loads(call["function"]["arguments"]))
        assert before["role"] == after["role"] == "tool"
        cells[""].append(f"trial {trial}, message {at}")
        cells["it saw"].append(f"`{before['name']}`: `{short(before['content'], 60)}`")
        cells["it did"].append(f"`{call['function']['name']}({arguments})`")
        cells["then saw"].append(f"`{after['name']}`: `{short(after['content'], 60)}`")
        cells["reward"].append(f"{run['reward']:.0f}")
        cells["advantage"].append(f"{advantages[first + trial]:.1f}")
        cells["SALT"].append(f"({advantages[first]:.1f} + {advantages[first + 2]:.1f}) / 2 = {credit[row]:.1f}")
        looked_up.append([report.actions[r]["tool_calls"][0]["function"]["arguments"] for r in rows])
    assert [[json.loads(a)["reservation_id"] for a in own] for own in looked_up] == [["DB1Y70", "MUGYUB", "3JA7XV"]] * 2
    assert len(set(cells["it saw"])) == len(set(cells["it did"])) == len(set(cells["then saw"])) == 1
    lines = [f"| {name} | {' | '.join(values)} |" for name, values in cells.items()]
    lines.insert(1, "|---|---|---|")
    assert "\n".join(lines) in (DOCS / "step_graphs.md").read_text()
    # They part behind the last shared step.
    after = [report.actions[rows[-1] + 1] for rows in mine]
    assert json.loads(after[0]["tool_calls"][0]["function"]["arguments"]) == {"reservation_id": "CYPIDV"}
    (gift,) = report.actions[mine[0][-1] + 2]["tool_calls"]
    assert gift["function"]["name"] == "send_certificate"
    assert json.loads(gift["function"]["arguments"])["amount"] == 200
    assert [action["name"] for action in runs[first]["info"]["task"]["actions"]] == ["get_user_details"]
    assert not after[1].get("tool_calls")


#: What the picture says; the page does not carry the data.
WORDS = {
    "get_user_details": "looks up her",
    "get_reservation_details": "looks up",
    "send_certificate": "gives $200",
    "transfer_to_human_agents": "hands over",
}


def seen(messages):
    last = messages[-1]
    content = json.loads(last["content"]) if last["content"].startswith("{") else {}
    return content.get("reservation_id", "profile" if content else last.get("name", "user").split("_")[0])


def done(message):
    return " ".join(WORDS.get(call["function"]["name"], "") for call in message.get("tool_calls") or [])


def test_the_picture_of_the_page(runs, steps, advantages):
    """``ROLLMATH_WRITE_DOCS=1`` writes it."""
    graph = steps.graph(terminal=[run["reward"] for run in runs])
    states, actions = map(seen, steps.report.observations), map(done, steps.report.actions)
    picture = graph.to_svg(rm.graph.salt(steps, advantages), task=TASK, states=list(states), actions=list(actions))
    assert len(picture.encode()) < 30_000
    if os.environ.get("ROLLMATH_WRITE_DOCS"):
        (DOCS / "images" / "tau_bench_37.svg").write_text(picture)
    assert (DOCS / "images" / "tau_bench_37.svg").read_text() == picture

"""Methods on steps against what published code returned (``tests/conformance/golden/make_graphs.py``)."""

from __future__ import annotations

import numpy as np
import pytest

import rollmath as rm
from rollmath import Steps, ops
from rollmath.graph import gigpo, gigpo_episode, hgpo, step_returns

#: The official code computes in float32, and its results are stored with seven digits.
CLOSE = {"rtol": 1e-6, "atol": 1e-6}


@pytest.fixture
def golden(vectors):
    """Each record of a method: steps, one reward a trajectory, the case, options, and what came out."""
    file = vectors("graphs")

    def records(method):
        for record in file[method]:
            case = file["cases"][record["case"]]
            steps = Steps(case["trajectory"], case["state"], groups=case["task"])
            yield steps, np.array(case["rewards"])[list(steps.trajectory_ids)], case, record["options"], record["out"]

    return records


def test_gigpo(golden):
    for steps, rewards, case, options, expected in golden("gigpo"):
        scale, step_rewards = options["scale"], case["step_rewards"] if options["earned"] == "step_rewards" else None
        loss = np.where(case["valid"], 0.0, options["penalty"])
        if not options["penalty"]:
            got = gigpo(
                steps, rewards, step_rewards=step_rewards, gamma=0.5, weight=0.75, scale=scale,
                statistics=options["statistics"],
            )  # fmt: skip
        else:
            # Its penalty for an invalid action is taken off one return and one row's episode reward alone.
            returns = step_returns(
                steps, rewards if step_rewards is None else None, step_rewards=step_rewards, gamma=0.5
            )
            rules = rm.conventions.GIGPO
            got = ops.normalize(
                steps.gather(rewards) - loss, steps.row_groups, scale=scale, convention=rules["gigpo_episode"]
            ) + 0.75 * ops.normalize(
                returns - loss, steps.groups(by="state"), scale=scale, convention=rules["gigpo_step"]
            )
        np.testing.assert_allclose(got, expected, **CLOSE, err_msg=str(options))


def test_gigpo_of_trinity(golden):
    for steps, _, case, options, expected in golden("gigpo_trinity"):
        scale, earned = options["scale"], case["step_rewards"]
        if options["earned"] == "rewards":
            earned = np.where(steps.last, np.array(case["rewards"])[case["trajectory"]], 0.0)
        got = gigpo(
            steps, None, step_rewards=earned, gamma=0.5, weight=0.75, scale=scale, convention=rm.conventions.TRINITY
        )
        # Without a spread it divides by 1 + 1e-6.
        np.testing.assert_allclose(got, expected, rtol=2e-6, atol=2e-6, err_msg=str(options))
    assert rm.conventions.TRINITY.options["gigpo"] == {"gamma": 1.0}


def test_hgpo(golden):
    for steps, rewards, _, options, expected in golden("hgpo"):
        base = options.pop("base")
        episode = gigpo_episode(steps, rewards, scale=options["scale"], statistics="step_rows") if base else None
        got = hgpo(steps, rewards, gamma=0.5, advantages=episode, **options)
        np.testing.assert_allclose(got, expected, **CLOSE, err_msg=str(options))

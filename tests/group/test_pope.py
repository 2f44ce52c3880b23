"""POPE (arXiv 2601.18779): a hard prompt is also sampled with a piece of the solution; the two forms are two groups.

There is no function for it: `Groups.product` makes the groups.
"""

import numpy as np
import pytest
from numpy.testing import assert_allclose

import rollmath as rm

PROMPTS = ["hard"] * 8
GUIDED = np.array([1, 1, 1, 1, 0, 0, 0, 0])
REWARDS = np.array([1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0])


@pytest.mark.parametrize("turn", [np.arange(8), np.array([5, 2, 7, 0, 1, 6, 3, 4])])
def test_guided_and_unguided_rollouts_are_groups_of_their_own(turn):
    groups = rm.Groups.product(PROMPTS, GUIDED[turn])
    got = rm.group.grpo(REWARDS[turn], groups, scale="none")
    assert_allclose(got, np.array([0.25, 0.25, -0.75, 0.25, -0.25, -0.25, -0.25, 0.75])[turn], rtol=1e-15)
    assert set(groups.ids) == {("hard", 1), ("hard", 0)}


def test_merged_they_would_learn_to_want_the_guidance():
    got = rm.group.grpo(REWARDS, PROMPTS, scale="none")
    assert_allclose(got, [0.5, 0.5, -0.5, 0.5, -0.5, -0.5, -0.5, 0.5], rtol=1e-15)
    assert rm.ops.segment_sum(got, GUIDED).tolist() == [1.0, -1.0]


def test_with_the_standard_deviation_too():
    groups = rm.Groups.product(PROMPTS, GUIDED)
    got = rm.group.grpo(REWARDS, groups, eps=0.0)
    assert_allclose(got, np.array([1, 1, -3, 1, -1, -1, -1, 3]) / 2, rtol=1e-14)

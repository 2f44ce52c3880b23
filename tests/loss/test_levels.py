"""Advantages where they arise: nodes of a forest, turns of an agent, packed by ``cu_seqlens``."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import rollmath as rm  # noqa: E402
from rollmath.loss import PPO, Normalizer, Reinforce, policy_loss  # noqa: E402


def gradient(advantages, rows, theta, **options):
    out = policy_loss(rm.LogProbs(theta), advantages, rows, Reinforce(), normalizer=Normalizer.local(rows), **options)
    return torch.autograd.grad(out.loss, theta)[0]


def test_advantages_of_the_nodes_of_a_forest():
    tokens, offsets = [5, 6, 7, 5, 6, 8, 5, 9], [0, 3, 6, 8]
    forest = rm.Forest.from_sequences(tokens, offsets, groups=["q"] * 3)
    advantages = rm.tree.spo(forest, [1.0, 0.0, 0.0])
    rows = rm.Rows(["a", "b", "c"], np.diff(offsets))
    theta = torch.linspace(-2, -1, 8, dtype=torch.float64, requires_grad=True)
    per_token = forest.expand(advantages, per="rollout")
    g = gradient(per_token, rows, theta, aggregation="token_sum")
    assert g.tolist() == (-per_token.values).tolist()
    assert per_token.to_lists() == [[0.0, 0.25, 0.5], [0.0, 0.25, -0.5], [0.0, -0.25]]


def test_advantages_of_turns_pass_over_tool_output():
    rows = rm.Rows.from_turns(
        [
            [{"prompt": [1], "response": [2, 3]}, {"prompt": [1, 2, 3, 9, 9], "response": [4]}],
            [{"prompt": [1], "response": [5]}],
        ]
    )
    theta = torch.full((6,), -1.0, dtype=torch.float64, requires_grad=True)
    g = gradient([1.0, -2.0, 3.0], rows, theta, level="turn", aggregation="token_sum")
    assert g.tolist() == [-1, -1, 0, 0, 2, -3]


def test_rows_of_cu_seqlens():
    cu_seqlens = torch.tensor([0, 3, 3, 7], dtype=torch.int32)
    rows = rm.Rows(["a", "b", "c"], torch.diff(cu_seqlens))
    theta = torch.zeros(7, requires_grad=True)
    out = policy_loss(rm.LogProbs(theta), [1.0, 5.0, -1.0], rows, PPO(), normalizer=Normalizer.local(rows))
    assert torch.autograd.grad(out.loss, theta)[0].tolist() == pytest.approx([-1 / 7] * 3 + [1 / 7] * 4)

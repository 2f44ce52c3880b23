"""What explain and diff print."""

import pytest

pytest.importorskip("torch")

from rollmath.loss import Gate, ImportanceWeight
from rollmath.recipes import get


def test_explain():
    assert (
        get("dapo", max_length=20480, objective={"clip": [0.2, 0.3]}, convention="VERL").explain()
        == """\
dapo: Yu et al. 2025, DAPO, arXiv 2503.14476
overlong     Soft overlong punishment: -factor min(max(L_i - (max_length - buffer), 0), buffer) /
             buffer
             max_length = 20480, buffer = 4096, factor = 1, capped = True, truncated = False
             [paper: factor 1, the last 4096 of 20480 tokens; of other limits that share, 1/5]
filter       nonzero_spread. Groups whose rewards are not all equal: keeps the rollouts of group g
             if max(r) - min(r) > tol
             on = rewards
             [paper: dynamic sampling, here without the refill, which is the trainer's]
advantage    group.grpo. Group-relative advantages: A_i = (r_i - mean(r)) / (std(r) + eps) over the
             group of i
             convention VERL: ddof 1, eps 1e-06 (add), group of one raw, no spread zero, NaN raise
             [changed: convention was DEFAULT]
objective    PPO. Clipped surrogate: L = max(-A rho, -A clip(rho, 1 - lo, 1 + hi)) with rho =
             exp(theta - prox)
             clip = (0.2, 0.3)
             [changed: clip was (0.2, 0.28)]
aggregation  token_mean. A token weighs 1 / (trained tokens of the step)
             [paper: mean over all tokens of the batch]
kl           none
             [none, as in the paper]"""
    )


def test_explain_says_what_was_taken_away_and_added():
    changed = get("rloo", reward_kl=0, entropy=0.01, truncated="mask", name="rloo")
    text = changed.replace(correction=(ImportanceWeight(2.0), Gate("k3", 0.1))).explain()
    assert "reward_kl    none\n             [changed: reward_kl was 0.05]" in text
    assert "entropy      L -= 0.01 H_t" in text
    assert "truncated    rollouts that were cut off train no token, and stay in the statistics" in text
    assert "correction   ImportanceWeight. Importance weights: the ratio of trainer to sampler" in text
    assert "needs        truncated: one bool a rollout" in text
    # A recipe of one's own has no origins.
    assert "[" not in get("rloo", name="mine").explain().replace("[0", "")
    eps = get("grpo", advantage={"options": {"eps": 0.5, "scale": "none"}}).explain()
    assert "scale = none; convention DEFAULT: ddof 1, eps 0.5 (add)" in eps


@pytest.mark.parametrize(
    ("name", "weight"),
    [
        ("token_mean", "1 / (trained tokens of the step)"),
        ("token_sum", "1"),
        ("seq_mean_token_mean", "1 / (rows of the step * trained tokens of its row)"),
        ("rollout_mean_token_sum", "1 / (rollouts of the step)"),
        ("prompt_mean_token_mean", "1 / (prompts of the step * trained tokens of its prompt)"),
        ({"unit": "batch", "within": "mean", "divisor": 2}, "1 / (trained tokens * 2)"),
    ],
)
def test_the_weight_of_a_token(name, weight):
    text = " ".join(get("grpo", aggregation=name, name="mine").explain().split())
    assert f"A token weighs {weight} kl " in text


def test_diff():
    assert get("dapo").diff(get("dapo")) == "same"
    assert (
        get("grpo").diff(get("rloo"))
        == """\
                  grpo                 rloo
advantage.method  group.grpo           group.rloo
objective.type    PPO                  Reinforce
objective.clip    (0.2, 0.2)           -
aggregation       seq_mean_token_mean  rollout_mean_token_sum
kl.type           KL                   -
kl.coef           0.04                 -
kl.kind           k3                   -
kl.gradient       own                  -
kl.against        ref                  -
reward_kl         -                    0.05"""
    )

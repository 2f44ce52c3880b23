"""What explain and diff print."""

import math
import re

import pytest

torch = pytest.importorskip("torch")

from recipe_steps import ALL  # noqa: E402

import rollmath as rm  # noqa: E402
from rollmath.loss import Gate, ImportanceWeight  # noqa: E402
from rollmath.recipes import get  # noqa: E402
from rollmath.recipes._words import ESTIMATORS  # noqa: E402


def flat(text):
    """Without the line breaks."""
    return " ".join(text.split())


def test_explain():
    assert (
        get("dapo", max_length=20480, objective={"clip": [0.2, 0.3]}, convention="VERL").explain()
        == """\
dapo: Yu et al. 2025, DAPO, arXiv 2503.14476
overlong     Soft overlong punishment: -factor min(max(L_i - (max_length - buffer), 0), buffer) /
             buffer
             max_length = 20480, buffer = 4096, factor = 1, capped = True, truncated = False
             [paper: factor 1, the last 4096 of 20480 tokens, for rewards 1 and -1; get('dapo',
             max_length=...) has it, with that share of the limit, 1/5]
filter       nonzero_spread. Groups whose rewards are not all equal: keeps the rollouts of group g
             if max(r) - min(r) > tol
             tol = 0, on = rewards
             [paper: dynamic sampling, here without the refill, which is the trainer's]
advantage    group.grpo. Group-relative advantages: A_i = (r_i - mean(r)) / (std(r) + eps) over the
             group of i
             scale = std, leave_one_out = False; convention VERL: ddof 1, eps 1e-06 (add), group of
             one raw, no spread zero, NaN raise
             [changed: convention was DEFAULT]
objective    PPO. Clipped surrogate: L = max(-A rho, -A clip(rho, 1 - lo, 1 + hi)) with rho =
             exp(theta - prox)
             clip = (0.2, 0.3)
             [changed: clip was (0.2, 0.28)]
aggregation  token_mean. A token weighs 1 / (trained tokens of the step)
             [the paper's formula is the mean over the tokens of a prompt, then over prompts:
             'prompt_mean_token_mean'; here all tokens of the step are alike, as the README of its
             code says]
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
    assert "scale = none, leave_one_out = False; convention DEFAULT: group of one zero, NaN raise" in flat(eps)
    eps = get("grpo", advantage={"options": {"eps": 0.5}}).explain()
    assert "convention DEFAULT: ddof 1, eps 0.5 (add), group of one zero, no spread zero, NaN raise" in flat(eps)
    constant = get("dr_grpo", max_length=7)
    assert "(rows of the step * 7)\n             [paper: a constant" in constant.explain()
    assert (
        "[changed: was a sum over tokens / (rows of the step * max_length)]"
        in constant.replace(aggregation="token_mean").explain()
    )


def test_explain_says_what_is_left_out_and_every_number_that_acts():
    dapo = get("dapo").explain()
    assert "overlong     none\n             [paper: factor 1" in dapo
    assert "filter       none\n             [changed: method was nonzero_spread]" in get("dapo", filter=False).explain()
    assert "truncated was keep" in get("dapo", truncated="mask").explain()
    assert "blend = 1, min_stratum = 1, scale = std" in flat(get("stratified_grpo").explain())
    assert "gamma = 1, gaps = carry" in flat(get("reinforce_pp").explain())
    # What a method does not read is not there.
    assert "convention DEFAULT: group of one zero, NaN raise [paper: the mean" in flat(get("rloo").explain())
    assert "convention DEFAULT: NaN raise" in flat(get("grpo", advantage="group.remax").explain())


@pytest.mark.parametrize("recipe", ALL, ids=lambda r: r.name)
def test_every_part_of_a_recipe_says_where_it_is_from(recipe):
    text = recipe.explain()
    parts = re.findall(r"^(\w+) {2,}.*(?:\n {13}.*)*", text, re.MULTILINE)
    assert parts.count("needs") + text.count("\n             [") == len(parts)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_the_estimators_are_those_of_the_term(kind):
    gradient = "k2" if kind == "k1" else "own"
    theta, ref = torch.tensor([-1.0, -2.0], dtype=torch.float64), torch.tensor([-1.5, -1.25], dtype=torch.float64)
    tokens = rm.loss.Tokens.of(theta, torch.zeros(2, dtype=torch.float64), ref=ref)
    found = rm.loss.KL(1.0, kind=kind, gradient=gradient).token_loss(tokens).loss
    formula = ESTIMATORS[kind].replace("^", "**").replace("|d|", "abs(d)")
    expected = [eval(formula, {"exp": math.exp, "d": d}) for d in (theta - ref).tolist()]
    assert found.tolist() == pytest.approx(expected, rel=1e-12)
    assert f"K(d) = {ESTIMATORS[kind]}" in flat(get("grpo", kl={"kind": kind, "gradient": gradient}).explain())


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

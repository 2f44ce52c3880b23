"""None of the defects is in our own functions."""

import inspect

import pytest
from planted_advantages import GAMMA, LAM

import rollmath as rm
from rollmath.loss import Normalizer, policy_loss
from rollmath.testing import AdvantageChecks, LossChecks, check_advantage, check_loss

#: All methods that need rewards and groups alone, and what they do on purpose: division by the mean, statistics of the
#: batch, a temperature. (``bnpo`` takes rewards from 0 to 1 alone, and the checks have larger ones.)
GROUP = {
    "a_star_po": {"scale"},
    "dr_grpo": set(),
    "gpg": set(),
    "grpo": set(),
    "lite_ppo": {"partition"},
    "mapo": {"shift"},
    "maxrl": {"shift"},
    "opmd": set(),
    "passk": set(),
    "quantile_baseline": set(),
    "reinforce_pp_baseline": {"partition"},
    "rloo": set(),
}


def test_the_list_is_complete():
    """A new method of rewards and groups fails here until it is in the list above."""
    other = {"bnpo", "gdpo", "soft_value", "stats"}  # see above; channels; one number a group; statistics
    found = set()
    for name in rm.group.__all__:
        function = getattr(rm.group, name)
        if inspect.isfunction(function):
            given = inspect.signature(function).parameters.values()
            needs = [p.name for p in given if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
            found |= {name} if needs == ["rewards", "groups"] else set()
    assert found - other == set(GROUP)


@pytest.mark.parametrize("name", GROUP)
@pytest.mark.parametrize("arrays", ["numpy", "torch"])
def test_group_methods(name, arrays):
    method = getattr(rm.group, name)
    report = check_advantage(method, arrays=arrays)
    assert {r.id for r in report.failures} == GROUP[name], report


@pytest.mark.parametrize("arrays", ["numpy", "torch"])
def test_methods_of_more_than_rewards(arrays):
    for method in (
        lambda rewards, groups: rm.group.opo(rewards, groups, [3] * len(rewards)),
        lambda rewards, groups: rm.group.stratified(rewards, groups, strata=[0] * len(rewards)),
        lambda rewards, groups: rm.group.optimal_baseline(rewards, groups, [2.0] * len(rewards)),
    ):
        report = check_advantage(method, arrays=arrays)
        assert not report.failures, report


@pytest.mark.parametrize(
    ("convention", "formula"), [("VERL", "VERL grpo"), ("TRL", "TRL grpo"), ("OPENRLHF", "grpo"), ("NEMO_RL", "grpo")]
)
def test_the_formula_of_a_framework_is_recognised(convention, formula):
    rules = getattr(rm.conventions, convention)
    options = dict(rules.options.get("grpo", {}))
    report = check_advantage(
        lambda rewards, groups: rm.group.grpo(rewards, groups, convention=rules, **options), formula=formula
    )
    assert not report.failures, report


@pytest.mark.parametrize("whiten", [None, rm.conventions.Whiten()])
@pytest.mark.parametrize("arrays", ["numpy", "torch"])
def test_gae(whiten, arrays):
    def gae(rewards, values, mask, *, gamma, lam):
        return rm.temporal.gae(rewards, values, mask=mask, gamma=gamma, lam=lam, whiten=whiten)

    report = check_advantage(gae, style="values", arrays=arrays, options={"gamma": GAMMA, "lam": LAM})
    assert not report.failures, report
    assert "refuses" in report["reward_on_gap"].seen
    assert ("whitened" in report["gae_formula"].seen) == (whiten is not None)


@pytest.mark.parametrize(
    ("gaps", "checks"), [("state", {"gap_neutrality"}), ("ignore", {"gap_neutrality", "gae_formula"})]
)
def test_gae_by_the_rule_of_others_is_seen(gaps, checks):
    """With "ignore" the padding is run through too."""

    def gae(rewards, values, mask, *, gamma, lam):
        return rm.temporal.gae(rewards, values, mask=mask, gamma=gamma, lam=lam, gaps=gaps)

    report = check_advantage(gae, style="values", options={"gamma": GAMMA, "lam": LAM})
    assert {r.id for r in report.failures} == checks, report


def padded(objective, aggregation):
    """Our loss behind the signature of most trainers."""

    def loss(logp, old_logp, advantages, mask, *, num_tokens, num_rows):
        b, t = logp.shape
        rows = rm.Rows(list(range(b)), [t] * b, mask=mask.bool().numpy())
        out = policy_loss(
            rm.LogProbs(logp, prox=old_logp),
            advantages,
            rows,
            objective,
            level="row",
            aggregation=aggregation,
            normalizer=Normalizer(tokens=num_tokens, rows=num_rows, rollouts=num_rows),
        )
        return out.loss

    return loss


OBJECTIVES = {
    "PPO": {"clip": (0.2, 0.28)},
    "GSPO": {"clip": (0.2, 0.28)},
    "CISPO": {"clip": (0.2, 0.28)},
    "SAPO": {},
    "GMPO": {},
    "Reinforce": {},
    "TOPR": {},
    "DPPO": {"divergence": "tv", "bounds": (0.2, 0.28)},
}


@pytest.mark.parametrize("aggregation", ["token_mean", "seq_mean_token_mean"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_losses(name, aggregation):
    report = check_loss(
        padded(getattr(rm.loss, name)(**OBJECTIVES[name]), aggregation),
        style="rows",
        counts={"num_tokens": "tokens", "num_rows": "rows"},
        clip=(0.2, 0.28) if name in {"PPO", "GSPO"} else None,
    )
    assert not report.failures, report
    assert report["accumulation"].verdict == "pass"


class TestGrpo(AdvantageChecks):
    """The base class, as a project would use it."""

    formula = "grpo"
    exclude = ("order_bits",)

    def advantage(self, rewards, groups):
        return rm.group.grpo(rewards, groups)


class TestPpo(LossChecks):
    style = "rows"
    counts = {"num_tokens": "tokens", "num_rows": "rows"}  # noqa: RUF012

    def loss(self, logp, old_logp, advantages, mask, *, num_tokens, num_rows):
        mine = padded(rm.loss.PPO(clip=(0.2, 0.28)), "token_mean")
        return mine(logp, old_logp, advantages, mask, num_tokens=num_tokens, num_rows=num_rows)

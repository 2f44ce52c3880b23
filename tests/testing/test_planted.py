"""Every planted defect is found by the check that should find it, and the same function without it passes."""

import pytest
from planted_advantages import GAMMA, LAM, ROLLOUTS, TOKENS, VALUES, gae, outcome
from planted_advantages import good as good_advantage
from planted_losses import LOSSES
from planted_losses import good as good_loss

from rollmath.testing import check_advantage, check_loss, checks

#: Checks that remark on something, and never fail.
REMARKS = {"order_bits", "aliasing", "detached_inputs"}


def named(defects):
    return pytest.mark.parametrize(
        ("check", "function"), [d[1:] for d in defects], ids=[f"{d[1]}: {d[0]}" for d in defects]
    )


def found(report, check):
    assert report[check].verdict == "fails", report
    assert report[check].seen
    assert any(r.id == check for r in report.failures)


@named(ROLLOUTS)
def test_of_rollouts(check, function):
    found(check_advantage(function, only=[check]), check)


@named(TOKENS)
def test_of_tokens(check, function):
    found(check_advantage(function, style="tokens", only=[check]), check)


@named(VALUES)
def test_of_values(check, function):
    def known(rewards, values, mask, *, gamma, lam):
        return function(rewards, values, mask)

    options = {"gamma": GAMMA, "lam": LAM}
    found(check_advantage(known, style="values", options=options, only=[check]), check)


@named(LOSSES)
def test_of_losses(check, function):
    counts = {"num_tokens": "tokens"} if function.__code__.co_kwonlyargcount else None
    found(check_loss(function, counts=counts, clip=(0.2, 0.28), only=[check]), check)


def test_every_check_has_a_defect_that_it_finds():
    of_advantages = {d[1] for d in [*ROLLOUTS, *TOKENS, *VALUES]}
    assert {c.id for c in checks("advantage")} - REMARKS == of_advantages
    assert {c.id for c in checks("loss")} - REMARKS == {d[1] for d in LOSSES}


def test_the_functions_without_a_defect_have_none():
    for report in (
        check_advantage(good_advantage),
        check_advantage(outcome, style="tokens"),
        check_advantage(gae, style="values", options={"gamma": GAMMA, "lam": LAM}),
        check_loss(good_loss, counts={"num_tokens": "tokens"}, clip=(0.2, 0.28)),
    ):
        assert not report.failures, report

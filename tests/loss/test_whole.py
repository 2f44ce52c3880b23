"""Terms that look at whole rollouts are given whole rollouts, or say so."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from rollmath import LogProbs, Rows  # noqa: E402
from rollmath.loss import (  # noqa: E402
    GMPO,
    GSPO,
    LUSPO,
    PPO,
    VESPO,
    Gate,
    ImportanceWeight,
    Normalizer,
    Objective,
    Reinforce,
    Staleness,
    TokenLoss,
    policy_loss,
)

ROWS = Rows(["a", "b", "a", "c"], [2, 3, 3, 2], mask=[1, 1, 1, 0, 1, 1, 1, 1, 0, 0], version=[1] * 10)
COLUMNS = [torch.linspace(-1, -i, 10, dtype=torch.float64) for i in range(1, 5)]


def call(picked, objective, normalizer, **options):
    at = np.concatenate([np.arange(ROWS.offsets[i], ROWS.offsets[i + 1]) for i in picked])
    rows = ROWS.take(picked)
    columns = LogProbs(*(x[at] for x in COLUMNS))
    return policy_loss(
        columns, [1.0] * rows.n_rollouts, rows, objective, normalizer=normalizer, level="rollout", **options
    )


@pytest.mark.parametrize(
    ("name", "objective", "options"),
    [
        ("GSPO", GSPO(clip=0.2), {}),
        ("LUSPO", LUSPO(clip=0.2), {}),
        ("GMPO", GMPO(), {}),
        ("VESPO", VESPO(), {}),
        ("ImportanceWeight", PPO(), {"correction": ImportanceWeight(2.0, level="rollout")}),
        ("Gate", PPO(), {"correction": (ImportanceWeight(2.0), Gate("k1", 0.1, level="rollout"))}),
        ("Staleness", PPO(), {"correction": Staleness(2, max_age=1, level="rollout")}),
        ("GSPO", PPO(), {"kl": GSPO(clip=0.2)}),
    ],
)
def test_part_of_a_rollout(name, objective, options):
    step = Normalizer.local(ROWS)
    match = (
        rf"policy_loss\(\): 'rows' must hold whole rollouts, at which {name} looks, but of rollout 'a' they have 2 of 5"
    )
    with pytest.raises(ValueError, match=match):
        call([0, 1], objective, step, **options)
    # Whole ones, in any order, one without a trained token; and what cannot be known.
    call([2, 3, 0], objective, step, **options)
    call([0, 1], objective, Normalizer(tokens=7, rows=3, rollouts=2), **options)


@pytest.mark.parametrize(
    ("objective", "options"),
    [
        (GSPO(clip=0.2, unit="row"), {}),
        (PPO(), {"correction": Gate("k1", 0.1, level="row")}),
        (PPO(), {"correction": ImportanceWeight(2.0)}),
        (PPO(), {}),
    ],
)
def test_rows_of_a_rollout_apart(objective, options):
    """Where rows are looked at one by one, they may come in several calls, and their losses add up."""
    step = Normalizer.local(ROWS)
    apart = [call(picked, objective, step, **options).loss for picked in ([0, 1], [2, 3])]
    torch.testing.assert_close(sum(apart), call([0, 1, 2, 3], objective, step, **options).loss)


def test_a_term_that_looks_at_rollouts_is_not_cut_into_pieces(use_piece):
    """As an objective is not."""

    @dataclass(frozen=True)
    class Spread(Objective):
        coupling: ClassVar = "sequence"

        def token_loss(self, tokens):
            mean = tokens.spread(tokens.reduce(tokens.theta, "rollout", "mean"), "rollout")
            slope = tokens.weighted(mean)
            return TokenLoss(mean * mean / 2, tokens.share(slope, "rollout", "mean"))

    step = Normalizer.local(ROWS)
    whole = call([0, 1, 2, 3], Reinforce(), step, kl=Spread())
    with use_piece(2):
        cut = call([0, 1, 2, 3], Reinforce(), step, kl=Spread())
    torch.testing.assert_close(cut.metrics["kl_loss"], whole.metrics["kl_loss"])

"""Trained tokens and token-level advantages, in all the forms they come in."""

from __future__ import annotations

import math

import numpy as np
import pytest

import rollmath as rm
from rollmath import audit

R, IDS = [1.0, 0.0, 0.0], ["a", "a", "a"]
MASK = [[1, 1, 0, 1], [0, 0], [1, 0, 1]]
PADDED = np.array([[1, 1, 0, 1], [0, 0, 0, 0], [1, 0, 1, 0]])


def ragged(values):
    return rm.Ragged.from_lists(values, dtype=np.float64)


@pytest.mark.parametrize("mask", [MASK, PADDED, PADDED.astype(bool), rm.Ragged.from_lists(MASK)], ids=str)
def test_masks_count_trained_tokens(mask):
    a = audit(R, IDS, mask=mask)
    assert a.summary["tokens"] == 5
    assert a.rows.tolist() == ["signal", "no trained token", "signal"]
    assert a.summary["effective_tokens"] == 1.0


def test_lengths_and_rows():
    assert audit(R, IDS, lengths=[3, 0, 2]).to_dict() == audit(R, IDS, mask=MASK).to_dict()
    # Rollout 0 is two rows of the model.
    rows = rm.Rows([0, 1, 0, 2], mask=[[1, 1, 0], [0, 0], [1], [1, 0, 1]])
    assert audit(R, IDS, rows=rows).to_dict() == audit(R, IDS, mask=MASK).to_dict()


def test_constant_token_advantages_are_those_of_the_rollout():
    adv = rm.group.grpo(R, IDS)
    per_token = rm.Ragged(np.repeat(adv, [4, 2, 3]), [0, 4, 6, 9])
    gaps = rm.Ragged.from_lists(MASK)
    for options in ({}, {"mask": MASK}, {"mask": PADDED}, {"mask": gaps}):
        a = audit(R, IDS, per_token, **options)
        trained = [True, not options, True]
        assert a.advantages.tolist() == np.where(trained, adv, 0).tolist()
        assert a.summary["tokens"] == (5 if options else 9)
        assert "varies" not in [f.kind for f in a.findings]


def test_gaps_have_no_say():
    values = [[0.5, 0.5, math.nan, 0.5], [9.0, 9.0], [-0.5, 7.0, -0.5]]
    a = audit(R, IDS, ragged(values), mask=MASK)
    assert a.advantages.tolist() == [0.5, 0, -0.5]
    assert a.rows.tolist() == ["signal", "no trained token", "signal"]


def test_advantages_that_vary_are_summarised():
    values = [[1.0, -1.0], [0.0, 0.0], [-0.5, -1.5]]
    a = audit(R, IDS, ragged(values))
    assert a.advantages.tolist() == [0.0, 0.0, -1.0]
    # Nonzero somewhere is signal, whatever the mean.
    assert a.rows.tolist() == ["signal", "zero advantage", "signal"]
    (found,) = (f for f in a.findings if f.kind == "varies")
    assert (found.rows, found.text) == ((0, 2), "2 rollouts whose token-level advantages differ")
    assert a.matches[0].compared == 1


@pytest.mark.parametrize("values", [[math.nan, 1.0], [1.0, math.inf], [math.inf, -math.inf], [math.nan, math.nan]])
def test_one_bad_token_is_a_bad_advantage(values):
    a = audit([1.0, 0.0], [0, 0], ragged([values, [1.0]]))
    assert a.rows[0] == "non-finite advantage"


def test_token_advantages_over_rows():
    rows = rm.Rows(["x", "y", "x", "z"], mask=[[1, 0, 1], [1], [1], [0, 0]])
    adv = rm.Ragged(np.array([0.5, 9.0, 0.5, -0.25, 0.5, 9.0, 9.0]), rows.offsets)
    a = audit(R, IDS, adv, rows=rows)
    assert a.advantages.tolist() == [0.5, -0.25, 0.0]
    assert a.rows.tolist() == ["signal", "signal", "no trained token"]
    adv = rm.Ragged(np.array([0.5, 9.0, 0.5, -0.25, -1.0, 9.0, 9.0]), rows.offsets)
    a = audit(R, IDS, adv, rows=rows)
    assert a.advantages.tolist() == [0.0, -0.25, 0.0]
    assert a.findings[0].kind == "varies"


def test_torch_tokens():
    torch = pytest.importorskip("torch")
    adv = rm.Ragged(torch.tensor([0.5, 0.5, -0.5, -0.5]), [0, 2, 3, 4])
    assert audit(R, IDS, adv, mask=torch.tensor([[1, 1], [1, 0], [1, 0]])).advantages.tolist() == [0.5, -0.5, -0.5]


def test_length_bias_by_hand():
    s = audit([1, 0, 1, 0], [0, 0, 1, 1], [1.0, -1.0, 0.5, -0.5], lengths=[10, 30, 20, 20]).summary
    assert (s["length_mean"], s["length_positive"], s["length_negative"]) == (20, 15, 25)
    # Group 1 has one length; in group 0 the shorter one is right.
    assert (s["length_reward_correlation"], s["length_reward_groups"]) == (pytest.approx(-1), 1)
    assert (s["positive_mass"], s["positive_token_mass"]) == (0.5, pytest.approx(20 / 60))
    assert s["effective_sample_size"] == pytest.approx(9 / 2.5)


LENGTHS = rm.Ragged.from_lists([[1.0], [1.0]])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"lengths": [1, 2], "mask": PADDED},
            ValueError,
            "give one of 'lengths', 'mask' and 'rows', got 'lengths' and",
        ),
        ({"lengths": [1, 2]}, ValueError, r"'lengths' must have length 3 \(= len\(groups\)\), got 2"),
        ({"lengths": [1, -2, 3]}, ValueError, "'lengths' must not be negative, got -2"),
        ({"lengths": [1.5, 2, 3]}, TypeError, "'lengths' must hold integers, got float64"),
        (
            {"mask": [1, 0, 1]},
            TypeError,
            r"'mask' must be a Ragged, a list of lists or a padded \[N, T\] array, got a 1-D",
        ),
        ({"mask": PADDED[:2]}, ValueError, r"'mask' must have 3 rows \(= len\(groups\)\), got 2"),
        ({"mask": MASK[:2]}, ValueError, r"'mask' must have 3 rows \(= len\(groups\)\), got 2"),
        ({"mask": PADDED / 2}, TypeError, "'mask' must be bool or integer"),
        ({"rows": IDS}, TypeError, "'rows' must be a Rows, got an object of type list"),
        ({"rows": rm.Rows([0, 1], [2, 3])}, ValueError, r"'rows' must have 3 rollouts \(= len\(groups\)\), got 2"),
        ({"advantages": LENGTHS}, ValueError, r"'advantages' must have 3 rows \(= len\(groups\)\), got 2"),
        (
            {"advantages": LENGTHS, "rows": rm.Rows([0, 1, 2], [2, 3, 1])},
            ValueError,
            r"'advantages' must have 3 rows \(= rows.n_rows\), got 2",
        ),
        (
            {"advantages": ragged([[1], [1], [1]]), "rows": rm.Rows([0, 1, 2], [2, 3, 1])},
            ValueError,
            "'advantages' must have the offsets of 'rows'",
        ),
        (
            {"advantages": ragged([[1], [1], [1]]), "mask": MASK},
            ValueError,
            "'mask' must have the offsets of 'advantages'",
        ),
        (
            {"advantages": ragged([[1], [1], [1]]), "mask": PADDED},
            ValueError,
            "'mask' must mark tokens of 'advantages'",
        ),
        ({"advantages": ragged([[1] * 5, [1], [1]]), "mask": PADDED}, ValueError, "'mask' must mark tokens of"),
        ({"advantages": rm.Ragged(np.array(["x"] * 3), [0, 1, 2, 3])}, TypeError, "'advantages' must hold floats"),
    ],
)
def test_bad_tokens(options, error, message):
    with pytest.raises(error, match=r"audit\(\): " + message):
        audit(R, IDS, **options)


def test_token_level_tensors_stay_on_the_host():
    torch = pytest.importorskip("torch")
    far = torch.zeros((3, 2), device="meta", dtype=torch.int64)
    for options in ({"mask": far}, {"mask": rm.Ragged(far[0], [0, 1, 2, 2])}):
        with pytest.raises(ValueError, match=r"audit\(\): 'mask' has one number a token and is on meta"):
            audit(R, IDS, **options)
    with pytest.raises(ValueError, match=r"audit\(\): 'advantages' has one number a token and is on meta"):
        audit(R, IDS, rm.Ragged(far[0].double(), [0, 1, 2, 2]))


def test_rollouts_without_tokens_are_not_compared():
    """A rollout that has no token has no advantage to be off by."""
    r, ids = [1.0, 0.0, 0.5, 0.25], [0, 0, 0, 0]
    adv = rm.group.grpo(r, ids, convention=rm.conventions.TRL)
    tokens = rm.Ragged(np.repeat(adv, [2, 3, 0, 1]), [0, 2, 5, 5, 6])
    best = audit(r, ids, tokens).matches[0]
    assert "TRL grpo" in best.names
    assert (best.off, best.compared) == (0, 3)
    gaps = rm.Ragged.from_lists([[1, 0], [0, 0, 0], [], [1]])
    assert audit(r, ids, tokens, mask=gaps).matches[0].compared == 2
    # One number a rollout was given for each of them.
    assert audit(r, ids, adv, lengths=[2, 3, 0, 1]).matches[0].compared == 4


def test_advantages_that_all_vary_are_said_to():
    a = audit([1.0, 0.0], [0, 0], ragged([[1.0, 0.5], [-1.0, -0.5, -0.25]]))
    assert a.matches == ()
    assert "advantages differ from token to token in every rollout: not compared" in " ".join(str(a).split())

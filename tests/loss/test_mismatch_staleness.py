"""Staleness: against the oracle, unknown versions, large version numbers."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from mismatch_units import flat, inputs, random_batch  # noqa: E402

from rollmath import LogProbs, Ragged, Rows  # noqa: E402
from rollmath.loss import (  # noqa: E402
    PPO,
    Correction,
    Normalizer,
    Staleness,
    Tokens,
    correction_weights,
    policy_loss,
)
from rollmath.loss._engine import at_once, in_pieces  # noqa: E402

FORMS = {"pieces": in_pieces, "at once": at_once}


@pytest.mark.parametrize("form", FORMS)
@given(
    seed=st.integers(0, 10**6),
    padded=st.booleans(),
    options=st.fixed_dictionaries(
        {
            "current": st.integers(0, 12),
            "max_age": st.integers(0, 12),
            "level": st.sampled_from(["token", "turn", "row", "rollout"]),
            "unknown": st.sampled_from(["reject", "keep"]),
        }
    ),
)
def test_agrees_with_the_oracle(oracle, form, seed, padded, options):
    batch = random_batch(seed)
    logprobs, rows = inputs(batch, padded=padded)
    expected, counts = oracle("loss/mismatch_staleness.py", "Staleness")(batch, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rollmath.loss._mismatch_report.evaluate", FORMS[form])
        patch.setattr("rollmath.loss._policy_loss.evaluate", FORMS[form])
        weights = correction_weights(logprobs, rows, Staleness(**options))
        norm = Normalizer.local(rows)
        a = np.ones(rows.n_rollouts)
        out = policy_loss(logprobs, a, rows, PPO(), normalizer=norm, correction=Staleness(**options), level="rollout")
    if padded:
        weights = Ragged.from_padded(weights, lengths=rows.lengths).values
    np.testing.assert_array_equal(weights, flat(expected))
    for name, count in counts.items():
        assert out.metrics[name].item() == pytest.approx(count / max(norm.tokens, 1))


def test_time_stamps_are_compared_exactly():
    now = 1_760_000_000_000
    version = torch.tensor([now - 100, now - 101, now + 5])
    tokens = Tokens.of(torch.zeros(3), torch.zeros(3), version=version)
    assert Staleness(now, 100).weigh(tokens)[0].tolist() == [1, 0, 1]


def test_unknown_versions():
    tokens = Tokens.of(torch.zeros(2), torch.zeros(2), version=torch.tensor([-1, 3]))
    assert Staleness(3, 5).weigh(tokens)[0].tolist() == [0, 1]
    assert Staleness(3, 5, unknown="keep").weigh(tokens)[0].tolist() == [1, 1]
    assert Staleness(3, 5, level="row").weigh(tokens)[0].tolist() == [0, 0]


def test_no_versions():
    with pytest.raises(ValueError, match=r"Staleness\(\): 'rows' must have 'version'"):
        correction_weights(LogProbs(torch.zeros(1)), Rows([0], [1]), Staleness(3, 1))


def test_a_value():
    assert Staleness(np.int64(3), 1) == Staleness(3, 1)
    assert isinstance(Staleness(3, 1), Correction)
    assert not Staleness(3, 1).coupled
    assert Staleness(3, 1, level="rollout").coupled


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"current": -1}, ValueError, r"Staleness\(\): 'current' must be at least 0, got -1"),
        ({"max_age": -1}, ValueError, "'max_age' must be at least 0"),
        ({"max_age": 1.5}, TypeError, "'max_age' must be a whole number"),
        ({"current": True}, TypeError, "'current' must be a whole number"),
        ({"level": "sample"}, ValueError, "'level'"),
        ({"unknown": "zero"}, ValueError, "'unknown'"),
    ],
)
def test_options(arguments, error, match):
    with pytest.raises(error, match=match):
        Staleness(**{"current": 3, "max_age": 1} | arguments)

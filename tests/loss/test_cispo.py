"""CISPO, with both meanings of its bounds."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from rollmath.loss import CISPO, Tokens  # noqa: E402


def slopes(objective, rho, a):
    theta = torch.tensor(rho, dtype=torch.float64).log()
    tokens = Tokens.of(theta, torch.tensor(a, dtype=torch.float64), prox=torch.zeros_like(theta))
    return objective.token_loss(tokens)


@pytest.mark.parametrize(("name", "objective"), [("cispo", CISPO(clip=0.2)), ("cispo_cap", CISPO(cap=1.2))])
def test_hand_checked_vectors(vectors, name, objective):
    data = vectors("flat")["token_losses"]
    out = slopes(objective, data["rho"], data["A"])
    assert out.gradient.tolist() == pytest.approx([slope for _, slope in data[name]], abs=1e-12)


def test_the_loss_is_the_weight_times_the_log_probability():
    tokens = Tokens.of(torch.tensor([-1.0]), torch.tensor([2.0]), prox=torch.tensor([-3.0]))
    assert CISPO(clip=0.5).token_loss(tokens).loss.item() == 3.0


def test_a_cap_is_a_clip_with_nothing_below():
    rho, a = [0.01, 0.5, 1.0, 3.0, 10.0], [1.0, -1.0, 1.0, -1.0, 1.0]
    by_cap, by_clip = slopes(CISPO(cap=2.5), rho, a), slopes(CISPO(clip=(1.0, 1.5)), rho, a)
    assert torch.equal(by_cap.gradient, by_clip.gradient)
    assert CISPO(cap=2.5).interval == CISPO(clip=(1.0, 1.5)).interval == (0.0, 2.5)


def test_counts_whatever_the_sign_of_the_advantage():
    out = slopes(CISPO(clip=(0.25, 0.5)), [0.5, 0.5, 0.8, 1.2, 2.0, 2.0, 2.0], [1.0, -1.0, 1.0, 1.0, 1.0, -1.0, 0.0])
    assert out.counts == {"clip_high": 3, "clip_low": 2}


def test_a_bound_of_the_log_ratio():
    out = slopes(CISPO(clip=(1, math.inf), max_log_ratio=1.0), [math.exp(3), math.exp(-3)], [1.0, 1.0])
    assert out.gradient.tolist() == pytest.approx([-math.e, -1 / math.e])


def test_any_real_number():
    assert CISPO(clip=np.float32(0.25)) == CISPO(clip=(0.25, 0.25))
    assert type(CISPO(cap=5).cap) is float


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({}, ValueError, r"give either 'clip' \(bounds 1 - lo and 1 \+ hi\) or 'cap' .*, got none"),
        ({"clip": 0.2, "cap": 5.0}, ValueError, "give either 'clip' .* or 'cap' .*, got both"),
        ({"clip": (0.2, 0.2, 0.2)}, ValueError, r"'clip' must be one number or \(lo, hi\)"),
        ({"clip": (1.5, 0.2)}, ValueError, r"'clip' must be \(lo, hi\) with lo in \[0, 1\]"),
        ({"clip": "0.2"}, TypeError, "'clip' must hold numbers, got '0.2'"),
        ({"cap": 0.0}, ValueError, "'cap' must be finite and positive, got 0.0"),
        ({"cap": math.inf}, ValueError, "'cap' must be finite and positive, got inf"),
        ({"cap": "5"}, TypeError, "'cap' must be a number, got an object of type str"),
        ({"cap": 5.0, "max_log_ratio": -1}, ValueError, "'max_log_ratio' must be finite and positive, got -1"),
    ],
)
def test_options(arguments, error, match):
    with pytest.raises(error, match=rf"CISPO\(\): {match}"):
        CISPO(**arguments)

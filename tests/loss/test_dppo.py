"""DPPO."""

import math

import pytest

torch = pytest.importorskip("torch")

from rollmath.loss import DPPO, PPO, Tokens  # noqa: E402


def tokens(p, q, a, dtype=torch.float64):
    p, q, a = (torch.tensor(x, dtype=dtype) for x in (p, q, a))
    return Tokens.of(p.log(), a, prox=q.log())


def test_hand_checked_vectors(vectors):
    data = vectors("flat")["token_losses"]
    q = 0.01  # so small that no ratio there leaves the region
    out = DPPO().token_loss(tokens([rho * q for rho in data["rho"]], [q] * len(data["rho"]), data["A"]))
    assert out.gradient.tolist() == pytest.approx([slope for _, slope in data["dppo_tv"]], abs=1e-12)


def test_which_tokens_leave_by_total_variation():
    p, q = [0.9, 0.9, 0.3, 0.3, 0.55], [0.5, 0.5, 0.5, 0.5, 0.5]
    out = DPPO(bounds=(0.1, 0.2)).token_loss(tokens(p, q, [1.0, -1.0, 1.0, -1.0, 1.0]))
    assert (out.gradient != 0).tolist() == [False, True, True, False, True]
    assert out.counts == {"clip_high": 1, "clip_low": 1, "truncated": 0}


def test_which_tokens_leave_by_kl():
    p, q = [0.9, 0.9, 0.1, 0.1, 0.55], [0.5, 0.5, 0.5, 0.5, 0.5]
    kl = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    out = DPPO("kl", bounds=kl * 0.99).token_loss(tokens(p, q, [1.0, -1.0, 1.0, -1.0, 1.0]))
    assert (out.gradient != 0).tolist() == [False, True, True, False, True]
    out = DPPO("kl", bounds=kl * 1.01).token_loss(tokens(p, q, [1.0, -1.0, 1.0, -1.0, 1.0]))
    assert (out.gradient != 0).all()


def test_exactly_at_the_threshold_a_token_is_kept():
    out = DPPO(bounds=0.25).token_loss(tokens([0.5, 0.25], [0.25, 0.5], [1.0, -1.0], torch.float64))
    assert out.gradient.tolist() == pytest.approx([-2.0, 0.5])


def test_a_rare_token_is_kept_where_ppo_clips_it():
    rare = tokens([1e-3], [1e-4], [1.0])
    assert DPPO().token_loss(rare).gradient.item() == pytest.approx(-10)
    assert PPO().token_loss(rare).gradient.item() == 0


def test_the_cap_is_of_tokens_that_are_kept():
    batch = tokens([0.9, 1e-3, 1e-3], [0.01, 1e-5, 1e-5], [1.0, 1.0, -1.0])
    out = DPPO(cap=5.0).token_loss(batch)
    assert out.gradient.tolist() == pytest.approx([0.0, -5.0, 5.0])
    assert out.counts == {"clip_high": 1, "clip_low": 0, "truncated": 2}
    assert DPPO(cap=None).token_loss(batch).gradient[1].item() == pytest.approx(-100)


def test_the_loss_has_the_log_probability():
    out = DPPO(bounds=1.0).token_loss(tokens([0.5], [0.25], [3.0]))
    assert out.loss.item() == pytest.approx(-3 * 2 * math.log(0.5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_token_that_is_certain(dtype):
    out = DPPO("kl", eps=1e-30).token_loss(tokens([1.0, 1.0, 0.5], [1.0, 0.5, 1.0], [1.0, 1.0, -1.0], dtype))
    assert out.gradient.tolist() == [-1.0, 0.0, 0.0]


def test_a_log_probability_that_rounding_left_over_0():
    """It counts as 0: likelier than prox by far, so the token is not kept."""
    for theta in (1e-7, 0.0):
        given = torch.tensor([theta]), torch.ones(1)
        out = DPPO("kl").token_loss(Tokens.of(*given, prox=torch.tensor([-0.7])))
        assert out.gradient.item() == 0
        assert out.counts["clip_high"] == 1


def test_no_thresholds():
    out = DPPO(bounds=math.inf, cap=None).token_loss(tokens([0.99, 0.01], [0.01, 0.99], [1.0, -1.0]))
    assert out.gradient.tolist() == pytest.approx([-99, 1 / 99])


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"divergence": "js"}, ValueError, "'divergence' must be one of 'tv', 'kl', got 'js'"),
        ({"bounds": -0.1}, ValueError, r"'bounds' must be \(lo, hi\) of at least 0 each, got -0.1"),
        ({"bounds": (0.1, 0.2, 0.3)}, ValueError, r"'bounds' must be one number or \(lo, hi\)"),
        ({"bounds": "a"}, TypeError, "'bounds' must hold numbers, got 'a'"),
        ({"bounds": (0.1, math.nan)}, ValueError, "'bounds' must be finite, got nan"),
        ({"cap": 0}, ValueError, "'cap' must be finite and positive, got 0"),
        ({"eps": 0.0}, ValueError, "'eps' must be finite and positive, got 0.0"),
        ({"eps": None}, TypeError, "'eps' must be a number"),
    ],
)
def test_options(arguments, error, match):
    with pytest.raises(error, match=rf"DPPO\(\): {match}"):
        DPPO(**arguments)

"""NFT."""

import math

import pytest

torch = pytest.importorskip("torch")

import rollmath as rm  # noqa: E402
from rollmath.loss import NFT, Reinforce, Tokens  # noqa: E402
from rollmath.loss._nft import _label_minus_rate  # noqa: E402


def evaluate(objective, rho, a):
    theta = torch.tensor(rho, dtype=torch.float64).log()
    return objective.token_loss(Tokens.of(theta, torch.tensor(a, dtype=torch.float64), prox=torch.zeros_like(theta)))


def test_hand_checked_vectors(vectors):
    data = vectors("flat")["nft"]
    rate, eps = data["r_q"], data["eps"]
    out = evaluate(NFT(eps=eps), data["ratio"], [y - rate for y in data["y"]])
    assert out.loss.tolist() == pytest.approx(data["loss"], abs=1e-12)
    # The wrong answer is at the floor, where the derivative is that of its argument over eps.
    slope = -(1 - rate) * data["dlogneg_dratio"] / eps * data["ratio"][1]
    assert out.gradient[1].item() == pytest.approx(slope, abs=1e-12)
    assert out.counts == {"floored": 1}
    above_floor = evaluate(NFT(eps=0.01), [data["ratio"][1]], [-rate])
    assert above_floor.loss.item() == pytest.approx(-(1 - rate) * math.log(data["neg_arg"]), abs=1e-12)
    assert above_floor.counts == {"floored": 0}


REWARDS, GROUPS = [1, 0, 0, 0, 1, 1, 0, 1, 1, 1, 0], ["a"] * 4 + ["b"] * 3 + ["c"] * 2 + ["d"] * 2


@pytest.mark.parametrize("weight", ["dr_grpo", "grpo"])
@pytest.mark.parametrize("eps", [1.0, 0.1])
def test_on_policy_it_is_dr_grpo_or_grpo(weight, eps):
    centered = rm.group.dr_grpo(REWARDS, GROUPS)
    scaled = rm.group.grpo(REWARDS, GROUPS, ddof=0, eps=0.0)
    centered, target = torch.from_numpy(centered), torch.from_numpy(centered if weight == "dr_grpo" else scaled)
    theta = -torch.rand(len(REWARDS), dtype=torch.float64)
    out = NFT(prompt_weight=weight, eps=eps).token_loss(Tokens.of(theta, centered))
    expected = Reinforce().token_loss(Tokens.of(theta, target))
    torch.testing.assert_close(out.gradient, expected.gradient, rtol=1e-12, atol=1e-12)
    assert (out.loss == 0).all()


def test_without_negative_data_it_is_rejection_fine_tuning():
    out = evaluate(NFT(prompt_weight="uniform", negative_weight=0.0), [0.5, 2.0], [0.5, -0.5])
    assert out.loss.tolist() == pytest.approx([math.log(2), 0.0])
    assert out.gradient.tolist() == [-1.0, 0.0]


def test_rates_are_clamped():
    out = evaluate(NFT(), [1.0, 1.0], [0.999, -0.999])  # rates 0.001 and 0.999, taken for 0.02 and 0.98
    assert out.gradient.tolist() == pytest.approx([-0.98, 0.98])
    out = evaluate(NFT(min_rate=1e-4), [1.0, 1.0], [0.999, -0.999])
    assert out.gradient.tolist() == pytest.approx([-0.999, 0.999])


def test_the_log_ratio_is_bounded_from_above_alone():
    out = evaluate(NFT(max_log_ratio=1.0), [10.0, 0.01, 10.0], [0.5, 0.5, -0.5])
    assert out.loss[:2].tolist() == pytest.approx([-0.5, -0.5 * math.log(0.01)])
    assert (out.gradient != 0).tolist() == [False, True, False]


@pytest.mark.parametrize("wrong", [1.5, -2.0])
def test_advantages_that_are_no_label_minus_rate(wrong):
    match = r"NFT\(\): 'advantages' must be label minus success rate, in \[-1, 1\] .*, got {:g} in size"
    with pytest.raises(ValueError, match=match.format(abs(wrong))):
        evaluate(NFT(), [1.0, 1.0], [0.5, wrong])


def test_on_another_device_such_advantages_are_nan():
    class Elsewhere(torch.Tensor):
        device = torch.device("cuda")

    a = torch.tensor([0.5, -1.0, 0.0, 1.5]).as_subclass(Elsewhere)
    found = _label_minus_rate(a).as_subclass(torch.Tensor)
    assert found.isnan().tolist() == [False, False, False, True]
    assert found[:3].tolist() == [0.5, -1.0, 0.0]


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"prompt_weight": 1}, ValueError, "'prompt_weight' must be one of 'dr_grpo', 'grpo', 'uniform', got 1"),
        ({"eps": 0}, ValueError, "'eps' must be finite and positive, got 0"),
        ({"negative_weight": -1.0}, ValueError, "'negative_weight' must be finite and not negative, got -1.0"),
        ({"min_rate": 0.0}, ValueError, "'min_rate' must be above 0 and at most 0.5, got 0.0"),
        ({"min_rate": 0.6}, ValueError, "'min_rate' must be above 0 and at most 0.5, got 0.6"),
        ({"max_log_ratio": 0}, ValueError, "'max_log_ratio' must be finite and positive, got 0"),
        ({"eps": "1"}, TypeError, "'eps' must be a number, got an object of type str"),
    ],
)
def test_options(arguments, error, match):
    with pytest.raises(error, match=rf"NFT\(\): {match}"):
        NFT(**arguments)

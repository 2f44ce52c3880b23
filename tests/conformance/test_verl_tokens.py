"""verl's estimators on tokens, called live on the same batches: rows with gaps, values in the padding."""

import importlib.util
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import rollmath as rm
from rollmath.conventions import Whiten

if importlib.util.find_spec("verl") is None:
    pytest.skip("verl is not installed; `make test-peers` has an environment for it", allow_module_level=True)

import torch

# Importing the trainers takes most of a minute where the disk is slow.
pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

VERL = rm.conventions.VERL
DISCOUNTS = pytest.mark.parametrize(("gamma", "lam"), [(1.0, 1.0), (1.0, 0.95), (0.97, 0.9), (0.5, 0.0), (0.0, 0.5)])


@pytest.fixture(scope="module")
def algos(peer):
    return peer("verl.trainer.ppo.core_algos")


def tensors(*arrays):
    return [torch.from_numpy(np.array(array)) for array in arrays]


def tolerance(tokens, *, whitened=False):
    """verl computes in the dtype of the rewards, up to 60 tokens in sequence; Bessel's factor is always float32."""
    if tokens.rewards.dtype == np.float32:
        return 1e-5
    return 1e-7 if whitened else 1e-12


def compare(agree, name, tokens, ours, theirs, *, whitened=False):
    """Ours and theirs at trained tokens; at gaps ours is 0."""
    assert not ours[~tokens.trained].any()
    atol = tolerance(tokens, whitened=whitened)
    agree(f"verl {name} {tokens.rewards.dtype}", ours[tokens.trained], theirs.numpy()[tokens.trained], atol=atol)


@DISCOUNTS
def test_gae(algos, tokens, agree, gamma, lam):
    theirs = algos.compute_gae_advantage_return(*tensors(tokens.rewards, tokens.values, tokens.mask), gamma, lam)
    options = VERL.options["gae"]
    ours = rm.temporal.gae(tokens.rewards, tokens.values, mask=tokens.mask, gamma=gamma, lam=lam, **options)
    compare(agree, "gae, advantages", tokens, ours.advantages, theirs[0], whitened=True)
    compare(agree, "gae, returns", tokens, ours.returns, theirs[1])
    targets = rm.temporal.td_lambda(tokens.rewards, tokens.values, mask=tokens.mask, gamma=gamma, lam=lam)
    compare(agree, "gae, returns (td_lambda)", tokens, targets, theirs[1])


@DISCOUNTS
def test_gae_of_packed_rows(algos, tokens, agree, gamma, lam):
    """Ours without padding and without gaps: trained tokens alone, as ``cu_seqlens`` has them."""
    theirs = algos.compute_gae_advantage_return(*tensors(tokens.rewards, tokens.values, tokens.mask), gamma, lam)
    rewards, values = (rm.Ragged.from_padded(x, mask=tokens.mask) for x in (tokens.rewards, tokens.values))
    ours = rm.temporal.gae(rewards, values, gamma=gamma, lam=lam, whiten=Whiten())
    atol = tolerance(tokens, whitened=True)
    flat = theirs[0].numpy()[tokens.trained]
    agree(f"verl gae, packed {tokens.rewards.dtype}", ours.advantages.values, flat, atol=atol)


@pytest.mark.parametrize("gamma", [1.0, 0.97, 0.5, 0.0])
def test_reinforce_plus_plus(algos, tokens, agree, gamma):
    function = algos.compute_reinforce_plus_plus_outcome_advantage
    theirs = function(*tensors(tokens.rewards, tokens.mask), SimpleNamespace(gamma=gamma))
    ours = rm.group.reinforce_pp(tokens.rewards, mask=tokens.mask, gamma=gamma, **VERL.options["reinforce_pp"])
    compare(agree, "reinforce_plus_plus, advantages", tokens, ours, theirs[0], whitened=True)
    returns = rm.temporal.discounted_returns(tokens.rewards, mask=tokens.mask, gamma=gamma)
    compare(agree, "reinforce_plus_plus, returns", tokens, returns, theirs[1])


def test_reinforce_plus_plus_baseline(algos, tokens, agree):
    function = algos.compute_reinforce_plus_plus_baseline_outcome_advantage
    theirs, _ = function(*tensors(tokens.outcomes, tokens.mask), tokens.ids)
    scores, lengths = tokens.outcomes.sum(1), tokens.mask.sum(1)
    ours = rm.group.reinforce_pp_baseline(scores, tokens.ids, lengths=lengths, convention=VERL)
    expanded = np.where(tokens.trained, ours[:, None], 0)
    compare(agree, "reinforce_plus_plus_baseline", tokens, expanded, theirs, whitened=True)


@pytest.mark.parametrize("shift_mean", [True, False])
def test_masked_whiten(peer, tokens, agree, shift_mean):
    function = peer("verl.utils.torch_functional").masked_whiten
    theirs = function(*tensors(tokens.values, tokens.mask), shift_mean=shift_mean)
    ours = rm.temporal.whiten(tokens.values, how=Whiten(shift_mean=shift_mean), mask=tokens.mask)
    compare(agree, "masked_whiten", tokens, ours, theirs, whitened=True)


def without_gaps(tokens):
    """The same rows with all trained tokens in front."""
    lengths = tokens.mask.sum(1)
    mask = (np.arange(tokens.mask.shape[1]) < lengths[:, None]).astype(np.int64)
    order = np.argsort(-tokens.mask, axis=1, kind="stable")
    moved = {name: np.take_along_axis(getattr(tokens, name), order, 1) for name in ("rewards", "outcomes")}
    return replace(tokens, mask=mask, **moved)


@pytest.mark.parametrize("rewards", ["rewards", "outcomes"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("zero_tail", [True, False])
@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("optimal_token_baseline", "compute_optimal_token_baseline_advantage"),
        ("tir_optimal_token_baseline", "compute_multi_turn_optimal_token_baseline_advantage"),
    ],
)
def test_optimal_token_baseline(algos, tokens, agree, name, function, zero_tail, weighted, rewards):
    if name == "optimal_token_baseline" and zero_tail:
        tokens = without_gaps(tokens)  # a test of its own says why
    given = getattr(tokens, rewards)
    weights = tokens.weights if weighted else None
    theirs, _ = getattr(algos, function)(
        *tensors(given, tokens.mask),
        tokens.ids,
        *tensors(tokens.logprobs, tokens.sum_pi_squared),
        rollout_is_weights=None if weights is None else torch.from_numpy(weights),
        handle_zero_tail=zero_tail,
    )
    ours = rm.group.optimal_token_baseline(
        given,
        tokens.ids,
        tokens.logprobs,
        tokens.sum_pi_squared,
        mask=tokens.mask,
        is_weights=weights,
        zero_tail=zero_tail,
        **VERL.options[name],
    )
    # Equal returns G give exactly 0 here, and there G eps / W; W can be as small as 0.001.
    assert np.abs(theirs.numpy()[(ours == 0) & tokens.trained]).max(initial=0.0) < 1e-5 * np.abs(given).sum(1).max()
    theirs[torch.from_numpy(ours == 0)] = 0.0
    compare(agree, name, tokens, ours, theirs)


# What is different, and known to be.


def small(dtype=np.float64):
    """Rewards, values and mask of one row with a gap in the middle and one at the end."""
    return np.array([[0.0, 0, 0, 1, 0]], dtype), np.array([[0.5, 0.25, 9, 0.75, 7]], dtype), np.array([[1, 1, 0, 1, 0]])


def test_a_reward_on_a_gap_is_lost_there_and_an_error_here(algos):
    rewards, values, mask = small()
    rewards[0, 3], rewards[0, 4] = 0.0, 1.0  # the tool's output ends the row
    lost, _ = algos.compute_gae_advantage_return(*tensors(rewards * 0, values, mask), 1.0, 0.95)
    theirs, _ = algos.compute_gae_advantage_return(*tensors(rewards, values, mask), 1.0, 0.95)
    trained = mask != 0
    assert theirs.numpy()[trained].tolist() == lost.numpy()[trained].tolist()
    with pytest.raises(ValueError, match=r"gae\(\): 'rewards'"):
        rm.temporal.gae(rewards, values, mask=mask)
    kept = rm.temporal.gae(rewards, values, mask=mask, reward_on_gap="previous").returns[trained]
    assert kept.tolist() == rm.temporal.gae(small()[0], values, mask=mask).returns[trained].tolist()


def test_gaps_and_padding_keep_advantages_there_and_are_zero_here(algos):
    rewards, values, mask = small()
    advantages, returns = algos.compute_gae_advantage_return(*tensors(rewards, values, mask), 1.0, 0.95)
    assert advantages.numpy()[mask == 0].all()
    assert returns.numpy()[mask == 0].all()
    ours = rm.temporal.gae(rewards, values, mask=mask, whiten=Whiten())
    assert not ours.advantages[mask == 0].any()
    assert not ours.returns[mask == 0].any()


def test_nan_in_the_padding_spreads_over_the_row_there(algos):
    """Multiplying by the mask does not remove a NaN; ours does not look at values without a trained token."""
    rewards, values, mask = small()
    values[0, 4] = np.nan
    advantages, _ = algos.compute_gae_advantage_return(*tensors(rewards, values, mask), 1.0, 0.95)
    assert np.isnan(advantages.numpy()).all()
    assert np.isfinite(rm.temporal.gae(rewards, values, mask=mask).advantages).all()


@pytest.mark.parametrize("trained", [0, 1])
def test_whitening_fewer_than_two_tokens_is_an_error_there_and_zero_here(peer, trained):
    values, mask = np.array([[0.5, 2.0, 3.0]]), np.zeros((1, 3), int)
    mask[0, :trained] = 1
    with pytest.raises(ValueError, match="mask"):
        peer("verl.utils.torch_functional").masked_whiten(*tensors(values, mask))
    assert rm.temporal.whiten(values, mask=mask).tolist() == [[0.0, 0.0, 0.0]]


def test_whitening_equal_advantages_leaves_a_residue_there(peer):
    """The float32 mean of three numbers 1000.1 is one unit in the last place away from them, as in GRPO."""
    values, mask = np.full((1, 3), 1000.1, np.float32), np.ones((1, 3), int)
    theirs = peer("verl.utils.torch_functional").masked_whiten(*tensors(values, mask))
    assert theirs.abs().numpy() == pytest.approx(0.489, abs=1e-3)
    assert not rm.temporal.whiten(values, mask=mask).any()


@pytest.mark.parametrize("zero_tail", [True, False])
def test_the_tail_of_the_longest_response_has_no_baseline(algos, zero_tail):
    """Beyond the second longest response the baseline of a token would be its own return."""
    rewards, mask = np.zeros((2, 4)), np.array([[1, 1, 1, 1], [1, 1, 0, 0]])
    rewards[0, 3] = 1.0
    given = np.log(np.full((2, 4), 0.5)), np.full((2, 4), 0.4)
    theirs, _ = algos.compute_optimal_token_baseline_advantage(
        *tensors(rewards, mask), np.array(["a", "a"]), *tensors(*given), handle_zero_tail=zero_tail
    )
    ours = rm.group.optimal_token_baseline(rewards, ["a", "a"], *given, mask=mask, zero_tail=zero_tail)
    for result in (theirs.numpy(), ours):
        assert result[0, 2:] == pytest.approx([1.0, 1.0] if zero_tail else [0.0, 0.0], abs=1e-7)


def test_the_tail_begins_where_the_second_longest_row_ends_here(algos):
    """There it begins at the column numbered by the trained tokens of that row, which with gaps is an earlier one."""
    mask = np.array([[1, 1, 1, 1, 1], [1, 0, 0, 1, 0]])
    rewards = np.array([[0.0, 0, 0, 0, 1], [0, 0, 0, 0, 0]])
    given = np.log(np.full((2, 5), 0.5)), np.full((2, 5), 0.5)
    theirs, _ = algos.compute_optimal_token_baseline_advantage(
        *tensors(rewards, mask), np.array(["a", "a"]), *tensors(*given)
    )
    ours = rm.group.optimal_token_baseline(rewards, ["a", "a"], *given, mask=mask, align="position")
    # W grows by 1/2 a trained token. At column 3 it is 2 and 1, and both rows have a token.
    assert theirs[0].tolist() == pytest.approx([0.5, 0.0, 1.0, 1.0, 1.0], abs=1e-6)
    assert ours[0].tolist() == pytest.approx([0.5, 0.0, 0.0, 1 / 3, 1.0], abs=1e-6)

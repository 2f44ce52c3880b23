"""The loss of a recipe is policy_loss with its parts, and micro-batches add up to the step."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from recipe_steps import ALL, Step, recipe_of  # noqa: E402

import rollmath as rm  # noqa: E402
from rollmath.loss import KL, PPO, ClipCov, EntropyBonus, ImportanceWeight, Normalizer, policy_loss  # noqa: E402
from rollmath.recipes import get  # noqa: E402

BY_HAND = {
    "grpo": (PPO(), "seq_mean_token_mean", KL(0.04, kind="k3")),
    "dr_grpo": (PPO(), rm.loss.Aggregation(unit="row", within="sum", divisor=64), None),
    "dapo": (PPO(clip=(0.2, 0.28)), "token_mean", None),
    "gspo": (rm.loss.GSPO(clip=(3e-4, 4e-4)), "rollout_mean_token_mean", None),
    "cispo": (rm.loss.CISPO(cap=5.0), "token_mean", None),
    "reinforce_pp": (PPO(), "token_mean", None),
    "rloo": (rm.loss.Reinforce(), "rollout_mean_token_sum", None),
    "stratified_grpo": (PPO(), "seq_mean_token_mean", None),
}


def gradient(out, logprobs):
    (found,) = torch.autograd.grad(out.loss, logprobs.theta)
    return found.numpy()


@pytest.mark.parametrize("name", BY_HAND)
def test_the_call_by_hand_has_the_same_bits(name, same_bits):
    recipe, step = recipe_of(name), Step(21)
    batch = step.prepare(recipe)
    normalizer = Normalizer.local(batch.rows)
    ours, theirs = step.logprobs(grad=True), step.logprobs(grad=True)
    out = recipe.policy_loss(ours, batch, normalizer=normalizer)
    objective, aggregation, kl = BY_HAND[name]
    by_hand = policy_loss(
        theirs,
        batch.advantages,
        batch.rows,
        objective,
        normalizer=normalizer,
        aggregation=aggregation,
        level=batch.level,
        kl=kl,
    )
    same_bits(out.loss.detach(), by_hand.loss.detach())
    same_bits(gradient(out, ours), gradient(by_hand, theirs))
    assert out.metrics.to_dict() == by_hand.metrics.to_dict()


@pytest.mark.parametrize("recipe", ALL, ids=lambda r: r.name)
@pytest.mark.parametrize("truncated", ["keep", "mask"])
def test_micro_batches_add_up_to_the_step(recipe, truncated):
    step = Step(22)
    recipe = recipe.replace(truncated=truncated, correction=ImportanceWeight(2.0), entropy=0.01)
    batch = step.prepare(recipe)
    normalizer = Normalizer.local(batch.rows)
    entropy = torch.rand(len(step.theta), dtype=torch.float64)
    whole = step.logprobs(grad=True)
    out = recipe.policy_loss(whole, batch, normalizer=normalizer, entropy=entropy)
    expected = gradient(out, whole)
    assert np.abs(expected).max() > 0
    part_of = np.random.default_rng(0).integers(0, 4, step.rows.n_rollouts)[step.rows.rollouts.index]
    total, found = 0.0, np.zeros_like(expected)
    for number in range(4):
        rows = np.flatnonzero(part_of == number)[::-1].copy()
        micro = step.logprobs(rows=rows, grad=True)
        at = step.positions(rows)
        # By indices and by bools.
        part = batch.take(rows)
        assert part.rows.rollouts.ids == step.rows.take(rows).rollouts.ids
        one = recipe.policy_loss(micro, part, normalizer=normalizer, entropy=entropy[torch.from_numpy(at)])
        total += one.loss.item()
        found[at] += gradient(one, micro)
        again = batch.take(part_of == number)
        assert sorted(map(str, again.rows.rollouts.ids)) == sorted(map(str, part.rows.rollouts.ids))
        assert part.selection is batch.selection
    assert total == pytest.approx(out.loss.item(), rel=1e-12)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_dropped_rollouts_leave_the_denominator():
    rows = rm.Rows(["a", "b", "c", "d"], [2, 1, 3, 1])
    batch = get("dapo").prepare([1.0, 0.0, 1.0, 1.0], ["p", "p", "q", "q"], rows=rows)
    normalizer = Normalizer.local(batch.rows)
    assert (normalizer.tokens, normalizer.rows, normalizer.empty_rows) == (3, 2, 2)
    theta = torch.zeros(7, requires_grad=True)
    out = get("dapo").policy_loss(rm.LogProbs(theta), batch, normalizer=normalizer)
    slope = 0.5**0.5 / 3
    expected = [-slope, -slope, slope, 0, 0, 0, 0]
    np.testing.assert_allclose(gradient(out, rm.LogProbs(theta)), expected, rtol=1e-5)


def test_entropy_is_a_metric_without_a_coefficient_and_needed_with_one():
    step = Step(23)
    batch = step.prepare(get("dapo"))
    normalizer = Normalizer.local(batch.rows)
    entropy = torch.rand(len(step.theta), dtype=torch.float64, requires_grad=True)
    logprobs = step.logprobs(grad=True)
    out = get("dapo").policy_loss(logprobs, batch, normalizer=normalizer, entropy=entropy)
    plain = get("dapo").policy_loss(logprobs, batch, normalizer=normalizer)
    assert out.loss.item() == plain.loss.item()
    assert out.metrics["entropy"].item() > 0
    out.loss.backward()
    assert entropy.grad is None
    bonus = get("dapo", entropy=0.1)
    out = bonus.policy_loss(logprobs, batch, normalizer=normalizer, entropy=entropy)
    out.loss.backward()
    assert entropy.grad.abs().sum() > 0
    own = EntropyBonus(entropy, coef=0.2)
    more = bonus.policy_loss(logprobs, batch, normalizer=normalizer, entropy=own)
    assert more.loss.item() < out.loss.item()
    with pytest.raises(
        ValueError, match=r"policy_loss\(\): 'entropy' must be given, .* recipe 'dapo' has a bonus of 0.1"
    ):
        bonus.policy_loss(logprobs, batch, normalizer=normalizer)
    with pytest.raises(
        TypeError, match=r"policy_loss\(\): 'entropy' must be a tensor or an EntropyBonus, got an object"
    ):
        bonus.policy_loss(logprobs, batch, normalizer=normalizer, entropy=0.1)
    with pytest.raises(TypeError, match=r"policy_loss\(\): 'batch' must be a Batch, see Recipe.prepare, got an object"):
        bonus.policy_loss(logprobs, [1.0], normalizer=normalizer)


def test_the_kl_term_asks_for_its_reference():
    step = Step(25)
    batch = step.prepare(get("grpo"))
    logprobs = step.logprobs(grad=True)
    alone, normalizer = rm.LogProbs(logprobs.theta, prox=logprobs.prox), Normalizer.local(batch.rows)
    with pytest.raises(
        ValueError,
        match=r"policy_loss\(\): 'logprobs' must have 'ref' for the KL term of recipe 'grpo': LogProbs\(theta, "
        r"prox=..., ref=...\); or take recipe.replace\(kl=None\)",
    ):
        get("grpo").policy_loss(alone, batch, normalizer=normalizer)
    assert get("grpo").replace(kl=None).policy_loss(alone, batch, normalizer=normalizer).loss.isfinite()


def test_an_objective_with_statistics_of_the_step():
    step = Step(24)
    recipe = get("dapo").replace(objective=ClipCov(share=0.3, bounds=(-9, 9)))
    batch = step.prepare(recipe)
    logprobs = step.logprobs(grad=True)
    constants = step.logprobs()
    part = recipe.objective.prepare(constants, batch.advantages, batch.rows, level=batch.level)
    prepared = recipe.objective.with_parts([part])
    normalizer = Normalizer.local(batch.rows)
    out = recipe.policy_loss(logprobs, batch, normalizer=normalizer, objective=prepared)
    by_hand = policy_loss(logprobs, batch.advantages, batch.rows, prepared, normalizer=normalizer, level="rollout")
    assert out.loss.item() == by_hand.loss.item()
    weighted = recipe.policy_loss(
        logprobs, batch, normalizer=normalizer, objective=prepared, weight=np.zeros(len(step.theta))
    )
    assert weighted.loss.item() == 0
    corrected = recipe.policy_loss(
        logprobs, batch, normalizer=normalizer, objective=prepared, correction=ImportanceWeight(1e-9)
    )
    assert abs(corrected.loss.item()) < 1e-6

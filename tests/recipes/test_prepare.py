"""What a recipe prepares is what the calls by hand give, bit by bit."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from recipe_steps import ALL, Step  # noqa: E402

import rollmath as rm  # noqa: E402
from rollmath.recipes import Advantage, Filter, Overlong, get  # noqa: E402


def own_method(rewards, groups):
    """Rewards minus a half."""
    return rewards - 0.5


def lengths_method(rewards, groups, lengths, *, factor):
    """Asks for lengths and a column."""
    return np.asarray(rewards) * lengths * np.asarray(factor)


def row_method(rewards, rows):
    """One number a row."""
    return np.asarray(rewards)[rows.rollouts.index] * rows.segment


def expanded_method(rewards, rows):
    """One number a token."""
    return rows.expand(np.asarray(rewards) + 1.0)


def token_method(rewards, groups, mask, values):
    """A method of tokens without valid."""
    assert len(rewards) == len(groups) == len(mask) == len(values)
    spread = np.repeat(np.asarray(rewards) + 1.0, mask.lengths)
    return rm.Ragged(spread * mask.values * values.values, mask.offsets), None


def short_method(rewards, groups):
    """One too few."""
    return np.zeros(len(rewards) - 1)


@pytest.mark.parametrize("name", ["grpo", "cispo", "gspo"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_grpo_and_its_relatives(name, dtype, same_bits):
    step = Step(1, dtype=dtype)
    batch = step.prepare(get(name))
    same_bits(batch.advantages, rm.group.grpo(step.rewards, step.groups))
    assert batch.rows is step.rows
    assert batch.level == "rollout"
    same_bits(batch.advantages, get(name).advantages(step.rewards, step.groups))


def test_dr_grpo_and_stratified(same_bits):
    step = Step(2)
    same_bits(step.prepare(get("dr_grpo", max_length=9)).advantages, rm.group.dr_grpo(step.rewards, step.groups))
    by_hand = rm.group.stratified(step.rewards, step.groups, strata=step.strata, blend=0.8)
    recipe = get("stratified_grpo", advantage={"options": {"blend": 0.8}})
    same_bits(step.prepare(recipe).advantages, by_hand)


@pytest.mark.parametrize("masked", [True, False])
def test_dapo_drops_groups_without_spread(masked, same_bits):
    step = Step(3, masked=masked)
    batch = step.prepare(get("dapo"))
    chosen = rm.select.nonzero_spread(step.rewards, step.groups)
    assert 0 < len(chosen.indices) < 20
    assert batch.selection.mask.tolist() == chosen.mask.tolist()
    same_bits(batch.advantages, rm.group.grpo(step.rewards, step.groups, valid=chosen.mask))
    keep = np.repeat(chosen.mask[step.rows.rollouts.index], step.rows.lengths)
    assert (batch.rows.mask != 0).tolist() == (keep & step.trained).tolist()
    # The rows are those that were given, apart from the mask, which was not written to.
    assert (
        batch.rows.trained.tolist()
        == rm.Rows(step.rows.rollouts, step.rows.lengths, mask=batch.rows.mask).trained.tolist()
    )
    assert batch.rows.tokens is step.rows.tokens
    assert (step.rows.mask is None) != masked
    assert not masked or (step.rows.mask != 0).tolist() == step.trained.tolist()
    with pytest.raises(ValueError, match="read-only"):
        batch.rows.mask[0] = 1


def test_rloo_takes_the_kl_of_the_rollout_from_its_reward():
    step = Step(4)
    k1 = step.of_rollout(step.prox - step.ref)
    batch = step.prepare(get("rloo"))
    np.testing.assert_allclose(batch.rewards, step.rewards - 0.05 * np.array(k1), rtol=1e-12)
    np.testing.assert_allclose(batch.advantages, rm.group.rloo(batch.rewards, step.groups), rtol=1e-12)
    # Without prox, of theta; padded or packed.
    logprobs = step.logprobs(grad=True)
    alone = rm.LogProbs(logprobs.theta, ref=logprobs.ref)
    given = get("rloo").prepare(step.rewards, step.groups, rows=step.rows, logprobs=alone)
    np.testing.assert_allclose(given.rewards, step.rewards - 0.05 * np.array(step.of_rollout(step.theta - step.ref)))
    padded = rm.LogProbs(
        *(
            torch.tensor(rm.Ragged(x.detach().numpy(), step.rows.offsets).to_padded(9, fill=np.nan))
            for x in alone.given().values()
        )
    )
    padded = rm.LogProbs(padded.theta, ref=padded.prox)
    again = get("rloo").prepare(step.rewards, step.groups, rows=step.rows, logprobs=padded)
    assert again.rewards.tolist() == given.rewards.tolist()


@pytest.mark.parametrize("masked", [True, False])
def test_reinforce_pp_gives_each_row_the_reward_of_its_rollout(masked, same_bits):
    step = Step(5, masked=masked)
    rows, per_row = step.rows, step.rewards[step.rows.rollouts.index]
    live = rows.trained > 0
    layout = {"mask": rm.Ragged(rows.mask, rows.offsets)} if masked else {"lengths": rows.lengths}
    plain = step.prepare(get("reinforce_pp", reward_kl=0.0))
    by_hand = rm.group.reinforce_pp(per_row, valid=live, **layout)
    same_bits(plain.advantages.values, by_hand.values)
    assert plain.level == "token"
    # With the penalty: written out.
    tokens = np.where(step.trained, -0.01 * (step.prox - step.ref), 0.0)
    for i in np.flatnonzero(live):
        at = [t for t in range(rows.offsets[i], rows.offsets[i + 1]) if step.trained[t]]
        tokens[at[-1]] += per_row[i]
    layout.pop("lengths", None)
    expected = rm.group.reinforce_pp(rm.Ragged(tokens, rows.offsets), **layout)
    batch = step.prepare(get("reinforce_pp"))
    np.testing.assert_allclose(batch.advantages.values, expected.values, rtol=1e-11, atol=1e-11)
    assert batch.advantages.offsets.tolist() == rows.offsets.tolist()


@pytest.mark.parametrize("recipe", ALL, ids=lambda r: r.name)
def test_torch_comes_back_as_torch(recipe):
    step = Step(6, dtype=np.float32)
    expected = step.prepare(recipe)
    given = recipe.prepare(
        torch.tensor(step.rewards), torch.tensor(step.groups), rows=step.rows, **step.columns(recipe)
    )
    for got, of in ((given.advantages, expected.advantages), (given.rewards, expected.rewards)):
        values = got.values if isinstance(got, rm.Ragged) else got
        assert values.dtype == torch.float32
        assert values.tolist() == (of.values if isinstance(of, rm.Ragged) else of).tolist()
    assert given.selection.mask.dtype == torch.bool
    assert given.metrics == pytest.approx(expected.metrics, rel=1e-6)


def test_truncated_rollouts():
    step = Step(7)
    cut = step.truncated
    kept = step.prepare(get("grpo"), truncated=cut)
    assert kept.rows is step.rows
    masked = step.prepare(get("grpo", truncated="mask"))
    # TRL: in the statistics, and not trained.
    by_hand = np.where(cut, 0.0, rm.group.grpo(step.rewards, step.groups))
    assert masked.advantages.tolist() == by_hand.tolist()
    out = step.prepare(get("grpo", truncated="exclude"))
    assert out.advantages.tolist() == rm.group.grpo(step.rewards, step.groups, valid=~cut).tolist()
    for batch in (masked, out):
        assert batch.selection.mask.tolist() == (~cut).tolist()
        assert batch.metrics["rollouts/dropped/truncated"] == cut.sum()
        assert not batch.rows.trained[cut[step.rows.rollouts.index]].any()
    # Each rollout is dropped for one reason, its group before its length.
    both = step.prepare(get("dapo", truncated="mask"))
    chosen = rm.select.nonzero_spread(step.rewards, step.groups)
    assert both.metrics["rollouts/dropped/truncated"] == (cut & chosen.mask).sum()
    assert both.selection.mask.tolist() == (chosen.mask & ~cut).tolist()
    without = step.prepare(get("dapo", truncated="exclude"))
    rest = rm.select.nonzero_spread(step.rewards, step.groups, valid=~cut)
    assert without.selection.mask.tolist() == rest.mask.tolist()


def test_the_penalty_on_long_responses_and_what_the_filter_looks_at():
    step = Step(8)
    lengths = np.bincount(step.rows.rollouts.index, weights=step.rows.trained)
    penalty = rm.group.overlong_penalty(lengths, max_length=10, buffer=5)
    recipe = get("dapo", overlong={"max_length": 10, "buffer": 5})
    batch = step.prepare(recipe)
    shaped = step.rewards + penalty
    assert batch.rewards.tolist() == shaped.tolist()
    chosen = rm.select.nonzero_spread(step.rewards, step.groups)
    assert batch.advantages.tolist() == rm.group.grpo(shaped, step.groups, valid=chosen.mask).tolist()
    assert batch.metrics["reward/mean"] == step.rewards.mean()
    assert batch.metrics["reward/shaped_mean"] == pytest.approx(shaped.mean())
    by_shaped = step.prepare(recipe.replace(filter=Filter("nonzero_spread", on="shaped")))
    assert by_shaped.selection.mask.tolist() == rm.select.nonzero_spread(shaped, step.groups).mask.tolist()
    longer = step.prepare(recipe, lengths=lengths + 1)
    penalty = rm.group.overlong_penalty(lengths + 1, max_length=10, buffer=5)
    assert longer.rewards.tolist() == (step.rewards + penalty).tolist()
    accuracy = np.arange(20) % 2
    on_accuracy = get("dapo", filter={"on": "accuracy"})
    assert list(on_accuracy.needs) == ["accuracy"]
    got = on_accuracy.prepare(step.rewards, step.groups, rows=step.rows, accuracy=accuracy)
    assert got.selection.mask.tolist() == rm.select.nonzero_spread(accuracy, step.groups).mask.tolist()
    harsh = get("grpo", overlong={"max_length": 1000, "buffer": 5, "truncated": True})
    assert step.prepare(harsh).rewards.tolist() == (step.rewards - step.truncated).tolist()


def test_conventions():
    step = Step(9)
    for name in ("VERL", "TRL", "NEMO_RL", "DEFAULT"):
        framework = getattr(rm.conventions, name)
        options = framework.options.get("grpo", {}) if name != "DEFAULT" else {}
        expected = rm.group.grpo(step.rewards, step.groups, convention=framework, **options)
        recipe = get("grpo", convention=name)
        assert recipe == get("grpo").replace(convention=framework) or name == "DEFAULT"
        assert step.prepare(recipe).advantages.tolist() == expected.tolist()
    assert get("grpo", convention="paper").advantage.rules == rm.conventions.PAPER["grpo"]
    # A framework's options of a method that has no convention.
    recipe = get("reinforce_pp", reward_kl=0, convention="OPENRLHF")
    options = rm.conventions.OPENRLHF.options["reinforce_pp"]
    rows = step.rows
    by_hand = rm.group.reinforce_pp(
        step.rewards[rows.rollouts.index], mask=rm.Ragged(rows.mask, rows.offsets), valid=rows.trained > 0, **options
    )
    assert step.prepare(recipe).advantages.values.tolist() == by_hand.values.tolist()
    # A field of the convention goes before.
    small = get("grpo", advantage={"options": {"eps": 0.5}}, convention="VERL")
    assert (
        step.prepare(small).advantages.tolist()
        == rm.group.grpo(step.rewards, step.groups, convention=rm.conventions.VERL, eps=0.5).tolist()
    )


def test_missing_rewards_where_the_convention_omits_them():
    step = Step(10)
    step.rewards[::5] = np.nan
    recipe = get("dapo", convention="TRL")
    batch = step.prepare(recipe)
    chosen = rm.select.nonzero_spread(step.rewards, step.groups, nan="omit")
    assert batch.selection.mask.tolist() == chosen.mask.tolist()
    assert batch.metrics["rollouts/dropped/missing_reward"] == 4
    assert np.isfinite(list(batch.metrics.values())).all()
    with pytest.raises(ValueError, match="'rewards' must be finite"):
        step.prepare(get("dapo"))


def test_a_method_of_your_own():
    step = Step(11)
    chosen = rm.select.nonzero_spread(step.rewards, step.groups)
    recipe = get("dapo").replace(advantage=Advantage(own_method))
    batch = step.prepare(recipe)
    # It knows no `valid`: it sees what was kept, and the rest gets 0.
    assert batch.advantages.tolist() == np.where(chosen.mask, step.rewards - 0.5, 0.0).tolist()
    tensor = recipe.prepare(torch.tensor(step.rewards), step.groups, rows=step.rows)
    assert tensor.advantages.tolist() == batch.advantages.tolist()
    recipe = get("dapo").replace(advantage=Advantage(lengths_method))
    assert list(recipe.needs) == ["factor"]
    lengths = np.bincount(step.rows.rollouts.index, weights=step.rows.trained)
    batch = recipe.prepare(step.rewards, step.groups, rows=step.rows, factor=[2.0] * 20)
    assert batch.advantages.tolist() == np.where(chosen.mask, 2 * step.rewards * lengths, 0.0).tolist()
    recipe = get("grpo").replace(advantage=Advantage(row_method))
    batch = step.prepare(recipe)
    assert batch.level == "row"
    assert batch.advantages.tolist() == (step.rewards[step.rows.rollouts.index] * step.rows.segment).tolist()
    assert batch.take([3, 1]).advantages.tolist() == batch.advantages[[3, 1]].tolist()


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("all_dropped", [True, False])
def test_a_method_of_your_own_sees_the_rows_of_what_was_kept(masked, all_dropped):
    step = Step(12, masked=masked)
    if all_dropped:
        step.rewards[:] = 1
    rows, index = step.rows, step.rows.rollouts.index
    kept = rm.select.nonzero_spread(step.rewards, step.groups).mask
    assert kept.any() != all_dropped
    dapo = get("dapo")
    batch = step.prepare(dapo.replace(advantage=Advantage(row_method)))
    expected = (step.rewards * kept)[index] * rows.segment
    assert batch.advantages.tolist() == (expected.tolist() if kept.any() else [0.0] * 20)
    batch = step.prepare(dapo.replace(advantage=Advantage(expanded_method)))
    per_row = (step.rewards + 1)[index] * kept[index]
    on_tokens = np.repeat(per_row, rows.lengths)
    if kept.any():
        assert batch.level == "token"
        assert batch.advantages.values.tolist() == on_tokens.tolist()
    values = rm.Ragged(np.arange(1.0, len(on_tokens) + 1), rows.offsets)
    recipe = dapo.replace(advantage=Advantage(token_method))
    assert list(recipe.needs) == ["values"]
    for rewards in (step.rewards, torch.tensor(step.rewards)):
        batch = recipe.prepare(rewards, step.groups, rows=rows, values=values)
        assert np.asarray(batch.advantages.values).tolist() == (on_tokens * step.trained * values.values).tolist()
    if kept.any():
        wrong = dapo.replace(advantage=Advantage(short_method))
        with pytest.raises(
            ValueError,
            match=rf"prepare\(\): advantage '.*short_method', which takes no 'valid', must give one number for each of "
            rf"the {kept.sum()} rollouts that it saw, got a 1-D float64 array of length {kept.sum() - 1}",
        ):
            step.prepare(wrong)


def test_log_probabilities_that_the_method_itself_takes():
    rows = rm.Rows(list("abc"), [2, 3, 1])
    columns = {
        name: rm.Ragged(np.full(6, x), rows.offsets) for name, x in (("logprobs", -0.5), ("sum_pi_squared", 0.5))
    }
    recipe = get("dapo", advantage="group.optimal_token_baseline", filter=False)
    assert recipe.needs["logprobs"] == "an argument of group.optimal_token_baseline: see its documentation"
    batch = recipe.prepare([1.0, 0.0, 1.0], [0, 0, 0], rows=rows, **columns)
    by_hand = rm.group.optimal_token_baseline(np.array([1.0, 0, 1]), [0, 0, 0], **columns)
    assert batch.advantages.values.tolist() == by_hand.values.tolist()
    with pytest.raises(ValueError, match=r"needs 'logprobs' \(an argument of group.optimal_token_baseline: see"):
        recipe.prepare([1.0, 0.0, 1.0], [0, 0, 0], rows=rows)


def test_lists_of_rewards_are_arrays_to_a_method():
    rows = rm.Rows(["a", "b"], [1, 1])
    recipe = get("grpo").replace(advantage=Advantage(own_method))
    batch = recipe.prepare([1, 0], ["p", "p"], rows=rows)
    assert batch.advantages.tolist() == recipe.advantages([1, 0], ["p", "p"]).tolist() == [0.5, -0.5]
    assert isinstance(batch.rewards, np.ndarray)


def test_rewards_of_excluded_rollouts_may_be_anything():
    rows = rm.Rows(list("abcd"), [1, 1, 1, 1])
    recipe = get("dapo", truncated="exclude", max_length=4)
    for bad in (np.nan, np.inf, -np.inf):
        batch = recipe.prepare([bad, 1, 0, 1], ["p", "p", "q", "q"], rows=rows, truncated=[1, 0, 0, 0])
        assert batch.advantages[2] == -batch.advantages[3] < 0
        assert batch.metrics["reward/mean"] == batch.metrics["reward/shaped_mean"] == pytest.approx(2 / 3)
        assert np.isfinite(list(batch.metrics.values())).all()


def test_metrics_are_plain_numbers():
    rows = rm.Rows(["a", "b", "c", "d", "e"], [2, 1, 1, 3, 1])
    batch = get("dapo").prepare([1.0, 0.0, 1.0, 1.0, 0.5], ["p", "p", "q", "q", "s"], rows=rows)
    assert batch.metrics == {
        "reward/mean": 0.7,
        "reward/std": pytest.approx(0.4),
        "groups/count": 3.0,
        "groups/no_spread": 1.0,
        "groups/of_one": 1.0,
        "groups/dropped": 2.0,
        "rollouts/count": 5.0,
        "rollouts/dropped": 3.0,
        "rollouts/dropped/no_spread": 2.0,
        "rollouts/dropped/group_of_one": 1.0,
        "tokens/trained": 3.0,
        "advantage/mean": 0.0,
        "advantage/rms": pytest.approx(0.5**0.5, rel=1e-5),
        "advantage/nonzero": 1.0,
    }
    assert all(type(x) is float for x in batch.metrics.values())
    empty = get("dapo").prepare([], [], rows=rm.Rows([], []))
    assert empty.metrics["advantage/nonzero"] == 0
    assert repr(batch) == "Batch(Rows(5 rows of 5 rollouts, 3 of 8 positions trained), one advantage a rollout)"
    assert len(batch) == 5


def test_overlong_as_a_part():
    assert Overlong(max_length=10, buffer=2)([9, 12]).tolist() == [-0.5, -1.0]

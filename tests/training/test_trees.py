"""Sampled trees and probed chains: exact log-probabilities, tokens counted once, the promised shapes."""

import itertools
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import rollmath as rm
from rollmath.demo.clock import Clock

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed")

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parents[2]))
    from bench.training import chains, model, tree_arms, update
    from bench.training.arms import Pool, Scene, levels, usual_length
    from bench.training.sample import Continuation, sample_flat
    from bench.training.table import ARMS
    from bench.training.tasks import get
    from bench.training.trees import Growing

PROMPTS = 6
DRAWS = {
    "levels": levels((3, 2, 2), 9, PROMPTS),
    "eptree": tree_arms.surprisal_trees(PROMPTS, chains=2, forks=2, rounds=2, fresh=2),
    "eptree_born": tree_arms.with_birth(tree_arms.surprisal_trees(PROMPTS, chains=2, forks=2, rounds=2, fresh=2)),
    "steps": tree_arms.step_trees(PROMPTS, trees=2, expansions=2, rounds=2),
    "spo_chain": tree_arms.probed_chains(PROMPTS, chains.by_probability(1), size=2, probes=3, threshold=0.9),
    "vineppo": tree_arms.probed_chains(PROMPTS, chains.by_steps, size=2, probes=3),
}
TREES = ("levels", "eptree", "steps")
OF_ARM = {
    "tree_rl": "eptree",
    "outside_subtree_eptree": "eptree_born",
    "tree_grpo": "steps",
    "spo_chain": "spo_chain",
    "vineppo": "vineppo",
}


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def start():
    task = get("short_sums")
    return SimpleNamespace(
        task=task, model=model.load(task.checkpoint), items=list(itertools.islice(task.stream(3), 40))
    )


def scene(seed=0):
    base = start()
    return Scene(base.model, base.task, Pool(base.items, seed), torch.Generator().manual_seed(seed))


@cache
def drawn(name, seed=0):
    return DRAWS[name](scene(seed))


def nodes_of(sample):
    """Tokens, log-probabilities and parent of each node; they must be the same in all rollouts that have it."""
    found = {}
    for row, (path, sizes) in enumerate(zip(sample.paths, sample.path_lengths, strict=True)):
        assert sum(sizes) == sample.lengths[row]
        ends = np.cumsum(sizes).tolist()
        for k, (node, size, end) in enumerate(zip(path, sizes, ends, strict=True)):
            part = slice(end - size, end)
            parent = path[k - 1] if k else -1
            what = (tuple(sample.tokens[row, part].tolist()), tuple(sample.logprobs[row, part].tolist()), parent)
            assert found.setdefault(node, what) == what
    return found


@pytest.mark.parametrize("name", DRAWS)
def test_logprobs_and_entropies_are_those_of_a_plain_forward(name):
    sample, base = drawn(name), start()
    there = update.inside(sample)
    plain = update.evaluate_logprobs(base.model, sample)
    assert torch.allclose(sample.logprobs[there], plain[there], atol=2e-4)
    with torch.no_grad():
        logits, _ = update.logits_of(base.model, sample, np.arange(len(sample)), sample.tokens.shape[1])
    logp = logits.log_softmax(-1)
    entropy = -(logp.exp() * logp).sum(-1)
    assert torch.allclose(sample.entropy[there], entropy[there], atol=2e-4)


@pytest.mark.parametrize("name", DRAWS)
def test_rollouts_end_and_are_scored(name):
    sample, base = drawn(name), start()
    for row, n in enumerate(sample.lengths.tolist()):
        tokens = sample.tokens[row, :n].tolist()
        assert (tokens[-1] == base.task.stop_token) != (n == base.task.max_response)
        assert base.task.stop_token not in tokens[:-1]
        item = sample.items[sample.group[row]]
        assert sample.rewards[row] == base.task.reward(item, tokens)
        assert sample.prompts[row].tolist() == list(item.prompt)


@pytest.mark.parametrize("name", TREES)
def test_a_shared_token_counts_once(name):
    sample = drawn(name)
    nodes = nodes_of(sample)
    assert sample.sampled == sum(len(tokens) for tokens, _, _ in nodes.values()) < sample.lengths.sum()
    assert len({path[-1] for path in sample.paths}) == len(sample)
    assert all(tokens for tokens, _, parent in nodes.values() if parent >= 0)


@pytest.mark.parametrize("name", DRAWS)
def test_equal_seeds_draw_the_same(name):
    sample, again, other = drawn(name), DRAWS[name](scene()), drawn(name, 1)
    assert torch.equal(sample.tokens, again.tokens)
    assert torch.equal(sample.logprobs, again.logprobs)
    assert sample.sampled == again.sampled
    assert sample.paths == again.paths
    assert sample.tokens.shape != other.tokens.shape or not torch.equal(sample.tokens, other.tokens)


def test_eptree_forks_each_chain_at_its_most_surprising_tokens():
    sample = tree_arms.surprisal_trees(PROMPTS, chains=3, forks=2, rounds=1, fresh=2)(scene())
    nodes = nodes_of(sample)
    first = PROMPTS * 4  # roots, then chains: theirs are the first ids
    assert np.bincount(sample.group).tolist() == [3 * (1 + 2 * 2)] * PROMPTS
    for path, n, logprobs in zip(sample.paths, sample.lengths.tolist(), sample.logprobs, strict=True):
        if path[-1] >= first:
            continue
        sizes = [len(nodes[node][0]) for node in path]
        forks = np.cumsum(sizes)[:-1].tolist()[1:]
        surprisal = -logprobs[1:n].numpy()
        assert forks == sorted((np.argsort(-surprisal, kind="stable")[:2] + 1).tolist())
        for node in path[1:-1]:
            assert sum(parent == node for _, _, parent in nodes.values()) == 1 + 2
    forked = [path for path in sample.paths if path[-1] >= first]
    assert len(forked) == PROMPTS * 3 * 2 * 2


def test_eptree_of_two_rounds_takes_no_token_twice():
    sample = drawn("eptree")
    nodes = nodes_of(sample)
    assert np.bincount(sample.group).tolist() == [2 * (1 + 2 * 2 * 2)] * PROMPTS
    children = np.bincount([parent for _, _, parent in nodes.values() if parent >= PROMPTS])
    # The rest of a branch and the fresh rollouts; a token that was taken twice would have two more.
    assert set(children.tolist()) == {0, 1 + 2}
    roots = [parent for _, _, parent in nodes.values() if 0 <= parent < PROMPTS]
    assert np.bincount(roots).tolist() == [2] * PROMPTS


def test_tree_grpo_grows_at_step_boundaries():
    sample, step = drawn("steps"), start().task.step_token
    nodes = nodes_of(sample)
    assert np.bincount(sample.group).tolist() == [2 * (1 + 2 * 2)] * PROMPTS
    trees = {path[0]: group for path, group in zip(sample.paths, sample.group.tolist(), strict=True)}
    assert trees == {root: root // 2 for root in range(2 * PROMPTS)}
    leaves = {path[-1] for path in sample.paths}
    for node, (tokens, _, _) in nodes.items():
        assert step not in tokens[:-1]
        assert node in leaves or not tokens or tokens[-1] == step
    branched = np.bincount([parent for _, _, parent in nodes.values() if parent >= 0]) > 1
    assert branched[: 2 * PROMPTS].any()
    assert branched[2 * PROMPTS :].any()


def test_split_and_cut_keep_what_was_sampled():
    base = start()
    growing = Growing(base.items[:2], trees=2)
    new = Continuation(*(torch.arange(5.0)[None].repeat(4, 1),) * 3, torch.full((4,), 5), torch.ones(4))
    leaves = growing.add(range(4), new)
    assert growing.prompts.tolist() == [list(base.items[i].prompt) for i in (0, 0, 1, 1)]
    assert growing.split(leaves[1], 0) == 1
    upper = growing.split(leaves[1], 3)
    assert growing.split(leaves[1], 3) == upper
    top = growing.split(leaves[1], 1)
    assert growing.path(leaves[1]) == [1, top, upper, leaves[1]]
    assert [growing.logprobs[v] for v in growing.path(leaves[1])] == [[], [0.0], [1.0, 2.0], [3.0, 4.0]]
    assert growing.split(leaves[1], 5) == leaves[1]
    with pytest.raises(ValueError, match=r"split\(\): 'at' must be at most 5"):
        growing.split(leaves[1], 6)


@pytest.mark.parametrize("name", ["spo_chain", "vineppo"])
def test_probes_go_on_from_the_cuts_and_count(name, monkeypatch):
    base, calls = start(), []
    extend = chains.extend

    def recorded(*arguments):
        out = extend(*arguments)
        calls.append((arguments[1], arguments[2], out))
        return out

    monkeypatch.setattr(chains, "extend", recorded)
    sample = DRAWS[name](scene())
    ((prefixes, copies, new),) = calls
    assert sample.sampled == sample.lengths.sum() + new.lengths.sum()
    rewards = {}
    for i, row, n in zip(copies.tolist(), new.tokens.tolist(), new.lengths.tolist(), strict=True):
        before = tuple(prefixes.tokens[i, : prefixes.lengths[i]].tolist())
        width = base.task.prompt_width
        item = next(item for item in sample.items if item.prompt == before[:width])
        response = [*before[width:], *row[:n]]
        assert len(response) <= base.task.max_response
        rewards.setdefault(before, []).append(base.task.reward(item, response))
    assert len(rewards) == len(prefixes.lengths)  # an equal prefix is probed once
    cuts, values = sample.columns["cuts"], sample.columns["values"]
    for row in range(len(sample)):
        part = slice(cuts.offsets[row], cuts.offsets[row + 1])
        for at, value in zip(cuts.values[part].tolist(), values.values[part].tolist(), strict=True):
            before = (*sample.prompts[row].tolist(), *sample.tokens[row, : at + 1].tolist())
            assert len(rewards[before]) == 3
            assert value == pytest.approx(np.mean(rewards[before]))


def test_spo_chain_trains_uncertain_tokens_alone():
    sample = drawn("spo_chain")
    there = update.inside(sample)
    low = (sample.logprobs < np.log(0.9)) & there
    assert torch.equal(sample.trained, low)
    batch = update.prepare(ARMS["spo_chain"].recipe(start().task), sample)
    assert batch.rows.trained.sum() == int(low.sum())
    assert np.asarray(batch.advantages.values)[low[there].numpy()].mean() == pytest.approx(0.0, abs=1e-6)
    normalizer = rm.loss.Normalizer.local(batch.rows)
    assert normalizer == rm.loss.Normalizer.local(batch.take(np.arange(len(sample))).rows)


def test_cuts_at_steps_without_a_threshold_are_vineppo():
    sample, base = drawn("vineppo"), start()
    columns = sample.columns
    values = columns["values"]
    gains = rm.tree.vineppo(values, sample.rewards)
    flat = rm.Ragged.from_lengths(sample.tokens[update.inside(sample)].numpy(), sample.lengths)
    ends = rm.ops.cut_by_delimiter(flat, base.task.step_token)
    expected = rm.ops.whiten(rm.ops.expand_segments(gains, ends, lengths=sample.lengths).values)
    found = update.prepare(ARMS["vineppo"].recipe(base.task), sample).advantages
    assert np.allclose(found.values, expected, atol=1e-6)


@pytest.mark.parametrize("arm", ["spo_tree", "tree_rl", "tree_grpo", "spo_chain", "vineppo_9"])
def test_a_step_samples_what_flat_groups_do(arm):
    base = start()
    later = Scene(base.model, base.task, Pool(base.items * 4, 0), torch.Generator().manual_seed(0))
    ARMS[arm].draw(later)
    sample = ARMS[arm].draw(later)
    assert sample.sampled == pytest.approx(512 * usual_length(sample), rel=0.2)
    assert 4 <= later.memory["prompts"] <= 256


@pytest.mark.parametrize("name", TREES)
def test_usual_length_is_that_of_flat_rollouts(name):
    # Forked rollouts are longer: of the leaves of "levels" by a tenth.
    base = start()
    many = Pool(list(itertools.islice(base.task.stream(9), 150)), 0)
    draw = {"levels": levels(prompts=150), "eptree": tree_arms.eptree(150), "steps": tree_arms.step_trees(150, trees=3)}
    sample = draw[name](Scene(base.model, base.task, many, torch.Generator().manual_seed(0)))
    plain = sample_flat(base.model, base.task, sample.items, 8, torch.Generator().manual_seed(1))
    assert usual_length(sample) == pytest.approx(plain.lengths.mean(), rel=0.03)


def test_segments_are_a_third_of_a_usual_response():
    base = start()
    sample = sample_flat(base.model, base.task, base.items, 4, torch.Generator().manual_seed(0))
    assert base.task.usual_response == pytest.approx(sample.lengths.mean(), abs=2)
    nodes = nodes_of(levels(prompts=PROMPTS)(scene()))
    assert max(len(tokens) for tokens, _, parent in nodes.values() if 0 <= parent < PROMPTS) == 8


def test_beside_fresh_leaves_out_what_a_fork_was_chosen_by():
    # A chain (1) is forked before its rest (2): 3 and 4 are fresh. 5 is another chain.
    forest = rm.Forest.from_parents([-1, 0, 1, 1, 1, 0])
    born = np.array([2.0, 3.0, 4.0, 2.5])
    found = tree_arms.beside_fresh(forest, np.array([0.0, 1.0, 0.0, 1.0]), born=born)
    assert found.tolist() == [0.0, -0.5, -0.5, 1.0, -1.0, 0.5]
    flat = rm.Forest.from_parents([-1, 0, 0, 0])
    rewards = np.array([1.0, 0.0, 1.0])
    found = tree_arms.beside_fresh(flat, rewards, born=np.array([1.0, 2.0, 3.0]))
    assert np.allclose(found[1:], rm.group.rloo(rewards, ["a"] * 3))
    alone = rm.Forest.from_parents([-1, 0, 1, 1])  # one chain, one fresh rollout: nobody to compare that with
    found = tree_arms.beside_fresh(alone, np.array([0.0, 1.0]), born=np.array([1.0, 2.0]))
    assert found.tolist() == [0.0, 0.0, -1.0, 0.0]


@pytest.mark.parametrize("arm", OF_ARM)
def test_every_arm_prepares(arm):
    sample = drawn(OF_ARM[arm])
    batch = update.prepare(ARMS[arm].recipe(start().task), sample)
    flat = np.asarray(batch.advantages.values if isinstance(batch.advantages, rm.Ragged) else batch.advantages)
    assert np.isfinite(flat).all()
    assert (flat != 0).any()
    assert 0 < batch.rows.trained.sum() <= sample.lengths.sum()


@pytest.mark.parametrize("arm", ["tree_rl", "outside_subtree_eptree", "tree_grpo"])
def test_packed_losses_are_those_of_rows(arm):
    assert ARMS[arm].settings == {"packed": True}
    base, sample = start(), drawn(OF_ARM[arm])
    recipe = ARMS[arm].recipe(base.task)
    found = {}
    for packed in (False, True):
        settings = update.Settings(packed=packed, minibatches=1)
        ((part, active),) = update.parts(recipe, sample, settings)
        members = np.asarray(part.rows.rollouts.ids)
        base.model.zero_grad()
        out, computed = update.loss_of(
            base.model, recipe, sample, part, members, active, settings, sample.logprobs, Clock()
        )
        out.loss.backward()
        gradient = torch.cat([p.grad.flatten() for p in base.model.parameters()])
        found[packed] = out.loss.item(), gradient, computed
    base.model.zero_grad()
    assert found[True][0] == pytest.approx(found[False][0], abs=1e-5)
    norm = found[False][1].norm()
    assert (found[True][1] - found[False][1]).norm() < 1e-3 * norm
    assert found[True][2] < found[False][2] / 2

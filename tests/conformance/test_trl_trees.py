"""Trees in TRL's trainer: sampled by its own model, with the advantages of `rollmath.tree` on the same rollouts."""

import importlib.util
import math

import numpy as np
import pytest

import rollmath as rm

if importlib.util.find_spec("trl") is None:
    pytest.skip("trl is not installed; `make test-peers` has an environment for it", allow_module_level=True)

import torch
import trl_tiny as tiny

from rollmath.adapters.trl import tree_rollout

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

SPO = {"recipe": "spo_tree", "kl": False}


@pytest.fixture
def train(peer, tmp_path, monkeypatch):
    """``train(recipe, branching)``: our trainer after its steps, what its loss was given and its rollouts returned."""
    peer("trl")
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")

    def run(recipe, branching=(2, 2), segment_tokens=4, given=None, **options):
        sample, seen = tree_rollout(branching, segment_tokens=segment_tokens), []

        def rollout(prompts, trainer):
            seen.append(sample(prompts, trainer))
            return seen[-1]

        kind = tiny.recorder(tiny.trainers("GRPOTrainer")[1])
        told = {"beta": 0.0, "num_generations": math.prod(branching), "learning_rate": 1e-2} | options
        parts = {"recipe": recipe} if given is None else given
        made = tiny.train(kind, tmp_path, given=parts, rollout_func=rollout, **told)
        made.rollouts = seen
        return made

    return run


def forest_of(rollouts):
    """The forest of what a rollout_func returned, without copies, and the number of each rollout in it; by hand."""
    paths = [tuple(path) for path in rollouts["paths"]]
    nodes = list(dict.fromkeys(path[:k] for path in paths for k in range(1, len(path) + 1)))
    parents = [nodes.index(node[:-1]) if len(node) > 1 else -1 for node in nodes]
    lengths = {path[:k]: n for path, of in zip(paths, rollouts["path_lengths"], strict=True)
               for k, n in enumerate(of, start=1)}  # fmt: skip
    forest = rm.Forest.from_parents(parents, lengths=[lengths[node] for node in nodes])
    leaves = [nodes[v] for v in forest.leaves.tolist()]
    return forest, [leaves.index(path) for path in paths]


def expected(rollouts, rewards, *, shared, zeros):
    """Advantages and mask, padded, of all rows: each node by `tree.spo`, once."""
    forest, number = forest_of(rollouts)
    reward = dict(zip(number, rewards, strict=True))
    values = forest.expand(rm.tree.spo(forest, [reward[i] for i in range(forest.n_leaves)]), per="rollout").to_lists()
    width = max(map(len, rollouts["completion_ids"]))
    advantages, mask, done, copies = np.zeros((2, len(number), width)), None, set(), set()
    advantages, mask = advantages
    for row, (i, path, lengths) in enumerate(zip(number, rollouts["paths"], rollouts["path_lengths"], strict=True)):
        if i in copies:
            continue
        copies.add(i)
        tokens = [(tuple(path[: k + 1]), t) for k, n in enumerate(lengths) if k for t in range(n)]
        for column, (token, value) in enumerate(zip(tokens, values[i], strict=True)):
            trains = not (shared == "once" and token in done) and not (zeros == "drop" and value == 0)
            done.add(token)
            advantages[row, column], mask[row, column] = value * trains, trains
    return advantages, mask


@pytest.mark.parametrize("changes", [{}, {"shared": "per_rollout", "zeros": "keep"}])
def test_two_steps_of_spo(train, changes):
    made = train(SPO | changes, max_steps=2)
    assert len(made.rollouts) == len(made.batches) == 2
    copies = 0
    for rollouts, (inputs, loss) in zip(made.rollouts, made.batches, strict=True):
        # Rows were shuffled after the rollout.
        order = inputs["rollmath_rollout"].argsort()
        ids = inputs["completion_ids"][order]
        assert [row[: len(of)].tolist() for row, of in zip(ids, rollouts["completion_ids"], strict=True)] == rollouts[
            "completion_ids"
        ]
        texts = made.processing_class.batch_decode(rollouts["completion_ids"], skip_special_tokens=True)
        advantages, mask = expected(
            rollouts, tiny.letters(texts), shared=changes.get("shared", "once"), zeros=changes.get("zeros", "drop")
        )
        width = advantages.shape[1]
        np.testing.assert_allclose(inputs["advantages"][order][:, :width], advantages, atol=1e-6)
        assert (inputs["rollmath_mask"][order][:, :width].numpy() == mask).all()
        assert int(inputs["rollmath_mask"].sum()) == int(inputs["num_items_in_batch"]) == mask.sum()
        # At ratio 1, the loss of a token is minus its advantage.
        assert float(loss) == pytest.approx(-advantages.sum() / max(mask.sum(), 1), abs=1e-6)
        copies += len(rollouts["paths"]) - len({tuple(path) for path in rollouts["paths"]})
        assert mask.sum() > 0
    assert copies > 0, "no leaf on an inner level in this run"
    assert len(tiny.curve(made, "rollmath/rollouts/dropped/copy")) == sum(
        len({tuple(path) for path in x["paths"]}) < len(x["paths"]) for x in made.rollouts
    )


def test_the_gradient_is_that_of_the_edges_alone(train):
    """The gradient of the first step, beside one that has every trained token once and knows no recipe."""
    made = train(SPO, max_steps=1, max_grad_norm=1e9, learning_rate=0.0)
    (inputs, _), (rollouts,) = made.batches[0], made.rollouts
    order = inputs["rollmath_rollout"].argsort()
    advantages, mask = expected(rollouts, made._logs["rewards"]["letters"], shared="once", zeros="drop")
    model = tiny.model()
    width = inputs["completion_ids"].shape[1]
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)[order]
    attention = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)[order]
    logits = model(input_ids=ids, attention_mask=attention).logits[:, -width - 1 : -1]
    logp = logits.log_softmax(-1).gather(2, ids[:, -width:, None])[..., 0]
    full = np.zeros(logp.shape)
    full[:, : advantages.shape[1]] = advantages
    (-(logp * torch.tensor(full)).sum() / mask.sum()).backward()
    norm = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm()
    assert tiny.curve(made, "grad_norm") == pytest.approx([float(norm)], rel=1e-4)


def test_the_rollout_is_a_tree(train):
    made = train(SPO, branching=(2, 2, 2), segment_tokens=(2, 5), max_steps=1, max_completion_length=9)
    (rollouts,) = made.rollouts
    assert rollouts["logprobs"] is None
    prompts = {}
    for prompt, ids, path, lengths in zip(
        *(rollouts[name] for name in ("prompt_ids", "completion_ids", "paths", "path_lengths")), strict=True
    ):
        assert prompts.setdefault(path[0], prompt) == prompt
        assert lengths[0] == len(prompt)
        assert sum(lengths[1:]) == len(ids)
        ended = ids[-1] == tiny.EOS
        assert tiny.EOS not in ids[:-1]
        # Full segments, but for the last one of a completion that ends.
        assert lengths[1:] == [2, 5, 2][: len(lengths) - 1] or ended
        assert lengths[1:-1] == [2, 5, 2][: len(lengths) - 2]
        assert len(lengths) == 4 or ended
    assert [len(list(of)) for of in (prompts, rollouts["paths"])] == [1, 8]
    # Whoever has the same nodes has the same tokens.
    tokens = {}
    for ids, path, lengths in zip(rollouts["completion_ids"], rollouts["paths"], rollouts["path_lengths"], strict=True):
        for k, end in enumerate(np.cumsum(lengths[1:])):
            assert tokens.setdefault(tuple(path[: k + 2]), ids[:end]) == ids[:end]
    slots = {tuple(path): rollouts["paths"].count(path) for path in rollouts["paths"]}
    assert all(n == 2 ** (4 - len(path)) for path, n in slots.items())


def test_other_recipes_and_functions(train):
    """A method of rollouts; a part of a recipe; and one that knows nothing of trees, for which copies are rollouts."""
    made = train({"recipe": "tree_grpo", "kl": False}, max_steps=1)
    (inputs, _), (rollouts,) = made.batches[0], made.rollouts
    order = inputs["rollmath_rollout"].argsort()
    found = inputs["advantages"][order].tolist()
    forest, number = forest_of(rollouts)
    rewards = dict(zip(number, made._logs["rewards"]["letters"], strict=True))
    by_hand = rm.tree.tree_grpo(forest, [rewards[i] for i in range(forest.n_leaves)]).tolist()
    first = [number.index(i) for i in range(forest.n_leaves)]
    assert found == pytest.approx([by_hand[i] if row in first else 0 for row, i in enumerate(number)], abs=1e-6)
    kept = list(made._logs["extra"]["kept"])
    assert kept == [row in first for row in range(8)]
    given = {"advantage": rm.recipes.Advantage("tree.spo"), "aggregation": "token_mean"}
    part = train(None, given=given, max_steps=1)
    assert part.batches[0][0]["advantages"].dim() == 2
    plain = train("dapo", max_steps=1)
    assert int(plain.batches[0][0]["rollmath_mask"].any(1).sum()) in {0, 4, 8}


def test_rollouts_without_a_reward(train):
    def sometimes(completions, **columns):
        return [None if "h" in text else x for text, x in zip(completions, tiny.letters(completions), strict=True)]

    made = train(SPO, max_steps=2, rewards=sometimes)
    assert all(math.isfinite(x) for x in tiny.curve(made, "grad_norm"))


def test_an_evaluation(train):
    made = train(SPO, max_steps=1)
    made.eval_dataset = tiny.dataset(8)
    assert math.isfinite(made.evaluate()["eval_loss"])


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        (((2, 0), 4), ValueError, r"tree_rollout\(\): 'branching\[1\]' must be at least 1"),
        (("44", 4), TypeError, r"tree_rollout\(\): 'branching' must be a list with one number a level"),
        (((), 4), TypeError, r"tree_rollout\(\): 'branching' must be a list with one number a level"),
        (((2, 2), 0), ValueError, r"'segment_tokens\[0\]' must be at least 1"),
        (((2, 2), (4, 4)), ValueError, r"'segment_tokens' must have length 1 \(= len\(branching\) - 1\), got 2"),
        (((2, 2.5), 4), TypeError, r"'branching\[1\]' must be"),
    ],
)
def test_what_makes_no_tree(arguments, kind, text):
    with pytest.raises(kind, match=text):
        tree_rollout(arguments[0], segment_tokens=arguments[1])


def test_what_the_trainer_must_have(train):
    with pytest.raises(ValueError, match="the product of 'branching', 4, must be num_generations of the config, which"):
        train(SPO, num_generations=8, max_steps=1)
    with pytest.raises(ValueError, match="'segment_tokens' must leave tokens for the last level, but 12 is not less"):
        train(SPO, segment_tokens=12, max_steps=1)

"""The diagnostics against a task so small that all its responses can be written down."""

import copy
import itertools
import json
import random
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed")
if (root := str(Path(__file__).parents[2])) not in sys.path:
    sys.path.insert(0, root)

# ruff: noqa: E402 - `bench` lies at the root of the repository, which pytest does not put on the path
import rollmath as rm
from bench.training import credit, diagnose, gradients
from bench.training import model as models
from bench.training.arms import Arm, even, flat, levels, named
from bench.training.credit import Credit
from bench.training.sample import sample_flat
from bench.training.tasks import Item, Task
from bench.training.update import Settings, parts, prepare, signal_tokens
from rollmath.demo.model import CharTransformer, ModelConfig
from rollmath.recipes import Advantage


class Tiny(Task):
    """Write as many a's as b's, and the prompt says whether `;` may stand in between."""

    name = "tiny"
    symbols = " ab;."
    stop, step_end = ".", ";"
    prompt_width = 2
    max_response = 4
    held_out = ()
    tuning = ()

    def draw(self, seed, size):
        dice = random.Random(seed)
        return [self.item(dice.choice(("aa", "ab"))) for _ in range(size)]

    def item(self, text):
        return Item(text, self.prompt(text), {}, 1)

    def worked(self, item, dice, slip):
        return "ab."

    def score(self, item, response):
        even = response.count("a") == response.count("b") and len(response) > 0
        return float(even and (item.key == "aa" or ";" not in response))


TASK = Tiny()
ITEMS = [TASK.item("aa"), TASK.item("ab")]


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(5)
    made = CharTransformer(ModelConfig(len(TASK.symbols), width=8, layers=1, heads=2, context=TASK.context))
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8.0)  # a policy that is not uniform
    return made


def all_responses():
    """Every response that can be sampled."""
    stop, found, open_ends = TASK.stop_token, [], [()]
    for _ in range(TASK.max_response):
        longer = [(*text, token) for text in open_ends for token in range(len(TASK.symbols))]
        found += [text for text in longer if text[-1] == stop]
        open_ends = [text for text in longer if text[-1] != stop]
    return found + open_ends


RESPONSES = all_responses()


def response_probabilities(model, item):
    """Of every response, differentiable."""
    rows = [[*item.prompt, *text, *[0] * (TASK.max_response - len(text))] for text in RESPONSES]
    tokens = torch.tensor(rows)
    logp = models.run(model, tokens[:, :-1])[:, TASK.prompt_width - 1 :].log_softmax(-1)
    logp = logp.gather(2, tokens[:, TASK.prompt_width :, None])[..., 0]
    inside = torch.arange(TASK.max_response) < torch.tensor([len(text) for text in RESPONSES])[:, None]
    return (logp * inside).sum(1).exp()


def expected_reward(model):
    """Exact, over the two questions, which are equally likely."""
    total = 0.0
    for item in ITEMS:
        rewards = torch.tensor([TASK.reward(item, text) for text in RESPONSES], dtype=torch.float64)
        total = total + (response_probabilities(model, item) * rewards).sum() / len(ITEMS)
    return total


def exact_values(model, item):
    """Expected reward after every beginning of a response."""
    probabilities = response_probabilities(model, item).tolist()
    mass, won = {}, {}
    for text, p in zip(RESPONSES, probabilities, strict=True):
        for n in range(len(text) + 1):
            mass[text[:n]] = mass.get(text[:n], 0.0) + p
            won[text[:n]] = won.get(text[:n], 0.0) + p * TASK.reward(item, text)
    return {text: won[text] / mass[text] for text in mass}


@pytest.fixture(scope="module")
def exact(model):
    """The float64 model, and the gradient of its expected reward."""
    wide = copy.deepcopy(model).double()
    reward = expected_reward(wide)
    wide.zero_grad()
    reward.backward()
    vector = torch.cat([p.grad.flatten() for p in wide.parameters()])
    assert abs(sum(response_probabilities(wide, ITEMS[0])).item() - 1) < 1e-12
    assert 0.05 < reward.item() < 0.6
    return wide, vector


@pytest.fixture(scope="module")
def drawn(model):
    return gradients.collect(model, TASK, Arm("r", "", named("rloo"), flat(size=4, prompts=8)), seed=3, batches=240)


def test_the_reference_is_the_gradient_of_the_expected_reward(model, exact, drawn):
    wide, vector = exact
    mean, error = drawn.vectors.double().mean(0), drawn.vectors.double().std(0) / len(drawn.vectors) ** 0.5
    assert torch.cosine_similarity(mean, vector, 0) > 0.99
    z = ((mean - vector) / error)[error > 1e-9]
    assert z.square().mean() < 3.0  # few directions: coordinates go together
    parameters = list(wide.parameters())
    for seed in range(3):
        direction = torch.randn(len(vector), generator=torch.Generator().manual_seed(seed)).double()
        found = []
        for step in (1e-5, -1e-5):
            at = 0
            with torch.no_grad():
                before = [p.clone() for p in parameters]
                for p in parameters:
                    p.add_(step * direction[at : at + p.numel()].view_as(p))
                    at += p.numel()
                found.append(expected_reward(wide).item())
                for p, old in zip(parameters, before, strict=True):
                    p.copy_(old)
        difference = (found[0] - found[1]) / 2e-5
        assert difference == pytest.approx(float(direction @ vector), rel=1e-5)
        along = drawn.vectors.double() @ direction
        assert abs(along.mean() - difference) < 4 * along.std() / len(along) ** 0.5


def test_noise_and_signal_are_estimated_without_bias(exact, drawn):
    _, vector = exact
    x = drawn.vectors.double()
    # Few batches each, whose signal is drowned in their noise; the truth knows the mean.
    estimates = np.array([gradients.moments(gradients.inner(part)) for part in drawn.vectors.split(4)])
    truth = float(vector @ vector), float((x - vector).square().sum(1).mean())
    assert truth[1] > truth[0]
    errors = estimates.std(0, ddof=1) / len(estimates) ** 0.5
    assert np.all(np.abs(estimates.mean(0) - truth) < 4 * errors)
    assert np.all(errors < 0.2 * np.array(truth))
    assert float(gradients.inner(drawn.vectors)[3, 5]) == pytest.approx(float(x[3] @ x[5]))


def test_cosines(exact, drawn):
    _, vector = exact
    x = drawn.vectors
    found = gradients.compare(x[:120], x[120:])
    assert abs(found["cosine"] - 1) < 4 * found["cosine_se"] < 0.2
    single = torch.cosine_similarity(x.double(), vector[None], 1).mean()
    assert abs(found["cosine_batch"] - single) < 4 * found["cosine_batch_se"]
    # Few batches: the corrected cosine keeps its place, though the plain one of the means is lower.
    few = [gradients.compare(part, x[120:])["cosine"] for part in x[:120].split(12)]
    assert abs(np.mean(few) - 1) < 0.1
    # A bias is seen: half of the gradient is turned to another direction of equal length.
    other = torch.zeros_like(vector)
    other[:] = torch.randn(len(vector), generator=torch.Generator().manual_seed(0))
    other -= (other @ vector) / (vector @ vector) * vector
    biased = (x[:120] + (other * vector.norm() / other.norm()).float()) * 3.0
    assert gradients.compare(biased, x[120:])["cosine"] == pytest.approx(0.5**0.5, abs=0.06)
    with pytest.raises(ValueError, match=r"compare\(\): 'own' must have at least 3 batches, got 2"):
        gradients.compare(x[:2], x[120:])


def test_a_gradient_is_that_of_one_loss(model):
    """In parts and packed as it is, it is the gradient of the plain sum over rollouts."""
    arm = Arm("r", "", named("rloo"), flat(size=8, prompts=24))
    sample = sample_flat(model, TASK, [ITEMS[i % 2] for i in range(24)], 8, torch.Generator().manual_seed(1))
    found, signal = gradients.gradient(model, TASK, arm, sample)
    advantages = rm.group.rloo(sample.rewards, sample.group)
    tokens = torch.cat([sample.prompts, sample.tokens], 1)
    logp = models.run(model, tokens[:, :-1])[:, 1:].log_softmax(-1).gather(2, sample.tokens[..., None])[..., 0]
    logp = logp * (torch.arange(logp.shape[1]) < torch.from_numpy(sample.lengths)[:, None])
    objective = (logp.sum(1) * torch.from_numpy(advantages).float()).mean()
    want = torch.autograd.grad(objective, list(model.parameters()))
    torch.testing.assert_close(found, torch.cat([g.flatten() for g in want]), rtol=1e-4, atol=1e-6)
    assert signal == sample.lengths[advantages != 0].sum()
    assert all(p.grad is None for p in model.parameters())


def test_a_shared_token_has_its_signal_once(model):
    scene = gradients.opened(model, TASK, Arm("s", "", named("spo_tree"), levels((3, 2), 2, 8)), 0)
    sample = levels((3, 2), 2, 8)(scene)
    counts = {}
    for shared in ("once", "per_rollout"):
        recipe = named("spo_tree", shared=shared)(TASK)
        counts[shared] = [signal_tokens(p, sample) for p, _ in parts(recipe, sample, Settings(minibatches=2))]
    assert counts["once"] == counts["per_rollout"]
    batch = prepare(named("spo_tree")(TASK), sample)
    assert sum(counts["once"]) == int((np.asarray(batch.advantages.values) != 0).sum()) < sample.sampled


def test_prompts_are_new_in_every_batch_unless_the_arm_remembers(model):
    seen = []

    def draw(scene):
        seen.append(scene.pool.take(4))
        return sample_flat(model, TASK, [scene.pool.items[i] for i in seen[-1]], 2, scene.generator)

    def remembering(scene):
        scene.memory["seen"] = scene.pool.at
        return draw(scene)

    scene = gradients.opened(model, TASK, Arm("a", "", named("grpo"), draw), 0)
    assert [draw(scene) and seen[-1] for _ in range(2)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    # How many prompts a step takes is no memory of prompts.
    sized = even(lambda n: levels((3, 2), 2, n), 6)
    scene = gradients.opened(model, TASK, Arm("c", "", named("spo_tree"), sized), 0)
    assert isinstance(scene.pool, gradients.Fresh)
    assert scene.pool.at == 0
    assert scene.memory
    scene = gradients.opened(model, TASK, Arm("b", "", named("grpo"), remembering), 0)
    assert len(scene.pool.items) == gradients.POOL <= scene.pool.at


def oracle(rewards, groups, *, rows, truth):
    """An advantage that knows."""
    return truth


def oracle_arm(model):
    table = [exact_values(copy.deepcopy(model).double(), item) for item in ITEMS]

    def draw(scene):
        sample = flat(size=4, prompts=64)(scene)
        texts = [sample.tokens[i, :n].tolist() for i, n in enumerate(sample.lengths.tolist())]
        rows = []
        for text, group in zip(texts, sample.group.tolist(), strict=True):
            value = table[ITEMS.index(sample.items[group])]
            row = np.zeros(len(text))
            ends = credit.boundaries(TASK, text)
            for first, last in itertools.pairwise(ends):
                row[first:last] = value[tuple(text[:last])] - value[tuple(text[:first])]
            rows.append(row)
        sample.columns["truth"] = rm.Ragged.from_lists(rows)
        return sample

    return Arm("oracle", "", named("grpo", advantage=Advantage(oracle)), draw)


def test_an_oracle_has_accuracy_one(model):
    steps = credit.measure(model, TASK, oracle_arm(model), seed=0, rollouts=100, continuations=64)
    found = credit.agreement(steps)
    assert found["credit_prompts"] == 64
    assert found["credit_correlation"] == pytest.approx(found["credit_ceiling"], abs=0.03)
    assert found["credit_corrected"] == pytest.approx(1.0, abs=0.03)
    assert found["sign_agreement"] > 0.95
    # The errors are as large as they are said to be.
    noisy = steps.variance > 0
    z = (steps.true - steps.given)[noisy] / np.sqrt(steps.variance[noisy])
    assert 0.7 < np.mean(z**2) < 1.4
    np.testing.assert_array_less(np.abs(steps.true - steps.given)[~noisy], 0.15)
    flat_credit = credit.measure(
        model, TASK, Arm("g", "", named("grpo"), flat(4, 64)), seed=0, rollouts=100, continuations=64
    )
    assert credit.agreement(flat_credit)["credit_corrected"] < 0.9


def test_values_of_beginnings(model):
    value = exact_values(copy.deepcopy(model).double(), ITEMS[0])
    texts = [[], TASK.encode("a"), TASK.encode("a;b"), TASK.encode("ab")]
    mean, variance = credit.values(model, TASK, [ITEMS[0]] * 4, texts, 4000, torch.Generator().manual_seed(0))
    want = np.array([value[tuple(text)] for text in texts])
    np.testing.assert_array_less(np.abs(mean - want), 4 * np.sqrt(variance) + 1e-9)
    np.testing.assert_allclose(variance, mean * (1 - mean) / 3999, rtol=1e-9)


def test_agreement_by_hand():
    true = np.array([0.5, -0.5, 0.01, 0.4])
    one = Credit(true, true, np.zeros(4), np.arange(4))
    assert credit.agreement(one)["credit_corrected"] == pytest.approx(1.0)
    assert credit.agreement(one)["credit_ceiling"] == 1.0
    mixed = credit.agreement(Credit(np.array([1.0, 1.0, -1.0, 0.0]), true, np.full(4, 0.01), np.array([0, 0, 1, 1])))
    assert mixed["clear_steps"] == 3
    assert mixed["sign_agreement"] == mixed["sign_opposite"] == pytest.approx(1 / 3)
    nothing = credit.agreement(Credit(np.zeros(4), true, np.zeros(4), np.arange(4)))
    assert np.isnan(nothing["credit_correlation"])
    assert nothing["sign_agreement"] == 0.0


def test_boundaries_are_behind_the_ends_of_steps():
    assert credit.boundaries(TASK, TASK.encode("a;b.")) == [0, 2, 4]
    assert credit.boundaries(TASK, TASK.encode("aba;")) == [0, 4]
    assert credit.boundaries(TASK, TASK.encode(".")) == [0, 1]


def test_a_line_and_its_file(model, tmp_path, monkeypatch):
    monkeypatch.setattr(diagnose, "loaded", lambda task, path: model)
    arm = Arm("grpo", "", named("grpo"), flat(size=4, prompts=16))
    against = gradients.collect(model, TASK, arm, seed=9, batches=4)
    options = {"batches": 4, "rollouts": 8, "continuations": 8, "against": against}
    line = diagnose.diagnose(TASK, arm, **options)
    again = diagnose.diagnose(TASK, arm, **options)
    assert {**line, "seconds": 0} == {**again, "seconds": 0}
    assert 0 < line["signal_share"] <= 1
    assert line["noise_to_signal_10k"] is None or line["noise_to_signal_10k"] < line["noise_to_signal"]
    path = tmp_path / "sub" / "lines.jsonl"
    for x in (line, {**line, "arm": "a"}, {**line, "cosine": 0.5}):
        diagnose.write(path, x)
    rows = [json.loads(text) for text in path.read_text().splitlines()]
    assert [x["arm"] for x in rows] == ["a", "grpo"]
    assert rows[1]["cosine"] == 0.5
    assert diagnose.label(Path("runs/sums-grpo/state.pt")) == "sums-grpo"

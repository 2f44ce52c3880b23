"""Every objective, every aggregation: micro-batches that keep rollouts whole give the gradient of the batch."""

import zlib

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from loss_objectives import ALL, TERMS, made  # noqa: E402

from rollmath import LogProbs, Rows  # noqa: E402
from rollmath.loss import PPO, Aggregation, EntropyBonus, LossMetrics, Normalizer, Objective, policy_loss  # noqa: E402
from rollmath.loss._aggregate import AGGREGATIONS  # noqa: E402


@pytest.mark.parametrize(("name", "way"), ALL)
def test_every_objective_can_be_made(name, way):
    """One that has no defaults needs a line in MADE."""
    assert isinstance(made(name, way), Objective)


AGGREGATED = {
    **{name: name for name in AGGREGATIONS},
    "dr_grpo": Aggregation(unit="row", within="sum", divisor=64),
    "row, empty included": Aggregation(unit="row", empty="include"),
    "prompt, empty included": Aggregation(unit="prompt", empty="include"),
}


class Step:
    """Rows of a step with token ids, a model that gives their log-probabilities, and the other policies."""

    def __init__(self, seed, dtype, prompts):
        rng = np.random.default_rng(seed)
        rollouts = rng.permutation(np.repeat(np.arange(7), [1, 1, 2, 3, 1, 2, 1]))
        lengths = rng.integers(0, 8, len(rollouts))
        lengths[0] = 0
        total = int(lengths.sum())
        mask = rng.random(total) < 0.8
        mask[np.repeat(rollouts, lengths) == 4] = False  # a rollout without a trained token
        self.rows = Rows([f"r{i}" for i in rollouts], lengths, mask=mask, version=rng.integers(0, 3, total))
        self.tokens = torch.from_numpy(rng.integers(0, 11, total))
        self.advantages = rng.uniform(-1, 1, self.rows.n_rollouts)
        self.dtype = dtype
        torch.manual_seed(seed)
        self.model = torch.nn.Sequential(torch.nn.Embedding(11, 4), torch.nn.Linear(4, 11)).to(dtype)
        with torch.no_grad():
            theta, _ = self.policy(self.tokens)
            noise = torch.from_numpy(rng.standard_normal((3, total))).to(dtype)
            self.others = [theta + 0.3 * x for x in noise]
        of = rng.integers(0, 3, self.rows.n_rollouts)
        self.normalizer = Normalizer.local(self.rows, prompts=of if prompts else None)

    def policy(self, tokens):
        """Log-probabilities of the tokens, each given the one before it, and entropies."""
        logits = self.model(tokens.roll(1) if len(tokens) else tokens)
        logp = logits.log_softmax(-1)
        return logp.gather(1, tokens[:, None])[:, 0], -(logp.exp() * logp).sum(-1)

    def gradient(self, objective, aggregation, part, *, term, accumulation):
        """The gradient of the parameters, flat, after all micro-batches; ``part`` has one number a rollout."""
        self.model.zero_grad()
        numbers = np.unique(part)
        normalizer = self.normalizer.under(accumulation=len(numbers) if accumulation else 1)
        seen = []
        # The tokens before a row are those of the whole step in all splits, so that the model gives the same.
        theta, entropy = self.policy(self.tokens)
        micro = []
        for number in numbers:
            picked = np.flatnonzero(part[self.rows.rollouts.index] == number)
            offsets = self.rows.offsets
            at = np.concatenate([np.arange(offsets[i], offsets[i + 1]) for i in picked])
            rows = self.rows.take(picked)
            columns = [x[at] for x in (theta, *self.others)]
            order = [self.rows.rollouts.ids.index(key) for key in rows.rollouts.ids]
            micro.append((LogProbs(*columns), self.advantages[order], rows, at))
        if objective.coupling == "batch":  # two passes: statistics of each micro-batch, then the losses
            parts = [(LogProbs(lp.theta.detach(), lp.prox, lp.behaviour, lp.ref), a, r) for lp, a, r, _ in micro]
            objective = objective.with_parts([objective.prepare(*x, level="rollout") for x in parts])
        losses = []
        for logprobs, advantages, rows, at in micro:
            out = policy_loss(
                logprobs,
                advantages,
                rows,
                PPO() if term else objective,
                normalizer=normalizer,
                aggregation=aggregation,
                level="rollout",
                kl=objective if term else None,
                entropy=EntropyBonus(entropy[at], coef=0.01),
            )
            seen.append(out.metrics)
            losses.append(out.loss / (len(numbers) if accumulation else 1))
        sum(losses).backward()
        flat = torch.cat([p.grad.reshape(-1) for p in self.model.parameters()])
        return flat, LossMetrics.merge(seen)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(("name", "way"), ALL)
def test_any_micro_batches_give_the_gradient_of_the_batch(name, way, dtype):
    objective = made(name, way)
    rng = np.random.default_rng([zlib.crc32(name.encode()), way])
    for number, (label, aggregation) in enumerate(AGGREGATED.items()):
        if number % 3 == 0:  # another step, with prompts or without
            step = {prompts: Step(rng.integers(1 << 30), dtype, prompts) for prompts in (True, False)}
            n = step[True].rows.n_rollouts
        part = rng.integers(0, 4, n)
        this, term = step["prompt" in label or number % 2 == 0], name in TERMS
        whole, metrics = this.gradient(objective, aggregation, np.zeros(n), term=term, accumulation=False)
        split, merged = this.gradient(objective, aggregation, part, term=term, accumulation=rng.random() < 0.5)
        largest = whole.abs().max().item()
        assert largest > 0
        rtol = 1e-6 if dtype == torch.float32 else 1e-13
        # Relative to the gradient: single entries may be differences of large ones.
        assert (whole - split).abs().max().item() <= rtol * largest, label
        assert merged.to_dict() == pytest.approx(metrics.to_dict(), rel=10 * rtol, abs=rtol), label


@pytest.mark.parametrize("form", ["in_pieces", "at_once"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(("name", "way"), [(name, way) for name, way in ALL if name not in TERMS])
def test_a_weight_of_0_silences_a_token_however_far_it_is(name, way, dtype, form, use_form):
    """Its ratio overflows, and its advantage makes an infinity of that; 0 times it is 0."""
    rows = Rows(["a", "b"], [3, 1], mask=[1, 1, 0, 1])
    for far in ((-1.0, -1e4, -1e4), (-1e4, -1.0, -1e4), (-1.0, -1.0, -1e4)):
        for a in (-0.75, 0.75) if name == "NFT" else (-3.0, 3.0):
            columns = [torch.tensor([x, -1.0, np.nan, -1.0], dtype=dtype) for x in (*far, -0.5)]
            logprobs = LogProbs(columns[0].requires_grad_(), *columns[1:])
            objective = made(name, way)
            if objective.coupling == "batch":
                part = objective.prepare(logprobs, [a] * 4, rows, level="token")
                objective = objective.with_parts([part])
            with use_form(form):
                out = policy_loss(
                    logprobs,
                    [a] * 4,
                    rows,
                    objective,
                    normalizer=Normalizer.local(rows),
                    level="token",
                    weight=[0.0, 1.0, 1.0, 1.0],
                )
            (gradient,) = torch.autograd.grad(out.loss, logprobs.theta)
            assert not out.loss.isnan()
            assert not gradient.isnan().any()
            assert objective.coupling == "sequence" or gradient[0] == 0

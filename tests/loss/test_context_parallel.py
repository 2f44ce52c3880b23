"""Tokens of a row split over ranks: each calls the loss for its own, as rows that are slices of the whole ones."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from loss_objectives import exported, made  # noqa: E402

from rollmath import LogProbs, Rows  # noqa: E402
from rollmath.loss import (  # noqa: E402
    GSPO,
    KL,
    PPO,
    Aggregation,
    EntropyBonus,
    Gate,
    ImportanceWeight,
    LossMetrics,
    Normalizer,
    aggregate,
    policy_loss,
    value_loss,
)
from rollmath.loss._aggregate import AGGREGATIONS  # noqa: E402

SEPARABLE = sorted(exported("separable"))
#: All but the mean over the tokens of a row, which a rank does not know.
ALLOWED = {name: x for name, x in AGGREGATIONS.items() if (x.unit, x.within) != ("row", "mean")}
ALLOWED["dr_grpo"] = Aggregation(unit="row", within="sum", divisor=64)


class Split:
    """Rows and their slices: those of rank ``r`` are the positions from ``cuts[r]`` to ``cuts[r + 1]`` of each row."""

    def __init__(self, seed, ranks):
        rng = np.random.default_rng(seed)
        rollouts, lengths = rng.integers(0, 5, 8), rng.integers(0, 9, 8)
        total = int(lengths.sum())
        self.mask = rng.random(total) < 0.8
        self.rows = Rows(rollouts, lengths, mask=self.mask, version=rng.integers(0, 3, total))
        self.columns = [torch.tensor(-2 * rng.random(total)) for _ in range(4)]
        self.entropy = torch.tensor(rng.random(total))
        self.advantages = dict(zip(self.rows.rollouts.ids, rng.uniform(-1, 1, self.rows.n_rollouts), strict=True))
        prompts = [int(key) % 2 for key in self.rows.rollouts.ids]
        self.normalizer = Normalizer.local(self.rows, prompts=prompts).under(
            grad_reduce="mean", ranks=3, context_parallel=ranks
        )
        cuts = [lengths * r // ranks for r in range(ranks + 1)]
        self.parts = []
        for start, stop in itertools.pairwise(cuts):
            at = [
                np.arange(a, b)
                for a, b in zip(self.rows.offsets[:-1] + start, self.rows.offsets[:-1] + stop, strict=True)
            ]
            at = np.concatenate(at)
            version = self.rows.version.values[at]
            self.parts.append((Rows(rollouts, stop - start, mask=self.mask[at], version=version), at))


def gradients(step, rows, at, normalizer, call):
    theta, entropy = (x[at].requires_grad_() for x in (step.columns[0], step.entropy))
    others = [x[at] for x in step.columns[1:]]
    out = call(LogProbs(theta, *others), entropy, [step.advantages[key] for key in rows.rollouts.ids], rows, normalizer)
    return *torch.autograd.grad(out.loss, [theta, entropy]), out.metrics


def compare(step, call):
    """The mean over 3 x ``context_parallel`` ranks, two thirds of which have nothing, is the gradient of the step."""
    alone = step.normalizer.under()
    *whole, metrics = gradients(step, step.rows, np.arange(len(step.entropy)), alone, call)
    total, seen = [torch.zeros_like(x) for x in whole], []
    for rows, at in step.parts:
        *found, part = gradients(step, rows, at, step.normalizer, call)
        seen.append(part)
        for x, y in zip(total, found, strict=True):
            x[at] = y / (3 * len(step.parts))
    torch.testing.assert_close(total, whole, rtol=1e-13, atol=1e-15)
    assert LossMetrics.merge(seen).to_dict() == pytest.approx(metrics.to_dict(), rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("name", SEPARABLE)
def test_gradients_are_those_of_whole_rows(name, ranks):
    for seed, (_, aggregation) in enumerate(ALLOWED.items()):
        step, objective = Split(seed, ranks), made(name)

        def call(logprobs, entropy, advantages, rows, normalizer, objective=objective, aggregation=aggregation):
            return policy_loss(
                logprobs,
                advantages,
                rows,
                PPO() if isinstance(objective, KL) else objective,
                normalizer=normalizer,
                aggregation=aggregation,
                level="rollout",
                kl=objective if isinstance(objective, KL) else KL(0.1),
                correction=ImportanceWeight(2.0),
                entropy=EntropyBonus(entropy, coef=0.01),
            )

        compare(step, call)


def test_values_and_numbers():
    def call(logprobs, entropy, advantages, rows, normalizer):
        common = {"normalizer": normalizer, "aggregation": "rollout_mean_token_mean"}
        out = value_loss(logprobs.theta, advantages, rows, level="rollout", **common)
        return out._replace(loss=out.loss + aggregate(entropy.square(), rows, **common))

    compare(Split(3, 2), call)


def test_what_looks_at_several_tokens_is_refused():
    step = Split(1, 2)
    rows, at = step.parts[0]
    who = r"policy_loss\(\): 'objective', 'kl' and 'correction' must look at one token at a time .*context_parallel=2"
    for objective, options in [
        (GSPO(clip=0.2), {}),
        (GSPO(clip=0.2, unit="row"), {}),
        (PPO(), {"correction": Gate("k1", 0.1, level="row")}),
        (PPO(), {"kl": GSPO(clip=0.2)}),
    ]:
        with pytest.raises(ValueError, match=who):
            gradients(
                step,
                rows,
                at,
                step.normalizer,
                lambda lp, _, adv, rows, norm, objective=objective, options=options: policy_loss(
                    lp, adv, rows, objective, normalizer=norm, level="rollout", **options
                ),
            )

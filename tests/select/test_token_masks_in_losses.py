"""From logits to a loss of some tokens: what the docstring of top_tokens shows, and the same in micro-batches."""

import numpy as np
import pytest

import rollmath as rm
from rollmath import Ragged, Rows, select

torch = pytest.importorskip("torch")

A = {"a": 1.0, "b": -0.5}


@pytest.fixture
def step():
    """Rows with gaps, logits of each position, labels."""
    rng = np.random.default_rng(0)
    rows = Rows(["a", "a", "b"], [6, 3, 11], mask=rng.random(20) < 0.8)
    logits = torch.from_numpy(rng.normal(size=(20, 13)) * rng.uniform(0.1, 4, size=(20, 1))).float()
    return rows, logits.requires_grad_(), torch.from_numpy(rng.integers(0, 13, 20))


def loss_of(stats, rows, normalizer=None, **options):
    """The loss of a step whose ratios are not 1."""
    from rollmath.loss import PPO, Normalizer, policy_loss

    logprobs = rm.LogProbs(stats.logprob, prox=stats.logprob.detach() - 0.1)
    advantages = [A[i] for i in rows.rollouts.ids]
    return policy_loss(
        logprobs, advantages, rows, PPO(), normalizer=normalizer or Normalizer.local(rows), **options
    ).loss


def test_a_mask_is_a_weight_or_the_rows_that_are_kept(step):
    rows, logits, labels = step
    stats = rm.vocab.row_stats(logits, labels)
    with pytest.raises(ValueError, match=r"'entropy' requires grad, but no gradient flows .*; call \.detach\(\)"):
        select.high_entropy_tokens(Ragged(stats.entropy, rows.offsets))
    entropy = Ragged(stats.entropy.detach(), rows.offsets)
    chosen = select.high_entropy_tokens(entropy, mask=rows.mask)
    assert 1 < int(chosen.kept) == int(0.2 * rows.trained.sum())
    weighted = loss_of(stats, rows, weight=chosen.mask)
    (gradient,) = torch.autograd.grad(weighted, logits, retain_graph=True)
    assert gradient.abs().sum(1).bool().tolist() == chosen.mask.values.tolist()
    # The same tokens, and another denominator.
    left = loss_of(stats, rows.keep(chosen.mask))
    ratio = int(chosen.kept) / int(chosen.total)
    torch.testing.assert_close(left * ratio, weighted)
    torch.testing.assert_close(torch.autograd.grad(left, logits, retain_graph=True)[0] * ratio, gradient)
    # A part and the rest are the whole.
    rest = loss_of(stats, rows, weight=~chosen.mask.values)
    torch.testing.assert_close(weighted + rest, loss_of(stats, rows))
    # Advantages of rollouts, as one a row.
    a, options = np.array([A[i] for i in rows.rollouts.ids]), {"share": 0.2, "scope": "all", "mask": rows.mask}
    by_row = select.d3s_tokens(a[rows.rollouts.index], entropy, **options)
    by_token = select.d3s_tokens(rows.expand(a), entropy, **options)
    assert by_row.mask.values.equal(by_token.mask.values)
    with pytest.raises(ValueError, match=r"'advantages' must have length 3 .* take advantages\[rows.rollouts.index\]"):
        select.d3s_tokens(a, entropy, **options)


def test_padded(step):
    rows, logits, labels = step
    stats = rm.vocab.row_stats(logits.detach(), labels)
    packed = select.high_entropy_tokens(Ragged(stats.entropy, rows.offsets), mask=rows.mask)
    entropy, logprob, mask = (Ragged(x, rows.offsets).to_padded(12) for x in (stats.entropy, stats.logprob, rows.mask))
    chosen = select.high_entropy_tokens(entropy, mask=mask, lengths=rows.lengths)
    assert chosen.mask.equal(packed.mask.to_padded(12))
    weighted = loss_of(stats._replace(logprob=logprob), rows, weight=chosen.mask)
    torch.testing.assert_close(weighted, loss_of(stats, rows, weight=packed.mask))


def test_accumulated_gradients_are_those_of_one_step(step):
    from rollmath.loss import Normalizer

    rows, logits, labels = step
    stats = rm.vocab.row_stats(logits, labels)
    entropy, normalizer = stats.entropy.detach(), Normalizer.local(rows)
    whole = select.high_entropy_tokens(Ragged(entropy, rows.offsets), share=0.3, mask=rows.mask)
    (expected,) = torch.autograd.grad(loss_of(stats, rows, weight=whole.mask), logits)

    batches = [(slice(0, 9), rows.take([0, 1])), (slice(9, 20), rows.take([2]))]
    parts = [{"scores": Ragged(entropy[at], part.offsets), "mask": part.mask} for at, part in batches]
    search = select.TokenSearch(share=0.3)
    while not search.done:
        search = search.narrow(sum(search.count(**part) for part in parts))
    for (at, part), given in zip(batches, parts, strict=True):
        mine = rm.vocab.row_stats(logits[at], labels[at])
        loss_of(mine, part, normalizer, weight=search.mask(**given)).backward()
    torch.testing.assert_close(logits.grad, expected)

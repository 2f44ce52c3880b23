"""The gradient of the parameters of a transformer: packed, and one padded sequence a rollout. The same numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

import rollmath as rm  # noqa: E402
from rollmath import LogProbs  # noqa: E402
from rollmath.loss import GSPO, KL, PPO, ImportanceWeight, Normalizer, policy_loss  # noqa: E402

OBJECTIVES = {
    "ppo": PPO(clip=(0.2, 0.28), dual_clip=3.0),
    "gspo": GSPO(clip=0.2),
    "gspo_tokens": GSPO(clip=0.3, unit="row", gradient="token"),
}


def options(case, rows):
    """Old and reference policies far from the one in training, and a normalizer of the whole step."""
    total = int(rows.offsets[-1])
    near = torch.from_numpy(case.rng.normal(scale=0.6, size=(3, total)))
    advantages = case.rng.normal(size=rows.n_rollouts)
    return near, advantages, Normalizer.local(rows)


def loss_of(theta, near, advantages, rows, objective, normalizer, **given):
    """Ratios are away from 1, in both directions."""
    at = theta.detach()
    logprobs = LogProbs(theta, at + near[0], at + near[1], at + near[2])
    out = policy_loss(
        logprobs, advantages, rows, objective, normalizer=normalizer, kl=KL(0.1),
        correction=ImportanceWeight(2.0), level="rollout", **given,
    )  # fmt: skip
    return out.loss


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def close(got, expected, tolerance=1e-10):
    assert expected.abs().max() > 1e-6 or not got.abs().max() > 1e-12
    assert (got - expected).abs().max() <= tolerance * max(float(expected.abs().max()), 1e-300)


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.sampled_from(sorted(OBJECTIVES)), st.booleans(), st.booleans())
def test_packed_and_unpacked(make_case, make_model, unpacked_logprobs, packed_logprobs, seed, name, gaps, prompts):
    case, model = make_case(seed, prompts=prompts, longest=9), make_model(seed % 5)
    if not any(case.lists):
        return
    rows = case.rows(gaps=gaps)
    near, advantages, normalizer = options(case, rows)
    given = {"aggregation": ["token_mean", "seq_mean_token_mean"][seed % 2]}
    theta = unpacked_logprobs(model, case)
    expected = loss_of(theta, near, advantages, rows, OBJECTIVES[name], normalizer, **given)
    wanted = gradients(model, expected)

    batch = case.batch
    packed = packed_logprobs(model, batch, case.flat)
    gathered = batch.gather(packed, fill=0.0).values
    torch.testing.assert_close(gathered, theta, rtol=1e-10, atol=1e-12)
    loss = loss_of(gathered, near, advantages, rows, OBJECTIVES[name], normalizer, **given)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-10, abs=1e-13)
    close(gradients(model, loss), wanted)


def test_micro_batches_add_up(make_case, make_model, unpacked_logprobs, packed_logprobs):
    case, model = make_case(11, n_groups=5, rollouts=24, prompts=True, longest=9), make_model()
    rows = case.rows(gaps=True)
    near, advantages, normalizer = options(case, rows)
    whole = loss_of(unpacked_logprobs(model, case), near, advantages, rows, GSPO(clip=0.2), normalizer)
    wanted = gradients(model, whole)
    parts = case.batch.split(25).parts
    assert len(parts) > 2
    model.zero_grad()
    total = 0.0
    near = rm.Ragged(np.arange(near.shape[1]), rows.offsets), near
    for part in parts:
        theta = part.gather(packed_logprobs(model, part, case.flat)).values
        these = np.concatenate([near[0][int(r)] for r in part.rollouts])
        loss = loss_of(
            theta, near[1][:, these], advantages[part.rollouts], rows.take(part.rollouts), GSPO(clip=0.2), normalizer
        )
        loss.backward()
        total += loss.item()
    assert total == pytest.approx(whole.item(), rel=1e-10)
    close(torch.cat([p.grad.flatten() for p in model.parameters()]), wanted)


def test_a_wrong_mask_or_wrong_positions_would_show(make_case, make_model, unpacked_logprobs):
    """The test above has teeth: plain causal attention and running position ids are both wrong."""
    case, model = make_case(11, n_groups=2, rollouts=12, prompts=True, longest=9), make_model()
    batch, flat = case.batch, torch.from_numpy(case.flat)
    with torch.no_grad():
        expected = unpacked_logprobs(model, case)
        n = batch.n_tokens
        causal = torch.ones(n, n, dtype=torch.bool).tril()
        for mask, places in ((causal, batch.position_ids()), (batch.dense_mask(), torch.arange(n).clamp(max=31))):
            hidden = model(batch.take_column(flat)[None], places[None], mask[None])[0]
            got = batch.gather(rm.vocab.logprobs(model.head(batch.shift(hidden)), batch.labels(flat))).values
            assert (got - expected).abs().max() > 1e-3


@given(st.integers(0, 2**32))
def test_the_backward_of_a_gather_is_the_sum_over_copies(make_case, seed):
    case = make_case(seed)
    batch = case.batch
    x = torch.randn(batch.n_tokens, dtype=torch.float64, requires_grad=True)
    y = batch.gather(x, include_root=True).values
    g = torch.randn(len(y), dtype=torch.float64)
    y.backward(g)
    expected = torch.zeros_like(x).index_add_(0, torch.from_numpy(batch._full.copy()), g)
    assert torch.equal(x.grad, expected)


@given(st.integers(0, 2**32), st.sampled_from(["_own", "_full", "sources", "targets"]))
def test_rounds_never_add_twice_to_one_row(make_case, same_bits, seed, name):
    """What other devices do, in the same order as the loop of a CPU."""
    from rollmath.prefix._select import add_rows, in_rounds, rounds_of

    batch = make_case(seed).batch
    index = getattr(batch, name)
    on, rounds = torch.from_numpy(index.copy()), rounds_of(index, "cpu")
    every = [rounds.first, *((places, rounds.shared[slots]) for places, slots in rounds.more)]
    for places, items in every:
        assert len(items.unique()) == len(items)
        assert torch.equal(items, on[places])
    assert sorted(torch.cat([places for places, _ in every]).tolist()) == list(range(len(index)))
    g = torch.randn(len(index), 3)
    got = in_rounds(g.new_zeros(batch.n_tokens, 3), g, rounds)
    same_bits(got, add_rows(g, on, lambda: rounds, batch.n_tokens))


def test_halves_are_added_in_float32():
    """A token with 200 children: bfloat16 could not count them."""
    tokens = np.stack([np.zeros(200, int), np.arange(200)], 1)
    forest = rm.Forest.from_sequences(tokens.ravel(), 2 * np.arange(201), groups=[0] * 200, prompt_lengths=[1] * 200)
    batch = rm.prefix.pack(forest)
    for dtype in (torch.bfloat16, torch.float16):
        x = torch.ones(batch.n_tokens, 2, dtype=dtype, requires_grad=True)
        (batch.shift(x) * (1 + 2**-7)).sum().backward()
        assert x.grad[0].tolist() == [torch.tensor(200 * (1 + 2**-7), dtype=dtype).item()] * 2
        assert x.grad[1:].count_nonzero() == 0


def test_no_second_derivative(make_case):
    batch = make_case(3).batch
    x = torch.zeros(batch.n_tokens, requires_grad=True)
    with pytest.raises(RuntimeError, match="PrefixBatch has no second derivative"):
        torch.autograd.grad(batch.gather(x).values.sum(), x, create_graph=True)

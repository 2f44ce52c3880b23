"""loss.sequence_scores: values, derivatives, what is read, and micro-batches of a group loss."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from rollmath import LogProbs, Ragged, Rows  # noqa: E402
from rollmath.loss import rebel, sequence_scores  # noqa: E402


def batch(seed, n_rows=6, dtype=torch.float64):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 5, n_rows)
    total = int(lengths.sum())
    rows = Rows(rng.integers(0, 3, n_rows), lengths, mask=rng.random(total) < 0.7)
    theta = torch.tensor(-3 * rng.random(total), dtype=dtype, requires_grad=True)
    return rows, theta, torch.tensor(-3 * rng.random(total), dtype=dtype)


def padded(x, rows, width=6):
    return Ragged(x.detach(), rows.offsets).to_padded(width, fill=float("nan"))


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from(["sum", "mean"]),
    st.sampled_from([None, "prox", "behaviour", "ref"]),
    st.sampled_from(["rollout", "row"]),
    st.booleans(),
)
def test_agrees_with_the_oracle(oracle, seed, how, against, unit, wide):
    rows, theta, other = batch(seed)
    lists = [Ragged(x, rows.offsets).to_lists() for x in (theta.detach().numpy(), rows.mask, other.numpy())]
    groups = rows.rollouts
    members = (
        [groups.rows(g).tolist() for g in range(groups.n_groups)] if unit == "rollout" else [[i] for i in range(6)]
    )
    expected = oracle("loss/scores.py", "sequence_scores")(
        lists[0], lists[1], members, lists[2] if against else None, how
    )
    leaf = padded(theta, rows).requires_grad_() if wide else theta
    second = padded(other, rows) if wide else other
    s = sequence_scores(
        LogProbs(leaf, **({against: second} if against else {})), rows, how=how, against=against, unit=unit
    )
    np.testing.assert_allclose(s.detach(), [value for value, _ in expected], rtol=1e-12, atol=1e-13)
    weights = torch.arange(1.0, len(s) + 1, dtype=torch.float64)
    g = torch.autograd.grad((weights * s).sum(), leaf)[0]
    unit_of = groups.index if unit == "rollout" else np.arange(6)
    slope = [(u + 1) / (expected[u][1] if how == "mean" and expected[u][1] else 1) for u in range(len(expected))]
    per_row = np.array([slope[u] for u in unit_of])
    want = np.repeat(per_row, rows.lengths) * rows.mask
    got = Ragged.from_padded(g, lengths=rows.lengths).values if wide else g
    np.testing.assert_allclose(got, want, rtol=1e-13)
    assert torch.isfinite(g).all()


def test_gradcheck():
    rows, theta, other = batch(4)
    assert torch.autograd.gradcheck(
        lambda x: sequence_scores(LogProbs(x, ref=other), rows, how="mean", against="ref"), (theta,)
    )


def test_a_group_loss_needs_no_micro_batch_of_its_own():
    """Coefficients from all scores, then one backward a micro-batch: the gradient of the group loss itself."""
    rng = np.random.default_rng(0)
    rows = Rows(range(8), rng.integers(1, 5, 8))
    theta = torch.tensor(-rng.random(int(rows.offsets[-1])), requires_grad=True)
    ref, rewards, groups = torch.tensor(-rng.random(len(theta))), rng.random(8), [0, 0, 1, 1, 0, 1, 0, 1]
    scores = sequence_scores(LogProbs(theta, ref=ref), rows, against="ref")
    coefficient = rebel(scores.detach(), rewards, groups, eta=0.7).coefficient
    for picked in ([0, 2, 4], [1, 3, 5, 6, 7]):
        at = np.concatenate([np.arange(rows.offsets[i], rows.offsets[i + 1]) for i in picked])
        part = sequence_scores(LogProbs(theta[at], ref=ref[at]), rows.take(picked), against="ref")
        (coefficient[picked] * part).sum().backward()
    plain = theta.detach().clone().requires_grad_()
    s = torch.stack([(plain - ref)[rows.offsets[i] : rows.offsets[i + 1]].sum() for i in range(8)])
    total = 0.0
    for g in (0, 1):
        members = [i for i in range(8) if groups[i] == g]
        pairs = [(i, j) for i in members for j in members if i < j]
        total += sum(((s[i] - s[j]) / 0.7 - (rewards[i] - rewards[j])) ** 2 for i, j in pairs) / len(pairs) / 2
    torch.testing.assert_close(theta.grad, torch.autograd.grad(total, plain)[0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_dtypes(dtype):
    rows, theta, _ = batch(1, dtype=dtype)
    s = sequence_scores(LogProbs(theta), rows)
    assert s.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.autograd.grad(s.sum(), theta)[0].dtype == dtype


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"how": "max"}, ValueError, "'how' must be one of 'sum', 'mean', got 'max'"),
        ({"unit": "prompt"}, ValueError, "'unit' must be one of 'rollout', 'row'"),
        ({"against": "old"}, ValueError, "'against' must be one of 'prox', 'behaviour', 'ref'"),
        ({"against": "ref"}, ValueError, "'logprobs' must have 'ref', as against='ref'"),
        ({"logprobs": torch.zeros(2)}, TypeError, "'logprobs' must be LogProbs"),
        ({"rows": [1]}, TypeError, "'rows' must be Rows"),
        ({"logprobs": LogProbs(torch.zeros(3))}, ValueError, r"'logprobs' must have shape \(2,\)"),
    ],
)
def test_errors(options, error, match):
    given = {"logprobs": LogProbs(torch.zeros(2)), "rows": Rows([0], [2])} | options
    with pytest.raises(error, match=rf"sequence_scores\(\): {match}"):
        sequence_scores(given.pop("logprobs"), given.pop("rows"), **given)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_jagged_tensors_of_other_rows():
    jagged = torch.nested.nested_tensor_from_jagged(torch.zeros(4), torch.tensor([0, 2, 4]))
    match = (
        r"sequence_scores\(\): 'logprobs.theta' as a jagged tensor must have the offsets of the rows, got 2 positions"
    )
    with pytest.raises(ValueError, match=match):
        sequence_scores(LogProbs(jagged), Rows([0, 1], [1, 3]))


def test_no_second_derivative():
    rows, theta, _ = batch(2)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(sequence_scores(LogProbs(theta), rows).sum(), theta, create_graph=True)

"""Prefix-tree batches on a GPU: FlexAttention compiled, the gradient of a gather, and the merged loss."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from rollmath import Forest, LogProbs  # noqa: E402
from rollmath.loss import KL, PPO, Normalizer, policy_loss  # noqa: E402
from rollmath.prefix import merged_loss, pack  # noqa: E402

pytestmark = pytest.mark.gpu


def large(seed):
    rng = np.random.default_rng(seed)
    lists = []
    for _ in range(24):
        shared = lists[rng.integers(len(lists))][: rng.integers(0, 300)] if lists and rng.random() < 0.7 else []
        lists.append([*shared, *rng.integers(0, 1000, rng.integers(1, 400)).tolist()])
    flat = np.array([t for x in lists for t in x])
    return pack(Forest.from_sequences(flat, np.cumsum([0, *map(len, lists)]), groups=rng.integers(0, 3, 24)))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [0, 1])
def test_flex_attention_is_dense_attention(seed):
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    batch = large(seed)
    n, ours = batch.n_tokens, batch.block_mask(device="cuda")
    theirs = create_block_mask(batch.mask_mod("cuda"), None, None, n, n, device="cuda")
    assert torch.equal(ours.to_dense(), theirs.to_dense())
    generator = torch.Generator("cuda").manual_seed(0)
    q, k, v = (torch.randn(1, 4, n, 64, device="cuda", generator=generator).requires_grad_() for _ in range(3))
    g = torch.randn(1, 4, n, 64, device="cuda", generator=generator)
    found = []
    for mask in (ours, theirs):
        out = torch.compile(flex_attention)(q, k, v, block_mask=mask)
        found.append((out.detach(), *torch.autograd.grad(out, (q, k, v), g)))
    dense = torch.nn.functional.scaled_dot_product_attention(
        *(x.double() for x in (q, k, v)), attn_mask=batch.dense_mask("cuda")
    )
    wanted = (dense.detach(), *torch.autograd.grad(dense, (q, k, v), g.double()))
    for mine, other, exact in zip(*found, wanted, strict=True):
        # TF32 in the kernel; torch's own mask has the same distance.
        torch.testing.assert_close(mine.double(), exact.double(), rtol=2e-2, atol=2e-2)
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gradient_of_a_gather(same_bits, make_case, dtype):
    for batch in (large(0), make_case(1).batch):
        total = int(batch._rows(include_root=True)[2][-1])
        g = torch.randn(total, dtype=dtype)

        def gradient(device, batch=batch, g=g):
            x = torch.ones(batch.n_tokens, dtype=dtype, device=device, requires_grad=True)
            batch.gather(x, include_root=True).values.backward(g.to(device))
            return x.grad.cpu()

        expected = gradient("cpu")
        for _ in range(3):
            same_bits(gradient("cuda"), expected)
        hidden = torch.randn(batch.n_tokens, 5, device="cuda", dtype=dtype, requires_grad=True)
        out = batch.shift(hidden)
        out.sum().backward()
        counts = np.bincount(batch.sources, minlength=batch.n_tokens)
        assert hidden.grad[:, 0].tolist() == counts.tolist()


@pytest.mark.parametrize("seed", range(4))
def test_losses_are_those_of_the_cpu(make_case, seed):
    case = make_case(seed, rollouts=30)
    batch, rows = case.batch, case.rows(gaps=True)
    normalizer, advantages = Normalizer.local(rows), case.rng.normal(size=rows.n_rows)
    policies = [torch.from_numpy(-case.rng.random(batch.n_targets)) for _ in range(3)]

    def gradients(device):
        theta = policies[0].to(device).requires_grad_()
        others = [x.to(device) for x in policies[1:]]
        given = {"normalizer": normalizer, "level": "row", "kl": KL(0.1)}
        merged = merged_loss(LogProbs(theta, None, *others), advantages, batch, rows, PPO(), **given)
        wide = LogProbs(batch.gather(theta).values, None, *(batch.gather(x).values for x in others))
        gathered = policy_loss(wide, advantages, rows, PPO(), **given)
        assert merged.loss.device.type == device
        return [torch.autograd.grad(x.loss, theta)[0].cpu() for x in (merged, gathered)]

    for there, here in zip(gradients("cuda"), gradients("cpu"), strict=True):
        torch.testing.assert_close(there, here, rtol=1e-10, atol=1e-13)

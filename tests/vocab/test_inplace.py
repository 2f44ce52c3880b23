"""Gradients that are written into the memory of the logits."""

import pytest

torch = pytest.importorskip("torch")

from rollmath import vocab  # noqa: E402


def loss_of(logits, labels, **options):
    stats = vocab.row_stats(logits, labels, temperature=0.7, **options)
    return (stats.logprob + 0.3 * stats.entropy).sum()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("softcap", [None, 3.0])
def test_the_same_gradient_without_new_memory(dtype, softcap):
    torch.manual_seed(0)
    hidden, weight = torch.randn(6, 4), torch.randn(4, 50, requires_grad=True)
    labels = torch.randint(50, (6,))
    made = []

    def run(inplace):
        logits = (hidden @ weight).to(dtype)
        logits.register_hook(lambda g: made.append((g.data_ptr() == logits.data_ptr(), g.clone())))
        (g,) = torch.autograd.grad(loss_of(logits, labels, softcap=softcap, inplace_backward=inplace), weight)
        return g

    assert torch.equal(run(False), run(True))
    assert [at for at, _ in made] == [False, True]
    assert torch.equal(made[0][1], made[1][1])


def test_views_and_sets():
    base = torch.randn(3, 5, 11, requires_grad=True)
    labels = torch.randint(11, (3, 4))
    sets = vocab.TokenSets.of_mask(torch.rand(3, 4, 11) < 0.7)
    found = []
    for inplace in (False, True):
        logits = (base * 1)[:, :-1]
        stats = vocab.row_stats(logits, outputs=("entropy",), allowed=sets, inplace_backward=inplace)
        found += torch.autograd.grad(stats.entropy.nan_to_num().sum(), base)
        lp = vocab.logprobs((base * 1)[:, :-1], labels, inplace_backward=inplace)
        found += torch.autograd.grad(lp.sum(), base)
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[1], found[3])


def test_another_consumer_of_the_logits_is_noticed():
    x = torch.randn(2, 3, requires_grad=True)
    logits = x * 1
    total = logits.square().sum() + vocab.logprobs(logits, torch.tensor([0, 1]), inplace_backward=True).sum()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()


def test_a_second_backward_pass_is_noticed():
    x = torch.randn(2, 3, requires_grad=True)
    lp = vocab.logprobs(x * 1, torch.tensor([0, 1]), inplace_backward=True).sum()
    lp.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        lp.backward()


def test_without_a_gradient_nothing_is_written():
    x = torch.randn(2, 3)
    before = x.clone()
    vocab.logprobs(x, torch.tensor([0, 1]), inplace_backward=True)
    with torch.no_grad():
        vocab.logprobs(x.clone().requires_grad_(), torch.tensor([0, 1]), inplace_backward=True)
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda x: x, "the logits are a leaf"),
        (lambda x: x.view(3, 2).view(2, 3), "the logits are a view of a leaf"),
        (lambda x: (x * 1)[:1].expand(2, 3), "several of the logits share one place in memory"),
        (lambda x: (x * 1).as_strided((2, 3), (2, 1)), "several of the logits share one place in memory"),
    ],
)
def test_where_it_is_not_legal(make, match):
    x = torch.randn(2, 3, requires_grad=True)
    with pytest.raises(ValueError, match=rf"logprobs\(\): 'inplace_backward' must be False here, because {match}"):
        vocab.logprobs(make(x), torch.tensor([0, 1]), inplace_backward=True)


@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_results_may_be_written_into(device, backend):
    torch.manual_seed(0)
    x, y = torch.randn(2, 3).to(device), torch.tensor([0, 1], device=device)
    names = tuple(name for name in vocab.RowStats._fields if name not in {"argmax", "gathered"})
    keep, found = torch.tensor([1.0, 0.0], device=device), []
    for inplace in (False, True):
        leaf = x.clone().requires_grad_()
        stats = [s for s in vocab.row_stats(leaf, y, outputs=names, backend=backend) if s is not None]
        found.append(torch.autograd.grad(sum((s.mul_(keep) if inplace else s * keep).sum() for s in stats), leaf)[0])
    assert torch.equal(*found)
    assert (found[0][1] == 0).all()
    assert (found[0][0] != 0).all()

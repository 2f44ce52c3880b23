"""LMHead is an nn.Linear in every way, and gives statistics besides."""

import copy
import io
import pickle
import re
import textwrap
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from rollmath import vocab  # noqa: E402

SMALL = 128 * 3 * 4


@pytest.fixture
def rows():
    torch.manual_seed(0)
    return torch.randn(2, 5, 8), torch.randint(0, 300, (2, 5))


@pytest.mark.parametrize("biased", [False, True])
def test_statistics_are_those_of_its_logits(rows, biased):
    hidden, labels = rows
    head = vocab.LMHead(8, 300, bias=biased, workspace=SMALL)
    options = {"outputs": ("logprob", "entropy", "gathered", "argmax"), "ids": labels[..., None], "temperature": 0.7}
    want = vocab.row_stats(head(hidden), labels, **options)
    mask = torch.arange(10).view(2, 5) % 2 == 0
    for got in (head.row_stats(hidden, labels, **options), head(hidden, labels, **options)):
        for name in options["outputs"]:
            torch.testing.assert_close(getattr(got, name), getattr(want, name), rtol=1e-6, atol=2e-6)
    masked = head.row_stats(hidden, labels, mask=mask, ignore_index=int(labels[0, 0]), check=True)
    assert masked.logprob[0, 0] == 0
    assert (masked.entropy[~mask] == 0).all()
    assert head(hidden, outputs=("lse",)).lse.shape == (2, 5)


def test_logits_are_those_of_the_linear_layer(rows, same_bits):
    linear = nn.Linear(8, 300)
    head = vocab.LMHead.from_linear(linear, softcap=30.0, scale=0.5)
    same_bits(head(rows[0]).detach(), linear(rows[0]).detach())
    assert head.weight is linear.weight
    assert head.bias is linear.bias
    assert isinstance(head, nn.Linear)
    assert head.state_dict().keys() == linear.state_dict().keys()
    assert vocab.LMHead.from_linear(nn.Linear(8, 300, bias=False).eval()).training is False


@pytest.mark.parametrize("softcap", [None, 0.8])
@pytest.mark.parametrize("scale", [1.0, 0.3, 4.0])
def test_softcap_and_scale_are_those_that_the_model_applies_behind(rows, softcap, scale):
    hidden, labels = rows
    head = vocab.LMHead(8, 300, softcap=softcap, scale=scale, workspace=SMALL)
    x = head(hidden) * scale
    if softcap is not None:
        x = softcap * torch.tanh(x / softcap)
    temperature = torch.rand(2, 5) + 0.5
    want = vocab.row_stats(x, labels, outputs=("logprob", "entropy", "lse"), temperature=temperature)
    got = head.row_stats(hidden, labels, outputs=("logprob", "entropy", "lse"), temperature=temperature)
    for name in ("logprob", "entropy", "lse"):
        torch.testing.assert_close(getattr(got, name), getattr(want, name), rtol=1e-6, atol=2e-6)
    mine, theirs = (
        torch.autograd.grad(s.logprob.sum() + s.entropy.sum(), head.weight, retain_graph=True)[0] for s in (got, want)
    )
    torch.testing.assert_close(mine, theirs, rtol=0, atol=2e-6 * float(theirs.abs().max()))


def test_tied_weights_get_both_gradients(rows):
    _, labels = rows
    embed = nn.Embedding(300, 8)
    head = vocab.LMHead(8, 300)
    head.weight = embed.weight
    (head.row_stats(embed(labels), labels).logprob.sum()).backward()
    got, embed.weight.grad = embed.weight.grad, None
    vocab.row_stats(head(embed(labels)), labels).logprob.sum().backward()
    torch.testing.assert_close(got, embed.weight.grad, rtol=0, atol=2e-6 * float(got.abs().max()))


def test_it_calls_its_hooks(rows):
    hidden, labels = rows
    head, seen = vocab.LMHead(8, 300), []
    head.register_forward_hook(lambda module, inputs, out: seen.append(type(out).__name__))
    head.row_stats(hidden, labels)
    head(hidden)
    assert seen == ["RowStats", "Tensor"]


def test_it_copies_pickles_and_loads(rows, same_bits):
    hidden, labels = rows
    head = vocab.LMHead(8, 300, softcap=2.0)
    want = head.row_stats(hidden, labels).logprob.detach()
    file = io.BytesIO()
    torch.save(head.state_dict(), file)
    file.seek(0)
    other = vocab.LMHead(8, 300, softcap=2.0)
    other.load_state_dict(torch.load(file))
    for made in (copy.deepcopy(head), pickle.loads(pickle.dumps(head)), other):
        same_bits(made.row_stats(hidden, labels).logprob.detach(), want)


def test_results_are_no_views(rows):
    """``fully_shard`` warns of modules that return one."""
    stats = vocab.LMHead(8, 300).row_stats(*rows)
    assert not stats.logprob._is_view()


def test_the_examples_of_the_page():
    page = (Path(__file__).parents[2] / "docs" / "lm_head.md").read_text()
    blocks = re.findall(r"(?m)(?:^    .*\n|^\n(?=    ))+", page)
    assert len(blocks) == 3
    names = {}
    for block in blocks[:2]:
        exec(textwrap.dedent(block), names)
    assert names["stats"].argmax.shape == (2, 5)
    assert "patch_lm_head(model)" in blocks[2]

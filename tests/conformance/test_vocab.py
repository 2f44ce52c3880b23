"""Log-probabilities and entropies of logits, beside verl's and TRL's functions."""

import importlib.util

import pytest

import rollmath as rm

if importlib.util.find_spec("verl") is None or importlib.util.find_spec("trl") is None:
    pytest.skip("verl and trl are not installed; `make test-peers` has them", allow_module_level=True)

import torch

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

ATOL = {torch.float32: 2e-5, torch.float64: 1e-12}


@pytest.fixture(params=list(ATOL), ids=lambda d: str(d)[6:])
def logits(request):
    generator = torch.Generator().manual_seed(0)
    return 4 * torch.randn(3, 17, 1000, generator=generator, dtype=torch.float64).to(request.param)


@pytest.fixture
def labels(logits):
    return torch.randint(logits.shape[-1], logits.shape[:-1], generator=torch.Generator().manual_seed(1))


def gradient(function, logits, weight):
    logits = logits.clone().requires_grad_()
    out = function(logits)
    (out * weight).sum().backward()
    return out.detach(), logits.grad


def compare(agree, name, ours, theirs, logits):
    weight = torch.randn(logits.shape[:-1], generator=torch.Generator().manual_seed(2)).to(logits.dtype)
    mine, mine_gradient = gradient(ours, logits, weight)
    other, other_gradient = gradient(theirs, logits, weight)
    agree(f"{name} {str(logits.dtype)[6:]}", mine, other, atol=ATOL[logits.dtype])
    agree(f"{name} {str(logits.dtype)[6:]}, gradient", mine_gradient, other_gradient, atol=ATOL[logits.dtype])


def entropy(logits):
    return rm.vocab.row_stats(logits, outputs=("entropy",)).entropy


def test_verl(peer, agree, logits, labels):
    functional = peer("verl.utils.torch_functional")
    compare(
        agree,
        "verl logprobs_from_logits",
        lambda x: rm.vocab.logprobs(x, labels),
        lambda x: functional.logprobs_from_logits(x, labels),
        logits,
    )
    compare(agree, "verl entropy_from_logits", entropy, functional.entropy_from_logits, logits)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_trl(peer, agree, logits, labels, temperature):
    utils = peer("trl.trainer.utils")
    compare(
        agree,
        "TRL selective_log_softmax",
        lambda x: rm.vocab.logprobs(x, labels, temperature=temperature),
        lambda x: utils.selective_log_softmax(x, labels, temperature=temperature),
        logits,
    )
    compare(agree, "TRL entropy_from_logits", entropy, utils.entropy_from_logits, logits)

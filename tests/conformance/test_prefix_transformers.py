"""Models of transformers on a prefix-tree batch: the log-probabilities and gradients of one sequence after another."""

import importlib.util

import numpy as np
import pytest

import rollmath as rm

if importlib.util.find_spec("transformers") is None:
    pytest.skip("transformers is not installed; `make test-peers` has an environment for it", allow_module_level=True)

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

LISTS = [[9, 1, 2, 3, 4], [9, 1, 2, 5], [9, 7], [9, 1, 2, 5], [8, 8, 3], [8, 8, 3, 4], [8, 8]]
PROMPTS = [1, 1, 1, 1, 2, 2, 2]
KINDS = ["Llama", "Qwen2", "Qwen3"]
WINDOW = 2


def made(peer, kind, attention):
    import torch

    transformers = peer("transformers")
    torch.manual_seed(0)
    name = {"Gemma3": "Gemma3TextConfig"}.get(kind, f"{kind}Config")
    # Of Gemma 3, every sixth layer has full attention.
    given = {"num_hidden_layers": 6, "sliding_window": WINDOW} if kind == "Gemma3" else {"num_hidden_layers": 2}
    config = getattr(transformers, name)(
        vocab_size=16, hidden_size=32, intermediate_size=64, num_attention_heads=2, num_key_value_heads=1,
        head_dim=16, attn_implementation=attention, **given,
    )  # fmt: skip
    return getattr(transformers, f"{kind}ForCausalLM")(config).eval()


@pytest.fixture
def batch():
    flat = np.concatenate(LISTS)
    forest = rm.Forest.from_sequences(
        flat, np.cumsum([0, *map(len, LISTS)]), groups=[0] * 4 + [1] * 3, prompt_lengths=PROMPTS
    )
    return rm.prefix.pack(forest)


def packed(model, batch, mask):
    import torch

    ids = torch.tensor(np.concatenate(LISTS))
    hidden = model.model(
        batch.take_column(ids)[None], position_ids=batch.position_ids()[None], attention_mask=mask, use_cache=False
    ).last_hidden_state[0]
    return batch.gather(rm.vocab.logprobs(model.lm_head(batch.shift(hidden)), batch.labels(ids))).values


def one_by_one(model):
    import torch

    rows = []
    for tokens, n in zip(LISTS, PROMPTS, strict=True):
        logits = model(torch.tensor([tokens]), use_cache=False).logits[0, :-1]
        rows.append(rm.vocab.logprobs(logits, torch.tensor(tokens[1:]))[n - 1 :])
    return torch.cat(rows)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_dense_masks(peer, batch, kind, attention):
    import torch

    model = made(peer, kind, attention).double()
    mask = batch.dense_mask()[None, None]
    if attention == "eager":  # which adds it
        mask = torch.zeros(mask.shape, dtype=torch.float64).masked_fill(~mask, -1e300)
    weight = torch.linspace(-1, 1, int(batch.offsets[-1]), dtype=torch.float64)
    found = []
    for logprobs in (packed(model, batch, mask), one_by_one(model)):
        model.zero_grad()
        (logprobs * weight).sum().backward()
        found.append((logprobs.detach(), torch.cat([p.grad.flatten() for p in model.parameters()])))
    (ours, g), (theirs, wanted) = found
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    # The norms of these models compute in float32, and round the gradient of each copy or that of their sum.
    assert (g - wanted).abs().max() <= 1e-6 * wanted.abs().max()


@pytest.mark.parametrize("kind", KINDS[:1])
def test_flex_attention(peer, batch, kind):
    """Forward: there is no backward on a CPU."""
    import torch

    model = made(peer, kind, "flex_attention")
    with torch.no_grad():
        ours = packed(model, batch, batch.block_mask(16))
        model.set_attn_implementation("sdpa")
        theirs = one_by_one(model)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("attention", ["sdpa", "flex_attention"])
def test_a_sliding_window(peer, batch, attention):
    """A mask for each kind of layer; one for all would replace the window."""
    import torch
    from torch.nn.attention.flex_attention import and_masks, create_block_mask

    model, places, n = made(peer, "Gemma3", attention), batch.position_ids(), batch.n_tokens

    def near(_b, _h, q, kv):
        return places[q] - places[kv] < WINDOW

    if attention == "sdpa":
        full = batch.dense_mask()[None, None]
        sliding = full & near(None, None, torch.arange(n)[:, None], torch.arange(n))
    else:
        full = batch.block_mask(16)
        sliding = create_block_mask(and_masks(batch.mask_mod(), near), None, None, n, n, device="cpu", BLOCK_SIZE=16)
    with torch.no_grad():
        ours = packed(model, batch, {"full_attention": full, "sliding_attention": sliding})
        wrong = packed(model, batch, full)
        model.set_attn_implementation("sdpa")
        theirs = one_by_one(model)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert (wrong - theirs).abs().max() > 1e-3

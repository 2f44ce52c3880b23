"""Token sequences that share prefixes, and a small causal transformer to run packed and unpacked."""

from dataclasses import dataclass

import numpy as np
import pytest

import rollmath as rm


@dataclass
class Case:
    """Sequences of some groups, with prompts or without, and the batch of all of them."""

    lists: list
    groups: list
    prompts: list
    forest: rm.Forest
    rng: np.random.Generator
    payload: list | None = None

    @property
    def flat(self):
        return np.array([t for tokens in self.lists for t in tokens], dtype=np.int64)

    @property
    def offsets(self):
        return np.cumsum([0, *map(len, self.lists)])

    @property
    def batch(self):
        return rm.prefix.pack(self.forest)

    @property
    def lengths(self):
        """Tokens after the prompt."""
        return np.array([len(x) for x in self.lists], dtype=np.int64) - self.prompts

    def rows(self, *, gaps=False):
        """One row a sequence; what has nothing before it is never trained."""
        mask = self.rng.random(int(self.lengths.sum())) < 0.7 if gaps else np.ones(int(self.lengths.sum()), bool)
        starts = np.cumsum(self.lengths) - self.lengths
        bare = (np.array(self.prompts) == 0) & (self.lengths > 0)
        mask[starts[bare]] = False
        return rm.Rows([f"rollout {i}" for i in range(len(self.lists))], self.lengths, mask=mask)


@pytest.fixture(scope="session")
def make_case():
    """``make_case(seed)``: a few tokens only, so that prefixes coincide; duplicates, prefixes of others, empty ones."""

    def make(seed, *, n_groups=3, rollouts=9, longest=7, vocabulary=3, prompts=None, payload=False):
        rng = np.random.default_rng(seed)
        groups = [f"g{i}" for i in rng.integers(0, n_groups, rollouts)]
        with_prompts = bool(rng.integers(0, 2)) if prompts is None else prompts
        prompt_of = {g: rng.integers(0, vocabulary, rng.integers(1, 4)).tolist() for g in groups}
        lists = []
        for i, g in enumerate(groups):
            tokens = rng.integers(0, vocabulary, rng.integers(0, longest)).tolist()
            same = [x for x, other in zip(lists, groups, strict=False) if other == g]
            if same and rng.random() < 0.4:  # a copy, or a prefix of one before it
                other = same[rng.integers(len(same))]
                tokens = other[: rng.integers(0, len(other) + 1)]
                tokens = tokens[len(prompt_of[g]) :] if with_prompts else tokens
            lists.append([*prompt_of[g], *tokens] if with_prompts else tokens)
            assert len(lists) == i + 1
        marks = [rng.integers(0, 2, len(x)).tolist() for x in lists] if payload else None
        lengths = [len(prompt_of[g]) if with_prompts else 0 for g in groups]
        if payload and with_prompts:
            for x, n in zip(marks, lengths, strict=True):
                x[:n] = [0] * n
        flat = np.array([t for x in lists for t in x], dtype=np.int64)
        forest = rm.Forest.from_sequences(
            flat,
            np.cumsum([0, *map(len, lists)]),
            groups=groups,
            prompt_lengths=lengths if with_prompts else None,
            payload=None if marks is None else np.array([m for x in marks for m in x], dtype=np.int64),
        )
        return Case(lists, groups, lengths, forest, rng, marks)

    return make


@pytest.fixture(scope="session")
def make_model():
    """``make_model(seed)``: float64, two layers; called with ids and positions [B, T] and a mask [B, T, T]."""
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Layer(nn.Module):
        def __init__(self, width, heads):
            super().__init__()
            self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU())
            self.down, self.norm = nn.Linear(2 * width, width), nn.LayerNorm(width)

        def forward(self, x, attend):
            b, t, width = x.shape
            qkv = self.qkv(self.norm(x)).view(b, t, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
            x = x + self.out(attend(*qkv).transpose(1, 2).reshape(b, t, width))
            return x + self.down(self.mlp(x))

    class Model(nn.Module):
        def __init__(self, vocabulary=5, width=8, heads=2, longest=32):
            super().__init__()
            self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(longest, width)
            self.layers = nn.ModuleList(Layer(width, heads) for _ in range(2))
            self.head = nn.Linear(width, vocabulary)

        def forward(self, ids, positions, mask):
            """Hidden states; ``mask`` is bool, or a BlockMask."""

            def attend(q, k, v):
                if isinstance(mask, torch.Tensor):
                    return nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None])
                from torch.nn.attention.flex_attention import flex_attention

                return flex_attention(q, k, v, block_mask=mask)

            x = self.tokens(ids) + self.places(positions)
            for layer in self.layers:
                x = layer(x, attend)
            return x

    def make(seed=0):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = Model().double()
            for p in model.parameters():  # far from uniform, so that a wrong mask shows
                nn.init.normal_(p, std=0.5)
        return model

    return make


@pytest.fixture(scope="session")
def unpacked_logprobs():
    """``unpacked_logprobs(model, case)``: those of the tokens after the prompts, from padded sequences; 0 at firsts."""
    torch = pytest.importorskip("torch")

    def run(model, case):
        width = max(len(x) for x in case.lists)
        ids = torch.tensor([x + [0] * (width - len(x)) for x in case.lists])
        causal = torch.ones(width, width, dtype=torch.bool).tril()[None].expand(len(ids), -1, -1)
        logits = model.head(model(ids, torch.arange(width).expand_as(ids), causal))
        shifted = torch.cat([logits.new_zeros(len(ids), 1, logits.shape[2]), logits[:, :-1]], 1)
        every = torch.log_softmax(shifted, -1).gather(2, ids[..., None])[..., 0]
        every = torch.where(torch.arange(width) == 0, 0.0, every)
        return torch.cat([x[n : len(tokens)] for x, n, tokens in zip(every, case.prompts, case.lists, strict=True)])

    return run


@pytest.fixture(scope="session")
def packed_logprobs():
    """``packed_logprobs(model, batch, flat)``: those of the targets, from one forward pass over the packed tokens."""
    torch = pytest.importorskip("torch")

    def run(model, batch, flat):
        tokens = torch.from_numpy(flat)
        ids, mask = batch.take_column(tokens)[None], batch.dense_mask()[None]
        hidden = model(ids, batch.position_ids()[None], mask)[0]
        return rm.vocab.logprobs(model.head(batch.shift(hidden)), batch.labels(tokens))

    return run

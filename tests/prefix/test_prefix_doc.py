"""The examples of docs/prefix_trees.md run and give the loss and gradient of the unpacked batch."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import rollmath as rm  # noqa: E402
from rollmath import loss  # noqa: E402

TEXT = (Path(__file__).parents[2] / "docs" / "prefix_trees.md").read_text()
FOUND = re.findall(r"(?:^    .*\n)+", TEXT, re.MULTILINE)
BLOCKS = [re.sub("^    ", "", block, flags=re.MULTILINE) for block in FOUND]


class Wrapped(torch.nn.Module):
    """The test's transformer in the form of one of Hugging Face."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.lm_head = inner, inner.head

    def model(self, ids, *, position_ids, attention_mask, use_cache):
        assert not use_cache
        n = torch.arange(ids.shape[1])
        dense = attention_mask.mask_mod(None, None, n[:, None], n)  # torch has no backward of FlexAttention on a CPU
        return SimpleNamespace(last_hidden_state=self.inner(ids, position_ids, dense[None]))


@pytest.fixture
def world(make_case, make_model):
    case = make_case(8, n_groups=4, rollouts=12, prompts=True, longest=9)
    total = int(case.lengths.sum())
    sampled = -3 * case.rng.random(total)
    rows = rm.Rows(range(12), case.lengths, mask=case.rng.random(total) < 0.8, logprobs=sampled)
    return {
        "rm": rm, "torch": torch, "tokens": case.flat, "offsets": case.offsets, "prompt_ids": case.groups,
        "prompt_lengths": case.prompts, "ids": torch.from_numpy(case.flat), "device": "cpu", "rows": rows,
        "model": Wrapped(make_model()), "advantages": case.rng.normal(size=12), "case": case,
    }  # fmt: skip


@pytest.mark.filterwarnings("error")
def test_in_a_trainer(world, unpacked_logprobs, capsys):
    (source, _, _) = BLOCKS
    exec(source.replace("32_768", "20"), world)
    assert "PrefixBatch(" in capsys.readouterr().out
    model, rows = world["model"].inner, world["rows"]
    got = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    logprobs = rm.LogProbs(unpacked_logprobs(model, world["case"]), behaviour=torch.tensor(rows.logprobs.values))
    out = loss.policy_loss(
        logprobs, world["advantages"], rows, loss.Reinforce(), level="row", normalizer=loss.Normalizer.local(rows),
        correction=loss.ImportanceWeight(2.0),
    )  # fmt: skip
    out.loss.backward()
    for g, p in zip(got, model.parameters(), strict=True):
        torch.testing.assert_close(g, p.grad, rtol=1e-9, atol=1e-12)


def test_a_sliding_window(world):
    (_, source, _) = BLOCKS
    case, window = world["case"], 3
    part = case.batch
    world |= {"part": part, "window": window}
    exec(source, world)
    masks = world["attention_mask"]
    q, one = torch.arange(part.n_tokens), torch.tensor(0)
    got = {name: mask.mask_mod(one, one, q[:, None], q) for name, mask in masks.items()}
    # From the rollouts: which packed tokens are at most so many tokens back.
    expected = torch.zeros(2, part.n_tokens, part.n_tokens, dtype=torch.bool)
    for row in part.gather(np.arange(part.n_tokens), include_root=True):
        for i, at in enumerate(row.tolist()):
            expected[0, at, row[: i + 1]] = True
            expected[1, at, row[max(0, i + 1 - window) : i + 1]] = True
    assert torch.equal(got["full_attention"], expected[0])
    assert torch.equal(got["sliding_attention"], expected[1])


def test_merging(world, packed_logprobs):
    (_, _, source) = BLOCKS
    case, rows = world["case"], world["rows"]
    batch = case.batch
    lp = packed_logprobs(world["model"].inner, batch, case.flat)
    old = lp.detach() + torch.from_numpy(case.rng.normal(scale=0.5, size=batch.n_targets))
    noise = 1e-4 * np.random.default_rng(0).normal(size=int(rows.offsets[-1]))
    old_flat = batch.gather(old).values + torch.from_numpy(noise)
    world |= {"batch": batch, "lp": lp, "old_flat": old_flat, "normalizer": loss.Normalizer.local(rows)}
    exec(source, world)
    wide = rm.LogProbs(batch.gather(lp).values, batch.gather(world["old"]).values)
    expected = loss.policy_loss(
        wide, world["advantages"], rows, loss.PPO(clip=(0.2, 0.28)), normalizer=world["normalizer"],
        aggregation="seq_mean_token_mean", level="row",
    )  # fmt: skip
    assert world["out"].loss.item() == pytest.approx(expected.loss.item(), rel=1e-12)


def test_the_list_of_homogeneous_objectives():
    given = re.search(r"`objective\.homogeneous`, true of ([^.]*)\.", TEXT).group(1)
    listed = set(re.split(r",\s+|\s+and\s+", given))
    found = {
        name
        for name in loss.__all__
        if isinstance(x := getattr(loss, name), type) and issubclass(x, loss.Objective) and x.homogeneous
    }
    assert listed == found

"""The examples of docs/losses.md run, one after the other, and agree with plain torch where they take a whole step."""

import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import rollmath as rm  # noqa: E402

TEXT = (Path(__file__).parents[2] / "docs" / "losses.md").read_text()
FOUND = re.findall(r"(?:^    .*\n)+", TEXT, re.MULTILINE)
BLOCKS = [re.sub("^    ", "", block, flags=re.MULTILINE) for block in FOUND]
LENGTHS = [4, 3, 5, 2]


@pytest.fixture
def world():
    """What the examples take from a trainer."""
    generator = torch.Generator().manual_seed(0)
    wide = torch.arange(5) < torch.tensor(LENGTHS)[:, None]
    mask = wide.clone()
    mask[0, 1] = False
    old = -torch.rand(4, 5, generator=generator, dtype=torch.float64)
    noise = 0.5 * torch.randn(3, 4, 5, generator=generator, dtype=torch.float64)
    lp = (old + noise[0]).requires_grad_()
    turns = [
        [
            {"prompt": [1, 2], "response": [3, 4], "logprobs": [-0.5, -1.0]},
            {"prompt": [1, 2, 3, 4, 9], "response": [5], "logprobs": [-0.25]},
            {"prompt": [1, 2, 7], "response": [6, 6], "logprobs": [-0.25, -0.75]},
        ],
        *([{"prompt": [1, i], "response": [3] * i, "logprobs": [-0.5] * i}] for i in (1, 2, 3)),
    ]
    ids = ["a", "b", "c", "d"]
    rows = rm.Rows(ids, LENGTHS, mask=mask)
    return {
        "rm": rm, "torch": torch, "rollout_ids": ids, "lengths": LENGTHS, "response_mask": mask, "old": old,
        "sampled": old + noise[1], "reference": old + noise[2], "lp": lp, "rows": rows, "h": lp.detach().exp(),
        "rewards": torch.tensor([1.0, 0.0, 0.5, 0.0], dtype=torch.float64), "prompt_ids": ["p", "p", "q", "q"],
        "forward": lambda part: lp[part], "micro_batch_size": 3, "turns": turns,
        "advantages": torch.ones(4, dtype=torch.float64), "normalizer": rm.loss.Normalizer.local(rows),
        "micro_batches_of": lambda rows: [torch.arange(2), torch.arange(2, rows.n_rows)],
        "packed_forward": lambda rows: torch.full((int(rows.offsets[-1]),), -0.5, requires_grad=True),
        "world_size": 1, "micro_batches": [(rows, lp, old, torch.ones(4, dtype=torch.float64))],
        "objective": rm.loss.PPO(), "groups": ["p", "p", "q", "q"], "part": torch.tensor([0, 2]),
    }  # fmt: skip


@pytest.fixture
def one_process():
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def block(start):
    """The one that begins so."""
    (found,) = [b for b in BLOCKS if b.startswith(start)]
    return found


def test_the_blocks_are_found():
    assert len(BLOCKS) == 5


@pytest.mark.filterwarnings("error")
def test_one_call(world):
    exec(block("out = rm.loss.policy_loss("), world)
    assert torch.isfinite(world["lp"].grad).all()


@pytest.mark.filterwarnings("error")
def test_padded(world):
    exec(block("rows = rm.Rows(rollout_ids"), world)
    lp, old, mask = world["lp"], world["old"], world["response_mask"]
    theta = lp.detach().requires_grad_()
    rewards = world["rewards"].view(2, 2)
    a = ((rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-6)).view(4, 1)
    ratio = (theta - old).exp()
    loss = torch.maximum(-a * ratio, -a * ratio.clamp(0.8, 1.28)) * (old - world["sampled"]).exp().clamp(max=2)
    delta = world["reference"] - theta
    loss = ((loss + 0.001 * (delta.exp() - delta - 1)) * mask).sum() / mask.sum()
    loss.backward()
    assert world["metrics"]["loss"].item() == pytest.approx(loss.item(), rel=1e-12)
    torch.testing.assert_close(lp.grad, theta.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.filterwarnings("error")
def test_turns(world, capsys):
    exec(block("rows = rm.Rows.from_turns("), world)
    assert "1 turn does not extend the one before it" in capsys.readouterr().out
    assert world["rows"].n_rows == 5
    assert torch.isfinite(world["out"].loss)


def test_the_normalizer(world, one_process):
    exec(block("part = rm.loss.Normalizer.local("), world)
    assert world["normalizer"].tokens == 13
    assert torch.isfinite(world["lp"].grad).all()


def test_scores(world):
    part, lp = world["part"], world["lp"]
    world |= {"lp_part": lp[part], "ref_part": world["reference"][part]}
    exec(block("scores = rm.loss.sequence_scores("), world)
    assert lp.grad[part].abs().sum() > 0

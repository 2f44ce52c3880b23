"""Wrong calls of linear_row_stats and LMHead."""

import pytest

torch = pytest.importorskip("torch")

from rollmath import vocab  # noqa: E402

HIDDEN, WEIGHT, LABELS = torch.zeros(2, 4), torch.zeros(300, 4), torch.tensor([0, 299])


def call(hidden=HIDDEN, weight=WEIGHT, labels=LABELS, **options):
    return vocab.linear_row_stats(hidden, weight, labels, **options)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"hidden": [[0.0]]}, TypeError, r"'hidden' must be a float tensor \[..., H\], got an object of type list"),
        ({"hidden": torch.zeros(2, 4).long()}, TypeError, r"'hidden' must be a float tensor .* got a 2-D int64"),
        ({"weight": WEIGHT.to_sparse()}, TypeError, "'weight' must be a dense tensor, got a sparse one"),
        ({"hidden": HIDDEN.to(torch.float8_e5m2)}, TypeError, "'hidden' must have 16, 32 or 64 bits a number, got"),
        ({"weight": LABELS}, TypeError, r"'weight' must be a float tensor \[V, H\], got a 1-D int64"),
        (
            {"weight": torch.zeros(300)},
            ValueError,
            r"'weight' must have shape \[V, H\] with both at least 1, got \(300,\)",
        ),
        ({"weight": torch.zeros(0, 4)}, ValueError, r"both at least 1, got \(0, 4\)"),
        ({"hidden": torch.tensor(1.0)}, ValueError, r"for 'hidden' \(\), got \(300, 4\)"),
        (
            {"weight": WEIGHT.T},
            ValueError,
            r"'weight' must have shape \[V, 4\] for 'hidden' \(2, 4\), got \(4, 300\); it looks .* weight.T$",
        ),
        (
            {"weight": torch.zeros(300, 5)},
            ValueError,
            r"must have shape \[V, 4\] for 'hidden' \(2, 4\), got \(300, 5\)$",
        ),
        (
            {"weight": torch.zeros(300, 4, device="meta")},
            ValueError,
            r"'weight' must be on cpu \(= hidden.device\), got meta",
        ),
        (
            {"weight": WEIGHT.double()},
            TypeError,
            r"'weight' must be torch.float32 \(= hidden.dtype\), got torch.float64; cast",
        ),
        ({"bias": torch.zeros(300).bfloat16()}, TypeError, "'bias' must be torch.float32 .* got torch.bfloat16"),
        ({"bias": torch.zeros(4)}, ValueError, r"'bias' must have shape \(300,\) \(= weight.shape\[:1\]\), got \(4,\)"),
        ({"bias": 1.0}, TypeError, r"'bias' must be a float tensor \[V\], got"),
        ({"labels": LABELS.float()}, TypeError, "'labels' must be an integer tensor"),
        ({"labels": LABELS[:1]}, ValueError, r"'labels' must have shape \(2,\) \(= hidden.shape\[:-1\]\), got \(1,\)"),
        ({"labels": LABELS.to("meta")}, ValueError, r"'labels' must be on cpu \(= hidden.device\), got meta"),
        (
            {"labels": LABELS + 1},
            ValueError,
            r"'labels' must be in \[0, 300\) \(= V\), got 300 at flat index 1; labels to",
        ),
        (
            {"labels": LABELS - 101, "ignore_index": -100},
            ValueError,
            r"'labels' must be in .*, got -101 at flat index 0$",
        ),
        (
            {"labels": None},
            ValueError,
            r"'labels' is needed for the output 'logprob'; without labels say outputs=\('entropy',\)",
        ),
        ({"outputs": ("gathered",)}, ValueError, "'ids' is needed for the output 'gathered'"),
        (
            {"outputs": ("gathered",), "ids": LABELS},
            ValueError,
            r"'ids' must have shape \(2,\) \(= hidden.shape\[:-1\]\) and",
        ),
        ({"outputs": ("gathered",), "ids": LABELS[:, None] + 1}, ValueError, r"'ids' must be in \[0, 300\)"),
        (
            {"outputs": ("gathered",), "ids": LABELS[:, None][:, :0]},
            ValueError,
            r"and then K of at least 1, got \(2, 0\)",
        ),
        ({"outputs": "entropy"}, ValueError, "'outputs' must be a tuple of one or more of 'logprob'"),
        ({"outputs": ("kl",)}, ValueError, r"'outputs' must be a tuple .* got \('kl',\)"),
        ({"temperature": 0}, ValueError, "'temperature' must be positive and finite .*, got 0"),
        (
            {"temperature": torch.tensor([1.0, -2.0])},
            ValueError,
            "'temperature' must be positive .*, got -2.0",
        ),
        ({"temperature": torch.ones(3)}, ValueError, r"'temperature' must have shape \(2,\) \(= hidden.shape\[:-1\]\)"),
        ({"temperature": torch.ones(2, requires_grad=True)}, ValueError, "'temperature' requires grad"),
        ({"temperature": "hot"}, TypeError, "'temperature' must be a number or a tensor with one number a row"),
        ({"temperature": True}, TypeError, "'temperature' must be a number"),
        (
            {"temperature": torch.ones(2, dtype=torch.bool)},
            TypeError,
            "'temperature' must be a number or a tensor with one number a row, got a 1-D bool array",
        ),
        ({"softcap": 0.0}, ValueError, "'softcap' must be finite and positive, got 0.0"),
        (
            {"mask": torch.ones(2)},
            TypeError,
            "'mask' must be a bool tensor, True .*, got a 1-D float32",
        ),
        ({"mask": torch.ones(3, dtype=torch.bool)}, ValueError, r"'mask' must have shape \(2,\)"),
        ({"mask": torch.ones(2, dtype=torch.bool, device="meta")}, ValueError, "'mask' must be on cpu"),
        ({"logits_dtype": "float16"}, ValueError, "'logits_dtype' must be None, 'float32', got 'float16'"),
        ({"logits_dtype": "single"}, ValueError, "'logits_dtype' must be None, 'float32', got 'single'"),
        ({"workspace": 1.5}, TypeError, "'workspace' must be an integer, a number of bytes, got"),
        (
            {"workspace": 511},
            ValueError,
            r"'workspace' must be at least 512 bytes \(= one row of 128 logits\), got 511",
        ),
        ({"backend": "cuda"}, ValueError, "'backend' must be one of"),
        ({"shard": 3}, TypeError, "'shard' must be a VocabShard or None, got"),
    ],
)
def test_arguments(arguments, error, match):
    with pytest.raises(error, match=rf"^linear_row_stats\(\): .*{match}"):
        call(**arguments)


def test_what_is_possible_is_said_for_16_bits():
    with pytest.raises(ValueError, match=r"'logits_dtype' must be None, 'bfloat16' or 'float32', got torch\.float64"):
        call(HIDDEN.bfloat16(), WEIGHT.bfloat16(), logits_dtype=torch.float64)
    for given in ("bfloat16", torch.float32, "float32", None):
        assert call(HIDDEN.bfloat16(), WEIGHT.bfloat16(), logits_dtype=given).logprob.dtype == torch.float32


def test_labels_that_nobody_looks_at_give_nan():
    stats = call(labels=torch.tensor([300, 0]), check=False)
    assert stats.logprob.isnan().tolist() == [True, False]
    assert not stats.entropy.isnan().any()


class Quantised(torch.nn.Linear):
    """As libraries make them: a linear layer whose weight is something else."""

    def forward(self, hidden):
        return hidden @ (0.5 * self.weight.T)


def test_transforms_of_functions():
    with pytest.raises(RuntimeError, match=r"^linear_row_stats\(\): does not run under the transforms of torch.func"):
        torch.func.vmap(lambda row: call(row, labels=torch.tensor(1)).logprob)(HIDDEN)


def test_heads():
    with pytest.raises(ValueError, match=r"LMHead\(\): 'softcap' must be finite and positive, got -1"):
        vocab.LMHead(4, 300, softcap=-1)
    with pytest.raises(ValueError, match=r"LMHead\(\): 'scale' must be finite and positive, got 0"):
        vocab.LMHead(4, 300, scale=0)
    with pytest.raises(
        TypeError, match=r"LMHead.from_linear\(\): 'linear' must be an nn.Linear with its own forward, got .* type Ide"
    ):
        vocab.LMHead.from_linear(torch.nn.Identity())
    with pytest.raises(TypeError, match=r"must be an nn.Linear with its own forward, got an object of type Quantised"):
        vocab.LMHead.from_linear(Quantised(4, 300))
    with pytest.raises(ValueError, match=r"^row_stats\(\): 'labels' must have shape \(2,\)"):
        vocab.LMHead(4, 300).row_stats(HIDDEN, LABELS[:1])
    with pytest.raises(TypeError, match=r"^row_stats\(\): 'weight' must be torch.bfloat16 .* got torch.float32"):
        vocab.LMHead(4, 300).row_stats(HIDDEN.bfloat16(), LABELS)

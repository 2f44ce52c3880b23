"""Wrong calls of the vocabulary reductions."""

import pytest

torch = pytest.importorskip("torch")

from rollmath import vocab  # noqa: E402

X, Y = torch.zeros(2, 3), torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("logits", "labels", "error", "match"),
    [
        (
            torch.zeros(2, 3, dtype=torch.int64),
            Y,
            TypeError,
            r"'logits' must be a float tensor \[..., V\], got a 2-D int64",
        ),
        ([[0.0]], Y, TypeError, "'logits' must be a float tensor .* got an object of type list"),
        (torch.zeros(2, 0), Y, ValueError, r"V of at least 1, got \(2, 0\)"),
        (torch.tensor(1.0), Y, ValueError, "V of at least 1"),
        (X, Y.float(), TypeError, "'labels' must be an integer tensor, got a 1-D float32 array"),
        (X, Y.bool(), TypeError, "'labels' must be an integer tensor"),
        (X, [0, 1], TypeError, "'labels' must be an integer tensor, got an object of type list"),
        (X, torch.tensor([0]), ValueError, r"'labels' must have shape \(2,\) \(= logits.shape\[:-1\]\), got \(1,\)"),
        (X, torch.tensor([0, 3]), ValueError, r"'labels' must be in \[0, 3\) \(= V\), got 3 at flat index 1"),
        (X, torch.tensor([-100, 0]), ValueError, r"got -100 at flat index 0; labels to skip need ignore_index="),
    ],
)
def test_logits_and_labels(logits, labels, error, match):
    with pytest.raises(error, match=rf"logprobs\(\): .*{match}"):
        vocab.logprobs(logits, labels)
    with pytest.raises(error, match=rf"row_stats\(\): .*{match}"):
        vocab.row_stats(logits, labels)


def test_another_negative_label_beside_ignore_index():
    with pytest.raises(ValueError, match=r"got -1 at flat index 1$"):
        vocab.logprobs(X, torch.tensor([-100, -1]), ignore_index=-100)


@pytest.mark.parametrize(
    ("temperature", "error", "match"),
    [
        (0, ValueError, "'temperature' must be positive and finite, got 0"),
        (-1.0, ValueError, "got -1.0"),
        (float("nan"), ValueError, "got nan"),
        (float("inf"), ValueError, "got inf"),
        (torch.tensor(0.0), ValueError, "got 0.0"),
        (True, TypeError, "'temperature' must be a number"),
        ("1", TypeError, "'temperature' must be a number"),
        (10**400, ValueError, "'temperature' must fit float64, got an integer of 1329 bits"),
        (torch.tensor([1.0, -2.0]), ValueError, "positive and finite, got -2.0 at flat index 1"),
        (torch.tensor([1.0]), ValueError, r"'temperature' must have shape \(2,\)"),
        (torch.ones(2, requires_grad=True), ValueError, "'temperature' requires grad"),
        (torch.ones((), requires_grad=True), ValueError, "'temperature' requires grad"),
    ],
)
def test_temperature(temperature, error, match):
    with pytest.raises(error, match=match):
        vocab.logprobs(X, Y, temperature=temperature)


@pytest.mark.parametrize("outputs", [(), "entropy", ("entropy", "H")])
def test_outputs(outputs):
    with pytest.raises(ValueError, match="'outputs' must be a tuple of one or more of 'logprob', 'entropy'"):
        vocab.row_stats(X, Y, outputs=outputs)


def test_logprob_needs_labels():
    with pytest.raises(ValueError, match=r"'labels' is needed for the output 'logprob'; .*outputs=\('entropy',\)"):
        vocab.row_stats(X)


def test_labels_on_another_device():
    with pytest.raises(ValueError, match=r"'labels' must be on cpu \(= logits.device\), got meta"):
        vocab.logprobs(X, Y.to("meta"))

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
        (X.to_sparse(), Y, TypeError, "'logits' must be a dense tensor, got a sparse one"),
        (
            torch.nested.as_nested_tensor([X, X[:1]], layout=torch.jagged),
            Y,
            TypeError,
            "'logits' must be a dense tensor, got a nested one",
        ),
        (X.to(torch.float8_e5m2), Y, TypeError, "'logits' must have 16, 32 or 64 bits a number, got a 2-D float8_e5m2"),
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
        (0, ValueError, "'temperature' must be positive and finite .*, got 0"),
        (-1.0, ValueError, "got -1.0"),
        (float("nan"), ValueError, "got nan"),
        (float("inf"), ValueError, "got inf"),
        (1e-31, ValueError, r"positive and finite \(1e-30 to 1e30\), got 1e-31"),
        (torch.tensor([1e30, 1e31]), ValueError, "at flat index 1"),
        (torch.ones((), device="meta"), ValueError, r"'temperature' must be on cpu \(= logits.device\), got meta"),
        (torch.tensor(0.0), ValueError, "got 0.0"),
        (True, TypeError, "'temperature' must be a number"),
        ("1", TypeError, "'temperature' must be a number"),
        (10**400, ValueError, "'temperature' must fit float64, got an integer of 1329 bits"),
        (torch.tensor([1.0, -2.0]), ValueError, "positive and finite .*, got -2.0 at flat index 1"),
        (torch.tensor([1.0]), ValueError, r"'temperature' must have shape \(2,\)"),
        (torch.ones(2, requires_grad=True), ValueError, "'temperature' requires grad"),
        (torch.ones((), requires_grad=True), ValueError, "'temperature' requires grad"),
    ],
)
def test_temperature(temperature, error, match):
    with pytest.raises(error, match=match):
        vocab.logprobs(X, Y, temperature=temperature)


@pytest.mark.parametrize("outputs", [(), "entropy", ("entropy", "H"), 5, iter(("entropy",)), torch.ones(2)])
def test_outputs(outputs):
    with pytest.raises(ValueError, match="'outputs' must be a tuple of one or more of 'logprob', 'entropy'"):
        vocab.row_stats(X, Y, outputs=outputs)


def test_logprob_needs_labels():
    with pytest.raises(ValueError, match=r"'labels' is needed for the output 'logprob'; .*outputs=\('entropy',\)"):
        vocab.row_stats(X)


def test_labels_are_looked_at_even_if_no_output_reads_them():
    with pytest.raises(ValueError, match=r"row_stats\(\): 'labels' must have shape \(2,\)"):
        vocab.row_stats(X, Y[:1], outputs=("entropy",))


def test_temperatures_and_softcaps_at_the_ends_of_their_range():
    x = torch.tensor([[3.0, -torch.inf, 1.0], [0.0, 1.0, 0.0]])
    for t in (1e-30, 1e30, torch.tensor([1e-30, 1e30])):
        assert not any(s.isnan().any() for s in vocab.row_stats(x, Y, temperature=t, softcap=1e-30)[:2])
        assert not any(s.isnan().any() for s in vocab.row_stats(x, Y, temperature=t, softcap=1e30)[:2])


def test_labels_on_another_device():
    with pytest.raises(ValueError, match=r"'labels' must be on cpu \(= logits.device\), got meta"):
        vocab.logprobs(X, Y.to("meta"))


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"mask": torch.tensor([1, 0])}, TypeError, "'mask' must be a bool tensor, True where a row counts, got a 1-D"),
        ({"mask": torch.tensor([True])}, ValueError, r"'mask' must have shape \(2,\)"),
        ({"mask": torch.tensor([True, True], device="meta")}, ValueError, "'mask' must be on cpu"),
        ({"softcap": 0.0}, ValueError, "'softcap' must be finite and positive, got 0.0"),
        ({"softcap": float("inf")}, ValueError, "'softcap' must be finite and positive, got inf"),
        ({"softcap": "30"}, TypeError, "'softcap' must be a number, got an object of type str"),
        ({"softcap": 1e300}, ValueError, r"'softcap' must be finite and positive \(1e-30 to 1e30\), got 1e\+300"),
        ({"ignore_index": 2**63}, ValueError, "'ignore_index' must fit int64, as labels do, got 9223372036854775808"),
        ({"ignore_index": 1.0}, TypeError, "'ignore_index' must be a whole number, got an object of type float"),
        ({"ignore_index": True}, TypeError, "'ignore_index' must be a whole number"),
        ({"check": 1}, TypeError, "'check' must be True or False, got 1"),
        ({"inplace_backward": None}, TypeError, "'inplace_backward' must be True or False, got None"),
        ({"backend": "cuda"}, ValueError, "'backend' must be one of 'auto', 'torch', 'triton', got 'cuda'"),
        ({"temperature": torch.tensor([True, True])}, TypeError, "'temperature' must be a number or a tensor"),
    ],
)
def test_options(options, error, match):
    with pytest.raises(error, match=rf"logprobs\(\): .*{match}"):
        vocab.logprobs(X, Y, **options)
    with pytest.raises(error, match=rf"row_stats\(\): .*{match}"):
        vocab.row_stats(X, Y, **options)


@pytest.mark.parametrize(
    ("ids", "error", "match"),
    [
        (None, ValueError, "'ids' is needed for the output 'gathered'; without ids say outputs=\\('entropy',\\)"),
        (torch.tensor([0, 1]), ValueError, r"'ids' must have shape \(2,\) \(= logits.shape\[:-1\]\) and then K of"),
        (torch.zeros(2, 0, dtype=torch.int64), ValueError, r"then K of at least 1, got \(2, 0\)"),
        (torch.zeros(2, 1), TypeError, r"'ids' must be an integer tensor \[..., K\], got a 2-D float32"),
        (torch.tensor([[0], [3]]), ValueError, r"'ids' must be in \[0, 3\) \(= V\), got 3 in flat row 1"),
        (torch.tensor([[0], [0]], device="meta"), ValueError, "'ids' must be on cpu"),
    ],
)
def test_ids(ids, error, match):
    with pytest.raises(error, match=rf"row_stats\(\): .*{match}"):
        vocab.row_stats(X, outputs=("entropy", "gathered"), ids=ids)


def test_what_is_needed_and_what_is_not_read():
    with pytest.raises(ValueError, match=r"'ids' is needed for the output 'gathered'$"):
        vocab.row_stats(X, outputs=("gathered",))
    with pytest.raises(ValueError, match=r"'ids' are read for the output 'gathered', which 'outputs' does not have"):
        vocab.row_stats(X, outputs=("entropy",), ids=Y[:, None])
    with pytest.raises(ValueError, match=r"logprobs\(\): 'labels' is needed for the output 'logprob'$"):
        vocab.logprobs(X, None)


def test_unchecked_values_give_nan_and_touch_no_other_row():
    stats = vocab.row_stats(X, torch.tensor([3, 1]), check=False)
    assert stats.logprob[0].isnan()
    assert torch.isfinite(stats.logprob[1])
    assert torch.isfinite(stats.entropy).all()
    gathered = vocab.row_stats(X, outputs=("gathered",), ids=torch.tensor([[-1], [2]]), check=False).gathered
    assert gathered[0].isnan()
    assert torch.isfinite(gathered[1])
    with pytest.raises(ValueError, match="'labels' must be in"):
        vocab.logprobs(X, torch.tensor([3, 1]), check=True)
    lp = vocab.logprobs(X, Y, temperature=torch.tensor([-1.0, 1.0]), check=False)
    assert lp.isnan().tolist() == [True, False]


def test_a_label_that_is_out_of_range_gets_no_spike():
    x = torch.zeros(2, 3, requires_grad=True)
    vocab.logprobs(x, torch.tensor([7, 1]), check=False)[1].backward()
    assert (x.grad[0] == 0).all()


def test_the_meta_device_computes_shapes():
    x = torch.empty(2, 3, 8, device="meta", dtype=torch.bfloat16, requires_grad=True)
    stats = vocab.row_stats(x, torch.empty(2, 3, device="meta", dtype=torch.int64))
    assert stats.logprob.shape == (2, 3)
    assert stats.logprob.is_meta
    assert stats.entropy.dtype == torch.float32


@pytest.mark.parametrize(
    ("sets", "mask", "message"),
    [
        (
            [[0, 2], [], [1]],
            None,
            r"'allowed' must have a token in every row, got none in flat row 1; leave rows out by",
        ),
        ([[0, 2], [3], [1]], None, r"'labels' must be in the set of 'allowed' of their row, got 1 at flat index 1$"),
        ([[0, 2], [], [1]], [True, False, True], None),
        ([[0, 2], [3], [1]], [True, False, True], None),
    ],
)
def test_sets_that_leave_a_row_without_its_label_are_errors_on_request(sets, mask, message):
    x, y = torch.randn(3, 4), torch.tensor([2, 1, 1])
    options = {"allowed": vocab.TokenSets.of_lists(sets), "mask": None if mask is None else torch.tensor(mask)}
    by_default = vocab.logprobs(x, y, **options)
    if message is None:
        assert torch.equal(vocab.logprobs(x, y, check=True, **options), by_default)
        return
    with pytest.raises(ValueError, match=message):
        vocab.logprobs(x, y, check=True, **options)
    assert not by_default[1].isfinite()
    with pytest.raises(ValueError, match=message):
        torch.compile(lambda a: vocab.logprobs(a, y, check=True, **options), backend="eager")(x)
    ignored = vocab.row_stats(x, torch.tensor([2, -1, 1]), ignore_index=-1, check=len(sets[1]) > 0, **options)
    assert ignored.logprob[1] == 0

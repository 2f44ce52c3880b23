"""vocab.TokenSets."""

import pytest

torch = pytest.importorskip("torch")

from rollmath import vocab  # noqa: E402

TokenSets = vocab.TokenSets


def test_of_lists_and_of_mask_are_the_same():
    a = TokenSets.of_lists([[0, 2], [], [1]])
    b = TokenSets.of_mask(torch.tensor([[True, False, True], [False] * 3, [False, True, False]]))
    assert a.ids.tolist() == b.ids.tolist() == [0, 2, 1]
    assert a.offsets.tolist() == b.offsets.tolist() == [0, 2, 2, 3]
    assert len(a) == 3
    assert repr(a) == "TokenSets(3 rows, 3 tokens)"


def test_of_mask_of_several_axes_and_of_nothing():
    assert len(TokenSets.of_mask(torch.ones(2, 3, 4, dtype=torch.bool))) == 6
    assert len(TokenSets.of_mask(torch.ones(0, 4, dtype=torch.bool))) == 0
    assert len(TokenSets.of_lists([])) == 0
    assert TokenSets.of_lists([[], []]).offsets.tolist() == [0, 0, 0]


def test_of_lists_takes_anything_that_holds_integers():
    sets = TokenSets.of_lists([range(2), {5}, torch.tensor([3, 1])], device="cpu")
    assert sets.ids.tolist() == [0, 1, 5, 3, 1]


def test_order_and_width_of_the_ids_do_not_matter():
    x, y = torch.randn(2, 9), torch.tensor([4, 0])
    a = TokenSets(torch.tensor([8, 4, 0, 0, 3]), torch.tensor([0, 3, 5]))
    b = TokenSets(torch.tensor([0, 4, 8, 3, 0], dtype=torch.int32), torch.tensor([0, 3, 5], dtype=torch.int32))
    assert torch.equal(vocab.logprobs(x, y, allowed=a), vocab.logprobs(x, y, allowed=b))


def test_offsets_on_a_device_are_made_safe():
    sets = TokenSets(torch.zeros(3, dtype=torch.int64, device="meta"), torch.zeros(2, dtype=torch.int64, device="meta"))
    assert sets.offsets.shape == (2,)


@pytest.mark.parametrize(
    ("ids", "offsets", "error", "match"),
    [
        ([1], torch.tensor([0, 1]), TypeError, "'ids' must be a 1-D int32 or int64 tensor, got an object of type list"),
        (torch.tensor([1.0]), torch.tensor([0, 1]), TypeError, "'ids' must be .* got a 1-D float32 array"),
        (torch.tensor([1]), torch.tensor([[0, 1]]), TypeError, "'offsets' must be .* got a 2-D int64 array"),
        (torch.tensor([1]), torch.tensor([0, 1], device="meta"), ValueError, "'offsets' must be on cpu"),
        (torch.tensor([1]), torch.tensor([], dtype=torch.int64), ValueError, "length N \\+ 1"),
        (torch.tensor([1]), torch.tensor([0, 2]), ValueError, r"must rise from 0 to 1 \(= len\(ids\)\), got 0 to 2"),
        (torch.tensor([1, 2]), torch.tensor([0, 2, 1, 2]), ValueError, "'offsets' must rise from 0 to 2"),
        (torch.tensor([1]), torch.tensor([1, 1]), ValueError, "got 1 to 1"),
        (torch.tensor([-1]), torch.tensor([0, 1]), ValueError, "the tokens of a set must be at least 0, got -1"),
        (torch.tensor([2, 7, 2]), torch.tensor([0, 0, 3]), ValueError, "distinct, got 2 twice in flat row 1"),
    ],
)
def test_errors(ids, offsets, error, match):
    with pytest.raises(error, match=rf"TokenSets\(\): .*{match}"):
        TokenSets(ids, offsets)


def test_errors_of_the_constructors():
    with pytest.raises(TypeError, match=r"of_mask\(\): 'mask' must be a bool tensor \[..., V\], got a 1-D int64 array"):
        TokenSets.of_mask(torch.tensor([1, 0]))
    with pytest.raises(TypeError, match=r"of_lists\(\): row 1 must hold whole numbers, got an object of type float"):
        TokenSets.of_lists([[1], [0.5]])
    with pytest.raises(TypeError, match=r"of_lists\(\): 'lists' must hold a list for each row, but row 0 is an obj"):
        TokenSets.of_lists([1, 2])
    with pytest.raises(ValueError, match="distinct, got 3 twice in flat row 0"):
        TokenSets.of_lists([[3, 1, 3]])


def test_errors_of_the_functions():
    x, y = torch.zeros(2, 3), torch.tensor([0, 1])
    with pytest.raises(TypeError, match=r"logprobs\(\): 'allowed' must be vocab.TokenSets, got .*list; use TokenSets"):
        vocab.logprobs(x, y, allowed=[[0], [1]])
    with pytest.raises(ValueError, match=r"'allowed' must have 2 sets \(= rows of logits\), got 1"):
        vocab.logprobs(x, y, allowed=TokenSets.of_lists([[0]]))
    with pytest.raises(ValueError, match=r"the tokens of a set must be in \[0, 3\) \(= V\), got 3"):
        vocab.logprobs(x, y, allowed=TokenSets.of_lists([[0], [3]]))
    with pytest.raises(ValueError, match=r"'allowed' must be on cpu \(= logits.device\), got meta"):
        vocab.logprobs(x, y, allowed=TokenSets.of_lists([[0], [1]]).to("meta"))


def test_tokens_that_do_not_exist_are_never_read():
    x, y = torch.randn(2, 3), torch.tensor([0, 1])
    wild = TokenSets(torch.tensor([0, 900, 1, 5]), torch.tensor([0, 2, 4]))
    lp = vocab.logprobs(x, y, allowed=wild, check=False)
    assert lp.tolist() == [0, 0]

"""Normalizer: counts, merging, which batch it is of, what the trainer does."""

import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from rollmath import Rows  # noqa: E402
from rollmath.loss import Aggregation, Normalizer  # noqa: E402

ROWS = Rows(["a", "a", "b", "c"], [2, 1, 0, 2], mask=[1, 0, 1, 0, 0])
NORM = Normalizer.local(ROWS, prompts=["p", "p", "q"])


def test_local():
    assert NORM.counts == (2, 2, 1, 1, 2, 2, 1)
    assert NORM.rollout_tokens == {"a": 2, "b": 0, "c": 0}
    assert NORM.prompt_tokens == {"p": 2, "q": 0}
    assert Normalizer.local(ROWS).prompt_tokens is None
    assert Normalizer.local(ROWS).rollout_prompts is None
    assert repr(NORM) == (
        "Normalizer(tokens=2, rows=2, rollouts=1, prompts=1, empty_rows=2, empty_rollouts=2, empty_prompts=1)"
    )


@st.composite
def steps(draw):
    n = draw(st.integers(0, 8))
    rollouts = draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))
    trained = draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    rows = Rows(np.array(rollouts, np.int64), np.array(trained, np.int64))
    k = rows.n_rollouts
    prompts = np.array(draw(st.lists(st.integers(0, 2), min_size=k, max_size=k)), np.int64)
    return rows, prompts


def parts_of(rows, prompts, part_of_row):
    """The Normalizers of the parts, as ranks would make them from their rows alone."""
    prompt = dict(zip(rows.rollouts.ids, prompts.tolist(), strict=True))
    parts = []
    for number in range(3):
        sub = rows.take(np.flatnonzero(part_of_row == number))
        mine = None if prompts is None else np.array([prompt[key] for key in sub.rollouts.ids], np.int64)
        parts.append(Normalizer.local(sub, prompts=mine))
    return parts


@settings(max_examples=80, deadline=None)
@given(steps(), st.randoms(use_true_random=False), st.booleans())
def test_parts_in_any_order_make_the_whole(drawn, random, split):
    rows, prompts = drawn
    whole = Normalizer.local(rows, prompts=prompts)
    of = np.array([random.randrange(3) for _ in range(rows.n_rows if split else rows.n_rollouts)], np.int64)
    parts = parts_of(rows, prompts, of if split else of[rows.rollouts.index])
    random.shuffle(parts)
    merged = Normalizer.sum(parts, split_rollouts=split)
    assert merged == whole
    assert merged.batch_id == whole.batch_id
    assert hash(merged) == hash(whole)
    if not split:
        a, b, c = parts
        assert (a + b) + c == a + (b + c) == c + b + a == whole
        assert Normalizer.sum([]) + whole == whole + Normalizer.sum([]) == whole


def test_a_prompt_over_parts_counts_once():
    first = Normalizer.local(Rows(["a"], [2]), prompts=["p"])
    second = Normalizer.local(Rows(["b", "c"], [1, 1], mask=[1, 0]), prompts=["p", "q"])
    whole = first + second
    assert (whole.prompts, whole.empty_prompts) == (1, 1)
    assert whole.prompt_tokens == {"p": 3, "q": 0}
    # Empty in one part, alive in the other.
    assert (first + Normalizer.local(Rows(["d"], [1]), prompts=["q"])).prompts == 2


def test_a_rank_without_rows_agrees_with_any():
    nothing = Normalizer.local(Rows([], []))
    assert nothing + NORM == NORM + nothing == NORM
    assert nothing == Normalizer.sum([]) == Normalizer.sum([nothing, nothing])
    counts = Normalizer(tokens=3, rows=2, rollouts=1)
    assert nothing + counts == counts


def test_counts_add_up():
    counts = Normalizer(tokens=3, rows=2, rollouts=1, empty_rows=1)
    assert counts + counts == Normalizer(tokens=6, rows=4, rollouts=2, empty_rows=2)
    assert Normalizer(tokens=np.int64(3), rows=1, rollouts=1) == Normalizer(tokens=3, rows=1, rollouts=1)
    with pytest.raises(TypeError):
        counts + 3


def test_a_rollout_in_two_parts():
    with pytest.raises(
        ValueError, match=r"'parts' must have distinct rollout ids, but 'a' is in parts\[1\] and in one"
    ):
        Normalizer.sum([NORM, NORM])
    twice = Normalizer.sum([NORM, NORM], split_rollouts=True)
    assert (twice.tokens, twice.rows, twice.rollouts, twice.prompts) == (4, 4, 1, 1)
    with pytest.raises(ValueError, match="'parts' disagree on the prompt of rollout 'a': 'p' and 'other'"):
        Normalizer.sum([NORM, Normalizer.local(Rows(["a"], [1]), prompts=["other"])], split_rollouts=True)


def test_batch_id_is_of_the_batch_in_any_order():
    backwards = ROWS.take([3, 1, 2, 0])
    same = Normalizer.local(backwards, prompts=["q", "p", "p"])
    assert same.batch_id == NORM.batch_id
    assert same == NORM
    assert NORM.under(ranks=4, grad_reduce="mean").batch_id == NORM.batch_id
    others = [
        Normalizer.local(ROWS),
        Normalizer.local(ROWS, prompts=["p", "q", "q"]),
        Normalizer.local(Rows(["a", "a", "b", "d"], [2, 1, 0, 2], mask=ROWS.mask), prompts=["p", "p", "q"]),
        Normalizer.local(Rows(["a", "a", "b", "c"], [2, 1, 0, 2], mask=[1, 1, 1, 0, 0]), prompts=["p", "p", "q"]),
    ]
    assert len({norm.batch_id for norm in [NORM, *others]}) == 5
    again = pickle.loads(pickle.dumps(NORM))
    assert again == NORM
    assert again.batch_id == NORM.batch_id


def test_rows_of_another_batch():
    weigh = Aggregation.named("token_mean").weights
    counts = Normalizer(tokens=1, rows=1, rollouts=1)
    with pytest.raises(ValueError, match=r"normalizer.tokens is 1, but these rows alone have 2 trained tokens"):
        weigh(ROWS, counts)
    with pytest.raises(ValueError, match=rf"but rollout 'd' is not in it \(batch {NORM.batch_id}\)"):
        weigh(Rows(["d"], [1]), NORM)
    longer = Normalizer.local(Rows(["a", "z"], [1, 9]))
    with pytest.raises(
        ValueError, match=rf"but rollout 'a' is in batch {longer.batch_id} but its 2 trained .* than the 1"
    ):
        weigh(Rows(["a"], [2]), longer)
    # A rollout without a trained token must be of the batch too: its rows may be of another step.
    with pytest.raises(ValueError, match="rollout 'd' is not in it"):
        weigh(Rows(["d"], [1], mask=[0]), NORM)


def test_what_the_trainer_does():
    assert NORM.scale == 1
    assert NORM.under(ranks=8).scale == 1
    assert NORM.under(grad_reduce="mean", ranks=8).scale == 8
    assert NORM.under(grad_reduce="mean", ranks=8, context_parallel=2, accumulation=3).scale == 48
    assert NORM.under(accumulation=3).scale == 3
    assert repr(Normalizer(tokens=1, rows=1, rollouts=1, grad_reduce="mean", ranks=2)) == (
        "Normalizer(tokens=1, rows=1, rollouts=1, grad_reduce='mean', ranks=2)"
    )
    same = NORM.under(grad_reduce="mean", ranks=2)
    assert hash(same) != hash(NORM)
    assert same != NORM
    assert same.under() == NORM


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"tokens": 1.0}, TypeError, "'tokens' must be an int, got 1.0"),
        ({"rows": True}, TypeError, "'rows' must be an int, got True"),
        ({"rows": 5}, ValueError, "expected 0 <= rollouts <= rows <= tokens, got rollouts=1, rows=5, tokens=4"),
        ({"rollouts": -1}, ValueError, "expected 0 <= rollouts <= rows <= tokens"),
        ({"prompts": 2}, ValueError, "expected 0 <= prompts <= rollouts and no negative count, got tokens=4, rows=2"),
        ({"empty_rows": -1}, ValueError, ".* and no negative count, got .*empty_rows=-1"),
        ({"grad_reduce": "avg"}, ValueError, "'grad_reduce' must be one of 'sum', 'mean', got 'avg'"),
        ({"ranks": 0}, ValueError, "'ranks' must be at least 1, got 0"),
        ({"accumulation": 2.0}, TypeError, "'accumulation' must be a whole number"),
        ({"context_parallel": True}, TypeError, "'context_parallel' must be a whole number"),
    ],
)
def test_errors(arguments, error, match):
    with pytest.raises(error, match=rf"Normalizer\(\): {match}"):
        Normalizer(**{"tokens": 4, "rows": 2, "rollouts": 1} | arguments)


def test_errors_of_parts():
    who = r"Normalizer.sum\(\): "
    with pytest.raises(TypeError, match=who + r"'parts\[1\]' must be a Normalizer, got .* type int"):
        Normalizer.sum([NORM, 1])
    with pytest.raises(TypeError, match=who + "'parts' must be an iterable of Normalizers, got"):
        Normalizer.sum(NORM)
    with pytest.raises(TypeError, match=who + "'split_rollouts' must be True or False, got 1"):
        Normalizer.sum([NORM], split_rollouts=1)
    with pytest.raises(ValueError, match=who + r"'parts' must agree on 'ranks', got \[1, 2\]"):
        Normalizer.sum([NORM, NORM.under(ranks=2)])
    with pytest.raises(ValueError, match=who + "'parts' must all be made by Normalizer.local or all from counts"):
        Normalizer.sum([NORM, Normalizer(tokens=1, rows=1, rollouts=1)])
    with pytest.raises(ValueError, match=who + "'parts' must all have prompts or none"):
        Normalizer.sum([NORM, Normalizer.local(Rows(["z"], [1]))])


def test_errors_of_rows():
    with pytest.raises(TypeError, match=r"Normalizer.local\(\): 'rows' must be Rows, got an object of type list"):
        Normalizer.local([1])
    with pytest.raises(ValueError, match=r"Normalizer.local\(\): 'prompts' must have length 3"):
        Normalizer.local(ROWS, prompts=["p", "q"])


def test_gather_of_something_else():
    """It is sent, so that the ranks that are right raise too: tests/distributed has several."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        with pytest.raises(TypeError, match=r"gather\(\): 'local' must be a Normalizer, got .* Rows, on rank 0"):
            Normalizer.gather(ROWS)
        assert Normalizer.gather(NORM) == NORM
    finally:
        torch.distributed.destroy_process_group()

"""Aggregations: the weights of tokens, against the definition and under splits."""

import numpy as np
import pytest

pytest.importorskip("torch")

from hypothesis import given, settings
from hypothesis import strategies as st

from rollmath import Groups, Rows
from rollmath.loss import Aggregation, Normalizer
from rollmath.loss._aggregate import AGGREGATIONS, UNITS

ROWS = Rows(["a", "b", "a", "c"], [3, 1, 2, 2], mask=[1, 0, 1, 1, 1, 1, 0, 0])
PROMPTS = [7, 7, 8]

options = st.fixed_dictionaries(
    {
        "unit": st.sampled_from(UNITS),
        "within": st.sampled_from(["mean", "sum"]),
        "divisor": st.floats(0.1, 1e4),
        "empty": st.sampled_from(["exclude", "include"]),
    }
)


@st.composite
def steps(draw):
    """Rows of scattered rollouts, a prompt a rollout, a part of the step for each rollout."""
    n = draw(st.integers(0, 8))
    rollouts = draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))
    lengths = draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))
    total = sum(lengths)
    mask = draw(st.none() | st.lists(st.booleans(), min_size=total, max_size=total))
    rows = Rows(
        np.array(rollouts, np.int64), np.array(lengths, np.int64), mask=None if mask is None else np.array(mask, bool)
    )
    k = rows.n_rollouts
    prompts = np.array(draw(st.lists(st.integers(0, 2), min_size=k, max_size=k)), np.int64)
    part = np.array(draw(st.lists(st.integers(0, 2), min_size=k, max_size=k)), np.int64)
    return rows, prompts, part


@settings(max_examples=150, deadline=None)
@given(steps(), options)
def test_agrees_with_the_oracle(oracle, drawn, options):
    rows, prompts, _ = drawn
    found = Aggregation(**options).weights(rows, Normalizer.local(rows, prompts=prompts))
    index = rows.rollouts.index
    of_prompt = prompts[index].tolist()
    expected = oracle("loss/aggregate.py", "weights")(rows.trained.tolist(), index.tolist(), of_prompt, **options)
    np.testing.assert_allclose(found, np.array(expected, float), rtol=1e-14)
    assert found.dtype == np.float64
    rng = np.random.default_rng(0)
    losses = [rng.standard_normal(n).tolist() for n in rows.trained]
    total = oracle("loss/aggregate.py", "Aggregation")(losses, index.tolist(), of_prompt, **options)
    assert sum(w * sum(row) for w, row in zip(found, losses, strict=True)) == pytest.approx(total, rel=1e-12, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(steps(), options)
def test_a_part_has_the_weights_of_the_whole(drawn, options):
    rows, prompts, part = drawn
    norm = Normalizer.local(rows, prompts=prompts)
    whole = Aggregation(**options).weights(rows, norm)
    for number in range(3):
        picked = np.flatnonzero(part[rows.rollouts.index] == number)
        np.testing.assert_array_equal(Aggregation(**options).weights(rows.take(picked), norm), whole[picked])


@settings(max_examples=60, deadline=None)
@given(steps(), options)
def test_means_have_weights_that_add_up_to_one(drawn, options):
    rows, prompts, _ = drawn
    aggregation = Aggregation(**options | {"within": "mean", "divisor": 1.0, "empty": "exclude"})
    weights = aggregation.weights(rows, Normalizer.local(rows, prompts=prompts))
    assert (weights * rows.trained).sum() == pytest.approx(float(rows.trained.any()))


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_names(name):
    assert Aggregation.named(name) == AGGREGATIONS[name]


def test_by_hand():
    # Trained tokens: rows 2, 1, 2, 0; rollouts a 4, b 1, c 0; prompts 7: 5, 8: 0.
    norm = Normalizer.local(ROWS, prompts=PROMPTS)
    expected = {
        "token_mean": [1 / 5, 1 / 5, 1 / 5, 0],
        "token_sum": [1, 1, 1, 0],
        "seq_mean_token_mean": [1 / 6, 1 / 3, 1 / 6, 0],
        "seq_mean_token_sum": [1 / 3, 1 / 3, 1 / 3, 0],
        "rollout_mean_token_mean": [1 / 8, 1 / 2, 1 / 8, 0],
        "rollout_mean_token_sum": [1 / 2, 1 / 2, 1 / 2, 0],
        "prompt_mean_token_mean": [1 / 5, 1 / 5, 1 / 5, 0],
        "prompt_mean_token_sum": [1, 1, 1, 0],
    }
    assert expected.keys() == AGGREGATIONS.keys()
    for name, weights in expected.items():
        np.testing.assert_allclose(Aggregation.named(name).weights(ROWS, norm), weights, rtol=1e-15)
    empty = {"row": [1 / 8, 1 / 4, 1 / 8, 0], "rollout": [1 / 12, 1 / 3, 1 / 12, 0], "prompt": [1 / 10] * 3 + [0]}
    for unit, weights in empty.items():
        np.testing.assert_allclose(Aggregation(unit=unit, empty="include").weights(ROWS, norm), weights, rtol=1e-15)
    dr_grpo = Aggregation(unit="row", within="sum", divisor=1024).weights(ROWS, norm)
    np.testing.assert_allclose(dr_grpo, [1 / 3072] * 3 + [0], rtol=1e-15)


def test_prompts_as_groups():
    norm = Normalizer.local(ROWS, prompts=Groups(PROMPTS))
    assert norm == Normalizer.local(ROWS, prompts=PROMPTS)


def test_a_normalizer_of_counts():
    whole = Normalizer.local(ROWS)
    counts = Normalizer(tokens=5, rows=3, rollouts=2)
    for name in ("token_mean", "token_sum", "seq_mean_token_mean", "rollout_mean_token_mean", "rollout_mean_token_sum"):
        aggregation = Aggregation.named(name)
        np.testing.assert_array_equal(aggregation.weights(ROWS, counts), aggregation.weights(ROWS, whole))
    with pytest.raises(ValueError, match=r"'normalizer' must know the prompt of each rollout: Normalizer\.local"):
        Aggregation(unit="prompt").weights(ROWS, Normalizer(tokens=5, rows=3, rollouts=2, prompts=1))


def test_context_parallel():
    """Ranks that share the tokens of rows: the tokens of a rollout are known, those of a row are not."""
    norm = Normalizer.local(ROWS).under(context_parallel=2)
    halves = [
        Rows(ROWS.rollouts, ROWS.lengths, mask=ROWS.mask * side) for side in np.eye(2, dtype=bool)[np.arange(8) % 2].T
    ]
    for aggregation in (Aggregation(unit="rollout"), Aggregation(unit="token"), Aggregation(unit="row", within="sum")):
        whole = aggregation.weights(ROWS, norm)
        for half in halves:
            np.testing.assert_array_equal(aggregation.weights(half, norm), np.where(half.trained > 0, whole, 0))
    with pytest.raises(
        ValueError, match=r"'aggregation' over rows needs whole rows, but .* context_parallel=2; use unit"
    ):
        Aggregation(unit="row").weights(halves[0], norm)
    counts = Normalizer(tokens=5, rows=3, rollouts=2, context_parallel=2)
    with pytest.raises(ValueError, match=r"'normalizer' must be made by Normalizer\.local where the tokens of a"):
        Aggregation(unit="rollout").weights(halves[0], counts)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (
            {"unit": "turn"},
            ValueError,
            "'unit' must be one of 'token', 'row', 'rollout', 'prompt', 'batch', got 'turn'",
        ),
        ({"unit": "row", "within": "max"}, ValueError, "'within' must be one of 'mean', 'sum', got 'max'"),
        ({"unit": "row", "empty": "zero"}, ValueError, "'empty' must be one of 'exclude', 'include', got 'zero'"),
        ({"unit": "row", "divisor": 0}, ValueError, "'divisor' must be finite and positive, got 0"),
        ({"unit": "row", "divisor": float("inf")}, ValueError, "'divisor' must be finite and positive, got inf"),
        ({"unit": "row", "divisor": "2"}, TypeError, "'divisor' must be a number"),
    ],
)
def test_options(arguments, error, match):
    with pytest.raises(error, match=rf"Aggregation\(\): {match}"):
        Aggregation(**arguments)


def test_wrong_calls():
    norm = Normalizer.local(ROWS)
    with pytest.raises(ValueError, match=r"Aggregation.named\(\): 'name' must be one of 'token_mean', .*, got 'mean'"):
        Aggregation.named("mean")
    with pytest.raises(TypeError, match=r"Aggregation.weights\(\): 'rows' must be Rows, got"):
        Aggregation(unit="row").weights([1], norm)
    with pytest.raises(TypeError, match=r"Aggregation.weights\(\): 'normalizer' must be a Normalizer"):
        Aggregation(unit="row").weights(ROWS, 6)
    with pytest.raises(AttributeError):
        Aggregation(unit="row").unit = "token"

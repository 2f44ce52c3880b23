"""Rows.from_turns: token in, token out."""

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollmath import Rows


def turn(prompt, response, **extras):
    return {"prompt": prompt, "response": response, **extras}


def test_one_row_while_each_turn_extends_the_last():
    rows = Rows.from_turns(
        [
            [
                turn([1, 2], [3], logprobs=[-0.5], version=7, payload={"e": np.array([[1, 2]]), "s": [{3}]}),
                turn(
                    [1, 2, 3, 8, 9],
                    [4, 5],
                    logprobs=[-1, -2],
                    version=[7, 8],
                    payload={"e": [[3, 4], [5, 6]], "s": [1, 2]},
                ),
            ][:1]
        ]
    )
    assert rows.tokens.to_lists() == [[3]]
    rows = Rows.from_turns(
        {
            "r": [
                turn([1, 2], [3], logprobs=[-0.5], version=7, payload={"e": np.array([[1, 2]]), "s": [{3}]}),
                turn(
                    [1, 2, 3, 8, 9],
                    [4, 5],
                    logprobs=[-1, -2],
                    version=[7, 8],
                    payload={"e": np.array([[3, 4], [5, 6]]), "s": [1, 2]},
                ),
            ]
        }
    )
    assert rows.prompts.to_lists() == [[1, 2]]
    assert rows.tokens.to_lists() == [[3, 8, 9, 4, 5]]
    assert rows.mask.tolist() == [1, 0, 0, 1, 1]
    np.testing.assert_array_equal(rows.logprobs.values, [-0.5, np.nan, np.nan, -1, -2])
    assert rows.version.to_lists() == [[7, -1, -1, 7, 8]]
    assert rows.payload["e"].tolist() == [[1, 2], [-1, -1], [-1, -1], [3, 4], [5, 6]]
    assert rows.payload["s"] == ({3}, None, None, 1, 2)
    assert rows.rollouts.ids == ("r",)
    assert str(rows.report) == "1 rollout of 2 turns made 1 row: every turn extends the one before it"


@pytest.mark.parametrize(
    ("prompt", "position", "expected", "got", "response_position"),
    [
        ([1, 5, 3, 4], 1, 2, 5, None),  # in the prompt
        ([1, 2, 3, 9, 9], 3, 4, 9, 1),  # in the response
        ([1, 2, 3], 3, 4, None, 1),  # merely shorter
        ([1, 2], 2, 3, None, 0),  # the same prompt again: another attempt
        ([1], 1, 2, None, None),
    ],
)
def test_a_break_begins_a_new_row(prompt, position, expected, got, response_position):
    rows = Rows.from_turns([[turn([5], [6])], [turn([1, 2], [3, 4]), turn(prompt, [7])]], ids=["x", "y"])
    assert rows.tokens.to_lists() == [[6], [3, 4], [7]]
    assert rows.prompts.to_lists() == [[5], [1, 2], prompt]
    assert rows.segment.tolist() == [0, 0, 1]
    assert [rows.rollouts.ids[i] for i in rows.rollouts.index] == ["x", "y", "y"]
    (found,) = rows.report.breaks
    assert found == ("y", 1, position, expected, got, response_position, 2, 1)
    assert f"position {position} should be {expected}" in str(found)
    assert ("the prompt ended" in str(found)) == (got is None)


def test_after_a_break_the_new_row_is_what_counts():
    rows = Rows.from_turns([[turn([1], [2]), turn([9], [3]), turn([9, 3, 4], [5])]])
    assert rows.tokens.to_lists() == [[2], [3, 4, 5]]
    assert len(rows.report.breaks) == 1


def test_empty_responses():
    rows = Rows.from_turns(
        [[turn([1], [], logprobs=[]), turn([1, 2], [3], logprobs=[-1.0]), turn([1, 2, 3, 4], [], logprobs=[])]]
    )
    assert rows.tokens.to_lists() == [[2, 3, 4]]
    assert rows.mask.tolist() == [0, 1, 0]
    nothing = Rows.from_turns([[turn([1], [])]])
    assert nothing.lengths.tolist() == nothing.trained.tolist() == [0]


def test_no_rollouts():
    rows = Rows.from_turns([])
    assert (rows.n_rows, rows.report.n_turns, rows.tokens.to_lists()) == (0, 0, [])


def test_a_long_report_is_cut():
    text = str(Rows.from_turns([[turn([1], [2])] * 15]).report)
    assert text.splitlines()[-1] == "  ... and 4 more in report.breaks"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(
            st.tuples(st.lists(st.integers(0, 2), max_size=3), st.lists(st.integers(0, 2), max_size=3), st.booleans()),
            min_size=1,
            max_size=5,
        ),
        max_size=4,
    )
)
def test_prompt_and_positions_are_the_tokens_of_the_turns(rollouts):
    # Each step appends an observation, or starts afresh with a prompt that nothing extends (token 9).
    turns, expected = [], []
    for steps in rollouts:
        made, seen = [], []
        for observation, response, fresh in steps:
            if fresh or not seen:
                seen = [9, len(expected), *observation]
                expected.append([])
            else:
                seen = seen + observation
            made.append(turn(list(seen), response))
            seen = seen + response
            expected[-1] = list(seen)
        turns.append(made)
    rows = Rows.from_turns(turns)
    whole = [p.tolist() + t.tolist() for p, t in zip(rows.prompts, rows.tokens, strict=True)]
    assert whole == expected
    assert rows.trained.sum() == sum(len(t["response"]) for made in turns for t in made)
    assert len(rows.report.breaks) == rows.n_rows - rows.n_rollouts


def test_a_real_rollout_that_lost_its_reasoning(samples):
    # The second prompt was rendered without the reasoning of the first answer, so it is no extension.
    data = json.loads((samples("nemo-gym") / "two_turns_broken_prefix.json").read_text())
    messages = [m for m in data["expected_output_return_token_id_information"]["messages"] if "prompt_token_ids" in m]
    turns = [
        turn(m["prompt_token_ids"], m["generation_token_ids"], logprobs=m["generation_log_probs"]) for m in messages
    ]
    rows = Rows.from_turns([turns])
    assert repr(rows) == "Rows(2 rows of 1 rollouts, 702 of 702 positions trained)"
    assert rows.prompts.lengths.tolist() == [3088, 3637]
    assert rows.lengths.tolist() == [495, 207]
    (found,) = rows.report.breaks
    first = turns[0]["prompt"] + turns[0]["response"]
    assert turns[1]["prompt"][: found.position] == first[: found.position]
    assert (found.expected, found.got) == (first[found.position], turns[1]["prompt"][found.position])
    assert found.expected != found.got
    assert found.response_position == found.position - 3088
    assert np.isfinite(rows.logprobs.values).all()


@pytest.mark.parametrize(
    ("rollouts", "options", "error", "match"),
    [
        ({"a": []}, {}, ValueError, "rollout 'a' has no turns; leave it out"),
        ([[turn([1], [2])], []], {}, ValueError, "rollout 1 has no turns"),
        ([turn([1], [2])], {}, TypeError, "rollout 0 must be a list of turns, got an object of type dict"),
        ("ab", {}, TypeError, "'rollouts' must be a list of lists of turns"),
        ([[[1, 2]]], {}, TypeError, r"rollouts\[0\]\[0\] must be a mapping with 'prompt' and 'response'"),
        ([[{"prompt": [1]}]], {}, ValueError, r"rollouts\[0\]\[0\] has no 'response'"),
        ([[turn([1], [2], logprob=[0.0])]], {}, ValueError, r"has the unknown key 'logprob'; a turn has 'prompt'"),
        ([[turn([], [2])]], {}, ValueError, r"rollouts\[0\]\[0\] has an empty prompt"),
        ([[turn([1.5], [2])]], {}, TypeError, r"rollouts\[0\]\[0\].prompt' must hold integers, got float64"),
        ([[turn([1], [[2]])]], {}, TypeError, r"rollouts\[0\]\[0\].response' must be 1-D"),
        (
            [[turn([1], [2], logprobs=[0.1, 0.2])]],
            {},
            ValueError,
            r"logprobs' must have length 1 \(= its response\), got 2",
        ),
        ([[turn([1], [2], version=[1, 2])]], {}, ValueError, r"version must have length 1 \(= its response\), got 2"),
        ([[turn([1], [2], payload={"x": [1, 2]})]], {}, ValueError, r"payload.x must have length 1 \(= its response\)"),
        (
            [[turn([1], [2], logprobs=[0.1]), turn([1, 2], [3])]],
            {},
            ValueError,
            "turn 1 of rollout 0 lacks 'logprobs', unlike the turns before it; all or none",
        ),
        (
            [[turn([1], [2]), turn([1, 2], [3], version=1)]],
            {},
            ValueError,
            "turn 1 of rollout 0 has 'version', unlike",
        ),
        (
            [[turn([1], [2], payload={"x": [1]}), turn([1, 2], [3], payload={"x": np.ones(1)})]],
            {},
            TypeError,
            "payload.x must be a list in every turn or an array in every turn",
        ),
        (
            [[turn([1], [2], payload={"x": np.ones((1, 2))}), turn([1, 2], [3], payload={"x": np.ones((1, 3))})]],
            {},
            TypeError,
            r"payload.x must have one dtype and shape \[n, ...\] in every turn, got float64\[2\] and float64\[3\]",
        ),
        ([[turn([1], [2])]], {"ids": ["a", "b"]}, ValueError, r"'ids' must have length 1 \(= the number of rollouts\)"),
        ([[turn([1], [2])]] * 2, {"ids": ["a", "a"]}, ValueError, "'ids' must be distinct, got 'a' more than once"),
        ({"a": [turn([1], [2])]}, {"ids": ["a"]}, ValueError, "'ids' are the keys of 'rollouts'"),
        (
            {1.5: [turn([1], [2])]},
            {},
            TypeError,
            r"Rows.from_turns\(\): 'rollouts.keys\(\)' must be strings, ints, UUIDs or tuples, got float",
        ),
        ([[turn([1], [2])]], {"ids": [1.5]}, TypeError, r"Rows.from_turns\(\): 'ids' must be strings, .* got float"),
        (
            [[turn([1], [2], payload={"a": 5})]],
            {},
            TypeError,
            r"from_turns\(\): rollouts\[0\]\[0\].payload\['a'\] must be a list or an array \[n, ...\] .* got .* int",
        ),
        (
            [[turn([1], [2], payload={"a": np.array(5)})]],
            {},
            TypeError,
            r"payload\['a'\] must be a list or an array .* got a 0-D int64 array",
        ),
        (
            [[turn([1], [2], payload=[1])]],
            {},
            TypeError,
            r"\[0\].payload must be a mapping from names to values, got .*list",
        ),
        (
            [[turn([1], [2], payload=np.ones(2))]],
            {},
            TypeError,
            r"payload must be a mapping .* got a 1-D float64 array",
        ),
    ],
)
def test_errors(rollouts, options, error, match):
    with pytest.raises(error, match=match):
        Rows.from_turns(rollouts, **options)


@pytest.mark.parametrize("key", ["prompt", "response", "logprobs", "version", "payload['a']"])
def test_turns_on_a_device_are_not_copied_in_silence(key):
    torch = pytest.importorskip("torch")
    x = torch.zeros(1, device="meta", dtype=torch.int64)
    raw = turn([1], [2]) | ({"payload": {"a": x}} if key.startswith("payload") else {key: x})
    with pytest.raises(
        ValueError, match=rf"rollouts\[0\]\[0\].{re.escape(key)}. has one number a token and is on meta"
    ):
        Rows.from_turns([[raw]])

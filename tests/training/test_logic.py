"""Knights and knaves: workings, the verifier, the widths, and that no item is in two places."""

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed")
pytest.importorskip("torch", reason="torch is not installed")


@pytest.fixture(scope="module")
def logic() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[2]))
        from bench.training.tasks import logic

        yield logic


@pytest.fixture(scope="module")
def items(logic: Any) -> list[Any]:
    return logic.TASK.draw(7, 2000)


def speaks_truly(statement: str, case: str) -> bool:
    """The truth of a statement, by another way than the task's."""
    values = {sign: sign in case for sign in "ABCabc"}
    python = {"&": " and ", "|": " or ", ">": " <= ", "=": " == "}
    return bool(eval("".join(python.get(sign, str(values.get(sign))) for sign in statement)))


def solutions(key: str) -> list[str]:
    cases = ["".join(case) for case in itertools.product("Aa", "Bb", "Cc")]
    statements = key.split(",")
    return [c for c in cases if all(speaks_truly(s, c) == p.isupper() for s, p in zip(statements, c, strict=True))]


def test_a_question_has_the_one_solution_that_the_verifier_wants(logic: Any, items: list[Any]) -> None:
    for item in items[:300]:
        (solution,) = solutions(item.key)
        assert logic.CASES[item.steps - 1] == solution
        assert [c for c in logic.CASES if logic.TASK.score(item, c) == 1.0] == [solution]


def test_a_right_working_is_right_in_every_value_and_gets_the_reward(logic: Any, items: list[Any]) -> None:
    task, dice = logic.TASK, random.Random(1)
    for item in items[:500]:
        text = task.worked(item, dice, 0.0)
        assert task.reward(item, task.encode(text)) == 1.0
        *refuted, kept = text[:-1].split(";")
        tried = [step[:3] for step in (*refuted, kept)]
        assert len(set(tried)) == len(tried)
        for step in (*refuted, kept):
            case, values = step[:3], step[3:]
            if step is kept and len(tried) == 8:
                assert not values  # the one that is left
                continue
            for person, statement in zip(case, item.key.split(","), strict=True):
                parts = [str(int(part in case)) for part in statement[::2]] if len(statement) > 1 else []
                expected = "".join(parts) + str(int(speaks_truly(statement, case)))
                assert values.startswith(expected)
                values = values[len(expected) :]
                if speaks_truly(statement, case) != person.isupper():
                    assert step in refuted
                    break
            else:
                assert step is kept
            assert not values


def test_a_working_with_slips_gets_what_its_last_case_is_worth(logic: Any, items: list[Any]) -> None:
    task, dice, rewards = logic.TASK, random.Random(2), []
    for item in items[:500]:
        text = task.worked(item, dice, 0.2)
        rewards.append(task.reward(item, task.encode(text)))
        assert rewards[-1] == float(text[:-1].split(";")[-1][:3] in solutions(item.key))
    assert 0.35 < sum(rewards) / len(rewards) < 0.65
    assert task.worked(items[0], random.Random(3), 0.2) == task.worked(items[0], random.Random(3), 0.2)


def test_a_slip_is_one_value_and_the_rest_goes_on_with_it(logic: Any) -> None:
    dice = random.Random(4)
    seen = {logic.examine("ABC", ["B&c", "B", "C"], dice, 1.0) for _ in range(100)}
    # One part wrong, the other part wrong, or the value that follows from them; only 11 -> 1 goes on, and slips at B.
    assert seen == {("000", False), ("1110", False), ("1010", False)}


def test_only_the_last_case_counts_and_there_is_no_partial_credit(logic: Any) -> None:
    task = logic.TASK
    item = next(item for item in task.draw(0, 50) if solutions(item.key) == ["aBc"])
    assert task.score(item, "aBc") == 1.0
    assert task.score(item, "ABC0;aBc111") == 1.0
    assert task.score(item, "aBc;ABC") == 0.0
    assert task.score(item, "aBC") == 0.0  # two people of three
    for text in ("", ";", "aB", "Bac", "111", "aBc;"):
        assert task.score(item, text) == 0.0
    assert task.reward(item, task.encode("aBc.")) == 1.0
    assert task.reward(item, task.encode("aBc")) == 0.0  # cut off
    assert task.reward(item, []) == 0.0


def test_statements_are_written_in_one_or_three_symbols(logic: Any) -> None:
    truth, lie = ("telling-truth", 1), ("lying", 2)
    assert [logic.written(s) for s in (truth, lie, ("not", truth), ("not", lie))] == ["B", "c", "b", "C"]
    assert logic.written(("->", truth, lie)) == "B>c"
    assert logic.written(("<=>", lie, truth)) == "c=B"
    assert logic.written(("and", truth, lie)) == "B&c"
    assert logic.written(("or", truth, lie)) == "B|c"


def test_texts_survive_encoding_and_fit_their_widths(logic: Any, items: list[Any]) -> None:
    task, dice = logic.TASK, random.Random(5)
    assert len(set(task.symbols)) == len(task.symbols)
    for item in items:
        assert len(item.prompt) == task.prompt_width
        assert task.decode(item.prompt).lstrip() == f"{item.key}:"
        for slip in (0.0, 0.1, 0.5):
            text = task.worked(item, dice, slip)
            tokens = task.encode(text)
            assert task.decode(tokens) == text
            assert len(tokens) <= task.max_response
    with pytest.raises(KeyError):
        task.encode("D")


def test_the_longest_conceivable_working_fits(logic: Any) -> None:
    longest = ";".join([case + "101" * 3 for case in logic.CASES[:-1]] + [logic.CASES[-1]]) + "."
    assert len(longest) == logic.TASK.max_response


def test_no_item_is_in_two_places(logic: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logic, "POOL", 400)
    task = logic.TASK
    held_out, tuning = ({item.key for item in items} for items in (task.held_out, task.tuning))
    assert len(held_out) == task.held_out_items
    assert not held_out & tuning
    for seed in (0, 1, logic.PRETRAINING_SEED):
        stream = [item.key for item in itertools.islice(task.stream(seed), 900)]
        assert not {*stream} & (held_out | tuning)
    assert stream[:500] == stream[400:900]  # pre-training goes round its pool
    again = [item.key for item in itertools.islice(task.stream(seed), 900)]
    assert stream == again

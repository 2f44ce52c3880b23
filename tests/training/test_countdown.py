"""The countdown task: its texts are scored as they should be, they fit, and no training item is held out."""

import itertools
import random
import sys
from pathlib import Path

import pytest

pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed")
sys.path.append(str(Path(__file__).parents[2]))

from bench.training.tasks import Item, get
from bench.training.tasks.countdown import ATTEMPTS, LARGEST, TASK, answer


@pytest.fixture(scope="module")
def items() -> list[Item]:
    return TASK.draw(11, 2000)


def item(numbers: list[int], target: int) -> Item:
    entry = {"metadata": {"numbers": numbers, "target": target}}
    key = f"{','.join(map(str, sorted(numbers)))}>{target}"
    return Item(key, TASK.prompt(f"{key}:"), entry, len(numbers) - 1)


def calculated(attempt: str) -> tuple[list[int], int]:
    """The numbers of an attempt and its right result, by other means than the task's."""
    symbols = attempt.replace("=-", "=").replace("+", " + ").replace("*", " * ").replace("-", " - ").split()
    numbers = [int(symbol.partition("=")[0]) for symbol in symbols[::2]]
    value = numbers[0]
    for operator, number in zip(symbols[1::2], numbers[1:], strict=True):
        value = {"+": value + number, "-": value - number, "*": value * number}[operator]
    return numbers, value


def test_it_is_found_by_its_name() -> None:
    assert get("countdown") is TASK


@pytest.mark.parametrize("slip", [0.0, 0.3])
def test_a_worked_text_scores_what_its_last_attempt_is_worth_and_fits(items: list[Item], slip: float) -> None:
    dice, rewards = random.Random(5), []
    for one in items:
        text = TASK.worked(one, dice, slip)
        tokens = TASK.encode(text)
        assert TASK.decode(tokens) == text
        assert len(tokens) <= TASK.max_response
        *_, last = attempts = text.removesuffix(".").split(";")
        assert len(attempts) <= ATTEMPTS
        for attempt in attempts:
            numbers, value = calculated(attempt)
            assert sorted(numbers) == sorted(one.entry["metadata"]["numbers"])
            if slip == 0:
                assert attempt.endswith(f"={value}")
        rewards.append(TASK.reward(one, tokens))
        assert rewards[-1] == (calculated(last)[1] == one.entry["metadata"]["target"])
    assert min(rewards) == 1 if slip == 0 else 0.5 < sum(rewards) / len(rewards) < 0.9


def test_prompts_are_of_one_width_and_say_the_question(items: list[Item]) -> None:
    for one in items:
        assert len(one.prompt) == TASK.prompt_width
        assert TASK.decode(one.prompt).lstrip() == f"{one.key}:"
        numbers, _, target = one.key.partition(">")
        assert sorted(map(int, numbers.split(","))) == sorted(one.entry["metadata"]["numbers"])
        assert one.steps == numbers.count(",")
        assert int(target) == one.entry["metadata"]["target"] <= LARGEST


@pytest.mark.parametrize(
    ("response", "reward"),
    [
        ("3+4=7*7=49.", 1),
        ("3+4=8*7=1.", 1),  # only the expression counts
        ("3*4=12+7=19;7*4=28+3=31;3+4=7*7=49.", 1),
        ("3+4=7*7=49;3*4=12+7=19.", 0),  # the last attempt counts
        ("7*7=49.", 0),  # a number that is not there, another left out
        ("3+4=7*7=49", 0),  # cut off
        ("3+4=7*7=49;.", 0),
        ("49.", 0),
        (".", 0),
        ("3*4=12+7=19.", 0),  # the verifier gives this 0.05
        ("3+4*7=49.", 0),
        ("3**4=7**7=49.", 0),
    ],
)
def test_only_a_right_last_attempt_that_has_stopped_is_rewarded(response: str, reward: int) -> None:
    assert TASK.reward(item([7, 3, 4], 49), TASK.encode(response)) == reward


def test_a_number_of_several_tokens_is_read_as_one() -> None:
    one = item([10, 4, 4], 36)
    assert TASK.score(one, "10*4=40-4=36") == 1
    assert TASK.decode(split := [TASK.encode(symbol)[0] for symbol in "10*4=40-4=36."]) == "10*4=40-4=36."
    assert TASK.reward(one, split) == 1
    assert TASK.score(one, "10*04=40-4=36") == 0  # the verifier cannot read it


def test_an_attempt_becomes_an_expression_as_it_was_calculated() -> None:
    assert answer("1+1=2;3-7=-4+12=8*2=16") == "(((3)-7)+12)*2"
    assert answer("1+1=2;") is None


def test_a_question_that_needs_results_out_of_range_has_a_worked_text_too() -> None:
    one, seen = item([10, 11, 12], 98), set()
    for seed in range(20):
        text = TASK.worked(one, random.Random(seed), 0.0)
        tokens = TASK.encode(text)
        assert TASK.decode(tokens) == text
        assert TASK.reward(one, tokens) == 1
        assert TASK.worked(one, random.Random(seed), 1.0)  # it slips there too
        seen.add(text.rpartition(";")[2])
    assert seen == {"10*11=110-12=98.", "11*10=110-12=98."}


def test_a_question_without_a_solution_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"50 cannot be reached from left to right with \[1, 1, 1\]"):
        TASK.worked(item([1, 1, 1], 50), random.Random(0), 0.0)


def test_what_is_not_in_the_alphabet_is_an_error() -> None:
    with pytest.raises(KeyError, match="/"):
        TASK.encode("12/3=4")


def test_equal_seeds_give_equal_items_and_nothing_held_out_is_in_a_stream() -> None:
    assert TASK.draw(3, 50) == TASK.draw(3, 50)
    held_out, tuning = ({one.key for one in items} for items in (TASK.held_out, TASK.tuning))
    assert len(held_out) == len(TASK.held_out) == TASK.held_out_items
    assert len(tuning) == len(TASK.tuning) > 0.8 * TASK.held_out_items
    assert not held_out & tuning
    assert not {one.key for one in itertools.islice(TASK.stream(0), 900)} & (held_out | tuning)


def test_the_checkpoint_begins_between_failure_and_success(items: list[Item]) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from bench.training import model
    from bench.training.sample import sample_flat

    drawn = sample_flat(model.load(TASK.checkpoint), TASK, items[:32], 8, torch.Generator().manual_seed(0))
    rates = drawn.rewards.reshape(32, 8).mean(1)
    assert 0.1 < rates.mean() < 0.45
    assert ((rates > 0) & (rates < 1)).mean() > 0.5

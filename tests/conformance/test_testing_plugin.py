"""What the checks find in verl and TRL: the table of docs/testing.md, and the numbers that it speaks of."""

import importlib.util
import os
from pathlib import Path

import pytest

if importlib.util.find_spec("verl") is None or importlib.util.find_spec("trl") is None:
    pytest.skip("verl and trl are not installed; `make test-peers` has them", allow_module_level=True)

from checked_peers import trl_advantages, trl_losses, verl_advantages, verl_losses

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"
BEGIN, END = "<!-- begin: found in verl and TRL, compared by a test -->", "<!-- end: found -->"
#: The last digits of float32 sums are the machine's.
LEFT_OUT = {"order_bits"}


@pytest.fixture(scope="module")
def found(peer):
    """``found[who][name]``: the report on a function."""
    return {
        "verl advantage": dict(verl_advantages(peer)),
        "verl loss": dict(verl_losses(peer)),
        "TRL advantage": dict(trl_advantages(peer)),
        "TRL loss": dict(trl_losses(peer)),
    }


def table(found):
    lines = ["| of | function | fails | remarks |", "|---|---|---|---|"]
    for who, reports in found.items():
        for name, report in reports.items():
            ids = {
                v: [r.id for r in report.results if r.verdict == v and r.id not in LEFT_OUT] for v in ("fails", "note")
            }
            cells = [", ".join(f"`{i}`" for i in ids[v]) or "-" for v in ids]
            lines.append(f"| {who} | `{name}` | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def test_the_versions_are_those_of_the_page(peer):
    assert peer("verl").__version__ == "0.9.1"
    assert peer("trl").__version__ == "1.16.0"


def test_the_table_of_the_page(found):
    """``ROLLMATH_WRITE_DOCS=1`` writes it."""
    page = PAGE.read_text()
    head, _, rest = page.partition(BEGIN)
    made = f"{head}{BEGIN}\n{table(found)}\n{END}{rest.partition(END)[2]}"
    if os.environ.get("ROLLMATH_WRITE_DOCS"):
        PAGE.write_text(made)
    assert page == made


def test_all_of_them_run(found):
    for reports in found.values():
        for name, report in reports.items():
            assert report["runs"].verdict == "pass", name


@pytest.mark.parametrize(
    ("who", "name", "check", "seen"),
    [
        ("verl advantage", "grpo", "group_statistics", "VERL grpo"),
        ("verl advantage", "grpo", "singletons", "0.7, gets its reward"),
        ("verl advantage", "rloo", "singletons", "0.7, gets its reward"),
        ("verl advantage", "rloo_vectorized", "singletons", "0.7, gets 0"),
        ("verl advantage", "grpo", "zero_spread", "instead of 0"),
        ("verl advantage", "grpo_vectorized", "string_ids", "'7' and [2, 3, 2.5] of '07'"),
        ("verl advantage", "grpo_vectorized", "integer_ids", "-1 and -2 it raises IndexError"),
        ("verl advantage", "gpg", "shift", "get [1.5, -0.5, -0.5, -0.5], rewards [3, 2, 2, 2] get [0.75, -0.25"),
        ("verl advantage", "gae", "one_token", "ValueError: The sum of the mask is one"),
        ("verl advantage", "gae", "gap_neutrality", "change nothing at the others"),
        ("verl advantage", "gae", "gae_formula", "whitened over the batch (ddof 1)"),
        ("verl loss", "clip_cov", "determinism", "calls with the same inputs give the losses"),
        ("verl loss", "geo_mean", "empty_row_counted", "0.8 times the gradient"),
        ("verl loss", "geo_mean", "accumulation", "4 and 1.33 times"),
        ("verl loss", "vanilla", "partition", "add up to that of the batch"),
        ("verl loss", "vanilla, seq-mean-token-sum-norm", "padding_width", "the gradient is 0.5 times"),
        ("TRL advantage", "GRPOTrainer", "group_statistics", "TRL grpo"),
        ("TRL advantage", "GRPOTrainer", "zero_spread", "12 rewards of 0.7 get 0.001"),
        ("TRL loss", "grpo", "empty_row_counted", "0.8 times the gradient"),
        ("TRL loss", "bnpo", "partition", "0.636 and 2.33 times"),
        ("TRL loss", "dapo", "accumulation", "add up to that of the batch"),
    ],
)
def test_what_is_seen(found, who, name, check, seen):
    text = found[who][name][check].seen
    assert seen in text

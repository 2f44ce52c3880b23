"""The tables of checks in docs/testing.md are those of the code."""

import os
import re
from pathlib import Path

import pytest

from rollmath.testing import checks

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"


@pytest.mark.parametrize("kind", ["advantage", "loss"])
def test_the_table_of_checks(kind):
    """``ROLLMATH_WRITE_DOCS=1`` writes it."""
    lines = ["| check | must hold | why |", "|---|---|---|"]
    for each in checks(kind):
        what, why = (text.replace("``", "`").replace("|", "\\|") for text in (each.what, each.why))
        lines.append(f"| `{each.id}` | {what} | {why} |")
    begin, end = f"<!-- begin: checks of {kind} functions, compared by a test -->", f"<!-- end: {kind} -->"
    page = PAGE.read_text()
    head, found, rest = page.partition(begin)
    assert found
    made = f"{head}{begin}\n" + "\n".join(lines) + f"\n{end}{rest.partition(end)[2]}"
    if os.environ.get("ROLLMATH_WRITE_DOCS"):
        PAGE.write_text(made)
    assert page == made


def test_checks_that_the_page_names_exist():
    known = {c.id for kind in ("advantage", "loss") for c in checks(kind)}
    prose = re.sub(r"<!-- begin.*?<!-- end[^>]*-->", "", PAGE.read_text(), flags=re.DOTALL)
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", prose))
    other = {
        "check_advantage", "check_loss", "mask_dtype", "rollmath_check", "grpo_vectorized", "rloo_vectorized",
        "grpo_passk", "clip_cov", "kl_cov", "geo_mean", "bypass_mode", "dr_grpo", "num_generations", "num_tokens", "masked_whiten",
        "reinforce_plus_plus", "reinforce_plus_plus_baseline", "loss_scale_factor", "old_logp",
    }  # fmt: skip
    assert named <= known | other

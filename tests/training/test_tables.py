"""Tables, pictures and the page: what made-up lines give, word by word."""

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed")

ROOT = Path(__file__).parents[2]
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(ROOT))
    from bench.training import page, tables
    from bench.training.curves import Curve
    from bench.training.suites import Suite

OPTIONS = {"budget": 100_000, "evaluations": 2}
SUITE = Suite("duel", "A duel", ("sums", "logic"), ("grpo", "rloo", "late"), seeds=(0, 1, 2), options=OPTIONS)
TUNING = Suite("rates", "Rates", ("sums",), ("grpo", "rloo"), tuning=True, options=OPTIONS)
SUITES = {suite.name: suite for suite in (SUITE, TUNING)}
TITLES = {"grpo": "GRPO", "rloo": "RLOO"}
GAIN = {"grpo": (0.0, 0.0, 0.0), "rloo": (0.08, 0.12, 0.12), "late": (-0.1, 0.1, 0.0)}


@pytest.fixture
def lines(lines_of) -> list:
    """Of both suites: on sums alone, one run of ``late`` is missing."""
    out = []
    for plan in SUITE.plans():
        if plan.task == "sums" and (plan.arm, plan.seed) != ("late", 2):
            gain = GAIN[plan.arm][plan.seed]
            out += lines_of(plan, [0.2, 0.4 + gain, 0.6 + gain])
    for plan in TUNING.plans():
        out += lines_of(plan, [0.2, 0.3, 0.3 + (100 if plan.arm == "grpo" else -480) * plan.learning_rate])
    return out


@pytest.fixture
def made(lines, tmp_path: Path):
    """Folders of results and docs, and the curves."""
    results, docs = tmp_path / "results", tmp_path / "docs"
    results.mkdir()
    docs.mkdir()
    (results / "sums.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return results, docs


def curves_of(lines) -> dict:
    names = page.curves.Plan.__dataclass_fields__
    found: dict = {}
    for line in lines:
        found.setdefault(page.curves.Plan(**{name: line[name] for name in names}), []).append(line)
    return {plan: Curve(plan, tuple(some)) for plan, some in found.items()}


def test_results_word_by_word(lines) -> None:
    assert tables.results(SUITE, "sums", curves_of(lines), TITLES) == (
        "sums: 100,000 sampled tokens a run; 3 seeds (0, 1, 2); 600 held-out items; 2 samples of each; "
        "before training: accuracy 0.200, greedy 0.900, entropy 0.800, length 30.0; "
        "learning rate 1e-4; fewer seeds: late 2; baseline: GRPO.\n"
        "\n"
        "| arm | final | mean | difference | verdict | steps "
        "| trained | computed | signal | greedy | entropy | length | seconds |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        '| <a id="duel-sums-grpo"></a>GRPO | 0.600 [0.600, 0.600] | 0.400 [0.400, 0.400] |  | baseline '
        "| 10.0 | 1.00 | 2.00 | 50% | 0.900 | 0.400 | 28.0 | 10.0 / 5.0 / 0.1 |\n"
        '| <a id="duel-sums-rloo"></a>RLOO | 0.707 [0.680, 0.720] | 0.480 [0.460, 0.490] '
        "| +0.080 [+0.037, +0.123] | better\\* | 10.0 | 1.00 | 2.00 | 50% | 0.900 | 0.293 | 28.0 | 10.0 / 5.0 / 0.1 |\n"
        '| <a id="duel-sums-late"></a>late | 0.600 [0.500, 0.700] | 0.400 [0.325, 0.475] '
        "| +0.000 [-0.953, +0.953] | no clear difference "
        "| 10.0 | 1.00 | 2.00 | 50% | 0.900 | 0.400 | 28.0 | 10.0 / 5.0 / 0.1 |\n"
        "\n"
        "Without runs: late (seed 2).\n"
    )
    assert tables.results(SUITE, "logic", curves_of(lines), TITLES) is None


def test_results_without_the_baseline_and_with_other_rates(lines) -> None:
    suite = replace(SUITE, arms=("absent", "grpo", "rloo"), baseline="absent", rates={"rloo": 2e-4})
    curves = curves_of(line | ({"learning_rate": 2e-4} if line["arm"] == "rloo" else {}) for line in lines)
    text = tables.results(suite, "sums", curves, TITLES)
    assert "learning rate 1e-4, 2e-4 for RLOO; baseline: absent." in text
    assert "No run of the baseline, absent: no differences.\n\nWithout runs: absent (all)." in text
    assert "| 0.400 [0.400, 0.400] |  |  | 10.0 | 1.00" in text


def test_lines_without_the_likeliest_responses_leave_a_cell_empty(lines) -> None:
    some = [{k: x for k, x in line.items() if k != "greedy" or line["arm"] == "grpo"} for line in lines]
    text = tables.results(SUITE, "sums", curves_of(some), TITLES)
    assert "before training: accuracy 0.200, entropy 0.800, length 30.0;" in text
    assert "| 50% | 0.900 | 0.400 |" in text
    assert "| 50% |  | 0.293 |" in text


def test_one_seed_has_no_interval(lines) -> None:
    suite = replace(SUITE, seeds=(0,))
    text = tables.results(suite, "sums", curves_of(lines), TITLES)
    assert "1 seed (0)" in text
    assert "| 0.680 | 0.460 | +0.060 | too few seeds | 10.0 | 1.00 |" in text


def test_learning_rates_word_by_word(lines) -> None:
    assert tables.learning_rates(TUNING, "sums", curves_of(lines[:-3]), TITLES) == (
        "sums: mean accuracy on tuning items over 100,000 sampled tokens, 2 seeds.\n"
        "\n"
        "| arm | 5e-5 | 1e-4 | 2e-4 | 4e-4 |\n"
        "| --- | ---: | ---: | ---: | ---: |\n"
        '| <a id="rates-sums-grpo"></a>GRPO | 0.276 | 0.278 | 0.280 | **0.285** |\n'
        '| <a id="rates-sums-rloo"></a>RLOO | **0.269** | 0.263 | 0.251 | 0.227 |\n'
        "\n"
        "The best rate is at an end of the range: GRPO, RLOO.\n"
        "\n"
        "Some of their runs are missing or not finished: RLOO.\n"
    )


def test_diagnostics_word_by_word() -> None:
    same = {"task": "sums", "batches": 4, "seed": 0}
    lines = [
        {**same, "arm": "other", "checkpoint": "start", "cosine": None},
        {**same, "arm": "grpo", "checkpoint": "start", "cosine": 0.5, "cosine_se": 0.0123},
        {**same, "arm": "grpo", "checkpoint": "end", "cosine": 1 / 3, "sampler": "start"},
        {**same, "arm": "grpo", "checkpoint": "start", "task": "logic"},
    ]
    assert tables.diagnostics("sums", lines, ["grpo"], TITLES) == (
        "sums, in each row: batches 4, seed 0.\n"
        "\n"
        "| arm | cosine of the mean |\n"
        "| --- | ---: |\n"
        '| <a id="diagnostics-sums-grpo-start"></a>GRPO, start | 0.5 ± 0.012 |\n'
        '| <a id="diagnostics-sums-grpo-end-sampled-by-start"></a>GRPO, end, sampled by start | 0.333 |\n'
        '| <a id="diagnostics-sums-other-start"></a>other, start |  |\n'
    )
    assert tables.diagnostics("words", lines, [], TITLES) is None


def test_diagnostics_take_unknown_columns_as_they_come() -> None:
    lines = [
        {"task": "t", "arm": arm, "one_more": n, "how": "x", "seconds": {"a": 1}} for arm, n in (("a", 12345), ("b", 2))
    ]
    assert tables.diagnostics("t", lines, [], {}) == (
        "t.\n"
        "\n"
        "| arm | one more |\n"
        "| --- | ---: |\n"
        '| <a id="diagnostics-t-a"></a>a | 12,345 |\n'
        '| <a id="diagnostics-t-b"></a>b | 2 |\n'
    )


PAGE = """# Evidence

<!-- table: duel sums -->
<!-- end -->
Prose between.
<!-- table: duel logic -->
written by hand
<!-- end -->
<!-- table: rates sums -->
<!-- end -->
<!-- table: legend -->
<!-- end -->
"""


def test_the_page_is_filled_once_and_stays(made) -> None:
    results, docs = made
    (docs / page.PAGE).write_text(PAGE)
    assert len(page.check(results, docs, SUITES)) == 3
    said = page.write(results, docs, SUITES)
    assert [line.split(": ")[1] for line in said] == [
        "table duel sums", "table rates sums", "table legend", "table duel logic"
    ]  # fmt: skip
    assert said[-1].endswith(f"evidence.md:6: table duel logic: no finished runs in {results}; kept as it is")
    text = (docs / page.PAGE).read_text()
    assert "# Evidence\n\n<!-- table: duel sums -->\n\nsums: 100,000" in text
    assert "\n\n<!-- end -->\nProse between.\n<!-- table: duel logic -->\nwritten by hand\n<!-- end -->\n" in text
    assert "| **0.285** |" in text
    assert "10,000 resamples" in text
    assert page.check(results, docs, SUITES) == []
    assert len(page.write(results, docs, SUITES)) == 1
    assert (docs / page.PAGE).read_text() == text
    (docs / page.PAGE).write_text(text.replace("0.480", "0.580"))
    assert page.check(results, docs, SUITES) == [
        f"{docs / page.PAGE}:3: table duel sums: is not what the lines in {results} give"
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<!-- table: duel -->\n<!-- end -->", "expected SUITE TASK, diagnostics TASK or legend, got 'duel'"),
        ("<!-- table: a sums -->\n<!-- end -->", r"expected a suite .* tasks \(duel: sums, logic; rates: sums\), got"),
        ("<!-- table: duel words -->\n<!-- end -->", "expected a suite and one of its tasks"),
        ("<!-- table: duel sums -->\n", "expected a line <!-- end --> before the next marker"),
        ("<!-- table: duel sums -->\n<!-- table: legend -->\n<!-- end -->", "expected a line <!-- end --> before"),
    ],
)
def test_a_wrong_marker_is_an_error_with_file_and_line(made, text: str, says: str) -> None:
    results, docs = made
    (docs / page.PAGE).write_text(f"# x\n{text}")
    with pytest.raises(ValueError, match=rf"evidence\.md:2: table .*{says}"):
        page.fill(docs / page.PAGE, results, SUITES)


def test_pictures_are_small_and_the_same_each_time(made) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    results, docs = made
    (docs / page.PAGE).write_text("![](images/evidence/duel-sums.svg) ![](images/evidence/duel-differences.svg)")
    paths = page.pictures(results, docs, SUITES)
    assert [path.name for path in paths] == ["duel-sums.svg", "duel-differences.svg"]
    first = [path.read_bytes() for path in paths]
    for data in first:
        assert len(data) < 120_000
        texts = [e.text for e in ET.fromstring(data).iter("{http://www.w3.org/2000/svg}text")]
        assert any(text.startswith("sums") for text in texts)
    page.pictures(results, docs, SUITES)
    assert [path.read_bytes() for path in paths] == first
    (docs / page.PAGE).write_text("![](images/evidence/duel-differences.svg)")
    assert [path.name for path in page.pictures(results, docs, SUITES)] == ["duel-differences.svg"]


def test_the_pictures_of_the_page_are_those_of_its_folder() -> None:
    shown = set(re.findall(r"\(images/evidence/(.+?)\)", (page.DOCS / page.PAGE).read_text("utf-8")))
    assert shown == {path.name for path in (page.DOCS / page.PICTURES).iterdir()}


def test_the_committed_page_is_what_the_committed_lines_give() -> None:
    assert page.check() == []

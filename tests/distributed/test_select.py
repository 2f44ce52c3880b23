"""A selection over several processes is that of one process, and the same error on all of them.

Two and three processes run select_job.py, over gloo. Rollouts are spread unevenly, over empty ranks, and in any order.
"""

import json
import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import selections  # noqa: E402

import rollmath as rm  # noqa: E402
from rollmath import distributed  # noqa: E402

WORLDS = (2, 3)

pytestmark = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()), reason="torch without gloo"
)

#: What is wrong on rank 1 alone, by the name of the case: the error of every rank.
ERRORS = {
    "NaN": "ValueError: noisy(): 'rewards' must be finite where rows are valid, got nan at index 4 (index 4 of all "
    "ranks is index 1 of rank 1)",
    "no uid": "ValueError: select(): 'uid' must be given, one id a rollout, for 'noisy': among equal rollouts it "
    "chooses by the order of the rows else, and so by what lies on which rank, on rank 1",
    "uid of two ranks": "ValueError: select(): 'uid' must be distinct over all ranks, but 'x' is on ranks 0 and 1",
    "uid twice": "ValueError: select(): 'uid' must be distinct over all ranks, but 'x' is twice on rank 1",
    "length of uid": "ValueError: select(): 'uid' must have length 3 (= len(groups)), got 1, on rank 1",
    "options": "ValueError: select(): must get the same 'seed' on all ranks, got 0 on rank 0, 1 on rank 1; what "
    "has one value a rollout goes in columns=",
    "no values": "ValueError: select(): 'rewards' must be one number a rollout for 'noisy', which takes them as "
    "'rewards', on rank 1",
    "values": "ValueError: select(): 'rewards' must be None for 'drawn', which looks at no values, on rank 1",
    "needs": "ValueError: select(): 'noisy' needs 'seed'; pass seed=..., on rank 0 (and rank 1)",
    "methods": "ValueError: select(): must get the same 'method' on all ranks, got ...noisy on rank 0, ...drawn on "
    "rank 1",
    "no method": "TypeError: select(): 'method' must be a function of values and groups that returns a Selection, "
    "such as rollmath.select.max_variance, got an object of type str, on rank 1",
    "no selection": "TypeError: select(): 'method' 'grpo' must return a Selection, got ...",
    "of others": "ValueError: select(): 'method' must return a Selection of all 6 rollouts, got one of 1",
    "twice": "ValueError: select(): 'columns' has 'seed', which is given as an argument of its own already, on rank 1",
    "no mapping": "TypeError: select(): 'columns' must be a mapping from names to values, got an object of type list, "
    "on rank 1",
    "recipe seeds": "ValueError: prepare(): must get the same 'seed' on all ranks, got 0 on rank 0, 1 on rank 1",
    "recipe without seed": "ValueError: prepare(): recipe 'grpo' needs 'seed' (a whole number, another one in every "
    "step, by which the filter draws); pass it as a keyword: seed=..., on rank 0 (and rank 1)",
    "recipe advantages": "ValueError: prepare(): 'recipe' 'grpo' has a filter of advantages, but those of "
    "'tree.tree_grpo' are computed on each rank, after the selection; ..., on rank 0 (and rank 1)",
}  # fmt: skip


@pytest.fixture(scope="module")
def reports(script, tmp_path_factory):
    """What select_job.py found, by the number of processes: one report a rank."""
    folder = tmp_path_factory.mktemp("ranks")
    job = Path(__file__).with_name("select_job.py")
    arguments = [str(job), str(folder), *map(str, WORLDS)]
    script(f"import runpy, sys; sys.argv = {arguments}; runpy.run_path({str(job)!r}, run_name='__main__')", 120)
    return {n: [json.loads((folder / f"{n}-{rank}.json").read_text()) for rank in range(n)] for n in WORLDS}


@pytest.mark.parametrize("world", WORLDS)
def test_every_rank_has_the_selection_of_one_process(reports, world):
    for rank, report in enumerate(reports[world]):
        assert {name: text for name, text in report["cases"].items() if text} == {}, f"rank {rank}"
        known = {name.split(", ")[1] for name in report["cases"]}
        assert set(selections.functions()) <= known


def told(text):
    """The expected text as a pattern, in which ... is anything."""
    return re.escape(text).replace(re.escape("..."), ".*")


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("case", ERRORS)
def test_what_is_wrong_on_one_rank_is_raised_on_all(reports, world, case):
    for report in reports[world]:
        kind, text = report["errors"][case]
        if world == 2:
            assert re.fullmatch(told(ERRORS[case]), f"{kind}: {text}"), text
        assert [kind, text] == reports[world][0]["errors"][case]
        assert kind == ERRORS[case].split(":")[0]


def test_all_errors_are_expected(reports):
    assert set(reports[2][0]["errors"]) == set(ERRORS)


def error(kind, text, call):
    """Raises, with exactly this text."""
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == text


def test_without_a_process_group_it_is_the_method():
    r, g = [1.0, 0.0, 1.0, 1.0, 0.5], ["a", "a", "b", "b", "c"]
    whole = rm.select.nonzero_spread(r, g)
    chosen, report = distributed.select(rm.select.nonzero_spread, r, g, uid=list("vwxyz"))
    assert chosen.indices.tolist() == whole.indices.tolist()
    assert str(report) == str(chosen.report) == str(whole.report)
    got = distributed.select(rm.select.mean_band, torch.tensor(r), g, low=0.0, high=1.0, columns={"valid": [1] * 5})
    assert got.selection.mask.tolist() == [True, True, False, False, True]
    assert isinstance(got.selection.indices, torch.Tensor)
    drawn = distributed.select(rm.select.weighted_sample, [1.0, 0.0, 2.0], list("xyz"), keep=2, seed=0)
    assert drawn.selection.indices.tolist() == [0, 2]
    assert drawn.selection.report.unit == drawn.report.unit == "prompt"
    text = "select(): 'quota' needs 'strata'; pass columns={'strata': ...}, one value a rollout"
    error(ValueError, text, lambda: distributed.select(rm.select.quota, None, g, uid=list("vwxyz"), keep=1))
    text = "select(): 'method' 'policy_filtration' must return a Selection, got an object of type Filtration"
    error(
        TypeError, text,
        lambda: distributed.select(rm.select.policy_filtration, r, g, uid=list("vwxyz"), how="best"),
    )  # fmt: skip
    text = "select(): 'ties' has one value a rollout; pass columns={'ties': ...}"
    error(ValueError, text, lambda: distributed.select(rm.select.top, r, g, uid=list("vwxyz"), keep=1, ties=r))
    text = "select(): 'mean_band' needs 'low'; pass low=..."
    error(ValueError, text, lambda: distributed.select(rm.select.mean_band, r, g, high=1.0))
    text = "select(): 'uid' must be distinct over all ranks, but 'v' is there twice"
    error(ValueError, text, lambda: distributed.select(rm.select.nonzero_spread, r, g, uid=list("vwxyv")))
    text = (
        "select(): 'method' must be a function of values and groups that returns a Selection, such as "
        "rollmath.select.max_variance, but 'leaf_sample' takes no groups"
    )
    error(TypeError, text, lambda: distributed.select(rm.select.leaf_sample, r, g))

"""Real processes that share a batch have the bits of one process, and the same error on all of them.

Two and four processes run ranks_job.py, over gloo. Rollouts are spread unevenly, over empty ranks, and in any order.
"""

import inspect
import json
import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from rollmath import group  # noqa: E402

WORLDS = (2, 4)

pytestmark = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()), reason="torch without gloo"
)

#: What is wrong on rank 1 alone, by the name of the case: the error of every rank.
ERRORS = {
    "NaN": "ValueError: grpo(): 'rewards' must be finite, got NaN at index 4; ... (index 4 of all ranks is index 1 "
    "of rank 1)",
    "NaN in a channel": "ValueError: gdpo(): 'rewards[:, 0]' must be finite, got NaN at index 4; ... of rank 1)",
    "length": "ValueError: gather(): 'rewards' must have length 3 (= len(groups)), got 2, on rank 1",
    "length of a column": "ValueError: gather(): 'strata' must have length 3 (= len(groups)), got 1, on rank 1",
    "type": "TypeError: gather(): 'rewards' must hold floats, ints or bools, got <U1, on rank 1",
    "no array": "TypeError: gather(): 'rewards' must be an array of numbers, got an object of type NoneType ..., on "
    "rank 1",
    "one number": "TypeError: gather(): 'rewards' must have one value a rollout, got an object of type float, on "
    "rank 1",
    "grad": "ValueError: gather(): 'rewards' requires grad, ...; call .detach(), on rank 1",
    "Ragged": "TypeError: gather(): 'rewards' must have one value a rollout, got a Ragged: tokens are not gathered; "
    "...",
    "ids": "TypeError: gather(): 'groups' must be strings, ints, UUIDs or tuples, got float, on rank 1",
    "mixed ids": "TypeError: gather(): 'groups' must be of one type, got str at index 0 and int at index 1; ..., on "
    "rank 1",
    "id types": "TypeError: gather(): 'groups' must be of one type on all ranks, got ids of type str on rank 0, "
    "ids of type int on rank 1; equal ids must be equal objects: convert them all",
    "numpy ids": "TypeError: gather(): 'groups' must be ... got ids of type str on rank 0, ids of type int on rank "
    "1; ...",
    "columns": "ValueError: gather(): the columns must be the same on all ranks, got 'strata' on rank 0, none on "
    "rank 1",
    "column of None": "TypeError: gather(): 'strata' must be of one type on all ranks, got a NumPy array of int64 on "
    "rank 0, None on rank 1; give it on all of them",
    "column types": "TypeError: gather(): 'strata' must be of one type on all ranks, got a NumPy array of int64 on "
    "rank 0, ids of type str on rank 1; convert it",
    "dtypes": "TypeError: gather(): 'rewards' must be of one type on all ranks, got a NumPy array of float64 on rank "
    "0, "
    "a NumPy array of float32 on rank 1; convert it",
    "kinds": "TypeError: gather(): 'rewards' must be of one type on all ranks, got a NumPy array of float64 on rank 0, "
    "a torch tensor of float32 on rank 1; convert it",
    "shapes": "ValueError: gather(): 'rewards' must have one shape on all ranks, got [N, 4] on rank 0, [N, 2] on "
    "rank 1",
    "options": "ValueError: advantages(): must get the same 'eps' on all ranks, got 1e-06 on rank 0, 0.0001 on rank 1; "
    "what has one value a rollout goes in columns=",
    "option arrays": "ValueError: advantages(): must get the same 'strata' on all ranks, got a 1-D int64 array ... on "
    "rank 0, a 1-D int64 array ... on rank 1; what has one value a rollout goes in columns=",
    "methods": "ValueError: advantages(): must get the same 'method' on all ranks, got rollmath.group._grpo.grpo on "
    "rank 0, rollmath.group._rloo.rloo on rank 1",
    "no method": "TypeError: advantages(): 'method' must be a function such as rollmath.group.grpo, ... str, on rank 1",
    "no mapping": "TypeError: advantages(): 'columns' must be a mapping from names to values, ... list, on rank 1",
    "twice": "ValueError: advantages(): 'columns' has 'eps', which is given as an argument of its own already, on "
    "rank 1",
    "calls": "ValueError: ...(): must be the same call on all ranks, got gather() on rank 0, moments() on rank 1",
    "result": "TypeError: advantages(): 'method' must return one number a rollout, an array of length 6, got an object "
    "of type GroupStats; for methods that return something else take gather(), ...",
    "unknown": "TypeError: grpo() got an unexpected keyword argument 'blend'; ...",
    "not ours": "RuntimeError: gather(): KeyError: 'broken', on rank 1",
    "no text": "RuntimeError: gather(): Mute: an error without a text, on rank 1",
    "panic": "RuntimeError: gather(): Panic: core, on rank 1",
    "not to be sent": "RuntimeError: moments(): ... on rank 1",
    "option without words": "RuntimeError: advantages(): KeyError: 'no words', on rank 1",
    "two ranks": "ValueError: gather(): 'rewards' must have length 3 (= len(groups)), got 1, on rank 0 (and rank 1)",
    "whiten how": "TypeError: whiten(): 'how' must be a Whiten, got 'verl', on rank 1",
    "whiten options": "ValueError: whiten(): must get the same 'how' on all ranks, got Whiten(... ddof=1, ...) on "
    "rank 0, "
    "Whiten(... ddof=0, ...) on rank 1",
    "whiten tokens": "ValueError: whiten(): 'x' must be finite at trained tokens, got NaN at row 0, position 0, on "
    "rank 1",
    "whiten forms": "TypeError: whiten(): 'x' must be of one type on all ranks, got float64, one number a token, on "
    "rank 0, float64, one number a row, on rank 1; convert it",
    "whiten types": "TypeError: whiten(): 'x' must be of one type on all ranks, got float64, ... float32, ...",
    "whiten lengths": "ValueError: whiten(): 'lengths' must have length 2 (= the number of rows), got 1, on rank 1",
    "whiten out": "ValueError: whiten(): 'out' must have shape (2, 3), got (1, 1), on rank 1",
    "whiten weights": "ValueError: whiten(): must get the same 'weights' on all ranks, got one number a row on "
    "rank 0, nothing on rank 1",
    "whiten mask": "ValueError: whiten(): 'mask' goes with token rows, but 'x' has one number a row; ..., on rank 1",
    "whiten overflow": "ValueError: whiten(): 'x' must be small enough for sums in float64, but mean or variance ...",
    "moments": "ValueError: moments(): 'weights' must be finite and not negative, got -1.0, on rank 1",
    "recipe NaN": "ValueError: grpo(): 'rewards' must be finite, got NaN at index 3; ... (index 3 of all ranks "
    "is index 1 "
    "of rank 1)",
    "recipe length": "ValueError: prepare(): 'rewards' must have length 2 (= rows.n_rollouts), got 3, on rank 1",
    "recipe columns": "ValueError: prepare(): recipe 'grpo' needs 'strata' (...); pass it as a keyword: strata=..., on "
    "rank 1",
    "recipes": "ValueError: prepare(): must get the same 'recipe' on all ranks, got Recipe('grpo': ...) ... on rank 0, "
    "Recipe('dapo': ...) ... on rank 1",
    "recipe options": "ValueError: prepare(): must get the same 'recipe' on all ranks, got Recipe('grpo': ...) ... on "
    "rank 0, Recipe('grpo': ...) ... on rank 1",
    "no recipe": "TypeError: prepare(): 'recipe' must be a Recipe, such as recipes.get('grpo'), got ... str, on rank 1",
    "no rows": "TypeError: prepare(): 'rows' must be Rows, got an object of type list, on rank 1",
    "recipe rollouts": "ValueError: prepare(): 'rows' must have rollout ids that are distinct over all ranks, "
    "but 'x' is on ranks 0 and 1",
    "recipe tokens": "ValueError: prepare(): 'recipe' 'grpo' has the advantage 'group.optimal_token_baseline', which "
    "looks at the tokens of other rollouts, but tokens stay on their ranks; ..., on rank 0 (and rank 1)",
    "recipe trees": "ValueError: prepare(): 'groups' must each be on one rank for the advantage 'tree.spo', which "
    "compares branches of trees, but 'a' is on ranks 0 and 1; send all rollouts of a prompt to one",
    "recipe steps": "ValueError: prepare(): 'groups' must each be on one rank for the advantage 'graph.gigpo', which "
    "merges the steps of rollouts, but 'a' is on ranks 0 and 1; send all rollouts of a prompt to one",
    "recipe forest": "ValueError: prepare(): 'forest' must have 2 rollouts (= len(groups)), got 3, on rank 1",
    "recipe logprobs": "TypeError: prepare(): 'logprobs' must be LogProbs(prox=..., ref=...), got 3, on rank 1",
    "recipe gap": "ValueError: reinforce_pp(): 'rewards' must be finite, got NaN at row 1, on rank 1",
    "recipe without words": "RuntimeError: prepare(): KeyError: 'no words', on rank 1",
    "own functions": "ValueError: prepare(): must get the same 'recipe' on all ranks, got Recipe('grpo': ...",
    "gather of counts": "TypeError: Normalizer.gather(): 'local' must be a Normalizer, got an object of type list, on "
    "rank 1",
    "normalizer": "TypeError: normalizer(): 'rows' must be Rows, got an object of type list, on rank 1",
    "same rollouts": "ValueError: normalizer(): 'rows' must have rollout ids that are distinct over all ranks, but "
    "'r0' "
    "is on ranks 0 and 1",
    "prompts": "ValueError: normalizer(): must get the same 'prompts' on all ranks, got one id a rollout on "
    "rank 0, nothing on rank 1",
    "metrics": "ValueError: gather_metrics(): 'metrics' must be the same on all ranks, got b on rank 0, a on rank 1",
    "no metrics": "TypeError: gather_metrics(): 'metrics' must be LossMetrics, got an object of type dict, on rank 1",
}  # fmt: skip


@pytest.fixture(scope="module")
def reports(script, tmp_path_factory):
    """What ranks_job.py found, by the number of processes: one report a rank."""
    folder = tmp_path_factory.mktemp("ranks")
    job = Path(__file__).with_name("ranks_job.py")
    arguments = [str(job), str(folder), *map(str, WORLDS)]
    script(f"import runpy, sys; sys.argv = {arguments}; runpy.run_path({str(job)!r}, run_name='__main__')", 180)
    return {n: [json.loads((folder / f"{n}-{rank}.json").read_text()) for rank in range(n)] for n in WORLDS}


@pytest.mark.parametrize("world", WORLDS)
def test_every_rank_has_the_bits_of_one_process(reports, world):
    for rank, report in enumerate(reports[world]):
        assert len(report["cases"]) > 2000
        assert {name: text for name, text in report["cases"].items() if text} == {}, f"rank {rank}"


def test_every_group_method_is_there(reports):
    """Those that take rewards and groups of rollouts, by name."""
    known = {name.split(",")[0].split(" ")[0] for name in reports[2][0]["cases"]}
    for name in group.__all__:
        function = getattr(group, name)
        if inspect.isfunction(function) and list(inspect.signature(function).parameters)[:2] == ["rewards", "groups"]:
            # What needs tokens is no method of one number a rollout.
            assert name in known or name == "optimal_token_baseline", name


#: Not the fault of one rank.
UNPLACED = {"result", "unknown", "whiten overflow", "same rollouts", "recipe rollouts", "recipe tokens", "recipe trees",
            "recipe steps"}  # fmt: skip


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
        # With more ranks the numbers of rows are others.
        assert [kind, text.split("(): ")[-1]] == [x.split("(): ")[-1] for x in reports[world][0]["errors"][case]]
        assert kind == ERRORS[case].split(":")[0]
        assert "rank 1" in text or case in UNPLACED


def test_all_errors_are_expected(reports):
    assert set(reports[2][0]["errors"]) == set(ERRORS)


@pytest.mark.parametrize("world", WORLDS)
def test_a_rank_that_never_calls_is_found_by_the_timeout(reports, world):
    kind, text = reports[world][0]["timeout"]
    assert kind in {"RuntimeError", "DistBackendError"}
    assert "imed out" in text

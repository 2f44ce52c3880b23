"""The threshold of tokens on several ranks: the mask of one process, and the same errors on all."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import rollmath as rm  # noqa: E402
from rollmath.distributed import token_search  # noqa: E402

WORLDS = (2, 3)

with_gloo = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()), reason="torch without gloo"
)

#: What is wrong on rank 1 alone: the error of every rank.
ERRORS = {
    "NaN": "ValueError: token_search(): 'parts[1]' must not be NaN at trained tokens, got NaN at row 0, position 1, on "
    "rank 1",
    "dtype": "TypeError: token_search(): 'parts[0]' must be of the dtype of the search, float32, got float64; give "
    "token_search dtype='float64', or cast, on rank 1",
    "options": "ValueError: token_search(): must get the same 'share' on all ranks, got 0.25 on rank 0, 0.5 on rank 1",
    "no list": "TypeError: token_search(): 'parts' must be a list of token arrays or mappings, got a 2-D float32 "
    "array; put one in a list, on rank 1",
    "keys": "ValueError: token_search(): 'parts[0]' must have 'scores' and no other keys than 'scores', 'mask', "
    "'lengths', 'uid', got ['values'], on rank 1",
    "no uid": "ValueError: token_search(): 'parts[0]' must have 'uid' with ties='exact', since the choice must not "
    "depend on ranks, on rank 1",
    "uid twice": "ValueError: token_search(): 'uid' must name each row once over all parts and ranks, but an id comes "
    "twice",
    "no share": "ValueError: token_search(): give either 'share' or 'count', got share=None and count=None, on rank 1",
    "late": "RuntimeError: token_search(): MemoryError: out of memory, on rank 1",
}


@pytest.fixture(scope="module")
def reports(script, tmp_path_factory):
    """What the job found, by the number of processes: one report a rank."""
    folder = tmp_path_factory.mktemp("token_search")
    job = Path(__file__).with_name("token_search_job.py")
    arguments = [str(job), str(folder), *map(str, WORLDS)]
    script(f"import runpy, sys; sys.argv = {arguments}; runpy.run_path({str(job)!r}, run_name='__main__')", 120)
    return {n: [json.loads((folder / f"{n}-{rank}.json").read_text()) for rank in range(n)] for n in WORLDS}


@with_gloo
@pytest.mark.parametrize("world", WORLDS)
def test_every_rank_has_the_mask_of_one_process(reports, world):
    for rank, report in enumerate(reports[world]):
        assert len(report["cases"]) == 73
        assert {name: text for name, text in report["cases"].items() if text} == {}, f"rank {rank}"
        assert report["calls"] == [2049] * 3


@with_gloo
@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("case", ERRORS)
def test_what_is_wrong_on_one_rank_is_raised_on_all(reports, world, case):
    for report in reports[world]:
        kind, text = report["errors"][case]
        expected = ERRORS[case]
        if world == 3 and case == "options":
            expected = expected.replace("0.25 on rank 0", "0.25 on ranks 0 and 2")
        assert re.fullmatch(re.escape(expected), f"{kind}: {text}"), text


def test_one_process(same_bits):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 40)).astype(np.float32)
    whole = rm.select.top_tokens(x, share=0.3)
    search = token_search([x[:1], torch.from_numpy(x[1:4]), x[4:]], share=0.3)
    same_bits(search.mask(x), whole.mask)
    assert (float(search.threshold), int(search.kept), int(search.total)) == tuple(map(float, whole[1:]))
    assert int(token_search([], count=3).kept) == 0
    with pytest.raises(ValueError, match=r"'group' must be None while torch.distributed is not initialised"):
        token_search([x], share=0.3, group="dp")
    with pytest.raises(ValueError, match=r"^token_search\(\): 'parts\[0\]' must not be NaN .* row 0, position 0$"):
        token_search([x * np.nan], share=0.3)
    with pytest.raises(ValueError, match=r"^token_search\(\): 'uid' must name each row once over all parts and ranks"):
        token_search([{"scores": x, "uid": range(6)}] * 2, count=1, ties="exact")
    with pytest.raises(ValueError, match=r"^token_search\(\): 'dtype' must be one of 'float32', 'float64', got 'f4'"):
        token_search([x], share=0.3, dtype="f4")

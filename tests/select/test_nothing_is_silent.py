"""Over everything that selects: nothing is dropped without a reason, no group is lost without being named."""

import inspect
import re

import numpy as np
import pytest
import selections
from hypothesis import given, settings
from hypothesis import strategies as st
from spread import rollouts

import rollmath as rm

FUNCTIONS = selections.functions()
PROMPTS = selections.of_prompts()
CALLS = [pytest.param(name, label, id=f"{name}, {label}") for name in FUNCTIONS for label in selections.variants(name)]
REWARDS = st.one_of(st.sampled_from([0.0, 1.0, 0.7, -1.0]), st.integers(-64, 64).map(lambda k: k / 64))
#: Reward, group, whether it takes part, stratum, length.
ROWS = st.lists(
    st.tuples(REWARDS, st.integers(0, 4), st.booleans(), st.integers(0, 2), st.integers(1, 3)), min_size=1, max_size=24
)


def batch_of(rows):
    """As ``spread.rollouts`` has it."""
    r, groups, valid, strata, lengths = (np.array(x) for x in zip(*rows, strict=True))
    return {
        "rewards": r.astype(float), "groups": groups, "valid": valid, "strata": strata, "lengths": lengths,
        "positive": np.abs(r) + 0.5,
    }  # fmt: skip


def told(chosen, ids, valid=None):
    """What must hold for any selection of rollouts with these groups."""
    report, n = chosen.report, len(ids)
    mask, indices = np.asarray(chosen.mask), np.asarray(chosen.indices)
    assert (mask.dtype, mask.shape) == (bool, (n,))
    assert indices.dtype == np.int64
    assert indices.tolist() == np.flatnonzero(mask).tolist()
    # A reason for each that was dropped, none for what was kept.
    assert ((report.codes == 0) == mask).all()
    assert report.codes.max(initial=0) <= len(report.reasons)
    assert all(isinstance(reason, str) and reason for reason in report.reasons)
    assert len(set(report.reasons)) == len(report.reasons)
    assert report.kept_rollouts + report.dropped_rollouts == report.n_rollouts == n
    assert report.kept_rollouts == mask.sum()
    assert sum(one.rollouts for one in report.dropped) == report.dropped_rollouts
    counted = {}
    for one in report.dropped:
        assert one.rollouts == sum(one.counts) > 0
        assert one.groups == len(one.ids) == len(one.counts)
        for name, count in zip(one.ids, one.counts, strict=True):
            counted[name] = counted.get(name, 0) + count
    # Group by group: what was kept and what was dropped are all of it.
    names = list(dict.fromkeys(ids))
    assert report.n_groups == report.kept_groups + report.dropped_groups == len(names)
    for name, kept in zip(names, report.kept.tolist(), strict=True):
        assert kept + counted.get(name, 0) == ids.count(name)
    gone = [name for name, kept in zip(names, report.kept.tolist(), strict=True) if not kept]
    assert list(report.lost) == gone
    assert report.statistics in {"before", "after", None}
    assert report.method
    if valid is not None:
        assert not (mask & ~valid).any()
        assert set(report.codes[~valid]) <= {1 + report.reasons.index("not valid")}
    printed(report, gone)


def printed(report, gone):
    """The text names the counts, each reason and the groups of which nothing is left."""
    text = str(report)
    unit = report.unit
    first, *lines = text.split("\n")
    start = f"{report.method} kept {report.kept_rollouts} of {report.n_rollouts} {unit}{'s' * (report.n_rollouts != 1)}"
    assert first.startswith(start)
    assert (f"; statistics {report.statistics}" in first) == (report.statistics is not None)
    for one in report.dropped:
        (line,) = (x for x in lines if x.startswith(f"  {one.reason} "))
        assert re.search(rf"\b{one.rollouts} {unit}", line)
    named = [name for name in gone if f"{name!r}" in text]
    assert len(named) == len(gone) or re.search(r"and \d+ more", text)
    if gone:
        assert named


@pytest.mark.parametrize(("name", "label"), CALLS)
def test_nothing_is_dropped_without_a_reason(name, label):
    columns, options = selections.variants(name)[label]
    for seed in range(4):
        data = rollouts(seed)
        uid = np.random.default_rng(seed).permutation(len(data["groups"])).tolist()
        chosen = selections.call(name, data, np.arange(len(uid)), uid, columns, options)
        told(chosen, data["groups"].tolist(), data["valid"] if "valid" in columns else None)
        assert chosen.report.method == name


@pytest.mark.parametrize(("name", "label"), CALLS)
def test_any_order_is_the_same_selection(name, label):
    """Rows permuted with their ids: as if they lay on other ranks."""
    columns, options = selections.variants(name)[label]
    rng = np.random.default_rng(5)
    for seed in range(3):
        data = rollouts(seed)
        uid = [f"r{i}" for i in rng.permutation(len(data["groups"]))]
        whole = selections.call(name, data, np.arange(len(uid)), uid, columns, options)
        for _ in range(3):
            rows = rng.permutation(len(uid))
            turned = selections.call(name, data, rows, uid, columns, options)
            assert turned.mask.tolist() == whole.mask[rows].tolist()
            assert turned.report.codes.tolist() == whole.report.codes[rows].tolist()


@pytest.mark.parametrize("name", FUNCTIONS)
@settings(max_examples=settings().max_examples // 3)
@given(rows=ROWS, random=st.randoms(use_true_random=False), data=st.data())
def test_small_batches(name, rows, random, data):
    calls = selections.variants(name)
    columns, options = calls[data.draw(st.sampled_from(sorted(calls)))]
    batch = batch_of(rows)
    uid = random.sample(range(100), len(rows))
    order = np.array(random.sample(range(len(rows)), len(rows)))
    whole, refused = None, ""
    try:
        whole = selections.call(name, batch, np.arange(len(rows)), uid, columns, options)
    except ValueError as error:
        refused = str(error)
    if whole is None:
        # Too few for what was asked: said, not passed over.
        assert re.match(rf"{name}\(\): '\w+' must ", refused)
        return
    told(whole, batch["groups"].tolist(), batch["valid"] if "valid" in columns else None)
    turned = selections.call(name, batch, order, uid, columns, options)
    assert turned.report.codes.tolist() == whole.report.codes[order].tolist()


@pytest.mark.parametrize("name", PROMPTS)
def test_functions_of_prompts(name):
    rng = np.random.default_rng(6)
    for label in selections.variants(name):
        columns, options = selections.variants(name)[label]
        for seed in range(3):
            data = rollouts(seed)
            ids = [f"p{i}" for i in rng.permutation(len(data["groups"]))]
            values = data["positive"] / data["positive"].max()
            whole = selections.call(name, data, np.arange(len(ids)), ids, columns, options, ids=ids, values=values)
            told(whole, ids, data["valid"] if "valid" in columns else None)
            assert whole.report.unit == "prompt"
            rows = rng.permutation(len(ids))
            turned = selections.call(name, data, rows, ids, columns, options, ids=ids, values=values)
            assert turned.mask.tolist() == whole.mask[rows].tolist()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_docstring_says_which_statistics(name):
    doc = inspect.getdoc(getattr(rm.select, name))
    for columns, options in selections.variants(name).values():
        report = selections.call(name, rollouts(0), np.arange(61), list(range(61)), columns, options).report
        assert report.statistics is None or f'"{report.statistics}"' in doc


def test_leaf_sample():
    forest = rm.Forest.from_parents([-1, 0, 0, 1, 1, 1, -1, 6, 6])
    chosen = rm.select.leaf_sample(forest, k=2, seed=0)
    told(chosen, [0, 0, 0, 0, 6, 6][: forest.n_leaves])


def test_every_function_that_returns_a_selection_is_here():
    known = {*FUNCTIONS, *PROMPTS, "leaf_sample"}
    for name in rm.select.__all__:
        value = getattr(rm.select, name)
        if inspect.isfunction(value) and inspect.signature(value).return_annotation in {
            "Selection",
            rm.select.Selection,
        }:
            assert name in known

"""graph.canonical_states: hand-made texts, brute force, no dependence on order or blocks, every message."""

from __future__ import annotations

import difflib
import enum
import itertools
import pickle
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rollmath as rm
from rollmath.graph import _similarity, canonical_states

pytest.importorskip("rapidfuzz")

LINKAGES = ["leader", "single"]
#: Ratios that pairs of short texts have exactly, and some that they have not.
THRESHOLDS = st.one_of(st.sampled_from([0.0, 0.4, 0.5, 0.6, 2 / 3, 0.7, 0.75, 0.8, 0.9, 1.0]), st.floats(0, 1))
ROWS = st.lists(st.tuples(st.text("abé", max_size=6), st.integers(0, 2)), max_size=25)


def columns(rows):
    return [text for text, _ in rows], [task for _, task in rows]


def named(made):
    """The id of each row."""
    return [made.ids[k] for k in made.index]


@given(ROWS, THRESHOLDS, st.sampled_from(LINKAGES))
def test_against_brute_force(oracle, rows, threshold, linkage):
    texts, tasks = columns(rows)
    got = canonical_states(texts, tasks, threshold=threshold, linkage=linkage)
    expected = oracle("graph/canonical.py", "canonical_states")(texts, tasks, threshold=threshold, linkage=linkage)
    assert named(got) == expected


@settings(max_examples=max(150, settings().max_examples))
@given(
    st.lists(st.text("abc", min_size=1, max_size=7), min_size=1, max_size=40),
    THRESHOLDS,
    st.sampled_from(LINKAGES),
    st.integers(1, 7),
    st.sampled_from([0.0, 0.5, 2.0]),
    st.sampled_from([1, 512]),
)
def test_blocks_and_ways_change_nothing(oracle, texts, threshold, linkage, block, dense, share):
    """Small blocks, whole rectangles and single pairs, one thread and several."""
    tasks = [0] * len(texts)
    with mock.patch.multiple(_similarity, BLOCK=block, DENSE=dense, SHARE=share):
        got = canonical_states(texts, tasks, threshold=threshold, linkage=linkage)
    expected = oracle("graph/canonical.py", "canonical_states")(texts, tasks, threshold=threshold, linkage=linkage)
    assert named(got) == expected


@given(ROWS, THRESHOLDS, st.sampled_from(LINKAGES), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_nothing(rows, threshold, linkage, random):
    turn = list(range(len(rows)))
    random.shuffle(turn)
    expected = named(canonical_states(*columns(rows), threshold=threshold, linkage=linkage))
    got = named(canonical_states(*columns([rows[i] for i in turn]), threshold=threshold, linkage=linkage))
    assert got == [expected[i] for i in turn]


@given(ROWS, THRESHOLDS, st.sampled_from(LINKAGES))
def test_tasks_know_nothing_of_each_other(rows, threshold, linkage):
    every = named(canonical_states(*columns(rows), threshold=threshold, linkage=linkage))
    for task in {t for _, t in rows}:
        own = [row for row in rows if row[1] == task]
        got = named(canonical_states(*columns(own), threshold=threshold, linkage=linkage))
        assert got == [x for x in every if x[0] == task]


@given(ROWS, THRESHOLDS)
def test_what_the_linkages_promise(oracle, rows, threshold):
    ratio = oracle("graph/canonical.py", "ratio")
    texts, tasks = columns(rows)
    made = canonical_states(texts, tasks, threshold=threshold)
    assert all(ratio(text, leader) >= threshold for text, (_, leader) in zip(texts, named(made), strict=True))
    for (task, a), (other, b) in itertools.combinations(made.ids, 2):
        assert task != other or ratio(a, b) < threshold
    # Whoever has one leader is in one component.
    single = canonical_states(texts, tasks, threshold=threshold, linkage="single")
    assert rm.Groups.product(single, made).n_groups == made.n_groups


@given(ROWS, st.sampled_from(LINKAGES))
def test_the_ends_of_the_threshold(rows, linkage):
    texts, tasks = columns(rows)
    exact = canonical_states(texts, tasks, threshold=1, linkage=linkage)
    assert np.array_equal(exact.index, rm.Groups.product(tasks, texts).index)
    assert named(exact) == list(zip(tasks, texts, strict=True))
    assert np.array_equal(canonical_states(texts, tasks, threshold=0, linkage=linkage).index, rm.Groups(tasks).index)


def test_a_vector_by_hand():
    # Ratios: lamp-lamps 16/17 = 0.941, lamps-lamps! 18/19 = 0.947, lamp-lamps! 16/18 = 0.889.
    texts = ["red lamp", "red lamps", "red lamps!"]
    for order in itertools.permutations(texts):
        made = dict(zip(order, named(canonical_states(order, [7] * 3, threshold=0.92)), strict=True))
        # All are as frequent: the shortest leads, the longest is far from it, the one between is nearer to the longest.
        assert made == {"red lamp": (7, "red lamp"), "red lamps": (7, "red lamps!"), "red lamps!": (7, "red lamps!")}
        assert canonical_states(order, [7] * 3, threshold=0.92, linkage="single").ids == ((7, "red lamp"),)
        assert canonical_states([*order, "red lamps"], [7] * 4, threshold=0.92).ids == ((7, "red lamps"),)


def test_a_ratio_of_exactly_the_threshold_is_near():
    for n in (1, 3, 7, 20, 49, 100):
        for wrong in range(n + 1):
            texts = ["a" * n, "a" * (n - wrong) + "b" * wrong]
            ratio = (n - wrong) / n
            assert canonical_states(texts, [0, 0], threshold=ratio).n_groups == 1
            above = float(np.nextafter(ratio, 2))
            if above <= 1:
                assert canonical_states(texts, [0, 0], threshold=above).n_groups == 2
    assert canonical_states(["a" * 20, "a" * 19 + "b"], [0, 0], threshold=0.95).n_groups == 1


def test_ties_go_to_the_leader_that_comes_first():
    # "abcd" is as near to "abc" as to "bcd", which lead because they come twice, in the order of strings.
    texts = ["bcd", "abcd", "abc", "bcd", "abc"]
    made = canonical_states(texts, [0] * 5, threshold=0.8)
    assert named(made)[1] == (0, "abc")
    assert named(canonical_states([*texts, "bcd"], [0] * 6, threshold=0.8))[1] == (0, "bcd")


@pytest.mark.parametrize("linkage", LINKAGES)
def test_few_rows_and_empty_texts(linkage):
    assert canonical_states([], [], linkage=linkage).ids == ()
    assert canonical_states([""], ["p"], linkage=linkage).ids == (("p", ""),)
    assert canonical_states(["", "", "a"], [0, 1, 0], linkage=linkage).ids == ((0, ""), (1, ""), (0, "a"))
    assert canonical_states(["", "a", ""], [0, 0, 0], threshold=1e-9, linkage=linkage).index.tolist() == [0, 1, 0]
    # "abab" begins and ends with both others, 4/6 near; these are 2/4 near.
    made = canonical_states(["ab", "abab", "ba"], [0] * 3, threshold=0.6, linkage=linkage)
    assert made.index.tolist() == ([0, 0, 1] if linkage == "leader" else [0, 0, 0])


def test_what_all_texts_share_counts_in_the_ratio():
    head, tail = "You are in the kitchen. ", " What do you do?"
    texts = [f"{head}{x}{tail}" for x in ("You see a mug.", "You see a cup.", "The door is locked now.")]
    assert canonical_states(texts, [0] * 3, threshold=0.9).index.tolist() == [0, 0, 1]
    assert canonical_states([t[len(head) : -len(tail)] for t in texts], [0] * 3, threshold=0.9).n_groups == 3
    # Nothing but what they share, and overlaps of start and end.
    assert canonical_states(["aaaa", "aaa", "aaaaaa"], [0] * 3, threshold=0.85).index.tolist() == [0, 0, 1]


def test_unicode_and_kinds_of_strings():
    class Place(enum.StrEnum):
        HALL = "the hall"

    # Composed and decomposed letters are different code points; planes above the first and lone surrogates are fine.
    texts = ["caf\u00e9 bar", "cafe\u0301 bar", "𝔘𝔫𝔦" * 30, "𝔘𝔫𝔦" * 29 + "𝔘𝔫", "\ud800" * 20, "\ud800" * 21, Place.HALL]
    made = canonical_states([*texts, np.str_("the hall")], np.zeros(8, int))
    assert made.index.tolist() == [0, 1, 2, 2, 3, 3, 4, 4]
    assert all(type(text) is str for _, text in made.ids)
    for container in (tuple, np.array, lambda x: np.array(x, dtype=object), iter):
        assert canonical_states(container(["a", "b", "a"]), [0, 0, 0]).index.tolist() == [0, 1, 0]
    assert canonical_states(["a", "b", "a"], rm.Groups(["p", "q", "q"])).ids == (("p", "a"), ("q", "b"), ("q", "a"))


def test_long_texts():
    rng = np.random.default_rng(0)
    text = "".join(rng.choice(list("abcdefgh "), 70_000))
    texts = [text, text[:30_000] + "x" * 3_000 + text[30_000:], text[::-1]]
    assert canonical_states(texts, [0] * 3).index.tolist() == [0, 0, 1]


def test_the_number_of_threads_changes_nothing():
    rng = np.random.default_rng(1)
    # Templates with slots: most pairs pass the bound, some are near.
    texts = ["".join(rng.choice(list("abcd"), 12)) + "-" * 40 for _ in range(600)]
    tasks = rng.integers(0, 7, 600)
    before, made = rm.num_threads(), []
    try:
        for threads, share in itertools.product((1, 2, 3), (1, 512)):
            rm.set_num_threads(threads)
            with mock.patch.object(_similarity, "SHARE", share):
                made += [canonical_states(texts, tasks, threshold=0.9, linkage=linkage) for linkage in LINKAGES]
    finally:
        rm.set_num_threads(before)
    assert 7 < made[0].n_groups < 600
    for k, linkage in enumerate(LINKAGES):
        assert all(one == made[k] for one in made[k::2]), linkage


def test_memory_grows_with_the_texts_and_not_with_their_pairs():
    import tracemalloc

    rng = np.random.default_rng(2)
    texts = ["".join(row) for row in rng.choice(list("abcdefghijklmnop"), (3000, 60))]
    for linkage in LINKAGES:
        tracemalloc.start()
        assert canonical_states(texts, np.zeros(3000, int), linkage=linkage).n_groups == 3000
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 3000 * 3000 * 4  # one float32 a pair


def test_it_is_what_steps_take():
    seen = ["hall, 3 doors", "a room", "hall, 2 doors", "a yard"]
    states = canonical_states(seen, ["p"] * 4, threshold=0.9)
    steps = rm.Steps(["t", "t", "u", "u"], states, list("xyxz"), groups=["p"] * 4)
    assert steps.groups(by="state").index.tolist() == [0, 1, 0, 2]
    assert repr(states) == "Groups(4 rows in 3 groups of 1 to 2)"
    assert pickle.loads(pickle.dumps(states)) == states


def test_states_and_next_states_together():
    states, after = ["hall, 3 doors", "a room"], ["a room", "hall, 2 doors"]
    both = canonical_states(states + after, ["p"] * 4, threshold=0.9)
    # The first and last rows are Groups of their own; steps compare their ids.
    steps = rm.Steps([0, 1], both.take(range(2)), groups=["p"] * 2, next_state=both.take(range(2, 4)))
    assert steps.next_index.tolist() == steps.state_index[::-1].tolist()
    assert steps.n_states == 2


def first_fit(texts, threshold):
    """The rule that depends on the order of rows: the first cluster whose first text is near, by difflib."""
    firsts, out = [], []
    for text in texts:
        near = (k for k, x in enumerate(firsts) if difflib.SequenceMatcher(None, text, x).ratio() >= threshold)
        out.append(next(near, len(firsts)))
        if out[-1] == len(firsts):
            firsts.append(text)
    return [firsts[k] for k in out]


def test_where_it_differs_from_first_fit_by_difflib():
    texts = ["red lamp", "red lamps", "red lamps!"]
    partitions = set()
    for order in itertools.permutations(texts):
        first = dict(zip(order, first_fit(order, 0.92), strict=True))
        partitions.add(tuple(rm.Groups([first[x] for x in texts]).index.tolist()))
    assert partitions == {(0, 0, 0), (0, 0, 1), (0, 1, 1)}
    # One word put into 240 characters, each of which is more than 1 % of them.
    text = ("the quick brown fox jumps over the lazy dog " * 6)[:240]
    longer = text[:120] + "XYZXYZ" + text[120:]
    assert difflib.SequenceMatcher(None, text, longer).ratio() == pytest.approx(0.494, abs=1e-3)
    assert len(set(first_fit([text, longer], 0.95))) == 2
    assert canonical_states([text, longer], [0, 0]).n_groups == 1


@given(st.text("ab", max_size=12), st.text("ab", max_size=12))
def test_the_ratio_is_never_below_that_of_difflib(oracle, a, b):
    ratio = oracle("graph/canonical.py", "ratio")
    assert ratio(a, b) >= difflib.SequenceMatcher(None, a, b, autojunk=False).ratio()


BAD = [
    (("abc", [0]), {}, TypeError, "'texts' must be a sequence with one string a row, got an object of type str"),
    ((b"abc", [0]), {}, TypeError, "'texts' must be a sequence with one string a row, got an object of type bytes"),
    (({"a": 1}, [0]), {}, TypeError, "'texts' must be a sequence with one string a row, got an object of type dict"),
    (({"a"}, [0]), {}, TypeError, "'texts' must be a sequence with one string a row, got an object of type set"),
    ((np.array("ab"), [0]), {}, TypeError, "'texts' must be 1-D, got a 0-D <U2 array"),
    ((3, [0]), {}, TypeError, "'texts' must be a sequence with one string a row, got an object of type int"),
    ((["a", 3], [0, 0]), {}, TypeError, "'texts' must hold strings, got int at index 1"),
    ((["a", None], [0, 0]), {}, TypeError, "'texts' must hold strings, got NoneType at index 1"),
    (([b"a"], [0]), {}, TypeError, "'texts' must hold strings, got bytes at index 0"),
    ((np.array([["a"]]), [0]), {}, TypeError, r"'texts' must be 1-D, got a 2-D <U1 array of shape \(1, 1\)"),
    ((["a", "b"], [0]), {}, ValueError, r"'groups' must have length 2 \(= the number of texts\), got 1"),
    ((["a"], [0.5]), {}, TypeError, "'groups' must be strings, ints, UUIDs or tuples, got float"),
    ((["a"], [0]), {"threshold": 1.5}, ValueError, "'threshold' must be between 0 and 1, got 1.5"),
    ((["a"], [0]), {"threshold": -0.1}, ValueError, "'threshold' must be between 0 and 1, got -0.1"),
    ((["a"], [0]), {"threshold": float("nan")}, ValueError, "'threshold' must be between 0 and 1, got nan"),
    ((["a"], [0]), {"threshold": "0.9"}, TypeError, "'threshold' must be a number, got an object of type str"),
    ((["a"], [0]), {"threshold": True}, TypeError, "'threshold' must be a number, got True"),
    ((["a"], [0]), {"linkage": "average"}, ValueError, "'linkage' must be one of 'leader', 'single', got 'average'"),
]


@pytest.mark.parametrize(("arguments", "options", "error", "message"), BAD, ids=range(len(BAD)))
def test_messages(arguments, options, error, message):
    with pytest.raises(error, match=rf"^canonical_states\(\): {message}"):
        canonical_states(*arguments, **options)


def test_without_rapidfuzz_the_extra_is_named(script):
    out, _ = script(
        "import sys, rollmath as rm\n"
        "sys.modules['rapidfuzz'] = None\n"
        "try: rm.graph.canonical_states(['a'], [0])\n"
        "except ModuleNotFoundError as error: print(error.name, error)\n"
    )
    assert out.strip() == "rapidfuzz canonical_states() needs rapidfuzz: install rollmath with its 'similarity' extra"

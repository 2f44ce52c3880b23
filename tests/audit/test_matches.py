"""Which convention given advantages follow: frameworks' recorded outputs are recognised."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

import rollmath as rm
from rollmath import audit, conventions

NAN = math.nan
PEERS = sorted((Path(__file__).parents[1] / "vectors" / "peers").glob("*.json"))


def batch(seed=0, groups=12, size=8, lone=True):
    """Rewards of uneven spread, with a group of one and one without spread."""
    rng = np.random.default_rng(seed)
    r = [rng.normal(rng.normal(), 0.05 + rng.random() / 2, size) for _ in range(groups)]
    ids = np.repeat(np.arange(groups), size)
    extra = [0.75] if lone else []
    return np.concatenate([*r, [0.5, 0.5], extra]), np.concatenate([ids, [90, 90], np.full(len(extra), 91)])


def names(a):
    """Of all matches within the tolerance."""
    return [name for m in a.matches if m.off == 0 for name in m.names]


GRPO = [name for name, framework in conventions.frameworks().items() if "grpo" in framework]


@pytest.mark.parametrize("name", GRPO)
def test_each_framework_is_recognised(name):
    r, ids = batch(lone=name != "OPENRLHF")
    framework = getattr(conventions, name)
    options = framework.options.get("grpo", {})
    adv = rm.group.grpo(r, ids, convention=framework, **options).astype(np.float32)
    a = audit(r, ids, adv, convention=framework)
    assert f"{name} grpo" in a.matches[0].names
    assert a.asked is a.matches[0]
    assert (a.asked.off, a.asked.grouping, a.asked.compared) == (0, "ids", 97 if name != "OPENRLHF" else 96)
    assert a.asked.difference < 1e-5
    rules = framework.get("dr_grpo", framework["grpo"])
    adv = rm.group.grpo(r, ids, scale="none", convention=rules)
    assert f"{name} dr_grpo" in names(audit(r, ids, adv))


def test_rloo_and_its_group_of_one():
    r, ids = batch()
    a = audit(r, ids, rm.group.rloo(r, ids, convention=conventions.VERL))
    assert {"VERL rloo", "AREAL rloo", "TRINITY rloo"} <= set(a.matches[0].names)
    assert not {"VERL rloo_vectorized", "SKYRL rloo"} & set(a.matches[0].names)
    a = audit(r, ids, rm.group.rloo(r, ids))
    assert {"VERL rloo_vectorized", "SKYRL rloo"} <= set(a.matches[0].names)


def by_default(framework, record):
    """Whether the mean is the one that the framework's convention has: of the others in NeMo-RL's GRPO."""
    others = getattr(conventions, framework).options.get(record["method"], {}).get("leave_one_out", False)
    return record["options"].get("leave_one_out", False) == (others and record["options"].get("scale") != "none")


def recorded():
    for path in PEERS:
        peer = json.loads(path.read_text())
        for i, record in enumerate(peer["records"]):
            if record.get("method") not in {"grpo", "rloo"} or "ddof" in record["options"]:
                continue
            if record["residue"] or record["refused"] or record["unlike"] or not by_default(peer["framework"], record):
                continue
            yield pytest.param(peer["framework"], record, id=f"{path.stem}-{i}")


@pytest.mark.parametrize(("framework", "record"), list(recorded()))
def test_recorded_outputs_are_recognised(framework, record):
    method = "dr_grpo" if record["options"].get("scale") == "none" else record["method"]
    adv = np.array(record["advantages"], dtype=float)
    a = audit(np.array(record["rewards"], np.float32), record["ids"], adv, tolerance=2e-6)
    if a.matches:
        assert f"{framework} {method}" in names(a)
    else:
        assert not {"signal", "group of one", "zero advantage"} & set(a.rows)


def test_a_residue_is_a_finding_and_spoils_no_match():
    """Three float32 rewards of 1000.1 get 0.8057 from verl, because their float32 mean is not theirs."""
    r, ids = [*[1000.1] * 3, 1.0, 0.0, 0.0], [0, 0, 0, 1, 1, 1]
    adv = [0.8057, 0.8057, 0.8057, *rm.group.grpo(r[3:], ids[3:])]
    a = audit(np.float32(r), ids, adv)
    assert a.rows[:3].tolist() == ["zero spread: all at the top"] * 3
    assert a.asked.off == 0
    (found,) = (f for f in a.findings if f.kind == "no spread")
    assert (found.rollouts, found.rows) == (3, (0, 1, 2))
    assert found.text.startswith("3 advantages are not 0 (largest 0.806) in groups without spread")


def test_the_whole_batch_as_one_group():
    r, ids = batch()
    a = audit(r, ids, rm.group.grpo(r, np.zeros(len(r), int), convention=conventions.SLIME))
    assert "SLIME grpo" in a.matches[0].names
    assert (a.matches[0].grouping, a.matches[0].off) == ("batch", 0)
    assert a.asked.off > 90
    assert "with the whole batch as one group" in str(a)


def test_groups_by_position_of_shuffled_rows():
    r, ids = batch(lone=False)
    turn = np.random.default_rng(1).permutation(len(r))
    r, ids = r[turn], ids[turn]
    a = audit(r, ids, rm.group.grpo(r, np.arange(len(r)) // 8, convention=conventions.TRL))
    assert (a.matches[0].grouping, a.matches[0].off) == ("consecutive", 0)
    assert "TRL grpo" in a.matches[0].names
    assert "with groups by position" in str(a)


def test_missing_rewards_tell_omit_from_propagate():
    r, ids = [1.0, 0.0, 0.0, NAN, 1.0, 0.0], [0, 0, 0, 0, 1, 1]
    a = audit(r, ids, rm.group.grpo(r, ids, convention=conventions.TRL))
    assert "TRL grpo" in a.matches[0].names
    a = audit(r, ids, rm.group.grpo(r, ids, convention=conventions.VERL, nan="propagate"))
    assert "VERL grpo" in a.matches[0].names
    assert "TRL grpo" not in names(a)
    assert [f.kind for f in a.findings][:1] == ["non-finite advantage"]


def test_outliers_are_named():
    r, ids = batch(lone=False)
    adv = rm.group.grpo(r, ids, convention=conventions.TRL_ASYNC)
    adv[[3, 20]] += 0.5
    a = audit(r, ids, adv, convention=conventions.TRL)
    assert (a.matches[0].off, a.matches[0].difference) == (2, pytest.approx(0.5))
    assert a.matches[0].within < 1e-12
    (found,) = (f for f in a.findings if f.kind == "outlier")
    assert found.rows == (3, 20)
    assert found.text == "2 advantages differ from TRL_ASYNC grpo, which the others follow"
    assert "all but 2 of 96 look like grpo of TRL_ASYNC" in str(a)
    assert "not like grpo of TRL: 96 of 96 off" in str(a)


def test_advantages_that_follow_nothing():
    r, ids = batch()
    a = audit(r, ids, np.random.default_rng(0).normal(size=len(r)))
    assert a.matches[0].off > 90
    assert "none that we know; nearest" in str(a)


def test_what_cannot_tell_conventions_apart():
    a = audit([1.0, 1.0], [0, 0], [0.0, 0.0])
    assert (a.matches, a.asked) == ((), None)
    assert "no rollout tells conventions apart" in str(a)
    a = audit([1.0, 0.0], [0, 0], [0.5, -0.5], convention=conventions.TRL)
    assert "look like dr_grpo of" in str(a)


def test_filtered_rows_enter_statistics_but_are_not_compared():
    r, ids = batch(lone=False)
    adv = rm.group.grpo(r, ids)
    filtered = np.arange(len(r)) % 5 == 0
    a = audit(r, ids, np.where(filtered, 0, adv), filtered=filtered)
    assert (a.asked.off, a.asked.compared) == (0, int((~filtered[:96]).sum()))


def test_the_tolerance_follows_the_dtype():
    torch = pytest.importorskip("torch")
    r, ids = batch()
    adv = torch.from_numpy(rm.group.grpo(r, ids))
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        assert audit(r, ids, adv.to(dtype)).asked.off == 0
    assert audit(r, ids, adv.to(torch.bfloat16), tolerance=1e-5).asked.off > 50
    assert audit(r, ids, rm.Ragged(adv.to(torch.float16), np.arange(len(r) + 1))).asked.off == 0


def test_an_override_is_a_convention_of_its_own():
    r, ids = batch()
    adv = rm.group.grpo(r, ids, convention=conventions.VERL, eps=0.1)
    a = audit(r, ids, adv, convention=conventions.VERL, eps=0.1)
    assert (a.convention, a.asked.off) == ("the given convention", 0)
    assert a.asked.names == ("the given convention grpo",)
    own = rm.conventions.Framework("OURS", {"grpo": rm.Convention(eps=0.1, singleton="raw")})
    assert audit(r, ids, adv, convention=own).asked.names == ("OURS grpo",)


def test_float32_rewards_and_json_decimals():
    r, ids = batch()
    adv = rm.group.grpo(np.float32(r), ids, convention=conventions.VERL)
    dumped = json.loads(json.dumps([round(float(x), 6) for x in adv]))
    assert "VERL grpo" in audit(np.float32(r), ids, dumped).matches[0].names


def test_the_nearest_of_what_fits_nowhere():
    """By the largest difference: that some rollouts of another formula happen to fit is no reason to name it."""
    r, ids = batch(lone=False)
    noise = 1e-3 * np.random.default_rng(2).normal(size=len(r))
    noise[-2:] = 0
    a = audit(r, ids, rm.group.grpo(r, ids, convention=conventions.TRL_ASYNC) + noise)
    # Those of ddof 0, which the noise does not tell apart.
    nearest = {name for m in a.matches[:2] for name in m.names}
    assert {"TRL_ASYNC grpo", "RLLM grpo"} <= nearest <= {"TRL_ASYNC grpo", "RLLM grpo", "OPEN_INSTRUCT grpo"}
    assert min(m.off for m in a.matches) > 90
    assert "none that we know; nearest grpo of " in str(a)
    others = [m.difference for m in a.matches]
    assert others == sorted(others)


def test_another_grouping_needs_most_rollouts():
    r, ids = batch(lone=False)
    turn = np.random.default_rng(3).permutation(len(r))
    r, ids = r[turn], ids[turn]
    a = audit(r, ids, np.random.default_rng(4).normal(size=len(r)))
    assert {m.grouping for m in a.matches} == {"ids"}
    adv = rm.group.grpo(r, np.zeros(len(r), int))
    few, most = adv.copy(), adv.copy()
    few[: len(r) * 3 // 4] += 1
    most[: len(r) // 4] += 1
    assert {m.grouping for m in audit(r, ids, few).matches} == {"ids"}
    best = audit(r, ids, most).matches[0]
    assert (best.grouping, best.off, best.compared) == ("batch", len(r) // 4, len(r))


def test_rounding_noise_decides_nothing():
    """float32 advantages do not tell eps 1e-8 from 1e-9: whoever is nearest by chance is not the one that is named."""
    rng = np.random.default_rng(5)
    r, ids = rng.normal(size=64) * 4, np.repeat(np.arange(8), 8) + 3
    adv = rm.group.grpo(r, ids, eps=1e-9).astype(np.float32)
    best = audit(r, ids, adv).matches[0]
    assert {"OPENRLHF grpo", "GRPO_COMPOSER grpo", "PAPER grpo"} <= set(best.names)
    assert best.within == best.difference < 1e-6
    # In float64 they are as different as they are.
    best, *rest = audit(r, ids, rm.group.grpo(r, ids, eps=1e-9)).matches
    assert best.names == ("OPENRLHF grpo",)
    assert best.difference == 0
    fit = [m for m in rest if m.off == 0]
    assert [m.difference for m in fit] == sorted(m.difference for m in fit)
    # Six decimals tell eps 1e-4 from the others, and no more.
    best = audit(r, ids, np.round(adv.astype(float), 6)).matches[0]
    assert {"OPENRLHF grpo", "PAPER grpo"} <= set(best.names)
    assert not {"TRL grpo", "TRL_ASYNC grpo"} & set(best.names)


def test_many_that_fit_are_counted():
    """All but the first four, where the advantages are as exact as float64."""
    r, ids = batch(lone=False)
    a = audit(r, ids, rm.group.grpo(r, ids, eps=1e-9), tolerance=1e-2)
    fit = [m for m in a.matches if m.off == 0]
    assert len(fit) > 4
    assert str(a).count("within the tolerance too") == 3
    assert f"             and {len(fit) - 4} more\n" in str(a)


def test_ties_are_of_one_grouping():
    """The same numbers by position and from the whole batch: two matches, each with its own words."""
    r, ids = [1.0, 0.0, 1.0, 0.0], [0, 1, 0, 1]
    a = audit(r, ids, [0.5, -0.5, 0.5, -0.5])
    fit = [m for m in a.matches if m.off == 0]
    assert {m.grouping for m in fit} == {"batch", "consecutive"}
    assert all("DEFAULT dr_grpo" in m.names for m in fit[:1])
    text = " ".join(str(a).split())
    assert "with the whole batch as one group: largest difference 0" in text
    assert "within the tolerance too: " in text
    assert "with groups by position: 0" in text


def test_a_large_lone_reward_does_not_blur_the_rest():
    """A difference is measured by max(1, |expected|), or the rounding of one number would make all formulas alike."""
    r, ids = batch(lone=False)
    r, ids = np.append(r, 1e6), np.append(ids, 99)
    a = audit(r, ids, rm.group.grpo(r, ids, convention=conventions.VERL).astype(np.float32))
    assert "VERL grpo" in a.matches[0].names
    assert not {"TRL grpo", "AREAL grpo", "RLLM grpo"} & set(a.matches[0].names)


def test_zeros_are_no_formula():
    r, ids = batch()
    a = audit(r, ids, np.zeros(len(r)))
    assert (a.matches, a.asked) == ((), None)
    assert "all advantages are 0, though groups have spread: none of the formulas" in str(a)
    # Where no group has spread, 0 is right, and tells nothing.
    a = audit([0.0] * 4, [0, 1, 0, 1], np.zeros(4))
    assert a.matches == ()
    assert "no rollout tells conventions apart" in str(a)
    # Of the groups that are trained on, none has spread.
    a = audit([1.0, 0, 1, 1], [0, 0, 1, 1], np.zeros(4), filtered=[1, 1, 0, 0])
    assert "no rollout tells conventions apart" in str(a)


def test_the_whole_batch_is_found_where_no_group_has_spread():
    r, ids = np.repeat([0.0, 1.0, 1.0, 0.0, 1.0], 4), np.repeat(np.arange(5), 4)
    a = audit(r, ids, rm.group.grpo(r, np.zeros(20, int), convention=conventions.TRL))
    assert (a.matches[0].grouping, a.matches[0].off, a.matches[0].compared) == ("batch", 0, 20)
    assert "grpo of TRL" in str(a)
    assert a.findings[0].kind == "no spread"


def test_equal_groups_do_not_bear_another_grouping_out():
    """Consecutive slices of equal rewards get 0 from every formula, as do most groups here."""
    r = np.array([0.0] * 36 + [1.0, 0.0, 0.0, 0.0])
    ids = np.concatenate([np.arange(36) % 9, [9] * 4])
    adv = np.zeros(40)
    adv[36:] = [9.0, -4.0, -4.0, -1.0]
    assert {m.grouping for m in audit(r, ids, adv).matches} == {"ids"}


def test_a_framework_without_grpo_is_asked_for_what_it_has():
    r, ids = batch()
    adv = rm.group.grpo(r, ids, scale="none", convention=conventions.PRIME_RL["dr_grpo"])
    a = audit(r, ids, adv, convention=conventions.PRIME_RL)
    assert (a.convention, a.method, a.asked.off) == ("PRIME_RL", "dr_grpo", 0)
    assert "PRIME_RL dr_grpo" in a.asked.names
    a = audit(r, ids, convention=conventions.PRIME_RL)
    np.testing.assert_array_equal(a.advantages, adv)
    assert "advantages computed here: dr_grpo of PRIME_RL" in str(a)
    a = audit(r, ids, rm.group.grpo(r, ids), convention=conventions.PRIME_RL)
    assert "not like dr_grpo of PRIME_RL: " in str(a)
    a = audit(r, ids, adv, convention=conventions.PRIME_RL, singleton="raw")
    assert (a.convention, a.method) == ("the given convention", "dr_grpo")
    assert audit(r, ids, adv).method == "grpo"


def test_nan_is_named_where_the_convention_has_it():
    r, ids = [1.0, 0.0, 0.0, 1.0, 0.5], [0, 0, 0, 0, 1]
    a = audit(r, ids, rm.group.grpo(r, ids), convention=conventions.SLIME)
    assert (a.asked.off, a.asked.undefined) == (1, 1)
    assert "not like grpo of SLIME: 1 of 5 off, NaN there" in str(a)
    a = audit(r, ids, [NAN, *rm.group.grpo(r, ids)[1:]])
    assert a.matches[0].undefined == 0
    a = audit(r, ids, [NAN, *rm.group.grpo(r, ids, scale="none")[1:]])
    assert "not like grpo of DEFAULT: 4 of 5 off, some NaN or infinite here" in str(a)

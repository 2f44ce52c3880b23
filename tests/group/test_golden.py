"""Recorded outputs of other trainers' own functions; `tests/conformance/golden/` has the scripts that made them."""

import json
from pathlib import Path

import numpy as np
import pytest

import rollmath as rm

VECTORS = Path(__file__).parents[1] / "vectors" / "peers"
#: GRPO and RLOO, then the other methods; those on tokens are in tests/temporal/test_golden.py.
FILES = ("areal", "nemo-rl", "openrlhf", "rllm", "roll", "skyrl", "slime", "torchrl", "trinity-rft")
OTHERS = tuple(f"{peer}-others" for peer in ("areal", "nemo-rl", "prime-rl", "rllm", "roll", "skyrl", "trinity-rft"))


def records(keep, files=FILES):
    found = []
    for file in files:
        peer = json.loads((VECTORS / f"{file}.json").read_text())
        for i, record in enumerate(peer["records"]):
            if keep(record):
                name = f"{peer['peer']}-{peer['version']}-{record['function'].rpartition('.')[2]}-{i}"
                found.append(pytest.param(peer["framework"], record, id=name))
    return found


def ours(framework, record, **override):
    method = getattr(rm.group, record["method"])
    rewards = np.array(record["rewards"], np.float32)
    convention = getattr(rm.conventions, framework)
    options = dict(convention.options.get(record["method"], {})) | record["options"] | override
    return method(rewards, record["ids"], convention=convention, **options)


def theirs(record):
    return np.array(record["advantages"], dtype=float)  # null is NaN


def agree(record_property, framework, record, mine):
    # The peers compute in float32, and NaN (a group of one in torchrl) must be NaN here too.
    np.testing.assert_allclose(mine, theirs(record), rtol=2e-6, atol=2e-6)
    method = record["method"] if "." in record["method"] else f"group.{record['method']}"
    difference = float(np.nanmax(np.abs(mine - theirs(record)), initial=0.0))
    record_property("golden difference", (framework, method, difference))


@pytest.mark.parametrize(("framework", "record"), records(lambda r: not (r["residue"] or r["refused"] or r["unlike"])))
def test_agrees_with_the_recording(framework, record, record_property):
    agree(record_property, framework, record, ours(framework, record))


@pytest.mark.parametrize("file", [*FILES, *OTHERS])
def test_conventions_name_the_version_that_was_recorded(file):
    peer = json.loads((VECTORS / f"{file}.json").read_text())
    assert getattr(rm.conventions, peer["framework"]).version.endswith(f" {peer['version']}")


def test_conventions_that_say_golden_have_a_recording():
    recorded = {("SPO", "spo")}  # tests/tree/test_spo.py
    trees = json.loads((VECTORS.parent / "trees.json").read_text())
    recorded |= {(name, method) for name in ("TREEPO", "TREE_GRPO", "TREE_RL") for method in trees}  # tests/tree
    steps = {
        m for file in ("graphs", "graph_values") for m in json.loads((VECTORS.parent / f"{file}.json").read_text())
    }
    recorded |= {
        (m.upper(), m) for m in ("gigpo", "hgpo", "g2po", "graphgpo", "rewardflow") if m in steps
    }  # tests/graph
    recorded |= {("GIGPO", "gigpo_episode"), ("GIGPO", "gigpo_step"), ("TRINITY", "gigpo")}  # parts of gigpo; Trinity's
    for path in VECTORS.glob("*.json"):
        peer = json.loads(path.read_text())
        for record in peer["records"] if "framework" in peer else []:
            methods = [record["method"], *(["dr_grpo"] if is_dr_grpo(record) else [])]
            recorded |= {(peer["framework"], method.rpartition(".")[2]) for method in methods}
    said = {
        (name, method)
        for name, framework in vars(rm.conventions).items()
        if isinstance(framework, rm.conventions.Framework)
        for method, known in framework.known.items()
        if known == "golden"
    }
    assert said - recorded == set()


def has_groups(record):
    return record["method"] != "ops.whiten"


@pytest.mark.parametrize(("framework", "record"), records(lambda r: has_groups(r) and not r["unlike"], OTHERS))
def test_the_other_methods_agree_with_the_recording(framework, record, record_property):
    agree(record_property, framework, record, ours(framework, record))


@pytest.mark.parametrize(("framework", "record"), records(lambda r: not has_groups(r), OTHERS))
def test_whitening_over_the_batch_agrees_with_the_recording(framework, record, record_property):
    how = rm.conventions.Whiten(**record["options"]["how"])
    agree(record_property, framework, record, rm.ops.whiten(np.array(record["rewards"], np.float32), how=how))


def is_dr_grpo(record):
    return record["options"].get("scale") == "none" and not record["options"].get("leave_one_out")


@pytest.mark.parametrize(("framework", "record"), records(lambda r: is_dr_grpo(r) and not r["refused"]))
def test_dr_grpo_agrees_where_nothing_is_divided(framework, record, record_property):
    record = record | {"method": "dr_grpo", "options": {}}
    agree(record_property, framework, record, ours(framework, record))


@pytest.mark.parametrize(("framework", "record"), records(lambda r: r["refused"]))
def test_what_the_peer_refuses_can_be_refused_here(framework, record):
    """Groups of one: torchrl with `trajectory_return=`; OpenRLHF's command line, while its function returns NaN."""
    assert np.isnan(record.get("advantages", [None])[0] or np.nan)
    with pytest.raises(ValueError, match="group"):
        ours(framework, record, singleton="raise")


def test_openrlhf_refuses_groups_of_one():
    assert {rules.singleton for rules in rm.conventions.OPENRLHF.values()} == {"raise"}


#: What three equal float32 rewards of 1000.1 get: their float32 mean is one unit in the last place away from them.
RESIDUE = {
    "AREAL": 0.0,  # moments in float64
    "NEMO_RL": 1.4e-4,  # nothing is divided where the standard deviation is 0
    "OPENRLHF": 0.8165,
    "RLLM": 0.0,  # sums in float64
    "ROLL": 0.8057,
    "SKYRL": 0.8057,
    "SLIME": 61.035,  # the standard deviation of the residues, which are equal, is 0: divided by eps
    "TORCHRL": 0.8165,
    "TRINITY": 0.8057,
}


@pytest.mark.parametrize(("framework", "record"), records(lambda r: r["residue"]))
def test_a_constant_group_gets_exactly_zero_here_and_a_residue_there(framework, record):
    assert not ours(framework, record).any()
    exact = record["method"] == "rloo" or record["options"].get("leave_one_out")
    np.testing.assert_allclose(np.abs(theirs(record)), 0.0 if exact else RESIDUE[framework], rtol=1e-2, atol=1e-6)


def unlike(file):
    return pytest.mark.parametrize(("framework", "record"), records(lambda r: r["unlike"], [file]))


@unlike("areal")
def test_the_rows_that_areal_leaves_over(framework, record):
    np.testing.assert_allclose(theirs(record)[-1], 1e5, rtol=1e-3)
    mine = ours(framework, record)
    np.testing.assert_allclose(mine[:-1], theirs(record)[:-1], atol=2e-6)
    assert mine[-1] == 0.0


@unlike("slime")
def test_slime_makes_one_group_of_a_batch_that_is_not_full(framework, record):
    one_group = record | {"ids": [0] * len(record["ids"])}
    np.testing.assert_allclose(ours(framework, one_group), theirs(record), atol=2e-6)
    assert np.abs(ours(framework, record) - theirs(record)).max() > 0.1


@unlike("nemo-rl")
def test_nemo_rl_loses_the_spread_of_rewards_far_from_zero(framework, record):
    """Rewards 1000 and 1000 +- 1/128: its float32 variance is 0, so that nothing is scaled."""
    assert theirs(record).tolist() == [0.0, 2**-7, -(2**-7), 0.0]
    np.testing.assert_allclose(ours(framework, record)[1:3], [1.2247, -1.2247], atol=1e-3)


@unlike("skyrl-others")
def test_skyrl_divides_by_a_negative_mean(framework, record):
    """MaxRL of rewards -1 and -2: the better one gets the negative advantage there, and 0 here."""
    np.testing.assert_allclose(theirs(record)[:2], [-1 / 3, 1 / 3], rtol=1e-5)
    assert ours(framework, record)[:2].tolist() == [0.0, 0.0]


@unlike("roll")
def test_roll_takes_a_small_standard_deviation_for_none(framework, record):
    assert not theirs(record).any()
    assert np.abs(ours(framework, record)).min() > 0.05

"""Recorded outputs of other trainers' own functions; `tests/conformance/golden/` has the scripts that made them."""

import json
from pathlib import Path

import numpy as np
import pytest

import rollmath as rm

#: Those of functions of one number a rollout.
FILES = sorted(p for p in (Path(__file__).parents[1] / "vectors" / "peers").glob("*.json") if "temporal" not in p.name)


def records(keep):
    found = []
    for path in FILES:
        peer = json.loads(path.read_text())
        for i, record in enumerate(peer["records"]):
            if keep(record):
                name = f"{peer['peer']}-{peer['version']}-{record['function'].rpartition('.')[2]}-{i}"
                found.append(pytest.param(peer["framework"], record, id=name))
    return found


def ours(framework, record, **override):
    method = getattr(rm.group, record["method"])
    rewards = np.array(record["rewards"], np.float32)
    convention = getattr(rm.conventions, framework)
    return method(rewards, record["ids"], convention=convention, **record["options"], **override)


def theirs(record):
    return np.array(record["advantages"], dtype=float)  # null is NaN


def test_the_recorded_peers_are_all_there():
    assert [path.stem for path in FILES] == ["areal", "openrlhf", "skyrl", "torchrl", "trinity-rft"]


@pytest.mark.parametrize(("framework", "record"), records(lambda r: not (r["residue"] or r["refused"] or r["unlike"])))
def test_agrees_with_the_recording(framework, record):
    # The peers compute in float32, and NaN (a group of one in torchrl) must be NaN here too.
    np.testing.assert_allclose(ours(framework, record), theirs(record), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(("framework", "record"), records(lambda r: r["refused"]))
def test_what_the_peer_refuses_can_be_refused_here(framework, record):
    """Groups of one: torchrl with `trajectory_return=`; OpenRLHF's command line, while its function returns NaN."""
    assert np.isnan(record.get("advantages", [None])[0] or np.nan)
    with pytest.raises(ValueError, match="group"):
        ours(framework, record, singleton="raise")


def test_openrlhf_refuses_groups_of_one():
    assert {rules.singleton for rules in rm.conventions.OPENRLHF.values()} == {"raise"}


@pytest.mark.parametrize(("framework", "record"), records(lambda r: r["residue"]))
def test_a_constant_group_gets_exactly_zero_here_and_a_residue_there(framework, record):
    """Three float32 rewards of 1000.1: their float32 mean is one unit in the last place away from them."""
    assert not ours(framework, record).any()
    residue = {"AREAL": 0.0, "OPENRLHF": 0.8165, "SKYRL": 0.8057, "TORCHRL": 0.8165, "TRINITY": 0.8057}[framework]
    if record["method"] == "rloo":
        residue = 0.0  # nothing is divided
    np.testing.assert_allclose(np.abs(theirs(record)), residue, atol=1e-4)


@pytest.mark.parametrize(("framework", "record"), records(lambda r: r["unlike"]))
def test_the_rows_that_areal_leaves_over(framework, record):
    np.testing.assert_allclose(theirs(record)[-1], 1e5, rtol=1e-3)
    mine = ours(framework, record)
    np.testing.assert_allclose(mine[:-1], theirs(record)[:-1], atol=2e-6)
    assert mine[-1] == 0.0

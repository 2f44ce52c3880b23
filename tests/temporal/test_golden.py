"""Recorded outputs of other trainers' functions on tokens; `tests/conformance/golden/` has the scripts.

Ours is called with the keywords that the convention of the framework names (``conventions.SKYRL.options["gae"]``), so
these tests say what those keywords are worth. Compared are trained tokens: what frameworks return at gaps is arbitrary.
"""

import json
from functools import cache
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest

import rollmath as rm
from rollmath.conventions import Whiten

VECTORS = Path(__file__).parents[1] / "vectors" / "peers"
FILES = ("areal", "nemo-rl", "openrlhf", "roll", "skyrl", "slime", "torchrl", "trinity-rft")

#: The peers compute in float32, token after token.
CLOSE = {"rtol": 2e-6, "atol": 2e-6}

#: Positional arguments, by method.
ARGUMENTS = {
    "group.reinforce_pp": ("rewards",),
    "group.reinforce_pp_baseline": ("rewards", "groups"),
    "group.remax": ("rewards", "baselines"),
    "temporal.discounted_returns": ("rewards",),
    "temporal.gae": ("rewards", "values"),
    "temporal.td_lambda": ("rewards", "values"),
    "temporal.vtrace": ("rewards", "values", "log_ratios"),
}
#: Methods whose result is one number a rollout.
PER_ROLLOUT = {"group.reinforce_pp_baseline", "group.remax"}


@cache
def load(file):
    peer = json.loads((VECTORS / f"{file}-temporal.json").read_text())
    batches = {}
    for name, batch in peer["batches"].items():
        arrays = {k: np.array(v) for k, v in batch.items()}
        batches[name] = {k: v.astype(np.float32) if v.dtype.kind == "f" else v for k, v in arrays.items()}
        batches[name]["counts"] = batches[name]["mask"].sum(1)
        batches[name]["baselines"] = batches[name]["values"][:, 0]
    return peer, batches


def records(keep):
    found = []
    for file in FILES:
        peer, batches = load(file)
        for i, record in enumerate(peer["records"]):
            if keep(record):
                name = f"{peer['peer']}-{peer['version']}-{record['function'].rpartition('.')[2]}-{record['batch']}-{i}"
                found.append(pytest.param(peer["framework"], record, batches[record["batch"]], id=name))
    return pytest.mark.parametrize(("framework", "record", "batch"), found)


def keywords(framework, record, batch):
    """The framework's keywords, and those of the record, where JSON names what is no JSON."""
    method = record["method"].rpartition(".")[2]
    convention = getattr(rm.conventions, framework)
    options = dict(convention.options.get(method, {})) | record["options"]
    if method in convention:
        options["convention"] = convention
    if isinstance(options.get("whiten"), dict):
        options["whiten"] = Whiten(**options["whiten"])
    if alpha := options.pop("length_adaptive", None):
        options["lam"] = rm.temporal.length_adaptive_lambda(batch["counts"], alpha=alpha)
    if method == "reinforce_pp_baseline":
        options["lengths"] = batch["counts"]
    if record["method"] not in PER_ROLLOUT:
        options = {"mask": batch["mask"], "lengths": batch["lengths"]} | options
    return options


def ours(framework, record, batch, **override):
    """The outputs that the record has, by name."""
    given = batch | ({"rewards": batch["scores"]} if record["scores"] else {})
    arguments = [given[name] for name in ARGUMENTS[record["method"]]]
    result = attrgetter(record["method"])(rm)(*arguments, **keywords(framework, record, batch) | override)
    if record["method"] in PER_ROLLOUT:
        result = result[:, None] * batch["mask"].astype(np.float32)
    if not hasattr(result, "_fields"):
        return dict.fromkeys(record["outputs"], result)
    return result._asdict()


def differences(framework, record, batch, **override):
    """Ours and theirs at trained tokens, for each output that both have."""
    mine = ours(framework, record, batch, **override)
    trained = batch["mask"] != 0
    for name, theirs in record["outputs"].items():
        # REINFORCE++: ours returns advantages alone.
        if not (record["method"].startswith("group.reinforce_pp") and name == "returns"):
            assert not mine[name][~trained].any()
            yield name, mine[name][trained], np.array(theirs, np.float32)[trained]


@records(lambda r: not r["unlike"])
def test_agrees_with_the_recording(framework, record, batch, record_property):
    compared = list(differences(framework, record, batch))
    assert compared
    for _, mine, theirs in compared:
        assert mine.dtype == np.float32
        np.testing.assert_allclose(mine, theirs, **CLOSE)
        record_property("golden difference", (framework, record["method"], float(np.abs(mine - theirs).max())))


@records(lambda r: r["unlike"])
def test_torchrl_leaves_out_small_factors(framework, record, batch):
    """``vec_generalized_advantage_estimate`` cuts the series of (gamma lam)^k at 1e-7: a late reward reaches 76 tokens.

    The loop of torchrl, and ours, go on.
    """
    (_, mine, theirs), _ = differences(framework, record, batch)
    np.testing.assert_allclose(mine[24:], theirs[24:], rtol=1e-5)
    assert not theirs[:24].any()
    assert mine[:24].min() > 8e-10


@pytest.mark.parametrize("file", ["openrlhf", "roll", "skyrl", "slime", "trinity-rft"])
def test_gaps_that_are_states_change_the_advantages_of_these_frameworks(file):
    """The same rows with gaps carried across, as verl, NeMo-RL and AReaL do, differ by far more than rounding."""
    peer, batches = load(file)
    record = next(r for r in peer["records"] if r["method"] == "temporal.gae" and r["batch"] == "gaps")
    for name, mine, theirs in differences(peer["framework"], record, batches["gaps"], gaps="carry"):
        assert np.abs(mine - theirs).max() > 0.01, name


def test_skyrl_zeroes_the_return_at_gaps():
    """REINFORCE++: a reward does not reach the turns before the last gap; with gaps carried across it does."""
    peer, batches = load("skyrl")
    record = next(r for r in peer["records"] if r["method"] == "group.reinforce_pp" and r["batch"] == "gaps")
    batch, gamma = batches["gaps"], record["options"]["gamma"]
    before = 2  # of row 0, whose tokens 3 to 5 are a gap
    their_return = record["outputs"]["returns"][0][before]
    assert their_return == pytest.approx(batch["rewards"][0, before] + gamma * 0.0)
    across = rm.temporal.discounted_returns(batch["rewards"], gamma=gamma, mask=batch["mask"])
    assert across[0, before] == pytest.approx(batch["rewards"][0, before] + gamma * across[0, 6], abs=1e-6)


def test_areal_loses_a_reward_that_falls_on_a_gap():
    """The reward is put on the last token of the sequence; if that is tool output it reaches nothing."""
    peer, batches = load("areal")
    record, batch = peer["records"][0], batches["ends"]
    row = 4
    assert batch["rewards"][row, 11] == batch["scores"][row] != 0
    assert batch["mask"][row, 11] == 0
    with pytest.raises(ValueError, match="rewards"):
        ours("AREAL", record, batch, reward_on_gap="raise")
    lost = record["outputs"]["advantages"][row][7]
    assert lost == pytest.approx(0.0 - batch["values"][row, 7])
    kept = ours("AREAL", record, batch, reward_on_gap="previous")["advantages"][row, 7]
    assert kept == pytest.approx(batch["scores"][row] - batch["values"][row, 7])

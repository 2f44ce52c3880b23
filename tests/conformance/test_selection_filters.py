"""Filters of groups beside those of verl and Trinity-RFT, run on the CPU."""

from __future__ import annotations

import importlib.util
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest

import rollmath as rm

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default")]


def installed(name):
    return pytest.mark.skipif(
        importlib.util.find_spec(name) is None, reason=f"{name} is not installed; `make test-peers` has it"
    )


def verl_filtered(peer, monkeypatch, batch, metric):
    """Prompts that the replay buffer of verl's v1 trainer would clear, of groups that are finished."""
    torch = pytest.importorskip("torch")
    module = peer("verl.trainer.ppo.v1.replay_buffer")
    keys = [f"{name}_{i}_0" for i, name in enumerate(batch.ids)]

    def fetched(*, keys, partition_id, select_fields):
        rows = [int(key.split("_")[1]) for key in keys]
        if select_fields == ["rm_scores"]:
            scores = torch.from_numpy(batch.token_rewards())
            return {"rm_scores": [scores[i] for i in rows]}
        return {"extra_fields": [{"reward_extra_info": {metric: batch.rewards[i]}} for i in rows]}

    monkeypatch.setattr(module.tq, "kv_batch_get", fetched)
    buffer = SimpleNamespace(
        filter_groups_metric=metric,
        finished_keys={"train": set(batch.ids)},
        partitions={"train": {key: {} for key in keys}},
        _dapo_classification_cache=defaultdict(dict),
    )
    return module.ReplayBuffer._dapo_filtered_keys(buffer, "train")


@installed("verl")
@pytest.mark.parametrize("metric", ["reward", "acc"])
def test_the_filter_of_verls_replay_buffer(peer, monkeypatch, agree, batch, metric):
    """The same groups, but for groups of one, which verl keeps and nonzero_spread drops."""
    cleared, by_reward = verl_filtered(peer, monkeypatch, batch, metric)
    chosen = rm.select.nonzero_spread(batch.rewards, batch.ids)
    no_spread = next((one for one in chosen.report.dropped if one.reason == "no spread"), None)
    assert no_spread is not None
    assert set(no_spread.ids) == cleared
    assert sum(by_reward.values()) == no_spread.groups
    alone = np.isin(batch.ids, [one for one in chosen.report.lost if one not in cleared])
    theirs = ~np.isin(batch.ids, list(cleared))
    agree("select.nonzero_spread (verl v1 filter)", chosen.mask | alone, theirs, atol=0.0)


@installed("verl")
def test_a_residue_of_rounding_passes_the_filter_of_verl(peer, monkeypatch):
    """Three rewards of 0.7 have a standard deviation of 1.1e-16 there, and are a group with a signal."""
    batch = SimpleNamespace(ids=np.array(["a"] * 3 + ["b"] * 2, object), rewards=np.array([0.7, 0.7, 0.7, 1.0, 1.0]))
    assert verl_filtered(peer, monkeypatch, batch, "acc")[0] == {"b"}
    assert set(rm.select.nonzero_spread(batch.rewards, batch.ids).report.lost) == {"a", "b"}


@pytest.fixture
def experiences(peer):
    """Rollouts as Trinity has them, each with its number."""
    common = peer("trinity.common.experience")
    torch = pytest.importorskip("torch")

    def made(rewards, ids):
        return [
            common.Experience(
                eid=common.EID(batch=0, task=name, run=i), tokens=torch.tensor([1, 2]), prompt_length=1,
                reward=None if r is None else float(r), info={"row": i},
            )
            for i, (r, name) in enumerate(zip(rewards, ids, strict=True))
        ]  # fmt: skip

    return made


def kept_by(operator, found, n):
    mask = np.zeros(n, bool)
    mask[[x.info["row"] for x in operator.process(found)[0]]] = True
    return mask


@installed("trinity")
def test_the_filters_of_trinity(peer, experiences, agree, batch):
    module, n = peer("trinity.buffer.operators.filters.reward_filter"), len(batch.rewards)
    found = experiences(batch.rewards, batch.ids)
    chosen = rm.select.nonzero_spread(batch.rewards, batch.ids)
    agree(
        "select.nonzero_spread (Trinity RewardSTDFilter)",
        chosen.mask,
        kept_by(module.RewardSTDFilter(), found, n),
        atol=0.0,
    )
    # Some but not all are correct: a spread of correctness.
    chosen = rm.select.nonzero_spread(batch.rewards > 0, batch.ids)
    theirs = kept_by(module.DAPODynamicSamplingFilter(), found, n)
    agree("select.nonzero_spread (Trinity DAPODynamicSamplingFilter)", chosen.mask, theirs, atol=0.0)


@installed("trinity")
def test_missing_rewards_are_those_of_trinity(peer, experiences):
    module = peer("trinity.buffer.operators.filters.reward_filter")
    rewards, ids = np.array([1.0, np.nan, 0.0, 1.0]), list("aaab")
    theirs = kept_by(module.InvalidRewardFilter(), experiences(rewards, ids), 4)
    report = rm.select.mean_band(rewards, ids, low=-1.0, high=2.0, nan="omit").report
    assert (report.codes == 0).tolist() == theirs.tolist()
    assert report.dropped[0].reason == "missing reward"

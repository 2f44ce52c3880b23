"""Recorded outputs of the published code of single papers; `tests/conformance/golden/make_papers.py` made them."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

import rollmath as rm

group = rm.group


@pytest.fixture(scope="module")
def papers(vectors):
    return vectors("papers")


def test_riskpo(papers, tolerance):
    """Rows in order: the j-th rollout of a prompt is the j-th of its rows there too.

    A bundle without spread is divided by 1e-6 there. Its own quantiles make that 0; tracked ones, if they reached the
    advantage, would make it half a million and more.
    """
    blown_up = 0
    for record in papers["RiskPO"]["records"]:
        inputs, options = record["inputs"], dict(record["options"])
        tracked = options.pop("quantiles")
        quantiles = None if tracked is None else group.QuantileTracker(tuple(options["levels"]), tuple(tracked))
        got = group.riskpo(
            inputs["rewards"], inputs["groups"], inputs["bundles"], quantiles=quantiles, singleton="raw", **options
        )
        bundles = rm.Groups(inputs["bundles"])
        scores = group.bundle_scores(inputs["rewards"], inputs["groups"], bundles)
        flat = rm.ops.segment_max(scores.scores, scores.bundle) == rm.ops.segment_min(scores.scores, scores.bundle)
        spread = np.ones(len(got), bool) if options["scale"] == "none" else ~flat[bundles.index]
        theirs = np.array(record["out"])
        assert_allclose(got[spread], theirs[spread], **tolerance("float64"))
        assert not got[~spread].any()
        blown_up += bool((np.abs(theirs[~spread]) > 5e5).any())
    assert blown_up


def test_adora(papers, tolerance):
    for record in papers["ADORA"]["records"]:
        inputs = record["inputs"]
        cut = np.array(inputs["lengths"]) >= record["options"]["limit"]
        args = (inputs["rewards"], inputs["groups"], inputs["lengths"])
        got = group.adora(*args, correct=np.array(inputs["rewards"]) > 0.5, truncated=cut, singleton="raw")
        assert_allclose(got, record["out"], **tolerance("float64"))


def test_adora_for_vision(papers, tolerance):
    """Its weights: ours on rewards of which every group has a spread are the ratio to GRPO."""
    (record,) = papers["ADORA_VL"]["records"]
    rewards, lengths = (np.array(record["inputs"][name]) for name in ("rewards", "lengths"))
    ids = np.repeat(np.arange(len(rewards)), rewards.shape[1])
    seen = rng_rewards(len(ids))  # spread everywhere, unlike the rewards themselves
    right, cut = rewards.ravel() > 0.5, lengths.ravel() >= record["options"]["limit"]
    got = group.adora(seen, ids, lengths.ravel(), correct=right, truncated=cut, no_correct="keep", no_incorrect="scale")
    assert_allclose(got / group.grpo(seen, ids), np.ravel(record["out"]), **tolerance("float64"))


def rng_rewards(n):
    return np.random.default_rng(0).normal(size=n)


def test_empg(papers, tolerance):
    for record in papers["ARLArena"]["records"]:
        inputs = dict(record["inputs"])
        step = inputs.pop("step")
        # float32 modulation there.
        assert_allclose(group.empg(**inputs, step=step, **record["options"]), record["out"], rtol=1e-6, atol=1e-6)


def test_soft_value(papers, tolerance):
    for record in papers["A-PO"]["records"]:
        rewards = np.array(record["inputs"]["rewards"])
        ids = np.repeat(np.arange(len(rewards)), rewards.shape[1])
        # Their 0 is the mean, which is our infinity.
        beta = record["options"]["beta1"] or np.inf
        assert_allclose(group.soft_value(rewards.ravel(), ids, beta=beta), record["out"], **tolerance("float64"))


def test_psr_nsr_and_w_reinforce(papers, tolerance):
    for record in papers["RLVR-Decomposed"]["records"]:
        method = getattr(group, record["options"]["method"])
        assert_allclose(method(record["inputs"]["rewards"]), record["out"], **tolerance("float64"))

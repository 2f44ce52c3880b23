"""verl's validation metrics, which resample, against the numbers that they approach."""

import importlib.util

import numpy as np
import pytest

import rollmath as rm

if importlib.util.find_spec("verl") is None:
    pytest.skip("verl is not installed; `make test-peers` has an environment for it", allow_module_level=True)

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

BOOTSTRAPS = 1000


@pytest.fixture(scope="module")
def theirs(peer):
    """verl's metrics of 12 prompts with 16 samples, and the samples."""
    rng = np.random.default_rng(3)
    ids = np.repeat(np.arange(12), 16)
    answers = rng.geometric(rng.uniform(0.3, 0.8, 12)[ids])
    right = answers == rng.integers(1, 4, 12)[ids]
    scores = right + 0.0
    process = peer("verl.trainer.ppo.metric_utils").process_validation_metrics
    infos = {"acc": scores.tolist(), "pred": [str(a) for a in answers]}
    found = process(["any"] * len(ids), [str(i) for i in ids], infos, seed=11)["any"]["acc"]
    return found, answers, scores, ids


def check(agree, name, theirs, exact, spread):
    """Within four standard errors of 1000 resamples, which are the same for every prompt and so do not average."""
    agree(name, exact.value, theirs, atol=4 * float(spread.mean()) / np.sqrt(BOOTSTRAPS))


@pytest.mark.parametrize("k", [2, 4, 8, 16])
def test_the_bootstrap_of_the_extremes_approaches_ours_with_replacement(theirs, agree, k):
    found, _, scores, ids = theirs
    for name, metric in (("best", rm.metrics.best_at_k), ("worst", rm.metrics.worst_at_k)):
        exact = metric(scores, ids, k, replacement=True)
        p = exact.per_group
        check(agree, f"verl {name}@k (bootstrap)", found[f"{name}@{k}/mean"], exact, np.sqrt(p * (1 - p)))


@pytest.mark.parametrize("k", [2, 4, 8, 16])
def test_the_bootstrap_of_the_vote_approaches_ours_with_replacement(theirs, agree, k):
    found, answers, scores, ids = theirs
    exact = rm.metrics.maj_at_k(answers, scores, ids, k, replacement=True)
    p = exact.per_group
    check(agree, "verl maj@k (bootstrap)", found[f"maj@{k}/mean"], exact, np.sqrt(p * (1 - p)))


def test_the_bootstrap_is_biased(peer):
    """Best of all 16 samples is what it is, 1 if any is right; drawn with replacement, it misses a lone one often."""
    scores = np.arange(16) == 3
    process = peer("verl.trainer.ppo.metric_utils").process_validation_metrics
    found = process(["any"] * 16, ["a"] * 16, {"acc": scores.astype(float).tolist()}, seed=1)["any"]["acc"]
    assert rm.metrics.pass_at_k(scores, ["a"] * 16, 16).value == 1.0
    assert found["best@16/mean"] == pytest.approx(1 - (15 / 16) ** 16, abs=0.08)


def test_the_mean_is_theirs(theirs, agree):
    found, _, scores, ids = theirs
    agree("verl mean@16", rm.metrics.pass_at_k(scores, ids, 1).value, found["mean@16"], atol=1e-12)

"""What prepare, advantages and take refuse, and what they say."""
# ruff: noqa: E501 - a message in a line

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import rollmath as rm  # noqa: E402
from rollmath.recipes import Advantage, get  # noqa: E402

ROWS = rm.Rows(["a", "a", "b"], [2, 1, 2], mask=[1, 0, 1, 1, 1])
LP = torch.zeros(5)
R, G = [1.0, 0.0], ["p", "p"]


def prepare(name="grpo", rewards=R, groups=G, rows=ROWS, changes=None, **columns):
    return get(name, **(changes or {})).prepare(rewards, groups, rows=rows, **columns)


def bad_shape(rewards, groups):
    """One too many."""
    return np.zeros(7)


def bad_offsets(rewards, mask):
    """Of other rows."""
    return rm.Ragged(np.zeros(2), [0, 1, 2])


CASES = [
    (lambda: prepare(rewards=[1.0]), ValueError, r"prepare\(\): 'rewards' must have length 2 \(= rows.n_rollouts\), got 1"),
    (
        lambda: prepare(rewards=[1.0] * 3, groups=["p"] * 3),
        ValueError,
        r"prepare\(\): 'groups' must have length 2 \(= rows.n_rollouts\), one id a rollout .* got 3; .* rows.collapse",
    ),
    (lambda: prepare(rewards=["x", "y"]), TypeError, r"prepare\(\): 'rewards' must hold floats, ints or bools"),
    (lambda: prepare(rewards=torch.tensor(R, requires_grad=True)), ValueError, r"prepare\(\): 'rewards' requires grad"),
    (lambda: prepare(groups=[0.5, 0.5]), TypeError, r"prepare\(\): 'groups' must be strings, ints, UUIDs or tuples"),
    (lambda: prepare(rows=[[1, 2]]), TypeError, r"prepare\(\): 'rows' must be Rows, got an object of type list"),
    (lambda: get("grpo").prepare(R, G), TypeError, "missing 1 required keyword-only argument: 'rows'"),
    (
        lambda: prepare("stratified_grpo"),
        ValueError,
        r"prepare\(\): recipe 'stratified_grpo' needs 'strata' \(one id a rollout .*\); pass it as a keyword: strata=...",
    ),
    (lambda: prepare("stratified_grpo", strata=[1]), ValueError, r"prepare\(\): 'strata' must have length 2 \(= rows.n_rollouts"),
    (
        lambda: prepare("stratified_grpo", strat=[1, 1]),
        TypeError,
        r"prepare\(\) got an unexpected column 'strat'; 'stratified_grpo' takes: 'strata', ",
    ),
    (lambda: prepare("rloo"), ValueError, r"prepare\(\): recipe 'rloo' needs 'logprobs' \(rollmath.LogProbs with prox"),
    (lambda: prepare("rloo", logprobs=LP), TypeError, r"prepare\(\): 'logprobs' must be LogProbs\(prox=..., ref=...\)"),
    (lambda: prepare("rloo", logprobs=rm.LogProbs(LP)), ValueError, r"prepare\(\): 'logprobs' must be LogProbs\(prox=..., ref"),
    (
        lambda: prepare("rloo", logprobs=rm.LogProbs(LP[:4], ref=LP[:4])),
        ValueError,
        r"prepare\(\): 'logprobs' must have shape \(5,\) \(= positions\) or \(3, T\) \(= padded, T at least 2\), got \(4,\)",
    ),
    (
        lambda: prepare("reinforce_pp", logprobs=rm.LogProbs(LP, ref=torch.tensor([0.0, 0, 0, 0, np.nan]))),
        ValueError,
        r"prepare\(\): 'logprobs' must be finite where tokens are trained, got prox - ref = nan at position 4",
    ),
    (lambda: prepare(changes={"truncated": "mask"}), ValueError, r"prepare\(\): recipe 'grpo' needs 'truncated' \(one bool a roll"),
    (lambda: prepare(truncated=[True]), ValueError, r"prepare\(\): 'truncated' must have length 2 \(= rows.n_rollouts\), got 1"),
    (lambda: prepare(truncated=[0.5, 1.0]), TypeError, r"prepare\(\): 'truncated' must be bool or integer"),
    (
        lambda: prepare("dapo", changes={"filter": {"on": "acc"}}),
        ValueError,
        r"prepare\(\): recipe 'dapo' needs 'acc' \(one number a rollout, which the filter looks at\)",
    ),
    (lambda: prepare(rewards=[np.nan, 1.0]), ValueError, r"grpo\(\): 'rewards' must be finite"),
    (
        lambda: prepare(changes={"advantage": "group.opo"}, lengths=[1]),
        ValueError,
        r"prepare\(\): 'lengths' must have length 2",
    ),
    (
        lambda: get("grpo").replace(advantage=Advantage(bad_shape)).prepare(R, G, rows=ROWS),
        ValueError,
        r"prepare\(\): advantage '.*bad_shape' must give one number a rollout \(2,\), one a row \(3,\), or a Ragged .* \(7,\)",
    ),
    (
        lambda: get("grpo").replace(advantage=Advantage(bad_offsets)).prepare(R, G, rows=ROWS),
        ValueError,
        r"prepare\(\): advantage '.*bad_offsets' must give a Ragged with the offsets of the rows",
    ),
    (lambda: get("grpo").advantages([1.0], G), ValueError, r"advantages\(\): 'rewards' must have length 2 \(= len\(groups\)\)"),
    (lambda: get("grpo").advantages(R, G, valid=[1]), ValueError, r"advantages\(\): 'valid' must have length 2"),
    (
        lambda: get("reinforce_pp").advantages(R, G),
        ValueError,
        r"advantages\(\): advantage 'group.reinforce_pp' needs 'rows', the Rows that train; pass rows=...",
    ),
    (
        lambda: get("stratified_grpo").advantages(R, G),
        ValueError,
        r"advantages\(\): recipe 'stratified_grpo' needs 'strata'",
    ),
    (lambda: prepare().take([3]), ValueError, r"Rows.take\(\): 'rows' must be in \[-3, 3\)"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), CASES, ids=range(len(CASES)))
def test_messages(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_what_is_no_error():
    # Columns that other recipes need may be given to all of them.
    logprobs = rm.LogProbs(LP, ref=LP)
    batch = prepare(logprobs=logprobs, truncated=[False, True], lengths=[3, 4])
    assert batch.advantages.tolist() == rm.group.grpo(R, G).tolist()
    # What stands at gaps is not read.
    poisoned = rm.LogProbs(torch.tensor([0.0, np.nan, 0, 0, 0]), ref=torch.tensor([0.5, np.inf, 0.5, 0.5, 0.5]))
    assert prepare("rloo", logprobs=poisoned).rewards.tolist() == pytest.approx([1.05, 0.05])
    assert get("grpo").advantages(R, G, valid=[True, False]).tolist() == [0.0, 0.0]
    assert get("rloo").advantages(R, G).tolist() == [1.0, -1.0]
    assert get("grpo", advantage="group.opo").advantages(R, G, lengths=[1, 3]).tolist() == [0.75, -0.25]
    rewards = np.array(R)
    prepare("rloo", rewards=rewards, logprobs=logprobs)
    assert rewards.tolist() == R

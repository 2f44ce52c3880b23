"""Without a process group there is one rank: the methods themselves, the plain errors, and nothing is sent."""

import pickle
from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import rollmath as rm  # noqa: E402
from rollmath import distributed  # noqa: E402
from rollmath.distributed import _exchange  # noqa: E402


def error(kind, text, call):
    """Raises, with exactly this text."""
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == text


def test_it_is_the_method(same_bits):
    rewards, groups = np.array([1.0, 0.0, 0.5], np.float32), ["a", "a", "b"]
    same_bits(distributed.advantages(rm.group.grpo, rewards, groups), rm.group.grpo(rewards, groups))
    got = distributed.advantages(rm.group.rloo, torch.tensor(rewards).bfloat16(), groups)
    assert got.dtype == torch.float32
    same_bits(distributed.whiten(rewards), rm.ops.whiten(rewards))
    x = np.arange(6.0).reshape(2, 3)
    same_bits(distributed.whiten(x, lengths=[1, 3]), rm.ops.whiten(x, lengths=[1, 3]))
    assert distributed.moments(x) == rm.ops.moments(x)
    rows = rm.Rows(["a"], [2])
    assert distributed.normalizer(rows) == rm.loss.Normalizer.local(rows)


def test_nothing_of_the_caller_is_shared():
    rewards = torch.tensor([1.0, 2.0])
    gathered = distributed.gather(rewards, [0, 1])
    gathered.rewards.mul_(0)
    gathered.local(gathered.rewards).add_(1)
    assert rewards.tolist() == [1.0, 2.0]
    assert gathered.rewards.tolist() == [0.0, 0.0]


def test_a_group_of_one_rank_sends_nothing(monkeypatch):
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        monkeypatch.setattr(_exchange, "_all_gather", None)
        assert distributed.gather([1.0], ["a"]).sizes.tolist() == [1]
    finally:
        torch.distributed.destroy_process_group()


def test_errors_are_the_plain_ones():
    text = "gather(): 'rewards' must have length 1 (= len(groups)), got 2"
    error(ValueError, text, lambda: distributed.gather([1.0, 2.0], ["a"]))
    with pytest.raises(ValueError, match=r"^grpo\(\): 'rewards' must be finite, got NaN at index 0; .*propagate'$"):
        distributed.advantages(rm.group.grpo, [float("nan")], ["a"])
    text = "gather(): 'group' must be None while torch.distributed is not initialised, got 'dp'"
    error(ValueError, text, lambda: distributed.gather([1.0], ["a"], group="dp"))


def test_local_errors():
    gathered = distributed.gather([1.0, 2.0], ["a", "b"])
    text = "Gathered.local(): 'x' must have length 2 (= the rollouts of all ranks), got 3"
    error(ValueError, text, lambda: gathered.local([1, 2, 3]))
    text = "Gathered.local(): 'x' must have one value a rollout, got an object of type float"
    error(TypeError, text, lambda: gathered.local(1.0))
    text = "Gathered.local(): 'x' requires grad, but no gradient flows through this function; call .detach()"
    error(ValueError, text, lambda: gathered.local(torch.ones(2, requires_grad=True)))


def test_a_method_that_returns_something_else():
    text = "advantages(): 'method' must return one number a rollout, an array of length 1, got "
    tail = "; for methods that return something else take gather(), and its local() of what has one value a rollout"
    for result, what in (
        ([1.0], "an object of type list"),
        (np.ones(2), "a 1-D float64 array of shape (2,)"),
        (np.float64(1), "a 0-D float64 array"),
    ):
        error(TypeError, text + what + tail, lambda r=result: distributed.advantages(lambda *_: r, [1.0], ["a"]))


def test_other_exceptions_of_a_method_come_as_they_are():
    with pytest.raises(KeyError, match="x"):
        distributed.advantages(lambda *_: {}["x"], [1.0], ["a"])


def test_ranks_in_words():
    assert [_exchange.ranks(range(1, n + 1)) for n in (1, 2, 4, 5)] == [
        "rank 1",
        "ranks 1 and 2",
        "ranks 1, 2, 3 and 4",
        "ranks 1, 2, 3 and 2 more",
    ]


def test_fingerprints_are_of_values():
    same = [1e-6, np.arange(3.0), torch.ones(2, requires_grad=True), rm.Groups(["a"]), list(range(99)), rm.group.grpo,
            rm.Ragged.from_lists([[1], [2, 3]]), rm.conventions.VERL, None, "x"]  # fmt: skip
    for x in same:
        assert _exchange.fingerprint(x) == _exchange.fingerprint(pickle.loads(pickle.dumps(x)))
    assert len({_exchange.fingerprint(x) for x in same}) == len(same)
    assert _exchange.fingerprint(rm.Groups(["a"])) != _exchange.fingerprint(rm.Groups(["b"]))
    assert _exchange.fingerprint(np.zeros(2)) != _exchange.fingerprint(np.ones(2))
    assert _exchange.fingerprint(object()) == "<object object>"


def test_fingerprints_know_no_addresses_and_no_order_of_sets():
    def own(x):
        return x

    one, two = (partial(own, x=x) for x in (1, 2))
    assert " at 0x" not in _exchange.fingerprint(one)
    assert _exchange.fingerprint(one) != _exchange.fingerprint(two)
    assert _exchange.fingerprint({"b", "a"}) == _exchange.fingerprint({"a", "b"}) == "['a', 'b']"


class Wrapper(torch.distributed.ProcessGroup):
    """A process group around another one, as slime makes them."""


def test_a_group_that_wraps_another_lies_where_its_backend_does(monkeypatch):
    group = Wrapper(0, 2)
    for backend, device in (("nccl", "cuda"), ("gloo", "cpu"), ("cpu:gloo,cuda:nccl", "cpu"), ("cuda:nccl", "cuda")):
        monkeypatch.setattr(torch.distributed, "get_backend", lambda group, backend=backend: backend)
        assert _exchange._device(group) == torch.device(device)


def test_an_instance_is_one_row_after_another():
    gathered = distributed.gather(torch.ones(2, 3), ["a", "b"], valid=[True, False], answers=["x", "x"])
    assert len(gathered) == 2
    assert gathered.rows == slice(0, 2)
    assert gathered.where(1) == (0, 1)
    assert gathered.columns["answers"] == rm.Groups(["x", "x"])
    assert gathered.columns["valid"].dtype == bool
    assert (
        repr(pickle.loads(pickle.dumps(gathered))) == repr(gathered) == "Gathered(2 rollouts in 2 groups, rank 0 of 1)"
    )
    with pytest.raises(AttributeError):
        gathered.rank = 1

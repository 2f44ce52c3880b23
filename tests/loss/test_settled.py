"""When the arithmetic of a loss may be recorded once, and for how long the record is good."""

import math
from dataclasses import InitVar, dataclass, field
from functools import cached_property

import pytest

torch = pytest.importorskip("torch")

from loss_objectives import ALL, made  # noqa: E402

from rollmath.loss import PPO, Objective, TokenLoss  # noqa: E402
from rollmath.loss._arithmetic import Rules  # noqa: E402
from rollmath.loss._lowering import Unsupported  # noqa: E402
from rollmath.loss._record import Given, graph_of  # noqa: E402
from rollmath.loss._settled import Settled  # noqa: E402

SLOPE, TABLE, TENSOR = 1.0, [1.0], torch.ones(())


def settled(objective):
    return Settled(Rules("f", objective))


def constants(objective):
    """The numbers in the graph of an objective."""
    graph = graph_of(settled(objective), Given())
    return {node.value for node in graph.nodes if node.op == "constant"}


def loss_of(tokens, slope):
    return TokenLoss(slope * tokens.theta, tokens.weighted(slope * torch.ones_like(tokens.theta)))


def by_global():
    return 2.0 * SLOPE


@dataclass(frozen=True)
class ByGlobal(Objective):
    def token_loss(self, tokens):
        return loss_of(tokens, max(by_global() for _ in range(1)))


@pytest.mark.parametrize(("name", "way"), ALL)
def test_those_of_the_package(name, way):
    one, other = settled(made(name, way)), settled(made(name, way))
    assert one == other
    assert hash(one) == hash(other)
    assert not one.foreign


def test_fields_are_told_apart():
    @dataclass(frozen=True)
    class Own(Objective):
        x: object
        hidden: float = field(default=0.0, compare=False)

    numbers = [1, 1.0, True, 0.0, -0.0, math.nan, math.inf, None, "1", (1.0,), (1,), PPO(), PPO(delta=2.0)]
    keys = [settled(Own(x)) for x in numbers]
    assert len(set(keys)) == len(numbers)
    assert keys == [settled(Own(x)) for x in numbers]
    assert settled(Own(float("nan"))) == settled(Own(math.nan))
    assert Own(1, 2.0) == Own(1, 3.0)
    assert settled(Own(1, 2.0)) != settled(Own(1, 3.0))


def test_a_global_number_that_changes(monkeypatch):
    objective = ByGlobal()
    assert settled(objective).foreign
    assert 2.0 in constants(objective)
    monkeypatch.setitem(globals(), "SLOPE", 8.0)
    assert 16.0 in constants(objective)
    monkeypatch.setitem(globals(), "by_global", lambda: 5.0)
    assert 5.0 in constants(objective)


def test_a_variable_around_the_class_and_an_attribute_of_it():
    slope = 3.0

    @dataclass(frozen=True)
    class Own(Objective):
        def token_loss(self, tokens):
            return loss_of(tokens, slope * self.factor)

    Own.factor = 1.0
    assert 3.0 in constants(Own())
    Own.factor = 4.0
    assert 12.0 in constants(Own())
    slope = 5.0
    assert 20.0 in constants(Own())
    Own.token_loss = lambda self, tokens: loss_of(tokens, 7.0)
    assert 7.0 in constants(Own())


def test_methods_of_all_kinds_are_read(monkeypatch):
    @dataclass(frozen=True)
    class Own(Objective):
        @property
        def a(self):
            return 2.0 * SLOPE

        @staticmethod
        def b():
            return 3.0 * SLOPE

        @classmethod
        def c(cls):
            return 5.0 * SLOPE

        @cached_property
        def d(self):
            return 7.0

        @torch.no_grad()
        def token_loss(self, tokens):
            return loss_of(tokens, self.a * self.b() * Own.c() * self.d)

    assert 210.0 in constants(Own())
    monkeypatch.setitem(globals(), "SLOPE", 2.0)
    objective = Own()
    assert [1680.0 in constants(objective) for _ in range(2)] == [True, True]


def reading(value):
    @dataclass(frozen=True)
    class Own(Objective):
        def token_loss(self, tokens):
            return loss_of(tokens, value[0])

    return Own()


@dataclass(frozen=True)
class ByTable(Objective):
    def token_loss(self, tokens):
        return loss_of(tokens, TABLE[0])


@dataclass(frozen=True)
class ByTensor(Objective):
    def token_loss(self, tokens, scale=TENSOR):
        return loss_of(tokens, scale)


@dataclass(frozen=True)
class ByModule(Objective):
    def token_loss(self, tokens):
        import random

        return loss_of(tokens, random.random())


@dataclass(frozen=True)
class Carrying(Objective):
    table: InitVar[list]

    def __post_init__(self, table):
        object.__setattr__(self, "kept", table)


@pytest.mark.parametrize(
    ("objective", "why"),
    [
        (reading([1.0]), "Own reads value, which can change"),
        (reading({0: 1.0}), "Own reads value, which can change"),
        (ByTable(), "ByTable reads TABLE, which can change"),
        (ByTensor(), "ByTensor reads a default of token_loss, which can change"),
        (ByModule(), "token_loss imports random"),
        (Carrying([1.0]), "Carrying.kept is no field"),
        pytest.param(Objective(), "Objective is no frozen dataclass", id="Objective"),
        (PPO, "type is no frozen dataclass"),
    ],
    ids=str,
)
def test_what_can_change_unseen(objective, why):
    with pytest.raises(Unsupported, match=why):
        settled(objective)


def test_a_class_that_holds_one_of_its_own():
    @dataclass(frozen=True)
    class Own(Objective):
        x: float = 1.0

        def token_loss(self, tokens):
            return loss_of(tokens, Own.first.x + self.x)

    Own.first = Own(2.0)
    assert 3.0 in constants(Own())
    Own.first = Own(3.0)
    assert 4.0 in constants(Own())

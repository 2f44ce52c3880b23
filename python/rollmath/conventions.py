"""Conventions: the numerical choices on which trainers silently disagree, by name.

A :class:`Convention` says how a standard deviation is taken and what happens where it does not exist. What is
subtracted and what is divided by belongs to the method. ``conventions.VERL`` and its relatives map method names to
conventions, because a framework differs from method to method::

    rm.group.grpo(rewards, groups, convention=rm.conventions.VERL)

A convention reproduces the framework's *formula* in our arithmetic: float64, an exact mean for equal values, sums that
do not depend on row order. Some frameworks return a rounding residue for groups without spread (for three float32
rewards of 1000.1 verl returns 0.81 and OpenRLHF 0.82 instead of 0); that residue is not reproduced. Nor is NaN, which
spreads over the group wherever a framework has no rule for a missing reward: here it is an error, unless
``nan="propagate"`` asks for it.

The comment of each framework says how its choices are known: *executed* means that a test compares us with that
version's own function, live or by its recorded outputs; *read* means that its source was read. ``docs/conventions.md``
has the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, Literal, TypedDict, get_args

from rollmath._arrays import Immutable, check_ddof, number

EpsPlace = Literal["add", "max", "sqrt", "where_positive"]
Singleton = Literal["zero", "raw", "abs", "nan", "raise"]
ZeroSpread = Literal["zero", "unscaled", "nan", "raise"]
Nan = Literal["raise", "omit", "propagate"]

_CHOICES = {"eps_place": EpsPlace, "singleton": Singleton, "zero_spread": ZeroSpread, "nan": Nan}


@dataclass(frozen=True)
class Convention:
    """The numerical choices of a normalisation.

    Attributes:
        ddof: the variance of ``n`` values divides by ``n - ddof`` (1: sample, 0: population).
        eps: guards the division.
        eps_place: the denominator for a standard deviation ``s``: ``"add"`` s + eps; ``"max"`` max(s, eps); ``"sqrt"``
            sqrt(s^2 + eps); ``"where_positive"`` s + eps if s > 0, else 1.
        singleton: what the only valid member x of a group gets: ``"zero"`` 0; ``"raw"`` mean 0 and standard deviation
            1 are taken, so x / (1 + eps) or x; ``"abs"`` mean 0 and standard deviation abs(x); ``"nan"``; ``"raise"``.
        zero_spread: what a member gets where the spread that it is to be divided by is that of equal values (its
            group's, or that of the others in it for ``leave_one_out=True``):
            ``"zero"`` exactly 0; ``"unscaled"`` x - center; ``"nan"``; ``"raise"``.
        nan: ``"raise"`` a NaN or infinite value is an error; ``"omit"`` NaN is a missing value, kept out of the
            statistics and given 0, infinity is an error; ``"propagate"`` NaN makes its whole group NaN, and infinity
            makes it NaN or infinite, as arithmetic has it.
    """

    ddof: int = 1
    eps: float = 1e-6
    eps_place: EpsPlace = "add"
    singleton: Singleton = "zero"
    zero_spread: ZeroSpread = "zero"
    nan: Nan = "raise"

    def __post_init__(self) -> None:
        for name, literal in _CHOICES.items():
            choices, value = get_args(literal), getattr(self, name)
            if not isinstance(value, str) or value not in choices:
                listed = ", ".join(map(repr, choices))
                msg = f"Convention(): {name!r} must be one of {listed}, got {value!r}"
                raise ValueError(msg)
        # As plain numbers, so that equal conventions have equal reprs.
        object.__setattr__(self, "ddof", check_ddof("Convention", self.ddof, most=1))
        object.__setattr__(self, "eps", number("Convention", "eps", self.eps))
        if not 0 <= self.eps < float("inf"):
            msg = f"Convention(): 'eps' must be finite and not negative, got {self.eps!r}"
            raise ValueError(msg)


class Override(TypedDict, total=False):
    """Keywords with which a method call changes single fields of its convention."""

    ddof: int
    eps: float
    eps_place: EpsPlace
    singleton: Singleton
    zero_spread: ZeroSpread
    nan: Nan


class Framework(Immutable, Mapping[str, Convention]):
    """Conventions of one framework, by method name; a method that it does not have raises and lists what it has."""

    name: str
    _methods: Mapping[str, Convention]

    def __init__(self, name: str, methods: Mapping[str, Convention]) -> None:
        self._fill(name=name, _methods=MappingProxyType(dict(methods)))

    def __getitem__(self, method: str) -> Convention:
        try:
            return self._methods[method]
        except KeyError:
            has = ", ".join(self._methods)
            msg = f"{self.name} has no convention for {method!r}; it has: {has}. Pass a Convention instead"
            raise ValueError(msg) from None

    def get(self, method: str, default: Any = None) -> Any:
        """The convention for ``method``, or ``default`` if there is none."""
        return self._methods.get(method, default)

    def __contains__(self, method: object) -> bool:
        return method in self._methods

    def __iter__(self) -> Iterator[str]:
        return iter(self._methods)

    def __len__(self) -> int:
        return len(self._methods)

    def __hash__(self) -> int:
        # Equal as mappings, equal hashes; so that a recipe that holds one can be a key.
        return hash(frozenset(self._methods.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return Framework, (self.name, dict(self._methods))

    def __repr__(self) -> str:
        return f"Framework({self.name!r}: {', '.join(self)})"


def resolve(who: str, method: str, convention: Convention | Framework, override: Override) -> Convention:
    """The convention of a call: that of the framework for ``method``, with single fields overridden."""
    if isinstance(convention, Framework):
        try:
            convention = convention[method]
        except ValueError as wrong:
            msg = f"{who}(): 'convention': {wrong}"
            raise ValueError(msg) from None
    if not isinstance(convention, Convention):
        msg = f"{who}(): 'convention' must be a Convention or a framework of rollmath.conventions, got {convention!r}"
        raise TypeError(msg)
    names = {f.name for f in fields(Convention)}
    for name in override:
        if name not in names:
            listed = ", ".join(sorted(names))
            msg = f"{who}() got an unexpected keyword argument {name!r}; a convention has: {listed}"
            raise TypeError(msg)
    try:
        return replace(convention, **override)
    except (TypeError, ValueError) as wrong:
        raise type(wrong)(str(wrong).replace("Convention()", f"{who}()", 1)) from None


#: The papers' formula: sample standard deviation plus 1e-6; a group of one and a group without spread get 0.
DEFAULT = Convention()

_RAW = Convention(singleton="raw")

#: verl 0.9.1, executed: compute_{grpo, grpo_vectorized, rloo, rloo_vectorized}_outcome_advantage. The last two disagree
#: on a group of one.
VERL_0_9 = Framework("VERL_0_9", {"grpo": _RAW, "rloo": _RAW, "rloo_vectorized": DEFAULT})
VERL = VERL_0_9

#: TRL 1.16.0, executed: GRPOTrainer, RLOOTrainer. A missing reward is NaN and gets 0, and so does the only reward of a
#: group whose others are missing.
TRL_1_16 = Framework(
    "TRL_1_16",
    {"grpo": Convention(eps=1e-4, nan="omit"), "rloo": Convention(nan="omit")},
)
TRL = TRL_1_16
#: TRL 1.16.0's asynchronous GRPO worker, executed; its numbers differ from the synchronous trainer's.
TRL_ASYNC = Framework("TRL_ASYNC", {"grpo": Convention(ddof=0, eps=1e-8, nan="omit")})
#: OpenRLHF 0.11.2, executed: group_norm and rloo. Its command line refuses groups of one; its function gives them NaN.
OPENRLHF = Framework(
    "OPENRLHF", {"grpo": Convention(eps=1e-9, singleton="raise"), "rloo": Convention(singleton="raise")}
)
#: slime 0.3.1, read; the sample standard deviation of one reward is NaN there.
SLIME = Framework("SLIME", {"grpo": Convention(singleton="nan")})
#: SkyRL 0.3.0, executed: a group of one keeps its reward in GRPO and gets 0 in RLOO.
SKYRL = Framework("SKYRL", {"grpo": _RAW, "rloo": DEFAULT})
#: NeMo-RL 0.6.0, read; its default GRPO is ``grpo(..., leave_one_out=True)`` with this convention.
NEMO_RL = Framework("NEMO_RL", {"grpo": Convention(eps_place="where_positive", zero_spread="unscaled")})
#: AReaL 1.0.4, executed: Normalization with group mean and unbiased group std (grpo), or with leave-one-out group mean
#: and no std (rloo), which keeps a lone reward.
AREAL = Framework("AREAL", {"grpo": Convention(eps=1e-5), "rloo": _RAW})
#: ROLL 0.3.0, read: agentic reward normalisation.
ROLL = Framework("ROLL", {"grpo": DEFAULT})
#: Trinity-RFT 0.6.0, executed: GRPOGroupedAdvantage, GRPOAdvantageFn, RLOOAdvantageFn.
TRINITY = Framework("TRINITY", {"grpo": _RAW, "rloo": _RAW})
#: rLLM 0.3.0, read: population standard deviation.
RLLM = Framework("RLLM", {"grpo": Convention(ddof=0, singleton="raw"), "rloo": _RAW})
#: open-instruct of August 2026, read.
OPEN_INSTRUCT = Framework("OPEN_INSTRUCT", {"grpo": Convention(ddof=0, eps=1e-8)})
#: torchrl 0.14.1, executed: MCAdvantage on trajectories of one reward. With ``trajectory_return=`` it has the same
#: formula and refuses groups of one.
TORCHRL = Framework("TORCHRL", {"grpo": Convention(eps_place="max", singleton="nan")})
#: grpo-composer, read (May 2026): its standard advantages.
GRPO_COMPOSER = Framework("GRPO_COMPOSER", {"grpo": Convention(eps=1e-8, singleton="nan")})
#: PODS, read (2025): among the rollouts that its selection kept.
PODS = Framework("PODS", {"grpo": Convention(eps=1e-4, singleton="nan")})
#: SPO's published code: population standard deviation of the siblings.
SPO = Framework("SPO", {"spo": Convention(ddof=0, eps=1e-8)})

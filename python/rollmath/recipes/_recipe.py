"""Recipe: a frozen composition of filter, advantage, objective, aggregation and terms."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from rollmath._arrays import Array, ArrayLike, choice, describe
from rollmath._checks import real
from rollmath._logprobs import LogProbs
from rollmath.groups import Groups
from rollmath.loss import (
    KL,
    Aggregation,
    Correction,
    EntropyBonus,
    Normalizer,
    Objective,
    PolicyLoss,
    policy_loss,
)
from rollmath.loss._aggregate import AGGREGATIONS, as_aggregation
from rollmath.loss._check import require
from rollmath.ragged import Ragged
from rollmath.recipes import _prepare
from rollmath.recipes._advantage import COLUMNS, Advantage
from rollmath.recipes._batch import Batch
from rollmath.recipes._options import nearest
from rollmath.recipes._parts import Filter, Overlong
from rollmath.rows import Rows

_TRUNCATED = ("keep", "mask", "exclude")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A method as people name it: which rollouts, what advantages, what loss. Frozen, hashable, serialisable.

    Attributes:
        name: of the recipe.
        advantage: an :class:`Advantage`.
        objective: a :class:`~rollmath.loss.Objective`.
        aggregation: the name of an :class:`~rollmath.loss.Aggregation`, or one.
        filter: a :class:`Filter`, or None: all rollouts are trained.
        kl: a :class:`~rollmath.loss.KL` term of the loss, or None.
        reward_kl: coefficient of the KL penalty in the reward, not negative (see :meth:`prepare`).
        entropy: coefficient of the entropy bonus.
        correction: a :class:`~rollmath.loss.Correction` of the mismatch between sampler and trainer, or a tuple of
            them, or None.
        truncated: rollouts that were cut off: ``"keep"``; ``"mask"``, which trains none of their tokens, while their
            rewards stay in the statistics of their group (TRL); ``"exclude"``, which takes them out of these too.
        overlong: an :class:`Overlong` penalty, or None.
        shared: tokens that rollouts of a tree share: ``"per_rollout"``, a copy trains in each rollout that has it, or
            ``"once"``, in the first rollout that is trained; for advantages of nodes, which are the same in all copies.
        zeros: tokens whose advantage is exactly 0: ``"keep"``, or ``"drop"``: they do not train, and so count in no
            denominator and have no KL term.
        source: where the recipe comes from.

    Raises:
        ValueError: an unknown choice, a number out of range.
        TypeError: a part of the wrong type.
    """

    name: str
    advantage: Advantage
    objective: Objective
    aggregation: str | Aggregation = "token_mean"
    filter: Filter | None = None
    kl: Objective | None = None
    reward_kl: float = 0.0
    entropy: float = 0.0
    correction: Correction | tuple[Correction, ...] | None = None
    truncated: Literal["keep", "mask", "exclude"] = "keep"
    overlong: Overlong | None = None
    shared: Literal["per_rollout", "once"] = "per_rollout"
    zeros: Literal["keep", "drop"] = "keep"
    source: str = ""

    def __post_init__(self) -> None:
        who = "Recipe"
        require(who, "name", self.name, str, "a name")
        require(who, "source", self.source, str, "a text")
        require(who, "advantage", self.advantage, Advantage, "an Advantage, such as Advantage('group.grpo')")
        require(who, "objective", self.objective, Objective, "an Objective, such as PPO()")
        made = as_aggregation(who, self.aggregation)
        names = [name for name, known in AGGREGATIONS.items() if known == made]
        object.__setattr__(self, "aggregation", names[0] if names else made)
        for name, kind, wanted in (
            ("filter", Filter, "a Filter or None"),
            ("kl", Objective, "a KL term or None"),
            ("overlong", Overlong, "an Overlong or None"),
        ):
            if getattr(self, name) is not None:
                require(who, name, getattr(self, name), kind, wanted)
        object.__setattr__(self, "reward_kl", real(who, "reward_kl", self.reward_kl, low=0.0))
        object.__setattr__(self, "entropy", real(who, "entropy", self.entropy))
        choice(who, "truncated", self.truncated, _TRUNCATED)
        choice(who, "shared", self.shared, ("per_rollout", "once"))
        choice(who, "zeros", self.zeros, ("keep", "drop"))
        if self.shared == "once" and not self.advantage.per_node:
            msg = (
                f"{who}(): 'shared' must be 'per_rollout' for {self.advantage.name!r}: only advantages of nodes are "
                "the same wherever a token is shared, so that one copy can stand for all"
            )
            raise ValueError(msg)
        if self.filter is not None and "advantages" in self.filter.reads:
            of = self.advantage
            if of.per_token or of.per_node or of.on_steps:
                what = "token" if of.per_token else "node" if of.per_node else "step"
                msg = (
                    f"{who}(): 'filter' must look at something else than advantages for {of.name!r}, which gives one a "
                    f"{what}: a selection of rollouts needs one a rollout"
                )
                raise ValueError(msg)
        if self.correction is not None:
            given = self.correction if isinstance(self.correction, (tuple, list)) else (self.correction,)
            for number, part in enumerate(given):
                require(who, f"correction[{number}]", part, Correction, "a Correction")
            object.__setattr__(self, "correction", tuple(given) or None)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that its filter reads."""
        return () if self.filter is None else self.filter.columns

    @property
    def needs(self) -> dict[str, str]:
        """Columns that :meth:`prepare` must be given besides rewards, groups and rows, and what they are."""
        names = [*self.advantage.needs, *self.columns]
        if self.reward_kl:
            names.append("logprobs")
        if self.truncated != "keep" or (self.overlong is not None and self.overlong.truncated):
            names.append("truncated")
        if self.filter is not None and self.filter.draws:
            names.append("seed")
        of_filter = dict.fromkeys(self.columns, "one number a rollout, which the filter looks at")
        of_filter["seed"] = "a whole number, another one in every step, by which the filter draws"
        method = f"an argument of {self.advantage.name}: see its documentation"
        known = {**of_filter, **COLUMNS}
        if "logprobs" in self.advantage.needs:
            # Its own, one a token; a penalty in the reward takes another kind.
            del known["logprobs"]
        return {name: known.get(name, method) for name in dict.fromkeys(names)}

    def replace(self, **fields: Any) -> Recipe:
        """The same with other parts; ``convention=`` is that of the advantage.

        Raises:
            TypeError: a field that it does not have.
        """
        known = [f.name for f in dataclasses.fields(self)]
        for name in fields:
            if name not in known and name != "convention":
                msg = f"Recipe.replace() has no field {name!r}; it has: {nearest(name, [*known, 'convention'])}"
                raise TypeError(msg)
        if "convention" in fields:
            advantage = fields.get("advantage", self.advantage)
            fields["advantage"] = dataclasses.replace(advantage, convention=fields.pop("convention"))
        return dataclasses.replace(self, **fields)

    def prepare(self, rewards: ArrayLike, groups: Groups | ArrayLike, *, rows: Rows, **columns: Any) -> Batch:
        r"""What trains, and its advantages: penalties, filter, advantages and masks, in this order.

        1. ``r += overlong(L)`` with L the trained tokens of the rollout, if there is a penalty.
        2. ``r -= reward_kl sum_t (logp_t - ref_t)`` over the trained tokens t of the rollout, all its rows, with logp
           of prox (or theta). For a method of tokens instead ``r_t = -reward_kl (logp_t - ref_t)``, plus r at the last
           trained token of *each* row of the rollout: each row is an episode that ends with the outcome.
        3. The filter drops rollouts, by the rewards as they were given unless it says otherwise. A rollout is known to
           it by its id in the rows, so that neither their order nor their rank matters to what it chooses.
        4. Advantages of the others; what was dropped enters no statistic, except truncated rollouts under ``"mask"``.
           With the filter's ``statistics="before"`` means and spreads are those of all rollouts that may take part.
        5. Rows of dropped rollouts train no token, and so count nowhere in a :class:`~rollmath.loss.Normalizer` made
           of the rows of the batch. Then copies of shared tokens, and tokens with advantage 0, as ``shared`` and
           ``zeros`` say.

        A method on trees sees the forest of the rollouts that take part in the statistics, and numbers of nodes go to
        their tokens: one a token. The forest is the column ``forest``; without it, that of the tokens of the rows, in
        which rollouts of a group share what they begin with (``sampled_jointly`` can say which).

        A method on steps sees those of the rollouts that take part, and gives each step a number, which goes to the
        tokens of the step: one a token. Step ``t`` of a rollout is its ``t``-th turn, a run of trained tokens in its
        rows by segment, unless ``turns`` says otherwise; with ``turns="row"`` each row is a step, and advantages are
        one a row.

        Args:
            rewards: one number a rollout, in the order of ``rows.rollouts.ids`` (from one a row: ``rows.collapse``).
            groups: a :class:`~rollmath.Groups` or one id a rollout, in that order.
            rows: the rows of the step; a rollout may have several.
            **columns: what :attr:`needs` lists, and what the method takes besides: one a rollout. ``seed`` (a whole
                number, for a filter that draws: another one in every step, say its number); ``truncated`` (one
                bool a rollout); ``logprobs`` (:class:`~rollmath.LogProbs`); ``lengths``, in place of trained tokens;
                for a method on trees ``forest`` (:class:`~rollmath.Forest`): its rollouts are those of the rows, in
                that order, and have the tokens of their rows, all of them or those that train; for a method on steps
                ``states``, one list a rollout (what the agent saw at each step), and ``actions``, likewise (what it
                did; default: the trained tokens of the turn), or ``steps`` (:class:`~rollmath.Steps`): its trajectories
                are the rollouts, in that order. ``turns``: ``"run"``, ``"row"``, or the number of its turn in the
                rollout at each position, -1 at gaps. ``step_rewards``: one list a rollout, a Ragged, or one number a
                row of ``steps``. A rollout of which nothing trains may have any number of steps.

        Returns:
            A :class:`Batch`.

        Raises:
            ValueError: wrong lengths, a column that is missing, rewards that the method refuses.
            TypeError: wrong types, a column that the recipe does not take.
        """
        require("prepare", "rows", rows, Rows, "Rows")
        return _prepare.prepare(self, rewards, groups, rows, columns)

    def advantages(
        self, rewards: ArrayLike, groups: Groups | ArrayLike, *, rows: Rows | None = None, **columns: Any
    ) -> Array | Ragged:
        """The advantages alone, of rewards as they are: no penalty, no filter, nothing masked.

        Args:
            rewards: one number a rollout.
            groups: a :class:`~rollmath.Groups` or one id a rollout.
            rows: needed by methods that work on tokens, on nodes of trees, or ask for lengths. For a method on steps
                it says where they train.
            **columns: what the method takes; ``valid`` are the rollouts that take part.

        Returns:
            One number a rollout, of the kind of the rewards; for a method of tokens or nodes a Ragged; for one of steps
            one a step, or what :meth:`prepare` has if there are rows.

        Raises:
            ValueError: wrong lengths, a column that is missing.
            TypeError: wrong types, a column that the method does not take.
        """
        return _prepare.advantages(self, rewards, groups, rows, columns)

    def policy_loss(
        self,
        logprobs: LogProbs,
        batch: Batch,
        *,
        normalizer: Normalizer,
        entropy: torch.Tensor | EntropyBonus | None = None,
        objective: Objective | None = None,
        correction: Correction | tuple[Correction, ...] | None = None,
        weight: ArrayLike | None = None,
        compiled: bool = False,
    ) -> PolicyLoss:
        """:func:`rollmath.loss.policy_loss` of a batch or micro-batch, with the parts of the recipe.

        Args:
            logprobs: of the rows of the batch.
            batch: of :meth:`prepare`, or a part of it.
            normalizer: counts of the whole step, ``Normalizer.local(batch.rows)`` of the whole batch if this process
                has all of it.
            entropy: entropy of the policy at each position, which the recipe's coefficient multiplies; with a
                coefficient of 0 it is only a metric.
            objective: in place of the recipe's: the one that ``with_parts`` has made of it.
            correction: in place of the recipe's, likewise.
            weight: as there.
            compiled: as there.

        Raises:
            ValueError: no entropy where the recipe has a bonus, no reference where it has a KL term; what the loss
                refuses.
            TypeError: arguments of the wrong type.
        """
        who = "policy_loss"
        require(who, "batch", batch, Batch, "a Batch, see Recipe.prepare")
        against = self.kl.against if isinstance(self.kl, KL) else None
        if against in {"ref", "behaviour"} and isinstance(logprobs, LogProbs) and getattr(logprobs, against) is None:
            msg = (
                f"{who}(): 'logprobs' must have {against!r} for the KL term of recipe {self.name!r}: "
                f"LogProbs(theta, prox=..., {against}=...); or take recipe.replace(kl=None)"
            )
            raise ValueError(msg)
        if entropy is None and self.entropy:
            msg = (
                f"{who}(): 'entropy' must be given, the entropy of the policy at each position, for recipe "
                f"{self.name!r} has a bonus of {self.entropy:g}; or take recipe.replace(entropy=0.0)"
            )
            raise ValueError(msg)
        if entropy is not None and not isinstance(entropy, EntropyBonus):
            if not isinstance(entropy, torch.Tensor):
                msg = f"{who}(): 'entropy' must be a tensor or an EntropyBonus, got {describe(entropy)}"
                raise TypeError(msg)
            entropy = EntropyBonus(entropy if self.entropy else entropy.detach(), coef=self.entropy)
        return policy_loss(
            logprobs,
            batch.advantages,
            batch.rows,
            self.objective if objective is None else objective,
            normalizer=normalizer,
            aggregation=self.aggregation,
            level=batch.level,
            weight=weight,
            correction=self.correction if correction is None else correction,
            kl=self.kl,
            entropy=entropy,
            compiled=compiled,
        )

    def to_dict(self) -> dict[str, Any]:
        """As a table of strings, numbers, bools, lists and tables alone, for TOML, YAML or JSON; None is left out.

        Raises:
            TypeError: a part that has no such form: a function without a name, statistics of a step in an objective.

        >>> from rollmath.recipes import DAPO
        >>> DAPO.to_dict()["objective"], Recipe.from_dict(DAPO.to_dict()) == DAPO
        ({'type': 'PPO', 'clip': [0.2, 0.28]}, True)
        """
        from rollmath.recipes._serial import to_dict  # noqa: PLC0415 - it knows this class

        return to_dict(self)

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Recipe:
        """From what :meth:`to_dict` gives; :func:`get` takes tables that start from a recipe, too.

        Raises:
            ValueError: unknown keys or types.
            TypeError: options that a part does not have.
        """
        from rollmath.recipes._serial import from_dict  # noqa: PLC0415 - it knows this class

        return from_dict("Recipe.from_dict", table)

    def explain(self) -> str:
        """The formulas with their numbers, part by part, and where each is from; to print."""
        from rollmath.recipes._words import explain  # noqa: PLC0415 - it knows this class

        return explain(self)

    def diff(self, other: Recipe) -> str:
        """What is different in another recipe, in aligned lines; ``"same"`` if nothing is.

        >>> from rollmath.recipes import DAPO
        >>> print(DAPO.diff(DAPO.replace(convention="VERL")))
                              dapo     dapo
        advantage.convention  DEFAULT  VERL
        """
        require("Recipe.diff", "other", other, Recipe, "a Recipe")
        from rollmath.recipes._words import diff  # noqa: PLC0415 - it knows this class

        return diff(self, other)

    def __repr__(self) -> str:
        objective = type(self.objective).__name__
        return f"Recipe({self.name!r}: {self.advantage.name}, {objective}, {self.aggregation})"

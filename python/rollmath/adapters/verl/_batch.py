"""What an estimator is given: rewards, trained tokens and columns, and an error for each that is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rollmath._arrays import host
from rollmath.adapters.verl import _dense
from rollmath.adapters.verl._dense import Trained
from rollmath.adapters.verl._sessions import Sessions

_PATCH = "patch_compute_advantage() lets an estimator see it, since verl passes it to none"
#: How a field gets into a batch, by its name in verl.
SUPPLY = {
    "uid": "the trainer puts one id a prompt into non_tensor_batch['uid'] and passes it as 'index'",
    "reward_baselines": (
        "verl samples the greedy responses for adv_estimator=remax alone: set that, with register(replace=('remax',))"
    ),
    "values": (
        "they come from the critic: set adv_estimator=gae with register(replace=('gae',)), or critic.enable=True with "
        "patch_compute_advantage()"
    ),
    "sum_pi_squared": (
        "set actor.calculate_sum_pi_squared=True, and adv_estimator=optimal_token_baseline with "
        "register(replace=('optimal_token_baseline',)); or " + _PATCH
    ),
    "old_log_probs": (
        "set adv_estimator=optimal_token_baseline with register(replace=('optimal_token_baseline',)); or " + _PATCH
    ),
    "responses": "the token ids, of which a forest is made; " + _PATCH,
    "paths": (
        "one list a rollout, the ids of the nodes that it goes through: an agent loop puts it into extra_fields; "
        + _PATCH
    ),
    "states": (
        "one list a rollout, what the agent saw at each of its turns: an agent loop puts it into extra_fields; for one "
        "row a step, the columns traj_uid and anchor_obs; " + _PATCH
    ),
    "anchor_obs": (
        "what the agent saw in each row, a step: an agent loop puts it into extra_fields, or "
        "algorithm.rollmath.columns.states names another column; " + _PATCH
    ),
    "gdpo_reward_keys": (
        "list in algorithm.gdpo_reward_keys the rewards that the reward function returns by name, and set "
        "adv_estimator=gdpo with register(replace=('gdpo',)), or call patch_compute_advantage()"
    ),
}


@dataclass(frozen=True)
class Batch:
    """One call of an estimator.

    Attributes:
        who: its name, for messages.
        rewards: verl's token_level_rewards.
        response_mask: verl's.
        config: ``config.algorithm``.
        columns: what else came, by verl's names.
        whole: whether the columns are all of the DataProto.
        sessions: which rows are one rollout; None for one each.
    """

    who: str
    rewards: Any
    response_mask: Any
    config: Any = None
    columns: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    whole: bool = False
    sessions: Sessions | None = None

    @cached_property
    def trained(self) -> Trained:
        """The trained tokens of the rows."""
        return Trained.of(self.who, self.response_mask)

    def need(self, name: str, *, asked_for: str | None = None) -> Any:
        """A column.

        Raises:
            ValueError: it is missing; the message says how to supply it.
        """
        found = self.columns.get(name)
        if found is not None:
            return found
        has = ", ".join(sorted(self.columns)) or "none"
        what = f"{name!r}" if asked_for in {None, name} else f"{name!r} (for {asked_for!r})"
        supply = SUPPLY.get(name) or (
            f"put a column {name!r} into the batch (a key of what the reward function returns, or of the data set), or "
            f"name another with algorithm.rollmath.columns.{asked_for or name}"
            + ("" if self.whole else "; and " + _PATCH)
        )
        msg = f"{self.who}(): needs {what}, which the batch does not have (it has: {has}): {supply}"
        raise ValueError(msg)

    def tokens(self, name: str) -> NDArray[Any]:
        """A column with one number a token."""
        return _dense.tokens(self.who, name, self.need(name), self.trained.shape)

    def token_rewards(self) -> NDArray[Any]:
        """The rewards, one number a token."""
        return _dense.tokens(self.who, "token_level_rewards", self.rewards, self.trained.shape)

    @cached_property
    def outcomes(self) -> NDArray[Any] | None:
        """One reward a row, if only the last trained token of each row has one; else None."""
        return _dense.outcomes(self.token_rewards(), self.trained)

    # One number a rollout: of the last output of a session.

    @property
    def rollouts(self) -> int:
        """Number of rollouts."""
        return self.trained.shape[0] if self.sessions is None else len(self.sessions.final)

    def scores(self) -> NDArray[Any]:
        """The reward of each rollout."""
        return self._last(self.row_scores())

    def row_scores(self) -> NDArray[Any]:
        """The reward of each row."""
        return _dense.scores(self.who, self.rewards, self.trained.shape)

    def column(self, name: str, *, asked_for: str | None = None) -> NDArray[Any]:
        """A column with one value a row, of each rollout."""
        found = self.need(name, asked_for=asked_for)
        values = np.asarray(found) if not hasattr(found, "detach") else host(self.who, name, found)[0]
        if values.ndim != 1 or len(values) != self.trained.shape[0]:
            msg = f"{self.who}(): {name!r} must have one value a row, [{self.trained.shape[0]}], got {values.shape}"
            raise ValueError(msg)
        return self._last(values)

    def lengths(self) -> NDArray[np.int64]:
        """Trained tokens of each rollout, all its rows together."""
        if self.sessions is None:
            return self.trained.counts
        real = self.sessions.index >= 0
        counts = self.trained.counts[real]
        return np.bincount(self.sessions.index[real], weights=counts, minlength=self.rollouts).astype(np.int64)

    def to_rows(self, x: NDArray[Any]) -> NDArray[Any]:
        """One value a rollout, for each of its rows."""
        if self.sessions is None:
            return x
        return np.append(x, x.dtype.type(0))[self.sessions.index]  # padding, -1, gets the 0 at the end

    def _last(self, x: NDArray[Any]) -> NDArray[Any]:
        return x if self.sessions is None else x[self.sessions.final]

"""What slime's samples hold: rewards, groups, and which samples are one rollout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np

from rollmath._arrays import choice
from rollmath.rows import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

RolloutReward = Literal["same", "sum", "mean", "max", "min", "first", "last", "each"]

_CHOICES = (
    "set rollmath_rollout_reward in the file of --custom-config-path to 'sum' (the reward was split over them, "
    "reward / K), 'same' (each has all of it), 'mean', 'max', 'min', 'first', 'last', or 'each' (every sample is a "
    "rollout of its own in the statistics)"
)


class Batch(NamedTuple):
    """Samples, read.

    Attributes:
        samples: all of them, flat.
        raw: their rewards.
        rows: one row a sample, of the tokens that the policy gave; the rollouts are those of slime's ``rollout_id``.
        rewards: one a rollout, float64.
        groups: the ``group_index`` of each rollout.
    """

    samples: list[Any]
    raw: list[float]
    rows: Rows
    rewards: NDArray[np.float64]
    groups: list[Any]

    def per_sample(self, x: NDArray[Any]) -> NDArray[Any]:
        """One value a sample from one a rollout."""
        return np.asarray(x)[self.rows.rollouts.index]

    def column(self, who: str, name: str) -> list[Any]:
        """``metadata[name]`` of each rollout.

        Raises:
            ValueError: a sample without it; samples of one rollout that differ.
        """
        found: list[Any] = []
        # Rollouts are numbered by their first sample.
        for at, (sample, rollout) in enumerate(zip(self.samples, self.rows.rollouts.index.tolist(), strict=True)):
            metadata = sample.metadata or {}
            if name not in metadata:
                msg = (
                    f"{who}(): 'samples[{at}].metadata' must have {name!r}, which the recipe needs, one a rollout; "
                    f"set sample.metadata[{name!r}] where samples are generated"
                )
                raise ValueError(msg)
            value = metadata[name]
            if rollout == len(found):
                found.append(value)
            elif value != found[rollout]:
                msg = (
                    f"{who}(): 'samples[{at}].metadata' must have one {name!r} for all samples of a rollout, got "
                    f"{value!r} and {found[rollout]!r} for 'rollout_id' {sample.rollout_id!r}"
                )
                raise ValueError(msg)
        return found

    def truncated(self) -> NDArray[np.bool_]:
        """Rollouts with a sample that was cut off, by its status."""
        cut = [getattr(sample.status, "value", sample.status) == "truncated" for sample in self.samples]
        return np.bincount(self.rows.rollouts.index, weights=cut, minlength=self.rows.n_rollouts) > 0


def flat(samples: Any) -> list[Any]:
    """Samples out of lists of any depth: slime nests them by prompt, and by rollout where that is several samples."""
    found: list[Any] = []
    for item in samples:
        if isinstance(item, (list, tuple)):
            found += flat(item)
        else:
            found.append(item)
    return found


def read(who: str, args: Any, samples: Any) -> Batch:
    """Rewards and groups of samples; one rollout is the samples with one ``rollout_id``, or one sample without it.

    Raises:
        ValueError: a sample without ``group_index`` or reward; a rollout in two groups; a rollout of several samples,
            unless ``args.rollmath_rollout_reward`` says what its reward is; rewards that then differ.
        TypeError: a reward that is no number.
    """
    how: RolloutReward | None = getattr(args, "rollmath_rollout_reward", None)
    if how is not None:
        choice(who, "args.rollmath_rollout_reward", how, get_args(RolloutReward))
    all_samples = flat(samples)
    raw = [_reward(who, args, sample, at) for at, sample in enumerate(all_samples)]
    numbers: dict[Any, int] = {}
    rollout: list[int] = []
    groups: list[Any] = []
    for at, sample in enumerate(all_samples):
        own = how == "each" or sample.rollout_id is None
        number = numbers.setdefault(("sample", at) if own else sample.rollout_id, len(numbers))
        if sample.group_index is None:
            msg = (
                f"{who}(): 'samples[{at}].group_index' must be the number of its prompt, got None; slime's data source "
                "sets it, and a rollout function of your own has to keep it"
            )
            raise ValueError(msg)
        if number == len(groups):
            groups.append(sample.group_index)
        elif groups[number] != sample.group_index:
            msg = (
                f"{who}(): samples with 'rollout_id' {sample.rollout_id!r} must be of one group, got group_index "
                f"{groups[number]!r} and {sample.group_index!r}; rollout ids must be distinct in the whole batch"
            )
            raise ValueError(msg)
        rollout.append(number)
    off_policy = bool(getattr(args, "partial_rollout", False) and args.mask_offpolicy_in_partial_rollout)
    rows = Rows(np.array(rollout, np.int64), [_length(sample, off_policy) for sample in all_samples])
    values = np.array(raw, np.float64)
    if how is None and len(groups) < len(all_samples):
        # slime's documentation gives each sample reward / K: these agree, too, and are not the reward.
        msg = (
            f"{who}(): several samples have one 'rollout_id', and nothing says what reward the rollout has; {_CHOICES}"
        )
        raise ValueError(msg)
    if how is not None and how != "each":
        try:
            values = np.asarray(rows.collapse(values, how=how))
        except ValueError as wrong:
            msg = f"{who}(): samples of one rollout ('rollout_id') must have one reward: {wrong}; {_CHOICES}"
            raise ValueError(msg) from None
    return Batch(all_samples, raw, rows, values, groups)


def _reward(who: str, args: Any, sample: Any, at: int) -> float:
    key = getattr(args, "reward_key", None)
    if key and (not isinstance(sample.reward, dict) or key not in sample.reward):
        msg = f"{who}(): 'samples[{at}].reward' must be a dict with {key!r} (= args.reward_key), got {sample.reward!r}"
        raise TypeError(msg)
    value = sample.get_reward_value(args)
    try:
        return float(value)
    except (TypeError, ValueError):
        fix = "; name the one to train on with --reward-key" if isinstance(value, dict) else ""
        msg = f"{who}(): 'samples[{at}].reward' must be a number, got {value!r}{fix}"
        raise TypeError(msg) from None


def _length(sample: Any, off_policy: bool) -> int:
    """Tokens of the policy, whether they train or not: penalties on length look at them.

    Of a sample that goes on from an earlier step slime masks what was there, which cannot be told from tool output.
    """
    return int(sample.response_length if sample.loss_mask is None or off_policy else sum(sample.loss_mask))

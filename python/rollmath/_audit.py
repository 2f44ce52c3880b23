"""``audit``: which rollouts carry no signal, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Unpack

import numpy as np

from rollmath import group
from rollmath._arrays import ArrayLike, number
from rollmath._audit_findings import findings
from rollmath._audit_inputs import WHO, Batch, batch
from rollmath._audit_match import matches
from rollmath._audit_reasons import bounds, reasons
from rollmath._audit_result import Audit
from rollmath._audit_summary import summary
from rollmath.conventions import DEFAULT, Convention, Framework, Override, frameworks, resolve
from rollmath.groups import Groups
from rollmath.ragged import Ragged
from rollmath.rows import Rows

#: Differences that a dtype's rounding explains; float32 for all that came through a file.
_TOLERANCES = {"float16": 1e-3, "bfloat16": 1e-2}


def audit(
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    advantages: ArrayLike | Ragged | None = None,
    *,
    valid: ArrayLike | None = None,
    filtered: ArrayLike | None = None,
    truncated: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    rows: Rows | None = None,
    low: float | None = None,
    high: float | None = None,
    tolerance: float | None = None,
    convention: Convention | Framework = DEFAULT,
    **override: Unpack[Override],
) -> Audit:
    """Which rollouts carry no signal and why, in numbers; and whose formula given advantages follow.

    Each rollout gets the first of these reasons that holds for it: ``not valid``; ``filtered``; ``NaN reward``;
    ``infinite reward``; ``no trained token``; ``group of one`` (the only valid, finite reward of its group); ``zero
    spread`` (all these rewards of the group are equal: ``all at the bottom``, ``all at the top``, ``in between``, or no
    more than that where a bound that matters is not known);
    ``non-finite advantage``; ``zero advantage`` (there is spread, but the advantage is exactly 0: the reward is the
    mean, say); else ``signal``.

    Nothing in the data raises: NaN rewards, empty batches, groups of one are what an audit is for.

    Args:
        rewards: one number a rollout, ``[N]``.
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        advantages: one number a rollout, ``[N]``, or one a token as a :class:`~rollmath.Ragged` with one row a rollout
            (with the offsets of ``rows``, if those are given). None: ``grpo`` under ``convention``, where a policy
            "raise" leaves out (NaN) or gives 0 (no spread, a group of one).
        valid: rollouts that exist (bool or int, nonzero = True); the others enter no statistic, size, count or share.
        filtered: rollouts that the trainer removed after it had taken the statistics of their groups.
        truncated: rollouts that were cut off, for the summary.
        lengths: trained tokens of each rollout, int ``[N]``.
        mask: instead, which tokens are trained: a Ragged or a list of lists with one row a rollout, or ``[N, T]``.
        rows: instead, a :class:`~rollmath.Rows`; rewards, groups and so on are in the order of its ``rollouts.ids``.
        low: the lowest reward that there can be. Default: the lowest seen, if there are two.
        high: the highest reward that there can be. Default: the highest seen, if there are two.
        tolerance: advantages differ if they are further apart than this times max(1, abs(expected)). Default 1e-5
            (float32 arithmetic); for float16 advantages 1e-3, for bfloat16 1e-2.
        convention: whose ``grpo`` the advantages are computed by, or compared with; of a framework that has none, its
            ``dr_grpo``, which does not divide.
        **override: fields of the convention.

    Returns:
        An :class:`Audit` to print. ``rows`` has the reason of each rollout, ``groups`` a table of the groups,
        ``summary`` numbers, ``findings`` what is suspicious, ``matches`` the formulas by their distance from given
        advantages: all frameworks of :mod:`rollmath.conventions` with each method that needs rewards and groups alone.
        Where none fits by ids, the whole batch as one group and consecutive slices are tried too, since both are
        known mistakes; they count where most rollouts bear them out. Groups without spread have no say in this, nor
        have rollouts whose token-level advantages differ or that have no trained token; residue is a finding.

    Raises:
        ValueError: wrong lengths, options out of range, inputs that require grad, token-level tensors on a device.
        TypeError: wrong dtype or rank.

    >>> print(audit([1, 0, 0, 1, 0, 0, 0.5], ["a", "a", "a", "a", "b", "b", "c"]))
    Audit of 7 rollouts in 3 groups of 1 to 4
    <BLANKLINE>
    signal       4 of 7 rollouts (57.1%), 1 of 3 groups (33.3%)
    rewards      mean 0.3571, std 0.4756, 3 values, 57.1% at the bottom (0), 28.6% at the top (1)
    groups       33.3% have spread, 33.3% all at the bottom, 0.0% all at the top
    advantages   mean 0, std 0.7071, -0.866 to 0.866; 2 positive, 2 negative, 3 zero
                 sum of |A| 3.464; effective sample size 4 of 7
    convention   advantages computed here: grpo of DEFAULT
    <BLANKLINE>
    why no signal                   rollouts  share  groups  groups that lose most
    group of one                           1  14.3%       1  c
    zero spread: all at the bottom         2  28.6%       1  b
    <BLANKLINE>
    look at
    - groups of 1 to 4: 2 of 3 do not have 4 (rows 4, 5, 6)
    """
    data = batch(
        rewards,
        groups,
        advantages,
        valid=valid,
        filtered=filtered,
        truncated=truncated,
        lengths=lengths,
        mask=mask,
        rows=rows,
    )
    close = _tolerance(tolerance, advantages)
    limits = bounds(data, low, high)
    method = _method(convention)
    rules = resolve(WHO, method, convention, override)
    name = _name(convention, method, rules)
    options = dict(convention.options.get(method, {})) if isinstance(convention, Framework) else {}
    asked = Framework(name, {method: rules}, options={method: options})
    if method == "dr_grpo":
        options["scale"] = "none"
    with np.errstate(over="ignore", invalid="ignore"):
        if not data.given:
            data = _computed(data, rules, options)
        codes = reasons(data, limits)
        matched = matches(data, asked, close) if data.given else ()
        found = findings(data, close, matched, asked)
        return Audit._make(data, codes, summary(data, codes, limits), found, matched, name, method)


def _computed(data: Batch, rules: Convention, options: Mapping[str, Any]) -> Batch:
    """The batch with advantages of its own; what a policy would raise at is left out, or 0."""
    soft = replace(
        rules,
        nan="omit" if rules.nan == "raise" else rules.nan,
        singleton="zero" if rules.singleton == "raise" else rules.singleton,
        zero_spread="zero" if rules.zero_spread == "raise" else rules.zero_spread,
    )
    rows = data.valid if soft.nan == "propagate" else data.member
    out = np.asarray(group.grpo(data.rewards, data.groups, valid=rows, convention=soft, **options))
    return replace(data, advantages=out, nonzero=out != 0)


def _method(convention: Convention | Framework) -> str:
    """What the framework calls GRPO; where it has neither, "grpo" raises with what it has."""
    without = isinstance(convention, Framework) and "grpo" not in convention and "dr_grpo" in convention
    return "dr_grpo" if without else "grpo"


def _name(convention: Convention | Framework, method: str, rules: Convention) -> str:
    """What to call a convention: its framework's name, unless a field was overridden."""
    if isinstance(convention, Framework) and convention[method] == rules:
        return next((name for name, known in frameworks().items() if known is convention), convention.name)
    return "DEFAULT" if rules == DEFAULT else "the given convention"


def _tolerance(tolerance: object, advantages: object) -> float:
    if tolerance is None:
        values = advantages.values if isinstance(advantages, Ragged) else advantages
        dtype = str(getattr(values, "dtype", "")).removeprefix("torch.")
        return _TOLERANCES.get(dtype, 1e-5)
    value = number(WHO, "tolerance", tolerance)
    if not 0 <= value < math.inf:
        msg = f"{WHO}(): 'tolerance' must be finite and not negative, got {value}"
        raise ValueError(msg)
    return value

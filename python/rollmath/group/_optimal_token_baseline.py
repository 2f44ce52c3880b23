"""The optimal token baseline: one baseline a token, weighted by the gradient that rollouts have gathered so far."""

from __future__ import annotations

from typing import Literal

from rollmath import _core
from rollmath._arrays import Array, ArrayLike, choice
from rollmath._checks import flag, real
from rollmath._token_rows import TokenRows
from rollmath.groups import Groups, as_groups
from rollmath.ops._scan import RewardOnGap, Rule, rewards_of
from rollmath.ragged import Ragged


def optimal_token_baseline(
    rewards: ArrayLike | Ragged,
    groups: Groups | ArrayLike,
    logprobs: ArrayLike | Ragged,
    sum_pi_squared: ArrayLike | Ragged,
    *,
    is_weights: ArrayLike | Ragged | None = None,
    mask: ArrayLike | Ragged | None = None,
    lengths: ArrayLike | None = None,
    valid: ArrayLike | None = None,
    align: Literal["trained", "position"] = "trained",
    zero_tail: bool = True,
    eps: float = 1e-8,
    singleton: Literal["zero", "raw"] = "zero",
    reward_on_gap: RewardOnGap = "raise",
    out: Array | Ragged | None = None,
) -> Array | Ragged:
    """Optimal token baseline: ``A_it = G_it - sum_j G_jt W_jt / (sum_j W_jt + eps)`` over the group.

    ``j`` runs over the rows that have a token ``t``. ``G_it`` is the sum of the rewards from ``t`` on, and
    ``W_it = sum_{s <= t} w_is`` with ``w = 1 - 2 pi(y) + sum_v pi(v)^2``, the squared norm of the gradient of
    ``log pi(y)`` by the logits: rollouts that have gathered more gradient weigh more, as in the baseline of least
    variance.

    Args:
        rewards: a :class:`~rollmath.Ragged` or padded ``[B, T]`` like ``logprobs``, or one number a row, ``[B]``.
        groups: a :class:`~rollmath.Groups` or one id a row, ``[B]``; any sizes.
        logprobs: log-probability of each token under the policy that the gradient is taken of.
        sum_pi_squared: ``sum_v pi(v)^2`` at each token, as :func:`rollmath.vocab.row_stats` gives it.
        is_weights: (truncated) importance weights ``rho`` of each token; then ``w`` is multiplied by ``rho^2``.
        mask: trained tokens (bool or int, nonzero = True), like ``logprobs``.
        lengths: used columns of padded rows, ints ``[B]``.
        valid: rows that take part (bool or int, nonzero = True); the others enter no statistic and get 0.
        align: which tokens of different rows are compared: ``"trained"`` those with as many trained tokens before them
            (verl's ``tir_optimal_token_baseline``), ``"position"`` those in the same column (its
            ``optimal_token_baseline``). Without gaps the two are the same.
        zero_tail: beyond the second longest row of a group, where only one row is left, its baseline is 0; if False it
            is the row's own return, so that the advantage there is 0 but for ``eps``.
        eps: added to the sum of weights; not negative.
        singleton: what the only row of a group gets: ``"zero"`` 0, or ``"raw"`` its returns (verl).
        reward_on_gap: a reward where the mask is 0: ``"raise"``, ``"previous"`` or ``"drop"``.
        out: where to write.

    Returns:
        One number a token in the form, kind and float type of ``logprobs``; 0 at gaps and padding; exactly 0 where all
        returns are equal and a weight is positive, outside the zero tail: under ``zero_tail`` a group of equal rewards
        still trains the end of its longest row. Memory goes with the tokens, not with the longest row.

    Raises:
        ValueError: wrong shapes; a trained token whose number is not finite; a reward at a gap.
        TypeError: wrong dtype, rank or form.

    Source: verl 0.9.1, whose two functions a test runs beside ours (the paper was not read). Under
    ``align="position"`` verl takes the second longest row by its number of trained tokens, which with gaps is not the
    column where it ends; ours is where it ends.

    >>> from rollmath import Ragged
    >>> logprobs = Ragged.from_lists([[-0.7, -0.7], [-0.7]])
    >>> squares = logprobs.with_values([0.5, 0.5, 0.5])
    >>> optimal_token_baseline([1.0, 0.0], ["a", "a"], logprobs, squares).values.round(6).tolist()
    [0.5, 1.0, -0.5]
    """
    who = "optimal_token_baseline"
    choice(who, "align", align, ("trained", "position"))
    choice(who, "singleton", singleton, ("zero", "raw"))
    guard, tail = real(who, "eps", eps, low=0.0), flag(who, "zero_tail", zero_tail)
    rows = TokenRows.of(who, "logprobs", logprobs, mask=mask, lengths=lengths).only(valid)
    made = as_groups(who, groups, length=rows.rows)
    rule = Rule(reward_on_gap=reward_on_gap).of(rows)
    tokens = {"logprobs": logprobs, "sum_pi_squared": sum_pi_squared}
    if is_weights is not None:
        tokens["is_weights"] = is_weights
    per_row, (r, *flat) = rewards_of(rows, rewards, **tokens)
    weights = flat[2] if is_weights is not None else None
    arrays, views = rows.outputs(
        out, flat[0].dtype, 1, {"rewards": r, **dict(zip(tokens, flat, strict=True)), "mask": rows.mask}
    )
    choices = (align == "trained", tail, guard, singleton == "raw")
    _core.optimal_token_baseline(
        who, rows.layout, made._csr, r, per_row, flat[0], flat[1], weights, rule, choices, views[0]
    )
    return rows.wrap(arrays[0])

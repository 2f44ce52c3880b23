"""GAE: advantages and returns of token rows from values."""

from __future__ import annotations

from typing import Any, NamedTuple

from rollmath._arrays import Array, ArrayLike
from rollmath._convention import Whiten
from rollmath.ops._device_rows import rows_of
from rollmath.ops._scan import Gaps, RewardOnGap, Rule, scan_values
from rollmath.ragged import Ragged


class GAE(NamedTuple):
    """What :func:`gae` returns, in the form of the values."""

    advantages: Array | Ragged
    returns: Array | Ragged


def gae(
    rewards: ArrayLike | Ragged,
    values: ArrayLike | Ragged,
    *,
    gamma: float = 1.0,
    lam: ArrayLike = 0.95,
    lam_returns: ArrayLike | None = None,
    mask: ArrayLike | Ragged | None = None,
    lengths: ArrayLike | None = None,
    gaps: Gaps = "carry",
    reward_on_gap: RewardOnGap = "raise",
    bootstrap: ArrayLike = "zero",
    truncated: ArrayLike | None = None,
    valid: ArrayLike | None = None,
    whiten: Whiten | None = None,
    out: Any = None,
) -> GAE:
    """Generalised advantage estimation: ``A_t = delta_t + gamma lam A_{t+1}``, ``delta_t = r_t + gamma V_{t+1} - V_t``.

    ``t + 1`` is the next *trained* token: tool output and observations between two responses are passed over. The
    returns ``A_t + V_t`` are the targets of the value function.

    Args:
        rewards: a :class:`~rollmath.Ragged` or padded ``[B, T]`` like ``values``; or one number a row, ``[B]``, given
            at the row's last trained token.
        values: ``V_t``, the value of the state before token ``t`` is chosen; a Ragged or padded ``[B, T]``.
        gamma: discount, in [0, 1].
        lam: decay, in [0, 1]; one number or one a row, ``[B]`` (:func:`length_adaptive_lambda`).
        lam_returns: decay of the returns where it differs (decoupled GAE: 1 for unbiased value targets).
        mask: trained tokens (bool or int, nonzero = True), like ``values``; flat ``[tokens]`` will do for a Ragged.
            Positions with mask 0 are gaps.
        lengths: used columns of padded rows, ints ``[B]``; what lies beyond is not looked at. Without it rows are as
            wide as the array, and padding is what the mask leaves out.
        gaps: ``"carry"``: gaps are passed over, as in verl, NeMo-RL and AReaL. ``"state"``: a gap is a state with value
            0 and reward 0, through which bootstrapping and decay go (OpenRLHF). ``"ignore"``: the mask has no say
            except that the result at gaps is 0 (slime, SkyRL, ROLL, Trinity-RFT).
        reward_on_gap: a reward where the mask is 0: ``"raise"`` is an error, because verl, NeMo-RL and AReaL lose it in
            silence; ``"previous"`` adds it to that of the last trained token before it; ``"drop"`` loses it. It has no
            say under ``gaps="ignore"``.
        bootstrap: value after the last token: ``"zero"`` (finished), ``"last"`` the value of the last trained token
            (extended GAE for truncated responses; of the last position under ``gaps="ignore"``), or one number a row,
            ``[B]``.
        truncated: rows to which ``bootstrap`` applies (bool or int, ``[B]``); the others end with 0. Default: all.
        valid: rows that take part (bool or int, nonzero = True), ``[B]``; the others get 0 and are not looked at.
        whiten: whiten the advantages over all trained tokens; the returns are taken before. It gives the same bits as
            ``temporal.whiten(gae(...).advantages, how=whiten, ...)``.
        out: two arrays of the form and float type of the result, to write into; after an error they hold anything.

    Returns:
        Advantages and returns in the form and kind of ``values``: float64 if rewards of tokens or values are float64,
        else float32 (rewards of rows are read exactly and do not count). 0 at gaps and padding.

    Edge cases: a row without trained tokens gets 0, and a reward for it is an error unless
    ``reward_on_gap="drop"``. Numbers of a row depend on that row alone; under ``gaps="carry"`` inserting gaps
    changes no bit of them. Padding that nothing but the mask tells is a gap, so ``gaps="state"`` or ``"ignore"`` with a
    ``bootstrap`` needs ``lengths``. A float32 result past float32 is infinite.

    On a GPU, where ``values`` decide (and Triton is needed): one kernel, and nothing waits for the device. Rewards of
    tokens must be there too; what describes rows, the mask included, may be on the host. Nobody looks at numbers on a
    device, so a row that would raise on the CPU for a reward at a gap, for what is not finite, or for a length or decay
    out of its range is NaN in all its positions, gaps included (and padding, where the length is wrong or 0); with
    ``whiten`` all advantages are NaN then. What no result depends on, as the decay of a row without tokens, goes
    unseen. Arithmetic is in float64 there, too. The same call gives the same bits; against the CPU, or if gaps are
    inserted, a last bit may differ. ``reward_on_gap="previous"`` does not go with ``gaps="state"``.

    Raises:
        ValueError: wrong shapes; ``gamma`` or ``lam`` outside [0, 1]; a reward at a gap; a trained token whose reward
            or value is not finite, named by row and position; a tensor that requires grad; token arrays on two
            devices, or on one that is no GPU; a GPU without Triton.
        TypeError: wrong dtype, rank or form.

    Source: Schulman et al. 2016, arXiv 1506.02438. ``bootstrap="last"``: T-PPO, arXiv 2506.15050 (secondary
    description, unverified). ``lam_returns``: VC-PPO and VAPO, arXiv 2503.01491 and 2504.05118.

    >>> gae([[0.0, 0.0, 1.0]], [[0.5, 9.0, 0.5]], mask=[[1, 0, 1]], lam=0.5)
    GAE(advantages=array([[0.25, 0.  , 0.5 ]]), returns=array([[0.75, 0.  , 1.  ]]))
    """
    rows = rows_of("gae", "values", values, mask=mask, lengths=lengths, valid=valid)
    rule = Rule(gaps, reward_on_gap, bootstrap, truncated)
    both = scan_values(
        rows, rewards, values, gamma=gamma, lam=lam, lam_returns=lam_returns, rule=rule, whiten=whiten, out=out
    )
    return GAE(*both)

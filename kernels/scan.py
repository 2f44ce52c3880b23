"""Reverse scans over rows of tokens on a device: generalised advantages, TD(lambda) returns, discounted returns.

What token ``t`` hands to the trained token before it is ``Z_t = gamma ((1 - lam) V_t + lam G_t)``, and its return is
``G_t = r_t + Z_{t+1}``. So one affine scan serves all gaps:

    trained      Z_t = gamma lam (r_t + Z_{t+1}) + gamma (1 - lam) V_t
    gap, carry   Z_t = Z_{t+1}            (plus a reward that goes to the trained token before)
    gap, state   Z_t = gamma lam Z_{t+1}
    gap, cut     Z_t = 0

A position needs ``Z`` of the next one; the scan keeps, beside the map of all positions, that of all but the first. One
program walks a row in chunks from its end, with one number carried over.
Arithmetic is in float64 as on the CPU: a scan has few operations per byte, and its errors would grow with the length.
"""

import torch
import triton
import triton.language as tl

from ._config import launching
from ._tokens import (
    ACCUMULATE,
    EXACT,
    bits,
    bounds,
    column,
    dense,
    end_value,
    flags,
    fraction,
    is_finite,
    last_trained,
    nan_fill,
    number,
    numbers,
    read,
    row_reward,
    row_stride,
    share,
    start,
    tile,
    within,
    write,
    zero_fill,
)


@triton.jit
def _then(a1, b1, _p1, _q1, a2, b2, p2, q2):
    """Later positions first, then earlier ones: ``x -> a x + b`` of all, ``x -> p x + q`` of all but the earliest."""
    return a1 * a2, tl.fma(a2, b1, b2), p2 * a1, tl.fma(p2, b1, q2)


@triton.jit
def _either(x1, y1, x2, y2):
    return x1 | x2, y1 | y2


@triton.jit
def _scan(a, b, carry, BITS: tl.constexpr):
    """``(Z after each position, Z of the first)`` of a tile that is read row by row, where ``carry`` comes after it.

    Each row of the tile belongs to one thread: it puts its own maps together, so that one map a thread goes through the
    scan between threads. A column is picked by an or of bits, all 0 but its own, which takes no instruction.
    """
    column = tl.arange(0, a.shape[1])[None, :]
    a_bits = a.to(BITS, bitcast=True)
    b_bits = b.to(BITS, bitcast=True)
    p = tl.full(a.shape, 1, a.dtype)
    q = tl.zeros_like(b)
    all_a = tl.full([a.shape[0]], 1, a.dtype)
    all_b = tl.zeros_like(all_a)
    for back in tl.static_range(a.shape[1]):
        here = column == a.shape[1] - 1 - back
        p = tl.where(here, all_a[:, None], p)
        q = tl.where(here, all_b[:, None], q)
        one_a, one_b = tl.reduce((tl.where(here, a_bits, 0), tl.where(here, b_bits, 0)), 1, _either)
        one_a = one_a.to(a.dtype, bitcast=True)
        all_b = tl.fma(one_a, all_b, one_b.to(a.dtype, bitcast=True))
        all_a = one_a * all_a
    one = tl.full([a.shape[0]], 1, a.dtype)
    a, b, s, t = tl.associative_scan((all_a, all_b, one, tl.zeros_like(one)), 0, _then, reverse=True)
    carry = tl.zeros_like(b) + carry
    after = tl.fma(p, tl.fma(s, carry, t)[:, None] + tl.zeros_like(p), q)
    return after, tl.sum(tl.where(tl.arange(0, a.shape[0]) == 0, tl.fma(a, carry, b), 0.0), 0)


@triton.jit
def _coefficients(seen, inside, r, v, gamma, lam, GAPS: tl.constexpr, ON_GAP: tl.constexpr):
    """``(a, b)`` of ``Z = a Z_next + b`` at each position; outside of the row nothing changes."""
    decay = gamma * lam
    a = tl.where(seen, decay, 1.0)
    if GAPS == "state":
        a = tl.where(inside, decay, 1.0)
    if GAPS == "cut":
        a = tl.where(inside & ~seen, 0.0, a)
    b = decay * r
    if v is not None:
        b = tl.fma(v, gamma - decay + tl.zeros_like(v), b)
    b = tl.where(seen, b, 0.0)
    if ON_GAP == "previous":
        b = tl.where(inside & ~seen, r, b)
    return a, b


@triton.jit
def _chunk(
    r_at,
    v_at,
    m_at,
    a_at,
    g_at,
    k,
    head,
    used,
    slot,
    last,
    r_row,
    gamma,
    lam,
    lam_ret,
    carry,
    carry_ret,
    bad,
    first_trained,
    first_reward,
    FULL: tl.constexpr,
    GAPS: tl.constexpr,
    ON_GAP: tl.constexpr,
    ROW: tl.constexpr,
    TWO: tl.constexpr,
    BITS: tl.constexpr,
    BLOCK: tl.constexpr,
    EACH: tl.constexpr,
):
    """Results of one chunk, and what the next one, which lies before it, has to know."""
    p = k * BLOCK + tl.arange(0, BLOCK // EACH)[:, None] * EACH + tl.arange(0, EACH)[None, :]
    inside = within(p, head, used, FULL)
    kept = inside
    if m_at is not None:
        # The load gives 0 outside.
        kept = read(m_at, p, inside, FULL) != 0
    seen = kept
    if GAPS == "ignore":
        seen = inside
    r = tl.where(p == last, r_row, 0.0) if ROW else read(r_at, p, inside, FULL).to(carry.dtype)
    v = None
    if v_at is not None:
        v = read(v_at, p, inside, FULL).to(carry.dtype)

    a, b = _coefficients(seen, inside, r, v, gamma, lam, GAPS, ON_GAP)
    after, carry = _scan(a, b, carry, BITS)
    gain = r + after
    gain_ret = gain
    if TWO:
        a, b = _coefficients(seen, inside, r, v, gamma, lam_ret, GAPS, ON_GAP)
        after_ret, carry_ret = _scan(a, b, carry_ret, BITS)
        gain_ret = r + after_ret
    advantage = gain
    if v_at is not None:
        advantage = gain - v

    wrong = seen & ~(is_finite(advantage) & is_finite(gain_ret))
    if m_at is not None and not ROW and GAPS != "ignore":
        at_gap = inside & ~kept & (r != 0)
        if ON_GAP == "raise":
            wrong |= at_gap
        if ON_GAP == "previous":
            first_trained = tl.minimum(first_trained, tl.min(tl.where(kept, p, 2147483647), 1))
            first_reward = tl.minimum(first_reward, tl.min(tl.where(at_gap, p, 2147483647), 1))
    bad = tl.maximum(bad, tl.max(wrong.to(tl.int32), 1))
    own = within(p, head, slot, FULL)
    write(a_at, p, tl.where(kept, advantage, 0.0), own, FULL)
    write(g_at, p, tl.where(kept, gain_ret, 0.0), own, FULL)
    return carry, carry_ret, bad, first_trained, first_reward


@triton.jit(do_not_specialize=["width", "gamma", "lam", "lam_ret"])
def _gae(
    REWARDS,
    VALUES,
    MASK,
    ADVANTAGES,
    RETURNS,
    FLAWED,
    OFFSETS,
    LENGTHS,
    VALID,
    ROW_REWARDS,
    LAM,
    LAM_RETURNS,
    END,
    APPLIES,
    reward_stride,
    value_stride,
    mask_stride,
    width,
    gamma,
    lam,
    lam_ret,
    GAPS: tl.constexpr,
    ON_GAP: tl.constexpr,
    LAST: tl.constexpr,
    TWO: tl.constexpr,
    SHARED: tl.constexpr,
    ACC: tl.constexpr,
    BITS: tl.constexpr,
    BLOCK: tl.constexpr,
    EACH: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    base, head, used, slot, flawed = bounds(OFFSETS, LENGTHS, VALID, row, width, SHARED)
    g = number(gamma, ACC)
    by, wrong = fraction(LAM, row, lam, ACC)
    by_ret, wrong_ret = fraction(LAM_RETURNS, row, lam_ret, ACC)
    r_at = start(REWARDS, base, row, reward_stride, SHARED) if REWARDS is not None else None
    v_at = start(VALUES, base, row, value_stride, SHARED) if VALUES is not None else None
    m_at = start(MASK, base, row, mask_stride, SHARED) if MASK is not None else None
    a_at = start(ADVANTAGES, base, row, width, True) if ADVANTAGES is not None else None
    g_at = start(RETURNS, base, row, width, True) if RETURNS is not None else None
    last = used - 1
    if ROW_REWARDS is not None or (LAST and GAPS != "ignore"):
        last = last_trained(m_at, head, used, BLOCK)
    r_row, homeless = row_reward(ROW_REWARDS, VALID, row, last >= head, ON_GAP, ACC)
    flawed |= homeless | ((used > head).to(tl.int32) & (wrong | wrong_ret))
    end_at = last
    if GAPS == "ignore":
        end_at = used - 1
    carry = g * end_value(END, APPLIES, v_at, row, end_at, head, used, LAST, ACC)
    carry_ret = carry

    chunks = tl.cdiv(used, BLOCK)
    zero_fill(a_at, chunks, head, slot, BLOCK)
    zero_fill(g_at, chunks, head, slot, BLOCK)
    bad = tl.zeros([BLOCK // EACH], tl.int32)
    first_trained = tl.full([BLOCK // EACH], 2147483647, tl.int32)
    first_reward = tl.full([BLOCK // EACH], 2147483647, tl.int32)
    for done in range(chunks):
        k = chunks - 1 - done
        if (k * BLOCK >= head) & (k * BLOCK + BLOCK <= used):
            carry, carry_ret, bad, first_trained, first_reward = _chunk(
                r_at, v_at, m_at, a_at, g_at, k, head, used, slot, last, r_row, g, by, by_ret,
                carry, carry_ret, bad, first_trained, first_reward,
                True, GAPS, ON_GAP, ROW_REWARDS is not None, TWO, BITS, BLOCK, EACH,
            )  # fmt: skip
        else:
            carry, carry_ret, bad, first_trained, first_reward = _chunk(
                r_at, v_at, m_at, a_at, g_at, k, head, used, slot, last, r_row, g, by, by_ret,
                carry, carry_ret, bad, first_trained, first_reward,
                False, GAPS, ON_GAP, ROW_REWARDS is not None, TWO, BITS, BLOCK, EACH,
            )  # fmt: skip
    flawed |= tl.max(bad, 0)
    if ON_GAP == "previous":
        flawed |= (tl.min(first_reward, 0) < tl.min(first_trained, 0)).to(tl.int32)
    # Other threads may have stored what is replaced now.
    tl.debug_barrier()
    nan_fill(a_at, flawed, head, used, slot, BLOCK)
    nan_fill(g_at, flawed, head, used, slot, BLOCK)
    if FLAWED is not None:
        tl.store(FLAWED + row, flawed)


def gae(
    rewards,
    values,
    *,
    gamma,
    lam=1.0,
    lam_returns=None,
    row_rewards=None,
    mask=None,
    offsets=None,
    lengths=None,
    valid=None,
    gaps="carry",
    reward_on_gap="raise",
    bootstrap=None,
    truncated=None,
    advantages=None,
    returns=None,
    flawed=None,
    longest=None,
    accumulate=torch.float64,
    block=None,
):
    """Writes ``advantages`` and ``returns`` (either may be None, but not both), contiguous and like the token arrays.

    ``A_t = delta_t + gamma lam A_{t+1}``, ``delta_t = r_t + gamma V_{t+1} - V_t``, returns ``A_t + V_t`` (by
    ``lam_returns`` where that is given), over the trained tokens of each row. Without ``values`` both are discounted
    returns. All arguments mean what those of ``rollmath.temporal.gae`` mean; nothing is copied to the host.

    Args:
        rewards: ``[rows, width]`` or packed ``[tokens]``, any float type; None with ``row_rewards``, ``[rows]``.
        values: the same, or None.
        gamma: discount.
        lam: decay; a number, or ``[rows]``.
        lam_returns: that of the returns, likewise.
        row_rewards: reward of each row's last trained token.
        mask: bools or ints, like ``values``; nonzero is trained.
        offsets: int64 ``[rows + 1]``: the rows are packed.
        lengths: ints ``[rows]``, used columns of padded rows.
        valid: bools or bytes, ``[rows]``.
        gaps: "carry", "state", "ignore" or (without values) "cut".
        reward_on_gap: "raise", "previous" (with "carry" alone) or "drop".
        bootstrap: None, "last", or ``[rows]``.
        truncated: bools or bytes, ``[rows]``.
        advantages: where to write, float32 or float64.
        returns: likewise.
        flawed: where to note which rows are NaN, int32 ``[rows]``, or None.
        longest: the longest packed row, if it is known; it chooses the block alone.
        accumulate: float64, or float32 where that is slow: less exact, and products of decays may underflow.
        block: positions of a chunk.

    A row that the CPU would raise for is NaN in all its used positions, gaps included, or in its padding if it has
    none: a reward at a gap under "raise" (or, under "previous", before the first trained token), a row reward without
    trained token, an input at a trained token that is not finite, a lambda out of its range. A length out of its range
    makes the whole row NaN.
    """
    like = next(x for x in (values, rewards, mask) if x is not None)
    outs = [x for x in (advantages, returns) if x is not None]
    assert all(x.is_contiguous() and x.shape == like.shape for x in outs), "outputs are contiguous, like the inputs"
    assert all(x is None or x.shape == like.shape for x in (rewards, values, mask)), "token arrays have one shape"
    rows = like.shape[0] if offsets is None else offsets.numel() - 1
    assert flawed is None or flawed.numel() == rows, "a flag a row"
    if rows == 0 or like.numel() == 0:
        if flawed is not None:
            flawed.zero_()
        return
    rewards, values, mask = dense(rewards), dense(values), dense(flags(mask))
    width = like.shape[1] if offsets is None else 0
    size, each, warps = tile(longest or width or 2048, 8, rewards, values, mask, block=block)
    with launching(like.device):
        _gae[(rows,)](
            rewards,
            values,
            mask,
            advantages,
            returns,
            flawed,
            column(offsets),
            column(lengths),
            column(valid),
            column(row_rewards),
            *numbers(lam)[:1],
            *numbers(lam_returns)[:1],
            column(bootstrap) if isinstance(bootstrap, torch.Tensor) else None,
            column(truncated),
            row_stride(rewards),
            row_stride(values),
            row_stride(mask),
            width,
            bits(gamma),
            *numbers(lam)[1:],
            *numbers(lam_returns)[1:],
            GAPS=gaps,
            ON_GAP=reward_on_gap,
            LAST=isinstance(bootstrap, str) and bootstrap == "last",
            TWO=lam_returns is not None,
            SHARED=share(rewards, values, mask),
            ACC=ACCUMULATE[accumulate][0],
            BITS=ACCUMULATE[accumulate][1],
            BLOCK=size,
            EACH=each,
            num_warps=warps,
            **EXACT,
        )

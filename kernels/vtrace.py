"""V-trace over rows of tokens on a device.

What token ``t`` hands to the trained token before it are two numbers, ``U = gamma V_t`` and ``D = vs_t - V_t``:

    trained      U_t = gamma V_t,    D_t = rho_t (r_t + U_{t+1} - V_t) + gamma c_t D_{t+1}
    gap, carry   U_t = U_{t+1},      D_t = D_{t+1}     (a reward that goes to the token before is added to U)
    gap, state   U_t = 0,            D_t = rho U_{t+1} + gamma c D_{t+1}, with a ratio of 1

A map ``(U, D) -> (s U + u, p U + c D + k)`` is five numbers; the scan is that of ``scan.py``.
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
def _compose(s1, u1, p1, c1, k1, s2, u2, p2, c2, k2):
    """The first map, then the second."""
    return s1 * s2, tl.fma(s2, u1, u2), tl.fma(p2, s1, c2 * p1), c1 * c2, tl.fma(p2, u1, tl.fma(c2, k1, k2))


@triton.jit
def _then(s1, u1, p1, c1, k1, _t1, _w1, _q1, _d1, _l1, s2, u2, p2, c2, k2, t2, w2, q2, d2, l2):
    """Maps of all positions, and of all but the earliest: first those of the later positions, then of the earlier."""
    s, u, p, c, k = _compose(s1, u1, p1, c1, k1, s2, u2, p2, c2, k2)
    t, w, q, d, l = _compose(s1, u1, p1, c1, k1, t2, w2, q2, d2, l2)
    return s, u, p, c, k, t, w, q, d, l


@triton.jit
def _either(s1, u1, p1, c1, k1, s2, u2, p2, c2, k2):
    return s1 | s2, u1 | u2, p1 | p2, c1 | c2, k1 | k2


@triton.jit
def _scan(s, u, p, c, k, carry_u, carry_d, BITS: tl.constexpr):
    """``(U, D)`` after each position of a tile, and those of the first."""
    ACC: tl.constexpr = s.dtype
    column = tl.arange(0, s.shape[1])[None, :]
    s_bits = s.to(BITS, bitcast=True)
    u_bits = u.to(BITS, bitcast=True)
    p_bits = p.to(BITS, bitcast=True)
    c_bits = c.to(BITS, bitcast=True)
    k_bits = k.to(BITS, bitcast=True)
    one = tl.full([s.shape[0]], 1, ACC)
    zero = tl.zeros_like(one)
    all_s, all_u, all_p, all_c, all_k = one, zero, zero, one, zero
    t, w, q, d, l = s, u, p, c, k
    for back in tl.static_range(s.shape[1]):
        here = column == s.shape[1] - 1 - back
        t = tl.where(here, all_s[:, None], t)
        w = tl.where(here, all_u[:, None], w)
        q = tl.where(here, all_p[:, None], q)
        d = tl.where(here, all_c[:, None], d)
        l = tl.where(here, all_k[:, None], l)
        s1, u1, p1, c1, k1 = tl.reduce(
            (
                tl.where(here, s_bits, 0),
                tl.where(here, u_bits, 0),
                tl.where(here, p_bits, 0),
                tl.where(here, c_bits, 0),
                tl.where(here, k_bits, 0),
            ),
            1,
            _either,
        )
        all_s, all_u, all_p, all_c, all_k = _compose(
            all_s, all_u, all_p, all_c, all_k,
            s1.to(ACC, bitcast=True), u1.to(ACC, bitcast=True), p1.to(ACC, bitcast=True), c1.to(ACC, bitcast=True),
            k1.to(ACC, bitcast=True),
        )  # fmt: skip
    s, u, p, c, k, s1, u1, p1, c1, k1 = tl.associative_scan(
        (all_s, all_u, all_p, all_c, all_k, one, zero, zero, one, zero), 0, _then, reverse=True
    )
    carry_u = zero + carry_u
    carry_d = zero + carry_d
    # After the positions of each thread, then after each of them.
    next_u = tl.fma(s1, carry_u, u1)[:, None] + tl.zeros_like(t)
    next_d = tl.fma(p1, carry_u, tl.fma(c1, carry_d, k1))[:, None] + tl.zeros_like(t)
    after_u = tl.fma(t, next_u, w)
    after_d = tl.fma(q, next_u, tl.fma(d, next_d, l))
    first = tl.arange(0, s.shape[0]) == 0
    first_u = tl.sum(tl.where(first, tl.fma(s, carry_u, u), 0.0), 0)
    first_d = tl.sum(tl.where(first, tl.fma(p, carry_u, tl.fma(c, carry_d, k)), 0.0), 0)
    return after_u, after_d, first_u, first_d


@triton.jit
def _chunk(
    r_at,
    v_at,
    w_at,
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
    clip_rho,
    clip_c,
    clip_pg,
    carry_u,
    carry_d,
    bad,
    first_trained,
    first_reward,
    FULL: tl.constexpr,
    GAPS: tl.constexpr,
    ON_GAP: tl.constexpr,
    ROW: tl.constexpr,
    BITS: tl.constexpr,
    BLOCK: tl.constexpr,
    EACH: tl.constexpr,
):
    p = k * BLOCK + tl.arange(0, BLOCK // EACH)[:, None] * EACH + tl.arange(0, EACH)[None, :]
    inside = within(p, head, used, FULL)
    kept = inside
    if m_at is not None:
        kept = read(m_at, p, inside, FULL) != 0
    seen = kept
    if GAPS == "ignore":
        seen = inside
    v = read(v_at, p, inside, FULL).to(carry_u.dtype)
    log_ratio = read(w_at, p, inside, FULL).to(carry_u.dtype)
    r = tl.where(p == last, r_row, 0.0) if ROW else read(r_at, p, inside, FULL).to(carry_u.dtype)
    # A ratio at a gap is 1 or takes no part.
    ratio = tl.exp(tl.where(seen, log_ratio, 0.0))
    rho = tl.minimum(ratio, clip_rho)
    pull = gamma * lam * tl.minimum(ratio, clip_c)

    zero = tl.zeros_like(v)
    s = tl.where(seen, 0.0, 1.0).to(v.dtype)
    u = tl.where(seen, gamma * v, 0.0)
    weight = tl.where(seen, rho, 0.0)
    c = tl.where(seen, pull, 1.0)
    if GAPS == "state":
        s = tl.where(inside, 0.0, 1.0).to(v.dtype)
        weight = tl.where(inside, rho, 0.0)
        c = tl.where(inside, pull, 1.0)
    if ON_GAP == "previous":
        u = tl.where(inside & ~seen, r, u)
    moved = tl.where(seen, rho * (r - v), 0.0)
    after_u, after_d, carry_u, carry_d = _scan(s, u, weight, c, moved, carry_u, carry_d, BITS)

    target = v + tl.fma(rho, r + after_u - v, pull * after_d)
    advantage = tl.minimum(ratio, clip_pg) * (r + tl.fma(gamma + zero, after_d, after_u) - v)
    fits = is_finite(log_ratio)
    if a_at is not None:
        fits &= is_finite(advantage.to(a_at.dtype.element_ty)) & is_finite(target.to(a_at.dtype.element_ty))
    wrong = seen & ~fits
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
    write(g_at, p, tl.where(kept, target, 0.0), own, FULL)
    return carry_u, carry_d, bad, first_trained, first_reward


@triton.jit(do_not_specialize=["width", "gamma", "lam", "rho", "clip", "pg"])
def _vtrace(
    REWARDS,
    VALUES,
    LOG_RATIOS,
    MASK,
    ADVANTAGES,
    RETURNS,
    OFFSETS,
    LENGTHS,
    VALID,
    ROW_REWARDS,
    LAM,
    END,
    APPLIES,
    reward_stride,
    value_stride,
    ratio_stride,
    mask_stride,
    width,
    gamma,
    lam,
    rho,
    clip,
    pg,
    GAPS: tl.constexpr,
    ON_GAP: tl.constexpr,
    LAST: tl.constexpr,
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
    clip_rho = number(rho, ACC)
    clip_c = number(clip, ACC)
    clip_pg = number(pg, ACC)
    r_at = start(REWARDS, base, row, reward_stride, SHARED) if REWARDS is not None else None
    v_at = start(VALUES, base, row, value_stride, SHARED) if VALUES is not None else None
    w_at = start(LOG_RATIOS, base, row, ratio_stride, SHARED) if LOG_RATIOS is not None else None
    m_at = start(MASK, base, row, mask_stride, SHARED) if MASK is not None else None
    a_at = start(ADVANTAGES, base, row, width, True) if ADVANTAGES is not None else None
    g_at = start(RETURNS, base, row, width, True) if RETURNS is not None else None
    last = used - 1
    if ROW_REWARDS is not None or (LAST and GAPS != "ignore"):
        last = last_trained(m_at, head, used, BLOCK)
    r_row, homeless = row_reward(ROW_REWARDS, VALID, row, last >= head, ON_GAP, ACC)
    flawed |= homeless | ((used > head).to(tl.int32) & wrong)
    end_at = last
    if GAPS == "ignore":
        end_at = used - 1
    carry_u = g * end_value(END, APPLIES, v_at, row, end_at, head, used, LAST, ACC)
    carry_d = tl.full([], 0, ACC)

    chunks = tl.cdiv(used, BLOCK)
    zero_fill(a_at, chunks, head, slot, BLOCK)
    zero_fill(g_at, chunks, head, slot, BLOCK)
    bad = tl.zeros([BLOCK // EACH], tl.int32)
    first_trained = tl.full([BLOCK // EACH], 2147483647, tl.int32)
    first_reward = tl.full([BLOCK // EACH], 2147483647, tl.int32)
    for done in range(chunks):
        k = chunks - 1 - done
        if (k * BLOCK >= head) & (k * BLOCK + BLOCK <= used):
            carry_u, carry_d, bad, first_trained, first_reward = _chunk(
                r_at, v_at, w_at, m_at, a_at, g_at, k, head, used, slot, last, r_row, g, by, clip_rho, clip_c, clip_pg,
                carry_u, carry_d, bad, first_trained, first_reward,
                True, GAPS, ON_GAP, ROW_REWARDS is not None, BITS, BLOCK, EACH,
            )  # fmt: skip
        else:
            carry_u, carry_d, bad, first_trained, first_reward = _chunk(
                r_at, v_at, w_at, m_at, a_at, g_at, k, head, used, slot, last, r_row, g, by, clip_rho, clip_c, clip_pg,
                carry_u, carry_d, bad, first_trained, first_reward,
                False, GAPS, ON_GAP, ROW_REWARDS is not None, BITS, BLOCK, EACH,
            )  # fmt: skip
    flawed |= tl.max(bad, 0)
    if ON_GAP == "previous":
        flawed |= (tl.min(first_reward, 0) < tl.min(first_trained, 0)).to(tl.int32)
    # Other threads may have stored what is replaced now.
    tl.debug_barrier()
    nan_fill(a_at, flawed, head, used, slot, BLOCK)
    nan_fill(g_at, flawed, head, used, slot, BLOCK)


def vtrace(
    rewards,
    values,
    log_ratios,
    *,
    gamma,
    lam,
    clip_rho,
    clip_c,
    clip_pg_rho,
    advantages,
    returns,
    row_rewards=None,
    mask=None,
    offsets=None,
    lengths=None,
    valid=None,
    gaps="carry",
    reward_on_gap="raise",
    bootstrap=None,
    truncated=None,
    longest=None,
    accumulate=torch.float64,
    block=None,
):
    """Writes the advantages and returns of ``rollmath.temporal.vtrace``; arguments as for ``scan.gae``.

    ``vs_t = V_t + rho_t delta_t + gamma c_t (vs_{t+1} - V_{t+1})`` with ``delta_t = r_t + gamma V_{t+1} - V_t``,
    ``rho_t = min(clip_rho, w_t)``, ``c_t = lam min(clip_c, w_t)``, ``w_t = exp(log_ratio_t)``; the advantage is
    ``min(clip_pg_rho, w_t) (r_t + gamma vs_{t+1} - V_t)``. A row is NaN where ``scan.gae`` has NaN, and for a log-ratio
    or a result that is not finite.
    """
    outs, tokens = (advantages, returns), (rewards, values, log_ratios, mask)
    assert all(x.is_contiguous() and x.shape == values.shape for x in outs), "outputs are contiguous, like the values"
    assert all(x is None or x.shape == values.shape for x in tokens), "token arrays have one shape"
    rows = values.shape[0] if offsets is None else offsets.numel() - 1
    if rows == 0 or values.numel() == 0:
        return
    rewards, values, log_ratios, mask = dense(rewards), dense(values), dense(log_ratios), dense(flags(mask))
    width = values.shape[1] if offsets is None else 0
    size, each, warps = tile(longest or width or 1024, 4, rewards, values, log_ratios, mask, block=block)
    with launching(values.device):
        _vtrace[(rows,)](
            rewards,
            values,
            log_ratios,
            mask,
            advantages,
            returns,
            column(offsets),
            column(lengths),
            column(valid),
            column(row_rewards),
            *numbers(lam)[:1],
            column(bootstrap) if isinstance(bootstrap, torch.Tensor) else None,
            column(truncated),
            row_stride(rewards),
            row_stride(values),
            row_stride(log_ratios),
            row_stride(mask),
            width,
            bits(gamma),
            *numbers(lam)[1:],
            bits(clip_rho),
            bits(clip_c),
            bits(clip_pg_rho),
            GAPS=gaps,
            ON_GAP=reward_on_gap,
            LAST=isinstance(bootstrap, str) and bootstrap == "last",
            SHARED=share(rewards, values, log_ratios, mask),
            ACC=ACCUMULATE[accumulate][0],
            BITS=ACCUMULATE[accumulate][1],
            BLOCK=size,
            EACH=each,
            num_warps=warps,
            **EXACT,
        )

"""One program for each row of a gradient, or for each part of a row."""

import triton
import triton.language as tl

from ._gradient import derivative, incoming, terms
from ._online import LOG2E
from ._round import to_dtype
from ._rows import PEELED, STRIDED, next_aligned, row_offset
from ._spikes import at_token, entry

#: What a gradient can flow into.
OUTPUTS = ("logprob", "entropy", "lse", "sum_p_squared", "var_logprob", "p_max", "mean_logprob", "gathered")

_VARYING = [f"{x}_{part}" for x in ("x", "out") for part in ("start", "outer", "step", "columns")]
_VARYING += ["inner", "row_0", "parts", "tiles", "first", "total", "K", "picks", "listed", "ignore_index"]
_VARYING += [f"{name}_row" for name in OUTPUTS] + ["gathered_column"]
#: What the gradient is made of.
SAVED = ("shift", "log2_l", "logprob", "entropy", "sum_p_squared", "var_logprob", "p_max", "argmax", "gathered")
# Numbers of a row are read alone: whether they lie at 16 bytes is no reason to compile again.
_VARYING += [name.upper() for name in SAVED] + [f"G_{name.upper()}" for name in OUTPUTS]
_VARYING += ["MASK", "LABELS", "IDS", "SETS", "OFFSETS", "ROOM", "INV_T"]


@triton.jit
def _at(base, column, stride, BESIDE: tl.constexpr):
    """Where some columns are; their stride counts only if they do not lie side by side."""
    if not BESIDE:
        column = column.to(tl.int64) * stride
    return base + column


@triton.jit
def _tile(
    x_at, out_at, keep,
    k, shift, log2_l, cap, inv_cap, a, b, c, s, t, m,
    LINEAR: tl.constexpr, CURVED: tl.constexpr, SQUARE: tl.constexpr, MEAN: tl.constexpr, SOFTCAP: tl.constexpr,
    MASKED: tl.constexpr,
):  # fmt: skip
    """The derivative at some logits, into its place."""
    if MASKED:  # noqa: SIM108 - as the store below, which has no expression
        x = tl.load(x_at, mask=keep, other=float("-inf")).to(tl.float32)
    else:
        x = tl.load(x_at).to(tl.float32)
    dx = derivative(x, k, shift, log2_l, cap, inv_cap, a, b, c, s, t, m, LINEAR, CURVED, SQUARE, MEAN, SOFTCAP)
    dx = to_dtype(dx, out_at.dtype.element_ty)
    if MASKED:
        tl.store(out_at, dx, mask=keep)
    else:
        tl.store(out_at, dx)


@triton.jit
def _owned(token, first, total, before, edge, high):
    """The column of a token, counted as those of a program, and whether this program has it."""
    local = token - first - before
    return local, (local >= edge) & (local < high) & (token >= 0) & (token < total)


@triton.jit
def _zeros(out_at, low, high, stride, BESIDE: tl.constexpr, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    zero = tl.zeros((BLOCK,), out_at.dtype.element_ty)
    whole = low + tl.maximum(high - low, 0) // BLOCK * BLOCK
    for step in tl.range(low, whole, BLOCK):
        tl.store(_at(out_at, step + column, stride, BESIDE), zero)
    if whole < high:
        rest = whole + column
        tl.store(_at(out_at, rest, stride, BESIDE), zero, mask=rest < high)


@triton.jit(do_not_specialize=_VARYING)
def _backward(
    X, OUT, MASK, LABELS, IDS, SETS, OFFSETS, ROOM, INV_T, scale, k, cap, inv_cap, ignore_index,
    x_start, x_outer, x_step, x_columns, out_start, out_outer, out_step, out_columns,
    inner, row_0, parts, tiles, V, first, total, K, picks, listed,
    SHIFT, LOG2_L, LOGPROB, ENTROPY, SUM_P_SQUARED, VAR_LOGPROB, P_MAX, ARGMAX, GATHERED,
    G_LOGPROB, G_ENTROPY, G_LSE, G_SUM_P_SQUARED, G_VAR_LOGPROB, G_P_MAX, G_MEAN_LOGPROB, G_GATHERED,
    logprob_row, entropy_row, lse_row, sum_p_squared_row, var_logprob_row, p_max_row, mean_logprob_row,
    gathered_row, gathered_column,
    SOFTCAP: tl.constexpr, LAYOUT: tl.constexpr, BLOCK: tl.constexpr, SET_BLOCK: tl.constexpr, LIST: tl.constexpr,
):  # fmt: skip
    LINEAR: tl.constexpr = ENTROPY is not None
    CURVED: tl.constexpr = VAR_LOGPROB is not None
    SQUARE: tl.constexpr = SUM_P_SQUARED is not None
    MEAN: tl.constexpr = G_MEAN_LOGPROB is not None
    PICKED: tl.constexpr = G_LOGPROB is not None or G_P_MAX is not None or G_GATHERED is not None
    BESIDE: tl.constexpr = LAYOUT != STRIDED
    R: tl.constexpr = 128 // X.dtype.element_ty.primitive_bitwidth

    at = tl.program_id(0).to(tl.int64)
    part = (at % parts).to(tl.int32)
    at = at // parts
    row = row_0 + at
    x_start = row_offset(at, x_start, inner, x_outer, x_step)
    out_start = row_offset(at, out_start, inner, out_outer, out_step)

    # What flows in, and whether anything does. A NaN does.
    g_logprob = incoming(G_LOGPROB, row, logprob_row)
    g_entropy = incoming(G_ENTROPY, row, entropy_row)
    g_lse = incoming(G_LSE, row, lse_row)
    g_squares = incoming(G_SUM_P_SQUARED, row, sum_p_squared_row)
    g_var = incoming(G_VAR_LOGPROB, row, var_logprob_row)
    g_p_max = incoming(G_P_MAX, row, p_max_row)
    g_mean = incoming(G_MEAN_LOGPROB, row, mean_logprob_row)
    g_gathered = incoming(None, row, 0)
    label = row * 0 - 1
    if G_LOGPROB is not None:
        label = tl.load(LABELS + row)
        if ignore_index is not None:
            # Its log-probability is not saved, but 0.
            g_logprob = tl.where(label == ignore_index, 0.0, g_logprob)
            label = tl.where(label == ignore_index, -1, label)
    live = (g_logprob != 0) | (g_entropy != 0) | (g_lse != 0) | (g_squares != 0) | (g_var != 0)
    live = live | (g_p_max != 0) | (g_mean != 0)
    if G_GATHERED is not None:
        for j in range(0, K, LIST):
            some = j + tl.arange(0, LIST)
            g_at = G_GATHERED + row * gathered_row + some.to(tl.int64) * gathered_column
            g = tl.load(g_at, mask=some < K, other=0.0).to(tl.float32)
            live = live | (tl.max((g != 0).to(tl.int32), 0) != 0)
            g_gathered += tl.sum(g, 0)
    if MASK is not None:
        live = live & (tl.load(MASK + row) != 0)

    # Columns are counted from where 16 bytes begin: this program has those from ``edge`` to ``high``, of which steps of
    # BLOCK start at ``low``.
    low = part * tiles * BLOCK
    if LAYOUT == STRIDED:
        x_at = X + x_start
        out_at = OUT + out_start
        before = 0
    else:
        x_base = next_aligned(x_start, R)
        x_at = X + x_base
        out_at = OUT + next_aligned(out_start, R)
        before = 0
        if LAYOUT == PEELED:
            before = (x_base - x_start).to(tl.int32)
    edge = tl.where(part == 0, -before, low)
    high = tl.minimum(low + tiles * BLOCK, V - before)
    whole = low + tl.maximum(high - low, 0) // BLOCK * BLOCK
    column = tl.arange(0, BLOCK)
    ahead = tl.arange(0, R) - R
    member = tl.arange(0, SET_BLOCK)

    if live:
        if INV_T is not None:
            scale = tl.load(INV_T + row)
            k = scale * LOG2E
        shift = tl.load(SHIFT + row)
        log2_l = tl.load(LOG2_L + row)
        # Nothing has a probability in a row without a possible token.
        log2_l = tl.where(log2_l == float("-inf"), float("nan"), log2_l)
        count = total
        if SETS is not None:
            # Offsets that were not checked read nothing outside the list.
            set_low = tl.maximum(tl.load(OFFSETS + row).to(tl.int64), 0)
            set_high = tl.minimum(tl.load(OFFSETS + row + 1).to(tl.int64), listed)
            if MEAN:
                count = set_low.to(tl.int32) * 0
                for start in tl.range(set_low, set_high, SET_BLOCK):
                    token = tl.load(SETS + start + member, mask=start + member < set_high, other=-1)
                    count += tl.sum(((token >= 0) & (token < total)).to(tl.int32), 0)
        a, b, c, s, t, m, top = terms(
            row, scale, count, ENTROPY, SUM_P_SQUARED, VAR_LOGPROB, P_MAX,
            g_logprob, g_gathered, g_entropy, g_lse, g_squares, g_var, g_p_max, g_mean,
        )  # fmt: skip
        if SETS is None:
            for step in tl.range(low, whole, BLOCK):
                _tile(
                    _at(x_at, step + column, x_columns, BESIDE), _at(out_at, step + column, out_columns, BESIDE), True,
                    k, shift, log2_l, cap, inv_cap, a, b, c, s, t, m, LINEAR, CURVED, SQUARE, MEAN, SOFTCAP, False,
                )  # fmt: skip
            if whole < high:
                rest = whole + column
                _tile(
                    _at(x_at, rest, x_columns, BESIDE), _at(out_at, rest, out_columns, BESIDE), rest < high,
                    k, shift, log2_l, cap, inv_cap, a, b, c, s, t, m, LINEAR, CURVED, SQUARE, MEAN, SOFTCAP, True,
                )  # fmt: skip
            if LAYOUT == PEELED:
                _tile(
                    x_at + ahead, out_at + ahead, (ahead >= edge) & (ahead < high),
                    k, shift, log2_l, cap, inv_cap, a, b, c, s, t, m, LINEAR, CURVED, SQUARE, MEAN, SOFTCAP, True,
                )  # fmt: skip
        else:
            if ROOM is not None:
                # In place: the logits of the set are used before the row becomes zeros.
                for start in tl.range(set_low, set_high, SET_BLOCK):
                    token = tl.load(SETS + start + member, mask=start + member < set_high, other=-1).to(tl.int64)
                    local, mine = _owned(token, first, total, before, edge, high)
                    _tile(
                        _at(x_at, local, x_columns, BESIDE), ROOM + start + member, mine,
                        k, shift, log2_l, cap, inv_cap, a, b, c, s, t, m, LINEAR, CURVED, SQUARE, MEAN, SOFTCAP, True,
                    )  # fmt: skip
                tl.debug_barrier()
            _zeros(out_at, low, high, out_columns, BESIDE, BLOCK)
            if LAYOUT == PEELED:
                _zeros(out_at, edge, tl.minimum(high, 0), out_columns, BESIDE, R)
            tl.debug_barrier()
            for start in tl.range(set_low, set_high, SET_BLOCK):
                token = tl.load(SETS + start + member, mask=start + member < set_high, other=-1).to(tl.int64)
                local, mine = _owned(token, first, total, before, edge, high)
                if ROOM is not None:
                    dx = tl.load(ROOM + start + member, mask=mine, other=0.0)
                    tl.store(_at(out_at, local, out_columns, BESIDE), dx, mask=mine)
                else:
                    _tile(
                        _at(x_at, local, x_columns, BESIDE), _at(out_at, local, out_columns, BESIDE), mine,
                        k, shift, log2_l, cap, inv_cap, a, b, c, s, t, m, LINEAR, CURVED, SQUARE, MEAN, SOFTCAP, True,
                    )  # fmt: skip
        if PICKED:
            # Each of these is rounded once, and so computed anew, when the stores above are done.
            tl.debug_barrier()
            for i in range(0, picks, LIST):
                here = i + tl.arange(0, LIST)
                token, ell, spike = entry(
                    here, row, K, label, IDS, GATHERED, LOGPROB, ARGMAX, P_MAX,
                    G_GATHERED, gathered_row, gathered_column, g_logprob * scale, top, scale,
                )  # fmt: skip
                first_here = here >= 0
                if LIST > 1:
                    spike = tl.zeros_like(spike)
                    for j in range(0, picks, LIST):
                        there = j + tl.arange(0, LIST)
                        other, _, more = entry(
                            there, row, K, label, IDS, GATHERED, LOGPROB, ARGMAX, P_MAX,
                            G_GATHERED, gathered_row, gathered_column, g_logprob * scale, top, scale,
                        )  # fmt: skip
                        same = token[:, None] == other[None, :]
                        spike += tl.sum(tl.where(same, more[None, :], 0.0), 1)
                        earlier = same & (there[None, :] < here[:, None])
                        first_here = first_here & (tl.max(earlier.to(tl.int32), 1) == 0)
                dx = at_token(
                    ell, spike, a, b, c, s, t, m, shift, log2_l, k, inv_cap, LINEAR, CURVED, SQUARE, SOFTCAP
                )  # fmt: skip
                # Of those that meet at a token one writes, in the program that has its column. Where log p is NaN, the
                # row is already what it should be: NaN, and 0 outside of its set.
                local, mine = _owned(token, first, total, before, edge, high)
                out_of = _at(out_at, local, out_columns, BESIDE)
                tl.store(out_of, to_dtype(dx, OUT.dtype.element_ty), mask=mine & first_here & (ell == ell))
    else:
        _zeros(out_at, low, high, out_columns, BESIDE, BLOCK)
        if LAYOUT == PEELED:
            _zeros(out_at, edge, tl.minimum(high, 0), out_columns, BESIDE, R)

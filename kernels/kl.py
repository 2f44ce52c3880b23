r"""Exact KL divergence between two rows of logits, and its gradient: one pass over both tensors each.

With ``k = log2(e) / T``, ``d = (x - m) k`` and ``s = sum 2^d`` of the first row, ``d'`` and ``s'`` of the second::

    KL / ln 2 = sum 2^d (d - d') / s - log2 s + log2 s'

``m`` is the largest ``x`` so far in each lane of 16 bytes, ``m'`` the largest ``x'``. When they rise, by ``-dc`` and
``-dc'`` in units of ``d``, ``w = sum 2^d (d - d')`` becomes ``(w + s (dc - dc')) 2^dc``. Differences of logits come
first, so that neither an offset nor the size of the logits costs digits, and equal rows have exactly 0.
"""

import torch
import triton
import triton.language as tl

from ._config import FUSION, cdiv, launching, power_of_two
from ._online import EMPTY, LN2, LOG2E, LOWEST
from ._round import to_dtype
from ._rows import PEELED, STRIDED, next_aligned, row_offset
from ._slices import like, slices

# Stands for a logarithm of 0, where a factor of 0 must not meet infinity.
BOTTOM: tl.constexpr = tl.constexpr(-1e30)

# Lanes of a step forward. Columns of a step of the gradient, warps, and how many programs there should be at least.
LANES = 256
BLOCK, WARPS, PROGRAMS = 2048, 4, 1056

_VARYING = [f"{x}_{part}" for x in ("x", "y", "out") for part in ("start", "outer", "step", "columns")]
_VARYING += ["inner", "row_0", "parts", "tiles", "g_row"]
# One number a row is read alone: whether it lies at 16 bytes is no reason to compile again.
_VARYING += ["G", "INV_T", "KL", "RAW", "TOP", "LOG2_L", "TOP2", "LOG2_L2"]


@triton.jit
def _begin(start, LAYOUT: tl.constexpr, R: tl.constexpr):
    """Where whole loads begin."""
    if LAYOUT == STRIDED:
        return start
    else:
        return next_aligned(start, R)


@triton.jit
def _from(base, column, stride, LAYOUT: tl.constexpr):
    if LAYOUT == STRIDED:
        column = column.to(tl.int64) * stride
    return base + column


@triton.jit
def _step(m, s, m2, s2, w, far, x, y, k):
    """The state of the lanes after a tile of both rows, -inf where nothing was loaded; ``s`` and ``s2`` are the sums.

    ``far`` is the largest ``x`` whose ``y`` is -inf. If it has a probability, the divergence is infinite, else it adds
    0; its ``d'`` is replaced by something finite, so that ``w`` stays a number until that is known.
    """
    new = tl.maximum(m, tl.max(x, 1))
    new2 = tl.maximum(m2, tl.max(y, 1))
    dc = tl.maximum((m - new) * k, BOTTOM)
    dc2 = tl.maximum((m2 - new2) * k, BOTTOM)
    d = (x - new[:, None]) * k
    d2 = (y - new2[:, None]) * k
    e = tl.exp2(d)
    a = tl.exp2(dc)
    apart = tl.maximum(d, LOWEST) - tl.maximum(d2, BOTTOM)
    w = tl.fma(s, dc - dc2, w) * a + tl.sum(e * apart, 1)
    s = tl.fma(s, a, tl.sum(e, 1))
    s2 = tl.fma(s2, tl.exp2(dc2), tl.sum(tl.exp2(d2), 1))
    far = tl.maximum(far, tl.max(tl.where(y == float("-inf"), x, float("-inf")), 1))
    return new, s, new2, s2, w, far


@triton.jit(do_not_specialize=_VARYING)
def _kl_forward(
    X, Y, INV_T, k,
    x_start, x_outer, x_step, x_columns, y_start, y_outer, y_step, y_columns, inner, row_0, V,
    KL, RAW, TOP, LOG2_L, TOP2, LOG2_L2,
    LAYOUT: tl.constexpr, C: tl.constexpr, R: tl.constexpr,
):  # fmt: skip
    """KL of the softmax of a row of X from that of the row of Y."""
    RX: tl.constexpr = 128 // X.dtype.element_ty.primitive_bitwidth
    RY: tl.constexpr = 128 // Y.dtype.element_ty.primitive_bitwidth
    at = tl.program_id(0).to(tl.int64)
    row = row_0 + at
    x_start = row_offset(at, x_start, inner, x_outer, x_step)
    y_start = row_offset(at, y_start, inner, y_outer, y_step)
    if INV_T is not None:
        k = tl.load(INV_T + row) * LOG2E

    lane = tl.arange(0, C)
    off = lane[:, None] * R + tl.arange(0, R)[None, :]
    # Finite where nothing has been seen, so that the difference of two is never NaN.
    m = tl.full((C,), EMPTY, tl.float32)
    s = tl.zeros((C,), tl.float32)
    m2, s2, w, far = m, s, s, tl.full((C,), float("-inf"), tl.float32)
    x_base = _begin(x_start, LAYOUT, RX)
    n = V
    if LAYOUT == PEELED:
        # Up to the first multiple of 16 bytes each lane takes one logit. A short row may end before it.
        head = tl.minimum((x_base - x_start).to(tl.int32), V)
        n = V - head
        few = lane[:, None] < head
        few_x = tl.load(X + x_start + lane[:, None], mask=few, other=float("-inf")).to(tl.float32)
        few_y = tl.load(Y + y_start + lane[:, None], mask=few, other=float("-inf")).to(tl.float32)
        m, s, m2, s2, w, far = _step(m, s, m2, s2, w, far, few_x, few_y, k)
    x_at = X + x_base
    y_at = Y + _begin(y_start, LAYOUT, RY)
    whole = n // (C * R) * (C * R)
    for j in tl.range(0, whole, C * R):
        x = tl.load(_from(x_at, j + off, x_columns, LAYOUT)).to(tl.float32)
        y = tl.load(_from(y_at, j + off, y_columns, LAYOUT)).to(tl.float32)
        m, s, m2, s2, w, far = _step(m, s, m2, s2, w, far, x, y, k)
    if whole < n:
        rest = whole + off
        x = tl.load(_from(x_at, rest, x_columns, LAYOUT), mask=rest < n, other=float("-inf")).to(tl.float32)
        y = tl.load(_from(y_at, rest, y_columns, LAYOUT), mask=rest < n, other=float("-inf")).to(tl.float32)
        m, s, m2, s2, w, far = _step(m, s, m2, s2, w, far, x, y, k)

    top, top2 = tl.max(m, 0), tl.max(m2, 0)
    dc, dc2 = tl.maximum((m - top) * k, BOTTOM), tl.maximum((m2 - top2) * k, BOTTOM)
    a = tl.exp2(dc)
    w = tl.sum(tl.fma(s, dc - dc2, w) * a, 0)
    total, total2 = tl.sum(s * a, 0), tl.sum(s2 * tl.exp2(dc2), 0)
    log2_l, log2_l2 = tl.log2(total), tl.log2(total2)
    # The logarithm of the quotient: the difference of two logarithms has only the digits of the larger ones.
    value = LN2 * (w / total + tl.log2(total2 / total))
    infinite = tl.exp2((tl.max(far, 0) - top) * k) > 0.0
    # Added, so that NaN stays NaN.
    value += tl.where(infinite, float("inf"), 0.0)
    tl.store(KL + row, tl.where(value < 0.0, 0.0, value))
    tl.store(RAW + row, value)
    tl.store(TOP + row, top)
    tl.store(LOG2_L + row, log2_l)
    tl.store(TOP2 + row, top2)
    tl.store(LOG2_L2 + row, log2_l2)


@triton.jit
def _tile(
    x_at, y_at, out_at, keep, k, scale, top, log2_l, top2, log2_l2, value,
    REVERSE: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """The derivative at some logits, into its place. ``x`` is of p, ``y`` of q."""
    if MASKED:
        x = tl.load(x_at, mask=keep, other=float("-inf")).to(tl.float32)
        y = tl.load(y_at, mask=keep, other=float("-inf")).to(tl.float32)
    else:
        x = tl.load(x_at).to(tl.float32)
        y = tl.load(y_at).to(tl.float32)
    e = tl.fma(x - top, k, -log2_l)
    e2 = tl.fma(y - top2, k, -log2_l2)
    p = tl.exp2(e)
    if REVERSE:
        dx = p * (((tl.maximum(e, LOWEST) - tl.maximum(e2, BOTTOM)) - value) * scale)
    else:
        dx = tl.where(x == float("-inf"), 0.0, (p - tl.exp2(e2)) * scale)
    dx = to_dtype(dx, out_at.dtype.element_ty)
    if MASKED:
        tl.store(out_at, dx, mask=keep)
    else:
        tl.store(out_at, dx)


@triton.jit(do_not_specialize=_VARYING)
def _kl_backward(
    X, Y, OUT, G, INV_T, scale, k,
    x_start, x_outer, x_step, x_columns, y_start, y_outer, y_step, y_columns,
    out_start, out_outer, out_step, out_columns, inner, row_0, parts, tiles, V, g_row,
    RAW, TOP, LOG2_L, TOP2, LOG2_L2,
    REVERSE: tl.constexpr, LAYOUT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    RX: tl.constexpr = 128 // X.dtype.element_ty.primitive_bitwidth
    RY: tl.constexpr = 128 // Y.dtype.element_ty.primitive_bitwidth
    at = tl.program_id(0).to(tl.int64)
    part = (at % parts).to(tl.int32)
    at = at // parts
    row = row_0 + at
    x_start = row_offset(at, x_start, inner, x_outer, x_step)
    y_start = row_offset(at, y_start, inner, y_outer, y_step)
    out_start = row_offset(at, out_start, inner, out_outer, out_step)
    x_base = _begin(x_start, LAYOUT, RX)
    x_at = X + x_base
    y_at = Y + _begin(y_start, LAYOUT, RY)
    out_at = OUT + _begin(out_start, LAYOUT, RX)

    # Columns are counted from where 16 bytes begin: this program has those from ``edge`` to ``high``, of which steps of
    # BLOCK start at ``low``.
    before = 0
    if LAYOUT == PEELED:
        before = (x_base - x_start).to(tl.int32)
    low = part * tiles * BLOCK
    edge = tl.where(part == 0, -before, low)
    high = tl.minimum(low + tiles * BLOCK, V - before)
    whole = low + tl.maximum(high - low, 0) // BLOCK * BLOCK
    column = tl.arange(0, BLOCK)
    ahead = tl.arange(0, RX) - RX
    early = (ahead >= edge) & (ahead < high)
    rest = whole + column

    g = tl.load(G + row * g_row).to(tl.float32)
    if g != 0.0:
        if INV_T is not None:
            scale = tl.load(INV_T + row)
            k = scale * LOG2E
        scale = scale * g
        if REVERSE:
            scale *= LN2
        top, log2_l = tl.load(TOP + row), tl.load(LOG2_L + row)
        top2, log2_l2 = tl.load(TOP2 + row), tl.load(LOG2_L2 + row)
        value = tl.load(RAW + row) * LOG2E
        # There is no derivative of infinity.
        value = tl.where(value == float("inf"), float("nan"), value)
        for j in tl.range(low, whole, BLOCK):
            _tile(
                _from(x_at, j + column, x_columns, LAYOUT), _from(y_at, j + column, y_columns, LAYOUT),
                _from(out_at, j + column, out_columns, LAYOUT), True,
                k, scale, top, log2_l, top2, log2_l2, value, REVERSE, False,
            )  # fmt: skip
        if whole < high:
            _tile(
                _from(x_at, rest, x_columns, LAYOUT), _from(y_at, rest, y_columns, LAYOUT),
                _from(out_at, rest, out_columns, LAYOUT), rest < high,
                k, scale, top, log2_l, top2, log2_l2, value, REVERSE, True,
            )  # fmt: skip
        if LAYOUT == PEELED:
            _tile(
                x_at + ahead, y_at + ahead, out_at + ahead, early,
                k, scale, top, log2_l, top2, log2_l2, value, REVERSE, True,
            )  # fmt: skip
    else:
        zero = tl.zeros((BLOCK,), OUT.dtype.element_ty)
        for j in tl.range(low, whole, BLOCK):
            tl.store(_from(out_at, j + column, out_columns, LAYOUT), zero)
        tl.store(_from(out_at, rest, out_columns, LAYOUT), zero, mask=rest < high)
        if LAYOUT == PEELED:
            tl.store(out_at + ahead, tl.zeros((RX,), OUT.dtype.element_ty), mask=early)


def forward(
    logits: torch.Tensor,
    ref_logits: torch.Tensor,
    *,
    inv_temperature: float | torch.Tensor,
    reverse: bool,
    lanes: int | None = None,
) -> dict[str, torch.Tensor]:
    r"""KL divergence of each row, ``KL(p || q)`` if ``reverse`` else ``KL(q || p)``.

    ::

        p = softmax(logits / T)      q = softmax(ref_logits / T)      KL(p || q) = sum p_j log(p_j / q_j)

    Args:
        logits: ``[..., V]`` of any strides, bfloat16, float16 or float32.
        ref_logits: of the same shape; the dtype may be another one of these.
        inv_temperature: ``1 / T``, a number or float32 ``[N]``.
        reverse: the direction.
        lanes: how many running sums there are in a row; its last bits depend on that and on V, not on other rows.

    Returns:
        A dict of float32 ``[N]``: "kl", at least 0, and what :func:`backward` needs.

    A token with logit -inf in both adds 0. One that is possible only in the first distribution makes it infinite,
    unless its probability there is 0 in float32. A row of -inf alone, or with NaN or +inf, gives NaN.
    """
    rows, vocab = logits.shape[:-1].numel(), logits.shape[-1]
    assert ref_logits.shape == logits.shape
    names = ("kl", "raw", "top", "log2_l", "ref_top", "ref_log2_l")
    made = dict(zip(names, torch.empty(6, rows, dtype=torch.float32, device=logits.device).unbind(), strict=True))
    if rows == 0:
        return made
    mine, other = [made["top"], made["log2_l"]], [made["ref_top"], made["ref_log2_l"]]
    pair = [logits.detach(), ref_logits.detach()]
    if not reverse:
        mine, other, pair = other, mine, pair[::-1]
    per_row = inv_temperature if isinstance(inv_temperature, torch.Tensor) else None
    k = 1.0 if isinstance(inv_temperature, torch.Tensor) else inv_temperature * LOG2E.value
    widest = 16 // min(x.element_size() for x in pair)
    with launching(logits.device):
        for piece in slices(*pair):
            (x, *x_place), (y, *y_place) = piece.views
            # A lane takes what one load brings,
            vector = 1 if piece.layout == STRIDED.value else widest
            # and all before the first 16 bytes find one.
            many = min(LANES, max(32, power_of_two(cdiv(vocab, vector)))) if lanes is None else lanes
            _kl_forward[(piece.rows,)](
                x, y, per_row, k, *x_place, *y_place, piece.inner, piece.first, vocab,
                made["kl"], made["raw"], *mine, *other,
                LAYOUT=piece.layout, C=many, R=vector, num_warps=max(1, many // 64), **FUSION,
            )  # fmt: skip
    return made


def backward(
    logits: torch.Tensor,
    ref_logits: torch.Tensor,
    saved: dict[str, torch.Tensor],
    grad: torch.Tensor,
    *,
    inv_temperature: float | torch.Tensor,
    reverse: bool,
    out: torch.Tensor | None = None,
    block: int | None = None,
    parts: int | None = None,
) -> torch.Tensor:
    r"""The gradient for ``logits``, in their dtype, rounded once.

    ::

        reverse  p_j (log p_j - log q_j - KL) g / T        forward  (p_j - q_j) g / T

    Args:
        logits: as in :func:`forward`.
        ref_logits: as in :func:`forward`.
        saved: what :func:`forward` returned.
        grad: what flows in, ``[N]`` of any stride.
        inv_temperature: as in :func:`forward`.
        reverse: as in :func:`forward`.
        out: room for the result, of any strides; ``logits`` itself is legal.
        block: columns of a step.
        parts: among how many programs a row is shared out; no bit depends on it.

    Returns:
        ``out``; a new one is laid out as that of the gradient of the row statistics.

    A row into which 0 flows gets exactly 0 and is not read. Where the divergence is infinite the reverse gradient is
    NaN, and the forward one ``p_j - q_j``, but 0 for logits of -inf.
    """
    if out is None:
        out = like(logits)
    rows, vocab = logits.shape[:-1].numel(), logits.shape[-1]
    assert out.shape == logits.shape == ref_logits.shape
    assert out.dtype == logits.dtype
    assert grad.shape == (rows,)
    if rows == 0:
        return out
    if block is None:
        block = min(BLOCK, max(32, power_of_two(vocab)))
    cells = cdiv(vocab, block)
    if parts is None:
        parts = cdiv(PROGRAMS, rows) if logits.is_cuda else 1
    parts = min(parts, cells)
    per_row = inv_temperature if isinstance(inv_temperature, torch.Tensor) else None
    scale = 1.0 if isinstance(inv_temperature, torch.Tensor) else float(inv_temperature)
    kept = [saved[name] for name in ("raw", "top", "log2_l", "ref_top", "ref_log2_l")]
    with launching(logits.device):
        for piece in slices(logits.detach(), ref_logits.detach(), out.detach()):
            (x, *x_place), (y, *y_place), (z, *z_place) = piece.views
            _kl_backward[(piece.rows * parts,)](
                x, y, z, grad, per_row, scale, scale * LOG2E.value, *x_place, *y_place, *z_place,
                piece.inner, piece.first, parts, cdiv(cells, parts), vocab, grad.stride(0), *kept,
                REVERSE=reverse, LAYOUT=piece.layout, BLOCK=block, num_warps=max(1, min(WARPS, block // 512)), **FUSION,
            )  # fmt: skip
    return out

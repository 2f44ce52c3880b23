"""Softmax statistics of rows of logits: one pass, any strides, float32 results; parts of rows merge."""

import math
from collections.abc import Sequence

import torch

from ._config import FUSION, Config, cdiv, config_of, launching, parts_of, power_of_two
from ._merge_kernel import merge_kernel
from ._row_kernel import row_kernel
from ._rows import STRIDED
from ._set_kernel import set_kernel
from ._slices import slices

#: What :func:`forward` can be asked for.
NAMES = (
    "logprob",
    "entropy",
    "lse",
    "sum_p_squared",
    "var_logprob",
    "p_max",
    "argmax",
    "mean_logprob",
    "gathered",
)
#: The columns of :func:`partials`, then one for each of ``ids``. With ``d = x k - shift`` in bits and ``e = 2^d``: the
#: shift, sum e, sum e d, sum e^2, sum e (d - w / l)^2, sum d, the first token of the largest logit, the label's logit
#: minus the largest one, over T, in nats (-inf if the label is elsewhere; ``ids`` likewise), d of the largest logit (0
#: up to the rounding of the shift), and how many logits there are.
PARTIALS = ("shift", "l", "w", "s2", "v", "sum", "argmax", "label", "top", "count")

# What the gradient of an output needs besides the output itself.
_FOR_BACKWARD = {"var_logprob": ("entropy",), "p_max": ("argmax",)}


def forward(
    logits: torch.Tensor,
    labels: torch.Tensor | None,
    *,
    outputs: Sequence[str],
    inv_temperature: float | torch.Tensor,
    softcap: float | None = None,
    mask: torch.Tensor | None = None,
    ignore_index: int | None = None,
    ids: torch.Tensor | None = None,
    allowed: tuple[torch.Tensor, torch.Tensor] | None = None,
    first: int = 0,
    total: int | None = None,
    split: int | None = 1,
    config: Config | None = None,
) -> dict[str, torch.Tensor]:
    r"""Statistics of ``p = softmax(x / T)`` for each row ``x``, in float32.

    ::

        logprob        log p_label                        p_max         max p
        entropy        H = -sum p log p                   argmax        its token, the first of ties
        lse            log sum exp(x / T)                 mean_logprob  mean over the tokens of log p
        sum_p_squared  sum p^2                            gathered      log p of ids [N, K]
        var_logprob    sum p (log p + H)^2

    Args:
        logits: ``[..., V]`` of any strides, bfloat16, float16 or float32; N rows, flat. Never copied.
        labels: int64 ``[N]``, contiguous, or None. Ids of the whole vocabulary.
        outputs: names from :data:`NAMES`.
        inv_temperature: ``1 / T``, a number or float32 ``[N]``.
        softcap: ``c``; logits become ``c tanh(x / c)`` before the temperature. Infinities stay.
        mask: bool ``[N]``; rows with False are not read and get 0 everywhere.
        ignore_index: a label whose rows get logprob 0.
        ids: int64 ``[N, K]``, contiguous, read for "gathered" only.
        allowed: ``(ids, offsets)``: the tokens of row i are ``ids[offsets[i]:offsets[i + 1]]``, in any order and each
            once; all outputs are those of the distribution over these alone.
        first: the token of column 0.
        total: the size of the vocabulary, ``first + V`` if not given; columns beyond it are no tokens and not read.
        split: into how many parts of whole tiles a row is cut, each a program of its own. 1 never cuts; None decides by
            the number of rows, their length and the device (:func:`rollmath.kernels._config.parts_of`).
        config: sizes of the launch.

    Returns:
        A dict of float32 ``[N]`` (argmax int64, gathered ``[N, K]``): the outputs, "shift" and "log2_l" (``log2`` of
        ``sum 2^d``), and what the gradient of the outputs needs.

    Edge cases:
        A label or id outside ``[0, total)`` gives NaN and is never read; one whose logit is -inf, is not in this shard
        or not in the set of its row gives -inf. A row of -inf alone, or an empty set, gives NaN (lse -inf, argmax 0 or
        the first token). NaN and +inf make all of their row NaN (argmax some token). Under a soft cap logits tie whose
        capped values are the same float32. A logit whose ``x log2(e) / T`` is beyond float32 counts as infinite.

    Which bits depend on what: those of a row depend on its logits, the options, the outputs asked for, the dtype, V,
    ``split``, the config, the column stride and where the row begins (modulo 16 bytes), and on nothing else: not on the
    other rows nor on their order.
    So a row has the bits in a batch that it has alone. With ``split=None``, which keeps a device busy where rows are
    few, the number of rows decides about the split, and the last bits may differ.
    """
    ids = ids if "gathered" in outputs else None
    rows = _count(logits)
    made = _allocate(outputs, rows, ids, logits.device)
    options = (mask, ignore_index, ids, rows, logits.shape[-1] + first if total is None else total)
    parts = 1 if allowed is not None else _parts(split, rows, logits)
    if parts == 1:
        _launch(logits, labels, outputs, inv_temperature, softcap, allowed, first, options, made, None, 1, config)
        return made
    partial = _partial_buffer(parts, rows, ids, logits.device)
    _launch(logits, labels, outputs, inv_temperature, softcap, None, first, options, made, partial, parts, config)
    _merge(partial, labels, options, made, None)
    return made


def partials(
    logits: torch.Tensor,
    labels: torch.Tensor | None,
    *,
    outputs: Sequence[str],
    inv_temperature: float | torch.Tensor,
    softcap: float | None = None,
    mask: torch.Tensor | None = None,
    ignore_index: int | None = None,
    ids: torch.Tensor | None = None,
    allowed: tuple[torch.Tensor, torch.Tensor] | None = None,
    first: int = 0,
    total: int | None = None,
    split: int | None = 1,
    config: Config | None = None,
) -> torch.Tensor:
    """What :func:`merge` needs of a shard or chunk of the vocabulary: float32 ``[N, len(PARTIALS) + K]``.

    The arguments are those of :func:`forward`; ``outputs`` are those that will be merged, and columns that none of them
    needs mean nothing. Token ids are exact up to 2^24.
    """
    rows = _count(logits)
    options = (mask, ignore_index, ids, rows, logits.shape[-1] + first if total is None else total)
    parts = 1 if allowed is not None else _parts(split, rows, logits)
    partial = _partial_buffer(parts, rows, ids, logits.device)
    _launch(logits, labels, outputs, inv_temperature, softcap, allowed, first, options, {}, partial, parts, config)
    if parts == 1:
        return partial[0]
    merged = torch.empty_like(partial[0])
    _merge(partial, labels, options, {}, merged)
    return merged


def merge(
    partials: torch.Tensor,
    labels: torch.Tensor | None,
    *,
    outputs: Sequence[str],
    total: int,
    mask: torch.Tensor | None = None,
    ignore_index: int | None = None,
    ids: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """The dict of :func:`forward` from ``partials [S, N, P]`` of S shards or chunks, in their order.

    With ``c`` the largest shift and ``a_i = 2^(c_i - c)``, and ``mu_i = w_i / l_i + c_i - c``::

        l = sum a_i l_i     w = sum a_i l_i mu_i     s2 = sum a_i^2 s2_i     v = sum a_i (v_i + l_i (mu_i - w / l)^2)

    A shard without a possible token changes no bit.
    """
    ids = ids if "gathered" in outputs else None
    rows = partials.shape[1]
    made = _allocate(outputs, rows, ids, partials.device)
    _merge(partials.contiguous(), labels, (mask, ignore_index, ids, rows, total), made, None)
    return made


def _count(logits: torch.Tensor) -> int:
    return math.prod(logits.shape[:-1])


def _parts(split: int | None, rows: int, logits: torch.Tensor) -> int:
    return parts_of(rows, logits.shape[-1], logits.device) if split is None else split


def _wanted(outputs: Sequence[str]) -> tuple[str, ...]:
    asked = {*outputs, "shift", "log2_l"}
    for name in outputs:
        asked.update(_FOR_BACKWARD.get(name, ()))
    return tuple(name for name in (*NAMES, "shift", "log2_l") if name in asked)


def _allocate(
    outputs: Sequence[str], rows: int, ids: torch.Tensor | None, device: torch.device
) -> dict[str, torch.Tensor]:
    made = {}
    for name in _wanted(outputs):
        shape = (rows, ids.shape[1]) if name == "gathered" and ids is not None else (rows,)
        made[name] = torch.empty(shape, dtype=torch.int64 if name == "argmax" else torch.float32, device=device)
    return made


def _partial_buffer(parts: int, rows: int, ids: torch.Tensor | None, device: torch.device) -> torch.Tensor:
    columns = len(PARTIALS) + (0 if ids is None else ids.shape[1])
    return torch.empty((parts, rows, columns), dtype=torch.float32, device=device)


def _pointers(made: dict[str, torch.Tensor]) -> tuple[torch.Tensor | None, ...]:
    return tuple(made.get(name) for name in (*NAMES, "shift", "log2_l"))


def _launch(
    logits: torch.Tensor,
    labels: torch.Tensor | None,
    outputs: Sequence[str],
    inv_temperature: float | torch.Tensor,
    softcap: float | None,
    allowed: tuple[torch.Tensor, torch.Tensor] | None,
    first: int,
    options: tuple[torch.Tensor | None, int | None, torch.Tensor | None, int, int],
    made: dict[str, torch.Tensor],
    partial: torch.Tensor | None,
    parts: int,
    config: Config | None,
) -> None:
    mask, ignore, ids, count, total = options
    # Columns from `total` on are padding of the last shard.
    vocab = max(0, min(logits.shape[-1], total - first))
    per_row = inv_temperature if isinstance(inv_temperature, torch.Tensor) else None
    for x in (labels, mask, ids, per_row):
        assert x is None or (x.shape[0] == count and x.is_contiguous() and x.device == logits.device)
    assert allowed is None or (allowed[1].shape == (count + 1,) and all(x.is_contiguous() for x in allowed))
    inv_t = 0.0 if isinstance(inv_temperature, torch.Tensor) else float(inv_temperature)
    cap = 1.0 if softcap is None else float(softcap)
    numbers = inv_t * math.log2(math.e), inv_t, cap, 1.0 / cap
    wanted = _wanted(outputs)
    want = {
        "WANT_ENTROPY": "entropy" in wanted,
        "WANT_SQUARES": "sum_p_squared" in wanted,
        "WANT_VARIANCE": "var_logprob" in wanted,
        "WANT_TOTAL": "mean_logprob" in wanted,
        "CAPPED": softcap is not None,
    }
    given = labels, ids, None if mask is None else mask.view(torch.uint8), per_row
    limits = first, total, ignore, 0 if ids is None else ids.shape[1]
    results = *_pointers(made if partial is None else {}), partial, 0 if partial is None else partial.shape[-1]
    room = 1 if ids is None else min(128, power_of_two(ids.shape[1]))
    with launching(logits.device):
        for piece in slices(logits.detach()[..., :vocab]):
            (view,) = piece.views
            place = piece.first, view.start, piece.inner, view.outer, view.step, view.columns, vocab
            if allowed is not None:
                lanes, warps = (128, 4) if config is None else config[:2]
                set_kernel[(piece.rows,)](
                    view.tensor, *given, *allowed, *numbers, *place, allowed[0].numel(), *limits, *results, **want,
                    C=lanes, R=4, KB=min(room, 16), num_warps=warps, **FUSION,
                )  # fmt: skip
                continue
            # 64-bit addresses of eight elements a lane would not fit in the registers.
            vector = 1 if piece.layout == STRIDED.value else view.lanes
            chosen = config_of(vocab, vector) if config is None else config
            # What comes before the first aligned load has one lane for each logit.
            assert chosen.lanes >= vector
            tiles = cdiv(vocab, chosen.lanes * vector)
            row_kernel[(piece.rows * parts,)](
                view.tensor, *given, *numbers, *place, cdiv(tiles, parts), parts, count, *limits, *results,
                **want, WANT_ARGMAX="argmax" in wanted, LAYOUT=piece.layout, C=chosen.lanes, R=vector, KB=room,
                STAGES=chosen.stages, num_warps=chosen.warps, **FUSION,
            )  # fmt: skip


def _merge(
    partial: torch.Tensor,
    labels: torch.Tensor | None,
    options: tuple[torch.Tensor | None, int | None, torch.Tensor | None, int, int],
    made: dict[str, torch.Tensor],
    merged: torch.Tensor | None,
) -> None:
    mask, ignore, ids, rows, total = options
    if rows == 0:
        return
    parts, _, columns = partial.shape
    room = power_of_two(parts)
    block = max(1, min(64, 512 // room))
    with launching(partial.device):
        merge_kernel[(cdiv(rows, block),)](
            partial,
            labels,
            ids,
            None if mask is None else mask.view(torch.uint8),
            rows,
            parts,
            columns,
            total,
            ignore,
            0 if ids is None else ids.shape[1],
            *_pointers(made),
            merged,
            RB=block,
            SB=room,
            num_warps=2,
            **FUSION,
        )

"""Tokens at random, the same in every split."""

from __future__ import annotations

from typing import Any

import numpy as np

from rollmath import _core
from rollmath._arrays import ArrayLike, Kind, choice, integers, is_tensor
from rollmath._checks import whole
from rollmath._token_rows import lengths_only
from rollmath.ragged import Ragged
from rollmath.rows import Rows
from rollmath.select import _token_device as device
from rollmath.select._token_inputs import TokenBatch, Wanted, wanted
from rollmath.select._token_search import BINS, DIGIT, _chosen
from rollmath.select._token_top import Scope, TokenSelection


def random_tokens(
    rows: Rows | ArrayLike,
    *,
    share: float | None = None,
    count: int | None = None,
    least: int = 0,
    seed: int,
    mask: ArrayLike | Ragged | None = None,
    scope: Scope = "all",
    uid: Any = None,
) -> TokenSelection:
    """Tokens drawn without replacement: the k lowest ``u_t = hash(row, position, seed)``, ``k = floor(share n)``.

    The random number of a token depends on the id of its row, its position in it and the seed alone: not on the order
    of the rows, on other rows, or on the platform.

    Args:
        rows: :class:`~rollmath.Rows`, whose mask says which tokens are trained and whose ids are rollout and segment;
            or the lengths of the rows, ints ``[rows]``.
        share: of the trained tokens, in [0, 1]; or
        count: how many, at least 1; all if there are fewer.
        least: with ``share``, how many at least.
        seed: a whole number of at least 0; use another in every step.
        mask: with lengths, trained tokens, a Ragged with these lengths or flat.
        scope: ``"all"``, k of all tokens; ``"row"``, k of each row.
        uid: with lengths, one id a row, all different; default the number of the row, which depends on the order.

    Returns:
        A :class:`TokenSelection` whose mask is a Ragged of bools, for :meth:`rollmath.Rows.keep`. ``threshold`` is the
        highest random number drawn, in (0, 1), or 0.

    Edge cases: k = 0 draws nothing. Of a step in parts, ``count`` or ``share`` of all tokens: a
    :class:`TokenSearch` of equal scores with ``ties="exact"``, which takes those of the lowest hash.

    Raises:
        ValueError: an option out of range; shapes that do not fit; an id twice.
        TypeError: wrong types.

    Source: ours; hashing with splitmix64 (public domain).

    >>> rows = Rows(["a", "b"], [3, 2])
    >>> chosen = random_tokens(rows, count=2, seed=1)
    >>> chosen.mask.to_lists(), rows.keep(chosen.mask).trained.tolist()
    ([[False, False, True], [False, True]], [1, 1])
    """
    who = "random_tokens"
    want = wanted(who, share, count, least)
    word = whole(who, "seed", seed, least=0)
    choice(who, "scope", scope, ("all", "row"))
    if isinstance(rows, Rows):
        for name, given in (("mask", mask), ("uid", uid)):
            if given is not None:
                msg = f"{who}(): {name!r} goes with lengths; Rows have their own"
                raise ValueError(msg)
        like = lengths_only(who, rows.lengths)
        mask, uid = rows.mask, rows
    else:
        like = lengths_only(who, integers(who, "rows", rows)[0])
        like = like.like_kind(Kind(rows.device) if is_tensor(rows) else Kind())
    like = like if mask is None else like.masked(mask)
    return drawn(TokenBatch(who, "rows", like, None, uid, None), want, seed=word, scope=scope)


def drawn(batch: TokenBatch, want: Wanted, *, seed: int, scope: Scope = "all", n: Any = None) -> TokenSelection:
    """Some of the tokens of a batch at random; ``n`` of a share, if it is not their number."""
    if batch.on_device:
        return _on_device(batch, want, seed, n)
    if n is not None:
        want = None, _chosen(want, n), 0
    rows = batch.host
    out = np.empty(rows.layout.total, np.uint8)
    found = _core.token_random(batch.who, rows.layout, rows.mask, want, scope == "row", batch.words(seed), out)
    highest = np.where(found[1] > 0, found[0], 0.0), *found[1:]
    return TokenSelection(batch.result(out), *(batch.number(one if scope == "row" else one[0]) for one in highest))


def _on_device(batch: TokenBatch, want: Wanted, seed: int, n: Any) -> TokenSelection:
    """By digits of the hashes."""
    torch, key, seen = batch.device.torch, device.hashes(batch, seed), batch.trained
    total = seen.sum()
    k = torch.minimum(device.wanted_of(want, total if n is None else n), total)
    left, prefix = k, torch.zeros_like(k)
    for above in range(0, 64, DIGIT):
        width = min(DIGIT, 64 - above)
        counts = device.counts(key, seen, prefix, 64 - above - width, width, BINS)[: 1 << width]
        at, left, _ = device.digit(counts, left)
        prefix = prefix << width | at
    mask = seen & (device.ordered(key, 64) >= device.ordered(prefix, 64)) & (k > 0)
    unit = (device.shifted(~prefix, 12).double() + 0.5) * 2.0**-52
    return TokenSelection(batch.result(mask), torch.where(k > 0, unit, 0.0), mask.sum(), total)

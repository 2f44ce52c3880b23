"""Thresholds of tokens that are on a device: torch alone, and nothing that waits for the device."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rollmath.select._token_inputs import TokenBatch, Wanted

if TYPE_CHECKING:
    import torch

_LOW = -(1 << 63)
_GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)
#: Most copies of each count: additions to one place wait for one another, and many scores begin with the same digit.
_COPIES = 32


def keys(batch: TokenBatch, *, largest: bool) -> Any:
    """Integers that order as the scores do, unsigned, as int64."""
    torch = batch.device.torch
    x = batch.scores if largest else -batch.scores
    # A zero has no sign.
    x = x + 0.0
    if x.dtype == torch.float64:
        bits = x.view(torch.int64)
        return bits ^ ((bits >> 63) | _LOW)
    bits = x.view(torch.int32).to(torch.int64)
    return (bits ^ ((bits >> 63) | 0x80000000)) & 0xFFFFFFFF


def hashes(batch: TokenBatch, seed: int) -> torch.Tensor:
    """A random word of each token, complemented, so that the highest are the lowest; unsigned, as int64."""
    torch = batch.device.torch
    words, positions = batch.words(seed)
    row_of = batch.row_of
    places = torch.arange(len(row_of), device=row_of.device) - batch.starts[row_of]
    at = places if positions is None else batch.moved(positions)
    return ~_mixed(batch.moved(words)[row_of] + (at + 1) * _GAMMA)


def _mixed(z: torch.Tensor) -> torch.Tensor:
    """The finaliser of splitmix64 on int64, whose products wrap."""
    z = (z ^ shifted(z, 30)) * (0xBF58476D1CE4E5B9 - (1 << 64))
    z = (z ^ shifted(z, 27)) * (0x94D049BB133111EB - (1 << 64))
    return z ^ shifted(z, 31)


def shifted(x: torch.Tensor, by: int) -> torch.Tensor:
    """To the right, with zeros from the left."""
    return x if by == 0 else (x >> by) & ((1 << (64 - by)) - 1)


def counts(key: torch.Tensor, seen: torch.Tensor, prefix: Any, shift: int, width: int, bins: int) -> Any:
    """How many of the keys seen, that begin with the prefix, have which digit; int64 ``[bins]``."""
    torch = importlib.import_module("torch")
    digits = shifted(key, shift)
    if shift + width < 64:
        seen = seen & (shifted(digits, width) == prefix)
    digit = digits & ((1 << width) - 1)
    copies = min(_COPIES, 1 + (len(key) >> 14))
    if copies > 1:
        digit = torch.arange(len(key), device=key.device) % copies * bins + digit
    sums = torch.zeros(copies * bins, dtype=torch.int64, device=key.device)
    sums.scatter_add_(0, digit, seen.to(torch.int64))
    return sums.view(copies, bins).sum(0)


def digit(counts: torch.Tensor, left: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The digit of the key that is the ``left``-th highest, how many of those with it are wanted, and there."""
    below = counts.flip(0).cumsum(0)
    size = len(counts)
    # Counts of other tokens than in the rounds before may add up to less; what is found is then wrong, but in range.
    i = (below < left).sum().clamp(max=size - 1)
    at = size - 1 - i
    equal = counts.gather(0, at[None])[0]
    return at, left - (below.gather(0, i[None])[0] - equal), equal


def at(x: Any, batch: TokenBatch) -> Any:
    """A number of the search where the tokens are."""
    if isinstance(x, int):
        return x if x < 1 << 63 else x - (1 << 64)
    return x.to(batch.device.device, non_blocking=True)


def number_of(key: torch.Tensor, k: torch.Tensor, bits: int, *, largest: bool) -> Any:
    """The score of a key, 0-d; infinite if nothing is chosen."""
    torch = importlib.import_module("torch")
    if bits == 64:
        x = (key ^ torch.where(key < 0, _LOW, -1)).view(torch.float64)
    else:
        word = key ^ torch.where(key >= 0x80000000, 0x80000000, 0xFFFFFFFF)
        x = torch.where(word >= 0x80000000, word - (1 << 32), word).to(torch.int32).view(torch.float32)
    found = torch.where(k > 0, x, float("inf"))
    return (found if largest else -found) + 0.0


def ordered(x: Any, bits: int) -> Any:
    """Unsigned keys as numbers that int64 orders."""
    return x ^ _LOW if bits == 64 else x


def wanted_of(want: Wanted, n: torch.Tensor) -> Any:
    """How many to choose of ``n``, int64 where ``n`` is."""
    torch = importlib.import_module("torch")
    share, count, least = want
    if share is None:
        return n.clamp(max=count)
    product = n.to(torch.float64) * share
    near = product.round()
    # Not n times a float, which is of the default type of torch.
    whole = (product - near).abs() <= n.to(torch.float64) * 2.0**-51
    k = torch.where(whole, near, product.floor()).to(torch.int64)
    return torch.minimum(k.clamp(min=least), n)


def mean(x: torch.Tensor, seen: torch.Tensor) -> Any:
    """Of the numbers seen, float64; exactly the common value if all are equal."""
    torch = importlib.import_module("torch")
    if not len(x):
        return x.new_zeros(())
    low, high = torch.where(seen, x, float("inf")).amin(), torch.where(seen, x, float("-inf")).amax()
    average = torch.where(seen, x, 0.0).sum() / seen.sum()
    return torch.where(low == high, low, average)


def top_of_rows(
    batch: TokenBatch, want: Wanted, *, largest: bool, seed: int | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mask, thresholds, kept and total of each row, by sorting; ties by hash if there is a seed, else all of them."""
    torch, rows = batch.device.torch, batch.device
    key = ordered(keys(batch, largest=largest), 64 if batch.scores.dtype == torch.float64 else 32)
    # Below every key.
    key = torch.where(batch.trained, key, _LOW)
    row_of, n = batch.row_of, torch.zeros(rows.rows, dtype=torch.int64, device=rows.device)
    total = n.scatter_add(0, row_of, batch.trained.to(torch.int64))
    k = wanted_of(want, total)
    order = torch.arange(len(key), device=rows.device)
    steps = [] if seed is None else [ordered(hashes(batch, seed), 64)]
    for column in (*steps, key):
        order = order[torch.argsort(column[order], descending=True, stable=True)]
    order = order[torch.argsort(row_of[order], stable=True)]
    far = batch.scores.new_full((rows.rows,), float("inf") if largest else float("-inf"))
    if not len(key):
        return batch.trained, far, total, total
    # Where an empty row ends the batch any place will do: k is 0 there.
    at = order[(batch.starts + k - 1).clamp(min=0, max=len(key) - 1)]
    threshold = torch.where(k > 0, batch.scores[at] + 0.0, far)
    if seed is None:
        mask = batch.trained & (key >= key[at][row_of]) & (k > 0)[row_of]
    else:
        place = torch.empty_like(order)
        place[order] = torch.arange(len(key), device=rows.device)
        mask = place - batch.starts[row_of] < k[row_of]
    kept = torch.zeros_like(total).scatter_add(0, row_of, mask.to(torch.int64))
    return mask, threshold, kept, total

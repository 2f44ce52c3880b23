"""The threshold of the tokens of all ranks: counts travel, no tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import distributed

from rollmath._arrays import describe, is_tensor
from rollmath.distributed._exchange import _device, _place, exchange
from rollmath.ragged import Ragged
from rollmath.select._token_inputs import TokenBatch, wanted
from rollmath.select._token_search import BINS, Dtype, Ties, TokenSearch

if TYPE_CHECKING:
    from numpy.typing import NDArray

_COLUMNS = ("scores", "mask", "lengths", "uid")


def token_search(
    parts: Sequence[Any],
    *,
    share: float | None = None,
    count: int | None = None,
    least: int = 0,
    largest: bool = True,
    ties: Ties = "all",
    seed: int = 0,
    dtype: Dtype = "float32",
    group: Any = None,
) -> TokenSearch:
    """The finished :class:`rollmath.select.TokenSearch` of the tokens of all micro-batches and ranks.

    Its ``mask(scores, ...)`` of each micro-batch is the part of the mask that one process with all tokens would get,
    bit for bit, however they are spread::

        search = token_search([{"scores": x, "mask": m} for x, m in micro_batches], share=0.2)
        masks = [search.mask(x, mask=m) for x, m in micro_batches]

    One ``all_gather`` compares options and tells all ranks of errors, as in :func:`gather`; then each round is one
    ``all_reduce`` of 2049 integers (16 KiB): 3 rounds for float32, 6 for float64, 6 more for ``ties="exact"``.
    Counts of CUDA tensors stay on the device where the process group communicates from there (NCCL) or there is one
    process; with several, the device is waited for once, after the last round.

    Args:
        parts: the micro-batches of this rank, any number: token arrays, or mappings with ``"scores"`` and optional
            ``"mask"``, ``"lengths"`` and ``"uid"``, which are what :meth:`rollmath.select.TokenSearch.count` takes.
        share: of the trained tokens of all ranks, in [0, 1]; or
        count: how many of all ranks.
        least: with ``share``, how many at least.
        largest: False takes the lowest scores.
        ties: ``"all"`` keeps every token at the threshold, ``"exact"`` exactly k, which needs ``"uid"`` in each part;
            ids are distinct over all parts and ranks.
        seed: of the choice among ties.
        dtype: of the scores.
        group: the process group, as in :func:`gather`.

    Returns:
        The search; ``threshold``, ``kept`` and ``total`` are tensors, of all ranks.

    Raises:
        ValueError: what the search raises, on all ranks; other options on some ranks; an id twice.
        TypeError: the same.

    >>> parts = [np.array([0.1, 2.0, 0.2], np.float32), {"scores": torch.tensor([[0.3, 1.5]]), "lengths": [2]}]
    >>> search = token_search(parts, share=0.4)
    >>> int(search.kept), float(search.threshold), search.mask(parts[0]).tolist()
    (2, 1.5, [False, True, False])
    """
    who = "token_search"
    own: list[TokenBatch] = []
    options = {"share": share, "count": count, "least": least, "largest": largest, "ties": ties, "seed": seed}
    searches: list[TokenSearch] = []
    firsts: list[torch.Tensor] = []
    world, _ = _place(who, group)

    def make() -> NDArray[np.uint64]:
        """All that may fail on one rank: inputs, and the first counts, which look at every score."""
        search = TokenSearch._of(who, wanted(who, share, count, least), largest, ties, seed, dtype)
        own.extend(_batches(who, parts, ties))
        for batch in own:
            search._check(batch)
        searches.append(search)
        firsts.append(_counts(search, own, _home(own, world, group)))
        keys = [batch.uids.keys for batch in own] if ties == "exact" else []
        return np.concatenate([np.zeros(0, np.uint64), *keys])

    found = exchange(who, make, group, options | {"dtype": dtype})
    keys = np.concatenate(found.parts)
    if len(np.unique(keys)) < len(keys):
        msg = f"{who}(): 'uid' must name each row once over all parts and ranks, but an id comes twice"
        raise ValueError(msg)
    (search,), (counts,) = searches, firsts
    failed: BaseException | None = None
    failures = counts.new_zeros(())
    for number in range(search.rounds):
        if number and failed is None:
            try:
                counts = _counts(search, own, counts.device)
            except Exception as error:  # the others wait for this rank, and hear of it after the last round
                failed = error
        # The last number says how many ranks have failed.
        sent = torch.cat([counts, counts.new_full((1,), int(failed is not None))])
        if world > 1:
            distributed.all_reduce(sent, group=group)
        search, failures = search.narrow(sent[:BINS]), failures + sent[BINS]
        counts = torch.zeros_like(counts)
    if failed is not None or (world > 1 and int(failures)):
        exchange(who, lambda: _again(failed), group)
    return search


def _again(failed: BaseException | None) -> None:
    if failed is not None:
        raise failed


def _batches(who: str, parts: Any, ties: str) -> list[TokenBatch]:
    if is_tensor(parts) or isinstance(parts, (np.ndarray, Ragged, Mapping, str)) or not isinstance(parts, Sequence):
        msg = f"{who}(): 'parts' must be a list of token arrays or mappings, got {describe(parts)}; put one in a list"
        raise TypeError(msg)
    batches = []
    for i, part in enumerate(parts):
        columns = dict(part) if isinstance(part, Mapping) else {"scores": part}
        if "scores" not in columns or not set(columns) <= set(_COLUMNS):
            known = ", ".join(map(repr, _COLUMNS))
            msg = f"{who}(): 'parts[{i}]' must have 'scores' and no other keys than {known}, got {sorted(columns)}"
            raise ValueError(msg)
        if ties == "exact" and columns.get("uid") is None:
            msg = f"{who}(): 'parts[{i}]' must have 'uid' with ties='exact', since the choice must not depend on ranks"
            raise ValueError(msg)
        batches.append(TokenBatch.of(who, f"parts[{i}]", columns.pop("scores"), **columns))
    return batches


def _home(batches: list[TokenBatch], world: int, group: Any) -> torch.device:
    """Where counts are added: where ranks communicate, or where the tokens are."""
    if world > 1:
        return _device(group)
    return next((batch.device.device for batch in batches if batch.on_device), torch.device("cpu"))


def _counts(search: TokenSearch, batches: list[TokenBatch], where: torch.device) -> torch.Tensor:
    """Of all parts of this rank, in one place."""
    total = torch.zeros(BINS, dtype=torch.int64, device=where)
    for batch in batches:
        counts = search._counts(batch)
        total = total + (counts if is_tensor(counts) else torch.from_numpy(counts)).to(where)
    return total

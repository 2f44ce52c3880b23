"""Checks of values, as opposed to types and shapes: on a device they would wait for it."""

from __future__ import annotations

import torch

from rollmath.vocab._inputs import Inputs

#: How closely values are checked: not at all, what has no meaning, and what has one that nobody wants.
NOTHING, RANGES, EVERYTHING = 0, 1, 2


def must_look(check: bool | None, device: torch.device) -> int:
    """How closely values are checked: all if asked, and if nothing was said, ranges on the CPU."""
    if check is None:
        return RANGES if device.type == "cpu" else NOTHING
    return EVERYTHING if check else NOTHING


def check_values(who: str, inputs: Inputs, ignore_index: int | None, total: int, look: int = RANGES) -> None:
    """All of them."""
    check_tokens(who, inputs.labels, inputs.ids, inputs.mask, ignore_index, total)
    if inputs.set_ids is not None and inputs.set_offsets is not None:
        check_sets(who, inputs.set_ids, inputs.set_offsets, total)
        if look == EVERYTHING:
            _check_members(who, inputs, inputs.set_ids, inputs.set_offsets, ignore_index)
    if inputs.inverse is not None and inputs.inverse.isnan().any():
        at = int(inputs.inverse.isnan().nonzero()[0, 0])
        msg = f"{who}(): 'temperature' must be positive and finite in every row, but is not at flat index {at}"
        raise ValueError(msg)


def check_tokens(
    who: str,
    labels: torch.Tensor | None,
    ids: torch.Tensor | None,
    mask: torch.Tensor | None,
    ignore_index: int | None,
    total: int,
) -> None:
    """Raises unless every token exists; rows that are masked out are not looked at."""
    if labels is not None:
        bad = (labels < 0) | (labels >= total)
        if ignore_index is not None:
            bad &= labels != ignore_index
        if mask is not None:
            bad &= mask
        if bad.any():
            at = int(bad.nonzero()[0, 0])
            hint = "" if ignore_index is not None else "; labels to skip need ignore_index="
            msg = f"{who}(): 'labels' must be in [0, {total}) (= V), got {int(labels[at])} at flat index {at}{hint}"
            raise ValueError(msg)
    if ids is not None:
        bad = (ids < 0) | (ids >= total)
        if mask is not None:
            bad &= mask[:, None]
        if bad.any():
            at, column = (int(i) for i in bad.nonzero()[0])
            msg = f"{who}(): 'ids' must be in [0, {total}) (= V), got {int(ids[at, column])} in flat row {at}"
            raise ValueError(msg)


def check_sets(who: str, ids: torch.Tensor, offsets: torch.Tensor, total: int | None) -> None:
    """Raises unless the sets are CSR and their tokens exist, each once in its row."""
    if offsets[0] != 0 or offsets[-1] != ids.numel() or (offsets[1:] < offsets[:-1]).any():
        ends = f"{int(offsets[0])} to {int(offsets[-1])}"
        msg = f"{who}(): 'offsets' must rise from 0 to {ids.numel()} (= len(ids)), got {ends}"
        raise ValueError(msg)
    if not ids.numel():
        return
    low, high = (int(x) for x in ids.aminmax())
    if low < 0 or (total is not None and high >= total):
        bound = "at least 0" if total is None else f"in [0, {total}) (= V)"
        msg = f"{who}(): the tokens of a set must be {bound}, got {low if low < 0 else high}"
        raise ValueError(msg)
    starts = torch.zeros(ids.numel() + 1, dtype=torch.bool, device=ids.device)
    starts[offsets] = True
    if ((ids[1:] > ids[:-1]) | starts[1:-1]).all():
        return
    row = torch.repeat_interleave(torch.arange(offsets.numel() - 1, device=ids.device), offsets.diff())
    keys = ((row << 32) | ids.to(torch.int64)).sort().values
    twice = keys[1:] == keys[:-1]
    if twice.any():
        key = int(keys[1:][twice][0])
        msg = f"{who}(): the tokens of a set must be distinct, got {key & 0xFFFFFFFF} twice in flat row {key >> 32}"
        raise ValueError(msg)


def _check_members(
    who: str, inputs: Inputs, ids: torch.Tensor, offsets: torch.Tensor, ignore_index: int | None
) -> None:
    """Raises where a row that counts has an empty set, or a label outside of its set."""
    counts = torch.ones_like(offsets[1:], dtype=torch.bool) if inputs.mask is None else inputs.mask
    empty = counts & (offsets.diff() == 0)
    if empty.any():
        at = int(empty.nonzero()[0, 0])
        msg = f"{who}(): 'allowed' must have a token in every row, got none in flat row {at}; leave rows out by mask="
        raise ValueError(msg)
    if inputs.labels is None:
        return
    row = torch.repeat_interleave(torch.arange(offsets.numel() - 1, device=ids.device), offsets.diff())
    inside = torch.zeros_like(counts).index_put_((row[ids == inputs.labels[row]],), torch.tensor(True))
    bad = counts & ~inside
    if ignore_index is not None:
        bad &= inputs.labels != ignore_index
    if bad.any():
        at = int(bad.nonzero()[0, 0])
        label = int(inputs.labels[at])
        msg = f"{who}(): 'labels' must be in the set of 'allowed' of their row, got {label} at flat index {at}"
        raise ValueError(msg)

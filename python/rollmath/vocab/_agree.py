"""What ranks must have in common, compared: one small collective, with which errors travel too."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import distributed

# What a rank sends, and how much of the text of an error fits into it, however it is written.
_SLOT, _TEXT = 1 << 14, 2000

_KINDS = {"TypeError": TypeError, "ValueError": ValueError}


def place(group: Any) -> tuple[int, int]:
    """Number of ranks, and which this is; without a process group there is one."""
    if not distributed.is_available() or not distributed.is_initialized():
        return 1, 0
    return distributed.get_world_size(group), distributed.get_rank(group)


def device_types(group: Any) -> list[str]:
    """The types of devices whose tensors ``group`` sends."""
    known = getattr(distributed.group.WORLD if group is None else group, "_device_types", [])
    if types := [torch.device(device).type for device in known]:
        return types
    # A group that wraps another one names no device itself.
    backend = str(distributed.get_backend(group))
    if ":" in backend:
        return [part.partition(":")[0] for part in backend.split(",")]
    return list(distributed.Backend.backend_capability.get(backend, ["cpu"]))


def agree(
    who: str, make: Callable[[], Mapping[str, str]], group: Any, also: Sequence[str] = ()
) -> list[dict[str, str]]:
    """What ``make`` returns on each rank: words by name. If it raises on one of them, all raise, and name that rank.

    Args:
        who: the public function.
        make: what this rank has; whatever may fail on one rank alone belongs into it.
        group: the process group.
        also: names whose words may differ.

    Raises:
        ValueError: words that differ between ranks.
    """
    world, _ = place(group)
    if world == 1:
        return [dict(make())]
    failed: Exception | None = None
    try:
        message: dict[str, Any] = {"words": dict(make())}
    except Exception as error:  # raised below, on all ranks
        failed = error
        message = {"error": [type(error).__name__, str(error)[:_TEXT]]}
    found = _gather(json.dumps({"who": who, **message}).encode(), world, group)
    for rank, packet in enumerate(found):
        if "error" in packet:
            kind, text = packet["error"]
            raise _KINDS.get(kind, RuntimeError)(f"{text}, on rank {rank}") from failed
    _compare(who, "the call", [f"{packet['who']}()" for packet in found])
    parts: list[dict[str, str]] = [packet["words"] for packet in found]
    for name in parts[0]:
        if name not in also:
            _compare(who, name, [part[name] for part in parts])
    return parts


def _compare(who: str, what: str, seen: list[str]) -> None:
    other = next((rank for rank, words in enumerate(seen) if words != seen[0]), None)
    if other is not None:
        both = f"{seen[0]} on rank 0, {seen[other]} on rank {other}"
        msg = f"{who}(): {what} must be the same on all ranks of the vocabulary, got {both}"
        raise ValueError(msg)


def words(x: Any) -> str:
    """Words that are the same on two ranks if the numbers are; the values of tensors as a checksum."""
    if isinstance(x, torch.Tensor):
        values = x.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
        name = str(x.dtype).removeprefix("torch.")
        return f"{name} {tuple(x.shape)} with checksum {zlib.crc32(values.tobytes()):08x}"
    return repr(x)


def _gather(blob: bytes, world: int, group: Any) -> list[dict[str, Any]]:
    types = device_types(group)
    device = torch.device("cpu" if "cpu" in types else types[0])
    sent = torch.frombuffer(bytearray(blob.ljust(_SLOT)), dtype=torch.uint8).to(device)
    table = torch.empty((world, _SLOT), dtype=torch.uint8, device=device)
    distributed.all_gather(list(table), sent, group=group)
    return [json.loads(row.tobytes()) for row in table.cpu().numpy()]

"""What one rank knows, on all of them: one collective, with which errors travel too."""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import distributed

from rollmath._arrays import describe, host, is_tensor
from rollmath.groups import Groups
from rollmath.ragged import Ragged

T = TypeVar("T")

#: What every rank sends at first, its length in front. Most batches fit; what does not goes in a second call.
SLOT = 1 << 15
_HEAD = 8


class Words(str):
    """An option in words of our own, which messages show without quotes."""

    __slots__ = ()


@dataclass(frozen=True)
class Compared:
    """An option, and what makes words of it; called where an exception of it travels."""

    value: Any
    words: Callable[[Any], str]


@dataclass(frozen=True)
class Found(Generic[T]):
    """What all ranks have, in the order of ranks, and which of them this one is."""

    parts: list[T]
    rank: int


def exchange(who: str, make: Callable[[], T], group: Any = None, options: Mapping[str, Any] | None = None) -> Found[T]:
    """What ``make`` returns on each rank. If it raises on one of them, all of them raise, and name that rank.

    All that may fail on one rank alone belongs into ``make``, and nothing of it between two calls.

    Args:
        who: the public function, which must be the same on all ranks.
        make: what this rank has; picklable, of types that all ranks can import.
        group: the process group; None is the default one, or one rank if there is none.
        options: what else must be the same on all ranks; compared by :func:`fingerprint`.

    Raises:
        ValueError: this process is not in ``group``; ranks that call something else, or with other options.
        TypeError: ``group`` is no process group.
    """
    world, rank = _place(who, group)
    if world == 1:
        # The same checks of what is sent as with several ranks, and the same exceptions, but without a rank.
        return Found([make()], 0)
    failed: BaseException | None = None
    try:
        blob = pickle.dumps((who, {k: fingerprint(v) for k, v in (options or {}).items()}, None, make()), protocol=5)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # raised below, on all ranks
        failed = error
        blob = pickle.dumps((who, {}, _told(who, error), None), protocol=5)
    packets = [pickle.loads(part) for part in _all_gather(blob, world, group)]
    errors = {number: error for number, (_, _, error, _) in enumerate(packets) if error is not None}
    if errors:
        first, (kind, text) = next(iter(errors.items()))
        others = [number for number in errors if number != first]
        raise kind(f"{text}, on rank {first}" + (f" (and {ranks(others)})" if others else "")) from failed
    _same(who, "must be the same call", {number: f"{packet[0]}()" for number, packet in enumerate(packets)})
    for name in sorted({name for packet in packets for name in packet[1]}):
        seen = {number: packet[1].get(name, "nothing") for number, packet in enumerate(packets)}
        option = who in {"advantages", "select"} and name not in {"method", "rewards"}
        fix = "; what has one value a rollout goes in columns=" if option else ""
        _same(who, f"must get the same {name!r}", seen, fix)
    return Found([packet[3] for packet in packets], rank)


def _told(who: str, error: BaseException) -> tuple[type[Exception], str]:
    """An error as it travels: a type that every rank has, and its text."""
    kind = next((t for t in (TypeError, ValueError) if isinstance(error, t)), RuntimeError)
    try:
        text = str(error)
    except Exception:  # what cannot even be printed must not keep the others waiting
        text = "an error without a text"
    return kind, text if text.startswith(f"{who}(") or type(
        error
    ) is kind else f"{who}(): {type(error).__name__}: {text}"


def _same(who: str, what: str, seen: Mapping[int, str], fix: str = "") -> None:
    if len(set(seen.values())) > 1:
        msg = f"{who}(): {what} on all ranks, got {by_rank(seen)}{fix}"
        raise ValueError(msg)


def ranks(numbers: Iterable[int]) -> str:
    """``rank 1``, ``ranks 0 and 2``, ``ranks 0, 1, 2 and 61 more``."""
    known = [str(number) for number in numbers]
    if len(known) == 1:
        return f"rank {known[0]}"
    shown, rest = (known[:-1], known[-1]) if len(known) <= 4 else (known[:3], f"{len(known) - 3} more")
    return f"ranks {', '.join(shown)} and {rest}"


def by_rank(seen: Mapping[int, str]) -> str:
    """What which ranks have: ``str on ranks 0 and 2, int on rank 1``."""
    having: dict[str, list[int]] = {}
    for number, label in seen.items():
        having.setdefault(label, []).append(number)
    return ", ".join(f"{label} on {ranks(numbers)}" for label, numbers in having.items())


def fingerprint(x: Any) -> str:
    """Words that are the same on two ranks if the objects are; what has no such words is compared by its type."""
    if isinstance(x, Words):
        return str(x)
    if isinstance(x, Compared):
        return x.words(x.value)
    if is_tensor(x) or isinstance(x, np.ndarray):
        values = host("exchange", "options", x.detach() if is_tensor(x) else x)[0]
        return f"{describe(x)} {_digest(np.ascontiguousarray(values).tobytes())}"
    if isinstance(x, Ragged):
        return f"a Ragged of {fingerprint(x.values)} {_digest(x.offsets.tobytes())}"
    if isinstance(x, Groups):
        return f"{x!r} {_digest(repr(x.ids).encode() + x.index.tobytes())}"
    if isinstance(x, (set, frozenset)):
        # Their order differs between processes.
        x = sorted(x, key=repr)
    if isinstance(x, (list, tuple)) and len(text := stable(repr(x))) > 60:
        return f"a {type(x).__name__} of {len(x)} {_digest(text.encode())}"
    if callable(x) and hasattr(x, "__qualname__"):
        return f"{x.__module__}.{x.__qualname__}"
    return stable(repr(x))


def stable(text: str) -> str:
    """A ``repr`` without the addresses of objects, which differ between processes."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


def _digest(x: bytes) -> str:
    return hashlib.blake2b(x, digest_size=4).hexdigest()


def _place(who: str, group: Any) -> tuple[int, int]:
    """Number of ranks, and which this is."""
    if not distributed.is_available() or not distributed.is_initialized():
        if group is not None:
            msg = f"{who}(): 'group' must be None while torch.distributed is not initialised, got {group!r}"
            raise ValueError(msg)
        return 1, 0
    if group is not None and group is distributed.GroupMember.NON_GROUP_MEMBER:
        msg = f"{who}(): 'group' must be a process group of this process, but it is not a member; do not call there"
        raise ValueError(msg)
    if group is not None and not isinstance(group, distributed.ProcessGroup):
        fix = "; of a DeviceMesh take .get_group()" if hasattr(group, "get_group") else ""
        msg = f"{who}(): 'group' must be a process group of torch.distributed or None, got {describe(group)}{fix}"
        raise TypeError(msg)
    return distributed.get_world_size(group), distributed.get_rank(group)


def _all_gather(blob: bytes, world: int, group: Any) -> list[bytes]:
    """The bytes of all ranks: one ``all_gather``, and one more if those of any rank are longer than a slot."""
    head = len(blob).to_bytes(_HEAD, "little")
    room = SLOT - _HEAD
    firsts = _equal(head + blob[:room], SLOT, world, group)
    sizes = [int.from_bytes(first[:_HEAD], "little") for first in firsts]
    parts = [first[_HEAD:][:size] for first, size in zip(firsts, sizes, strict=True)]
    longest = max(sizes)
    if longest <= room:
        return parts
    rests = _equal(blob[room:], longest - room, world, group)
    return [part + rest[: max(size - room, 0)] for part, rest, size in zip(parts, rests, sizes, strict=True)]


def _equal(blob: bytes, length: int, world: int, group: Any) -> list[bytes]:
    sent = np.zeros(length, np.uint8)
    sent[: len(blob)] = np.frombuffer(blob, np.uint8)
    device = _device(group)
    table = torch.empty((world, length), dtype=torch.uint8, device=device)
    distributed.all_gather(list(table), torch.from_numpy(sent).to(device), group=group)
    return [row.tobytes() for row in table.cpu().numpy()]


def _device(group: Any) -> torch.device:
    """Where the bytes must lie: on the host if the backend takes it, as gloo does, else on the current device."""
    known = getattr(distributed.group.WORLD if group is None else group, "_device_types", [])
    types = [torch.device(device).type for device in known]
    if not types:
        # A group that wraps another one and patches torch.distributed for it, as slime's do, names no device itself.
        backend = str(distributed.get_backend(group))
        pairs = [part.partition(":")[0] for part in backend.split(",")]
        types = pairs if ":" in backend else distributed.Backend.backend_capability.get(backend, ["cpu"])
    return torch.device("cpu" if "cpu" in types else types[0])

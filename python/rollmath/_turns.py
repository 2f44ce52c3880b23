"""From turns to rows: token in, token out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath._arrays import ArrayLike, check_vector, describe, host, host_only, integers
from rollmath._turns_report import PrefixBreak, TurnsReport
from rollmath.groups import as_groups
from rollmath.ragged import Ragged

if TYPE_CHECKING:
    from numpy.typing import NDArray

_KEYS = ("prompt", "response", "logprobs", "version", "payload")


@dataclass
class Turn:
    """A checked turn; ``extras`` has one value a response token under each optional name."""

    prompt: NDArray[np.int64]
    response: NDArray[np.int64]
    extras: dict[str, Any]


@dataclass
class TurnsRow:
    """A row in the making: everything that the model has seen, and the pieces after the prompt."""

    rollout: Any
    seen: NDArray[np.int64]
    prompt: int
    last_prompt: int
    pieces: list[tuple[int, Turn]] = field(default_factory=list)

    def add(self, turn: Turn) -> None:
        """A turn whose prompt extends what was seen."""
        self.pieces.append((len(turn.prompt) - len(self.seen), turn))
        self.last_prompt = len(turn.prompt)
        self.seen = np.concatenate([turn.prompt, turn.response])


def join(who: str, rollouts: Any, ids: ArrayLike | None) -> tuple[dict[str, Any], TurnsReport]:
    """The columns of the rows, and the report."""
    rows, keys, report = read_turns(who, rollouts, ids)
    return columns(who, rows, keys), report


def read_turns(who: str, rollouts: Any, ids: ArrayLike | None) -> tuple[list[TurnsRow], tuple[str, ...], TurnsReport]:
    """The rows, the optional keys that every turn has, and the report."""
    named = rollouts_named(who, rollouts, ids)
    rows: list[TurnsRow] = []
    breaks: list[PrefixBreak] = []
    n_turns, keys = 0, None
    for rollout, turns in named:
        if not isinstance(turns, Sequence) or isinstance(turns, (str, bytes)):
            msg = f"{who}(): rollout {rollout!r} must be a list of turns, got {describe(turns)}"
            raise TypeError(msg)
        if not turns:
            msg = f"{who}(): rollout {rollout!r} has no turns; leave it out, with its reward"
            raise ValueError(msg)
        first = len(rows)
        for number, raw in enumerate(turns):
            turn = _read(who, f"rollouts[{rollout!r}][{number}]", raw)
            keys = _same_keys(who, rollout, number, turn, keys)
            broken = None if number == 0 else first_difference(rows[-1].seen, turn.prompt)
            if number == 0 or broken is not None:
                if broken is not None:
                    breaks.append(_break(rows[-1], turn, rollout, number, broken, len(rows), len(rows) - first))
                rows.append(TurnsRow(rollout, turn.prompt, len(turn.prompt), len(turn.prompt)))
            rows[-1].add(turn)
        n_turns += len(turns)
    return rows, keys or (), TurnsReport(len(named), n_turns, len(rows), tuple(breaks))


def rollouts_named(who: str, rollouts: Any, ids: ArrayLike | None) -> list[tuple[Any, Any]]:
    if isinstance(rollouts, Mapping):
        if ids is not None:
            msg = f"{who}(): 'ids' are the keys of 'rollouts' where that is a mapping; drop one"
            raise ValueError(msg)
        as_groups(who, list(rollouts), name="rollouts.keys()")
        return list(rollouts.items())
    if not isinstance(rollouts, Sequence) or isinstance(rollouts, (str, bytes)):
        msg = f"{who}(): 'rollouts' must be a list of lists of turns, or a mapping, got {describe(rollouts)}"
        raise TypeError(msg)
    if ids is None:
        return list(enumerate(rollouts))
    groups = as_groups(who, ids, name="ids")
    if len(groups) != len(rollouts):
        msg = f"{who}(): 'ids' must have length {len(rollouts)} (= the number of rollouts), got {len(groups)}"
        raise ValueError(msg)
    if groups.n_groups != len(groups):
        twice = groups.ids[int(np.argmax(groups.counts > 1))]
        msg = f"{who}(): 'ids' must be distinct, got {twice!r} more than once"
        raise ValueError(msg)
    return list(zip(groups.ids, rollouts, strict=True))


def _read(who: str, name: str, raw: Any) -> Turn:
    if not isinstance(raw, Mapping):
        msg = f"{who}(): {name} must be a mapping with 'prompt' and 'response', got {describe(raw)}"
        raise TypeError(msg)
    unknown = [key for key in raw if key not in _KEYS]
    missing = [key for key in _KEYS[:2] if key not in raw]
    if unknown or missing:
        problem = f"has no {missing[0]!r}" if missing else f"has the unknown key {unknown[0]!r}"
        msg = (
            f"{who}(): {name} {problem}; a turn has 'prompt', 'response' and optional 'logprobs', 'version', 'payload'"
        )
        raise ValueError(msg)
    prompt = _tokens(who, f"{name}.prompt", raw["prompt"])
    response = _tokens(who, f"{name}.response", raw["response"])
    if not len(prompt):
        msg = f"{who}(): {name} has an empty prompt, so its first response token has nothing to depend on"
        raise ValueError(msg)
    return Turn(prompt, response, _extras(who, name, raw, len(response)))


def _tokens(who: str, name: str, x: Any) -> NDArray[np.int64]:
    host_only(who, name, x)
    return integers(who, name, x)[0]


def _extras(who: str, name: str, raw: Mapping[str, Any], n: int) -> dict[str, Any]:
    """The optional values of a turn, one a response token each."""
    extras: dict[str, Any] = {}
    if raw.get("logprobs") is not None:
        host_only(who, f"{name}.logprobs", raw["logprobs"])
        values, _ = host(who, f"{name}.logprobs", raw["logprobs"])
        check_vector(who, f"{name}.logprobs", values, n, "its response")
        if values.dtype.kind not in "fiu":
            msg = f"{who}(): {name}.logprobs must hold floats, got {values.dtype}"
            raise TypeError(msg)
        extras["logprobs"] = values if values.dtype.kind == "f" else values.astype(np.float64)
    if raw.get("version") is not None:
        version = raw["version"]
        per_token = np.full(n, version) if isinstance(version, (int, np.integer)) else version
        extras["version"] = _tokens(who, f"{name}.version", per_token)
    payload = {} if raw.get("payload") is None else raw["payload"]
    if not isinstance(payload, Mapping):
        msg = f"{who}(): {name}.payload must be a mapping from names to values, got {describe(payload)}"
        raise TypeError(msg)
    for key, value in payload.items():
        if not isinstance(key, str):
            msg = f"{who}(): the names in {name}.payload must be strings, got {key!r}"
            raise TypeError(msg)
        extras[f"payload.{key}"] = _opaque(who, f"{name}.payload[{key!r}]", value)
    for key, values in extras.items():
        if len(values) != n:
            msg = f"{who}(): {name}.{key} must have length {n} (= its response), got {len(values)}"
            raise ValueError(msg)
    return extras


def _opaque(who: str, name: str, x: Any) -> Any:
    """A payload of a turn: a list, or an array with at least one axis."""
    if isinstance(x, (list, tuple)):
        return list(x)
    if getattr(x, "ndim", 0) == 0:
        msg = f"{who}(): {name} must be a list or an array [n, ...] with one value a response token, got {describe(x)}"
        raise TypeError(msg)
    host_only(who, name, x)
    return host(who, name, x)[0]


def _same_keys(who: str, rollout: Any, number: int, turn: Turn, keys: tuple[str, ...] | None) -> tuple[str, ...]:
    found = tuple(sorted(turn.extras))
    if keys is not None and found != keys:
        name = sorted(set(found) ^ set(keys))[0]
        has = "has" if name in found else "lacks"
        msg = f"{who}(): turn {number} of rollout {rollout!r} {has} {name!r}, unlike the turns before it; all or none"
        raise ValueError(msg)
    return found


def first_difference(seen: NDArray[np.int64], prompt: NDArray[np.int64]) -> int | None:
    """First index at which ``prompt`` does not continue ``seen``; None if it extends it."""
    common = min(len(seen), len(prompt))
    unequal = seen[:common] != prompt[:common]
    if unequal.any():
        return int(np.argmax(unequal))
    return None if len(prompt) >= len(seen) else common


def _break(last: TurnsRow, turn: Turn, rollout: Any, number: int, at: int, row: int, segment: int) -> PrefixBreak:
    got = int(turn.prompt[at]) if at < len(turn.prompt) else None
    inside = at - last.last_prompt if at >= last.last_prompt else None
    return PrefixBreak(rollout, number, at, int(last.seen[at]), got, inside, row, segment)


def columns(who: str, rows: list[TurnsRow], keys: tuple[str, ...]) -> dict[str, Any]:
    pieces = [piece for row in rows for piece in row.pieces]
    lengths = [sum(gap + len(turn.response) for gap, turn in row.pieces) for row in rows]
    gaps = np.array([n for gap, turn in pieces for n in (gap, len(turn.response))], dtype=np.int64)
    prompts = [row.seen[: row.prompt] for row in rows]
    made: dict[str, Any] = {
        "rollout": [row.rollout for row in rows],
        "lengths": np.array(lengths, dtype=np.int64),
        "tokens": _concat([row.seen[row.prompt :] for row in rows], np.int64),
        "mask": np.repeat(np.tile([False, True], len(pieces)), gaps),
        "prompts": Ragged.from_lengths(_concat(prompts, np.int64), np.array([len(p) for p in prompts], dtype=np.int64)),
    }
    payload = {}
    for key in keys:
        parts = [(gap, turn.extras[key]) for gap, turn in pieces]
        name, _, inner = key.partition(".")
        if name == "payload":
            payload[inner] = _filled(who, key, parts, None)
        else:
            made[name] = _filled(who, key, parts, np.nan if name == "logprobs" else -1)
    return made | {"payload": payload}


def _concat(parts: list[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.empty(0, dtype=dtype)


def _filled(who: str, name: str, parts: list[tuple[int, Any]], fill: float | None) -> Any:
    """The values of all responses with ``fill`` (by dtype, if None) in the gaps between them."""
    if any(isinstance(x, list) for _, x in parts):
        if not all(isinstance(x, list) for _, x in parts):
            msg = f"{who}(): {name} must be a list in every turn or an array in every turn"
            raise TypeError(msg)
        return [value for gap, x in parts for value in [None] * gap + x]
    kinds = sorted({f"{x.dtype}{list(x.shape[1:])}" for _, x in parts if len(x)})
    if len(kinds) > 1:
        msg = f"{who}(): {name} must have one dtype and shape [n, ...] in every turn, got {' and '.join(kinds)}"
        raise TypeError(msg)
    like = next((x for _, x in parts if len(x)), parts[0][1])
    if fill is None:
        fill = np.nan if like.dtype.kind in "fc" else -1 if like.dtype.kind == "i" else 0
    pieces = []
    for gap, x in parts:
        pieces.append(np.full((gap, *like.shape[1:]), fill, dtype=like.dtype))
        if len(x):
            pieces.append(x)
    return np.concatenate(pieces)

"""All columns of a DataProto by name; in v1's trainer also those that only its queue has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch


class Columns(Mapping[str, Any]):
    """Columns of ``data.batch`` and ``data.non_tensor_batch``, and of the queue when they are asked for.

    v1's trainer reads seven fields from its queue for the advantages. Others are read from it here: a field of that
    name, or an entry of that name in ``extra_fields`` or its ``reward_extra_info``, where agent loops and reward
    functions put theirs.
    """

    def __init__(self, data: Any, queue: Queue | None = None) -> None:
        self._columns = {**dict(data.batch.items()), **data.non_tensor_batch}
        self._queue = queue

    def __getitem__(self, name: str) -> Any:
        if name not in self._columns and self._queue is not None:
            found = self._queue.read(name)
            if found is not None:
                self._columns[name] = found
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


class Queue:
    """The batch of v1's trainer whose advantages are computed, in its queue.

    Args:
        tq: the module ``transfer_queue``, as the trainer has it.
        keys: of the rows.
        partition: where they are.
        width: columns of padded tensors.
    """

    def __init__(self, tq: Any, keys: list[str], partition: str, width: int) -> None:
        self._tq, self._keys, self._partition, self._width = tq, keys, partition, width
        self._extra: list[Any] | None = None

    def read(self, name: str) -> Any:
        """A field, padded if it has one number a token; None if there is none."""
        found = self._field(name)
        if found is not None:
            return self._padded(found)
        if self._extra is None:
            extra = self._field("extra_fields")
            self._extra = [] if extra is None else list(extra.tolist() if hasattr(extra, "tolist") else extra)
        inside = [row if isinstance(row, Mapping) else {} for row in self._extra]
        for rows in (inside, [row.get("reward_extra_info") or {} for row in inside]):
            if rows and all(name in row for row in rows):
                return objects([row[name] for row in rows])
        return None

    def _field(self, name: str) -> Any:
        try:
            data = self._tq.kv_batch_get(keys=self._keys, partition_id=self._partition, select_fields=[name])
        except ValueError:  # what the queue raises for a field that not all rows have
            return None
        return data[name] if name in data.keys() else None  # noqa: SIM118 - a TensorDict

    def _padded(self, x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return objects(list(x.tolist() if hasattr(x, "tolist") else x))
        if not x.is_nested:
            return x
        padded = x.to_padded_tensor(padding=0)
        short = self._width - padded.shape[1]
        return torch.nn.functional.pad(padded, (0, short)) if short > 0 else padded[:, : self._width]


def objects(values: list[Any]) -> Any:
    """One value a row: numbers as they are, anything else as objects."""
    plain = np.asarray(values) if all(isinstance(x, (bool, int, float, np.number)) for x in values) else None
    if plain is not None:
        return plain
    out = np.empty(len(values), object)
    out[:] = values
    return out

"""How the logits of a fused linear layer are cut into chunks."""

from __future__ import annotations

from math import isqrt
from typing import NamedTuple

#: Columns of a chunk are a multiple of this, so that matrix products and rows start at aligned addresses.
STEP = 128


class Plan(NamedTuple):
    """The largest chunk: its rows and its columns."""

    rows: int
    columns: int


def make_plan(rows: int, vocab: int, logit_bytes: int, workspace: int) -> Plan:
    """Chunks that fit into ``workspace`` bytes and cost the fewest passes over the accumulators.

    Each chunk of columns reads and writes the gradient of all hidden states once; each chunk of rows, if there are
    several, that of the weight. So all rows go together as long as that leaves more than half as many columns as a
    square chunk has; beyond, chunks are near square. Chunks are of even size.
    """
    area = workspace // logit_bytes
    rows = max(rows, 1)
    if rows * _up(vocab) <= area:
        return Plan(rows, vocab)
    side = max(isqrt(area), STEP)
    most = rows if rows <= 2 * side else -(-rows // -(-rows // side))
    most = max(1, min(most, area // _narrowest(vocab)))
    width = max(area // most // STEP * STEP, STEP)
    chunks = -(-vocab // width)
    return Plan(most, min(vocab, _up(-(-vocab // chunks))))


def shard_plan(rows: int, tokens: int, columns: int, logit_bytes: int, workspace: int) -> tuple[Plan, int]:
    """The chunks of a rank that has ``columns``, and how many chunks of columns each rank has.

    All ranks have as many, as if each had ``tokens``, because they gather one row of numbers for each chunk. A rank
    with more columns than that takes fewer rows at a time.
    """
    plan = make_plan(rows, tokens, logit_bytes, workspace)
    chunks = -(-tokens // plan.columns)
    width = max(1, min(columns, _up(-(-columns // chunks))))
    return Plan(max(1, min(plan.rows, workspace // logit_bytes // width)), width), chunks


def least(vocab: int, logit_bytes: int) -> int:
    """Bytes of one row of the narrowest chunk."""
    return _narrowest(vocab) * logit_bytes


def _narrowest(vocab: int) -> int:
    return min(STEP, -(-vocab // 8) * 8)


def _up(columns: int) -> int:
    return -(-columns // STEP) * STEP


def parts(total: int, size: int) -> list[slice]:
    """``range(total)`` cut into slices of ``size``."""
    return [slice(start, min(start + size, total)) for start in range(0, total, size)]

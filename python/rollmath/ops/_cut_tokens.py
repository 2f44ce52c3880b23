"""Cut points by what the tokens are: of low probability, surprising, or delimiters."""

from __future__ import annotations

from collections.abc import Set
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath._arrays import ArrayLike, integers
from rollmath._checks import flag, whole
from rollmath.ops._cut_rows import CutRows, log_threshold
from rollmath.ragged import Ragged

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Tokens of a block, of which the most surprising one is looked at first.
_BLOCK = 64


def cut_by_probability(
    logprobs: ArrayLike | Ragged,
    *,
    threshold: float = 0.9,
    stride: int = 1,
    mask: ArrayLike | Ragged | None = None,
    lengths: ArrayLike | None = None,
    include_prompt: bool = False,
) -> Ragged:
    """Cuts before tokens of low probability: ``c = t - 1`` for each ``t`` with ``p_t < threshold``.

    A cut at ``c`` is the prefix up to and including position ``c``, -1 the bare prompt. Of the cuts of a row every
    ``stride``-th is kept, the first one always, so segments hold about equally many tokens of low probability.

    Args:
        logprobs: log-probability of each token under the policy that sampled it, a :class:`~rollmath.Ragged` or padded
            ``[B, T]``; ``-inf`` (probability 0) is fine.
        threshold: a probability in [0, 1].
        stride: keep every ``stride``-th cut.
        mask: trained tokens (bool or int, nonzero = True), like ``logprobs``. The others are never cut before, and what
            ``logprobs`` has there is not looked at. Positions count them.
        lengths: used columns of padded rows, ints ``[B]``.
        include_prompt: cut at -1 in every row that has a trained token, besides the cuts that are kept, so that the
            value of the prompt is estimated even where the first token is confident.

    Returns:
        A Ragged of int64 positions, ascending in each row; torch where ``logprobs`` is. Rows may be empty.

    Edge cases: probabilities are compared as logarithms, with ``log(threshold)`` taken in the float type of
    ``logprobs``; so the logarithm of the threshold itself is not below it, and a comparison after ``exp`` may say
    otherwise about a probability within a rounding of it. Log-probabilities up to 1e-4 count as 0.

    Raises:
        ValueError: NaN or a positive log-probability at a trained token; ``threshold`` or ``stride`` out of range;
            wrong shapes.
        TypeError: wrong dtype, rank or form.

    Source: the cut points of SPO-chain, arXiv 2505.23564, as its official code has them (executed; threshold 0.9, a
    stride of 1 to 100).

    >>> import numpy as np
    >>> p = [[0.5, 0.95, 0.6, 0.9, 0.2], [0.95, 0.95, 0.99, 0.99, 0.8]]
    >>> cut_by_probability(np.log(p)).to_lists(), cut_by_probability(np.log(p), stride=2).to_lists()
    ([[-1, 1, 3], [3]], [[-1, 3], [3]])
    """
    who = "cut_by_probability"
    given = CutRows.of(who, "logprobs", logprobs, mask=mask, lengths=lengths)
    every = min(whole(who, "stride", stride), 2**62)
    prompt = flag(who, "include_prompt", include_prompt)
    flat = given.logprobs(logprobs)
    low = given.only(flat < log_threshold(who, threshold, flat.dtype))
    counts = np.diff(low.first)
    keep = (np.arange(len(low.at)) - np.repeat(low.first[:-1], counts)) % every == 0
    position = (low.at - np.repeat(low.begin, counts))[keep] - 1
    return given.cuts(-(-counts // every), position, include_prompt=prompt, per_row=True)


def cut_by_surprisal(
    logprobs: ArrayLike | Ragged,
    count: ArrayLike,
    *,
    mask: ArrayLike | Ragged | None = None,
    lengths: ArrayLike | None = None,
    include_prompt: bool = False,
) -> Ragged:
    """Cuts before the most surprising tokens: ``c = t - 1`` for the ``count`` tokens of largest ``-log p_t`` of a row.

    A cut at ``c`` is the prefix up to and including position ``c``, -1 the bare prompt; from there other continuations
    are sampled.

    Args:
        logprobs: log-probability of each token, a :class:`~rollmath.Ragged` or padded ``[B, T]``; ``-inf`` is fine.
        count: how many cuts, one number or one a row; rows with fewer candidates have fewer.
        mask: the candidates (bool or int, nonzero = True), like ``logprobs``. TreeRL leaves out the first token of what
            branched off, all that follows the words "conclusion" or "answer", and what is too long to go on from.
        lengths: used columns of padded rows, ints ``[B]``.
        include_prompt: as in :func:`cut_by_probability`; it does not count.

    Returns:
        A Ragged of int64 positions, ascending in each row; of equal tokens the first ones.

    Raises:
        ValueError: NaN or a positive log-probability at a candidate; ``count`` less than 1; wrong shapes.
        TypeError: wrong dtype, rank or form.

    Source: the branching points of TreeRL, arXiv 2506.11902, official code read (THUDM/TreeRL; it calls the surprisal
    of the sampled token its entropy, and takes the best of a tree's branches together).

    >>> cut_by_surprisal([[-0.1, -2.0, -0.5, -2.0]], 1).to_lists(), cut_by_surprisal([[-3.0, -2.0, -5.0]], 2).to_lists()
    ([[0]], [[-1, 1]])
    """
    who = "cut_by_surprisal"
    given = CutRows.of(who, "logprobs", logprobs, mask=mask, lengths=lengths)
    most = given.per_row("count", count)
    prompt = flag(who, "include_prompt", include_prompt)
    flat = given.logprobs(logprobs)
    x = np.minimum(flat[given.at], 0)  # a residue of rounding above 0 counts as 0
    counts = np.diff(given.first)
    low = np.flatnonzero(x <= np.repeat(_bound(x, given.first, most), counts))
    row = np.searchsorted(given.first, low, side="right") - 1
    rank, order = _ranked(x[low], row, len(counts))
    best = np.sort(order[rank < most[row[order]]])
    row, at = row[best], given.at[low[best]]
    return given.cuts(row, at - given.begin[row] - 1, include_prompt=prompt)


def _ranked(x: NDArray[Any], row: NDArray[np.int64], n_rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ranks from 0 within rows, the least number first and of equals the first, and what has them."""
    counts = np.bincount(row, minlength=n_rows)
    return np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts), np.lexsort((x, row))


def _bound(x: NDArray[Any], first: NDArray[np.int64], most: NDArray[np.int64]) -> NDArray[Any]:
    """A number for each row that its ``most`` least numbers do not exceed; few others are to be sorted then.

    As many blocks of the row hold a number that is not above it.
    """
    blocks = -(-np.diff(first) // _BLOCK)
    ends = np.cumsum(blocks)
    starts = np.arange(blocks.sum()) * _BLOCK + np.repeat(first[:-1] - (ends - blocks) * _BLOCK, blocks)
    least = np.minimum.reduceat(x, starts) if len(x) else x
    order = _ranked(least, np.repeat(np.arange(len(blocks)), blocks), len(blocks))[1]
    bound = np.zeros(len(blocks), x.dtype)  # the largest that there is
    few = most <= blocks
    bound[few] = least[order[(ends - blocks + most - 1)[few]]]
    return bound


def cut_by_delimiter(
    tokens: ArrayLike | Ragged,
    delimiters: Any,
    *,
    mask: ArrayLike | Ragged | None = None,
    lengths: ArrayLike | None = None,
    include_prompt: bool = False,
) -> Ragged:
    """Cuts after delimiters: ``c = t`` for each ``t`` with ``x_t`` among the delimiters, but the last trained token.

    A cut at ``c`` is the prefix up to and including position ``c``. Lines or steps of reasoning are the segments; with
    ``include_prompt=True`` there are as many cuts as steps, each where a step begins.

    Args:
        tokens: token ids, a :class:`~rollmath.Ragged` or padded ``[B, T]``, ints.
        delimiters: a token id, or several in a list, set or array. A delimiter of several tokens is known by its last.
        mask: trained tokens (bool or int, nonzero = True), like ``tokens``; no other is cut after.
        lengths: used columns of padded rows, ints ``[B]``.
        include_prompt: cut at -1 in every row that has a trained token.

    Returns:
        A Ragged of int64 positions, ascending in each row.

    Raises:
        ValueError: wrong shapes; a negative delimiter.
        TypeError: wrong dtype, rank or form.

    Source: steps by delimiter are those of VinePPO, arXiv 2410.01679, whose official code (read) splits the text.

    >>> cut_by_delimiter([[5, 13, 7, 13, 13], [1, 2, 3, 4, 13]], 13, include_prompt=True).to_lists()
    [[-1, 1, 3], [-1]]
    """
    who = "cut_by_delimiter"
    given = CutRows.of(who, "tokens", tokens, mask=mask, lengths=lengths)
    prompt = flag(who, "include_prompt", include_prompt)
    flat, _ = integers(who, "tokens", given.rows._flat("tokens", tokens))
    if isinstance(delimiters, Set):
        delimiters = list(delimiters)
    elif not hasattr(delimiters, "__len__") or getattr(delimiters, "shape", None) == ():
        delimiters = [whole(who, "delimiters", delimiters, least=0)]
    ids, _ = integers(who, "delimiters", delimiters)
    if len(ids) and ids.min() < 0:
        msg = f"{who}(): 'delimiters' must be at least 0, got {ids.min()}"
        raise ValueError(msg)
    marked = given.only(np.isin(flat, ids))
    counts = np.diff(marked.first)
    row = np.repeat(np.arange(len(counts)), counts)
    position = marked.at - marked.begin[row]
    keep = position < given.last[row]
    return given.cuts(row[keep], position[keep], include_prompt=prompt)

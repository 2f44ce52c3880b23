"""Cut points by what the tokens are: of low probability, surprising, or delimiters."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import numpy as np

from rollmath._arrays import ArrayLike, integers
from rollmath._checks import flag, whole
from rollmath.ops._cut_rows import CutRows, log_threshold
from rollmath.ragged import Ragged


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
    counts = np.diff(given.first)
    row = np.repeat(np.arange(len(counts)), counts)
    # A residue of rounding above 0 counts as 0. The sort is stable: of equals the first come first.
    order = np.lexsort((np.minimum(flat[given.at], 0), row))
    rank = np.arange(len(row)) - np.repeat(given.first[:-1], counts)
    best = np.sort(order[rank < most[row]])
    return given.cuts(row[best], (given.at - given.begin[row])[best] - 1, include_prompt=prompt)


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
        ValueError: wrong shapes.
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
    marked = given.only(np.isin(flat, integers(who, "delimiters", delimiters)[0]))
    counts = np.diff(marked.first)
    row = np.repeat(np.arange(len(counts)), counts)
    position = marked.at - marked.begin[row]
    keep = position < given.last[row]
    return given.cuts(row[keep], position[keep], include_prompt=prompt)

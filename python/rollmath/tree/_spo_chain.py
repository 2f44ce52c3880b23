"""SPO-chain: one rollout, cut where it was uncertain, each segment against the values before and after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rollmath._arrays import Array, ArrayLike, Kind, choice, floats
from rollmath.groups import Groups, as_groups
from rollmath.ops import gather, segment_mean
from rollmath.ops._cut_expand import spread
from rollmath.ops._cut_rows import CutRows, log_threshold
from rollmath.ragged import Ragged

if TYPE_CHECKING:
    from numpy.typing import NDArray


def spo_chain(
    logprobs: ArrayLike | Ragged,
    cuts: Ragged,
    values: ArrayLike | Ragged,
    scores: ArrayLike,
    *,
    threshold: float | None = 0.9,
    first_segment: Literal["zero", "value", "group_mean"] = "zero",
    prompt_values: ArrayLike | None = None,
    groups: Groups | ArrayLike | None = None,
    mask: ArrayLike | Ragged | None = None,
    lengths: ArrayLike | None = None,
) -> Array | Ragged:
    """Segment policy optimisation on chains: what a segment has gained, at those of its tokens that were uncertain.

    ``A_t = V(c_j) - V(c_{j-1})`` for the tokens ``c_{j-1} < t <= c_j`` with ``p_t <= threshold``, else 0. ``V(c)`` is
    the value of the prefix up to and including position ``c``, estimated by sampling from there; after the last cut
    the score of the rollout takes its place. Where to cut, and the values: :func:`rollmath.ops.cut_by_probability` and
    :func:`probe_values`.

    Args:
        logprobs: log-probability of each token under the policy that sampled it, a :class:`~rollmath.Ragged` or padded
            ``[B, T]``.
        cuts: positions in each row, ascending, -1 the bare prompt, before the last trained token: a Ragged.
        values: ``V(c)`` of each cut, a Ragged like ``cuts`` or flat, ``[n_cuts]``.
        scores: reward of each rollout, ``[B]``.
        threshold: tokens of a larger probability get 0; None leaves all in (cuts by number of tokens). Compared as
            :func:`rollmath.ops.cut_by_probability` does; a token of exactly that probability keeps its advantage, but
            is not in :func:`probability_mask`.
        first_segment: the tokens up to the first cut, where that is not -1, so that nobody has estimated the value of
            the prompt (the first token was confident): ``"zero"``, they get 0, as in the official code; ``"value"``,
            the value is in ``prompt_values``; ``"group_mean"``, it is the mean of ``scores`` in the rollout's group,
            its own among them. (To have it estimated, cut with ``include_prompt=True``.)
        prompt_values: ``[B]``, for ``first_segment="value"``; :func:`rollmath.ops.loo_mean` of the scores, say.
        groups: a Groups or one id a rollout, for ``first_segment="group_mean"``.
        mask: trained tokens (bool or int, nonzero = True), like ``logprobs``; the others get 0.
        lengths: used columns of padded rows, ints ``[B]``.

    Returns:
        One number a token, in the form of ``logprobs``, of the kind and float type of ``values``. A row without cuts
        is a first segment. Over the segments of a row the differences sum to its score minus the value of its first
        cut, or of its prompt if that is given.

    The loss is taken over :func:`probability_mask`, and the authors whiten over it, which are calls of their own:
    ``mask = probability_mask(logprobs)``, ``rm.ops.whiten(advantages, mask=mask)``. Like the authors' code ``whiten``
    divides by ``sqrt(var + 1e-8)``, ddof 1; theirs takes all tokens where the mask is empty.

    Raises:
        ValueError: wrong shapes; cuts out of order or range; NaN or a positive log-probability; values, scores or
            prompt values that are not finite; an argument that ``first_segment`` needs or does not need.
        TypeError: wrong dtype, rank or form.

    Source: SPO-chain, arXiv 2505.23564. The official code, AIFrameResearch/SPO (``_compute_token_advantages``), was
    executed on random rollouts and agrees. ``"value"`` and ``"group_mean"`` are ours.

    >>> p = [[0.5, 0.95, 0.6, 0.9, 0.2]]
    >>> cuts = Ragged.from_lists([[-1, 1, 3]])  # cut_by_probability(np.log(p))
    >>> spo_chain(np.log(p), cuts, [0.5, 0.75, 0.25], [1.0]).tolist()
    [[0.25, 0.0, -0.5, -0.5, 0.75]]
    >>> cuts = Ragged.from_lists([[1, 3]])
    >>> spo_chain(np.log(p), cuts, [0.75, 0.25], [1.0], first_segment="value", prompt_values=[0.5]).tolist()
    [[0.25, 0.0, -0.5, -0.5, 0.75]]
    """
    who = "spo_chain"
    given = CutRows.of(who, "logprobs", logprobs, mask=mask, lengths=lengths)
    score = _finite(given, "scores", scores)
    c, offsets = given.read_cuts(cuts)
    value, dtype, kind = _values(who, values, cuts)
    prompt = _prompt(given, first_segment, prompt_values, groups, score)

    # Per row: the value of the prompt, those of the cuts, the score. A first cut at -1 has no tokens before it.
    ends = np.insert(value, offsets[1:], score)
    begin = offsets + np.arange(len(offsets))
    gain = np.diff(ends, prepend=0.0)
    gain[begin[:-1]] = 0.0 if prompt is None else ends[begin[:-1]] - prompt
    flat = given.logprobs(logprobs)
    if threshold is not None:
        given = given.only(flat <= log_threshold(who, threshold, flat.dtype))
    return spread(given, gain.astype(dtype, copy=False), c, offsets, kind=kind)


def _values(who: str, values: ArrayLike | Ragged, cuts: Ragged) -> tuple[NDArray[np.float64], Any, Kind]:
    """One finite number a cut, float64; the float type and kind that came."""
    if isinstance(values, Ragged):
        if not np.array_equal(values.offsets, cuts.offsets):
            msg = f"{who}(): 'values' must have the offsets of 'cuts', got {values!r}"
            raise ValueError(msg)
        values = values.values
    x, kind = floats(who, "values", values, length=len(cuts.values), why="the number of cuts")
    if not (finite := np.isfinite(x)).all():
        i = int(np.argmin(finite))
        row = int(np.searchsorted(cuts.offsets, i, side="right")) - 1
        msg = f"{who}(): 'values' must be finite, got {x[i]} at row {row}, cut {i - cuts.offsets[row]}"
        raise ValueError(msg)
    return x.astype(np.float64, copy=False), x.dtype, kind


def _finite(given: CutRows, name: str, x: ArrayLike) -> NDArray[np.float64]:
    """One finite number a row."""
    numbers = given.rows.per_row(name, x)
    if not (finite := np.isfinite(numbers)).all():
        i = int(np.argmin(finite))
        msg = f"{given.who}(): {name!r} must be finite, got {numbers[i]} at row {i}"
        raise ValueError(msg)
    return numbers


def _prompt(
    given: CutRows, how: str, values: ArrayLike | None, groups: Groups | ArrayLike | None, scores: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """The values of the prompts that ``first_segment`` asks for; None for none."""
    choice(given.who, "first_segment", how, ("zero", "value", "group_mean"))
    for name, x, needs in (("prompt_values", values, "value"), ("groups", groups, "group_mean")):
        if (x is None) == (how == needs):
            verb = "is needed for" if how == needs else "has no say where"
            msg = f"{given.who}(): {name!r} {verb} first_segment={how!r}"
            raise ValueError(msg)
    if groups is not None:
        made = as_groups(given.who, groups, length=len(scores))
        mean: NDArray[np.float64] = gather(segment_mean(scores, made), made)
        return mean
    return None if values is None else _finite(given, "prompt_values", values)


def probability_mask(
    logprobs: ArrayLike | Ragged,
    *,
    threshold: float = 0.9,
    mask: ArrayLike | Ragged | None = None,
    lengths: ArrayLike | None = None,
) -> Array | Ragged:
    """The tokens that SPO trains on: ``p_t < threshold``.

    Args:
        logprobs: log-probability of each token under the policy that sampled it, a :class:`~rollmath.Ragged` or padded
            ``[B, T]``.
        threshold: a probability in [0, 1], compared as :func:`rollmath.ops.cut_by_probability` does.
        mask: trained tokens (bool or int, nonzero = True), like ``logprobs``; no others are in the result.
        lengths: used columns of padded rows, ints ``[B]``.

    Returns:
        bool, in the form and kind of ``logprobs``.

    Raises:
        ValueError: wrong shapes; NaN or a positive log-probability at a trained token.
        TypeError: wrong dtype, rank or form.

    Source: SPO, arXiv 2505.23564, official code read: the mask of the loss, its KL terms and its whitening.

    >>> probability_mask(np.log([[0.5, 0.95, 0.9]])).tolist()
    [[True, False, False]]
    """
    who = "probability_mask"
    given = CutRows.of(who, "logprobs", logprobs, mask=mask, lengths=lengths)
    flat = given.logprobs(logprobs)
    low = flat < log_threshold(who, threshold, flat.dtype)
    if given.trained is not None:
        low &= given.trained
    return given.rows.wrap(given.rows.kind.wrap(low.reshape(given.rows.shape)))
